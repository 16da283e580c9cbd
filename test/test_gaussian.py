"""Gaussian algebra against closed forms, sampling and its own limits."""
from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from checks import random_covariance

from mbrl_ros.gaussian import (
    condition,
    empirical_moments,
    forget_and_add,
    kl,
    leverage,
    leverage_growth,
    log_prob,
    mahalanobis2,
    map_mean,
    marginal,
    niw_map,
    product,
    psd_solve,
    symmetrize,
)
from mbrl_ros.types import Gaussian, Moments, NormalInverseWishart


def random_gaussian(n, seed):
    return Gaussian(np.random.default_rng(seed + 1000).standard_normal(n), random_covariance(n, seed))


def test_condition_equals_the_precision_form():
    """Of p(b | a), the covariance is the inverse of the precision's block, independently of `condition`'s formula."""
    joint, k = random_gaussian(7, 0), 4
    F, f, Sigma = condition(joint, k)
    P = np.linalg.inv(joint.cov)
    assert np.allclose(Sigma, np.linalg.inv(P[k:, k:]), atol=1e-9)
    assert np.allclose(F, -np.linalg.solve(P[k:, k:], P[k:, :k]), atol=1e-9)
    assert np.allclose(F @ joint.mean[:k] + f, joint.mean[k:], atol=1e-12)


def test_condition_equals_sampling_and_binning():
    joint = random_gaussian(2, 1)
    z = np.random.default_rng(0).multivariate_normal(joint.mean, joint.cov, 400_000)
    F, f, Sigma = condition(joint, 1)
    for a in joint.mean[0] + np.sqrt(joint.cov[0, 0]) * np.array([-1.0, 0.0, 1.5]):
        inside = z[np.abs(z[:, 0] - a) < 0.02, 1] - F[0, 0] * (z[np.abs(z[:, 0] - a) < 0.02, 0] - a)
        error = np.sqrt(Sigma[0, 0] / len(inside))
        assert abs(inside.mean() - (F[0, 0] * a + f[0])) < 6 * error
        assert abs(inside.var() / Sigma[0, 0] - 1) < 6 * np.sqrt(2 / len(inside))


def test_marginal_times_conditional_is_the_joint():
    joint, k, z = random_gaussian(6, 2), 2, np.random.default_rng(3).standard_normal(6)
    F, f, Sigma = condition(joint, k)
    chain = log_prob(marginal(joint, np.arange(k)), z[:k]) + log_prob(Gaussian(F @ z[:k] + f, Sigma), z[k:])
    assert chain == pytest.approx(log_prob(joint, z), abs=1e-9)


def test_log_prob_and_mahalanobis_equal_scipy():
    p, x = random_gaussian(5, 3), np.random.default_rng(4).standard_normal(5)
    assert log_prob(p, x) == pytest.approx(scipy.stats.multivariate_normal(p.mean, p.cov).logpdf(x), abs=1e-9)
    assert mahalanobis2(p, x) == pytest.approx((x - p.mean) @ np.linalg.inv(p.cov) @ (x - p.mean), rel=1e-9)


def test_product_is_the_normalised_product_of_densities():
    a, b, rng = random_gaussian(4, 5), random_gaussian(4, 6), np.random.default_rng(7)
    c = product(a, b)
    constants = [log_prob(a, x) + log_prob(b, x) - log_prob(c, x) for x in rng.standard_normal((5, 4))]
    assert np.ptp(constants) < 1e-9


