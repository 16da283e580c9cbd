"""Trust in the model, and what it does to the learner."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make

from mbrl_ros.ring.learner import LEAST, Config, OnlineLearner
from mbrl_ros.ring.trust import DOUBTED, LOST, Trust
from mbrl_ros.types import Gaussian, StateEstimate


def test_a_calibrated_model_keeps_all_trust():
    trust, rng = Trust(), np.random.default_rng(0)
    values = []
    for error in rng.chisquare(14, 5000) / 14:
        trust.update(error, 0.02)
        values.append(trust.value)
    assert min(values) == 1.0 and trust.error == pytest.approx(1.0, abs=0.3)


def test_trust_falls_from_doubted_to_lost_and_comes_back():
    trust = Trust()
    assert trust.value == 1.0
    trust.error = 0.5 * (DOUBTED + LOST)
    assert trust.value == pytest.approx(0.5)
    gone = [trust.update(float("inf"), 0.02) for _ in range(7)]
    assert trust.value == 0.0 and gone.count(True) == 1
    assert not any(trust.update(1.0, 0.02) for _ in range(100))
    assert trust.value == 1.0


@pytest.mark.parametrize("error", [1e300, float("inf"), float("nan")])
def test_one_outlier_counts_for_no_more_than_the_most(error):
    trust = Trust()
    trust.update(error, 0.02)
    assert 0.9 < trust.value < 1.0


def drive(learner, robot, steps, rng, noise, first=0):
    """Joints at rest, read with noise [rad, rad/s]; the covariances of what is predicted."""
    covariances = []
    for k in range(first, first + steps):
        x = np.zeros(robot.n)
        x[: robot.m] = robot.home
        x[: 2 * robot.m] += noise * rng.standard_normal(2 * robot.m)
        belief = Gaussian(x, 1e-8 * np.eye(robot.n))
        covariances.append(learner.update(StateEstimate(k * 20_000_000, 0, k, belief, np.zeros(robot.m))))
    return covariances


def test_less_trust_is_fewer_transitions_behind_the_model():
    robot, rng = make(), np.random.default_rng(1)
    learner = OnlineLearner(robot, Config(prior="none"))
    drive(learner, robot, 200, rng, 1e-3)
    before = learner.sample_weight
    learner.trust.error = 0.5 * (DOUBTED + LOST)
    assert learner.sample_weight == pytest.approx(0.5 * before)
    learner.trust.error = 1e9
    assert learner.sample_weight == LEAST


def test_nothing_winds_up_where_nothing_is_excited():
    """Ten thousand periods at rest: what the model does not know is no more than after two hundred."""
    robot, rng = make(), np.random.default_rng(2)
    learner = OnlineLearner(robot, Config(prior="none"))
    early = drive(learner, robot, 200, rng, 1e-4)[-50:]
    late = drive(learner, robot, 10000, rng, 1e-4, first=200)[-50:]
    size = [np.median([np.trace(d.Sigma) for d in part]) for part in (early, late)]
    gain = [np.median([np.abs(d.F).max() for d in part]) for part in (early, late)]
    assert size[1] < 1.5 * size[0] and gain[1] < 1.5 * gain[0]
