from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import param
from mbrl_ros.types import Array


@dataclass(frozen=True)
class Circle:
    """Round and round from where the tool is, in the plane of x and z; it begins slowly."""

    radius: float = param(0.05, "Of the circle [m]", 0.0, 1.0)
    cycle: float = param(2.0, "Time of one round [s]", 0.1, 60.0)

    def at(self, t: Array, start: Array, goal: Array) -> tuple[Array, Array]:
        s = np.maximum(t, 0.0)
        rate = 2 * np.pi / self.cycle
        angle, speed = rate * (s + np.expm1(-s)), rate * (1 - np.exp(-s))
        forward, up = np.array([self.radius, 0.0, 0.0]), np.array([0.0, 0.0, self.radius])
        return (start + np.sin(angle) * forward + (1 - np.cos(angle)) * up,
                speed * (np.cos(angle) * forward + np.sin(angle) * up))
