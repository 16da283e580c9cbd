"""What the base policy adds to its hold in order to learn: a motion of the set-point, and efforts on top.

`random`: every joint wanders as a sum of slow sinusoids, under low-pass and white effort noise.

`informative` is an experiment designed for the duration it is given (Pukelsheim 2006; Fourier-series excitation:
Swevers et al. 1997). Of w = [q; qd; u; 1] the data say A = sum w w', and a linear model fitted to them predicts at w*
with variance w*' A^-1 w*. Its mean over where the limits let the robot be, tr(S A^-1), is made small (I-optimality):

1. Set-point. Slow curves of many joints over a few seconds are all but linearly dependent, which is what a short random
   excitation loses most by. Here each joint has a sinusoid of its own, of another harmonic of the duration, as large as
   the limits allow. A long one repeats after the time in which the fastest of them has `high_frequency`. Which joint
   gets which harmonic, and which direction first, is the best of CANDIDATES draws.
2. Efforts. Every BLOCK periods the best of PATTERNS patterns of +-`dither` is taken, given all that came before.

Both need a prediction of w. The hold is known, and its gains tell of each joint about what inertia they are meant for:
    M qdd = K (g - q) + D (gd - qd) + e,   M = D^2 / 4K   (critical damping),   u = M qdd
Nothing else is assumed of the dynamics, and all of it is fixed by the seed before anything has moved.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.linalg

from mbrl_ros.config import LOGARITHMIC, ConfigError, param
from mbrl_ros.kernels.excitation import responses
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

SINUSOIDS = 3  # per joint, of `random`; incommensurate frequencies keep the joints from moving in step
CANDIDATES = 60  # set-points to choose from: four times as many were no better, as M is a guess
LARGEST = 200  # steps in which a set-point is predicted: all draws together take some 3 ms
PATTERNS = 64  # efforts to choose from
BLOCK, HELD = 10, 2  # steps (robot.step): of a pattern, and for which an effort is held
# Of the limits, what is left of the range to tracking errors, and of the speed to the efforts on top.
RANGE_USED, SPEED_USED = 0.85, 0.5
SMALLEST = 1e-6
REGULARIZATION = 1e-2  # of A, in transitions at the limits


@dataclass(frozen=True)
class Config:
    """Parameters `excitation.*`. The first three are limits, for either kind; the hold's own efforts come on top."""

    range: float = param(0.5, "Farthest that the set-point, and efforts on top, take a joint from home [rad or m]",
                         1e-3, 10.0, live=True, scale=LOGARITHMIC)
    speed: float = param(0.6, "Joint speed above which no effort is added that raises it, as a fraction of the limit",
                         1e-3, 1.0, live=True)
    effort: float = param(0.2, "Largest effort added to that of the hold, as a fraction of the limit", 0.0, 1.0,
                          live=True)
    kind: str = param("informative", "How to excite", choices=("random", "informative"))
    duration: float = param(30.0, "How long to excite [s]", 0.1, 600.0, live=True, scale=LOGARITHMIC)
    high_frequency: float = param(0.35, "Fastest sinusoid of the set-point; a short informative excitation has faster "
                                  "ones [Hz]", 0.001, 10.0)
    dither: float = param(0.05, "Efforts of the informative excitation, as a fraction of the limit", 1e-3, 1.0,
                          live=True, scale=LOGARITHMIC)
    amplitude: float = param(0.25, "Of the random set-point; standard deviation is 0.7 of it [rad or m]", 0.0, 3.0,
                             live=True)
    low_frequency: float = param(0.08, "Slowest sinusoid of the random set-point [Hz]", 0.001, 10.0)
    effort_noise: float = param(0.05, "Low-pass random effort, as a fraction of the limit", 0.0, 1.0, live=True)
    bandwidth: float = param(2.0, "Of the low-pass noise [Hz]", 0.01, 100.0)
    white_noise: float = param(0.02, "Random effort drawn anew each period, as a fraction of the limit", 0.0, 1.0,
                               live=True)
    integral: float = param(1.0, "Integral gain of the hold, relative to its stiffness [1/s]", 0.0, 10.0)
    gain: float = param(1.0, "Factor on robot.stiffness and robot.damping", 0.01, 10.0)
    seed: int = param(0, "Seed of the excitation", 0)


