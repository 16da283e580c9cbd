"""A cost that is quadratic as it stands."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.types import Array, QuadraticCost


def joined(x: Array, u: Array) -> Array:
    """[x; u] (*b, T + 1, n + m) of x (*b, T + 1, n), u (*b, T, m); u = 0 at the last step, of which only x counts."""
    if isinstance(x, Tensor):
        return torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
    return np.concatenate([x, np.concatenate([u, np.zeros_like(u[..., :1, :])], -2)], -1)


@dataclass(frozen=True)
class Quadratic:
    """A Cost that is a QuadraticCost: its own expansion. Fields as there, batch axes allowed."""

    quadratic: QuadraticCost

    def evaluate(self, x: Array, u: Array) -> Array:
        """x (*b, T + 1, n), u (*b, T, m) -> (*b,), in torch or numpy."""
        z, q = joined(x, u), self.quadratic
        steps = 0.5 * (z * (q.C @ z[..., None])[..., 0]).sum(-1) + (q.c * z).sum(-1) + q.const
        return steps.sum(-1)

    def quadratize(self, x: Tensor, u: Tensor) -> QuadraticCost:
        """The same everywhere, with the batch of x."""
        q, batch = self.quadratic, x.shape[:-2]
        return QuadraticCost(q.C.expand(*batch, *q.C.shape[-3:]), q.c.expand(*batch, *q.c.shape[-2:]),
                             q.const.expand(*batch, *q.const.shape[-1:]))
