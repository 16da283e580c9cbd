"""What every planner and prior asks of a model of the dynamics.

A model maps [x; u] to a Gaussian over x'. Inputs and outputs are torch tensors with any leading batch dimensions.
"""
from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from mbrl_ros.types import Gaussian, LinearGaussianDynamics


class DynamicsModel(Protocol):
    """p(x' | x, u); differentiable where the model is."""

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """x (*b, n), u (*b, m) -> Gaussian over x' with mean (*b, n), cov (*b, n, n)."""


def predict_mean(model: Any, x: Tensor, u: Tensor) -> Tensor:
    """E[x'] (*b, n) without the covariance, which planners do not need."""
    if isinstance(model, LinearGaussianDynamics):
        xu = torch.cat([x, u], -1)
        return (model.F @ xu.unsqueeze(-1)).squeeze(-1) + model.f
    if hasattr(model, "mean"):
        mean: Tensor = model.mean(x, u)
        return mean
    return model.predict(x, u).mean


def linearize(model: Any, x: Tensor, u: Tensor) -> LinearGaussianDynamics:
    """First-order expansion of `model` about every (x, u): F (*b, n, n + m), f (*b, n), Sigma (*b, n, n).

    A LinearGaussianDynamics is its own expansion. A model with a method `jacobian(x, u) -> (mean, F)` is asked for it;
    any other is differentiated in reverse mode.
    """
    if isinstance(model, LinearGaussianDynamics):
        return model
    Sigma = model.predict(x, u).cov
    if hasattr(model, "jacobian"):
        mean, F = model.jacobian(x, u)
    else:
        mean, F = _reverse_mode(model, x, u)
    xu = torch.cat([x, u], -1)
    return LinearGaussianDynamics(F, mean - (F @ xu.unsqueeze(-1)).squeeze(-1), Sigma)


def _reverse_mode(model: Any, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    n = x.shape[-1]
    xu = torch.cat([x, u], -1).detach().requires_grad_(True)
    mean = predict_mean(model, xu[..., :n], xu[..., n:])
    rows = [torch.autograd.grad(mean[..., i].sum(), xu, retain_graph=True)[0] for i in range(n)]
    return mean.detach(), torch.stack(rows, -2)
