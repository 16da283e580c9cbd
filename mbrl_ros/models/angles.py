"""Coordinates that are angles: a regression sees their sine and cosine, the state keeps the angle."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_ros.models.features import FeatureModel


@dataclass(frozen=True)
class AngleModel(FeatureModel):
    """A FeatureModel whose every coordinate is fitted, with w = [x, sines in place of angles; cosines; u]."""

    angles: tuple[int, ...] = ()  # rows of x [rad]

    def w(self, x: Tensor, u: Tensor) -> Tensor:
        """The regressors (*b, n + k + m) for k angles."""
        at, z = list(self.angles), x.clone()
        z[..., at] = x[..., at].sin()
        return torch.cat([z, x[..., at].cos(), u], -1)

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """See FeatureModel."""
        at, n, k = list(self.angles), x.shape[-1], len(self.angles)
        y, J = self.regression.jacobian(self.w(x, u))
        by_x, by_cosine, by_u = J[..., :n].clone(), J[..., n:n + k], J[..., n + k:]
        s, c = x[..., at].sin().unsqueeze(-2), x[..., at].cos().unsqueeze(-2)
        by_x[..., at] = by_x[..., at] * c - by_cosine * s
        return self.next_state(x, u, y), self.features.lift_matrix(torch.cat([by_x, by_u], -1))
