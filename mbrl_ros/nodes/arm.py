"""A ring as a trainer sees it: what it is asked for from a thread, and what is heard of it meanwhile.

Every call waits for what comes of it, which the executor of the node hears. `Failed` says what did not come, or was
refused; `Over` is raised in the midst of any of them once `ending` says why.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.action import ReachTarget
from mbrl_ros.evaluation.procedure import CALM, HOMING, NEAR, SLOW, trial_of
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.episode import ABORT, DONE
from mbrl_ros.messages.ring import MessageError
from mbrl_ros.msg import ModelCheckpoint, StateEstimate, Status
from mbrl_ros.nodes import reach_action, topics
from mbrl_ros.nodes.calls import Call
from mbrl_ros.nodes.parameters import TARGET
from mbrl_ros.ring.controller import EXCITE, FAULT, HOLD, HOME, POLICY, REACH
from mbrl_ros.ring.guard import ARMED, STOPPED
from mbrl_ros.robot import Robot
from mbrl_ros.types import StateEstimate as State
from mbrl_ros.types import Trial

POLL = 0.02  # [s]: what is heard has stamps, so nothing depends on it
PATIENCE = 60.0  # [s] for anything that should take a moment, on a busy machine
SILENT = 20.0  # [s] without a state, after which a motion or a trial is given up
MOVING = 3600.0  # [s] for a motion whose own limit is by the robot's time, however slow a simulation is
MODES = (EXCITE, REACH, POLICY, HOME, HOLD)  # that are asked for, by services of these names
ENDS = ("the policy is over", "excitation is over")  # of a mode that was not left before


class Failed(RuntimeError):
    """Something asked for did not happen; one line says what."""


class Over(RuntimeError):
    """Whoever waits has been asked to end."""


class Played(NamedTuple):
    """A trial, and how it ended."""

    trial: Trial
    status: str  # of an Episode
    reason: str


class Arm:
    """See above. `arms_itself` is that of a guard in lock-step, which is armed by the first command."""

    def __init__(self, node: Any, robot: Robot, arms_itself: bool):
        self._node, self.robot, self._arms_itself = node, robot, arms_itself
        self.ending = ""  # why whoever waits shall end
        self.guard = ("", "no guard is heard")
        self.controller: dict[str, str] = {}  # its newest figures
        self.heard = 0.0  # [s] monotonic, when the newest state came
        self._modes: list[messages.Status] = []
        self._states: list[State] = []
        self._model = ""  # path of the newest one in use
        hear = node.create_subscription
        hear(StateEstimate, topics.STATE, self._state, topics.KEEP)
        hear(Status, topics.MODE, lambda m: self._modes.append(messages.from_status(m)), topics.LATCHED_ALL)
        hear(Status, topics.GUARD, self._guarded, topics.LATCHED)
        hear(ModelCheckpoint, topics.CHECKPOINT, lambda m: setattr(self, "_model", m.path), topics.LATCHED)
        hear(DiagnosticArray, topics.DIAGNOSTICS, self._diagnostics, topics.KEEP)
        self._triggers = {name: node.create_client(Trigger, name)
                          for name in ("guard/reset", *(f"controller/{mode}" for mode in MODES))}
        self._arm = node.create_client(SetBool, "guard/arm")
        self._parameters = node.create_client(SetParameters, "controller/set_parameters")
        self._reach: Any = ActionClient(node, ReachTarget, reach_action.NAME)

    # --- what is heard

    def _state(self, message: StateEstimate) -> None:
        try:
            state = messages.from_state_estimate(message, self.robot)
        except MessageError as error:
            self._node.complaints.error(f"state_estimate dropped: {error}")
            return
        self.heard = time.monotonic()
        if not self._states or state.time != self._states[-1].time:  # a plant that waits says its state again
            self._states.append(state)
        if len(self._states) > 100_000:
            del self._states[:50_000]

    def _guarded(self, message: Status) -> None:
        self.guard = message.state, message.reason

    def _diagnostics(self, message: DiagnosticArray) -> None:
        name = f"{self._node.get_namespace()}/controller".lstrip("/")
        for status in message.status:
            if status.name == name:
                self.controller = {pair.key: pair.value for pair in status.values}

    @property
    def has_model(self) -> bool:
        """Whether the controller has one."""
        return self.controller.get("has_model") == "True"

    def refusal(self, rearms: bool = False) -> str:
        """Why nothing could be played now; empty where it could. `rearms`: whoever asks arms the guard first."""
        state, reason = self.guard
        if not state:
            return f"{reason}: expected a ring that runs"
        if not self.controller:
            return "no controller is heard: expected a ring that runs"
        said = f"the guard does not pass commands on: {state}: {reason}"
        if state == STOPPED or (state == FAULT and not rearms):
            return f"{said}: call guard/reset, then controller/hold and guard/arm"
        if state == ARMED or rearms or (self._arms_itself and state == HOLD):
            return ""
        return f"{said}: call controller/hold, then guard/arm"

    # --- what is waited for

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Wait until the condition holds. Raises Failed after `seconds`, and Over."""
        end = time.monotonic() + seconds
        while not condition():
            if self.ending:
                raise Over(self.ending)
            if time.monotonic() > end:
                raise Failed(f"{what}: nothing within {seconds:.0f} s")
            time.sleep(POLL)

    def _ask(self, call: Callable[[], Any], what: str, enough: Callable[[], bool] = lambda: False) -> Any:
        """What a call answers; None where it was `enough` before."""
        made = Call(call)
        self.until(lambda: made.answered() or enough(), what)
        return made.result()

    def request(self, mode: str) -> int:
        """Have the controller change to a mode; the stamp [ns] of the first state in it."""
        client, known = self._triggers[f"controller/{mode}"], len(self._modes)
        entered = lambda: [m.time for m in self._modes[known:] if m.state == mode]  # noqa: E731
        self.until(client.service_is_ready, f"waiting for controller/{mode}")
        already = self._modes and self._modes[-1].state == mode
        answer = self._ask(lambda: client.call_async(Trigger.Request()), f"controller/{mode}",
                           lambda: bool(entered()))
        if answer is not None and not answer.success:
            raise Failed(f"controller/{mode} refused: {answer.message}")
        if already and mode not in (EXCITE, POLICY):
            return self._states[-1].time if self._states else 0
        self.until(entered, f"waiting for the mode {mode}")
        return entered()[0]

    def hold(self) -> None:
        """Have the arm held, once it is slow enough for that."""
        self._persist(lambda: self.request(HOLD))

    def _persist(self, attempt: Callable[[], Any]) -> None:
        """Again where it is refused: an arm slows down, a controller warms up."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                attempt()
                return
            except Failed:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def release(self) -> None:
        """Have the arm held, without waiting for it."""
        if self._triggers[f"controller/{HOLD}"].service_is_ready():
            self._triggers[f"controller/{HOLD}"].call_async(Trigger.Request())

    def rearm(self, resets: bool) -> None:
        """Arm the guard, where it is in a fault only if it may be reset; after an emergency stop never. Raises Failed
        where it may not."""
        refused = self.refusal(resets)
        if refused:
            raise Failed(refused)
        if self.guard[0] == ARMED:
            return
        if self.guard[0] == FAULT:
            self._ask(lambda: self._triggers["guard/reset"].call_async(Trigger.Request()), "guard/reset")
            self.until(lambda: self.guard[0] != FAULT, "waiting for the guard")
        self.hold()
        self._persist(self._armed)

    def _armed(self) -> None:
        armed = lambda: self.guard[0] == ARMED  # noqa: E731
        answer = self._ask(lambda: self._arm.call_async(SetBool.Request(data=True)), "guard/arm", armed)
        if answer is not None and not answer.success:
            raise Failed(f"guard/arm refused: {answer.message}")
        self.until(armed, "waiting for the guard to be armed")

    def set(self, name: str, value: Any) -> None:
        """Set a parameter of the controller."""
        self.until(self._parameters.service_is_ready, "waiting for the parameters of the controller")
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self._ask(lambda: self._parameters.call_async(request), name).results[0]
        if not result.successful:
            raise Failed(f"{name} = {value} refused: {result.reason}")

    def use(self, path: str) -> None:
        """Wait until this model is in use."""
        self.until(lambda: self._model == path and self.has_model, "waiting for the learner to take up a model")

    def uses(self, policy_time: int) -> None:
        """Wait until the policy that was made then [ns] is what the controller would play."""
        self.until(lambda: self.controller.get("policy_time") == str(policy_time),
                   "waiting for the controller to take up a policy: see what it says")

    # --- what is done

    def back(self) -> None:
        """To the start posture, at rest: by `reach` where there is a model, else or where that fails under the hold."""
        self.hold()
        if not (self.has_model and self._reached()):
            self._homed()
        self.hold()

    def _reached(self) -> bool:
        goal = ReachTarget.Goal(kind=ReachTarget.Goal.JOINTS, joint_positions=self.robot.home.tolist(),
                                joint_tolerance=NEAR)
        goal.settle_time.nanosec = int(1e9 * CALM)
        goal.time_limit.sec = int(HOMING)
        self.until(self._reach.server_is_ready, f"waiting for {reach_action.NAME}")
        handle = self._ask(lambda: self._reach.send_goal_async(goal), reach_action.NAME)
        result = Call(handle.get_result_async)
        self.until(lambda: result.answered() or self._silent(), reach_action.NAME, MOVING)
        said = result.result().result
        if said.error_code != ReachTarget.Result.NONE:
            self._node.get_logger().warning(f"not back by reach, so by home: {said.error_msg}")
        return bool(said.error_code == ReachTarget.Result.NONE)

    def _homed(self) -> None:
        robot, begun = self.robot, self.request(HOME)
        self._states.clear()

        def there() -> bool:
            recent = self._states[-max(1, round(CALM / robot.period)) :]
            if not recent or recent[-1].time - begun > 1e9 * HOMING:
                if recent:
                    raise Failed(f"the start posture is not reached within {HOMING:g} s")
                return False
            x = np.array([state.belief.mean for state in recent])
            away = np.abs(x[:, robot.slice("joint/position")] - robot.home)
            speed = np.abs(x[:, robot.slice("joint/velocity")]) / robot.velocity_limit
            calm = recent[-1].time - recent[0].time >= 1e9 * (CALM - 1.5 * robot.period)
            return bool(calm and away.max() < NEAR and speed.max() < SLOW)

        self.until(lambda: there() or self._silent(), "waiting for the start posture", MOVING)

    def _silent(self) -> bool:
        """False; raises Failed where no state has come for long."""
        if time.monotonic() - self.heard > SILENT:
            raise Failed(f"no state for {SILENT:g} s")
        return False

    def aim(self, target: list[float]) -> None:
        """Where the tool shall go from the next mode on."""
        self.set(TARGET, target)

    def play(self, mode: str, steps: int, begun: Callable[[int], None]) -> Played:
        """A mode for at most so many periods, or until it is left. `begun` is told the stamp of the first state."""
        self._states.clear()
        known = len(self._modes)
        first = self.request(mode)
        begun(first)
        entered = next(i for i in range(known, len(self._modes)) if self._modes[i].time == first)
        last = first + round(1e9 * steps * self.robot.period)
        status, reason, end = DONE, "", last
        arrived = lambda stamp: bool(self._states) and self._states[-1].time >= stamp  # noqa: E731
        while not arrived(last):
            left = self._modes[entered + 1] if len(self._modes) > entered + 1 else None
            if left is not None and left.time <= last:
                end, reason = left.time, left.reason
                status = DONE if reason in ENDS and end >= last else ABORT
                self.until(lambda: arrived(end), "waiting for the last state of a trial", SILENT)  # noqa: B023
                break
            if self.guard[0] != ARMED and self._states:
                status, reason, end = ABORT, f"guard {self.guard[0]}: {self.guard[1]}", self._states[-1].time
                break
            if self.ending:
                raise Over(self.ending)
            self._silent()
            time.sleep(POLL)
        if status == ABORT and self.ending:  # it was left because whoever waits shall end
            raise Over(self.ending)
        if len(self._modes) == entered + 1:
            self.release()
        states = [state for state in self._states if first <= state.time <= end]
        whole = [s for i, s in enumerate(states) if s.step == states[0].step + i]  # up to the first that was lost
        if len(whole) < len(states):
            status, reason = ABORT, "states were lost"
        return Played(trial_of(self.robot, whole), status, reason)
