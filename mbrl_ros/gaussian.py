"""Gaussian algebra on numpy arrays: the home of every covariance operation of the ring.

A covariance leaves through `symmetrize`; a positive definite system is solved by Cholesky, with jitter relative to the
mean of its diagonal. The normal-inverse-Wishart fit is docs/design.md, section 3 (Levine & Abbeel 2014; Murphy 2012,
section 4.6.3).
"""
from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from mbrl_ros.types import Array, Gaussian, Moments, NormalInverseWishart

# Rounding leaves a well-scaled covariance of dimension ~50 indefinite by about 1e-14 of its diagonal.
JITTER = 1e-12
Z95 = 1.96  # the central 95 % of N(0, 1) are within this
Z95_BALL = 2.7955  # 95 % of N(0, I) in three dimensions are: the root of the chi-squared quantile, 7.815


def symmetrize(S: Float[Array, "*b n n"]) -> Float[Array, "*b n n"]:
    """(S + S') / 2 for S (*b, n, n)."""
    return 0.5 * (S + S.swapaxes(-1, -2))


def psd_solve(S: Float[Array, "n n"], b: Float[Array, "n ..."], jitter: float = JITTER) -> Float[Array, "n ..."]:
    """S^-1 b for a symmetric positive (semi)definite S (n, n) and b (n, ...).

    Raises numpy.linalg.LinAlgError where S is indefinite beyond `jitter` times the mean of its diagonal.
    """
    ridge = jitter * np.trace(S) / len(S)
    return cho_solve(cho_factor(S + ridge * np.eye(len(S)), lower=True, check_finite=False), b, check_finite=False)


def condition(joint: Gaussian, known: int, jitter: float = JITTER) -> tuple[Float[Array, "nb na"], Float[Array, " nb"],
              Float[Array, "nb nb"]]:
    """p(b | a) of a joint over [a; b] with dim a = `known`, as b ~ N(F a + f, Sigma): returns F, f, Sigma."""
    S_aa, S_ab = joint.cov[:known, :known], joint.cov[:known, known:]
    F = psd_solve(S_aa, S_ab, jitter).T
    f = joint.mean[known:] - F @ joint.mean[:known]
    return F, f, symmetrize(joint.cov[known:, known:] - F @ S_ab)


def leverage(joint: Gaussian, known: int, a: Float[Array, " known"], count: float, mean_count: float,
             jitter: float = JITTER) -> float:
    """By how much p(b | a) is wider, relative to its covariance, for not knowing F and f: 1 / m + d'(n S_aa)^-1 d.

    `joint` over [a; b] is the estimate (`niw_map`) from n = `count` vectors, those of the prior included, and its mean
    one from m = `mean_count`; d is the way from the mean to a (known,). In linear regression that is what leverage is;
    given a normal-inverse-Wishart posterior it is exact, and b - F a - f is Student-t with covariance
    (1 + leverage) Sigma (Geisser 1965).
    """
    d = a - joint.mean[:known]
    return 1 / mean_count + float(d @ psd_solve(joint.cov[:known, :known], d, jitter)) / count


def leverage_growth(joint: Gaussian, known: int, a: Float[Array, " known"], count: float,
                    jitter: float = JITTER) -> Float[Array, "1+known 1+known"]:
    """How `leverage` changes with where it is looked at: symmetric G (1 + known, 1 + known) such that at any b (known,)

        [1; b]' G [1; b] = leverage(b) - leverage(a).
    """
    P = psd_solve(joint.cov[:known, :known], np.eye(known), jitter) / count
    to_mean = np.column_stack([-joint.mean[:known], np.eye(known)])  # d = (.) [1; b]
    G = symmetrize(to_mean.T @ P @ to_mean)
    at = np.concatenate([[1.0], a])
    G[0, 0] -= at @ G @ at
    return G


def marginal(joint: Gaussian, index: Array) -> Gaussian:
    """The Gaussian over the coordinates `index` (ints or slice)."""
    rows = joint.cov[..., index, :]
    return Gaussian(joint.mean[..., index], rows[..., :, index])


def product(a: Gaussian, b: Gaussian) -> Gaussian:
    """The normalised product of two densities over the same variable; exact where a.cov + b.cov is definite."""
    gain = psd_solve(symmetrize(a.cov + b.cov), a.cov).T
    return Gaussian(a.mean + gain @ (b.mean - a.mean), symmetrize(a.cov - gain @ a.cov))


def log_prob(p: Gaussian, x: Float[Array, " n"]) -> float:
    """log N(x | mean, cov) [nats] for one vector x (n,)."""
    L = np.linalg.cholesky(p.cov)
    residual = np.linalg.solve(L, x - p.mean)
    return float(-0.5 * residual @ residual - np.log(np.diag(L)).sum() - 0.5 * len(x) * np.log(2 * np.pi))


def kl(p: Gaussian, q: Gaussian) -> float:
    """KL(p || q) [nats]."""
    Lp, Lq = np.linalg.cholesky(p.cov), np.linalg.cholesky(q.cov)
    W, d = np.linalg.solve(Lq, Lp), np.linalg.solve(Lq, q.mean - p.mean)
    log_ratio = np.log(np.diag(Lq)).sum() - np.log(np.diag(Lp)).sum()
    return float(0.5 * ((W * W).sum() + d @ d - len(d)) + log_ratio)


def mahalanobis2(p: Gaussian, x: Float[Array, " n"]) -> float:
    """(x - mean)' cov^-1 (x - mean)."""
    d = x - p.mean
    return float(d @ psd_solve(p.cov, d))


def empirical_moments(z: Float[Array, "N d"]) -> Moments:
    """Mean and (biased) covariance of z (N, d)."""
    mean = z.mean(0)
    centred = z - mean
    return Moments(mean, centred.T @ centred / len(z), float(len(z)))


def forget_and_add(moments: Moments, z: Float[Array, " d"], forgetting: float, count_limit: float) -> Moments:
    """Exponentially forgotten moments after one more vector z (d,).

    The step is max(forgetting, 1 / count), so that the first vectors are averaged equally; the effective count stops
    growing at `count_limit`. From the first vector on this keeps cov >= 0.
    """
    count = min(moments.count + 1.0, max(1.0 / forgetting, count_limit))
    g = max(forgetting, 1.0 / count)
    d = z - moments.mean
    return Moments(moments.mean + g * d, (1 - g) * (moments.cov + g * np.outer(d, d)), count)


def map_mean(mean: Float[Array, " d"], count: float, prior: NormalInverseWishart) -> Float[Array, " d"]:
    """Maximum a posteriori mean given the mean of `count` vectors."""
    weighted: Array = (prior.m0 * prior.mu0 + count * mean) / (prior.m0 + count)
    return weighted


def niw_map(moments: Moments, prior: NormalInverseWishart) -> Gaussian:
    """Maximum a posteriori Gaussian over z given moments of N vectors and the prior (docs/design.md, section 3).

    Without data (N = 0) it is the prior's N(mu0, Phi / n0); with much data it is the data's mean and covariance.
    """
    N, m0, n0 = moments.count, prior.m0, prior.n0
    d = moments.mean - prior.mu0
    cov = (prior.Phi + N * moments.cov + (N * m0 / (N + m0)) * np.outer(d, d)) / (N + n0)
    return Gaussian(map_mean(moments.mean, N, prior), symmetrize(cov))
