"""Ridge regression: where every learned model starts.

min_A,b sum_i |y_i - A w_i - b|^2 + lambda N |A|^2, with w and y in units of their deviations. The regressors of an arm
are redundant (tool coordinates beside joint coordinates), so lambda is chosen by prediction of held-out blocks of time.
"""
from __future__ import annotations

import numpy as np

from mbrl_ros.models.features import scale_of, time_folds
from mbrl_ros.types import Array

STRENGTHS = 10.0 ** np.arange(-6, 0)  # of lambda; from collinear regressors to very few data
FOLDS = 5


def ridge(w: Array, y: Array, strength: float) -> tuple[Array, Array]:
    """A (dy, dw), b (dy,) in raw units from w (N, dw), y (N, dy)."""
    A, b = _path(w, y, np.array([strength]))
    return A[0], b[0]


def choose_ridge(w: Array, y: Array) -> float:
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
