"""A policy that a planner worked out from the true dynamics, through a file into the mode `policy`; and its trials."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import make, settings
from systems import quadratic_task

from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation import measures, procedure
from mbrl_ros.evaluation.procedure import BACK, BY_ITSELF, NEAR, RESET, Run, Stopped, collect
from mbrl_ros.models.dynamics import linearize
from mbrl_ros.models.physics import PhysicsModel
from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.lqr import marginals
from mbrl_ros.planners.problem import Problem
from mbrl_ros.ring.controller import EXCITE, POLICY, REACH
from mbrl_ros.ring.linear_policy import LinearPolicy
from mbrl_ros.ring.policy import load, policy_of, save
from mbrl_ros.types import Gaussian, LinearGaussianDynamics

pytestmark = pytest.mark.slow
T, TURN = 50, np.array([0.4, -0.5])  # periods; [rad] from home
NOISE = 0.05  # [rad/s] that a period adds to the speed of a joint: disturbance, and what a reset leaves open


def start(seed=100, **overrides):
    return Run(settings("planar2", **overrides), measures.Config(data_seconds=1.0), seed)


@pytest.fixture(scope="module")
def made():
    """The feedback of iLQR about a turn of both joints by the true dynamics, and the spread that it leaves."""
    robot, plant = make(), start().plant
    physics, home = PhysicsModel(robot, plant.model), np.zeros(robot.n)
    home[: robot.m] = robot.home
    home[robot.slice("motion")][2 * robot.m :] = robot.kinematics(robot.home, np.zeros(robot.m))[0]
    m, rest = robot.m, robot.n - 2 * robot.m
    goal = [*(robot.home + TURN), *np.zeros(m + rest)]
    cost = quadratic_task([1.0] * m + [0.1] * m + [0.0] * rest, [1e-4] * m, [100.0] * m + [10.0] * m + [0.0] * rest,
                          goal, T)
    bound = torch.as_tensor(np.tile(robot.effort_limit, (T, 1)))
    plan = Ilqr(Ilqr.Config(horizon=T, iterations=50)).plan(
        Problem(torch.as_tensor(home), physics, cost, -bound, bound), None)
    assert np.allclose(plan.states[-1, :m], robot.home + TURN, atol=0.02)
    local = linearize(physics, plan.states[:-1], plan.efforts)
    W = np.zeros((robot.n, robot.n))
    W[m : 2 * m, m : 2 * m] = NOISE**2 * np.eye(m)
    as_played = replace(plan.policy, Sigma=torch.zeros_like(plan.policy.Sigma))
    x0 = torch.as_tensor(np.diag([*m * [NEAR**2], *m * [0.1**2], *rest * [0.0]]))
    spread = marginals(LinearGaussianDynamics(local.F, local.f, torch.as_tensor(W)), as_played,
                       Gaussian(plan.states[0], x0)).cov
    spread = spread.diagonal(dim1=-2, dim2=-1).sqrt()[:-1].numpy()
    spread[:, 2 * m :] = 0.0  # the tool follows the joints
    return policy_of(plan, robot, spread)


def test_a_policy_from_a_file_tracks_its_own_states(made, tmp_path):
    save(made, tmp_path / "policy.npz")
    run = start(controller={"policy": str(tmp_path / "policy.npz")})
    x_hat, m = made.policy.x_hat, run.robot.m
    run.back(RESET, 100)
    states = []
    run.listen = lambda s: states.append(s.belief.mean)
    run.let(POLICY, T * run.robot.period)
    assert run.controller.mode == POLICY
    run.tick()
    assert (run.controller.mode, run.controller.reason) == ("hold", "the policy is over")
    away = np.abs(np.array(states[:T]) - x_hat)[:, :m]
    assert away.max() < 0.03 < 0.1 * np.abs(x_hat[-1, :m] - x_hat[0, :m]).min()
    assert np.abs(states[-1][:m] - run.robot.home - TURN).max() < 0.03


def test_feedback_is_what_keeps_it_there(made):
    """With a load in the hand, the efforts alone end further away than with their feedback."""
    def end(K):
        run = start()
        run.plant.set_payload(0.5)
        trial, = collect(run, LinearPolicy(replace(made, policy=replace(made.policy, K=K), spread=None), run.robot), 1,
                         T, seed=100)
        return np.abs(trial.x[-1, :2] - made.policy.x_hat[-1, :2]).max()

    assert end(made.policy.K) < 0.5 * end(np.zeros_like(made.policy.K))


def test_a_policy_is_left_where_it_was_not_made_for(made):
    run = start()
    run.plant.set_payload(4.0)
    trial, = collect(run, LinearPolicy(made, run.robot), 1, T, seed=100)
    assert run.controller.mode == "hold" and run.controller.reason.startswith("the policy is left: at step")
    assert 0 < len(trial.u) < T


@pytest.mark.parametrize(("robot", "expected"), [
    ({"period": 0.01}, "made for a period of 0.02 s; expected robot.period, 0.01 s"),
    ({"sites": ["lower"]}, "not this robot's names"), ({"effort_history": 2}, "not this robot's names")])
def test_a_policy_of_another_robot_is_refused(made, tmp_path, robot, expected):
    save(made, tmp_path / "policy.npz")
    with pytest.raises(ConfigError, match=expected) as caught:
        load(tmp_path / "policy.npz", make(**robot))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("back", BACK)
def test_trials_begin_at_home_and_follow_without_a_gap(made, back):
    run = start()
    trials = collect(run, LinearPolicy(made, run.robot), 3, T, seed=100, back=back)
    for trial in trials:
        assert trial.x.shape == (T + 1, run.robot.n) and trial.u.shape == (T, run.robot.m)
        assert np.abs(trial.x[0, :2] - run.robot.home).max() < NEAR + 0.01
        assert (np.diff(trial.time) == round(run.robot.period * 1e9)).all()
        assert (trial.state_names, trial.joint_names) == (run.robot.state_names, run.robot.joints)
        assert np.array_equal(trial.x[1:, -2:], trial.u)  # the newest effort in x is what acted
    assert np.ptp([trial.x[-1, :2] for trial in trials], axis=0).max() < 0.05


def test_seeds_are_those_that_are_given(made):
    def efforts(seed):
        run = start(controller={"policy_noise": 0.1})
        free = LinearPolicy(replace(made, spread=None), run.robot)
        return np.array([trial.u for trial in collect(run, free, 2, T, seed)])

    first, again, other = efforts(5), efforts(5), efforts(6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])  # each trial has its own
    assert np.abs(first[1] - other[0]).max() < np.abs(first[0] - other[0]).max()  # seed 6 is the noise of trial 1


def test_modes_are_played_like_policies():
    run = start()
    excited, = collect(run, EXCITE, 1, T, seed=100)
    assert len(excited.u) == T and np.ptp(excited.x[:, :2], axis=0).min() > 0.01
    run.fit(1.0)
    run.controller.set_target(run.robot.tool_position(run.robot.home + TURN))
    first, second = collect(run, REACH, 2, 2 * T, seed=100)
    tool = run.robot.slice("site/tool/position")
    for trial in (first, second):  # the second has a path of its own, from the start
        assert np.linalg.norm(trial.x[-1, tool] - run.controller.mpc.target) < 0.02
    assert np.abs(first.x[5, :2] - second.x[5, :2]).max() < 0.02


def test_a_trial_that_faults_is_cut_there(made):
    run = start(controller={"speed_stop": 0.1})
    trial, = collect(run, LinearPolicy(replace(made, spread=None), run.robot), 1, T, seed=100)
    assert run.controller.mode == "fault" and 0 < len(trial.u) < T
    again, = collect(run, EXCITE, 1, 2, seed=100)  # a reset is a new beginning
    assert len(again.u) > 0


def test_who_cannot_get_back_says_so(monkeypatch):
    monkeypatch.setattr(procedure, "NEAR", 0.0)
    run = start()
    run.hold(0.1)
    with pytest.raises(Stopped, match=r"the start posture is not reached within 20 s"):
        collect(run, EXCITE, 1, 2, seed=100, back=BY_ITSELF)
