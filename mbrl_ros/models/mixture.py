"""A mixture of Gaussians over z = [w; y] (Levine & Abbeel 2014), made safe for few data.

    p(z) = sum_k pi_k N(mu_k, S_k),    y | w by mixing the conditionals with r_k(w) = p(k | w)

Plain maximum likelihood fails here: thirty seconds of an arm are 1500 vectors of 47 numbers, and a component of a
hundred of them invents couplings that a planner exploits. So every S_k has an inverse-Wishart prior around the pooled
covariance S_0 of all data, nu vectors strong: S_k = (nu S_0 + N_k S^_k) / (nu + N_k), hence with few vectors the
component's conditional is the global regression. EM ascends

    sum_i log p(z_i) - nu/2 sum_k (log |S_k| + tr S_k^-1 S_0) + sum_k log pi_k

in units of the deviations of z. The number of components and nu are those that predict y from w best on held-out blocks
of time. One component is `gaussian`: the single global Gaussian.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.kernels import models as kernel
from mbrl_ros.models.features import Data, scale_of, time_folds
from mbrl_ros.types import Array, Gaussian

FLOOR = 1e-3  # of the deviation of z, added to S_0 as its square: keeps constant and redundant rows definite
STRENGTHS = (1.0, 4.0, 16.0)  # candidates of nu, in units of dim z
FOLDS = 5  # one of which is held out while the number of components is chosen
LEAST = 2.0  # components with fewer vectors are dropped


@dataclass(frozen=True)
class Parameters:
    """pi_k, mu_k, S_k of a mixture, numpy."""

    weight: Array  # (K,)
    mean: Array  # (K, d)
    cov: Array  # (K, d, d)


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture in raw units; a Regression."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `mixture.*`."""

        max_components: int = param(5, "Most components; the number used is chosen by held-out likelihood", 1, 100)
        strength: float = param(0.0, "Of the prior around the pooled covariance, in vectors per dimension of z; "
                                "0: chosen by held-out likelihood", 0.0, 1e6, unit="vectors", scale=LOGARITHMIC)
        iterations: int = param(30, "Most EM iterations", 1, 100_000)
        tolerance: float = param(1e-3, "EM ends when the objective per vector rises by less [nats]", 0.0, 1.0)

    weight: Tensor  # (K,)
    mean_z: Tensor  # (K, d)
    cov: Tensor  # (K, d, d)
    w_scale: Tensor  # (dw,)

    @classmethod
    def fit(cls, data: Data, config: Any, seed: int, warm: Mixture | None = None) -> Self:
        """Fitted to the data; a `warm` mixture gives the first responsibilities and the number of components."""
        z = np.hstack([data.w, data.y])
        offset, scale = scale_of(z)
        scaled, dw = (z - offset) / scale, data.w.shape[-1]
        if warm is not None:
            start = Parameters(warm.weight.numpy(), (warm.mean_z.numpy() - offset) / scale,
                               warm.cov.numpy() / np.outer(scale, scale))
            strength = (config.strength or STRENGTHS[1]) * z.shape[-1]
            p = em(scaled, responsibilities(start, scaled)[0], strength, config)[0]
        else:
            p = _select(scaled, dw, config, seed)
        return cls._in_raw_units(p, offset, scale, dw)

    @classmethod
    def _in_raw_units(cls, p: Parameters, offset: Array, scale: Array, dw: int) -> Self:
        return cls(torch.as_tensor(p.weight), torch.as_tensor(offset + scale * p.mean),
                   torch.as_tensor(p.cov * np.outer(scale, scale)), torch.as_tensor(scale[:dw]))

    @property
    def dw(self) -> int:
        return len(self.w_scale)

    @cached_property
    def _whiten(self) -> Tensor:
        """L_k^-1 (K, dw, dw) with S_ww,k = L_k L_k'."""
        L = torch.linalg.cholesky(self.cov[:, : self.dw, : self.dw])
        return torch.linalg.solve_triangular(L, torch.eye(self.dw, dtype=L.dtype).expand_as(L), upper=False)

    @cached_property
    def _log_height(self) -> Tensor:
        """log pi_k - log |L_k| (K,): of p(k, w) at the mean of k, but for a constant."""
        log_height: Tensor = self.weight.log() + self._whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_height

    @cached_property
    def _conditional(self) -> tuple[Tensor, Tensor, Tensor]:
        """y | w, k ~ N(F w + f, Sigma): F (K, dy, dw), f (K, dy), Sigma (K, dy, dy)."""
        whitened = self._whiten @ self.cov[:, : self.dw, self.dw :]  # (K, dw, dy)
        F = whitened.mT @ self._whiten
        f = self.mean_z[:, self.dw :] - (F @ self.mean_z[:, : self.dw, None])[..., 0]
        Sigma = self.cov[:, self.dw :, self.dw :] - whitened.mT @ whitened
        return F, f, 0.5 * (Sigma + Sigma.mT)

    def responsibilities(self, w: Tensor) -> Tensor:
        """p(k | w): (*b, dw) -> (*b, K)."""
        return self._gate(w)[0]

    def mean(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "*b dy"]:
        """(*b, dw) -> (*b, dy)."""
        F, f, _ = self._conditional
        y = torch.einsum("kij,...j->...ki", F, w) + f
        return (self.responsibilities(w)[..., None] * y).sum(-2)

    def predict(self, w: Float[Tensor, "*b dw"]) -> Gaussian:
        """Mean and covariance of the mixture of conditionals."""
        F, f, Sigma = self._conditional
        r = self.responsibilities(w)  # (*b, K)
        y = torch.einsum("kij,...j->...ki", F, w) + f  # (*b, K, dy)
        mean = (r[..., None] * y).sum(-2)
        d = y - mean[..., None, :]
        return Gaussian(mean, torch.einsum("...k,kij->...ij", r, Sigma) + d.mT @ (r[..., None] * d))

    def jacobian(self, w: Float[Tensor, "*b dw"]) -> tuple[Float[Tensor, "*b dy"], Float[Tensor, "*b dy dw"]]:
        """(*b, dy) and (*b, dy, dw): sum_k r_k F_k + r_k (y_k - y) (d log p_k / dw)'."""
        F, f, _ = self._conditional
        r, slope = self._gate(w)
        y = torch.einsum("kij,...j->...ki", F, w) + f
        mean = (r[..., None] * y).sum(-2)
        d = r[..., None] * (y - mean[..., None, :])  # (*b, K, dy)
        return mean, torch.einsum("...k,kij->...ij", r, F) + d.mT @ slope

    def expand(self, w: Float[Array, " dw"]) -> tuple[Gaussian, Float[Array, "dy dw"]]:
        """Gaussian over y, and dy/dw with the responsibilities held: sum_k r_k F_k (dy, dw) at one w (dw,), in numpy.

        Between two components the mean changes by what they disagree about, within a hair's breadth in these many
        redundant dimensions. That step is not a slope of the robot, and a planner would climb it.
        """
        mean, cov, J = kernel.mixture(w, *self._arrays)
        return Gaussian(mean, cov), J

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        """What kernel.mixture takes."""
        arrays = (self._log_height, self.mean_z[:, : self.dw], self._whiten, *self._conditional)
        return tuple(np.ascontiguousarray(a.numpy()) for a in arrays)

    def _gate(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """p(k | w) (*b, K) and d log p_k(w) / dw (*b, K, dw)."""
        whitened = torch.einsum("kij,...kj->...ki", self._whiten, w[..., None, :] - self.mean_z[:, : self.dw])
        log_p = self._log_height - 0.5 * whitened.square().sum(-1)
        return log_p.softmax(-1), -torch.einsum("kij,...ki->...kj", self._whiten, whitened)


@dataclass(frozen=True)
class GlobalGaussian(Mixture):
    """The mixture of one component: mean and covariance of the data."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `gaussian.*`: there are none to choose."""

    @classmethod
    def fit(cls, data: Data, config: Any, seed: int, warm: Mixture | None = None) -> Self:
        """Sample moments."""
        z = np.hstack([data.w, data.y])
        offset, scale = scale_of(z)
        scaled = (z - offset) / scale
        p = maximize(scaled, np.ones((len(z), 1)), pooled(scaled), 0.0)
        return cls._in_raw_units(p, offset, scale, data.w.shape[-1])


def pooled(z: Float[Array, "N d"]) -> Float[Array, "d d"]:
    """S_0 (d, d): covariance of all z (N, d), with a floor."""
    centred = z - z.mean(0)
    return centred.T @ centred / len(z) + FLOOR**2 * np.eye(z.shape[-1])


def responsibilities(p: Parameters, z: Array) -> tuple[Array, Array]:
    """E-step: p(k | z_i) (N, K) and log p(z_i) (N,)."""
    log_p = np.log(p.weight) + np.stack([_log_normal(z, *k) for k in zip(p.mean, p.cov, strict=True)], -1)
    total = logsumexp(log_p, axis=1)
    return np.exp(log_p - total[:, None]), total


def maximize(z: Float[Array, "N d"], r: Float[Array, "N K"], S0: Float[Array, "d d"], nu: float) -> Parameters:
    """M-step: the maximum a posteriori parameters for responsibilities r (N, K)."""
    N, K = r.shape
    counts = r.sum(0)  # (K,)
    mean = (r.T @ z) / counts[:, None]
    cov = np.empty((K, z.shape[-1], z.shape[-1]))
    for k in range(K):
        centred = z - mean[k]
        scatter = (r[:, k, None] * centred).T @ centred + counts[k] * FLOOR**2 * np.eye(z.shape[-1])
        cov[k] = (nu * S0 + scatter) / (nu + counts[k])
    return Parameters((counts + 1) / (N + K), mean, cov)


def objective(p: Parameters, log_likelihood: Float[Array, " N"], S0: Float[Array, "d d"], nu: float) -> float:
    """What EM ascends [nats]."""
    penalty = 0.0
    for S in p.cov:
        L = np.linalg.cholesky(S)
        penalty += 2 * np.log(np.diag(L)).sum() + np.trace(np.linalg.solve(S, S0))
    return float(log_likelihood.sum() - 0.5 * nu * penalty + np.log(p.weight).sum())


def em(z: Float[Array, "N d"], r: Float[Array, "N K"], nu: float, config: Any) -> tuple[Parameters, list[float]]:
    """EM from the responsibilities r (N, K): the parameters and the objective after every iteration."""
    S0, history = pooled(z), []
    p = maximize(z, r, S0, nu)
    for _ in range(config.iterations):
        r, log_likelihood = responsibilities(p, z)
        history.append(objective(p, log_likelihood, S0, nu))
        if len(history) > 1 and history[-1] - history[-2] < config.tolerance * len(z):
            break
        alive = r.sum(0) >= LEAST
        if not alive.all():
            r, history = r[:, alive] / r[:, alive].sum(1, keepdims=True).clip(1e-300), []
        p = maximize(z, r, S0, nu)
    return p, history


def kmeans(z: Float[Array, "N d"], K: int, seed: int) -> Float[Array, "N K"]:
    """Hard responsibilities (N, K) of k-means with k-means++ seeding (Arthur & Vassilvitskii 2007)."""
    rng = np.random.default_rng(seed)
    centres = z[rng.integers(len(z))][None]
    while len(centres) < K:
        squared = _squared_distances(z, centres).min(1)
        total = squared.sum()
        chosen = rng.choice(len(z), p=squared / total) if total > 0 else rng.integers(len(z))
        centres = np.vstack([centres, z[chosen]])
    for _ in range(10):
        r = np.eye(K)[_squared_distances(z, centres).argmin(1)]
        counts = r.sum(0)
        centres = np.where(counts[:, None] > 0, r.T @ z / np.maximum(counts, 1)[:, None], centres)
    r = np.eye(K)[_squared_distances(z, centres).argmin(1)]
    return r[:, r.sum(0) > 0]


def conditional_log_likelihood(p: Parameters, z: Float[Array, "N d"], dw: int) -> Float[Array, " N"]:
    """log p(y_i | w_i) (N,) of z (N, d) [nats]."""
    marginal = Parameters(p.weight, p.mean[:, :dw], p.cov[:, :dw, :dw])
    log_p: Array = responsibilities(p, z)[1] - responsibilities(marginal, z[:, :dw])[1]
    return log_p


def _select(z: Array, dw: int, config: Mixture.Config, seed: int) -> Parameters:
    """The mixture with the best held-out prediction of y, refitted to all data.

    More components are taken only for a gain above its standard error.
    """
    d, test = z.shape[-1], time_folds(len(z), FOLDS) == FOLDS - 1
    strengths = (config.strength,) if config.strength > 0 else STRENGTHS
    first, *rest = _candidates(config.max_components, len(z))

    def score(K: int, strength: float) -> Array:
        start = kmeans(z[~test], K, seed)
        return conditional_log_likelihood(em(z[~test], start, strength * d, config)[0], z[test], dw)

    best, choice = score(first, strengths[-1]), (first, strengths[-1])
    for K in rest:
        scores = {s: score(K, s) for s in strengths}
        strength = max(scores, key=lambda s: float(scores[s].mean()))
        gain = scores[strength] - best
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            best, choice = scores[strength], (K, strength)
        elif K > 2:
            break
    return em(z, kmeans(z, choice[0], seed), choice[1] * d, config)[0]


def _candidates(most: int, N: int) -> list[int]:
    """1, 2, 3, 5, 8, ... up to `most`, and at least two vectors each."""
    a, b, result = 1, 2, []
    while a <= min(most, max(1, N // 2)):
        result.append(a)
        a, b = b, a + b
    return result


def _log_normal(z: Array, mean: Array, cov: Array) -> Array:
    """log N(z_i | mean, cov) (N,) [nats]."""
    L = np.linalg.cholesky(cov)
    whitened = solve_triangular(L, (z - mean).T, lower=True, check_finite=False)
    return -0.5 * np.square(whitened).sum(0) - np.log(np.diag(L)).sum() - 0.5 * len(mean) * np.log(2 * np.pi)


def _squared_distances(z: Array, centres: Array) -> Array:
    return np.stack([np.square(z - centre).sum(1) for centre in centres], -1)
