"""Priors over the local dynamics: their conditionals are known in closed form. Features, and files of models."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from regressions import linear, planar_arm

from mbrl_ros.config import ConfigError
from mbrl_ros.gaussian import empirical_moments, niw_map
from mbrl_ros.models.features import Features, scale_of, time_folds
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.prior import Config, FlatPrior, LinearizedPrior, fit, load, prior_of, save
from mbrl_ros.ring.learner import posterior
from mbrl_ros.types import Gaussian, Moments

torch.set_num_threads(1)


class Tanh:
    """y = tanh(A w) with a full noise covariance."""

    def __init__(self, dw=4, dy=3, seed=0):
        rng = np.random.default_rng(seed)
        self.A, self.w_scale = torch.as_tensor(rng.standard_normal((dy, dw))), torch.as_tensor(rng.uniform(0.1, 3, dw))
        L = torch.as_tensor(rng.standard_normal((dy, dy)))
        self.R = L @ L.mT + torch.eye(dy)

    def predict(self, w):
        return Gaussian(torch.tanh(self.A @ w), self.R)

    def jacobian(self, w):
        y = torch.tanh(self.A @ w)
        return y, (1 - y * y)[:, None] * self.A


def fitted(local, z):
    """F, f, Sigma of the local fit to z (N, 7) = [w; y], all of one weight."""
    w, y = z[:, :4], z[:, 4:]
    recent = empirical_moments(np.hstack([w, y - np.array([local.mean(one) for one in w])]))
    return posterior(local, recent, recent.mean, recent.count, np.ones(7))


def test_without_data_the_conditional_is_the_linearised_model():
    model, w = Tanh(), np.array([0.3, -0.2, 0.5, 0.1])
    empty = Moments(np.zeros(7), np.eye(7), 0.0)
    F, f, Sigma = posterior(LinearizedPrior(model, Config()).at(w, empty), empty, empty.mean, 0.0, np.ones(7))
    y, J = model.jacobian(torch.as_tensor(w))
    assert np.allclose(F, J.numpy(), atol=1e-9)
    assert np.allclose(F @ w + f, y.numpy(), atol=1e-9)
    assert np.allclose(Sigma, model.R.numpy(), atol=1e-9)


def test_the_conditional_is_a_ridge_regression_towards_the_jacobian():
    """F = argmin sum_i |dy_i - F dw_i|^2 + n0 |(F - J) D^1/2|^2, in closed form, where the prior mean has no weight."""
    model, w, n0 = Tanh(), np.array([0.3, -0.2, 0.5, 0.1]), 10.0
    z = np.random.default_rng(1).standard_normal((12, 7))
    F, _, _ = fitted(LinearizedPrior(model, Config(n0=n0, m0=1e-6)).at(w, None), z)
    J, D = model.jacobian(torch.as_tensor(w))[1].numpy(), np.diag(model.w_scale.numpy() ** 2)
    dw, dy = (z - z.mean(0))[:, :4], (z - z.mean(0))[:, 4:]
    expected = np.linalg.solve(dw.T @ dw + n0 * D, dw.T @ dy + n0 * D @ J.T).T
    assert np.allclose(F, expected, atol=1e-5)  # m0 / N, and the jitter


def test_only_directions_that_data_excite_leave_the_prior():
    model, w = Tanh(), np.zeros(4)
    z = np.random.default_rng(1).standard_normal((12, 7))
    z[:, 2] = 0.7  # this regressor stood still
    F, _, _ = fitted(LinearizedPrior(model, Config(m0=1e-9)).at(w, None), z)
    J = model.jacobian(torch.as_tensor(w))[1].numpy()
    assert np.allclose(F[:, 2], J[:, 2], atol=1e-7)
    assert not np.allclose(F[:, 0], J[:, 0], atol=1e-2)


def test_flat_prior_is_least_squares():
    rng = np.random.default_rng(3)
    w, A = rng.standard_normal((60, 3)), rng.standard_normal((2, 3))
    recent = empirical_moments(np.hstack([w, w @ A.T + 0.4]))
    local = FlatPrior(np.ones(5)).at(np.zeros(3), recent)
    F, f, _ = posterior(local, recent, recent.mean, recent.count, np.ones(5))
    assert np.allclose(F, A, atol=1e-4)  # FlatPrior.STRENGTH / N = 2e-5
    assert np.allclose(f, 0.4, atol=1e-4)


def test_flat_prior_before_any_data_is_finite():
    empty = Moments(np.zeros(5), np.zeros((5, 5)), 0.0)
    local = FlatPrior(np.ones(5)).at(np.ones(3), empty)
    joint = niw_map(empty, local.residual)
    assert np.array_equal(joint.mean, [1, 1, 1, 0, 0]) and np.allclose(joint.cov, np.eye(5), atol=1e-12)
    assert not local.y.any() and not local.J.any()


def test_features_there_and_back():
    """Rows 0, 2 are fitted, 1, 3 | 4, 5 are past efforts, newest first; the regressors are rows 2, 0, 3."""
    features, rng = Features((2, 0, 3), (0, 2), 6, 2), np.random.default_rng(4)
    x, u, y = rng.standard_normal((5, 6)), rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
    x_next = features.next_state(x, u, y)
    assert np.array_equal(features.w(x, u)[0], [x[0, 2], x[0, 0], x[0, 3], *u[0]])
    assert np.allclose(features.y(x, x_next), y, atol=1e-12)
    assert np.array_equal(x_next[:, [1, 3]], u) and np.array_equal(x_next[:, [4, 5]], x[:, [1, 3]])
    torched = features.next_state(*(torch.as_tensor(a) for a in (x, u, y)))
    assert np.array_equal(torched.numpy(), x_next)


def test_lifted_dynamics_equal_the_regression():
    features, rng = Features((2, 0, 3), (0, 2), 6, 2), np.random.default_rng(5)
    F, f, Sigma = rng.standard_normal((2, 5)), rng.standard_normal(2), np.array([[2.0, 0.5], [0.5, 1.0]])
    dynamics = features.dynamics(F, f, Sigma)
    x, u = rng.standard_normal(6), rng.standard_normal(2)
    expected = features.next_state(x, u, F @ features.w(x, u) + f)
    assert np.allclose(dynamics.F @ np.concatenate([x, u]) + dynamics.f, expected, atol=1e-12)
    assert np.array_equal(dynamics.Sigma[np.ix_([0, 2], [0, 2])], Sigma) and dynamics.Sigma.sum() == Sigma.sum()


def test_features_refuse_a_memory_that_is_no_whole_number_of_efforts():
    with pytest.raises(ValueError, match="whole groups of 2"):
        Features((0,), (0, 1), 5, 2)


def test_constant_columns_have_scale_one():
    z = np.column_stack([np.linspace(0, 1, 9), np.full(9, 1e6), np.zeros(9), 1e-3 * np.arange(9)])
    scale = scale_of(z)[1]
    assert scale[1] == scale[2] == 1.0 and scale[3] == pytest.approx(1e-3 * np.arange(9).std())


def test_folds_are_blocks_of_time():
    fold = time_folds(1500, 5)
    assert np.bincount(fold).tolist() == [300] * 5
    assert (np.diff(np.flatnonzero(np.diff(fold))) == 50).all()


def test_ridge_recovers_a_linear_map_in_any_units():
    data, A, b = linear(500, 6, 3, seed=6, noise=1e-6)
    found = ridge(data.w, data.y, 1e-9)
    assert np.allclose(found[0] / np.abs(A), np.sign(A), atol=1e-5) and np.allclose(found[1], b, atol=1e-4)


def test_ridge_is_the_minimum_of_its_objective():
    data, _, _ = linear(80, 5, 2, seed=7)
    strength = 0.3
    A, _ = ridge(data.w, data.y, strength)
    (_, ws), (_, ys) = scale_of(data.w), scale_of(data.y)
    w, y = (data.w - data.w.mean(0)) / ws, (data.y - data.y.mean(0)) / ys
    gradient = (A * ws / ys[:, None]) @ (w.T @ w / len(w) + strength * np.eye(5)) - y.T @ w / len(w)
    assert np.abs(gradient).max() < 1e-9


def test_more_noise_wants_more_ridge():
    strengths = [choose_ridge((d := linear(40, 15, 2, seed=8, noise=noise)[0]).w, d.y) for noise in (1e-3, 5.0)]
    assert strengths[0] < strengths[1]


def test_unknown_kind_and_settings_name_the_known_ones():
    with pytest.raises(ConfigError, match="choose one of ensemble, network, bnn, pe, gp, mixture, gaussian, nominal"):
        fit("spline", planar_arm(), {}, 0)
    with pytest.raises(ConfigError, match=r"ensemble\.layers: unknown setting"):
        fit("ensemble", planar_arm(), {"ensemble": {"layers": 2}}, 0)


def test_data_that_are_not_finite_are_refused():
    data, _, _ = linear(50, 3, 2, seed=9)
    data.w[7, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit("gaussian", data, {}, 0)


def test_prior_settings_reach_the_prior():
    data, _, _ = linear(50, 3, 2, seed=10)
    prior = prior_of(fit("gaussian", data, {}, 0), {"prior": {"n0": 7.0, "m0": 2.0}})
    niw = prior.at(data.w[0], empirical_moments(np.hstack([data.w, data.y]))).residual
    assert (niw.n0, niw.m0) == (7.0, 2.0)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_a_config_error(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a model file"):
        load(path)


def test_nothing_in_a_file_is_executed(tmp_path):
    """An array of objects would have to be unpickled, which runs code; it is refused instead."""
    path = tmp_path / "model.npz"
    np.savez(path, kind=np.array("gaussian"), format=np.array(1), weight=np.array([print], dtype=object))
    with pytest.raises(ConfigError, match="not a model file"):
        load(path)


def test_a_file_with_wrong_numbers_is_a_config_error(tmp_path):
    data, _, _ = linear(50, 3, 2, seed=11)
    path = tmp_path / "model.npz"
    save(fit("gaussian", data, {}, 0), path)
    with np.load(path) as file:
        arrays = dict(file)
    for change, message in (({"cov": arrays["cov"] * np.nan}, "finite"), ({"format": np.array(99)}, "format"),
                            ({"kind": np.array("spline")}, "choose one of"), ({"extra": np.ones(1)}, "not a model of")):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(ConfigError, match=message):
            load(path)
