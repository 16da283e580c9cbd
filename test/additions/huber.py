from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_ros.config import param


@dataclass(frozen=True)
class Huber:
    """r^2 / 2 up to |r| = corner, and a straight line beyond (Huber 1964)."""

    corner: float = param(0.1, "Where the line begins, in the unit of the residual", 1e-6, 10.0)

    def value(self, r: Tensor) -> Tensor:
        inside = r.clamp(-self.corner, self.corner)
        return inside * (r - 0.5 * inside)

    def slope(self, r: Tensor) -> Tensor:
        return r.clamp(-self.corner, self.corner)

    def curvature(self, r: Tensor) -> Tensor:
        return torch.ones_like(r) * (r.abs() <= self.corner)
