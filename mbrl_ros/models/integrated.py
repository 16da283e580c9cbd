"""Speeds are learned, positions follow: y = [h (v + dv / 2); dv] over a step of h [s], for a regression of dv alone.

Half as many processes, and a position that cannot disagree with its speed (Amadio et al. 2022, speed integration).
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.models.features import Data
from mbrl_ros.models.gp import GaussianProcess


@dataclass(frozen=True)
class Integrated:
    """Where y and w begin with k positions and their k speeds; `w` may have sines in place of angles."""

    speeds: GaussianProcess  # w -> dv
    period: float  # [s]

    @classmethod
    def fit(cls, data: Data, period: float, config: GaussianProcess.Config, seed: int) -> Integrated:
        """Of all of y, the speeds are used."""
        return cls(GaussianProcess.fit(replace(data, y=data.y[:, data.y.shape[-1] // 2:]), config, seed), period)

    def whole(self, w: Float[Tensor, "*b dw"], dv: Float[Tensor, "*b k"]) -> Float[Tensor, "*b dy"]:
        """y where the speeds change by dv."""
        k = dv.shape[-1]
        return torch.cat([self.period * (w[..., k:2 * k] + 0.5 * dv), dv], -1)

    def mean(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "*b dy"]:
        """See Regression."""
        return self.whole(w, self.speeds.mean(w))

    def outcome(self, w: Float[Tensor, "*b dw"], noise: Float[Tensor, "*b k"]) -> Float[Tensor, "*b dy"]:
        """A draw of y, with noise and doubt, from standard normal numbers."""
        dv = self.speeds.predict(w)
        return self.whole(w, dv.mean + dv.cov.diagonal(dim1=-2, dim2=-1).sqrt() * noise)
