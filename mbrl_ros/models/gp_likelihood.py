"""Hyperparameters of Gaussian processes by GPyTorch: those that make the data likeliest.

Ascends the exact log marginal likelihood of random subsets of the data, another at every step (Chen et al. 2020,
"Stochastic gradient descent in correlated settings"), all outputs as one batch: the cost does not grow with the data.
"""
from __future__ import annotations

from typing import Any

import gpytorch
import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.types import Array

LEAST_NOISE = 1e-3  # of the variance of r
START = 1.5  # lengthscale per root of dw, with inputs in units of their deviations: nearly linear over the data


class _Processes(gpytorch.models.ExactGP):
    """Independent processes with mean zero and one lengthscale per input, a batch over outputs."""

    def __init__(self, x: Tensor, r: Tensor):
        outputs = torch.Size([len(r)])
        noise = gpytorch.constraints.GreaterThan(LEAST_NOISE)
        super().__init__(x, r, gpytorch.likelihoods.GaussianLikelihood(noise_constraint=noise, batch_shape=outputs))
        rbf = gpytorch.kernels.RBFKernel(ard_num_dims=x.shape[-1], batch_shape=outputs)
        self.mean_module = gpytorch.means.ZeroMean(batch_shape=outputs)
        self.covar_module = gpytorch.kernels.ScaleKernel(rbf, batch_shape=outputs)
        self.to(x.dtype)
        rbf.lengthscale = START * x.shape[-1] ** 0.5
        self.covar_module.outputscale = 0.5
        self.likelihood.noise = 0.5

    def forward(self, x: Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def maximize(s: Float[Array, "N dw"], r: Float[Array, "N dy"], config: Any, seed: int) -> tuple[Float[Array, "dy dw"],
             Float[Array, " dy"], Float[Array, " dy"]]:
    """Rates (dy, dw), amplitudes and noises (dy,) of all outputs, from s (N, dw) and r (N, dy) in their deviations."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.as_tensor(s), torch.as_tensor(r).T.contiguous()
    N, dy = r.shape

    def subset() -> tuple[Tensor, Tensor]:
        rows = torch.randperm(N, generator=generator)[:config.batch]
        return inputs[rows].expand(dy, -1, -1), targets[:, rows]

    processes = _Processes(*subset())
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(processes.likelihood, processes)
    optimizer = torch.optim.Adam(processes.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.steps))
    processes.train()
    for _ in range(config.steps):
        x, y = subset()
        processes.set_train_data(x, y, strict=False)
        loss = -likelihood(processes(x), y).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    kernel = processes.covar_module
    rate, amplitude, noise = (value.detach().numpy() for value in (
        1 / kernel.base_kernel.lengthscale[:, 0], kernel.outputscale, processes.likelihood.noise[:, 0]))
    return rate, amplitude, noise
