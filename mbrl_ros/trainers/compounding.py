"""How the error of rollouts grows with their length: forwards alone, and both ways from the middle.

Of real windows x_0..x_L under the actions a_0..a_{L-1} that were taken: forwards from x_0, or from x_{L/2} half of it
forwards and half backwards, by the mean of the models. The error is the mean over the L predicted states of the
distance to the real one, in deviations of the data (Lai et al. 2020, section 5).
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mbrl_ros.models.rollout import MEAN, follow, stepper

if TYPE_CHECKING:
    from jaxtyping import Float


def forwards(model: Any, z: Float[Tensor, "B L+1 k"], a: Float[Tensor, "B L m"], scale: Float[Tensor, " k"]) -> float:
    """From the first state on."""
    return _error(follow(stepper(model, MEAN), z[:, 0], a)[:, 1:], z[:, 1:], scale)


def both_ways(model: Any, before: Any, z: Float[Tensor, "B L+1 k"], a: Float[Tensor, "B L m"],
              scale: Float[Tensor, " k"]) -> float:
    """From the middle; `before` is the model backwards."""
    middle = a.shape[1] // 2
    later = follow(stepper(model, MEAN), z[:, middle], a[:, middle:])[:, 1:]
    earlier = follow(stepper(before, MEAN), z[:, middle], a[:, :middle].flip(1))[:, 1:].flip(1)
    return _error(torch.cat([earlier, later], 1), torch.cat([z[:, :middle], z[:, middle + 1 :]], 1), scale)


def _error(of: Tensor, true: Tensor, scale: Tensor) -> float:
    return float(torch.linalg.vector_norm((of - true) / scale, dim=-1).mean())


def windows(z: Float[Tensor, "N k"], after: Float[Tensor, "N k"], a: Float[Tensor, "N m"],
            length: int) -> tuple[Float[Tensor, "B T k"], Float[Tensor, "B L m"]]:
    """Those of transitions in a row that are of one trajectory, states (T = L + 1) and actions; none overlap."""
    whole, i = [], 0
    while i + length <= len(z):
        breaks = torch.nonzero((z[i + 1 : i + length] != after[i : i + length - 1]).any(-1))
        if len(breaks):
            i += int(breaks[-1]) + 1
            continue
        whole.append(i)
        i += length
    rows = torch.tensor(whole, dtype=torch.long)[:, None] + torch.arange(length)
    return torch.cat([z[rows], after[rows[:, -1:]]], 1), a[rows]
