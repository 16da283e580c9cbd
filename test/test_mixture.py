"""The mixture: EM ascends, a known mixture is found, its conditional is what sampling gives, few data are harmless."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import random_covariance
from regressions import linear, planar_arm, relative_error

from mbrl_ros.gaussian import condition, empirical_moments
from mbrl_ros.models.features import Data, Features
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.mixture import (
    FLOOR,
    GlobalGaussian,
    Mixture,
    Parameters,
    em,
    kmeans,
    maximize,
    objective,
    pooled,
    responsibilities,
)
from mbrl_ros.types import Gaussian

torch.set_num_threads(1)
EXACT = Mixture.Config(iterations=200, tolerance=0.0)


def known(count=6000, seed=0, apart=1.0):
    """Three components in three dimensions, two of them w: Data, Parameters, labels."""
    rng = np.random.default_rng(seed)
    truth = Parameters(np.array([0.5, 0.3, 0.2]), apart * np.array([[-4.0, 0, 1], [4, 1, -2], [0, 6, 3]]),
                       np.stack([random_covariance(3, k, 0.3) for k in range(3)]))
    label = rng.choice(3, count, p=truth.weight)
    z = truth.mean[label] + (np.linalg.cholesky(truth.cov)[label] @ rng.standard_normal((count, 3, 1)))[..., 0]
    return Data(Features((0,), (0,), 1, 1), z[:, :2], z[:, 2:]), truth, label


def of_parameters(p, dw):
    return Mixture(torch.as_tensor(p.weight), torch.as_tensor(p.mean), torch.as_tensor(p.cov),
                   torch.ones(dw, dtype=torch.float64))


@pytest.mark.parametrize("nu", [0.0, 5.0, 100.0])
def test_em_never_lowers_its_objective(nu):
    z = np.random.default_rng(1).standard_normal((300, 4)) * [1, 2, 1, 1] + np.sign(np.arange(300) % 3 - 1)[:, None]
    history = em(z, kmeans(z, 4, 0), nu, EXACT)[1]
    assert len(history) > 10
    assert min(np.diff(history)) > -1e-9 * abs(history[-1])


def test_the_m_step_is_the_maximum():
    """No small change of mean or covariance raises the expected complete objective."""
    rng = np.random.default_rng(2)
    z, r = rng.standard_normal((50, 3)), rng.dirichlet([1, 1], 50)
    S0, nu = pooled(z), 7.0

    def expected(p):
        total = 0.0
        for k in range(2):
            L = np.linalg.cholesky(p.cov[k])
            e = np.linalg.solve(L, (z - p.mean[k]).T)
            log_det = 2 * np.log(np.diag(L)).sum()
            floor = FLOOR**2 * np.trace(np.linalg.inv(p.cov[k]))  # as if every vector had this much noise
            total += r[:, k] @ (np.log(p.weight[k]) - 0.5 * (log_det + (e * e).sum(0) + floor))
        return total + objective(p, np.zeros(1), S0, nu)

    best = maximize(z, r, S0, nu)
    for _ in range(20):
        other = Parameters(best.weight, best.mean + 0.01 * rng.standard_normal((2, 3)),
                           best.cov + 0.01 * np.stack([random_covariance(3, s) - np.eye(3)
                                                       for s in rng.integers(0, 99, 2)]))
        assert expected(other) < expected(best)


def test_a_known_mixture_is_recovered():
    data, truth, label = known()
    z = np.hstack([data.w, data.y])
    p, _ = em(z, kmeans(z, 3, 0), 0.0, EXACT)
    order = np.array([np.square(p.mean - m).sum(1).argmin() for m in truth.mean])
    assert sorted(order) == [0, 1, 2]
    assert np.allclose(p.weight[order], truth.weight, atol=6 * 0.5 / np.sqrt(6000))
    assert np.allclose(p.mean[order], truth.mean, atol=6 * np.sqrt(2 / 1200))  # variances are below 2
    assert np.allclose(p.cov[order], truth.cov, atol=6 * 2 * np.sqrt(2 / 1200))
    agreement = (responsibilities(p, z)[0][:, order].argmax(1) == label).mean()
    assert agreement > 0.97


def test_one_component_is_the_sample_moments():
    data, _, _ = linear(200, 4, 2, seed=0)
    model = GlobalGaussian.fit(data, GlobalGaussian.Config(), 0)
    moments = empirical_moments(np.hstack([data.w, data.y]))
    scale = np.sqrt(np.diag(moments.cov))
    assert np.allclose(model.mean_z[0].numpy(), moments.mean, atol=1e-9 * scale.max())
    assert np.allclose(model.cov[0].numpy() / np.outer(scale, scale), moments.cov / np.outer(scale, scale),
                       atol=2 * FLOOR**2)
    F, f, Sigma = condition(Gaussian(moments.mean / scale, moments.cov / np.outer(scale, scale)), 4)
    p = model.predict(torch.as_tensor(data.w))
    assert np.allclose(p.mean.numpy() / scale[4:], data.w / scale[:4] @ F.T + f, atol=1e-4)  # the floor, 1e-6, / S_ww
    assert np.allclose(p.cov[0].numpy() / np.outer(scale[4:], scale[4:]), Sigma, atol=1e-5)


def test_responsibilities_sum_to_one_everywhere():
    _, truth, _ = known(10)
    w = torch.as_tensor(100 * np.random.default_rng(3).standard_normal((50, 2)))
    r = of_parameters(truth, 2).responsibilities(w)
    assert np.allclose(r.sum(-1).numpy(), 1.0, atol=1e-12) and (r >= 0).all()


def test_conditional_mean_and_covariance_equal_sampling_and_binning():
    data, truth, _ = known(1_000_000, seed=4, apart=0.3)
    model = of_parameters(truth, 2)
    for w in ([0.0, 0.5], [-0.5, 1.0], [1.0, 0.0]):
        inside = np.abs(data.w - w).max(1) < 0.1
        p = model.predict(torch.as_tensor(w, dtype=torch.float64))
        # within the bin the mean is taken as linear
        slope = model.jacobian(torch.as_tensor(w, dtype=torch.float64))[1][0].numpy()
        y = data.y[inside, 0] - (data.w[inside] - w) @ slope
        variance = float(p.cov[0, 0])
        assert abs(y.mean() - float(p.mean)) < 6 * np.sqrt(variance / len(y)) + 0.01  # curvature times 0.1^2 / 3
        assert abs(y.var() / variance - 1) < 6 * np.sqrt(4 / len(y)) + 0.02


def test_as_a_prior_its_slope_is_that_of_the_components_not_of_the_gate():
    """Halfway between two far components the mean jumps; its expansion stays between their regressions."""
    _, truth, _ = known(10, apart=5.0)
    mixture = of_parameters(truth, 2)
    w = torch.as_tensor(truth.mean[:2, :2].mean(0))
    F = mixture._conditional[0][:2]
    inside = lambda slope: bool(((slope >= F.amin(0) - 1e-9) & (slope <= F.amax(0) + 1e-9)).all())  # noqa: E731
    between = torch.stack([w + torch.as_tensor([d, 0.0]) for d in np.linspace(-10, 10, 201)])
    assert all(inside(torch.as_tensor(mixture.expand(one.numpy())[1])) for one in between)
    assert not all(inside(mixture.jacobian(one)[1]) for one in between)


def test_a_component_with_few_vectors_falls_back_to_the_global_regression():
    """1000 vectors of y = A w; one component gets 6 of them, fewer than the 5 dimensions need."""
    rng, nu = np.random.default_rng(5), 50.0
    w, A = rng.standard_normal((1000, 4)), np.array([[1.0, -1.0, 0.5, 2.0]])
    z = np.hstack([w, w @ A.T + 0.1 * rng.standard_normal((1000, 1))])
    r = np.zeros((1000, 2))
    r[:6, 0] = r[6:, 1] = 1.0
    errors = []
    for strength in (0.0, nu):
        p = maximize(z, r, pooled(z), strength)
        errors.append(np.abs(condition(Gaussian(p.mean[0], p.cov[0]), 4)[0] - A).max())
    assert errors[1] < 0.05 < errors[0]


def test_components_without_data_are_dropped():
    z = np.random.default_rng(6).standard_normal((100, 2))
    r = np.zeros((100, 3))
    r[:, 0], r[:1, 0], r[:1, 2] = 1.0, 0.0, 1.0
    r[:, 1] = 1e-9
    p, _ = em(z, r / r.sum(1, keepdims=True), 4.0, EXACT)
    assert len(p.weight) < 3 and np.isfinite(p.cov).all()


def test_the_number_of_components_is_one_for_one_gaussian_and_more_for_an_arm():
    data, _, _ = linear(400, 4, 2, seed=7)
    assert len(Mixture.fit(data, Mixture.Config(), 0).weight) == 1
    assert len(Mixture.fit(planar_arm(), Mixture.Config(), 0).weight) > 1


def test_it_beats_ridge_on_an_arm():
    data, fresh = planar_arm(), planar_arm(400, seed=1)
    A, b = ridge(data.w, data.y, choose_ridge(data.w, data.y))
    prediction = Mixture.fit(data, Mixture.Config(), 0).mean(torch.as_tensor(fresh.w)).numpy()
    assert relative_error(prediction, fresh.y) < 0.95 * relative_error(fresh.w @ A.T + b, fresh.y)


def test_a_warm_start_keeps_the_components_and_gains_on_them():
    data, more = planar_arm(600, seed=3), planar_arm()
    config = Mixture.Config(strength=4.0)
    old = Mixture.fit(data, config, 0)
    new = Mixture.fit(more, config, 0, warm=old)
    assert len(new.weight) == len(old.weight)
    w = torch.as_tensor(planar_arm(400, seed=1).w)
    y = planar_arm(400, seed=1).y
    assert relative_error(new.mean(w).numpy(), y) < relative_error(old.mean(w).numpy(), y)


def test_kmeans_finds_what_is_far_apart():
    rng = np.random.default_rng(8)
    z = np.vstack([rng.standard_normal((30, 2)) + c for c in ([0, 0], [50, 0], [0, 50])])
    r = kmeans(z, 3, 0)
    assert sorted(r.sum(0)) == [30, 30, 30] and (r[:30].sum(0) > 0).sum() == 1


def test_identical_vectors_do_not_break_it():
    data = Data(Features((0,), (0,), 1, 1), np.ones((40, 2)), np.ones((40, 1)))
    model = Mixture.fit(data, Mixture.Config(), 0)
    assert torch.isfinite(model.predict(torch.ones(2, dtype=torch.float64)).cov).all()
