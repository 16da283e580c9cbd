"""Where the tool will be by a plan, and how far off in 95 of 100 cases: the tube about it."""
from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from mbrl_ros.gaussian import Z95_BALL
from mbrl_ros.types import Array, Gaussian, LinearGaussianDynamics


def tube(dynamics: LinearGaussianDynamics, gains: Array, start: Gaussian, states: Array, rows: slice
         ) -> tuple[Array, Array, Array]:
    """Where the rows (3 of n) of x are along `states` (T + 1, n) of a plan: centers (T + 1, 3), half axes (T + 1, 3) of
    the ellipsoids that hold 95 % of them, and rotations (T + 1, 3, 3) whose columns are the axes.

    P' = (A + B K) P (A + B K)' + Sigma from P = cov of `start`, with the gains (T, m, n) of the plan. That the dynamics
    are uncertain beyond Sigma, and that plans are made anew every period, is not in it.
    """
    A, B, P = dynamics.A, dynamics.B, start.cov
    covariances = [P[rows, rows]]
    for K in gains:
        closed = A + B @ K
        P = closed @ P @ closed.T + dynamics.Sigma
        covariances.append(P[rows, rows])
    values, axes = np.linalg.eigh(np.array(covariances))
    axes[np.linalg.det(axes) < 0, :, 0] *= -1
    return states[:, rows], Z95_BALL * np.sqrt(np.maximum(values, 0.0)), axes


def quaternions(R: Array) -> Array:
    """Unit quaternions (N, 4), w first, of rotations R (N, 3, 3)."""
    found: Array = Rotation.from_matrix(R).as_quat()[:, [3, 0, 1, 2]]
    return found
