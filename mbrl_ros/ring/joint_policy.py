"""What policies have in common that see joints and the way to the target, and whose efforts last for a step of a model.

    o = [positions and velocities of joints; target - tool]

An effort is worked out anew every `every` periods. Arrays come from a file, and go there again.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import as_array, expect, sane
from mbrl_ros.ring.network_policy import View, check_names, names_of
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

Shapes = dict[str, tuple[int, ...]]


class JointPolicy(ABC):
    """A Policy of this robot; `target` (3,) [m] is set by whoever plays it. Raises ConfigError or MessageError for
    arrays of another robot or period, of wrong shapes, or not finite."""

    KIND: str  # of policy files
    POSITIVE: str  # an array
    horizon = None

    def __init__(self, arrays: Mapping[str, Array], robot: Robot):
        self.view, self.robot = View(robot), robot
        check_names(arrays, robot)
        self.every = int(arrays["every"])
        if self.every < 1:
            raise ConfigError(f"policy: every: expected at least one period, got {self.every}")
        self.arrays = {name: sane(f"policy: {name}", expect(f"policy: {name}", as_array(arrays[name]), shape),
                                  largest=np.inf) for name, shape in self.shapes(arrays).items()}
        if not (self.arrays[self.POSITIVE] > 0).all():
            raise ConfigError(f"policy: expected positive {self.POSITIVE}s")
        self.target: Array | None = None
        self._now: tuple[Array, Array | None] = np.zeros(robot.m), None

    @abstractmethod
    def shapes(self, arrays: Mapping[str, Array]) -> Shapes:
        """Of its arrays."""

    @abstractmethod
    def at(self, o: Float[Array, " k"]) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
        """Mean effort and covariance."""

    @abstractmethod
    def away(self, o: Float[Array, " k"]) -> float:
        """See Policy.distance."""

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
        """See Policy."""
        if step % self.every == 0:
            self._now = self.at(self._seen(x))
        return self._now

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy."""
        return self.away(self._seen(x))

    def numbers(self) -> dict[str, Array]:
        """What a file holds."""
        return {"kind": np.array(self.KIND), **names_of(self.robot), "every": np.array(self.every), **self.arrays}

    def _seen(self, x: Array) -> Array:
        if self.target is None:
            raise ConfigError("it has no target")
        return self.view(x, self.target)[self.view.own]
