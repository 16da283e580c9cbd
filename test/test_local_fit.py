"""The compiled fit against the same in numpy, operation by operation, and where there is no answer."""
from __future__ import annotations

import numpy as np
import pytest

from mbrl_ros.gaussian import condition, empirical_moments, forget_and_add, leverage, map_mean, niw_map
from mbrl_ros.kernels import local_fit
from mbrl_ros.models.prior import LocalPrior
from mbrl_ros.ring.learner import CONDITION_JITTER, posterior
from mbrl_ros.types import Gaussian, Moments, NormalInverseWishart

# The jitter bounds the condition of S_ww by 1e6, so rounding by 1e-16 makes 1e-10 of F at worst.
AGREE = 1e-9
SIZES = [(1, 1), (2, 1), (3, 2), (7, 3), (8, 8), (21, 14), (39, 32)]  # dw, dy; (21, 14) is the 7-joint arm


def in_numpy(prior, moments, mean, count, scale):
    """learner.posterior, by gaussian.py."""
    known, niw = len(prior.w), prior.residual
    joint = Gaussian(map_mean(mean, count, niw) / scale, niw_map(moments, niw).cov / np.outer(scale, scale))
    dF, df, Sigma = condition(joint, known, CONDITION_JITTER)
    s_w, s_y = scale[:known], scale[known:]
    if count > 0:
        Sigma = Sigma * (1 + leverage(joint, known, prior.w / s_w, moments.count + niw.n0, count + niw.m0,
                                      CONDITION_JITTER))
    return (prior.J + s_y[:, None] * dF / s_w, prior.y - prior.J @ prior.w + s_y * df, Sigma * np.outer(s_y, s_y))


def problem(dw, dy, seed, vectors, count=None, units=0.0, strength=10.0):
    """Arguments of `posterior`: moments of some vectors, in units over 10^+-units; few vectors make S_ww singular."""
    rng, d = np.random.default_rng(seed), dw + dy
    scale = 10.0 ** rng.uniform(-units, units, d)
    z = scale * (rng.standard_normal((vectors, d)) @ rng.standard_normal((d, d)) / np.sqrt(d) + rng.standard_normal(d))
    moments = empirical_moments(z)
    Phi = np.diag(strength * scale**2 * rng.uniform(0.5, 2.0, d))
    w, y = scale[:dw] * rng.standard_normal(dw), scale[dw:] * rng.standard_normal(dy)
    J = scale[dw:, None] * rng.standard_normal((dy, dw)) / scale[:dw]
    niw = NormalInverseWishart(np.append(w, np.zeros(dy)), Phi, 0.1, strength)
    count = float(vectors) if count is None else count
    mean = moments.mean + 0.1 * scale * rng.standard_normal(d)
    return LocalPrior(w, y, J, niw), Moments(moments.mean, moments.cov, count), mean, min(count, 19.0), scale


def assert_same(found, expected, scale, dw):
    """All three, in units of `scale`."""
    s_w, s_y = scale[:dw], scale[dw:]
    for a, b, unit in zip(found, expected, (s_y[:, None] / s_w, s_y, np.outer(s_y, s_y)), strict=True):
        assert np.abs((a - b) / unit).max() <= AGREE * max(1.0, np.abs(b / unit).max())


@pytest.mark.parametrize(("dw", "dy"), SIZES)
@pytest.mark.parametrize("kind", [
    {"vectors": 60}, {"vectors": 60, "units": 5.0}, {"vectors": 2}, {"vectors": 60, "count": 1e9},
    {"vectors": 3, "strength": 1e-3, "units": 3.0}, {"vectors": 60, "count": 0.0}])
def test_it_is_the_fit_in_numpy(dw, dy, kind):
    """Well and badly scaled, nearly singular, with hardly any prior, with hardly anything else, and without data."""
    for seed in range(3):
        p = problem(dw, dy, seed, **kind)
        assert_same(posterior(*p), in_numpy(*p), p[-1], dw)


