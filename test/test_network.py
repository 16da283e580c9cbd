"""One network, and its Bayesian last layer: closed forms of the posterior, and what it knows about its errors."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from regressions import coverage, error_over_ridge, linear, planar_arm

from mbrl_ros.models.ensemble import Ensemble
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.network import FREE, BayesianNetwork, Network, _features, _Posterior

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def fitted():
    return BayesianNetwork.fit(planar_arm(), BayesianNetwork.Config(steps=800), seed=0)


def test_a_network_is_an_ensemble_of_one():
    data, w = planar_arm(), torch.as_tensor(planar_arm().w[:9])
    network = Network.fit(data, Network.Config(steps=50), seed=3)
    ensemble = Ensemble.fit(data, Ensemble.Config(members=1, steps=50), seed=3)
    assert torch.equal(network.mean(w), ensemble.mean(w))
    assert torch.equal(network.predict(w).cov, network.R.expand(9, -1, -1))


def test_posterior_equals_that_of_the_gaussian_process_with_the_same_kernel():
    """k(w, w') = phi' Lambda^-1 phi', with noise of variance 1: the dense N x N solution."""
    rng = np.random.default_rng(0)
    phi, y, precision = rng.standard_normal((40, 6)), rng.standard_normal((40, 2)), rng.uniform(0.5, 2.0, 6)
    fresh = rng.standard_normal((5, 6))
    kernel = lambda a, b: a / precision @ b.T  # noqa: E731
    gain = kernel(fresh, phi) @ np.linalg.inv(kernel(phi, phi) + np.eye(40))
    posterior = _Posterior.of(phi, y, precision)
    assert np.allclose(fresh @ posterior.beta, gain @ y, atol=1e-10)
    variance = np.diag(kernel(fresh, fresh) - gain @ kernel(phi, fresh))
    assert np.allclose(np.square(fresh @ posterior.U.T).sum(-1), variance, atol=1e-10)


def test_without_hidden_features_it_is_the_ridge_regression():
    data, _, _ = linear(200, 5, 2, seed=0)
    strength, (mean, scale) = choose_ridge(data.w, data.y), scale_of(data.w)
    A, b = ridge(data.w, data.y, strength)
    phi = np.hstack([np.ones((200, 1)), (data.w - mean) / scale])
    posterior = _Posterior.of(phi, data.y, np.array([FREE, *[strength * 200] * 5]))
    assert np.allclose(phi @ posterior.beta, data.w @ A.T + b, atol=1e-8)


def test_raw_units_are_the_same_posterior(fitted):
    """Mean and doubt of the model, which are in raw units, from features in units of their deviations."""
    data, h = planar_arm(), fitted.W1.shape[1]
    mean, scale = scale_of(data.w)
    raw = _features(fitted, torch.as_tensor(data.w)).numpy()
    phi = np.hstack([raw[:, :1], (data.w - mean) / scale, raw[:, -h:]])
    linear_part = choose_ridge(data.w, data.y) * len(data.w)
    found = []
    for strength in 10.0 ** np.arange(-2, 4):
        it = _Posterior.of(phi, data.y, np.array([FREE, *[linear_part] * data.w.shape[1], *[strength] * h]))
        p = fitted.predict(torch.as_tensor(data.w))
        doubt = 1 + np.square(phi @ it.U.T).sum(-1)
        found.append(np.allclose(p.mean.numpy(), phi @ it.beta, atol=1e-9)
                     and np.allclose(p.cov.numpy(), doubt[:, None, None] * fitted.R.numpy(), rtol=1e-6))
    assert sum(found) == 1  # one of the candidates was chosen


def test_on_a_linear_system_it_errs_by_less_than_half_the_noise():
    data, A, b = linear(400, 6, 3, seed=1, noise=0.3)
    model = BayesianNetwork.fit(data, BayesianNetwork.Config(steps=400), seed=0)
    error = model.mean(torch.as_tensor(data.w[::-1].copy())).numpy() - data.w[::-1] @ A.T - b
    assert np.sqrt(np.square(error).mean()) < 0.5 * 0.3  # well inside the noise it was fitted to


def test_it_beats_ridge_on_an_arm(fitted):
    assert error_over_ridge(fitted) < 0.6


def test_doubt_grows_with_the_distance_and_shrinks_with_the_data(fitted):
    centre, direction = torch.as_tensor(planar_arm().w.mean(0)), fitted.w_scale
    doubt = [float(fitted.predict(centre + a * direction).cov.trace() / fitted.R.trace()) - 1 for a in (0, 3, 6, 60)]
    assert 0 < doubt[0] < 0.2 and doubt[0] < doubt[1] < doubt[2] < doubt[3] / 10
    rng = np.random.default_rng(0)
    phi, y = rng.standard_normal((900, 8)), rng.standard_normal((900, 1))
    few, many = (np.square(_Posterior.of(phi[:N], y[:N], np.ones(8)).U).sum() for N in (100, 900))
    assert few / many == pytest.approx(9, rel=0.2)


@pytest.mark.parametrize("kind", [BayesianNetwork, Network])
def test_it_is_calibrated_on_fresh_data_of_a_planar_arm(kind):
    """Six standard errors of 400 draws are 6.5 %; 95 % is wanted."""
    model = kind.fit(planar_arm(), kind.Config(steps=800), seed=0)
    inside = coverage(model, planar_arm(400, seed=1))
    assert 0.90 < inside.mean() < 0.98 and inside.min() > 0.885


def test_constant_columns_are_harmless():
    data, _, _ = linear(100, 4, 2, seed=6)
    w, y = np.column_stack([data.w, np.full(100, 3.0)]), np.column_stack([data.y, np.zeros(100)])
    p, J = BayesianNetwork.fit(Data(data.features, w, y), BayesianNetwork.Config(steps=50), 0).expand(w[0])
    assert abs(p.mean[2]) < 1e-2 and np.isfinite(J).all()
    assert np.linalg.eigvalsh(p.cov).min() > 0


@pytest.mark.parametrize("kind", [BayesianNetwork, Network])
def test_too_few_data_are_refused(kind):
    data, _, _ = linear(9, 3, 2, seed=5)
    with pytest.raises(ValueError, match="at least 10 transitions"):
        kind.fit(data, kind.Config(), 0)
