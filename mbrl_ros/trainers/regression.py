"""The regression under imitation, distillation and guided policy search: a network to efforts that are wanted exactly
as far as they matter.

    min_theta sum_i w_i (mu(o_i) - u_i)' P_i (mu(o_i) - u_i),    P_i = Q_uu or Sigma_i^-1

With P = Q_uu that is what the deviations from the planned efforts cost, to second order; with P = Sigma^-1 it is the KL
divergence of Gaussians, the network's from N(u_i, Sigma_i) (Levine & Abbeel 2014). Precisions far above the others
would leave nothing to be learned from those: w_i clips their size at CLIP times the median, as guided policy search
does. The covariance of the network that minimises the sum of divergences is the inverse of the mean precision.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mbrl_ros.gaussian import symmetrize
from mbrl_ros.models.linear import ridge
from mbrl_ros.trainers.network import PolicyNetwork
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float

CLIP = 2.0  # times the median size of precisions
LINEAR = 1e-3  # strength of the ridge regression where the network begins


class Wanted(NamedTuple):
    """What to do at N observations."""

    o: Float[Array, "N k"]
    u: Float[Array, "N m"]
    P: Float[Array, "N m m"]  # the larger, the less may be missing [1 / effort^2], up to a factor for all

    @classmethod
    def together(cls, parts: Sequence[Wanted]) -> Wanted:
        """All of them."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def clipped(P: Float[Array, "N m m"]) -> Float[Array, "N m m"]:
    """The precisions, none larger than CLIP times their median, where size is the trace."""
    size = np.trace(P, axis1=-2, axis2=-1)
    kept: Array = P * np.minimum(1.0, CLIP * np.median(size) / size)[:, None, None]
    return kept


def covariance(wanted: Wanted) -> Float[Array, "m m"]:
    """Of the network: the inverse of the mean precision."""
    inverse: Array = symmetrize(np.linalg.inv(wanted.P.mean(0)))
    return inverse


def regress(network: PolicyNetwork, wanted: Wanted, steps: int, batch: int, rate: float, seed: int) -> float:
    """So many steps of Adam from the weights as they are, of a rate that falls to zero; the root of the mean weighted
    square of what is missing then, in deviations of the efforts. What is trained the first time begins at the ridge
    regression."""
    first, deviation = not network.scaled, np.maximum(wanted.u.std(0), 1e-6)
    network.seen(wanted.o, deviation)
    unit, P = network.unit.numpy(), clipped(wanted.P)
    P = P * unit[:, None] * unit
    P = P / np.trace(P, axis1=-2, axis2=-1).mean()  # so that the loss is a mean square per effort
    if first:
        with torch.no_grad():
            z = (wanted.o - network.mean.numpy()) / network.scale.numpy()
            for parameter, value in zip((network.A, network.b), ridge(z, wanted.u / unit, LINEAR), strict=True):
                parameter.copy_(torch.as_tensor(value))
    o, u, weight = (torch.as_tensor(a) for a in (wanted.o, wanted.u, P))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))

    def loss(rows: torch.Tensor | slice) -> torch.Tensor:
        missing = (network(o[rows]) - u[rows]) / network.unit
        return (missing.unsqueeze(-2) @ weight[rows] @ missing.unsqueeze(-1)).mean()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(torch.randint(len(o), (min(batch, len(o)),), generator=generator)).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(loss(slice(None)).sqrt())
