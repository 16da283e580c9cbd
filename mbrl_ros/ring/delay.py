"""How late commands act, found from the efforts that the robot reports, and planning across that delay.

With a delay of d + phi periods, d whole and 0 <= phi < 1, what acts on average over period k is a blend of commands,

    e_k = (1 - phi) c_{k-d} + phi c_{k-d-1},

whether a command arrives in mid-period (phi: computation and transport) or queues for whole periods (d). For every d
the best phi is a least-squares fit to the changes of e over the last few periods (torque readings may be off by
friction); d changes where another explains them, or the newest of them alone, much better than noise would allow. The
planner then starts from the state predicted over d periods, and its model acts with the blend:
x' = A x + B ((1 - phi) u + phi u_before) + f, where u_before is in x (the state augmented by the previous effort).
"""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, LinearGaussianDynamics, StateEstimate

if TYPE_CHECKING:
    from jaxtyping import Float

LONGEST = 0.06  # [s] that is looked for, at least a period, and a fraction of a period more
MEMORY = (0.1, 0.04)  # [s] of the evidence, and of its newest part, which finds a delay that changed
BETTER = 9.0  # by how much the log likelihood ratio (times 2) must speak for another d
CHANGED, APART = 50.0, 0.5  # likewise for another delay by the newest part, and how far that must be away [periods]
QUIET = 1e-3  # [effort limit] changes of effort below this say nothing
EXPLAINED = 0.25  # of the power of the changes at most is left over, or what is reported is not what was commanded
TOLERATED = 0.3  # [steps] of delay that the gains of a hold are made for, which a faster rate makes no quicker,
SAMPLED = 0.15  # with this much for an effort that is held over a period [steps]
LATEST = 0.5  # [s] over which it is remembered that commands came later, as those that come irregularly do


class _Fit(NamedTuple):
    """For every d; what is left over [effort limit^2]."""

    phi: Array
    error: Array
    best: int
    noise: float  # of a joint in a period


