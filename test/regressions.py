"""Data of known systems for the tests of models: a planar arm without sensors, and linear maps."""
from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from arms import make, settings

from mbrl_ros import assembly
from mbrl_ros.gaussian import Z95
from mbrl_ros.models.features import Data, Features
from mbrl_ros.models.linear import choose_ridge, ridge
from mbrl_ros.models.physics import PhysicsModel
from mbrl_ros.ring.learner import features_of

NOISE = 0.05  # of the deviation of y


@cache
def planar_arm(count: int = 1200, seed: int = 0) -> Data:
    """Transitions of planar2 about its home, in random order, from its physics without dry friction; y has noise."""
    robot, rng = make("planar2"), np.random.default_rng(seed)
    robot.model.dof_frictionloss[:] = 0.0
    physics = PhysicsModel(robot, robot.model)
    q = robot.home + 0.6 * rng.uniform(-1, 1, (count, 2))
    qd, u = 1.5 * rng.standard_normal((count, 2)), 0.4 * robot.effort_limit * rng.standard_normal((count, 2))
    x, rows = np.zeros((count, robot.n)), robot.joint_rows
    x[:, :2], x[:, 2:4] = q, qd
    features, x_next = features_of(robot), physics.mean(torch.as_tensor(x), torch.as_tensor(u)).numpy()
    y = features.y(x[:, rows], x_next[:, rows])
    y += NOISE * y.std(0) * rng.standard_normal(y.shape)
    return Data(features, features.w(x[:, rows], u), y, robot)


@cache
def excited_arm(seconds: float = 20.0, seed: int = 100) -> Data:
    """Transitions of the seven-joint arm under excitation as a learner sees them: in the order of time, sensors' noise
    and dry friction in them."""
    # Random: a design passes each posture once, so that a block of time left out of it is a gap, not more of the same.
    ring = assembly.make_ring(settings("arm", excitation={"duration": seconds, "kind": "random"}), seed)
    for mode, duration in (("hold", 1.0), ("excite", seconds)):
        ring.controller.request(mode)
        for _ in range(round(duration / ring.learner.robot.period)):
            ring.tick()
    it = ring.learner
    return Data.of(it.transitions(seconds), it.features, it.robot)


def split_blocks(data: Data, block: int = 100, every: int = 4) -> tuple[Data, Data]:
    """The data without every fourth block of time, and those blocks."""
    held_out = np.arange(len(data.w)) // block % every == every - 1
    first, second = (Data(data.features, data.w[i], data.y[i], data.robot) for i in (~held_out, held_out))
    return first, second


def coverage(model: Any, data: Data, deviations: float = Z95) -> np.ndarray:
    """Which part of y lies within so many predicted standard deviations, for every column that moves."""
    p = model.predict(torch.as_tensor(data.w))
    inside = np.abs(p.mean.numpy() - data.y) < deviations * p.cov.diagonal(dim1=-2, dim2=-1).sqrt().numpy()
    return inside[:, data.y.std(0) > 1e-9].mean(0)


def linear(count: int, dw: int, dy: int, seed: int, noise: float = 0.1) -> tuple[Data, np.ndarray, np.ndarray]:
    """y = A w + b + noise, with the columns of w in very different units; Data, A, b."""
    rng = np.random.default_rng(seed)
    A, b, units = rng.standard_normal((dy, dw)), rng.standard_normal(dy), 10.0 ** rng.integers(-3, 3, dw)
    w = units * rng.standard_normal((count, dw)) + 5 * units
    A = A / units
    features = Features(tuple(range(dw - 1)), tuple(range(dy)), max(dw - 1, dy), 1)
    return Data(features, w, w @ A.T + b + noise * rng.standard_normal((count, dy))), A, b


def relative_error(prediction: np.ndarray, y: np.ndarray) -> float:
    """Root mean squared error in units of the deviation of every column, over the columns that move."""
    moving = y.std(0) > 1e-9
    return float(np.sqrt(np.square((prediction - y)[:, moving] / y.std(0)[moving]).mean()))


def error_over_ridge(model) -> float:
    """Relative error of a model fitted to planar_arm() on fresh data, over that of ridge regression."""
    data, fresh = planar_arm(), planar_arm(400, seed=1)
    A, b = ridge(data.w, data.y, choose_ridge(data.w, data.y))
    prediction = model.mean(torch.as_tensor(fresh.w)).numpy()
    return relative_error(prediction, fresh.y) / relative_error(fresh.w @ A.T + b, fresh.y)
