"""What does not depend on the control rate: memories, horizons and steps are in seconds."""
from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from arms import make, settings

from mbrl_ros.evaluation import measures, rates
from mbrl_ros.evaluation.procedure import Run
from mbrl_ros.kernels import local_fit
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.ring.delay import Delay
from mbrl_ros.ring.estimator import Config as EstimatorConfig
from mbrl_ros.ring.estimator import JointFilter
from mbrl_ros.ring.learner import Config, OnlineLearner
from mbrl_ros.types import Gaussian, Observation, StateEstimate, Trial

RATES = (20, 50, 100, 200, 500)


@pytest.mark.parametrize("rate", RATES)
def test_horizon_and_step_are_in_seconds(rate):
    robot = make(period=1 / rate)
    assert robot.step == pytest.approx(max(robot.period, robot.config.step), rel=1e-9)
    assert Ilqr(Ilqr.Config(horizon=0.4), robot).horizon * robot.step == pytest.approx(0.4, rel=1e-9)


@pytest.mark.parametrize("rate", [50, 200, 500])
def test_the_learner_finds_what_a_step_does(rate):
    """Joints under a known law, integrated from period to period under efforts drawn anew every period, without noise:
    what is fitted is the law over a step with the mean effort held."""
    robot = make(period=1 / rate)
    m, h, rng = robot.m, robot.period, np.random.default_rng(0)
    learner = OnlineLearner(robot, Config(prior="none", forgetting_time=20.0, offset_time=20.0, effective_count=1e4))
    inertia, damping = 0.5, 1.0
    A = np.array([[1.0, h], [0.0, 1.0 - h * damping / inertia]])
    B = np.array([0.0, h / inertia])
    z, past = np.zeros((2, m)), deque([np.zeros(m)] * robot.stride, maxlen=robot.stride)
    for k in range(round(20.0 / h)):
        u = rng.standard_normal(m) - 2.0 * z[0]
        z = A @ z + np.outer(B, u)
        past.append(u)
        x = np.zeros(robot.n)
        x[: 2 * m], x[robot.slice("effort/1")] = z.ravel(), np.mean(past, 0)
        dynamics = learner.update(StateEstimate(round(1e9 * k * h), 0, k + 1, Gaussian(x, np.eye(robot.n)), u))
    over_step = np.linalg.matrix_power(A, robot.stride)
    assert dynamics.F[0, 0] == pytest.approx(over_step[0, 0], abs=0.01)
    assert dynamics.F[0, m] == pytest.approx(over_step[0, 1], rel=0.05)
    assert dynamics.F[m, robot.n] == pytest.approx(robot.step / inertia, rel=0.1)


def test_overlapping_transitions_count_as_one_together():
    z, empty = np.array([1.0, -2.0, 0.5]), (np.zeros(3), np.zeros((3, 3)), 0.0)
    parts = empty
    for _ in range(5):
        parts = local_fit.forget_and_add(*parts, z, 0.2, 0.01, 40.0)
    whole = local_fit.forget_and_add(*empty, z, 1.0, 0.05, 40.0)
    assert parts[2] == pytest.approx(whole[2]) and np.allclose(parts[0], whole[0])


@pytest.mark.parametrize("rate", RATES)
def test_moments_forget_as_fast_at_any_rate(rate):
    """After one time constant, about exp(-1) of what was before is left."""
    robot = make(period=1 / rate)
    learner = OnlineLearner(robot, Config(effective_count=1.0))
    d = len(learner.moments.mean)
    for _ in range(round(3.0 / robot.period)):
        learner._add(np.ones(d))
    for _ in range(round(learner.config.forgetting_time / robot.period)):
        learner._add(np.zeros(d))
    assert learner.moments.mean[0] == pytest.approx(np.exp(-1), abs=0.05)


def test_the_newest_effort_in_x_is_the_mean_over_a_step():
    robot = make(period=0.002, effort_history=2)
    estimator, stride = JointFilter(robot, EstimatorConfig(effort_source="joint_states")), robot.stride
    assert stride == 5
    for k in range(4 * stride):
        observation = Observation(2_000_000 * (k + 1), robot.home, np.zeros(2), np.array([float(k), 1.0]))
        state = estimator.update(observation)
    newest, before = state.belief.mean[robot.slice("effort/1")], state.belief.mean[robot.slice("effort/2")]
    assert newest[0] == pytest.approx(17.0) and before[0] == pytest.approx(12.0) and newest[1] == pytest.approx(1.0)
    assert state.effort[0] == pytest.approx(19.0)


@pytest.mark.parametrize("rate", [50, 200, 500])
def test_a_delay_of_twenty_milliseconds_is_found_at_any_rate(rate):
    robot, rng = make(period=1 / rate), np.random.default_rng(0)
    estimate, late = Delay(robot), round(0.02 * rate)
    commands = [0.1 * robot.effort_limit * rng.standard_normal(robot.m) for _ in range(round(0.5 * rate))]
    for k in range(len(commands)):
        e = commands[k - 1 - late] if k > late else np.zeros(robot.m)
        estimate.observe(StateEstimate(k, 0, k, Gaussian(np.zeros(robot.n), np.eye(robot.n)), e))
        estimate.record(commands[k])
    assert estimate.periods * robot.period == pytest.approx(0.02, abs=1e-3)
    assert estimate.slowness == pytest.approx((1 + 0.02 / robot.step) ** 2, rel=0.1)


def test_a_trial_gives_transitions_over_steps():
    x, u = np.arange(8.0)[:, None], np.arange(7.0)[:, None]
    t = Trial(x, u, np.arange(8), ("a",), ("b",)).transitions(3)
    assert t.x.ravel().tolist() == [0.0, 3.0] and t.x_next.ravel().tolist() == [3.0, 6.0]
    assert t.u.ravel().tolist() == [1.0, 4.0]


@pytest.mark.parametrize("rate", [20, 200])
def test_targets_are_reached_at_any_rate(rate):
    s = settings("planar2", robot={"period": 1 / rate})
    config = measures.config_of(s, {"targets": 2, "data_seconds": 5.0, "seconds_per_target": 2.0, "seed": 100})
    run = Run(s, replace(config, payload=0.5), 100)
    assert all(result.within(2.0) for result in run.results()), run.fault


def test_the_table_has_a_row_for_every_rate():
    given = {"targets": 1, "data_seconds": 3.0, "seconds_per_target": 1.5}
    rows = [rates.measure("planar2", rate, "gaussian", [100], given, {}, False) for rate in (50.0, 100.0)]
    table = rates.markdown(rows).splitlines()
    assert len(table) == 4 and all(line.count("|") == table[0].count("|") for line in table)
    assert all(row["diverged"] == 0 and row["cost"] < 0.1 for row in rows)
