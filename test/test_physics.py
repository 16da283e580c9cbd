"""MuJoCo as a model: it steps as the plant does, and its derivatives are those of the step."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from arms import make, settings

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError
from mbrl_ros.models.features import Data
from mbrl_ros.models.physics import Nominal, PhysicsModel, nominal_physics
from mbrl_ros.ring.learner import features_of
from mbrl_ros.robot import set_payload

torch.set_num_threads(1)
ROBOTS = ("pendulum", "planar2", "arm", "arm4", "arm6")


def still(name):
    """A plant without sensor noise and disturbance."""
    s = settings(name, plant={"encoder_noise": 0.0, "disturbance": 0.0, "velocity_bandwidth": 1000.0})
    robot = assembly.make_robot(s)
    return robot, assembly.make_plant(s, robot)


def state(robot, seed=0):
    """A state in motion, with tools where the joints put them, and an effort."""
    rng = np.random.default_rng(seed)
    q, qd = robot.home + 0.2 * rng.standard_normal(robot.m), 0.8 + 0.3 * rng.random(robot.m)
    x = np.zeros(robot.n)
    x[robot.slice("motion")] = np.concatenate([q, qd, robot.kinematics(q, qd)[0]])
    x[robot.slice("effort")] = 0.1 * np.tile(robot.effort_limit, robot.history) * rng.standard_normal(
        robot.m * robot.history)
    return x, 0.1 * robot.effort_limit * rng.standard_normal(robot.m)


@pytest.mark.parametrize("name", ROBOTS)
def test_it_steps_as_the_plant_does(name):
    robot, plant = still(name)
    physics, rng = PhysicsModel(robot, plant.model), np.random.default_rng(1)
    plant.reset(0)
    for _ in range(10):
        q, qd = plant.true_state()
        u = 0.1 * robot.effort_limit * rng.standard_normal(robot.m)
        plant.step(u)
        expected = plant.true_state()
        # The contact solver of dry friction starts from another guess and ends within its tolerance of 1e-8.
        for a, b in zip(physics.step(q, qd, u), expected, strict=True):
            assert np.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", ROBOTS)
def test_the_derivative_is_that_of_the_plant_step(name):
    """Central differences of the plant itself without dry friction, set to neighbouring states; 1e-5 of the largest
    entry: one-sided differences of 1e-6 have an error of that times the curvature."""
    robot, plant = still(name)
    plant.model.dof_frictionloss[:] = 0.0
    x, u = state(robot)
    m, h = robot.m, 1e-5

    def step(s):
        data = plant.data
        data.qpos[robot.qpos], data.qvel[robot.dofs], data.qacc_warmstart[:] = s[:m], s[m : 2 * m], 0.0
        plant.step(s[2 * m :])
        return np.concatenate(plant.true_state())

    s = np.concatenate([x[: 2 * m], u])
    numeric = np.column_stack([(step(s + h * e) - step(s - h * e)) / (2 * h) for e in np.eye(3 * m)])
    F = PhysicsModel(robot, plant.model).linearize_numpy(x, u)[1]
    found = np.hstack([F[: 2 * m, : 2 * m], F[: 2 * m, robot.n :]])
    assert np.abs(found - numeric).max() < 1e-5 * max(1.0, np.abs(numeric).max())


def test_a_joint_stuck_in_dry_friction_still_answers_in_the_derivative():
    """The step itself knows the friction; its derivative does not, or a planner would think the joint immovable."""
    robot, plant = still("planar2")
    plant.model.opt.gravity[:] = 0.0
    physics, zero = PhysicsModel(robot, plant.model), np.zeros(2)
    _, moved = physics.step(robot.home, zero, np.array([0.05, 0.0]))  # below the friction of 0.1 N m
    _, _, D = physics.linearize_step(robot.home, zero, zero)
    assert D[2, 4] > 0.005 and abs(moved[0]) < 0.3 * D[2, 4] * 0.05  # friction is soft in MuJoCo: it creeps
    assert plant.model.dof_frictionloss.max() == pytest.approx(0.1)


def test_past_efforts_are_a_shift_register():
    robot = make("planar2", effort_history=3)
    x, u = state(robot)
    x_next, F = PhysicsModel(robot, robot.model).linearize_numpy(x, u)
    assert np.array_equal(x_next[robot.slice("effort/1")], u)
    assert np.array_equal(x_next[robot.slice("effort/3")], x[robot.slice("effort/2")])
    linear = F @ np.concatenate([x, u])
    assert np.allclose(linear[robot.slice("effort")], x_next[robot.slice("effort")], atol=1e-12)


def test_a_delayed_effort_acts_from_the_state():
    robot = make("planar2", effort_history=2)
    x, u = state(robot)
    now, later = PhysicsModel(robot, robot.model), PhysicsModel(robot, robot.model, delay=1)
    acting = x[robot.slice("effort/1")]
    delayed, F = later.linearize_numpy(x, u)
    joints = slice(0, 2 * robot.m)
    assert np.array_equal(delayed[joints], now.linearize_numpy(x, acting)[0][joints])
    assert not F[joints, robot.n :].any() and F[joints, robot.slice("effort/1")].any()


def test_the_payload_is_seen_at_once():
    robot = make("planar2")
    physics = PhysicsModel(robot, robot.model)
    x, u = state(robot)
    before = physics.linearize_numpy(x, u)[1]
    set_payload(robot.model, 1.0)
    after = physics.linearize_numpy(x, u)[1]
    gain = [np.abs(F[robot.m : 2 * robot.m, robot.n :]).sum() for F in (before, after)]
    assert gain[1] < 0.9 * gain[0]


def test_batches_of_means_and_jacobians_equal_one_by_one():
    robot = make("planar2")
    physics = PhysicsModel(robot, robot.model)
    pairs = [state(robot, seed) for seed in range(6)]
    x, u = (torch.as_tensor(np.stack(a)).reshape(2, 3, -1) for a in zip(*pairs, strict=True))
    mean, F = physics.jacobian(x, u)
    assert mean.shape == (2, 3, robot.n) and F.shape == (2, 3, robot.n, robot.n + robot.m)
    assert np.allclose(mean.numpy(), physics.mean(x, u).numpy(), atol=1e-12)
    assert np.allclose(F[1, 0].numpy(), physics.linearize_numpy(*pairs[3])[1], atol=1e-12)


def test_predict_has_the_noise_it_was_given():
    robot = make("pendulum")
    noise = 0.1 * np.eye(robot.n)
    x, u = (torch.as_tensor(a) for a in state(robot))
    assert np.array_equal(PhysicsModel(robot, robot.model, noise=noise).predict(x, u).cov.numpy(), noise)


def test_a_broken_period_and_a_delay_beyond_the_history_are_refused():
    robot = make("pendulum")
    model = make("pendulum", period=0.0205).model
    with pytest.raises(ConfigError, match="multiple of the timestep"):
        PhysicsModel(robot, model)
    with pytest.raises(ConfigError, match="delay: expected 0 to 1"):
        robot = make("pendulum")
        PhysicsModel(robot, robot.model, delay=2)


def test_nominal_masses_and_damping_are_wrong_by_what_was_asked_for():
    robot = make("arm")
    wrong = nominal_physics(robot, Nominal.Config(error=0.3, seed=4)).model
    real = robot.model.body_mass > 1e-3
    ratio = np.concatenate([(wrong.body_mass / np.where(real, robot.model.body_mass, 1))[real],
                            wrong.dof_damping / robot.model.dof_damping])
    assert (np.abs(ratio - 1) <= 0.3).all() and np.abs(ratio - 1).max() > 0.15
    again = nominal_physics(robot, Nominal.Config(error=0.3, seed=4)).model
    assert np.array_equal(again.body_mass, wrong.body_mass)
    assert not wrong.dof_frictionloss.any() and robot.model.dof_frictionloss.any()


def test_right_physics_leave_only_the_noise():
    """With error 0 the residual of frictionless data is what was put in."""
    robot = make("planar2")
    features = features_of(robot)
    physics, rng = nominal_physics(robot, Nominal.Config(error=0.0)), np.random.default_rng(2)
    x, u = (np.stack(a) for a in zip(*(state(robot, seed) for seed in range(200)), strict=True))
    rows = robot.joint_rows
    y = features.y(x[:, rows], physics.mean(torch.as_tensor(x), torch.as_tensor(u)).numpy()[:, rows])
    y += 1e-2 * rng.standard_normal(y.shape)
    data = Data(features, features.w(x[:, rows], u), y, robot)
    model = Nominal.fit(data, Nominal.Config(error=0.0), 0)
    assert np.allclose(np.diag(model.R.numpy()), 1e-4, rtol=6 * np.sqrt(2 / 200))


@pytest.mark.parametrize("delay", [0, 1])
def test_nominal_is_its_physics_on_the_joint_rows(delay):
    robot = make("arm", effort_history=delay + 1)
    features, config = features_of(robot), Nominal.Config(error=0.2, delay=delay)
    physics, (x, u), rows = nominal_physics(robot, config), state(robot), robot.joint_rows
    model = Nominal(features, physics, config, torch.eye(features.dy), torch.ones(features.dw))
    y, J = (a.numpy() for a in model.jacobian(torch.as_tensor(features.w(x[rows], u))))
    x_next, F = physics.linearize_numpy(x, u)
    assert np.allclose(y, features.y(x[rows], x_next[rows]), atol=1e-12)
    lifted = robot.lift(features.dynamics(J, y - J @ features.w(x[rows], u), np.eye(features.dy)), x[rows], u)
    assert np.allclose(lifted.F, F, atol=1e-9)
    assert np.allclose(lifted.F @ np.concatenate([x, u]) + lifted.f, x_next, atol=1e-9)
