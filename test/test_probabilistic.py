"""Probabilistic ensembles: they find where noise is larger, go on from fit to fit, and are drawn in rollouts."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from regressions import coverage, error_over_ridge, linear, planar_arm

from mbrl_ros.models import probabilistic
from mbrl_ros.models.features import Data, FeatureModel, time_folds
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble as Model
from mbrl_ros.models.rollout import stepper

torch.set_num_threads(1)
QUICK = Model.Config(members=3, epochs=20)


def uneven(count: int, seed: int) -> Data:
    """Linear, with noise of 0.5 where the first regressor is above its mean, and of 0.05 below it."""
    data = linear(count, 4, 2, 0, noise=0.0)[0]
    rng = np.random.default_rng(seed)
    w = data.w[rng.integers(count, size=count)]
    A = linear(count, 4, 2, 0)[1]
    large = w[:, 0] > data.w[:, 0].mean()
    return Data(data.features, w, w @ A.T + np.where(large, 0.5, 0.05)[:, None] * rng.standard_normal((count, 2)))


def test_untrained_and_without_its_networks_it_is_the_mean_of_ridge_regressions(monkeypatch):
    monkeypatch.setattr(probabilistic, "UNLIKE", 0.0)
    data = linear(200, 5, 2, seed=0)[0]
    model = Model.fit(data, replace(QUICK, epochs=0, bootstrap=False), seed=0)
    fold, strength = time_folds(200, 5), choose_ridge(data.w, data.y)
    solutions = [ridge(data.w[fold != e], data.y[fold != e], strength) for e in range(3)]
    expected = np.mean([data.w @ A.T + b for A, b in solutions], 0)
    assert np.allclose(model.mean(torch.as_tensor(data.w)).numpy(), expected, atol=1e-4 * data.y.std())  # float32


def test_members_agree_where_there_are_data_and_not_beyond():
    data = linear(500, 4, 2, seed=0)[0]
    model, scale = Model.fit(data, replace(QUICK, members=5), seed=0), torch.as_tensor(data.y.std(0))
    middle, w = torch.as_tensor(data.w.mean(0)), torch.as_tensor(data.w)
    far = middle + 4 * (w - middle)
    inside, outside = (model.each(of.expand(5, -1, -1)).std(0).div(scale).mean() for of in (w, far))
    assert inside < 0.1 and outside > 4 * inside


@pytest.mark.parametrize("deterministic", [False, True])
def test_noise_is_found_and_where_it_is_larger_unless_it_is_constant(deterministic):
    data = uneven(1500, seed=1)
    model = Model.fit(data, replace(QUICK, deterministic=deterministic, epochs=100), seed=0)
    large = data.w[:, 0] > np.median(data.w[:, 0])
    deviation = model.predict(torch.as_tensor(data.w)).cov.diagonal(dim1=-2, dim2=-1).sqrt().numpy()
    ratio = np.median(deviation[large]) / np.median(deviation[~large])
    assert (ratio < 1.5) if deterministic else (4 < ratio < 20)
    assert np.sqrt((deviation**2).mean()) == pytest.approx(np.sqrt((0.5**2 + 0.05**2) / 2), rel=0.25)
    if not deterministic:
        assert 0.93 < coverage(model, uneven(1500, seed=2)).mean() < 0.98


def test_it_beats_ridge_on_an_arm():
    assert error_over_ridge(Model.fit(planar_arm(), Model.Config(members=3), seed=0)) < 0.7


def test_one_deterministic_member_has_constant_noise_and_no_doubt():
    data = linear(100, 4, 2, seed=2)[0]
    model = Model.fit(data, replace(QUICK, members=1, deterministic=True), seed=0)
    cov = model.predict(torch.as_tensor(data.w)).cov
    assert torch.allclose(cov, cov[:1].expand_as(cov), rtol=1e-6)
    assert model.outcomes(torch.as_tensor(data.w)[None])[1] is None


def test_a_fit_goes_on_from_the_one_before_whatever_the_units():
    """Other data have other units; without training the function is the same, and its noise but for a factor."""
    first, second = linear(200, 4, 2, seed=3)[0], linear(150, 4, 2, seed=4)[0]
    before = Model.fit(first, QUICK, seed=0)
    after = Model.fit(second, replace(QUICK, epochs=0), 0, before)
    assert not torch.allclose(before.w_scale, after.w_scale, rtol=0.1)
    w = torch.as_tensor(first.w[:20])
    assert torch.allclose(before.mean(w), after.mean(w), rtol=0, atol=1e-3 * float(before.y_scale.min()))
    (_, a), (_, b) = (m.outcomes(w.expand(3, -1, -1)) for m in (before, after))
    ratio = b / a
    assert torch.allclose(ratio, ratio[:1, :1].expand_as(ratio), rtol=2e-2)  # limits are soft


def test_going_on_takes_a_model_of_the_same_sizes():
    data = linear(100, 4, 2, seed=3)[0]
    with pytest.raises(ValueError, match="same sizes"):
        Model.fit(data, replace(QUICK, hidden=8), 0, Model.fit(data, replace(QUICK, epochs=0), 0))


def test_log_variances_stay_within_their_limits_far_from_the_data():
    data = planar_arm(400)
    model = Model.fit(data, QUICK, seed=0)
    far = torch.as_tensor(data.w.mean(0) + 1e3 * data.w.std(0))
    deviation = model.outcomes(far.expand(3, 1, -1))[1]
    limits = [(0.5 * of).exp()[:, None] * model.y_scale for of in (model.low, model.high)]
    assert bool((deviation >= limits[0] * (1 - 1e-9)).all() & (deviation <= limits[1] * (1 + 1e-3)).all())


def test_layers_are_a_setting():
    data = planar_arm(300)
    for layers in (1, 3):
        model = Model.fit(data, replace(QUICK, layers=layers, epochs=2), seed=0)
        assert model.W_mid.shape == (layers - 1, 3, 64, 64)
        w = torch.as_tensor(data.w[0]).requires_grad_(True)
        y, J = model.jacobian(w)
        by_torch = torch.stack([torch.autograd.grad(g, w, retain_graph=True)[0] for g in model.mean(w)])
        assert torch.allclose(J, by_torch, rtol=1e-9, atol=1e-12) and torch.allclose(y, model.mean(w))


def test_too_few_data_are_refused():
    with pytest.raises(ValueError, match="at least 10 transitions"):
        Model.fit(linear(9, 3, 2, seed=5)[0], QUICK, 0)


@pytest.mark.parametrize("way", ["member", "resample"])
def test_rollouts_draw_the_noise_of_every_member(way):
    """Over many particles: mean and variance of the mixture, within five standard errors; candidates meet the same."""
    data = planar_arm(400)
    dynamics = FeatureModel(data.features, Model.fit(data, QUICK, seed=0))
    k, P = len(data.features.reg), 9000
    x = torch.zeros(data.features.n, dtype=torch.float64)
    x[list(data.features.reg)] = torch.as_tensor(data.w[0, :k])
    u = torch.as_tensor(data.w[0, k:])
    x_next = stepper(dynamics, way, seed=1)(x.expand(P, 2, -1), u.expand(P, 2, -1))
    assert torch.equal(x_next[:, 0], x_next[:, 1])
    mean, deviation = dynamics.regression.outcomes(torch.as_tensor(data.w[0]).expand(3, 1, -1))
    variance = (deviation.square().mean(0) + (mean - mean.mean(0)).square().mean(0))[0]
    y = (x_next[:, 0] - x)[:, list(data.features.fit)]
    assert bool(((y.mean(0) - mean.mean(0)[0]).abs() < 5 * (variance / P).sqrt()).all())
    assert torch.allclose(y.var(0), variance, rtol=5 * (3 / P) ** 0.5)
    again = stepper(dynamics, way, seed=1)(x.expand(P, 2, -1), u.expand(P, 2, -1))
    assert torch.equal(again, x_next)


def test_rollouts_of_deterministic_members_have_no_noise():
    data = planar_arm(400)
    model = Model.fit(data, replace(QUICK, deterministic=True), seed=0)
    dynamics = FeatureModel(data.features, model)
    x, u = torch.ones(6, data.features.n, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64)
    drawn = stepper(dynamics, "member")(x, u)
    dealt = dynamics.w(x, u).reshape(2, 3, -1).movedim(1, 0)  # particle i to member i mod 3
    expected = model.each(dealt).movedim(0, 1).flatten(0, 1)
    assert torch.allclose(drawn[:, list(data.features.fit)] - x[:, list(data.features.fit)], expected, atol=1e-12)
