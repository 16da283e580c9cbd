"""The safe base policy: hold a joint posture, and excite the joints about it for a bounded time.

Hold: u = P (q_ref - q) - D qd + I, with a slow integral that carries what gravity is not compensated. Excite: q_ref
wanders as a sum of slow sinusoids per joint, with low-pass and white effort noise on top, so that the data contain
motion of every joint and efforts that are not a function of the state.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import param
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array, StateEstimate

SINUSOIDS = 3  # per joint; incommensurate frequencies keep the joints from moving in step


@dataclass(frozen=True)
class Config:
    """Parameters `excitation.*`."""

    duration: float = param(30.0, "How long to excite [s]", 0.1, 600.0, live=True)
    amplitude: float = param(0.25, "Of the wandering posture; standard deviation is 0.7 of it [rad or m]", 0.0, 3.0,
                             live=True)
    low_frequency: float = param(0.08, "Slowest sinusoid [Hz]", 0.001, 10.0)
    high_frequency: float = param(0.35, "Fastest sinusoid [Hz]", 0.001, 10.0)
    effort_noise: float = param(0.05, "Low-pass effort noise, as a fraction of the limit", 0.0, 1.0, live=True)
    bandwidth: float = param(2.0, "Of the low-pass noise [Hz]", 0.01, 100.0)
    white_noise: float = param(0.02, "Effort noise drawn anew each period, as a fraction of the limit", 0.0, 1.0,
                               live=True)
    integral: float = param(1.0, "Integral gain of the hold, relative to its stiffness [1/s]", 0.0, 10.0)
    gain: float = param(1.0, "Factor on robot.stiffness and robot.damping", 0.01, 10.0)
    seed: int = param(0, "Seed of the excitation", 0)


class BasePolicy:
    """Hold and excite. `start` resets it; `act` gives the effort (m,) [N m or N], not yet clamped."""

    def __init__(self, robot: Robot, config: Config):
        self.robot, self.config = robot, config
        self.caution = 1.0  # factor on the gains, from whoever knows how late they act
        self.start(robot.home, np.zeros(robot.m))

    def start(self, posture: Array, effort: Array) -> None:
        """From now on about `posture` (m,), with `effort` (m,) as what rest takes until the integral knows better."""
        self._rng = rng = np.random.default_rng(self.config.seed)
        m = self.robot.m
        self.posture = np.array(posture, float)
        self._integral, self._noise = np.array(effort, float), np.zeros(m)
        self._frequency = rng.uniform(self.config.low_frequency, self.config.high_frequency, (SINUSOIDS, m))  # [Hz]
        self._phase = rng.uniform(0, 2 * np.pi, (SINUSOIDS, m))
        self._elapsed = 0.0

    def act(self, state: StateEstimate, excite: bool) -> Array:
        """One period of the hold, with excitation on top where asked for."""
        robot, config, h = self.robot, self.config, self.robot.period
        q = state.belief.mean[robot.slice("joint/position")]
        qd = state.belief.mean[robot.slice("joint/velocity")]
        offset, speed = self._wander() if excite else (np.zeros(robot.m), np.zeros(robot.m))
        margin = 0.05 * (robot.position_high - robot.position_low)
        goal = np.clip(self.posture + offset, robot.position_low + margin, robot.position_high - margin)
        gain = config.gain * self.caution
        bound, pull = 0.5 * robot.effort_limit, gain * robot.stiffness * (goal - q)
        self._integral = np.clip(self._integral + h * config.integral * pull, -bound, bound)
        u = pull + gain * robot.damping * (speed - qd) + self._integral
        return u + np.sqrt(self.caution) * self._effort_noise() if excite else u

    def _wander(self) -> tuple[Array, Array]:
        """Offset and speed of the posture; it fades in over a second so that the start is smooth."""
        self._elapsed += self.robot.period
        rate = 2 * np.pi * self._frequency  # [rad/s]
        angle = rate * self._elapsed + self._phase
        scale = self.config.amplitude / np.sqrt(SINUSOIDS) * min(1.0, self._elapsed)
        return scale * np.sin(angle).sum(0), scale * (rate * np.cos(angle)).sum(0)

    def _effort_noise(self) -> Array:
        config, robot = self.config, self.robot
        keep = np.exp(-2 * np.pi * config.bandwidth * robot.period)
        low_pass, white = self._rng.standard_normal((2, robot.m))
        self._noise = keep * self._noise + np.sqrt(1 - keep**2) * low_pass
        return (config.effort_noise * self._noise + config.white_noise * white) * robot.effort_limit
