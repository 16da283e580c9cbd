"""Second derivatives of a model along a trajectory, contracted as DDP wants them.

Of the n Hessians of x' = f(x, u) only that of the scalar g' f is formed, g being the gradient of the value at the
nominal next state, which the backward pass knows when it comes to a step (Mayne 1966; Tassa, Erez & Todorov 2012,
equation 5).
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mbrl_ros.config import ConfigError
from mbrl_ros.models.dynamics import predict_mean
from mbrl_ros.types import LinearGaussianDynamics

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Curvature:
    """Of a model about states x (*b, T + 1, n) and efforts u (*b, T, m), zero for those problems that are not `on`."""

    def __init__(self, model: Any, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"],
                 on: Bool[Tensor, " *b"]) -> None:
        self.model, self.n, self.on = model, x.shape[-1], on[..., None, None]
        self.points = torch.cat([x[..., :-1, :], u], -1).detach().unbind(-2)  # T of (*b, n + m)

    def __call__(self, t: int, g: Float[Tensor, "*b n"]) -> Float[Tensor, "*b p p"]:
        """See hessian, at step t."""
        at = self.points[t]
        return torch.where(self.on, hessian(self.model, at[..., : self.n], at[..., self.n :], g), 0.0)


def curvature_of(model: Any, x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"], on: Bool[Tensor, " *b"]
                 ) -> Curvature | None:
    """None where the model is linear, or no problem asks for it."""
    none = isinstance(model, LinearGaussianDynamics) or not bool(on.any())
    return None if none else Curvature(model, x, u, on)


def hessian(model: Any, x: Float[Tensor, "*b n"], u: Float[Tensor, "*b m"], g: Float[Tensor, "*b n"]
            ) -> Float[Tensor, "*b p p"]:
    """d2 (g' f) / d[x; u]2: every direction is one row of a batch that is differentiated twice.

    Raises ConfigError where torch cannot differentiate the model.
    """
    at, n = torch.cat([x, u], -1).detach(), x.shape[-1]
    p = at.shape[-1]
    with torch.enable_grad():
        rows = at.expand(p, *at.shape).clone().requires_grad_(True)
        value = (g * predict_mean(model, rows[..., :n], rows[..., n:])).sum()
        if not value.requires_grad:
            raise ConfigError("ilqr.second_order: expected false with this model, whose mean torch does not "
                              "differentiate; it is for learned models of torch, such as ensemble, network and gp")
        slope = torch.autograd.grad(value, rows, create_graph=True)[0]
        if not slope.requires_grad:  # linear, as far as torch can see
            return at.new_zeros(*at.shape, p)
        directions = torch.eye(p, dtype=at.dtype, device=at.device).reshape(p, *[1] * (at.ndim - 1), p)
        H = torch.autograd.grad(slope, rows, directions.expand_as(slope))[0].movedim(0, -2)
    return 0.5 * (H + H.mT)
