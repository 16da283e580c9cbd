"""The covariance of the noise of a model, from its errors on data it was not fitted to."""
from __future__ import annotations

import numpy as np

from mbrl_ros.models.features import scale_of
from mbrl_ros.types import Array

NOISE_FLOOR = 1e-3  # of the deviation of y: no row of R is smaller, constant rows included


def shrunk_covariance(residual: Array, y: Array) -> Array:
    """S (dy, dy), the mean square of residuals (N, dy), its correlations shrunk as if dy more of them had none.

    y (N', dy) are the data that set the units.
    """
    N, dy = residual.shape
    S = residual.T @ residual / N
    diagonal = np.diag(np.diag(S) + (NOISE_FLOOR * scale_of(y)[1]) ** 2)
    return (N * S + dy * diagonal) / (N + dy) + np.diag(np.diag(diagonal) - np.diag(S)) * (N / (N + dy))
