"""A cost that is quadratic as it stands."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_ros.types import QuadraticCost


@dataclass(frozen=True)
class Quadratic:
    """A Cost that is a QuadraticCost: its own expansion. Fields as there, batch axes allowed."""

    quadratic: QuadraticCost

    def evaluate(self, x: Tensor, u: Tensor) -> Tensor:
        """x (*b, T + 1, n), u (*b, T, m) -> (*b,); the last step has u = 0, so that only its x part counts."""
        z = torch.cat([x, torch.nn.functional.pad(u, (0, 0, 0, 1))], -1)
        q = self.quadratic
        steps = 0.5 * (z * (q.C @ z.unsqueeze(-1)).squeeze(-1)).sum(-1) + (q.c * z).sum(-1) + q.const
        return steps.sum(-1)

    def quadratize(self, x: Tensor, u: Tensor) -> QuadraticCost:
        """The same everywhere, with the batch of x."""
        q, batch = self.quadratic, x.shape[:-2]
        return QuadraticCost(q.C.expand(*batch, *q.C.shape[-3:]), q.c.expand(*batch, *q.c.shape[-2:]),
                             q.const.expand(*batch, *q.const.shape[-1:]))
