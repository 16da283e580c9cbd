"""One network with a Gaussian head, and the same with a Bayesian last layer.

    y ~ N(g(w), R),    g(w) = A w + b + W3 h(w),    h(w) = tanh(W2 tanh(W1 w + b1) + b2)

`network` is the ensemble of one member: R holds its error on the blocks of time that were held out of its training, and
far from the data it is as sure as near them.

`bnn` keeps h and infers what follows it: Laplace's approximation of the last layer (Daxberger et al. 2021, "Laplace
Redux"), which for a Gaussian likelihood is exact, namely Bayesian linear regression of y on phi = [1; w; h(w)] (Snoek
et al. 2015). Per output, with w in units of its deviation and weights beta ~ N(0, R_dd Lambda^-1) a priori,

    P = Lambda + sum_i phi_i phi_i',    beta = P^-1 sum_i phi_i y_i,    y ~ N(beta' phi, (1 + phi' P^-1 phi) R).

Lambda is zero for the constant, the strength of the ridge regression for w, so that without h this is that regression,
and for h what makes held-out blocks of time likeliest. The hidden layers count as known; along w doubt still grows as
far as one goes.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import solve_triangular
from torch import Tensor

from mbrl_ros.kernels import models as kernel
from mbrl_ros.models.ensemble import FOLDS, Ensemble, Training
from mbrl_ros.models.features import Data, scale_of, time_folds
from mbrl_ros.models.linear import choose_ridge
from mbrl_ros.models.noise import NOISE_FLOOR, shrunk_covariance
from mbrl_ros.types import Array, Gaussian

STRENGTHS = 10.0 ** np.arange(-2, 4)  # candidates of Lambda for h
FREE = 1e-9  # Lambda of the constant: nothing beside the number of data, but P stays definite


@dataclass(frozen=True)
class Network(Ensemble):
    """An ensemble with E = 1."""

    @dataclass(frozen=True)
    class Config(Training):
        """Parameters `network.*`."""

    @classmethod
    def fit(cls, data: Data, config: Any, seed: int) -> Self:
        """As for the ensemble, but for R: with one member its scale needs no calibration."""
        network, y = _network(data, config, seed), np.asarray(data.y, float)
        residual = y - network.mean(torch.as_tensor(data.w)).numpy()
        R = shrunk_covariance(residual[_held_out(len(y))], y)
        return cls(**{**vars(network), "R": torch.as_tensor(R)})


@dataclass(frozen=True)
class BayesianNetwork(Ensemble):
    """An ensemble with E = 1 whose A, b and W3 are posterior means; U is whitening: phi' P^-1 phi = |U phi|^2."""

    @dataclass(frozen=True)
    class Config(Training):
        """Parameters `bnn.*`."""

    U: Tensor  # (p, p), p = 1 + dw + h

    @classmethod
    def fit(cls, data: Data, config: Any, seed: int) -> Self:
        """A network, and the posterior of its last layer given all data."""
        w, y = np.asarray(data.w, float), np.asarray(data.y, float)
        network = _network(data, config, seed)
        (w_mean, w_scale), y_scale = scale_of(w), scale_of(y)[1]
        to_units = _to_units(w_mean, w_scale, config.hidden)
        phi = _features(network, torch.as_tensor(w)).numpy() @ to_units.T
        held_out = _held_out(len(w))
        linear = choose_ridge(w, y) * len(w)
        precisions = [np.concatenate([[FREE], np.full(len(w_mean), linear), np.full(config.hidden, s)])
                      for s in STRENGTHS]
        trials = [_Posterior.of(phi[~held_out], y[~held_out], p) for p in precisions]
        scores = [t.log_likelihood(phi[held_out], y[held_out], y_scale) for t in trials]
        best = int(np.argmax(scores))
        R = shrunk_covariance(trials[best].whitened(phi[held_out], y[held_out]), y)
        posterior = _Posterior.of(phi, y, precisions[best])
        beta, U = torch.as_tensor(to_units.T @ posterior.beta).T, torch.as_tensor(posterior.U @ to_units)
        dw = len(w_mean)
        last = {"b": beta[None, :, 0], "A": beta[None, :, 1:dw + 1], "W3": beta[None, :, dw + 1:], "U": U,
                "R": torch.as_tensor(R)}
        return cls(**{**vars(network), **{name: value.contiguous() for name, value in last.items()}})

    def predict(self, w: Float[Tensor, "*b dw"]) -> Gaussian:
        """Mean and (1 + phi' P^-1 phi) R."""
        doubt = (_features(self, w) @ self.U.mT).square().sum(-1)  # (*b,)
        return Gaussian(self.mean(w), (1 + doubt)[..., None, None] * self.R)

    def expand(self, w: Float[Array, " dw"]) -> tuple[Gaussian, Float[Array, "dy dw"]]:
        """`predict` and the derivative at one w (dw,), in numpy, for the prior of every tick."""
        y, _, J, hidden = kernel.ensemble(w, *self._arrays)
        whitened = self.U.numpy() @ np.concatenate([np.ones(1), w, hidden[0]])
        return Gaussian(y, (1 + whitened @ whitened) * self._noise), J


def _network(data: Data, config: Training, seed: int) -> Ensemble:
    return Ensemble.fit(data, Ensemble.Config(members=1, **vars(config)), seed)


def _held_out(N: int) -> Array:
    """The rows (N,) that the one member of an ensemble was not trained on, as a mask."""
    mask: Array = time_folds(N, FOLDS) == 0
    return mask


def _features(network: Ensemble, w: Tensor) -> Tensor:
    """phi = [1; w; h(w)] (*b, p) in raw units."""
    flat = w.reshape(-1, w.shape[-1])
    h = network._forward(flat)[2][0]
    return torch.cat([torch.ones_like(flat[:, :1]), flat, h], -1).reshape(*w.shape[:-1], -1)


def _to_units(w_mean: Array, w_scale: Array, hidden: int) -> Array:
    """The matrix (p, p) that takes phi to the one with w centred and in units of its deviation: the same regression, as
    its constant is free, but better conditioned."""
    T = np.diag(np.concatenate([[1.0], 1 / w_scale, np.ones(hidden)]))
    T[1:len(w_mean) + 1, 0] = -w_mean / w_scale
    return T


class _Posterior(NamedTuple):
    """The weights given data: N(beta_d, R_dd P^-1) with P^-1 = U'U."""

    beta: Array  # (p, dy)
    U: Array  # (p, p)

    @classmethod
    def of(cls, phi: Array, y: Array, precision: Array) -> _Posterior:
        """From phi (N, p), y (N, dy) and the diagonal (p,) of Lambda."""
        U = solve_triangular(np.linalg.cholesky(phi.T @ phi + np.diag(precision)), np.eye(len(precision)), lower=True)
        return cls(U.T @ (U @ (phi.T @ y)), U)

    def whitened(self, phi: Array, y: Array) -> Array:
        """Residuals (N, dy) over the root of 1 + phi' P^-1 phi: each then has covariance R."""
        residual: Array = (y - phi @ self.beta) / np.sqrt(1 + np.square(phi @ self.U.T).sum(-1))[:, None]
        return residual

    def log_likelihood(self, phi: Array, y: Array, y_scale: Array) -> float:
        """Of held-out data, per row, with the variance of every output that suits them best [nats, but a constant]."""
        variance = np.square(self.whitened(phi, y)).mean(0) + np.square(NOISE_FLOOR * y_scale)
        doubt = np.square(phi @ self.U.T).sum(-1)
        return -0.5 * float(np.log(variance).sum() + len(y_scale) * np.log1p(doubt).mean())
