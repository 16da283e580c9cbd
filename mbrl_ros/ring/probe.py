"""What the hold must know of each joint, found by small pushes, and the gains that follow from it.

`Probe` is called once per period with the joint state and gives the effort. Every joint is pushed to and fro at random,
under a soft hold where it began. Pushes and hold begin with next to nothing and grow together until the joint moves.
Somebody else carries the weight, or is known to have to. What was seen is then fitted by least squares,

    v[k+1] - v[k] = h (P (u[k - delay] - weight) - P_ii friction_i sign(v_i) - b v),

with P = M^-1 in full, because a joint whose neighbours are free to move is lighter than one on its own. `gains` gives
the stiffness and damping of the hold for that, with a margin worked out for the sampled loop and its delay.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

# --- the probe
SMALLEST = 1e-5  # [effort limit] of the first pushes
GROWTH, SHRINK = 1.1, 0.8  # of pushes per period: of a joint that does not move, and of one that is too fast
LARGEST = 0.4  # [effort limit] of a push
SPEED, VISIBLE = 0.06, 8.0  # what the pushes aim at: of the velocity limit, and at least of the noise
PUSH = 0.06  # [s] and at least three periods: a push to one side
SOFT, SOFTEST = 0.15, 8.0  # of the hold of the probe: damping [inertia / period] at most, and natural frequency [rad/s]
HELD = 0.5  # [push] of the hold of the probe at most, before the motion has told the inertia
STILL = 0.1  # [s] at first, in which the noise of the velocities is found
ENOUGH, LONGEST = 2.0, 12.0  # [s] of pushes that move all joints; of all
TRAVEL = 0.5  # [rad or m] from where it began at most
FASTEST, HASTY = 1.0, 0.4  # [velocity limit] at most; of any joint, from which on none is pushed
SMALL = 0.01  # least eigenvalue of the coupling
BLOCK = 0.1  # [s] over which noise averages out of what disturbs
LATEST, STEPS = 4, 8  # [periods] of delay that are looked for, in so many steps each

# --- the gains
MARGIN = 3.0  # by which the gains may be too large (a joint too light) before the hold is unstable
QUICKEST = 25.0  # [rad/s] natural frequency of a hold that has no reason to be quicker
STEP = 1e-4  # [rad or m] of differences of the weight
WANDER = 0.05  # [rad or m] that three deviations of what disturbs a joint may move it under the hold
RESISTANT = 0.05  # least damping ratio squared, of the joints that move as one
RATES = (50.0, 100.0, 200.0, 250.0, 500.0, 1000.0)  # [Hz] that are proposed
BRAKING = 0.3  # of the effort limit is left to a brake, whatever is carried


@dataclass(frozen=True)
class Bounds:
    """What a probe must not go beyond (m,)."""

    effort: Array  # [N m or N]
    effort_rate: Array  # [N m/s or N/s]
    speed: Array  # [rad/s or m/s]
    position_low: Array  # [rad or m]
    position_high: Array

    @classmethod
    def of(cls, robot: Robot) -> Bounds:
        return cls(robot.effort_limit, robot.effort_rate_limit, robot.velocity_limit,
                   robot.position_low + robot.position_margin, robot.position_high - robot.position_margin)


@dataclass(frozen=True)
class Found:
    """What a probe has found of m joints, at one posture."""

    inertia: Array  # (m,) [kg m^2 or kg] that an effort sees while the other joints are free
    coupling: Array  # (m, m) M^-1 with its diagonal scaled to 1
    friction: Array  # (m,) dry [N m or N]
    viscous: Array  # (m,) [N m s/rad or N s/m]
    weight: Array  # (m,) [N m or N] that rest takes, all in all
    delay: float  # [s] from a command to what it does to the velocity that is reported
    noise: Array  # (m,) [rad/s or m/s] of that velocity
    disturbance: Array  # (m,) [rad/s^2 or m/s^2] of what nothing explains


@dataclass(frozen=True)
class Gains:
    """Of the hold (m,); `problem` says where none is good enough, with the rate that would do, and is empty else."""

    stiffness: Array  # [N m/rad or N/m]
    damping: Array  # [N m s/rad or N s/m]
    deceleration: Array  # [rad/s^2 or m/s^2] that a brake may reckon with
    margin: float  # factor on all gains with which the hold would just be unstable
    problem: str


class Probe:
    """`act` once per period until `done`; then `found`, or `reason` why there is nothing."""

    def __init__(self, bounds: Bounds, period: float, weight: Callable[[Array], Array] | None = None, seed: int = 0,
                 names: Sequence[str] = (), inertia: Array | None = None):
        """weight: q -> effort (m,) that carries the arm, where it does not itself and somebody knows; names: of the
        joints; inertia: what an effort sees at least (m,) [kg m^2 or kg], where somebody knows, so that light joints,
        which what disturbs them moves at once, are held from the beginning."""
        self.bounds, self.period = bounds, period
        self.done, self.reason = False, ""
        self.found: Found | None = None
        m = len(bounds.effort)
        self._names = tuple(names) or tuple(f"joint {i}" for i in range(m))
        self._rng = np.random.default_rng(seed)
        self._weight = weight or (lambda q: np.zeros(m))
        self._carried = np.zeros(m)  # beside that
        self._push = SMALLEST * bounds.effort  # size of the pushes, and through `_aim` what the hold is made for
        self._side, self._until = np.ones(m), np.zeros(m, int)  # direction of each push; until which period
        self._peak = np.zeros(m)  # speed of late
        self._moved = np.zeros(m, int)  # periods with pushes that move the joint
        self._known = np.full(m, np.nan) if inertia is None else inertia  # inertia, once the motion tells
        self._fell = False  # whether the arm moved before anybody pushed it
        self._pushed, self._began = np.full(m, True), 0  # which joints are, since which period
        self._q: list[Array] = []
        self._qd: list[Array] = []
        self._u: list[Array] = []  # beside the weight
        self._last: Array | None = None  # with it
        self._length = max(3, round(PUSH / period))  # [periods]

    def act(self, q: Array, qd: Array, acted: Array | None = None) -> Array:
        """The effort (m,) for the period that begins with this joint state; `acted` is what acted before, where that
        was not what was asked for."""
        if acted is not None and self._u:
            self._u[-1], self._last = acted - self._weight(self._q[-1]), np.array(acted, float)
        self._q.append(np.array(q, float))
        self._qd.append(np.array(qd, float))
        if not self.done:
            self._watch()
        weight = self._weight(self._q[-1])
        effort, step = weight + self._effort(), self.bounds.effort_rate * self.period
        if self._last is not None:
            effort = np.clip(effort, self._last - step, self._last + step)
        self._last = np.clip(effort, -self.bounds.effort, self.bounds.effort)
        self._u.append(self._last - weight)
        if not self.done and (self._moved * self.period > ENOUGH).all():
            self._finish()
        return self._last.copy()

    def _watch(self) -> None:
        """Leave where anything is out of bounds; judge the pushes by how the joints move."""
        bounds, h, k = self.bounds, self.period, len(self._q)
        q, qd = self._q[-1], self._qd[-1]
        for what, too_far in (("is too fast", np.abs(qd) > FASTEST * bounds.speed),
                              ("went too far", np.abs(q - self._q[0]) > TRAVEL),
                              ("is at its end", (q < bounds.position_low) & (qd < 0)),
                              ("is at its end", (q > bounds.position_high) & (qd > 0)),
                              (f"does not move for {LARGEST:g} of its effort limit",
                               (self._moved == 0) & ((k - self._began) * h > LONGEST))):
            if too_far.any():
                self.done, self.reason = True, f"{self._names[int(np.argmax(too_far))]} {what}"
                if self._fell:
                    self.reason += ", because nobody carries its weight; expected guard.gravity: model"
                return
        if (k - self._began) * h > 2 * LONGEST:
            self.done, self.reason = True, "the joints do not move steadily"
        self._peak = np.maximum(np.abs(qd), self._peak * (1 - 1 / (2 * self._length)))
        aim = self._aim()
        slow, fast = self._peak < aim, (self._peak > 2 * aim) | (np.abs(qd) > HASTY * bounds.speed).any()
        if k * h > STILL:
            factor = np.where(fast, SHRINK, np.where(slow, GROWTH, 1.0))
            least = np.nan_to_num(self._known) * aim / (self._length * h)  # however much its neighbours shake a joint
            self._push = np.minimum(np.maximum(self._push * factor, least), LARGEST * bounds.effort)
        elif not slow.all():
            self._fell = True
        self._moved += self._peak > 0.5 * aim
        if k % self._length == 0 and k > 20 and (self._moved > 0).any():
            own = _regress(np.array(self._qd), np.array(self._u), h, (0.0, 0.5, 1.0, 2.0)).inertia()
            self._known = np.where((self._moved > self._length) & np.isfinite(own), own, self._known)

    def _aim(self) -> Array:
        """The speed (m,) that pushes are to bring about."""
        quiet = np.array(self._qd[: max(2, round(STILL / self.period))])
        noise = np.median(np.abs(quiet - np.median(quiet, 0)), 0) / 0.67
        return np.maximum(SPEED * self.bounds.speed, np.minimum(VISIBLE * noise, 0.25 * self.bounds.speed))

    def _effort(self) -> Array:
        """A soft hold, and the push of the period."""
        h, k, q, qd = self.period, len(self._q), self._q[-1], self._qd[-1]
        inertia = self._push * self._length * h / (2 * self._aim())  # of a joint that the pushes move as wanted
        most = np.where(np.isnan(self._known), HELD * self._push, np.inf)  # pushes may be what overcomes friction
        inertia = np.where(np.isnan(self._known), inertia, self._known)
        frequency = min(0.5 * SOFT / h, SOFTEST)
        pull = np.clip(inertia * frequency * (frequency * (self._q[0] - q) - 2 * qd), -most, most)
        self._carried = np.clip(self._carried + 0.3 * h * frequency * pull, -self.bounds.effort, self.bounds.effort)
        effort = self._carried + pull
        if self.done or k * h <= STILL or (np.abs(qd) > HASTY * self.bounds.speed).any():
            return effort
        due = k >= self._until
        self._side = np.where(due, -self._side, self._side)
        lengths = self._rng.integers(self._length // 2, self._length * 3 // 2 + 1, len(q))
        self._until = np.where(due, k + np.maximum(lengths, 1), self._until)
        return effort + np.where(self._pushed, self._side * self._push, 0.0)

    def _finish(self) -> None:
        self.done, found = True, fit(np.array(self._qd), np.array(self._u), self.period)
        unclear = ~np.isfinite(found.inertia)
        if unclear.any() and self._pushed.sum() > unclear.sum():  # once more, those alone
            self.done, self._pushed, self._began = False, unclear, len(self._q)
            self._moved[unclear], self._push[unclear] = 0, SMALLEST * self.bounds.effort[unclear]
        elif unclear.any():
            self.reason = f"{self._names[int(np.argmax(unclear))]} answers no push in proportion"
        else:
            self.found = replace(found, weight=found.weight + self._weight(self._q[0]))


class Regression(NamedTuple):
    """Of the changes of velocity; see the head of this file."""

    late: float  # [periods]
    theta: Array  # (m, m + 3): P, and by own velocity, its sign, and 1
    spread: Array  # (m, m + 3) standard deviations
    residual: Array  # (N, m) [rad/s^2]

    def inertia(self) -> Array:
        """(m,) each with the other joints free; NaN where it is not clear."""
        own, doubt = np.diag(self.theta), np.diag(self.spread)
        return np.where(own > 3 * doubt, 1 / np.where(own > 0, own, 1.0), np.nan)


def _regress(qd: Array, u: Array, h: float, delays: Sequence[float]) -> Regression:
    """With the delay [periods] among `delays` that leaves least; velocities (K, m), and the efforts that answered."""
    m, first, best, least = qd.shape[1], LATEST + 1, None, np.inf
    change = np.diff(qd, axis=0)[first - 1 :] / h  # (N, m), of the period that begins at k = first - 1
    v = qd[first - 1 : -1]
    power = np.maximum(np.sum(change**2, 0), 1e-12)
    for late in delays:
        whole, part = int(late), late % 1.0
        newer, older = (u[first - 1 - d : len(qd) - 1 - d] for d in (whole, whole + 1))
        rows = [_row(change[:, i], (1 - part) * newer + part * older, v[:, i]) for i in range(m)]
        theta, residual, spread = (np.array(of) for of in zip(*rows, strict=True))
        left = float(np.sum(np.sum(residual**2, 1) / power))
        if left < least:
            best, least = Regression(late, theta, spread, residual.T), left
    assert best is not None
    return best


def fit(qd: Array, u: Array, h: float) -> Found:
    """What velocities (K, m) and the efforts (K, m) that answered them say. An inertia that is not clear is NaN."""
    m = qd.shape[1]
    late, theta, spread, residual = of = _regress(qd, u, h, tuple(np.arange(LATEST * STEPS) / STEPS))
    inertia, own = of.inertia(), np.maximum(np.diag(theta), 1e-12)
    scale = np.sqrt(own[:, None] / own)  # of P_ij, to P_ij / sqrt(P_ii P_jj)
    N, doubt = theta[:, :m] / own[:, None] * scale, (spread[:, :m] / own[:, None] * scale) ** 2 + 1e-18
    N = (N / doubt + N.T / doubt.T) / (1 / doubt + 1 / doubt.T)  # symmetric: what is better known counts more
    values, vectors = np.linalg.eigh(np.clip(N, -1.0, 1.0))
    N = (vectors * np.maximum(values, SMALL)) @ vectors.T
    weight = -np.linalg.solve(N * np.sqrt(own[:, None] * own), theta[:, m + 2])
    blocks = max(1, round(BLOCK / h))
    count = len(residual) // blocks
    noise = np.sqrt(np.maximum(-np.mean(residual[1:] * residual[:-1], 0), 0.0)) * h  # its differences anticorrelate
    slow = np.mean(np.square(residual[: count * blocks].reshape(count, blocks, m).mean(1)), 0)
    disturbance = np.sqrt(np.maximum(slow - 2 * (noise / (blocks * h)) ** 2, 0.0))
    return Found(inertia, N, np.maximum(-theta[:, m + 1] / own, 0.0), np.maximum(-theta[:, m] / own, 0.0), weight,
                 late * h, noise, disturbance)


def _row(change: Array, acted: Array, v: Array) -> tuple[Array, Array, Array]:
    """Least squares for one joint: parameters (m + 3,), what is left (N,), and their standard deviations (m + 3,)."""
    m = acted.shape[1]
    w = np.column_stack([acted, v, np.sign(v), np.ones(len(v))])
    size = np.maximum(np.sqrt(np.mean(w**2, 0)), 1e-12)
    A = (w / size).T @ (w / size) + 1e-9 * len(w) * np.eye(m + 3)
    theta = np.linalg.solve(A, (w / size).T @ change)
    left = change - w / size @ theta
    variance = float(left @ left) / max(1, len(left) - m - 3)
    return theta / size, left, np.sqrt(variance * np.diag(np.linalg.inv(A))) / size


# --- gains


def radius(stiffness: float, damping: float, integral: float, delay: float) -> float:
    """The spectral radius of one joint of unit inertia under the hold, in units of the period, exactly:

        q'' = u[k] from k + delay on,   u[k] = -stiffness q - damping q' + s,   s[k+1] = s - integral stiffness q.
    """
    whole, part = int(delay), delay % 1.0
    n = 4 + whole  # q, q', s, then efforts, newest first
    A = np.eye(n, n)
    A[3:, 3:] = np.eye(n - 3, k=-1)
    feedback = np.zeros(n)
    feedback[:3] = -stiffness, -damping, 1.0
    late = np.eye(n)[3 + whole]
    now = feedback if whole == 0 else np.eye(n)[2 + whole]
    rest = 1.0 - part
    A[0, 1] = 1.0
    A[0] += part * (1 - part / 2) * late + rest**2 / 2 * now
    A[1] += part * late + rest * now
    A[2, 0], A[2, 2] = -integral * stiffness, integral > 0  # without an integral s is none of the states
    A[3] = feedback
    return float(np.abs(np.linalg.eigvals(A)).max())


def margin_of(stiffness: float, damping: float, integral: float, delay: float) -> float:
    """By how much all gains may be larger before the loop of `radius` is unstable; 0 where it is already."""
    factors = np.geomspace(1.0, 64.0, 49)
    for i, factor in enumerate(factors):
        if radius(factor * stiffness, factor * damping, integral, delay) >= 1.0:
            low, high = (factors[i - 1], factor) if i else (0.0, 0.0)
            for _ in range(10):
                middle = 0.5 * (low + high)
                stable = radius(middle * stiffness, middle * damping, integral, delay) < 1.0
                low, high = (middle, high) if stable else (low, middle)
            return float(low)
    return float(factors[-1])


def quickest(delay: float, integral: float, margin: float = MARGIN) -> float:
    """The largest natural frequency [rad/period] of a critically damped hold with that margin; delay [periods]."""
    low, high = 1e-3, 1.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        good = radius(middle**2, 2 * middle, integral, delay) < 1.0
        g = margin
        good = good and radius(g * middle**2, 2 * g * middle, integral, delay) < 1.0
        low, high = (middle, high) if good else (low, middle)
    return low


def leaning(weight: Callable[[Array], Array], q: Array) -> Array:
    """The stiffness (m,) that keeps an arm at q (m,) from falling over, where its weight pulls the more the further it
    leans; weight: q -> effort (m,). None where it hangs. By Gershgorin's theorem, and twice as much as that takes."""
    steps = STEP * np.eye(len(q))
    G = np.array([(weight(q + step) - weight(q - step)) / (2 * STEP) for step in steps])
    values, vectors = np.linalg.eigh(0.5 * (G + G.T))
    stiffness: Array = 2 * np.abs((vectors * np.minimum(values, 0.0)) @ vectors.T).sum(1)
    return stiffness


