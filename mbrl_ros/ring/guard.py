"""Which effort may reach the robot: limits, ages, named states, and the hold. It needs no planner alive, and no torch.

`Guard` is told of every joint state and of every command, and is asked what to send; `now` [s] is a clock that only
goes forward (control periods in lock-step). It is in one state at a time:

    unconfigured  sends nothing, until limits are known and a joint state with all names has come
    hold          damped PD about the position where it began
    armed         passes the commands of the controller on
    fault         holds, until `reset`: ages, speed, encoder jumps, or something unusable
    stopped       damps and gives way, until `reset`

Whatever a state asks for passes the same last steps: finite, the limit on effort, brakes before the largest speed and
the ends of the joints, and the limit on the rate of change as the motors see it. Where joint states come faster than
the control period, commands are therefore ramped at their pace, and get the feedback of their plan where it comes with
them (feedback.py).
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import param
from mbrl_ros.messages.fields import ABSURD
from mbrl_ros.ring.carrying import CARRIED, CARRIERS, MODEL, WORDS, Carrying
from mbrl_ros.ring.feedback import correction
from mbrl_ros.ring.swing import Calm
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, Feedback

if TYPE_CHECKING:
    from jaxtyping import Float

STATES = UNCONFIGURED, HOLD, ARMED, FAULT, STOPPED = ("unconfigured", "hold", "armed", "fault", "stopped")

PERIODS = 2  # control periods that a state or a command may be old
QUICK = 0.02  # [s] likewise for states that come at least twice a period
WARM = 10  # commands in time, one after the other, before the controller counts as warmed up
REACTION = 0.1  # [s] from seeing that a joint must brake until it does: ramp, and the lag of the brakes
BRAKES = 100.0  # [1/s] that a joint of the least inertia is braked with
FRESH = 0.5  # periods that brakes take at least where the inertia was found
LIGHTEST = 20.0  # times robot.deceleration that the effort limit gives a joint of the least inertia, else
JUMP = 2.0  # times what a joint may move between two states; more is an encoder that jumped
NOISE = 0.02  # [rad or m] that a position may be off besides
SLOW = 0.5  # [s] time constant of the effort that counts as weight where nobody knows better
FORGIVEN = 1.001  # of a step of the ramp: clocks round
OFTEN = 0.6  # control periods between joint states, twice in a row, up to which "at least twice a period" holds
REMEMBERED = 50  # joint states that a command may answer


@dataclass(frozen=True)
class Config:
    """Parameters `guard.*`."""

    arm_at_start: bool = param(False, "Armed by the first command after none, for a simulated robot in lock-step; else "
                               "ask guard/arm")
    state_age: float = param(0.0, "Largest age of the joint state [s]; 0: two control periods, and 20 ms where states "
                             "come at least twice a period", 0.0, 60.0)
    command_age: float = param(0.0, "Largest age of the state that the newest command answers [s]; 0: two control "
                               "periods", 0.0, 60.0)
    blend: float = param(0.1, "How long arming takes to pass from the hold to the commands [s]", 0.0, 10.0)
    speed: float = param(1.0, "Largest speed that the brakes leave a joint, in units of robot.velocity_limit", 0.1,
                         10.0)
    overspeed: float = param(2.0, "A joint beyond this multiple of robot.velocity_limit is a fault", 0.1, 20.0)
    gravity: str = param("robot", "Who carries the weight in the hold; robot: it compensates it; model: the guard, "
                         "by the masses of the model file; carried: the guard, by the mean of what was sent last. "
                         "A guard that holds finds out, and says, where it is otherwise", choices=CARRIERS)
    integral: float = param(1.0, "Of the hold, in units of its stiffness [1/s]", 0.0, 10.0)


@dataclass(frozen=True)
class Limits:
    """Of every joint, in the order of the commands."""

    effort: Float[Array, " m"]  # [N m or N]
    effort_rate: Float[Array, " m"]  # [N m/s or N/s], as the motors see it
    position_low: Float[Array, " m"]  # [rad or m]; -inf where there is none
    position_high: Float[Array, " m"]
    speed: Float[Array, " m"]  # [rad/s or m/s] that the brakes leave
    deceleration: Float[Array, " m"]  # [rad/s^2 or m/s^2] that braking is reckoned with
    stiffness: Float[Array, " m"]  # [N m/rad or N/m] of the hold
    damping: Float[Array, " m"]  # [N m s/rad or N s/m] of the hold
    overspeed: Float[Array, " m"]  # [rad/s or m/s]
    inertia: Float[Array, " m"]  # [kg m^2 or kg] at least, of a joint with the others free
    drag: Float[Array, " m"]  # [N m s/rad or N s/m] of the brakes

    @classmethod
    def of(cls, robot: Robot, config: Config) -> Limits:
        found = np.isfinite(robot.inertia)
        with np.errstate(divide="ignore"):  # `problem` says it
            least = robot.effort_limit / (LIGHTEST * robot.deceleration)
        inertia = np.where(found, robot.inertia, least)
        drag = np.where(found, min(BRAKES, FRESH / robot.period), BRAKES) * inertia
        return cls(robot.effort_limit, robot.effort_rate_limit, robot.position_low + robot.position_margin,
                   robot.position_high - robot.position_margin, config.speed * robot.velocity_limit,
                   robot.deceleration, robot.stiffness, robot.damping, config.overspeed * robot.velocity_limit,
                   inertia, drag)

    def problem(self) -> str:
        """Why these limits do not protect; empty where they do."""
        for f in fields(self):
            values = getattr(self, f.name)
            if np.isnan(values).any() or not (f.name.startswith("position") or (values > 0).all()):
                return f"no limit without {f.name}, for every joint: {values.tolist()}"
        if not (self.position_low < self.position_high).all():
            return "the soft limits of a joint leave it no room"
        return ""


def allowed_speed(distance: Array, deceleration: Array) -> Array:
    """The speed [rad/s] from which a joint still stops within `distance` [rad]: v t + v^2 / (2 a) = d, with the time
    t = REACTION until it decelerates at a. Beyond the end (distance < 0) it is a speed back."""
    stopping = np.sqrt(REACTION**2 + 2 * np.maximum(distance, 0.0) / deceleration) - REACTION
    return deceleration * stopping + np.minimum(distance, 0.0) / REACTION


def brakes(limits: Limits, q: Float[Array, " m"], qd: Float[Array, " m"], weight: Float[Array, " m"]
           ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """The efforts between which no joint gets too fast, or too close to an end.

    At the allowed speed only the weight may be carried; beyond it the joint is damped down to it. Below it, by no more
    effort than can be taken away again, at its limited rate, before a joint of the inertia I gets there:
    u^2 / (2 rate I) = v.
    """
    up = np.clip(allowed_speed(limits.position_high - q, limits.deceleration), -limits.speed, limits.speed)
    down = -np.clip(allowed_speed(q - limits.position_low, limits.deceleration), -limits.speed, limits.speed)
    high = np.clip(weight + _push(limits, up - qd), -limits.effort, limits.effort)
    low = np.clip(weight - _push(limits, qd - down), -limits.effort, limits.effort)
    return np.minimum(low, high), high


def _push(limits: Limits, room: Array) -> Array:
    """The largest effort towards a speed that is `room` [rad/s] away."""
    in_time = np.sqrt(2 * limits.effort_rate * limits.inertia * np.maximum(room, 0.0))
    return np.minimum(limits.drag * room, in_time)


class Ramp:
    """What was sent last, and how far from it the next effort may be: at most `rate` [N m/s], per `interval`."""

    def __init__(self, rate: Float[Array, " m"]):
        self.rate, self.effort, self._spare = rate, np.zeros(len(rate)), np.zeros(len(rate))  # before the first: none

    def follow(self, target: Float[Array, " m"], elapsed: float, interval: float) -> Float[Array, " m"]:
        """The effort nearest to `target`, `elapsed` [s] after the last one."""
        self._spare = np.minimum(self.rate * interval, self._spare + FORGIVEN * self.rate * elapsed)
        effort = np.clip(target, self.effort - self._spare, self.effort + self._spare)
        self._spare = np.maximum(self._spare - np.abs(effort - self.effort), 0.0)
        self.effort = effort
        return effort


class Hold:
    """Damped PD about a position, with a slow integral for what else pulls at the joints. It calms where they swing."""

    def __init__(self, limits: Limits, integral: float, calm: Calm):
        self._limits, self._gain, self._calm = limits, integral, calm
        self.position: Array = None  # it has none: it begins with the next state
        self.carried = np.zeros(len(limits.effort))

    def begin(self, q: Float[Array, " m"], effort: Float[Array, " m"]) -> None:
        """Here; `effort` is what rest takes, until the integral knows better."""
        self.position = q
        self.carried = self._within(effort)

    def carry(self, effort: Float[Array, " m"]) -> None:
        """So much more than so far, which somebody else has carried until now."""
        self.carried = self._within(self.carried + effort)

    def effort(self, q: Float[Array, " m"], qd: Float[Array, " m"], elapsed: float) -> Float[Array, " m"]:
        pull = self._calm.gain * self._limits.stiffness * (self.position - q)
        self.carried = self._within(self.carried + elapsed * self._gain * self._calm.integral * pull)
        return pull - self._calm.gain * self._limits.damping * qd + self.carried

    def _within(self, effort: Array) -> Array:
        return np.clip(effort, -0.5 * self._limits.effort, 0.5 * self._limits.effort)


class Guard:
    """See the head of this file. `weight` (q -> effort) is what `guard.gravity: model` needs."""

    def __init__(self, limits: Limits, config: Config, period: float, weight: Callable[[Array], Array] | None = None):
        self.limits, self.config, self.period = limits, config, period
        self.state, self.reason = UNCONFIGURED, limits.problem() or "no joint state yet"
        self.answered = 0  # [ns] stamp of the state that the command in use answers; 0: it does not say
        self.in_time = 0  # commands, one after the other
        self.feedback: Feedback | None = None  # of the newest plan; whoever gets one sets it
        self.dropped = 0  # late, repeated or unusable joint states and commands
        self._weight = weight
        self._calm = Calm(limits.overspeed / config.overspeed)
        self._carrying = Carrying(config.gravity, limits.effort, limits.overspeed / config.overspeed)
        self._ramp, self._hold = Ramp(limits.effort_rate), Hold(limits, config.integral, self._calm)
        self._sent: float | None = None  # when
        self._carried = np.zeros(len(limits.effort))
        self._stamps: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)  # of joint states [ns], when they came
        self._interval = self._apart = period  # [s] between joint states: to reckon with, and the newest
        self._q: Array  # of the newest joint state
        self._qd: Array
        self._first = HOLD  # the state after `unconfigured`
        self._command: Array  # in use
        self._asked = -np.inf  # when the state came that the command in use answers
        self._early: tuple[Array, int] | None = None  # a command that came before the state it answers
        self._armed: float  # when

    # --- what comes in

    def measured(self, stamp: int, q: Float[Array, " m"], qd: Float[Array, " m"], now: float) -> bool:
        """A joint state: stamp [ns], q, qd. False where it is of no use."""
        if not (plausible(q) and plausible(qd)):
            return self._unusable("joint states that are not finite")
        if self._stamps:
            newest, came = self._stamps[-1]
            behind = newest - stamp
            if 0 <= behind <= 1e9 * self.period:  # further back: another clock
                self.dropped += 1
                return False
            self._compare(q, abs(1e-9 * behind), now - came)
        self._stamps.append((stamp, now))
        self._q, self._qd = np.array(q), np.array(qd)
        self._begin(now)
        self._watch()
        if self._early is not None and self._early[1] == stamp:
            effort, self._early = self._early[0], None
            self.commanded(effort, stamp, now)
        return True

    def _compare(self, q: Array, apart: float, since: float) -> None:
        """With the state before; `apart` [s] by the stamps, `since` by the clock."""
        longer, self._apart = max(apart, self._apart), apart
        self._interval = longer if longer <= OFTEN * self.period else self.period
        moved = np.abs(q - self._q)
        if (moved > JUMP * self.limits.overspeed * max(since, self._interval) + NOISE).any():
            self._hold.position = None
            self.fail(f"joint {int(np.argmax(moved))} jumped by {moved.max():.3g}")

    def _begin(self, now: float) -> None:
        """With a joint state: the hold, where it has no position; and configured, where nothing is missing."""
        fast = np.abs(self._qd) > self.limits.overspeed
        if fast.any():
            self.fail(f"joint {int(np.argmax(fast))} is too fast: {self._qd[fast][0]:.3g}")
        if self.state == UNCONFIGURED and not self.limits.problem():
            self._enter(self._first, "configured" if self._first == HOLD else "emergency stop")
        if self._hold.position is None:
            self._hold.begin(self._q, self._resting())

    def _watch(self) -> None:
        """Whether joints swing under the hold, which calms then."""
        if self.state == ARMED:
            self._calm.rest()
        else:
            self._calm.observe(self._qd, self._interval)

    @property
    def remark(self) -> str:
        """What else is to be said, in every state; empty where nothing is."""
        swinging, by = np.flatnonzero(self._calm.swinging), self._carrying.by
        said = [f"joint {i} swings, and is held with less" for i in swinging[:1]]
        return "; ".join(said + ([WORDS[by]] if by != self.config.gravity else []))

    @property
    def hold_gain(self) -> Array:
        """What is left of the gains of the hold, where joints swing or did (m,)."""
        return self._calm.gain

    def commanded(self, effort: Array, answers: int | None, now: float) -> bool:
        """A command (m,) that answers the state with that stamp [ns], if it says so. False where it is of no use."""
        if np.shape(effort) != self.limits.effort.shape or not plausible(effort):
            return self._unusable("commands that are not finite, or not one a joint")
        came = now
        if answers is not None:
            if not self._stamps or answers > self._stamps[-1][0]:
                self._early = (np.array(effort), answers)
                return False
            times = dict(self._stamps)
            if answers not in times or times[answers] <= self._asked:
                self.dropped += 1
                return False
            came = times[answers]
        in_time = now - came <= self._command_age() and came - self._asked <= self._command_age()
        first = self.in_time == 0
        self.in_time = self.in_time + 1 if in_time else 1
        self._command, self._asked, self.answered = np.array(effort), came, answers or 0
        if self.config.arm_at_start and first and self.state == HOLD:
            self._enter(ARMED, "at start")
            self._armed = -np.inf if self._sent is None else now
        return True

    def idle(self, answers: int | None) -> None:
        """The controller asks for nothing at the state with that stamp [ns]: an armed guard holds."""
        self.in_time, self.answered, self._early = 0, answers or 0, None
        self.disarm("the controller asks for nothing")

    def _unusable(self, what: str) -> bool:
        self.dropped += 1
        self.fail(what)
        return False

    # --- who asks for a state

    def fail(self, reason: str) -> None:
        """Something is wrong: an armed guard holds until it is reset."""
        if self.state == ARMED:
            self._enter(FAULT, reason)

    def arm(self, now: float) -> str:
        """Pass commands on. Why not, where it is refused."""
        refused = self._refusal(now)
        if not refused and self.state != ARMED:
            self._enter(ARMED, "asked for")
            self._armed = now
        return refused

    def _refusal(self, now: float) -> str:
        if self.state not in (HOLD, ARMED):
            return f"{self.state}: {self.reason}"
        if not self.fresh(now):
            return "the joint state is too old"
        if self.in_time < WARM or now - self._asked > self._command_age():
            return f"the controller is not warmed up: {self.in_time} commands in time; expected {WARM}"
        return ""

    def disarm(self, reason: str = "asked for") -> None:
        """Hold."""
        if self.state == ARMED:
            self._enter(HOLD, reason)

    def reset(self) -> None:
        """Leave `fault` or `stopped` for the hold."""
        self._first = HOLD
        if self.state in (FAULT, STOPPED):
            self._enter(HOLD, "reset")

    def estop(self) -> None:
        """Damp all motion and give way, from any state, until reset."""
        self._first = STOPPED
        if self.state != UNCONFIGURED:
            self._enter(STOPPED, "emergency stop")

    def _enter(self, state: str, reason: str) -> None:
        if state != ARMED and self._hold.position is not None:
            self._hold.begin(self._q, self._resting())
        self.state, self.reason = state, reason

    def _resting(self) -> Array:
        """What rest takes, beside what the robot or the model carries."""
        return self._carried if self._carrying.by == CARRIED else np.zeros(len(self._carried))

    # --- when another guard goes on where this one ends (spare.py)

    def legacy(self) -> Float[Array, " k"]:
        """What it would need to go on: state, who carries the weight, and of every joint the effort sent last, its
        mean, what rest took, the hold, and how far it has calmed."""
        position = np.full(len(self._carried), np.nan) if self._hold.position is None else self._hold.position
        state = self._first if self.state == UNCONFIGURED else self.state
        return np.concatenate([[STATES.index(state), CARRIERS.index(self._carrying.by)], self._ramp.effort,
                               self._carried, self._carrying.rest, position, self._hold.carried, self._calm.gain])

    def inherit(self, legacy: Float[Array, " k"], reason: str) -> None:
        """Go on from there: stopped or in fault where it was, else in hold. What was held is held on, and what moved is
        held where it is. A legacy of another size says nothing."""
        if len(legacy) != len(self.legacy()):
            legacy = self.legacy()
        state, self._carrying.by = STATES[int(legacy[0])], CARRIERS[int(legacy[1])]
        self._ramp.effort, self._carried, self._carrying.rest, position, carried, gain = np.split(legacy[2:], 6)
        self._calm.begin(gain)  # what has moved until now was not held by this one
        if self.state == UNCONFIGURED:
            self._first, self.reason = STOPPED if state == STOPPED else HOLD, reason
            return
        self._enter(state if state in (FAULT, STOPPED) else HOLD, reason)
        if state in (HOLD, FAULT) and np.isfinite(position).all():
            self._hold.position, self._hold.carried = position, carried

    # --- what goes out

    def fresh(self, now: float) -> bool:
        """Whether the newest joint state may be acted on."""
        return bool(self._stamps) and now - self._stamps[-1][1] <= self._state_age()

    def _state_age(self) -> float:
        """[s] that the newest may have."""
        limit = self.config.state_age or PERIODS * self.period
        if not self.config.state_age and self.quick:
            limit = min(limit, QUICK)
        return FORGIVEN * limit

    @property
    def quick(self) -> bool:
        """Whether joint states come faster than commands, which are then ramped at their pace."""
        return self._interval < self.period

    def _command_age(self) -> float:
        return FORGIVEN * (self.config.command_age or PERIODS * self.period)

    def ages(self, now: float) -> tuple[float, float]:
        """Of the joint state, and of the state that the command in use answers [s]."""
        return now - self._stamps[-1][1] if self._stamps else np.inf, now - self._asked

    def due(self) -> float:
        """When armed is no longer right if nothing comes until then [s]."""
        return min(self._stamps[-1][1] + self._state_age(), self._asked + self._command_age())

    def check(self, now: float) -> None:
        """Whether armed is still right."""
        state, command = self.ages(now)
        if not self.fresh(now):
            self.fail(f"no joint state for {state:.3f} s")
        elif command > self._command_age():
            self.fail(f"no command for {command:.3f} s")

    def effort(self, now: float) -> Float[Array, " m"] | None:
        """The effort to send now; None: nothing. To be called only where it is sent."""
        if self.state == UNCONFIGURED:
            return None
        self.check(now)
        elapsed = self._elapsed(now)
        limit, weight, fresh = self.limits.effort, self._carries(), self.fresh(now)
        if fresh:
            centre = self._carrying.rest if self._carrying.by == CARRIED else weight
            low, high = brakes(self.limits, self._q, self._qd, centre)
            target = np.clip(np.nan_to_num(self._target(now, min(elapsed, self.period), weight)), low, high)
        else:
            self._hold.position, target = None, weight + self._resting()  # nothing to damp by
        effort = self._ramp.follow(np.clip(target, -limit, limit), elapsed, self._interval)
        self._carried = self._carried + min(1.0, elapsed / SLOW) * (effort - self._carried)
        if fresh and self._carrying.observe(self._qd, effort, self._modelled(), elapsed):
            self._hold.carry(weight - self._carries())
        return effort

    def release(self, now: float) -> Float[Array, " m"]:
        """The effort to send instead, on the way to none at all."""
        return self._ramp.follow(np.zeros(len(self.limits.effort)), self._elapsed(now), self.period)

    def _elapsed(self, now: float) -> float:
        """[s] since something was sent, which it is now."""
        elapsed = self.period if self._sent is None else now - self._sent
        self._sent = now
        return elapsed

    def _carries(self) -> Array:
        """The weight (m,), where the guard carries it."""
        return self._modelled() if self._carrying.by == MODEL else np.zeros(len(self._q))

    def _modelled(self) -> Array:
        """The weight (m,) by the model, where there is one."""
        return np.zeros(len(self._q)) if self._weight is None else np.nan_to_num(self._weight(self._q))

    def _target(self, now: float, elapsed: float, weight: Array) -> Array:
        if self.state == STOPPED:
            return weight + self._resting() - self._calm.gain * self.limits.damping * self._qd
        held = weight + self._hold.effort(self._q, self._qd, elapsed)
        if self.state != ARMED:
            return held
        blended = min(1.0, (now - self._armed) / self.config.blend) if self.config.blend else 1.0
        return (1 - blended) * held + blended * self._corrected()

    def _corrected(self) -> Array:
        """The command in use; where joint states are quicker than plans, with the feedback that belongs to it."""
        of = self.feedback
        if of is None or of.answers != self.answered or not self.quick:
            return self._command
        return self._command + correction(of, self._stamps[-1][0], self._q, self._qd)


def plausible(values: Array) -> bool:
    """Finite, and not absurd."""
    return bool((np.abs(values) <= ABSURD).all())  # NaN compares false
