"""Where the tool shall be at which time: a motion to a target, or a figure-eight about it.

A kind of path is a frozen dataclass of its own parameters and a function of time. The motion is a straight line in
space with a minimum-jerk profile in time (Flash & Hogan 1985). The figure-eight (Gerono's) begins with such a motion to
its centre while the eight fades in, so that both start at rest.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from mbrl_ros.config import ConfigError, param
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

FADE = 1.0  # [s] from the start of a figure-eight until it is one
PEAK = 10 / math.sqrt(3)  # largest acceleration of a motion of least jerk, in units of way / duration^2


class Path(Protocol):
    """Parameters of one kind of path, and the path itself."""

    @property
    def cycle(self) -> float | None:
        """[s] of a path that goes round and round; None: it ends at the goal."""

    def duration(self, start: Array, goal: Array) -> float:
        """Of a path that ends [s]; nobody asks one that does not."""

    def at(self, t: Float[Array, "count 1"], start: Float[Array, " 3"], goal: Float[Array, " 3"]
           ) -> tuple[Float[Array, "count 3"], Float[Array, "count 3"]]:
        """Position [m] and velocity [m/s] at times t [s] since it began at `start` [m]."""


class Turn(NamedTuple):
    """How the tool turns on its way: from `start` (3, 3) by `vector` (3,) [rad], about its own axes."""

    start: Array
    vector: Array
    duration: float  # [s]

    def at(self, t: Float[Array, "count 1"]) -> tuple[Float[Array, "count 3 3"], Float[Array, "count 3"]]:
        """Rotation, and angular velocity [rad/s] in the base frame, at times t [s] since it began."""
        way, speed = profile(t, self.duration)
        return self.start @ Rotation.from_rotvec(way * self.vector).as_matrix(), speed * (self.start @ self.vector)


class Motion(NamedTuple):
    """A path from `start` to or about `goal` (3,) [m] that began at `begin` [ns]. A Course (goal.py)."""

    path: Path
    start: Array
    goal: Array
    begin: int
    turn: Turn | None = None
    end: Array | None = None  # (m,) joints that are at the goal, where it has an orientation

    @property
    def duration(self) -> float:
        """See Course."""
        way = math.inf if self.path.cycle is not None else self.path.duration(self.start, self.goal)
        return max(way, self.turn.duration if self.turn else 0.0)

    def at(self, time: int, period: float, count: int) -> tuple[Float[Array, "{count} 3"], Float[Array, "{count} 3"]]:
        """Position [m] and velocity [m/s] at time [ns], time + period [s], ..."""
        return self.path.at(self._since(time, period, count), self.start, self.goal)

    def turned(self, time: int, period: float, count: int) -> tuple[Array, Array] | None:
        """See Course."""
        return None if self.turn is None else self.turn.at(self._since(time, period, count))

    def joints(self, time: int, period: float, count: int) -> None:
        """See Course: left open."""

    def _since(self, time: int, period: float, count: int) -> Float[Array, "{count} 1"]:
        since: Array = ((time - self.begin) * 1e-9 + period * np.arange(count))[:, None]
        return since


@dataclass(frozen=True)
class MinimumJerk:
    """To the target, and rest there."""

    speed: float = param(0.4, "Mean speed along the path to a target [m/s]", 0.01, 5.0, live=True)
    shortest: float = param(0.7, "Least duration of a motion [s]", 0.05, 60.0)
    longest: float = param(1.6, "Largest duration of a motion [s], where the joints are quick enough", 0.05, 60.0)
    joint_speed: float = param(0.9, "Largest speed that a motion asks of a joint, in units of robot.velocity_limit; "
                               "what would be faster takes longer, or is straight for the joints", 0.05, 10.0)
    acceleration: float = param(10.0, "Largest acceleration along the path to a target [m/s^2]", 0.1, 100.0, live=True)
    turn_speed: float = param(1.0, "Mean speed of turning to an orientation [rad/s]", 0.01, 10.0, live=True)
    cycle = None

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise ConfigError(f"shortest: expected at most longest, {self.longest} s, got {self.shortest}")

    def at(self, t: Float[Array, "count 1"], start: Float[Array, " 3"], goal: Float[Array, " 3"]
           ) -> tuple[Float[Array, "count 3"], Float[Array, "count 3"]]:
        """See Path."""
        way, speed = profile(t, self.duration(start, goal))
        return start + way * (goal - start), speed * (goal - start)

    def duration(self, start: Array, goal: Array) -> float:
        """Of the motion [s], whatever the joints say."""
        delta = goal - start
        return self.of_length(math.sqrt(delta @ delta))

    def of_length(self, way: float) -> float:
        """Duration [s] of a motion of so many metres."""
        return max(min(max(way / self.speed, self.shortest), self.longest), math.sqrt(PEAK * way / self.acceleration))


@dataclass(frozen=True)
class FigureEight:
    """About the target: goal + across sin(2 pi f t) + up sin(4 pi f t)."""

    frequency: float = param(0.25, "Of the figure-eight [Hz]", 0.01, 5.0)
    width: float = param(0.12, "Of the figure-eight: half of its extent across [m]", 0.0, 2.0)
    height: float = param(0.08, "Of the figure-eight: half of its extent upwards [m]", 0.0, 2.0)
    across: tuple[float, ...] = param((0.0, 1.0, 0.0), "Direction of the width in the base frame")

    def __post_init__(self) -> None:
        if len(self.across) != 3 or not any(self.across):
            raise ConfigError(f"across: expected a direction of 3 numbers, got {list(self.across)}")

    @property
    def cycle(self) -> float | None:
        """See Path."""
        return 1 / self.frequency

    def duration(self, start: Array, goal: Array) -> float:
        """See Path."""
        return math.inf

    def at(self, t: Float[Array, "count 1"], start: Float[Array, " 3"], goal: Float[Array, " 3"]
           ) -> tuple[Float[Array, "count 3"], Float[Array, "count 3"]]:
        """See Path."""
        across = self.width * (np.array(self.across) / np.linalg.norm(self.across))
        up, rate = np.array([0.0, 0.0, self.height]), 2 * np.pi * self.frequency
        way, speed = profile(t, FADE)
        delta = goal - start + np.sin(rate * t) * across + np.sin(2 * rate * t) * up
        change = rate * np.cos(rate * t) * across + 2 * rate * np.cos(2 * rate * t) * up
        return start + way * delta, speed * delta + way * change


def profile(t: Array, duration: float) -> tuple[Array, Array]:
    """Way and speed: from 0 to 1 in `duration` [s] with least jerk, and its derivative [1/s]."""
    s = np.clip(t / duration, 0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s**2), 30 * s**2 * (1 - s) ** 2 / duration
