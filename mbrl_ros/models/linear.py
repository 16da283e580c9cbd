"""Ridge regression, where every learned model starts, and linear dynamics of every period of trials.

min_A,b sum_i |y_i - A w_i - b|^2 + lambda N |A|^2, with w and y in units of their deviations. The regressors of an arm
are redundant (tool coordinates beside joint coordinates), so lambda is chosen by prediction of held-out blocks of time.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbrl_ros.gaussian import condition, empirical_moments, niw_map
from mbrl_ros.models.features import CONSTANT, Data, scale_of, time_folds
from mbrl_ros.types import Array, Gaussian, LinearGaussianDynamics, NormalInverseWishart, Trial

STRENGTHS = 10.0 ** np.arange(-6, 0)  # of lambda; from collinear regressors to very few data
FOLDS = 5
JITTER = 1e-9  # of `fit_per_step`, in squared deviations: coordinates of the tool are functions of the joints


def ridge(w: Float[Array, "N dw"], y: Float[Array, "N dy"], strength: float) -> tuple[Float[Array, "dy dw"],
          Float[Array, " dy"]]:
    """A (dy, dw), b (dy,) in raw units from w (N, dw), y (N, dy)."""
    A, b = _path(w, y, np.array([strength]))
    return A[0], b[0]


def choose_ridge(w: Float[Array, "N dw"], y: Float[Array, "N dy"]) -> float:
    """The strength with the least held-out error, in units of the deviation of y."""
    fold, scale = time_folds(len(w), FOLDS), scale_of(y)[1]
    error = np.zeros(len(STRENGTHS))
    for k in range(FOLDS):
        A, b = _path(w[fold != k], y[fold != k], STRENGTHS)
        residual = (y[fold == k] - np.einsum("kij,nj->kni", A, w[fold == k]) - b[:, None]) / scale  # (strengths, n, dy)
        error += np.square(residual).sum((1, 2))
    return float(STRENGTHS[np.argmin(error)])


def _path(w: Array, y: Array, strengths: Array) -> tuple[Array, Array]:
    """Ridge solutions for all strengths by one eigendecomposition: A (s, dy, dw), b (s, dy)."""
    (w_mean, w_scale), (y_mean, y_scale) = scale_of(w), scale_of(y)
    ws, ys = (w - w_mean) / w_scale, (y - y_mean) / y_scale
    values, V = np.linalg.eigh(ws.T @ ws / len(w))
    projected = V.T @ (ws.T @ ys) / len(w)  # (dw, dy)
    gains = 1.0 / (np.maximum(values, 0.0)[None] + strengths[:, None])  # (s, dw)
    A = np.einsum("ij,sj,jk->ski", V, gains, projected) * y_scale[:, None] / w_scale
    return A, y_mean - A @ w_mean


def fit_per_step(trials: Sequence[Trial], prior: Sequence[NormalInverseWishart] | None = None
                 ) -> LinearGaussianDynamics:
    """Linear-Gaussian dynamics of every period t of trials that start alike, from all of them at that t (Levine &
    Abbeel 2014): F (T, n, n + m), f (T, n), Sigma (T, n, n), with T of the shortest trial.

    `prior` is over [x; u; x'], one for each period. Without it the fit is by least squares, and Sigma the mean square
    of what is left. Raises ValueError for no trial, and without a prior for too few.
    """
    N, T = len(trials), min((len(trial.u) for trial in trials), default=0)
    if T == 0:
        raise ValueError("expected trials of at least one period")
    x, u = np.array([trial.x[: T + 1] for trial in trials]), np.array([trial.u[:T] for trial in trials])
    z, known = np.concatenate([x[:, :-1], u, x[:, 1:]], -1), x.shape[-1] + u.shape[-1]  # (N, T, d)
    if prior is None and N <= known + 1:
        raise ValueError(f"expected more than {known + 1} trials where there is no prior, got {N}")
    steps = []
    for t in range(T):
        moments = empirical_moments(z[:, t])
        joint = Gaussian(moments.mean, moments.cov) if prior is None else niw_map(moments, prior[t])
        scale = np.sqrt(np.diag(joint.cov))
        scale = np.where(scale > CONSTANT * np.maximum(1.0, np.abs(joint.mean)), scale, 1.0)
        F, f, Sigma = condition(Gaussian(joint.mean / scale, joint.cov / np.outer(scale, scale)), known, JITTER)
        a, b = scale[:known], scale[known:]
        steps.append((F * b[:, None] / a, f * b, Sigma * np.outer(b, b)))
    return LinearGaussianDynamics(*(np.array(part) for part in zip(*steps, strict=True)))


@dataclass(frozen=True)
class NoModel:
    """No global model: no change is expected, with the spread of the data; as a prior it is flat."""

    bends = False

    @dataclass(frozen=True)
    class Config:
        """Parameters `none.*`: there are none."""

    y_mean: Tensor  # (dy,)
    y_scale: Tensor  # (dy,)
    w_scale: Tensor  # (dw,)

    @classmethod
    def fit(cls, data: Data, config: Config, seed: int) -> NoModel:
        """Only mean and deviation of the data."""
        y_mean, y_scale = scale_of(data.y)
        return cls(*(torch.as_tensor(a) for a in (y_mean, y_scale, scale_of(data.w)[1])))

    def mean(self, w: Float[Tensor, "*b dw"]) -> Float[Tensor, "*b dy"]:
        """(*b, dw) -> (*b, dy)."""
        return self.y_mean.expand(*w.shape[:-1], -1)

    def predict(self, w: Float[Tensor, "*b dw"]) -> Gaussian:
        """Gaussian over y."""
        cov = self.y_scale.square().diag()
        return Gaussian(self.mean(w), cov.expand(*w.shape[:-1], -1, -1))

    def jacobian(self, w: Float[Tensor, "*b dw"]) -> tuple[Float[Tensor, "*b dy"], Float[Tensor, "*b dy dw"]]:
        """(*b, dy) and zeros (*b, dy, dw)."""
        return self.mean(w), w.new_zeros(*w.shape[:-1], len(self.y_mean), w.shape[-1])
