"""Global models at one point, compiled, against the same models in torch."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import random_covariance

from mbrl_ros.kernels import models as kernel
from mbrl_ros.models.ensemble import Ensemble
from mbrl_ros.models.mixture import Mixture
from mbrl_ros.models.network import Network


def networks(E, dw, dy, h, seed, kind=Ensemble):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: torch.as_tensor(rng.standard_normal(shape))  # noqa: E731
    return kind(draw(E, dy, dw), draw(E, dy), draw(E, h, dw) / dw**0.5, draw(E, h), draw(E, h, h) / h**0.5, draw(E, h),
                draw(E, dy, h), torch.as_tensor(random_covariance(dy, seed)), torch.ones(dw, dtype=torch.float64))


def components(K, dw, dy, seed, apart=1.0):
    rng, d = np.random.default_rng(seed), dw + dy
    weight = rng.uniform(0.2, 1.0, K)
    cov = np.stack([random_covariance(d, seed + k) for k in range(K)])
    return Mixture(*(torch.as_tensor(a) for a in (weight / weight.sum(), apart * rng.standard_normal((K, d)), cov,
                                                  np.ones(dw))))


def assert_close(found, expected):
    expected = expected.numpy()
    assert np.abs(found - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e4])  # of w: linear and saturated units
@pytest.mark.parametrize(("E", "dw", "dy", "h"), [(1, 1, 1, 1), (2, 3, 2, 5), (3, 6, 3, 8), (5, 21, 14, 64),
                                                  (4, 9, 5, 31)])
def test_networks_are_those_in_torch(E, dw, dy, h, size):
    model, w = networks(E, dw, dy, h, seed=E), size * np.random.default_rng(h).standard_normal(dw)
    (y, J), p = model.expand(w), model.predict(torch.as_tensor(w))
    assert_close(y.mean, p.mean)
    assert_close(y.cov, p.cov)
    assert_close(J, model.jacobian(torch.as_tensor(w))[1])


def test_tanh_is_exact_to_rounding_and_keeps_what_is_not_a_number():
    small = np.logspace(-320, 2, 5000)
    x = np.concatenate([np.linspace(-25, 25, 50001), small, -small, [0.0, np.inf, -np.inf]])
    found = np.append(x, np.nan)
    kernel._tanh(found, np.empty(len(found), np.int64))
    assert np.abs(found[:-1] - np.tanh(x)).max() < 4e-16 and np.isnan(found[-1])
    assert (np.sign(found[:-1]) * np.sign(x) >= 0).all()


def test_one_network_has_no_spread():
    model = networks(1, 4, 3, 7, 0, Network)
    assert np.array_equal(model.expand(np.ones(4))[0].cov, model.R.numpy())


@pytest.mark.parametrize("apart", [0.0, 1.0, 30.0])  # where one component has all the responsibility, too
@pytest.mark.parametrize(("K", "dw", "dy"), [(1, 1, 1), (2, 3, 2), (5, 21, 14), (20, 6, 3)])
def test_mixtures_are_those_in_torch(K, dw, dy, apart):
    model = components(K, dw, dy, K, apart)
    for w in (np.random.default_rng(dw).standard_normal(dw), model.mean_z[-1, :dw].numpy().copy(), np.full(dw, 1e3)):
        (y, J), p = model.expand(w), model.predict(torch.as_tensor(w))
        assert_close(y.mean, p.mean)
        assert_close(y.cov, p.cov)
        assert_close(J, torch.einsum("k,kij->ij", model.responsibilities(torch.as_tensor(w)), model._conditional[0]))


@pytest.mark.parametrize("model", [networks(2, 3, 2, 5, 0), components(3, 3, 2, 0)])
def test_what_is_not_a_number_arrives(model):
    y, J = model.expand(np.array([0.0, np.nan, 0.0]))
    assert np.isnan(y.mean).all() and np.isnan(y.cov).any() and np.isnan(J).any()
