"""The policy of an actor-critic, played by the ring without torch: with limits and a noise of its own.

    o = [positions and velocities of joints; target - tool],   (mu, log sigma) = a network with ReLU of o
    u = unit tanh(mu),   Sigma = diag(unit (1 - tanh^2 mu) sigma)^2

Sigma is that of unit tanh(mu + sigma eps) to first order. An effort lasts for `every` periods, as long as a step of the
environment in which it was learned. `mean`, `scale` and `whiten` say, as those of network_policy.py, how far an
observation is from what it was learned from.
"""
from __future__ import annotations

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

KIND = "actor"  # of policy files
LOG_STD = (-20.0, 2.0)  # of log sigma


class ActorPolicy:
    """A Policy of this robot; `target` (3,) [m] is set by whoever plays it. Raises ConfigError or MessageError for
    arrays of another robot or period, of wrong shapes, or not finite."""

    horizon = None

    def __init__(self, arrays: Mapping[str, Array], robot: Robot):
        self.view, self.robot, m = View(robot), robot, robot.m
        check_names(arrays, robot)
        self.every, k = int(arrays["every"]), len(self.view.own)
        if self.every < 1:
            raise ConfigError(f"policy: every: expected at least one period, got {self.every}")
        self._layers = sum(name.startswith("W") for name in arrays)
        widths = [k, *(np.size(arrays[f"b{i}"]) for i in range(self._layers - 1)), 2 * m]
        shapes: dict[str, tuple[int, ...]] = {"unit": (m,), "mean": (k,), "scale": (k,), "whiten": (k, k)}
        for i in range(self._layers):
            shapes |= {f"W{i}": (widths[i], widths[i + 1]), f"b{i}": (widths[i + 1],)}
        self.arrays = {name: sane(f"policy: {name}", expect(f"policy: {name}", as_array(arrays[name]), shape),
                                  largest=np.inf) for name, shape in shapes.items()}
        if not (self.arrays["scale"] > 0).all():
            raise ConfigError("policy: expected positive scales")
        self.target: Array | None = None
        self._effort, self._sigma = np.zeros(m), np.zeros((m, m))

    def act(self, x: Float[Array, " n"], step: int) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
        """See Policy."""
        if step % self.every == 0:
            h, a = self._seen(x), self.arrays
            for i in range(self._layers):
                h = a[f"b{i}"] + np.maximum(h, 0.0 if i else -np.inf) @ a[f"W{i}"]
            mean, log_std = np.tanh(h[: self.robot.m]), h[self.robot.m :]
            self._effort = a["unit"] * mean
            self._sigma = np.diag(np.square(a["unit"] * (1.0 - mean**2) * np.exp(np.clip(log_std, *LOG_STD))))
        return self._effort, self._sigma

    def distance(self, x: Float[Array, " n"], step: int) -> float:
        """See Policy; of the axis of what it was learned from along which it is furthest."""
        a = self.arrays
        return float(np.abs(a["whiten"] @ ((self._seen(x) - a["mean"]) / a["scale"])).max())

    def numbers(self) -> dict[str, Array]:
        """What a file holds."""
        return {"kind": np.array(KIND), **names_of(self.robot), "every": np.array(self.every), **self.arrays}

    def _seen(self, x: Array) -> Array:
        if self.target is None:
            raise ConfigError("it has no target")
        return self.view(x, self.target)[self.view.own]
