"""The tube about a plan, against draws from the dynamics it is computed from."""
import mujoco
import numpy as np
import pytest

from mbrl_ros.drawing.tube import quaternions, tube
from mbrl_ros.types import Gaussian, LinearGaussianDynamics


def test_of_draws_95_in_100_are_within():
    rng = np.random.default_rng(0)
    n, m, T, N = 5, 2, 6, 20_000
    F = np.hstack([0.4 * rng.standard_normal((n, n)), rng.standard_normal((n, m))])
    W = 0.1 * rng.standard_normal((n, n))
    dynamics = LinearGaussianDynamics(F, np.zeros(n), W @ W.T)
    gains, P = 0.1 * rng.standard_normal((T, m, n)), 0.01 * np.eye(n)
    states = np.zeros((T + 1, n))
    centers, axes, rotations = tube(dynamics, gains, Gaussian(np.zeros(n), P), states, slice(2, 5))
    x = rng.multivariate_normal(np.zeros(n), P, N)
    for t in range(T + 1):
        local = np.einsum("ij,bi->bj", rotations[t], x[:, 2:5] - centers[t])
        assert (((local / axes[t]) ** 2).sum(-1) <= 1).mean() == pytest.approx(0.95, abs=0.01)
        if t < T:
            u = x @ gains[t].T
            x = x @ dynamics.A.T + u @ dynamics.B.T + rng.multivariate_normal(np.zeros(n), dynamics.Sigma, N)
    assert np.allclose(np.linalg.det(rotations), 1.0)


def test_quaternions_turn_as_the_matrices_do():
    q = np.random.default_rng(1).standard_normal((200, 4))
    q[:4] = np.eye(4)  # no turn, and half a turn about each axis
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    R = np.empty((len(q), 9))
    for row, matrix in zip(q, R, strict=True):
        mujoco.mju_quat2Mat(matrix, row)
    assert np.allclose(np.abs((quaternions(R.reshape(-1, 3, 3)) * q).sum(-1)), 1.0)  # q and -q are one turn
