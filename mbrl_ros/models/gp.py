"""Gaussian processes, one per output, over a linear regression.

    y_d = beta_d' [w; 1] + f_d(w) + noise,    f_d ~ GP(0, a_d exp(-1/2 sum_j (w_j - w'_j)^2 / l_dj^2)),    d = 1..dy

The dynamics of an arm are nearly affine, so the coefficients beta_d are inferred with f_d, under the prior that makes
them the ridge regression where f_d is nothing (explicit basis functions: Rasmussen & Williams 2006, section 2.7). The
hyperparameters a_d, l_dj and the variance s_d of the noise are those that make the data likeliest (gp_likelihood.py, by
GPyTorch). f_d is then represented at M of the w, its inducing points Z_d: with K = k_d(Z_d, Z_d) = LL' and
phi(w) = [w; 1; L^-1 k_d(Z_d, w)] the posterior that is closest to the exact one (Titsias 2009) is

    P = Lambda + sum_i phi_i phi_i',   Lambda = diag(ridge strength, 0, s_d),   m = P^-1 sum_i phi_i y_i,
    E[y_d] = m' phi,    var y_d = s_d + s_d phi' P^-1 phi + (a_d - |L^-1 k_d(Z_d, w)|^2),

which is exact where Z_d is all the data. Inducing points are chosen one after the other where the variance of f_d given
those before is largest (Burt, Rasmussen & van der Wilk 2020). R comes from the errors on blocks of time left out in
turn, and has the correlations between outputs that the processes have not.

However many data, a prediction costs dy (M^2 + M dw) multiplications, and touches neither GPyTorch nor autograd.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import solve_triangular
from torch import Tensor

from mbrl_ros.config import LOGARITHMIC, param
from mbrl_ros.models.features import Data, scale_of, time_folds
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.noise import NOISE_FLOOR, shrunk_covariance
from mbrl_ros.types import Array, Gaussian

FOLDS = 5  # left out in turn for R
FREE = 1e-6  # Lambda of the constant: nothing beside the number of data, but P stays definite
JITTER = 1e-6  # on the diagonal of K, of a_d: keeps K definite, and its inverse far from the limits of float64


@dataclass(frozen=True)
class GaussianProcess:
    """The posterior as weights of psi_d(w) = [s; 1; k_d(Z_d, w) / a_d], s = (w - w_mean) / w_scale; a Regression."""

    @dataclass(frozen=True)
    class Config:
        """Parameters `gp.*`."""

        inducing: int = param(128, "Inducing points per output; fewer data than these are all used", 1, 2000)
        steps: int = param(60, "Steps of gradient ascent of the likelihood", 0, 100_000)
        batch: int = param(384, "Transitions whose likelihood a step ascends", 10, 5000)
        learning_rate: float = param(0.2, "Of Adam, at the start; it falls to zero as a cosine", 0.0, 10.0,
                                     scale=LOGARITHMIC)

    mean_weights: Tensor  # (dy, p), p = dw + 1 + M
    Q: Tensor  # (dy, p, p): the variance of the regression at w is amplitude + psi' Q psi
    amplitude: Tensor  # (dy,), a_d
    Z: Tensor  # (dy, M, dw) inducing points, s over the lengthscales
    rate: Tensor  # (dy, dw), 1 over the lengthscales
    R: Tensor  # (dy, dy) covariance of the noise
    w_mean: Tensor  # (dw,)
    w_scale: Tensor  # (dw,)

    @classmethod
    def fit(cls, data: Data, config: Config, seed: int) -> GaussianProcess:
        """Fitted to at least two pairs per fold; the same seed gives the same processes."""
        from mbrl_ros.models.gp_likelihood import maximize  # here, so that no other model needs GPyTorch

        w, y = np.asarray(data.w, float), np.asarray(data.y, float)
        if len(w) < 2 * FOLDS:
            raise ValueError(f"gp: expected at least {2 * FOLDS} transitions, got {len(w)}")
        (w_mean, w_scale), (y_mean, y_scale) = scale_of(w), scale_of(y)
        strength = choose_ridge(w, y)
        A, b = ridge(w, y, strength)
        residual = y - w @ A.T - b
        unit = np.maximum(residual.std(0), NOISE_FLOOR * y_scale)
        s = (w - w_mean) / w_scale
        hypers = Hyperparameters(*maximize(s, residual / unit, config, seed))
        outputs = [_posterior(s, (y - y_mean)[:, d] / unit[d], Hyperparameters(*(h[d] for h in hypers)), strength,
                              config.inducing) for d in range(y.shape[-1])]
        R = shrunk_covariance(np.stack([o.residual for o in outputs], -1) * unit, y)
        mean_weights = np.stack([o.mean_weights for o in outputs]) * unit[:, None]
        mean_weights[:, w.shape[-1]] += y_mean
        return cls(*(torch.as_tensor(a) for a in (
            mean_weights, np.stack([o.Q for o in outputs]) * np.square(unit)[:, None, None],
            hypers.amplitude * np.square(unit), np.stack([o.Z for o in outputs]), hypers.rate, R, w_mean, w_scale)))

    def mean(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "*b dy"]:
        """(*b, dw) -> (*b, dy)."""
        psi = self._basis(w)[0]
        return self._mean(psi).T.reshape(*w.shape[:-1], -1)

    def predict(self, w: Float[Tensor, "*b dw"]) -> Gaussian:
        """Gaussian over y: covariance of the noise, and what is not known of the outputs, correlated as their noise."""
        psi = self._basis(w)[0]
        return self._gaussian(psi, w.shape[:-1])

    def jacobian(self, w: Float[Tensor, "*b dw"]) -> tuple[Float[Tensor, "*b dy"], Float[Tensor, "*b dy dw"]]:
        """Mean (*b, dy) and its derivative (*b, dy, dw)."""
        psi, x = self._basis(w)
        return self._mean(psi).T.reshape(*w.shape[:-1], -1), self._slope(psi, x, w.shape[:-1])

    def expand(self, w: Float[Array, " dw"]) -> tuple[Gaussian, Float[Array, "dy dw"]]:
        """`predict` and the derivative at one w (dw,) in one pass, in numpy, for the prior of every tick."""
        psi, x = self._basis(torch.as_tensor(w))
        y = self._gaussian(psi, w.shape[:-1])
        return Gaussian(y.mean.numpy(), y.cov.numpy()), self._slope(psi, x, w.shape[:-1]).numpy()

    @cached_property
    def _half_square(self) -> Tensor:
        return 0.5 * self.Z.square().sum(-1)[:, None]  # (dy, 1, M)

    def _basis(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """psi (dy, B, p), and s over the lengthscales (dy, B, dw)."""
        s = (w.reshape(-1, w.shape[-1]) - self.w_mean) / self.w_scale
        x = s * self.rate[:, None]
        log_k = torch.baddbmm(self._half_square, x, self.Z.mT, beta=-1.0) - 0.5 * x.square().sum(-1, keepdim=True)
        return torch.cat([s.expand(len(x), -1, -1), torch.ones_like(x[..., :1]), log_k.exp()], -1), x

    def _mean(self, psi: Tensor) -> Tensor:
        """(dy, B)."""
        return (psi @ self.mean_weights[..., None])[..., 0]

    def _gaussian(self, psi: Tensor, batch: torch.Size) -> Gaussian:
        variance = self.amplitude[:, None] + ((psi @ self.Q) * psi).sum(-1)  # (dy, B)
        doubt = variance.clamp(min=0.0).T.sqrt() / self.R.diagonal().sqrt()
        cov = self.R * (1 + doubt[..., None] * doubt[..., None, :])
        return Gaussian(self._mean(psi).T.reshape(*batch, -1), cov.reshape(*batch, *self.R.shape))

    def _slope(self, psi: Tensor, x: Tensor, batch: torch.Size) -> Tensor:
        """(*b, dy, dw): dk/dx = k (Z - x)."""
        dw = x.shape[-1]
        pull = psi[..., dw + 1:] * self.mean_weights[:, None, dw + 1:]  # (dy, B, M)
        J = self.mean_weights[:, None, :dw] + (pull @ self.Z - pull.sum(-1, keepdim=True) * x) * self.rate[:, None]
        return (J / self.w_scale).movedim(0, 1).reshape(*batch, *J.shape[::2])


class Hyperparameters(NamedTuple):
    """Of one process, or of all with a leading axis (dy,), in the units of the fit."""

    rate: Array  # (dw,) 1 / l
    amplitude: Array  # (), a
    noise: Array  # (), s


class _Output(NamedTuple):
    """The posterior of one output in the units of the fit."""

    mean_weights: Array  # (p,)
    Q: Array  # (p, p)
    Z: Array  # (M, dw)
    residual: Array  # (N,), of blocks of time left out in turn, over the root of var y_d / s_d


def _posterior(s: Array, y: Array, hyper: Hyperparameters, strength: float, inducing: int) -> _Output:
    """One process given s (N, dw) and y (N,)."""
    (N, dw), a = s.shape, float(hyper.amplitude)
    x = s * hyper.rate
    Z = x[spread_out(x, min(inducing, N))]
    L = np.sqrt(a) * np.linalg.cholesky(correlation(Z, Z) + JITTER * np.eye(len(Z)))
    whiten = np.eye(dw + 1 + len(Z))  # psi -> phi
    whiten[dw + 1:, dw + 1:] = solve_triangular(L, a * np.eye(len(Z)), lower=True)
    phi = np.hstack([s, np.ones((N, 1)), correlation(x, Z)]) @ whiten.T
    explained = np.square(phi[:, dw + 1:]).sum(-1)
    noise = float(hyper.noise)
    Lambda = np.concatenate([np.full(dw, strength * N), [FREE], np.full(len(Z), noise)])
    fold = time_folds(N, FOLDS)
    grams = np.stack([phi[fold == k].T @ phi[fold == k] for k in range(FOLDS)])
    sums = np.stack([phi[fold == k].T @ y[fold == k] for k in range(FOLDS)])
    residual = np.empty(N)
    for k in range(FOLDS):
        m, C = _solve(grams.sum(0) - grams[k] + np.diag(Lambda), sums.sum(0) - sums[k])
        i = fold == k
        variance = noise * np.square(phi[i] @ C.T).sum(-1) + np.maximum(a - explained[i], 0.0)
        residual[i] = (y[i] - phi[i] @ m) / np.sqrt(1 + variance / noise)
    m, C = _solve(grams.sum(0) + np.diag(Lambda), sums.sum(0))
    known = whiten[dw + 1:]
    return _Output(whiten.T @ m, noise * (C @ whiten).T @ (C @ whiten) - known.T @ known, Z, residual)


def _solve(P: Array, right: Array) -> tuple[Array, Array]:
    """P^-1 right (p,), and C (p, p) with P^-1 = C'C."""
    C = solve_triangular(np.linalg.cholesky(P), np.eye(len(P)), lower=True)
    return C.T @ (C @ right), C


def correlation(p: Float[Array, "N dw"], q: Float[Array, "M dw"]) -> Float[Array, "N M"]:
    """exp(-|p_i - q_j|^2 / 2) (N, M) of p (N, dw), q (M, dw)."""
    squared = np.square(p).sum(-1)[:, None] + np.square(q).sum(-1) - 2 * p @ q.T
    return np.exp(-0.5 * np.maximum(squared, 0.0))


def spread_out(x: Array, M: int) -> Array:
    """M rows of x (N, dw), each with the largest variance given those before: Cholesky with pivots."""
    if len(x) == M:
        return np.arange(M)
    left, columns, chosen = np.ones(len(x)), np.zeros((M, len(x))), np.zeros(M, int)
    for j in range(M):
        i = chosen[j] = int(left.argmax())
        column = correlation(x, x[i:i + 1])[:, 0] - columns[:j, i] @ columns[:j]
        columns[j] = column / np.sqrt(max(left[i], JITTER))
        left = np.maximum(left - np.square(columns[j]), 0.0)
    return chosen
