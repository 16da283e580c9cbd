"""A policy of radial basis functions, as PILCO makes it, played by the ring without torch.

    o = [positions and velocities of joints; target - tool],   u = unit squash(W exp(-1/2 |rate o - centre_i|^2))

An effort lasts for `every` periods, as long as a step of the model in which it was made. `mean` and `spread` are of
the o that it was made for, none of which was further than TRAINED of those spreads.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import as_array, expect, sane
from mbrl_ros.ring.network_policy import TRAINED, View, check_names, names_of
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

KIND = "radial"  # of policy files


class RadialPolicyOfRing:
    """A Policy of this robot; `target` (3,) [m] is set by whoever plays it. Raises ConfigError or MessageError for
    arrays of another robot or period, of wrong shapes, or not finite."""

    horizon = None

    def __init__(self, arrays: Mapping[str, Array], robot: Robot):
        self.view, self.robot, m = View(robot), robot, robot.m
        check_names(arrays, robot)
        self.every, M, k = int(arrays["every"]), len(np.atleast_1d(arrays["centres"])), len(self.view.own)
        if self.every < 1:
            raise ConfigError(f"policy: every: expected at least one period, got {self.every}")
        shapes = {"centres": (M, k), "rate": (k,), "weights": (m, M), "unit": (m,), "mean": (k,), "spread": (k,)}
        self.arrays = {name: sane(f"policy: {name}", expect(f"policy: {name}", as_array(arrays[name]), shape),
                                  largest=np.inf) for name, shape in shapes.items()}
        if not (self.arrays["spread"] > 0).all():
            raise ConfigError("policy: expected positive spreads")
        self.target: Array | None = None
        self._effort = np.zeros(m)

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], None]:
        """See Policy."""
        if step % self.every == 0:
            a = self.arrays
            z = a["weights"] @ np.exp(-0.5 * np.square(a["rate"] * self._seen(x) - a["centres"]).sum(-1))
            self._effort = a["unit"] * (9 * np.sin(z) + np.sin(3 * z)) / 8
        return self._effort, None

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy; of the coordinate that is furthest."""
        a = self.arrays
        return float((np.abs(self._seen(x) - a["mean"]) / a["spread"]).max())

    def numbers(self) -> dict[str, Array]:
        """What a file holds."""
        return {"kind": np.array(KIND), **names_of(self.robot), "every": np.array(self.every), **self.arrays}

    def _seen(self, x: Array) -> Array:
        if self.target is None:
            raise ConfigError("it has no target")
        return self.view(x, self.target)[self.view.own]


def spread_of(seen: Float[Array, "N k"]) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """`mean` and `spread` of these observations."""
    mean = seen.mean(0)
    return mean, np.maximum(np.abs(seen - mean).max(0) / TRAINED, 1e-6)
