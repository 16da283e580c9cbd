"""Gaussian processes: against dense solutions, in their limits, and what they know about their errors."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from regressions import coverage, error_over_ridge, linear, planar_arm

from mbrl_ros.models.features import Data, scale_of, time_folds
from mbrl_ros.models.gp import FOLDS, FREE, GaussianProcess, Hyperparameters, _posterior, correlation, spread_out
from mbrl_ros.models.gp_likelihood import maximize
from mbrl_ros.models.linear import ridge

torch.set_num_threads(1)
QUICK = GaussianProcess.Config(inducing=64, steps=30, batch=150)
HYPER = Hyperparameters(np.array([0.5, 1.0, 0.2]), np.array(1.5), np.array(0.1))
STRENGTH = 0.05


@pytest.fixture(scope="module")
def fitted():
    return GaussianProcess.fit(planar_arm(), QUICK, seed=0)


def dense(s, y, fresh, precision):
    """Mean and variance (M,) at `fresh` of the exact process by the N x N solution; `precision` is of its slopes, in
    units of one over the noise."""
    noise = float(HYPER.noise)

    def kernel(p, q):
        return float(HYPER.amplitude) * correlation(p * HYPER.rate, q * HYPER.rate) + noise * (p @ q.T / precision
                                                                                               + 1 / FREE)

    gain = np.linalg.solve(kernel(s, s) + noise * np.eye(len(s)), kernel(s, fresh)).T
    return gain @ y, np.diag(kernel(fresh, fresh) - gain @ kernel(s, fresh))


def sample(count=60, seed=0):
    rng = np.random.default_rng(seed)
    s = rng.standard_normal((count, 3))
    return s, np.sin(2 * s[:, 0]) + s[:, 1] + 0.3 * rng.standard_normal(count), rng.standard_normal((7, 3))


def at(output, s):
    """Mean and variance of an _Output at s."""
    psi = np.hstack([s, np.ones((len(s), 1)), correlation(s * HYPER.rate, output.Z)])
    return psi @ output.mean_weights, float(HYPER.amplitude) + np.einsum("ni,ij,nj->n", psi, output.Q, psi)


def test_with_all_points_as_inducing_points_it_is_the_exact_process():
    """To the jitter over the noise, 1e-5."""
    s, y, fresh = sample()
    mean, variance = at(_posterior(s, y, HYPER, STRENGTH, len(s)), fresh)
    exact_mean, exact_variance = dense(s, y, fresh, STRENGTH * len(s))
    assert np.allclose(mean, exact_mean, atol=1e-4) and np.allclose(variance, exact_variance, atol=1e-4)


def test_residuals_are_those_of_the_exact_process_without_the_block():
    s, y, _ = sample()
    found, fold = _posterior(s, y, HYPER, STRENGTH, len(s)).residual, time_folds(len(s), FOLDS)
    for k in range(FOLDS):
        out = fold == k
        mean, variance = dense(s[~out], y[~out], s[out], STRENGTH * len(s))
        assert np.allclose(found[out], (y[out] - mean) / np.sqrt(1 + variance / float(HYPER.noise)), atol=1e-3)


def test_inducing_points_are_never_surer_than_all_points_and_more_come_closer():
    s, y, fresh = sample(200)
    exact = dense(s, y, fresh, STRENGTH * len(s))
    results = [at(_posterior(s, y, HYPER, STRENGTH, M), fresh) for M in (5, 30, 120)]
    errors = [np.abs(mean - exact[0]).max() for mean, _ in results]
    assert errors[0] > errors[1] > errors[2]
    assert all((variance > exact[1] - 1e-4).all() for _, variance in results)


def test_without_amplitude_it_is_the_ridge_regression():
    data, _, _ = linear(200, 3, 1, seed=0)
    mean, scale = scale_of(data.w)
    A, b = ridge(data.w, data.y, STRENGTH)
    s, y = (data.w - mean) / scale, data.y[:, 0]
    output = _posterior(s, y, HYPER._replace(amplitude=np.array(1e-14)), STRENGTH, 10)
    psi = np.hstack([s, np.ones((200, 1)), correlation(s * HYPER.rate, output.Z)])
    assert np.allclose(psi @ output.mean_weights, data.w @ A[0] + b[0], atol=1e-7 * np.abs(y).max())


def test_on_a_linear_system_it_errs_by_less_than_half_the_noise():
    data, A, b = linear(400, 6, 3, seed=1, noise=0.3)
    model = GaussianProcess.fit(data, QUICK, seed=0)
    error = model.mean(torch.as_tensor(data.w)).numpy() - data.w @ A.T - b
    assert np.sqrt(np.square(error).mean()) < 0.5 * 0.3  # well inside the noise it was fitted to


def test_it_beats_ridge_on_an_arm(fitted):
    assert error_over_ridge(fitted) < 0.6


def test_far_from_the_data_it_is_the_line_and_knows_nothing_of_the_rest(fitted):
    data = planar_arm()
    doubts = []
    for distance in (0.0, 3.0, 1e3):
        w = torch.as_tensor(data.w.mean(0)) + distance * fitted.w_scale
        doubts.append((fitted.predict(w).cov - fitted.R).diagonal())
    assert (doubts[0] < doubts[1]).all() and (doubts[1] < doubts[2]).all()
    assert (doubts[2] > fitted.amplitude).all()
    line = fitted.mean_weights[:, :len(w)] / fitted.w_scale
    assert torch.equal(fitted.jacobian(w)[1], line)


def test_it_is_calibrated_on_fresh_data_of_a_planar_arm(fitted):
    """Six standard errors of 400 draws are 6.5 %; 95 % is wanted."""
    inside = coverage(fitted, planar_arm(400, seed=1))
    assert 0.90 < inside.mean() < 0.98 and inside.min() > 0.885


def test_likelihood_finds_what_was_drawn():
    """A process with lengthscale 1 along the first input and none along the second; noise of variance 0.04."""
    rng = np.random.default_rng(0)
    s = rng.standard_normal((300, 2))
    cov = correlation(s[:, :1], s[:, :1]) + 0.04 * np.eye(300)
    r = np.linalg.cholesky(cov) @ rng.standard_normal((300, 2))  # two outputs alike
    found = Hyperparameters(*maximize(s, r, GaussianProcess.Config(steps=150, batch=300), seed=0))
    assert np.allclose(found.noise, 0.04, rtol=0.4)
    assert np.allclose(found.rate[:, 0], 1.0, rtol=0.4) and (found.rate[:, 1] < 0.3).all()


def test_inducing_points_lie_where_the_variance_is_largest():
    x = np.random.default_rng(1).standard_normal((50, 2))
    chosen = spread_out(x, 12)
    for j in range(1, 12):
        Z = x[chosen[:j]]
        explained = correlation(x, Z) @ np.linalg.solve(correlation(Z, Z), correlation(Z, x))
        assert chosen[j] == np.argmax(1 - np.diag(explained))
    assert len(set(chosen)) == 12 and np.array_equal(spread_out(x, 50), np.arange(50))


def test_more_data_do_not_make_it_larger(fitted):
    small = GaussianProcess.fit(planar_arm(300, 2), QUICK, seed=0)
    assert [getattr(fitted, name).shape for name in vars(small) if name[0] != "_"] == [
        getattr(small, name).shape for name in vars(small) if name[0] != "_"]


def test_constant_columns_are_harmless():
    data, _, _ = linear(100, 4, 2, seed=6)
    w, y = np.column_stack([data.w, np.full(100, 3.0)]), np.column_stack([data.y, np.zeros(100)])
    p, J = GaussianProcess.fit(Data(data.features, w, y), QUICK, 0).expand(w[0])
    assert abs(p.mean[2]) < 1e-2 and np.isfinite(J).all()
    assert np.linalg.eigvalsh(p.cov).min() > 0


def test_too_few_data_are_refused():
    data, _, _ = linear(9, 3, 2, seed=5)
    with pytest.raises(ValueError, match="at least 10 transitions"):
        GaussianProcess.fit(data, QUICK, 0)