def gains(found: Found, period: float, effort: Array, integral: float = 1.0, names: Sequence[str] = (),
          lean: Array | float = 0.0) -> Gains:
    """Stiffness, damping and deceleration for joints as they were found, held every `period` [s].

    Where joints share a motion, its inertia is less than that of each: with D in proportion to the inertias, the modes
    of the arm are those of one joint of 1 / lambda the inertia, for each eigenvalue lambda of the coupling; the largest
    gets MARGIN, and the stiffness suits the smallest. effort (m,) is the limit; integral [1/s] that of the hold; lean
    (m,) the least stiffness (`leaning`) of an arm whose weight the controller's hold has to carry.
    """
    values = np.linalg.eigvalsh(found.coupling)
    lightest, heaviest = float(values[-1]), float(max(values[0], RESISTANT))
    wanted = np.sqrt(np.maximum(3 * found.disturbance / WANDER, lean / found.inertia))  # [rad/s]
    able = quickest(found.delay / period, integral * period) / (period * lightest)
    frequency = np.minimum(able, np.maximum(QUICKEST / lightest, wanted))
    damping = 2 * frequency * found.inertia
    soft = min(1.0, 4 * heaviest)
    stiffest = frequency**2 * found.inertia
    stiffness = np.maximum(soft * stiffest, np.minimum(lean, stiffest))
    quick = float(frequency.max()) * period  # the least margin is that of the quickest joint
    margin = margin_of(lightest * quick**2, 2 * lightest * quick, integral * period, found.delay / period)
    deceleration = BRAKING * effort / (found.inertia * float(1 / heaviest))
    problem = ""
    if (wanted > able).any():
        i = int(np.argmax(wanted))
        need = wanted[i] * lightest
        fit_for = [rate for rate in RATES if rate * quickest(found.delay * rate, integral / rate) >= need]
        name = tuple(names)[i] if names else f"joint {i}"
        problem = (f"{1 / period:g} Hz is too slow for {name}: with {found.inertia[i]:.2g} kg m^2 a stable hold is as "
                   f"quick as {able:.3g} rad/s; expected {wanted[i]:.3g}, as at "
                   + (f"{fit_for[0]:g} Hz" if fit_for else "no rate with its delay"))
    return Gains(stiffness, damping, np.minimum(deceleration, 30.0), margin, problem)
