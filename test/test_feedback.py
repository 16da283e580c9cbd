"""Feedback between plans: its closed form, and that it is refused where it would mislead the learner."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.ring.feedback import correction, feedback_of
from mbrl_ros.types import CONVERGED, Feedback, LinearGaussianPolicy, Plan


def test_there_is_none_on_the_plan_and_k_times_the_deviation_beside_it():
    rng = np.random.default_rng(0)
    states, K = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    of = Feedback(5, 1_000, 1e-6, np.zeros(2), states, K)
    off = rng.standard_normal(4)
    for time, planned in [(1_000, states[0]), (1_250, 0.75 * states[0] + 0.25 * states[1]), (2_000, states[1]),
                          (2_500, 0.5 * (states[1] + states[2])), (3_000, states[2]), (9_000, states[2])]:
        assert np.allclose(correction(of, time, planned[:2], planned[2:]), 0.0)
        q, qd = np.split(planned + off, 2)
        assert np.allclose(correction(of, time, q, qd), K @ off)
    assert not correction(of, 999, *np.split(off, 2)).any()  # the plan has not begun


def test_gains_on_the_tool_act_on_the_joints_that_move_it():
    """To first order: K x of a state whose tool follows its joints."""
    robot, rng = make("arm"), np.random.default_rng(1)
    K, q = rng.standard_normal((4, robot.m, robot.n)), robot.home + 0.1
    K[:, :, robot.slice("effort")] = 0.0

    def x_of(q, qd):
        x = np.zeros(robot.n)
        x[: 2 * robot.m] = np.concatenate([q, qd])
        x[2 * robot.m : robot.slice("effort").start] = robot.kinematics(q, qd)[0]
        return x

    qd = rng.standard_normal(robot.m)
    states = np.tile(x_of(q, qd), (5, 1))
    nothing = np.zeros((4, robot.m))
    policy = LinearGaussianPolicy(states[:-1], nothing, K, nothing, np.zeros((4, robot.m, robot.m)))
    of = feedback_of(Plan(policy, states, nothing, 0.0, CONVERGED, 1), nothing[0], 3, 7, robot)
    dq, dqd = 1e-6 * rng.standard_normal((2, robot.m))
    assert np.allclose(correction(of, 7, q + dq, qd + dqd), K[0] @ (x_of(q + dq, qd + dqd) - states[0]), atol=1e-9)
    assert (of.answers, of.begin, of.period, of.states.shape) == (3, 7, robot.period, (3, 2 * robot.m))


def test_it_is_refused_where_efforts_are_read_from_the_robot():
    robot = make("planar2")
    with pytest.raises(ConfigError, match=r"expected estimator\.effort_source commands,"):
        assembly.make_controller(assembly.settings(Names("planar2"), {
            "controller": {"feedback": True}, "estimator": {"effort_source": "joint_states"}}), robot)
