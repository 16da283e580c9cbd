"""The policy of an actor-critic, played by the ring without torch: with limits and a noise of its own.

    (mu, log sigma) = a network with ReLU of o,   u = unit tanh(mu),   Sigma = diag(unit (1 - tanh^2 mu) sigma)^2

Sigma is that of unit tanh(mu + sigma eps) to first order. `mean`, `scale` and `whiten` say, as those of
network_policy.py, how far an observation is from what it was learned from.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.ring.joint_policy import JointPolicy, Shapes
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

LOG_STD = (-20.0, 2.0)  # of log sigma


class ActorPolicy(JointPolicy):
    """See JointPolicy."""

    KIND, POSITIVE = "actor", "scale"

    def shapes(self, arrays: Mapping[str, Array]) -> Shapes:
        """See JointPolicy; as many layers as there are."""
        self._layers, m, k = sum(name.startswith("W") for name in arrays), self.robot.m, len(self.view.own)
        widths = [k, *(np.size(arrays[f"b{i}"]) for i in range(self._layers - 1)), 2 * m]
        shapes: Shapes = {"unit": (m,), "mean": (k,), "scale": (k,), "whiten": (k, k)}
        for i in range(self._layers):
            shapes |= {f"W{i}": (widths[i], widths[i + 1]), f"b{i}": (widths[i + 1],)}
        return shapes

    def at(self, o: Float[Array, " k"]) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
        """See JointPolicy."""
        h, a = o, self.arrays
        for i in range(self._layers):
            h = a[f"b{i}"] + (np.maximum(h, 0.0) if i else h) @ a[f"W{i}"]
        mean, log_std = np.tanh(h[: self.robot.m]), h[self.robot.m :]
        deviation = a["unit"] * (1.0 - mean**2) * np.exp(np.clip(log_std, *LOG_STD))
        return a["unit"] * mean, np.diag(np.square(deviation))

    def away(self, o: Float[Array, " k"]) -> float:
        """See JointPolicy; of the axis of what it was learned from along which it is furthest."""
        a = self.arrays
        return float(np.abs(a["whiten"] @ ((o - a["mean"]) / a["scale"])).max())