def test_product_with_what_is_known_exactly_is_that():
    a, exact = random_gaussian(3, 8), Gaussian(np.ones(3), np.zeros((3, 3)))
    assert np.allclose(product(a, exact).mean, 1.0, atol=1e-9)
    assert np.allclose(product(a, exact).cov, 0.0, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_kl_is_positive_and_zero_only_at_equality(seed):
    p, q = random_gaussian(6, seed), random_gaussian(6, seed + 50)
    assert kl(p, q) > 0
    assert kl(p, p) == pytest.approx(0.0, abs=1e-12)


def test_kl_equals_sampling():
    p, q = random_gaussian(3, 9), random_gaussian(3, 10)
    z = np.random.default_rng(0).multivariate_normal(p.mean, p.cov, 200_000)
    ratio = scipy.stats.multivariate_normal(p.mean, p.cov).logpdf(z) - scipy.stats.multivariate_normal(
        q.mean, q.cov).logpdf(z)
    assert abs(ratio.mean() - kl(p, q)) < 6 * ratio.std() / np.sqrt(len(z))


def test_psd_solve_solves_and_refuses_what_is_indefinite():
    S, b = random_covariance(5, 11), np.arange(5.0)
    assert np.allclose(S @ psd_solve(S, b), b, atol=1e-9)
    with pytest.raises(np.linalg.LinAlgError):
        psd_solve(np.diag([1.0, -0.1]), np.ones(2))


def test_symmetrize_of_a_batch_is_symmetric():
    S = np.random.default_rng(0).standard_normal((3, 4, 4))
    assert np.array_equal(symmetrize(S), symmetrize(S).swapaxes(1, 2))


def forgotten(z, forgetting, limit=1.0):
    moments = Moments(np.zeros(z.shape[1]), np.zeros((z.shape[1],) * 2), 0.0)
    for row in z:
        moments = forget_and_add(moments, row, forgetting, limit)
    return moments


def test_forgetting_weighs_the_first_vectors_equally():
    z = np.random.default_rng(0).standard_normal((30, 4)) + 3
    moments, direct = forgotten(z, 1 / 50), empirical_moments(z)
    assert np.allclose(moments.mean, direct.mean, atol=1e-12) and np.allclose(moments.cov, direct.cov, atol=1e-12)
    assert moments.count == 30


def test_forgotten_moments_are_exponentially_weighted():
    g, z = 0.1, np.random.default_rng(1).standard_normal((400, 3)) + 2
    weight = g * (1 - g) ** np.arange(399, -1, -1)  # what is left of the start is 0.9^400 = 5e-19
    mean = weight @ z
    moments = forgotten(z, g)
    assert np.allclose(moments.mean, mean, atol=1e-12)
    assert np.allclose(moments.cov, (z - mean).T @ (weight[:, None] * (z - mean)), atol=1e-12)
    assert moments.count == pytest.approx(10)


def test_forgotten_covariance_stays_semidefinite():
    z = np.random.default_rng(2).standard_normal((200, 5)) * np.array([1e3, 1, 1e-3, 0, 1])
    assert np.linalg.eigvalsh(forgotten(z, 0.05, 20.0).cov).min() > -1e-9 * 1e6


def random_prior(d, seed, m0=3.0, n0=5.0):
    return NormalInverseWishart(np.random.default_rng(seed).standard_normal(d), n0 * random_covariance(d, seed), m0, n0)


def test_niw_without_data_is_the_prior():
    prior = random_prior(4, 0)
    posterior = niw_map(Moments(np.full(4, 9.0), np.eye(4), 0.0), prior)
    assert np.allclose(posterior.mean, prior.mu0, atol=1e-12)
    assert np.allclose(posterior.cov, prior.Phi / prior.n0, atol=1e-12)


def test_niw_with_much_data_is_least_squares():
    rng = np.random.default_rng(3)
    w, A = rng.standard_normal((50, 3)), rng.standard_normal((2, 3))
    y = w @ A.T + 0.1 * rng.standard_normal((50, 2)) + 1
    moments = empirical_moments(np.hstack([w, y]))
    F, f, _ = condition(niw_map(Moments(moments.mean, moments.cov, 1e9), random_prior(5, 4)), 3)
    solution = np.linalg.lstsq(np.hstack([w, np.ones((50, 1))]), y, rcond=None)[0]
    assert np.allclose(np.column_stack([F, f]), solution.T, atol=1e-6)  # n0 / N = 5e-9 times cond(S_ww)


def test_leverage_is_that_of_linear_regression():
    """x'(X'X)^-1 x with x = [w; 1], where the prior is as many vectors as it counts for."""
    rng = np.random.default_rng(8)
    w, a = rng.standard_normal((40, 3)) + 2, rng.standard_normal(3) + 2
    z = np.hstack([w, rng.standard_normal((40, 2))])
    before = empirical_moments(z[25:])
    posterior = niw_map(empirical_moments(z[:25]), NormalInverseWishart(before.mean, 15 * before.cov, 15.0, 15.0))
    X, x = np.hstack([w, np.ones((40, 1))]), np.append(a, 1.0)
    assert leverage(posterior, 3, a, 40.0, 40.0) == pytest.approx(x @ np.linalg.solve(X.T @ X, x), rel=1e-9)
    b = np.append(1.0, a + 1.0)
    growth = leverage(posterior, 3, b[1:], 40.0, 40.0) - leverage(posterior, 3, a, 40.0, 40.0)
    assert b @ leverage_growth(posterior, 3, a, 40.0) @ b == pytest.approx(growth, rel=1e-9)


def test_niw_prior_counts_as_data():
    """A prior of n0 = m0 vectors is what n0 more vectors with its moments would have been."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((40, 4)), 2 * rng.standard_normal((15, 4)) + 1
    before, all_together = empirical_moments(b), empirical_moments(np.vstack([a, b]))
    posterior = niw_map(empirical_moments(a), NormalInverseWishart(before.mean, 15 * before.cov, 15.0, 15.0))
    assert np.allclose(posterior.mean, all_together.mean, atol=1e-12)
    assert np.allclose(posterior.cov, all_together.cov, atol=1e-12)


def test_map_mean_moves_from_the_prior_to_the_data():
    prior, mean = random_prior(3, 6), np.full(3, 7.0)
    assert np.array_equal(map_mean(mean, 0.0, prior), prior.mu0)
    assert np.allclose(map_mean(mean, 3.0, prior), 0.5 * (prior.mu0 + mean), atol=1e-12)  # m0 = 3 too
