"""A policy of radial basis functions, as PILCO makes it, played by the ring without torch.

    u = unit squash(W exp(-1/2 |rate o - centre_i|^2) + linear o + bias)

`mean` and `spread` are of the o that it was made for, none of which was further than TRAINED of those spreads.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.ring.joint_policy import JointPolicy, Shapes
from mbrl_ros.ring.network_policy import TRAINED
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float


class RadialPolicyOfRing(JointPolicy):
    """See JointPolicy."""

    KIND, POSITIVE = "radial", "spread"

    def shapes(self, arrays: Mapping[str, Array]) -> Shapes:
        """See JointPolicy."""
        M, m, k = len(np.atleast_1d(arrays["centres"])), self.robot.m, len(self.view.own)
        return {"centres": (M, k), "rate": (k,), "weights": (m, M), "linear": (m, k), "bias": (m,), "unit": (m,),
                "mean": (k,), "spread": (k,)}

    def at(self, o: Float[Array, " k"]) -> tuple[Float[Array, " m"], None]:
        """See JointPolicy."""
        a = self.arrays
        z = a["weights"] @ np.exp(-0.5 * np.square(a["rate"] * o - a["centres"]).sum(-1)) + a["linear"] @ o + a["bias"]
        effort: Array = a["unit"] * (9 * np.sin(z) + np.sin(3 * z)) / 8
        return effort, None

    def away(self, o: Float[Array, " k"]) -> float:
        """See JointPolicy; of the coordinate that is furthest."""
        a = self.arrays
        return float((np.abs(o - a["mean"]) / a["spread"]).max())


def spread_of(seen: Float[Array, "N k"]) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """`mean` and `spread` of these observations."""
    mean = seen.mean(0)
    return mean, np.maximum(np.abs(seen - mean).max(0) / TRAINED, 1e-6)