class Excitation(Protocol):
    """What to add in the periods to come, one after the other. Made for a robot and the factor on its gains."""

    def next(self) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, " m"]]:
        """Offset of the set-point from the posture, its speed, and an effort."""


class RandomExcitation:
    """Sinusoids of random frequency and phase, and noise; it fades in over a second so that the start is smooth."""

    def __init__(self, robot: Robot, config: Config, gain: float):
        self.robot, self.config = robot, config
        self._rng = rng = np.random.default_rng(config.seed)
        self._noise, self._elapsed = np.zeros(robot.m), 0.0
        self._rate = 2 * np.pi * rng.uniform(config.low_frequency, config.high_frequency, (SINUSOIDS, robot.m))
        self._phase = rng.uniform(0, 2 * np.pi, (SINUSOIDS, robot.m))

    def next(self) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, " m"]]:
        """See Excitation."""
        self._elapsed += self.robot.period
        angle = self._rate * self._elapsed + self._phase
        scale = self.config.amplitude / np.sqrt(SINUSOIDS) * min(1.0, self._elapsed)
        return scale * np.sin(angle).sum(0), scale * (self._rate * np.cos(angle)).sum(0), self._effort()

    def _effort(self) -> Array:
        config, robot = self.config, self.robot
        keep = np.exp(-2 * np.pi * config.bandwidth * robot.period)
        low_pass, white = self._rng.standard_normal((2, robot.m))
        self._noise = keep * self._noise + np.sqrt(1 - keep**2) * low_pass
        return (config.effort_noise * self._noise + config.white_noise * white) * robot.effort_limit


