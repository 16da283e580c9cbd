"""Where the tool shall be at which time: a motion to a target, or a figure-eight about it.

The motion is a straight line in space with a minimum-jerk profile in time (Flash & Hogan 1985). The figure-eight
(Gerono's) begins with such a motion to its centre while the eight fades in, so that both start at rest.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from mbrl_ros.config import ConfigError, param
from mbrl_ros.types import Array

FADE = 1.0  # [s] from the start of a figure-eight until it is one


@dataclass(frozen=True)
class Path:
    """Parameters `task.path.*`."""

    kind: str = param("minimum_jerk", "minimum_jerk: to the target; figure_eight: about the target",
                      choices=("minimum_jerk", "figure_eight"))
    speed: float = param(0.4, "Mean speed along the path to a target [m/s]", 0.01, 5.0, live=True)
    shortest: float = param(0.7, "Least duration of a motion [s]", 0.05, 60.0)
    longest: float = param(1.6, "Largest duration of a motion [s]", 0.05, 60.0)
    frequency: float = param(0.25, "Of the figure-eight [Hz]", 0.01, 5.0)
    width: float = param(0.12, "Of the figure-eight: half of its extent across [m]", 0.0, 2.0)
    height: float = param(0.08, "Of the figure-eight: half of its extent upwards [m]", 0.0, 2.0)
    across: tuple[float, ...] = param((0.0, 1.0, 0.0), "Direction of the width in the base frame")

    def __post_init__(self) -> None:
        if len(self.across) != 3 or not any(self.across):
            raise ConfigError(f"task.path.across: expected a direction of 3 numbers, got {list(self.across)}")


class Motion(Protocol):
    """A path in time about or to `goal` (3,) [m]."""

    @property
    def goal(self) -> Array: ...

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Position [m] and velocity [m/s] (count, 3) at time [ns], time + period [s], ..."""


class MinimumJerk(NamedTuple):
    """The path start -> goal (3,) [m] from `begin` [ns] on, over `duration` [s]."""

    start: Array
    goal: Array
    begin: int
    duration: float

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Position and velocity (count, 3) at time, time + period, ..."""
        way, speed = _profile(_seconds(self.begin, time, period, count), self.duration)
        delta = self.goal - self.start
        return self.start + way * delta, speed * delta


class FigureEight(NamedTuple):
    """start (3,) -> the eight goal + across sin(2 pi f t) + up sin(4 pi f t) [m], t from `begin` [ns] on."""

    start: Array
    goal: Array
    begin: int
    across: Array
    up: Array
    frequency: float  # [Hz]

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Position and velocity (count, 3) at time, time + period, ..."""
        t = _seconds(self.begin, time, period, count)
        way, speed = _profile(t, FADE)
        rate = 2 * np.pi * self.frequency
        delta = self.goal - self.start + np.sin(rate * t) * self.across + np.sin(2 * rate * t) * self.up
        change = rate * np.cos(rate * t) * self.across + 2 * rate * np.cos(2 * rate * t) * self.up
        return self.start + way * delta, speed * delta + way * change


def plan_path(config: Path, goal: Array, start: Array, time: int) -> Motion:
    """The path that the settings ask for, from `start` (3,) [m] at `time` [ns]."""
    start, goal = np.array(start, float), np.array(goal, float)
    if config.kind == "figure_eight":
        across = np.array(config.across) / np.linalg.norm(config.across)
        return FigureEight(start, goal, time, config.width * across, np.array([0.0, 0.0, config.height]),
                           config.frequency)
    duration = np.clip(np.linalg.norm(goal - start) / config.speed, config.shortest, config.longest)
    return MinimumJerk(start, goal, time, float(duration))


def _seconds(begin: int, time: int, period: float, count: int) -> Array:
    """(count, 1) [s] since `begin`."""
    return ((time - begin) * 1e-9 + period * np.arange(count))[:, None]


def _profile(t: Array, duration: float) -> tuple[Array, Array]:
    """From 0 to 1 in `duration` [s] with least jerk, and its derivative [1/s]."""
    s = np.clip(t / duration, 0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s**2), 30 * s**2 * (1 - s) ** 2 / duration
