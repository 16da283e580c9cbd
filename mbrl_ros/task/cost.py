"""The cost of one horizon: the sum over steps and terms of scale_t norm(r_t), and its Gauss-Newton expansion.

The compiled kernel takes the fields of a ResidualCost as numpy arrays.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mbrl_ros.task import norms
from mbrl_ros.task.norms import Norm
from mbrl_ros.task.quadratic import joined
from mbrl_ros.task.residuals import Curved, Window
from mbrl_ros.types import Array, QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(frozen=True)
class ResidualCost:
    """sum_t sum_j scale_tj norm_j(R_j xu_t - reference_tj), all residuals affine, all norms known to the kernel.

    width_j = inf marks the quadratic norm, dead_j the one with a dead zone of width_j, on one side only where width_j
    is not positive: from -width_j up; the others are smooth absolute values.
    """

    R: Float[Array, "k p"]
    reference: Float[Array, "steps k"]  # at T + 1 steps
    scale: Float[Array, "steps k"]
    width: Float[Array, " k"]
    dead: Bool[Array, " k"]
    names: tuple[str, ...] = ()  # of the term that each row is of

    def evaluate(self, x: Float[Array, "*b T+1 n"], u: Float[Array, "*b T m"]) -> Float[Array, " *b"]:
        """Total cost, in torch or numpy."""
        return self._by_row(x, u).sum(-1)

    def by_term(self, x: Float[Array, "T+1 n"], u: Float[Array, "T m"]) -> dict[str, float]:
        """Cost of every term; they add up to `evaluate`."""
        parts = dict.fromkeys(self.names, 0.0)
        for name, part in zip(self.names, self._by_row(x, u).tolist(), strict=True):
            parts[name] += part
        return parts

    def _by_row(self, x: Float[Array, "*b T+1 n"], u: Float[Array, "*b T m"]) -> Float[Array, "*b k"]:
        r = joined(x, u) @ self.R.T - self.reference
        return (self.scale * norms.values(r, self.width, self.dead)).sum(-2)

    def quadratize(self, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> QuadraticCost:
        """Expansion about x, u, in absolute coordinates."""
        r = joined(x, u) @ self.R.T - self.reference
        slope, curvature = norms.slopes(r, self.width, self.dead)
        return _expansion(self.R, r + self.reference, norms.values(r, self.width, self.dead), slope, curvature,
                          self.scale)


class CurvedTerm(NamedTuple):
    """A term that the kernel does not know, as its residual is not affine or its norm has no code."""

    name: str
    residual: Curved
    norm: Norm
    scale: Array  # (T + 1, 1) or (T + 1, k)


@dataclass(frozen=True)
class MixedCost:
    """A ResidualCost and terms beyond it, which may be any function."""

    rows: ResidualCost
    terms: tuple[CurvedTerm, ...]
    window: Window

    @property
    def beyond(self) -> str:
        """The names of the terms for which the compiled kernel does not apply."""
        return ", ".join(term.name for term in self.terms)

    def evaluate(self, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> Float[Tensor, " *b"]:
        """Total cost."""
        return self.rows.evaluate(x, u) + sum(self._beyond(x, u).values())

    def by_term(self, x: Float[Tensor, "T+1 n"], u: Float[Tensor, "T m"]) -> dict[str, float]:
        """Cost of every term; they add up to `evaluate`."""
        return {**self.rows.by_term(x, u), **{name: float(part) for name, part in self._beyond(x, u).items()}}

    def _beyond(self, x: Tensor, u: Tensor) -> dict[str, Tensor]:
        _, window, last = self._with(x, u)
        return {term.name: (torch.as_tensor(term.scale, device=x.device)
                            * term.norm.value(term.residual.value(x, last, window))).sum((-2, -1))
                for term in self.terms}

    def quadratize(self, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"]) -> QuadraticCost:
        """Expansion about x, u, residuals to first order, in absolute coordinates."""
        total, (xu, window, last) = self.rows.quadratize(x, u), self._with(x, u)
        for term in self.terms:
            r, J = term.residual.value(x, last, window).detach(), term.residual.jacobian(x, last, window)
            more = _expansion(J, (J @ xu.unsqueeze(-1)).squeeze(-1), term.norm.value(r), term.norm.slope(r),
                              term.norm.curvature(r), torch.as_tensor(term.scale, device=x.device))
            total = QuadraticCost(total.C + more.C, total.c + more.c, total.const + more.const)
        return total

    def _with(self, x: Tensor, u: Tensor) -> tuple[Tensor, Window, Tensor]:
        """xu, the window in tensors, and the efforts of all T + 1 steps."""
        xu = joined(x, u)
        return xu, self.window.tensors(x.device), xu[..., x.shape[-1] :]


def _expansion(J: Tensor, origin: Tensor, value: Tensor, slope: Tensor, curvature: Tensor,
               scale: Tensor) -> QuadraticCost:
    """Of norms about residuals whose derivative J is (k, n + m) or (*b, T + 1, k, n + m), with origin = J xu.

    norm(r + J d) ~ value + slope J d + curvature (J d)^2 / 2, rewritten about xu = 0, where J d = -origin.
    """
    weight = scale * curvature  # (*b, T + 1, k)
    C = J.mT @ (weight.unsqueeze(-1) * J)
    c = ((scale * slope - weight * origin).unsqueeze(-2) @ J).squeeze(-2)
    const = (scale * (value - slope * origin + 0.5 * curvature * origin**2)).sum(-1)
    return QuadraticCost(C, c, const)