class InformativeExcitation:
    """Harmonics assigned to joints, and patterns of effort, such that a linear model will predict well.

    Raises ConfigError where the hold has no stiffness or no damping.
    """

    def __init__(self, robot: Robot, config: Config, gain: float):
        self.robot = robot
        self._hold = HoldResponse(robot, gain, robot.step)
        self._rng = np.random.default_rng(config.seed)
        reach = np.minimum(config.range, room(robot)) * RANGE_USED
        speed = SPEED_USED * config.speed * robot.velocity_limit
        # The damping of the hold turns an effort into a speed, with what the set-point leaves of the limit.
        self._dither = np.minimum(min(config.dither, config.effort) * robot.effort_limit,
                                  gain * robot.damping * (config.speed * robot.velocity_limit - speed))
        scale = np.concatenate([reach, speed, self._dither, [1.0]])  # (d,), units of w
        self._scale = np.maximum(scale, SMALLEST)  # a home at a joint's limit leaves no room
        self._amplitude, self._rate = self._set_point(min(config.duration, robot.m / config.high_frequency), gain,
                                                      reach, speed)
        self._P = np.eye(len(self._scale)) / REGULARIZATION  # A^-1 in units of `_scale`
        self._state = np.zeros((robot.m, 2))
        self._block: list[tuple[Array, Array, Array]] = []
        self._elapsed = 0.0

    def next(self) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, " m"]]:
        """See Excitation."""
        if not self._block:
            self._choose_efforts()
        return self._block.pop(0)

    def _set_point(self, period: float, gain: float, reach: Array, speed: Array) -> tuple[Array, Array]:
        """Amplitude (m,) and angular frequency (m,) of a sinusoid per joint: the best draw."""
        m, rng = self.robot.m, self._rng
        harmonics = np.stack([rng.permutation(m) for _ in range(CANDIDATES)]) + 1.0  # (C, m)
        rate = 2 * np.pi * harmonics / period
        amplitude = np.minimum(reach, speed / rate) * rng.choice([-1.0, 1.0], rate.shape)
        step = max(self.robot.step, period / LARGEST)
        time = step * np.arange(1, max(2, round(period / step)) + 1)
        angle = 2 * np.pi / period * np.arange(1, m + 1) * time[:, None]  # (T, m), of each harmonic
        which = harmonics.astype(int) - 1
        sine, cosine = (np.moveaxis(wave[:, which], 0, 1) for wave in (np.sin(angle), np.cos(angle)))
        goal, goal_speed = amplitude[:, None] * sine, (amplitude * rate)[:, None] * cosine  # (C, T, m)
        hold = HoldResponse(self.robot, gain, step)
        w = hold.regressors(np.zeros((m, 2)), goal, goal_speed, np.zeros_like(goal))[0] / self._scale
        known = np.full(len(self._scale), REGULARIZATION)
        known[2 * m : 3 * m] += len(time)  # what the efforts to come will tell
        best = int(np.argmin(np.linalg.inv(w.mT @ w + np.diag(known)).trace(axis1=1, axis2=2)))
        return amplitude[best], rate[best]

    def _choose_efforts(self) -> None:
        """The next BLOCK steps."""
        robot = self.robot
        angle = self._rate * (self._elapsed + robot.period * np.arange(1, BLOCK * robot.stride + 1))[:, None]
        goal, speed = self._amplitude * np.sin(angle), self._amplitude * self._rate * np.cos(angle)  # (periods, m)
        at = slice(robot.stride - 1, None, robot.stride)  # where steps end
        signs = self._rng.choice([-1.0, 1.0], (PATTERNS, -(-BLOCK // HELD), robot.m))
        effort = np.repeat(signs, HELD, 1)[:, :BLOCK] * self._dither  # (PATTERNS, BLOCK, m)
        w, states = self._hold.regressors(self._state, goal[at], speed[at], effort)
        best, self._P = most_informative(self._P, w / self._scale)
        self._state, self._elapsed = states[best], self._elapsed + BLOCK * robot.step
        self._block = list(zip(goal, speed, np.repeat(effort[best], robot.stride, 0), strict=True))


class HoldResponse:
    """What joints do under the hold from step to step [s], each for itself, if its gains damp them critically."""

    def __init__(self, robot: Robot, gain: float, step: float):
        if not (robot.stiffness > 0).all() or not (robot.damping > 0).all():
            raise ConfigError("excitation.kind: informative expects robot.stiffness and robot.damping above zero")
        self.K, self.D = gain * robot.stiffness, gain * robot.damping
        M = robot.damping**2 / (4 * robot.stiffness)
        A = np.zeros((robot.m, 3, 3))  # d/dt [q, qd, f] with f = K g + D gd + e held
        A[:, 0, 1] = 1.0
        A[:, 1] = np.stack([-self.K, -self.D, np.ones(robot.m)], -1) / M[:, None]
        self._step = np.ascontiguousarray(scipy.linalg.expm(A * step)[:, :2])  # (m, 2, 3)

    def regressors(self, state: Float[Array, "m 2"], goal: Float[Array, "... T m"], speed: Float[Array, "... T m"],
                   effort: Float[Array, "C T m"]) -> tuple[Float[Array, "C T 3*m+1"], Float[Array, "C m 2"]]:
        """w = [q; qd; u; 1] and [q, qd] after T steps from `state`.

        goal and speed of the set-point, without C where all have the same, and effort on top.
        """
        push = np.ascontiguousarray(self.K * goal + self.D * speed + effort)
        return responses(self._step, self.K, self.D, state, push)


def most_informative(P: Float[Array, "d d"], w: Float[Array, "C T d"]) -> tuple[int, Float[Array, "d d"]]:
    """Which w leaves the least trace of P = A^-1, and what it leaves, by Woodbury's identity.

    (P^-1 + w'w)^-1 = P - V'(I + V w')^-1 V,   V = w P
    """
    V = w @ P
    solved = np.linalg.solve(np.eye(w.shape[1]) + V @ w.mT, V)  # (C, T, d)
    best = int(np.argmax((V * solved).sum((1, 2))))
    left = P - V[best].T @ solved[best]
    return best, 0.5 * (left + left.T)


def room(robot: Robot) -> Float[Array, " m"]:
    """How far a joint may go from home to either side; 5 % of its range is kept off its limits."""
    low, high = margins(robot)
    return np.maximum(0.0, np.minimum(robot.home - low, high - robot.home))


def margins(robot: Robot) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Set-points between which a joint is kept off its limits."""
    span = robot.position_high - robot.position_low
    margin = np.where(np.isfinite(span), 0.05 * span, 0.0)
    return robot.position_low + margin, robot.position_high - margin


KINDS: dict[str, type[RandomExcitation] | type[InformativeExcitation]] = {
    "random": RandomExcitation, "informative": InformativeExcitation}
