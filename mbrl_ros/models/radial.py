"""A policy of radial basis functions and a plane, squashed: what PILCO learns.

    a = squash(linear s / scale + bias + sum_i weights_i exp(-1/2 |rate (s - centre_i) / scale|^2))
    squash(z) = (9 sin z + sin 3z) / 8

s is what it sees of a state, `scale` its deviations in the first data, a in [-1, 1]. The plane, which the first policy
has not, is what holds seven joints: every basis function of 21 numbers is zero nearly everywhere.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.models.features import scale_of
from mbrl_ros.models.moments import Kernels, Moments, squash
from mbrl_ros.types import Gaussian

LEARNED = "centres", "log_rate", "weights", "linear", "bias"
CALM = 0.3  # deviation of the first weights


@dataclass(frozen=True)
class RadialPolicy:
    """`centres` and `log_rate` are of s over its scale."""

    centres: Float[Tensor, "M ds"]
    log_rate: Float[Tensor, " ds"]
    weights: Float[Tensor, "m M"]
    linear: Float[Tensor, "m ds"]
    bias: Float[Tensor, " m"]
    scale: Float[Tensor, " ds"]

    @classmethod
    def drawn(cls, seen: Float[Tensor, "N ds"], m: int, bases: int, rng: np.random.Generator,
              least: Float[Tensor, " ds"], lengthscale: float = 1.0) -> RadialPolicy:
        """With centres that were seen, a lengthscale of so much of what they are apart, which is at least `least`, and
        small weights."""
        scale = torch.maximum(torch.as_tensor(scale_of(seen.numpy())[1]), least)
        rows, ds = torch.as_tensor(rng.choice(len(seen), bases, replace=len(seen) < bases)), seen.shape[-1]
        return cls(seen[rows] / scale, torch.full((ds,), -float(np.log(lengthscale * ds**0.5))).double(),
                   torch.as_tensor(CALM * rng.standard_normal((m, bases))), torch.zeros(m, ds).double(),
                   torch.zeros(m).double(), scale)

    @property
    def kernels(self) -> Kernels:
        """What is squashed, as a function of s."""
        m, rate = len(self.weights), self.log_rate.exp()
        return Kernels(self.linear / self.scale, self.bias, self.weights, (self.centres * rate).expand(m, -1, -1),
                       (rate / self.scale).expand(m, -1))

    def __call__(self, s: Float[Tensor, "*b ds"]) -> Float[Tensor, "*b m"]:
        """The action."""
        rate = self.log_rate.exp()
        x, c = s / self.scale * rate, self.centres * rate
        log_k = x @ c.mT - 0.5 * x.square().sum(-1, keepdim=True) - 0.5 * c.square().sum(-1)
        return squash(log_k.exp() @ self.weights.mT + s / self.scale @ self.linear.mT + self.bias)

    def moments(self, s: Gaussian) -> Moments:
        """Of what is squashed."""
        return self.kernels.moments(s)

    def parameters(self) -> Float[Tensor, " p"]:
        """All that is learned, in a row."""
        return torch.cat([getattr(self, name).flatten() for name in LEARNED])

    def with_parameters(self, p: Float[Tensor, " p"]) -> RadialPolicy:
        """The same with others."""
        shapes = {name: getattr(self, name).shape for name in LEARNED}
        parts = p.split([shape.numel() for shape in shapes.values()])
        return replace(self, **{name: part.reshape(shapes[name]) for name, part in zip(LEARNED, parts, strict=True)})
