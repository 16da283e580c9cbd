"""The ensemble: it starts at ridge, gains on it where the world is not linear, and knows how wrong it is."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from regressions import error_over_ridge, linear, planar_arm

from mbrl_ros.models.ensemble import Ensemble, _initial, _network, _Units
from mbrl_ros.models.features import Data, time_folds
from mbrl_ros.models.linear import choose_ridge, ridge

torch.set_num_threads(1)
QUICK = Ensemble.Config(members=3, steps=800)


@pytest.fixture(scope="module")
def fitted():
    return Ensemble.fit(planar_arm(), QUICK, seed=0)


def test_untrained_it_is_the_mean_of_ridge_regressions():
    data, _, _ = linear(200, 5, 2, seed=0)
    model = Ensemble.fit(data, Ensemble.Config(members=3, steps=0), seed=0)
    fold, strength = time_folds(200, 5), choose_ridge(data.w, data.y)
    solutions = [ridge(data.w[fold != e], data.y[fold != e], strength) for e in range(3)]
    expected = np.mean([data.w @ A.T + b for A, b in solutions], 0)
    assert np.allclose(model.mean(torch.as_tensor(data.w)).numpy(), expected, atol=1e-9)


def test_on_a_linear_system_training_errs_by_less_than_half_the_noise():
    data, A, b = linear(400, 6, 3, seed=1, noise=0.3)
    model = Ensemble.fit(data, QUICK, seed=0)
    fresh = linear(400, 6, 3, seed=1, noise=0.0)[0].w[::-1].copy()
    error = model.mean(torch.as_tensor(fresh)).numpy() - fresh @ A.T - b
    assert np.sqrt(np.square(error).mean()) < 0.5 * 0.3  # well inside the noise it was fitted to


def test_it_beats_ridge_on_an_arm(fitted):
    assert error_over_ridge(fitted) < 0.6


def test_its_uncertainty_is_calibrated_on_fresh_data(fitted):
    """Mean squared Mahalanobis error over dy is 1 within a third; 90 % intervals hold 75 to 97 % of every column."""
    fresh = planar_arm(400, seed=1)
    p = fitted.predict(torch.as_tensor(fresh.w))
    moving = fresh.y.std(0) > 1e-9
    error = (fresh.y - p.mean.numpy())[:, moving]
    cov = p.cov.numpy()[:, moving][:, :, moving]
    distance = (error * np.linalg.solve(cov, error[..., None])[..., 0]).sum(-1).mean() / moving.sum()
    assert 1 / 1.5 < distance < 1.5
    inside = (np.abs(error) < 1.645 * np.sqrt(np.einsum("nii->ni", cov))).mean(0)
    assert (inside > 0.75).all() and (inside < 0.97).all()


def test_members_disagree_more_far_from_the_data(fitted):
    data = planar_arm()
    centre = torch.as_tensor(data.w.mean(0))
    far = centre + 6 * fitted.w_scale
    spread = [float(fitted.members(w).std(0).sum()) for w in (centre, far)]
    assert spread[1] > 3 * spread[0]


def test_one_member_has_no_spread():
    data, _, _ = linear(100, 4, 2, seed=2)
    model = Ensemble.fit(data, Ensemble.Config(members=1, steps=20), seed=0)
    assert torch.equal(model.predict(torch.as_tensor(data.w[0])).cov, model.R)


def test_weights_in_raw_units_are_the_same_network():
    data, _, _ = linear(100, 4, 2, seed=8)
    w, y, fold, generator = data.w, data.y, time_folds(100, 5), torch.Generator().manual_seed(0)
    units = _Units.of(w, y, fold, 3)
    p = {name: torch.randn(value.shape, generator=generator) for name, value in _initial(3, 4, 2, 8, generator).items()}
    model = Ensemble(**units.fold(p), R=torch.eye(2), w_scale=torch.ones(4))
    scaled, residual = units.scaled(w, y)
    expected = _network(p, scaled.expand(3, -1, -1)) - residual
    found = (model.members(torch.as_tensor(w)).numpy() - y) / units.r_scale
    assert np.allclose(found, expected.numpy(), atol=1e-3)  # float32, with entries of up to 100


def test_the_noise_is_found():
    """The diagonal of R is the variance of the noise that was put in."""
    data, _, _ = linear(1500, 5, 3, seed=3, noise=0.2)
    model = Ensemble.fit(data, QUICK, seed=0)
    assert np.allclose(np.diag(model.R.numpy()), 0.2**2, rtol=0.25)


def test_the_same_seed_gives_the_same_ensemble():
    data, _, _ = linear(100, 4, 2, seed=4)
    config = replace(QUICK, steps=40)
    a, b, c = (Ensemble.fit(data, config, seed) for seed in (5, 5, 6))
    w = torch.as_tensor(data.w)
    assert torch.equal(a.mean(w), b.mean(w)) and torch.equal(a.R, b.R)
    assert not torch.equal(a.W1, c.W1)


def test_bootstrap_makes_members_differ_more():
    data = planar_arm(300, seed=2)
    w = torch.as_tensor(data.w)
    spread = [float(Ensemble.fit(data, replace(QUICK, bootstrap=b, patience=1000), 0).members(w).std(0).mean())
              for b in (False, True)]
    assert spread[1] > spread[0]


def test_too_few_data_are_refused():
    data, _, _ = linear(9, 3, 2, seed=5)
    with pytest.raises(ValueError, match="at least 10 transitions"):
        Ensemble.fit(data, QUICK, 0)


def test_constant_columns_are_harmless():
    data, _, _ = linear(100, 4, 2, seed=6)
    w, y = np.column_stack([data.w, np.full(100, 3.0)]), np.column_stack([data.y, np.zeros(100)])
    model = Ensemble.fit(Data(data.features, w, y), replace(QUICK, steps=50), 0)
    p, J = model.expand(w[0])
    assert abs(p.mean[2]) < 1e-2 and np.isfinite(J).all()
    assert np.linalg.eigvalsh(p.cov).min() > 0