def test_collinear_regressors_are_kept_finite_by_the_jitter():
    prior, moments, mean, count, scale = problem(6, 3, 0, 60, count=1e12)
    mix = np.eye(9)
    mix[5, :6] = [1.0, -1.0, 2.0, 0.0, 0.0, 0.0]  # a regressor that is a sum of others
    singular = Moments(mix @ moments.mean, mix @ moments.cov @ mix.T, moments.count)
    p = prior, singular, mix @ mean, count, scale
    assert np.linalg.cond(singular.cov[:6, :6]) > 1e14
    assert_same(posterior(*p), in_numpy(*p), scale, 6)


@pytest.mark.parametrize(("dw", "dy"), SIZES)
def test_without_data_it_is_the_global_model(dw, dy):
    prior, moments, mean, _, scale = problem(dw, dy, 4, 60, units=3.0)
    F, f, Sigma = posterior(prior, Moments(moments.mean, moments.cov, 0.0), mean, 0.0, scale)
    niw = prior.residual
    assert_same((F, f, Sigma), (prior.J, prior.y - prior.J @ prior.w, niw.Phi[dw:, dw:] / niw.n0), scale, dw)


@pytest.mark.parametrize("row", [0, 3, 6])
def test_what_is_not_definite_is_refused_and_what_is_not_a_number_arrives(row):
    """Each pivot is looked at, whether it comes first, last or in between."""
    prior, moments, mean, count, scale = problem(7, 3, 5, 60, count=1e6)
    cov = moments.cov.copy()
    cov[row, row] = -10.0 * np.trace(cov)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        posterior(prior, Moments(moments.mean, cov, 1e6), mean, count, scale)
    cov[row, row] = np.nan
    F, f, Sigma = posterior(prior, Moments(moments.mean, cov, 1e6), mean, count, scale)
    assert np.isnan(F).any() and np.isnan(f).any() and np.isnan(Sigma).any()
    spoilt = mean.copy()
    spoilt[row] = np.nan
    assert np.isnan(posterior(prior, moments, spoilt, count, scale)[1]).all()


@pytest.mark.parametrize("forgetting, limit", [(0.05, 40.0), (1e-3, 10.0), (1.0, 1.0)])
def test_moments_are_those_of_gaussian(forgetting, limit):
    rng, size = np.random.default_rng(0), np.array([1e4, 1.0, 1e-4, 1.0, 1.0])
    expected, found = (Moments(np.zeros(5), np.zeros((5, 5)), 0.0),) * 2
    for _ in range(100):
        z = rng.standard_normal(5) * size * np.array([1, 1, 1, 0, 1])  # one is constant
        expected = forget_and_add(expected, z, forgetting, limit)
        found = Moments(*local_fit.forget_and_add(found.mean, found.cov, found.count, z, 1.0, forgetting, limit))
    assert found.count == expected.count and np.array_equal(found.cov, found.cov.T)
    assert np.abs((found.mean - expected.mean) / size).max() < 1e-12
    assert np.abs((found.cov - expected.cov) / np.outer(size, size)).max() < 1e-12


@pytest.mark.parametrize("dy", [1, 2, 5, 14, 32])
def test_the_innovation_is_a_mahalanobis_distance(dy):
    rng, dw = np.random.default_rng(dy), 6
    F, f, w, y = (rng.standard_normal(shape) for shape in ((dy, dw), dy, dw, dy))
    root = rng.standard_normal((dy, dy)) * 10.0 ** rng.uniform(-2, 2, dy)[:, None]
    cov = root @ root.T
    squared, deviations, good = local_fit.innovation(F, f, cov, w, y, 1e-6)
    e = y - F @ w - f
    jittered = cov + 1e-6 * np.trace(cov) / dy * np.eye(dy)
    assert good and squared == pytest.approx(e @ np.linalg.solve(jittered, e), rel=AGREE)
    assert np.allclose(deviations, e / np.sqrt(np.diag(cov)), rtol=AGREE)
    assert not local_fit.innovation(F, f, -cov, w, y, 1e-6)[2]
    assert np.isnan(local_fit.innovation(F, f, cov, np.full(dw, np.nan), y, 1e-6)[0])
