"""A cost that is quadratic as it stands."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.types import Array, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Float


def joined(x: Float[Array, "*b T+1 n"], u: Float[Array, "*b T m"]) -> Float[Array, "*b T+1 p"]:
    """[x; u]; u = 0 at the last step, of which only x counts."""
    if isinstance(x, Tensor):
        return torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
    return np.concatenate([x, np.concatenate([u, np.zeros_like(u[..., :1, :])], -2)], -1)


@dataclass(frozen=True)
class Quadratic:
    """A Cost that is a QuadraticCost: its own expansion. Fields as there, batch axes allowed."""

    quadratic: QuadraticCost

    def evaluate(self, x: Float[Array, "*b T+1 n"], u: Float[Array, "*b T m"]) -> Float[Array, " *b"]:
        """Total cost, in torch or numpy."""
        z, q = joined(x, u), self.quadratic
        steps = 0.5 * (z * (q.C @ z[..., None])[..., 0]).sum(-1) + (q.c * z).sum(-1) + q.const
        return steps.sum(-1)

    def quadratize(self, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> QuadraticCost:
        """The same everywhere, with the batch of x."""
        q, batch = self.quadratic, x.shape[:-2]
        return QuadraticCost(q.C.expand(*batch, *q.C.shape[-3:]), q.c.expand(*batch, *q.c.shape[-2:]),
                             q.const.expand(*batch, *q.const.shape[-1:]))
