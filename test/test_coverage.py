"""The covariance of noise, and the command that says how much of held-out motion lies in the bands."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import make
from scipy.stats import chi2

from mbrl_ros.evaluation import coverage as evaluate_coverage
from mbrl_ros.evaluation.coverage import Coverage
from mbrl_ros.models.noise import shrunk_covariance
from mbrl_ros.types import Gaussian

torch.set_num_threads(1)


def draw(count, seed, correlation=0.99, pairs=7):
    """Errors of positions and velocities of joints that err together, (count, 2 pairs), and their covariance."""
    pair, units = np.array([[1.0, correlation], [correlation, 1.0]]), np.repeat([1e-4, 1e-2], pairs)
    S = np.kron(pair, np.eye(pairs)) * np.outer(units, units)
    return np.random.default_rng(seed).multivariate_normal(np.zeros(2 * pairs), S, count), S


def test_noise_of_outputs_that_err_together_is_found():
    """From 300 residuals, bands of each and of all together hold what they should of fresh ones."""
    residual, S = draw(300, 0)
    R, (fresh, _) = shrunk_covariance(residual, residual), draw(4000, 1)
    assert np.allclose(np.diag(R), np.diag(S), rtol=6 * np.sqrt(2 / 300))
    distance = np.einsum("ni,ni->n", fresh, np.linalg.solve(R, fresh.T).T)
    assert 0.90 < np.mean(distance <= chi2.ppf(0.95, 14)) < 0.97


@pytest.mark.parametrize("count", [1, 2, 20])
def test_noise_from_few_residuals_is_definite(count):
    residual, S = draw(count, 2)
    R = shrunk_covariance(residual, draw(50, 3)[0])
    assert np.linalg.eigvalsh(R / np.sqrt(np.outer(np.diag(S), np.diag(S)))).min() > 1e-8


def test_a_score_counts_what_is_inside():
    """Unit errors in two joints: 10 of 100 positions out by 3, the first joint moving half of the time."""
    robot, N = make("planar2"), 100
    y = np.ones((N, 4))
    y[:10, 0] = 3.0
    qd = np.zeros((N, 2))
    qd[:50, 0] = robot.velocity_limit[0]
    score = Coverage.of(Gaussian(np.zeros((N, 4)), np.tile(np.eye(4), (N, 1, 1))), y, qd, robot)
    assert score.inside.mean(0).tolist() == [0.9, 1.0, 1.0, 1.0]
    assert score.together.mean() == 0.9  # 3^2 + 3 > 9.49 > 4
    assert score.moving.mean(0).tolist() == [0.5, 0.0, 0.5, 0.0]
    assert score.row().startswith("80.0 | 100.0 | nan")


def test_a_short_run_of_the_command_has_a_row_for_each_model_and_motion(capsys):
    words = ["--robot", "planar2", "--prior", "gaussian,nominal", "--seeds", "100", "--data-seconds", "10"]
    assert evaluate_coverage.main([*words, "--set", "{scenario: {targets: 2, seconds_per_target: 1.0}}"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [[f"| {kind}", motion] for kind, motion in (
        ("gaussian", "another excitation"), ("gaussian", "reaching"), ("gaussian, local", "reaching"),
        ("gaussian, local", "with payload"), ("nominal", "another excitation"), ("nominal", "reaching"),
        ("nominal, local", "reaching"), ("nominal, local", "with payload"))]
    assert all(85 < float(row[2]) <= 100 for row in rows if row[1] == "another excitation")
