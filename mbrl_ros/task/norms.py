"""Norms: what a residual r of so much costs, entry by entry.

The quadratic expansion of a cost is Gauss-Newton in the residuals, so a norm says its curvature itself; that must not
be negative, and may be larger than the second derivative. Norms that the compiled kernel has say by which code.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.config import param
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Norm(Protocol):
    """Parameters of one norm, and the norm itself, entry by entry.

    `code` is (width, dead) as in cost.ResidualCost where the compiled kernel has the norm; missing: it has not.
    """

    def value(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]: ...

    def slope(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]: ...

    def curvature(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]: ...


def values(r: Float[Array, " *r"], width: Float[Array, "..."], dead: Bool[Array, "..."]) -> Float[Array, " *r"]:
    """Of the norms that have a code, width and dead being those of the last axis of r, or of all of it; in torch or
    numpy."""
    of: Any = torch if isinstance(r, Tensor) else np
    quadratic, smooth, edge, beyond = _parts(r, width, dead)
    if bool(quadratic.all()):
        return 0.5 * r * r
    return of.where(smooth, of.sqrt(r * r + edge * edge) - edge, 0.5 * beyond * beyond)


def slopes(r: Float[Tensor, " *r"], width: Float[Tensor, "..."], dead: Bool[Tensor, "..."]
           ) -> tuple[Float[Tensor, " *r"], Float[Tensor, " *r"]]:
    """Slope and curvature of the norms that have a code."""
    quadratic, smooth, edge, beyond = _parts(r, width, dead)
    if bool(quadratic.all()):
        return r, torch.ones_like(r)
    root = torch.where(smooth, torch.sqrt(r * r + edge * edge), 1.0)
    curvature = torch.where(smooth, 1.0 / root, ((beyond != 0) | quadratic).to(r.dtype))
    return torch.where(smooth, r / root, beyond), curvature


def _parts(r: Array, width: Array, dead: Array) -> tuple[Array, Array, Array, Array]:
    """Which are quadratic, which smooth, the positive width, and how far r is outside the dead zone."""
    of: Any = torch if isinstance(r, Tensor) else np
    quadratic = of.isinf(width)
    edge = of.where(quadratic, 0.0, abs(width))  # the quadratic norm is that with a dead zone of no width
    beyond = r - r.clip(-edge, edge)
    one_sided = dead & (width <= 0)
    return quadratic, ~(quadratic | dead), edge, of.where(one_sided, of.where(beyond > 0, beyond, 0.0 * beyond), beyond)


class Coded(Protocol):
    """A norm that the compiled kernel has; what is left to say is its code."""

    @property
    def code(self) -> tuple[float, bool]:
        """(width, dead), see cost.ResidualCost."""

    def _code(self, r: Tensor) -> tuple[Tensor, Tensor]:
        width, dead = self.code
        return torch.tensor(width, dtype=r.dtype, device=r.device), torch.tensor(dead, device=r.device)

    def value(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]:
        return values(r, *self._code(r))

    def slope(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]:
        return slopes(r, *self._code(r))[0]

    def curvature(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]:
        return slopes(r, *self._code(r))[1]


@dataclass(frozen=True)
class QuadraticNorm(Coded):
    """r^2 / 2."""

    @property
    def code(self) -> tuple[float, bool]:
        return math.inf, False


@dataclass(frozen=True)
class SmoothAbs(Coded):
    """sqrt(r^2 + width^2) - width: its curvature is 1 / sqrt(r^2 + width^2), a bound on the second derivative."""

    width: float = param(0.01, "Below which the norm is round, in the unit of the residual", 1e-6, 10.0)

    @property
    def code(self) -> tuple[float, bool]:
        return self.width, False


@dataclass(frozen=True)
class DeadZone(Coded):
    """(|r| - width)^2 / 2 where |r| > width, else 0."""

    width: float = param(0.01, "Up to which nothing is paid, in the unit of the residual", 1e-6, 10.0)

    @property
    def code(self) -> tuple[float, bool]:
        return self.width, True


@dataclass(frozen=True)
class Hinge(Coded):
    """(r - width)^2 / 2 where r > width, else 0: one-sided, for what must not be exceeded."""

    width: float = param(0.0, "Up to which nothing is paid, in the unit of the residual", 0.0, 10.0)

    @property
    def code(self) -> tuple[float, bool]:
        return -self.width, True


@dataclass(frozen=True)
class Logarithm:
    """square r^2 / 2 + log(1 + r^2 / width^2): steep to the last, for what has to fit (Levine et al. 2016).

    Its curvature is slope / r: that parabola touches the norm at r and lies above it elsewhere, for the logarithm
    is concave in r^2. By its second derivative, negative from `width` on, a step would lead far beyond the goal.
    """

    width: float = param(0.003, "Below which the norm is round, in the unit of the residual", 1e-6, 10.0)
    square: float = param(1.0, "What the quadratic part counts", 0.0, 1e6)

    def value(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]:
        return 0.5 * self.square * r * r + torch.log1p((r / self.width) ** 2)

    def slope(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]:
        return self.square * r + 2 * r / (r * r + self.width**2)

    def curvature(self, r: Float[Tensor, " *r"]) -> Float[Tensor, " *r"]:
        return self.square + 2 / (r * r + self.width**2)