class Delay:
    """Remembers commands and estimates `periods`, unless that is given."""

    def __init__(self, robot: Robot, given: float = -1.0):
        """given: the delay in periods; negative: estimate it."""
        self.robot = robot
        self._whole, self._part = 0, 0.0
        self._longest = max(1, round(LONGEST / robot.period))  # [periods]
        self._keep = np.maximum(0.0, 1 - robot.period / np.array(MEMORY))  # of the evidence per period
        self._sums = np.zeros((2, self._longest + 1, 2, 2))  # for every d: [s's s'r; r's r'r] (see compare)
        self._power = np.zeros(2)  # of the changes of effort
        self._commands = np.zeros((self._longest + 2 + max(1, robot.stride), robot.m))  # newest first
        self._latest = 0.0  # [periods]
        self._last: StateEstimate | None = None
        self.given = given

    @property
    def periods(self) -> float:
        """Delay from a state to the effect of the command that answers it."""
        return self._whole + self._part if self.given < 0 else self.given

    @property
    def hold_gain(self) -> float:
        """Factor on the gains of a hold that does not look ahead: it swings where gain times delay is too large."""
        latest = max(self._latest, self.periods) / self.robot.stride
        return min(1.0, TOLERATED / (latest + SAMPLED))

    @property
    def slowness(self) -> float:
        """Factor on the price of a change of effort: a model that is a little wrong is swung by what the loop does
        faster than its delay, and this price sets how fast that is (its root, for one joint)."""
        return (1.0 + self.periods / self.robot.stride) ** 2

    def record(self, effort: Float[Array, " m"]) -> None:
        """The command [N m or N] that answers the newest state."""
        self._commands = np.concatenate([effort[None], self._commands[:-1]])

    def observe(self, state: StateEstimate) -> None:
        """The effort that acted over the last period; a new episode begins with what has acted until now."""
        last, self._last = self._last, state
        if last is None or state.episode != last.episode:
            self.restart(np.nan_to_num(state.effort))
            return
        skipped = state.step - last.step - 1
        for _ in range(min(skipped, self._longest + 3)):  # states that nobody answered
            self.record(self._commands[0])
        if not skipped:
            self.compare(state.effort - last.effort)

    def restart(self, effort: Array) -> None:
        """A new stream of commands, which begins with what was commanded (m,) for a while; what was found before stands
        until there is evidence again."""
        self._sums[:], self._power[:] = 0.0, 0.0
        self._commands[:] = effort

    @property
    def acting(self) -> Array:
        """The blend of commands (m,) that acted over the last period, when the newest command is the one recorded for
        it."""
        whole, part = divmod(self.periods, 1.0)
        c, d = self._commands, int(whole)
        blend: Array = (1 - part) * c[d] + part * c[d + 1]
        return blend

    def compare(self, change: Array) -> None:
        """By how much the effort (m,) that acted over the last period differs from that over the one before."""
        recent = self._commands[: self._longest + 3]
        c = (recent[:-1] - recent[1:]) / self.robot.effort_limit  # (longest + 2, m), newest first
        e = change / self.robot.effort_limit
        sr = np.empty((2, self._longest + 1, self.robot.m))  # left over with phi = 0 (r), and its slope by phi (s)
        np.subtract(c[1:], c[:-1], out=sr[0])
        np.subtract(e, c[:-1], out=sr[1])
        now = np.einsum("adm,bdm->dab", sr, sr)
        self._sums = self._keep[:, None, None, None] * self._sums + now
        self._power = self._keep * self._power + e @ e
        self._estimate()

    def _estimate(self) -> None:
        found = self._fit(1)
        if found is not None:
            (ss, sr), (_, rr) = self._sums[1, self._whole]
            as_it_was = rr - 2 * self._part * sr + self._part**2 * ss
            apart = abs(found.best + found.phi[found.best] - self._whole - self._part)
            if apart > APART and as_it_was - found.error[found.best] > CHANGED * found.noise:
                self._whole = found.best
                self._sums[0], self._power[0] = self._sums[1], self._power[1]  # what was before is no longer true
        found = self._fit(0)
        if found is not None:
            if found.best != self._whole and found.error[self._whole] - found.error[found.best] > BETTER * found.noise:
                self._whole = found.best
            self._part = float(found.phi[self._whole])
        forgotten = self.robot.period / LATEST * (self._latest - self.periods)
        self._latest = max(self.periods, self._latest - forgotten)

    def _fit(self, which: int) -> _Fit | None:
        """To the evidence of this memory; None where no delay explains it."""
        weight = QUIET**2  # pulls towards the phi of before where nothing moves
        ss, sr, rr = self._sums[which, :, 0, 0], self._sums[which, :, 0, 1], self._sums[which, :, 1, 1]
        phi = np.minimum(np.maximum((sr + weight * self._part) / (ss + weight), 0.0), 1.0)
        error = rr - 2 * phi * sr + phi**2 * ss
        best, count = int(error.argmin()), self.robot.m / (1 - self._keep[which])
        if not error[best] < EXPLAINED * self._power[which]:
            return None
        return _Fit(phi, error, best, max(error[best] / count, QUIET**2))

    def _by_step(self, count: int) -> Array:
        """Means over the last steps (count, m) of the commands, newest first."""
        stride = self.robot.stride
        if stride == 1:
            return self._commands
        return self._commands[: stride * count].reshape(count, stride, -1).mean(1)

    def compensate(self, x: Float[Array, " n"], dynamics: LinearGaussianDynamics
                   ) -> tuple[Float[Array, " n"], int, LinearGaussianDynamics]:
        """x when the next command begins to act, how many steps ahead that is, and the dynamics by commands.

        In the x that is returned, the newest effort is the mean of the last commands over a step.
        """
        whole, part = divmod(self.periods / self.robot.stride, 1.0)
        ahead, newest = int(whole), self.robot.slice("effort/1")
        c = self._by_step(ahead + 1)
        for j in range(ahead, 0, -1):
            acting = (1 - part) * c[j - 1] + part * c[j]
            x = dynamics.F @ np.concatenate([x, acting]) + dynamics.f
        x = x.copy()
        x[newest] = c[0]
        if part == 0.0:
            return x, ahead, dynamics
        n, F = self.robot.n, dynamics.F.copy()
        memory = F[newest].copy()  # takes the command itself
        F[:, newest] += part * F[:, n:]
        F[:, n:] *= 1 - part
        F[newest] = memory
        leverage = dynamics.leverage
        if leverage is not None:
            blend = np.eye(1 + F.shape[1])  # [1; x; what acts] = (.) [1; x; u]
            blend[1 + n :, 1 + n :] *= 1 - part
            blend[1 + n :, 1 + newest.start : 1 + newest.stop] = part * np.eye(F.shape[1] - n)
            leverage = blend.T @ leverage @ blend
        return x, ahead, LinearGaussianDynamics(F, dynamics.f, dynamics.Sigma, leverage)
