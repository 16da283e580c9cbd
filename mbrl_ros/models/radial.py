"""A policy of radial basis functions, squashed: what PILCO learns.

    a = squash(sum_i weights_i exp(-1/2 |rate (s - centre_i) / scale|^2)),   squash(z) = (9 sin z + sin 3z) / 8

s is what it sees of a state, `scale` its deviations in the first data, a in [-1, 1].
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

CALM = 0.3  # deviation of the first weights


@dataclass(frozen=True)
class RadialPolicy:
    """`centres` and `log_rate` are of s over its scale."""

    centres: Float[Tensor, "M ds"]
    log_rate: Float[Tensor, " ds"]
    weights: Float[Tensor, "m M"]
    scale: Float[Tensor, " ds"]

    @classmethod
    def drawn(cls, seen: Float[Tensor, "N ds"], m: int, bases: int, rng: np.random.Generator,
              least: Float[Tensor, " ds"]) -> RadialPolicy:
        """With centres that were seen, a lengthscale of as much as they are apart, at least of `least`, and small
        weights."""
        scale = torch.maximum(torch.as_tensor(scale_of(seen.numpy())[1]), least)
        rows, ds = torch.as_tensor(rng.choice(len(seen), bases, replace=len(seen) < bases)), seen.shape[-1]
        return cls(seen[rows] / scale, torch.full((ds,), -0.5 * float(np.log(ds))).double(),
                   torch.as_tensor(CALM * rng.standard_normal((m, bases))), scale)

    @property
    def kernels(self) -> Kernels:
        """What is squashed, as a function of s."""
        m, rate = len(self.weights), self.log_rate.exp()
        zeros = self.weights.new_zeros
        return Kernels(zeros(m, len(rate)), zeros(m), self.weights, (self.centres * rate).expand(m, -1, -1),
                       (rate / self.scale).expand(m, -1))

    def __call__(self, s: Float[Tensor, "*b ds"]) -> Float[Tensor, "*b m"]:
        """The action."""
        rate = self.log_rate.exp()
        x, c = s / self.scale * rate, self.centres * rate
        log_k = x @ c.mT - 0.5 * x.square().sum(-1, keepdim=True) - 0.5 * c.square().sum(-1)
        return squash(log_k.exp() @ self.weights.mT)

    def moments(self, s: Gaussian) -> Moments:
        """Of what is squashed."""
        return self.kernels.moments(s)

    def parameters(self) -> Float[Tensor, " p"]:
        """All that is learned, in a row."""
        return torch.cat([self.centres.flatten(), self.log_rate, self.weights.flatten()])

    def with_parameters(self, p: Float[Tensor, " p"]) -> RadialPolicy:
        """The same with others."""
        parts = p.split([self.centres.numel(), self.log_rate.numel(), self.weights.numel()])
        return replace(self, centres=parts[0].reshape(self.centres.shape), log_rate=parts[1],
                       weights=parts[2].reshape(self.weights.shape))
