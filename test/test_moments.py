"""Moments of functions of a Gaussian: against a million draws, in their limits, and their gradients."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from regressions import planar_arm

from mbrl_ros.models import moments as of
from mbrl_ros.models.gp import GaussianProcess
from mbrl_ros.types import Gaussian

torch.set_num_threads(1)
DRAWS, CHUNK = 1_000_000, 50_000


def wide(n, seed=0, scale=0.6):
    generator = torch.Generator().manual_seed(seed)
    root = scale * torch.randn(n, n, generator=generator, dtype=torch.float64) / n**0.5
    return Gaussian(0.5 * torch.randn(n, generator=generator, dtype=torch.float64), root @ root.mT)


def draws(x, seed=0, count=DRAWS):
    """Of N(x.mean, x.cov), with exactly those moments."""
    z = torch.randn(count // 2, len(x.mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = torch.cat([z, -z])
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(z.mT @ z / len(z)), z.mT, upper=False).mT
    return x.mean + z @ torch.linalg.cholesky(x.cov).mT


def equal(found, x, inputs, y, more=0.0, bound=0.01):
    """Mean, covariance and input-output covariance within a part of the deviations."""
    mean = y.mean(0)
    cov = (y - mean).mT @ (y - mean) / len(y) + more
    cross = (y - mean).mT @ (inputs - x.mean) / len(y)
    s, sx = cov.diagonal().sqrt(), x.cov.diagonal().sqrt()
    assert ((found.mean - mean).abs() / s).max() < bound
    assert ((found.cov - cov).abs() / torch.outer(s, s)).max() < bound
    assert ((found.slope @ x.cov - cross).abs() / torch.outer(s, sx)).max() < bound


@pytest.fixture(scope="module")
def gp():
    data = planar_arm(120)
    return GaussianProcess.fit(data, GaussianProcess.Config(inducing=16, steps=30, batch=100), seed=0)


def about(gp, scale=0.8):
    """A Gaussian over w, as wide as the data, about their mean."""
    s = wide(len(gp.w_mean), scale=scale)
    return Gaussian(gp.w_mean + gp.w_scale * s.mean, torch.outer(gp.w_scale, gp.w_scale) * s.cov)


def test_processes_are_those_of_a_million_draws(gp):
    w = about(gp)
    means, doubt = [], torch.zeros(len(gp.R), dtype=torch.float64)
    inputs = draws(w)
    for part in inputs.split(CHUNK):
        psi = gp._basis(part)[0]
        means.append(gp._mean(psi).T)
        doubt += (gp.amplitude[:, None] + ((psi @ gp.Q) * psi).sum(-1)).sum(1) / DRAWS
    equal(of.processes(gp, w), w, inputs, torch.cat(means), more=gp.R + torch.diag(doubt))


def test_a_process_without_kernels_is_the_linear_regression_exactly(gp):
    dw = len(gp.w_mean)
    weights, Q = gp.mean_weights.clone(), torch.zeros_like(gp.Q)
    weights[:, dw + 1:] = 0.0
    linear = replace(gp, mean_weights=weights, Q=Q, amplitude=torch.zeros_like(gp.amplitude))
    w, A = about(gp), weights[:, :dw] / gp.w_scale
    found = of.processes(linear, w)
    assert torch.allclose(found.mean, linear.mean(w.mean), rtol=1e-12)
    assert torch.allclose(found.cov, A @ w.cov @ A.mT + gp.R, rtol=1e-11)
    assert torch.allclose(found.slope, A, rtol=1e-12)


def test_without_uncertainty_moments_are_the_prediction(gp):
    w = about(gp)
    point = Gaussian(w.mean, torch.zeros_like(w.cov))
    found, expected = of.processes(gp, point), gp.predict(w.mean)
    assert torch.allclose(found.mean, expected.mean, rtol=1e-9)
    assert torch.allclose(found.cov.diagonal(), expected.cov.diagonal(), rtol=1e-6)
    assert torch.allclose(found.slope, gp.jacobian(w.mean)[1], rtol=1e-6, atol=1e-9)


def test_sines_and_squash_are_those_of_a_million_draws():
    x = wide(3, scale=1.5)
    y = draws(x)
    equal(of.sines(x), x, y, torch.cat([y.sin(), y.cos()], -1))
    equal(of.squashed(x), x, y, of.squash(y))


def test_a_squashed_value_is_within_limits_and_nearly_linear_about_zero():
    z = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    assert of.squash(z).abs().max() <= 1.0
    small = Gaussian(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), 1e-8, dtype=torch.float64))
    assert of.squashed(small).slope.item() == pytest.approx(1.5, rel=1e-6)  # (9 + 3) / 8


def test_radial_basis_functions_are_those_of_a_million_draws():
    generator = torch.Generator().manual_seed(1)
    drawn = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    f = of.Kernels(torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), drawn(2, 10),
                   drawn(2, 10, 4), 0.5 + drawn(2, 4).abs())
    x = wide(4)
    y = draws(x)
    equal(f.moments(x), x, y, torch.cat([f(part) for part in y.split(CHUNK)]))


def test_a_saturating_cost_is_that_of_a_million_draws():
    x = wide(3)
    goal, W = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64), torch.diag(torch.tensor([4.0, 0.0, 1.0])).double()
    away = draws(x) - goal
    assert of.saturating(x, goal, W).item() == pytest.approx(
        float((1 - (-0.5 * ((away @ W) * away).sum(-1)).exp()).mean()), rel=0.01)


def test_a_chain_of_linear_functions_is_exact():
    x = wide(4)
    A = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    joint = of.append(x, [0, 2, 3], lambda g: of.Moments(A @ g.mean, A @ g.cov @ A.mT, A))
    full = torch.cat([torch.eye(4, dtype=torch.float64), A @ torch.eye(4, dtype=torch.float64)[[0, 2, 3]]])
    assert torch.allclose(joint.mean, full @ x.mean) and torch.allclose(joint.cov, full @ x.cov @ full.mT)


def test_gradients_are_finite_differences(gp):
    w = about(gp)
    root = torch.linalg.cholesky(w.cov)

    W = torch.diag(1 / of.processes(gp, w).cov.diagonal())

    def everything(mean, root):
        y = of.processes(gp, Gaussian(mean, root @ root.mT))
        s = of.sines(Gaussian(y.mean, y.cov))
        u = of.squashed(Gaussian(s.mean, s.cov))
        cost = of.saturating(Gaussian(y.mean, y.cov), torch.zeros_like(y.mean), W)
        return u.mean.sum() + u.cov.square().sum() + cost, y.slope.sum()
    assert torch.autograd.gradcheck(everything, (w.mean.requires_grad_(), root.requires_grad_()), eps=1e-6, rtol=1e-4,
                                    atol=1e-5)


def test_covariances_stay_symmetric_and_positive_for_wide_inputs(gp):
    for scale in (1e-6, 1.0, 30.0):
        y = of.processes(gp, about(gp, scale))
        assert torch.equal(y.cov, y.cov.mT) and np.isfinite(y.cov.numpy()).all()
        assert torch.linalg.eigvalsh(y.cov).min() > 0
