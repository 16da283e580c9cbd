"""The covariance of the noise of a model, from its errors on data it was not fitted to."""
from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mbrl_ros.models.features import scale_of
from mbrl_ros.types import Array

NOISE_FLOOR = 1e-3  # of the deviation of y: no row of R is smaller, constant rows included


def shrunk_covariance(residual: Float[Array, "M dy"], y: Float[Array, "N dy"]) -> Float[Array, "dy dy"]:
    """The mean square of residuals (N, dy) as a matrix (dy, dy), its correlations shrunk as if one more had none.

    That keeps it definite however few they are. More would be too much: position and velocity of a joint err together
    (correlation 0.99), and that they hardly ever err apart is what a band of all outputs together is made of.
    y (N', dy) are the data that set the units.
    """
    R: Array = residual.T @ residual / (len(residual) + 1)
    np.fill_diagonal(R, np.square(residual).mean(0) + (NOISE_FLOOR * scale_of(y)[1]) ** 2)
    return R
