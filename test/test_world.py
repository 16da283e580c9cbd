"""Every change of the world is the physics it says."""
from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from arms import make

from mbrl_ros.config import ConfigError, from_mapping
from mbrl_ros.models.physics import PhysicsModel, full_state
from mbrl_ros.robot import PAYLOAD
from mbrl_ros.simulation.plant import Config, MujocoPlant
from mbrl_ros.simulation.world import World, before_wall, wall_plane

QUIET = Config(encoder_noise=0.0, disturbance=0.0)
ARMS = ("planar2", "arm4", "arm6", "arm")


def still(name="planar2", world=None):
    """A plant without noise."""
    plant = MujocoPlant(make(name), QUIET)
    plant.change(world or World())
    return plant


def float_free(plant):
    plant.model.opt.gravity[:] = 0.0
    plant.model.dof_frictionloss[:] = 0.0


@pytest.mark.parametrize("name", ARMS)
def test_an_unchanged_world_is_the_model_file(name):
    robot = make(name)
    plant, other = MujocoPlant(robot, Config()), MujocoPlant(robot, Config())
    plant.reset(5), other.reset(5)
    effort = 0.1 * robot.effort_limit
    for i in range(6):
        if i == 3:
            other.change(World())
        a, b = plant.step(effort), other.step(effort)
        assert np.allclose(a.position, b.position, atol=1e-6)  # the solver of dry friction starts anew
    assert plant.model.nbody == robot.model.nbody and plant.model.nv == robot.model.nv


def test_three_times_the_damping_stops_a_joint_in_a_third_of_the_time():
    rates = []
    for factor in (1.0, 3.0):
        plant = still("pendulum", World(damping=factor))
        float_free(plant)
        plant.data.qvel[:] = 1.0
        for _ in range(50):
            plant.step(np.zeros(1))
        rates.append(-np.log(plant.true_state()[1][0]))
    assert rates[1] == pytest.approx(3 * rates[0], rel=1e-3)  # 1 ms of implicit Euler


def test_a_motor_at_60_percent_gives_0_6_of_the_acceleration():
    speeds = []
    for motor in (1.0, 0.6):
        plant = still("pendulum", World(motor=motor))
        float_free(plant)
        observation = plant.step(np.array([2.0]))
        assert observation.effort == pytest.approx([2.0])  # the drive does not know
        speeds.append(plant.true_state()[1][0])
    assert speeds[1] == pytest.approx(0.6 * speeds[0], rel=1e-9)


def test_only_the_weak_motor_is_weak():
    assert still("arm", World(weak_joint=4, motor=0.6)).gain.tolist() == [1, 1, 1, 1, 0.6, 1, 1]
    with pytest.raises(ConfigError, match=r"world\.weak_joint: expected 0 to 1 for this robot, got 4"):
        still("planar2", World(weak_joint=4))


@pytest.mark.parametrize("delay", [0, 1, 2, 3])
def test_a_delay_shifts_the_response_by_its_periods(delay):
    efforts = np.random.default_rng(0).standard_normal((12, 2))
    wait = [still().reset(0).effort] * delay  # what held the arm until then
    direct, late = still(), still(world=World(delay=delay))
    direct.reset(0), late.reset(0)
    at_once = [direct.step(u) for u in [*wait, *efforts]]
    shifted = [late.step(u) for u in [*efforts, *wait]]
    assert all(np.array_equal(a.position, b.position) for a, b in zip(at_once, shifted, strict=True))
    assert np.array_equal([o.effort for o in at_once], [o.effort for o in shifted])  # what acted


def test_a_delay_that_comes_suddenly_repeats_what_was_on_the_way():
    plant = still()
    for effort in (1.0, 2.0, 3.0):
        plant.step(np.full(2, effort))
    plant.change(World(delay=2))
    assert [plant.step(np.full(2, e)).effort[0] for e in (4.0, 5.0, 6.0)] == pytest.approx([2.0, 3.0, 4.0])


def test_the_swinging_load_is_a_pendulum():
    """Small swings of a ball on a weightless rod from a hand that is held: T = 2 pi sqrt((L^2 + 0.4 r^2) / (g L))."""
    rod, radius = 0.3, 0.03
    plant = still("arm", World(swinging=1.0, rod=rod))
    plant.model.dof_damping[plant._dofs] = 1e7
    joint = plant.model.joint("swinging_load")
    plant.data.qvel[joint.dofadr[0]] = 0.2
    angles = []
    for _ in range(400):
        plant.step(np.zeros(7))
        angles.append(plant.data.xquat[plant.model.body("swinging_load").id][1])
    angles = np.array(angles)
    zero = np.flatnonzero((angles[:-1] > 0) & (angles[1:] <= 0))
    at = zero + angles[zero] / (angles[zero] - angles[zero + 1])
    expected = 2 * np.pi * np.sqrt((rod**2 + 0.4 * radius**2) / (9.81 * rod))
    assert np.diff(at).mean() * 0.02 == pytest.approx(expected, rel=2e-3)  # swings of 0.04 rad are nearly harmonic


@pytest.mark.parametrize("name", ARMS)
def test_a_new_load_hangs_straight_down_at_rest_while_the_arm_moves_on(name):
    plant = still(name)
    for _ in range(5):
        plant.step(0.3 * plant.robot.effort_limit)
    before = plant.true_state()
    plant.change(World(swinging=0.1, rod=0.2))
    assert np.array_equal(plant.true_state(), before)
    body = plant.model.body("swinging_load").id
    assert np.allclose(plant.data.xipos[body] - plant.true_tool(), [0, 0, -0.2], atol=1e-12)
    spin = np.empty(6)
    mujoco.mj_objectVelocity(plant.model, plant.data, mujoco.mjtObj.mjOBJ_BODY, body, spin, 0)
    assert np.allclose(spin[:3], 0.0, atol=1e-12) and np.abs(before[1]).max() > 0.1


def test_a_load_that_stays_swings_on_when_something_else_changes():
    plant, other = (still("arm4", World(swinging=0.1, rod=0.1)) for _ in range(2))
    effort = 0.2 * plant.robot.effort_limit
    for i in range(20):
        plant.step(effort), other.step(effort)
        if i == 10:
            other.change(replace(other.world, noise=2.0))
    assert np.allclose(plant.data.qpos, other.data.qpos, atol=1e-6) and np.ptp(plant.data.joint("swinging_load").qpos)


def test_the_oracle_steps_as_a_plant_with_a_swinging_load_and_a_weak_motor():
    plant = still("arm", World(swinging=1.0, motor=0.6))
    u = 0.1 * plant.robot.effort_limit
    for _ in range(10):
        plant.step(u)
    physics = PhysicsModel(plant.robot, plant.model, gain=plant.gain)
    physics.rest = full_state(plant.model, plant.data)
    expected = physics.step(*plant.true_state(), u)
    plant.step(u)
    assert np.allclose(expected, plant.true_state(), atol=1e-6)


def test_the_wall_stops_the_tool():
    world = World(wall=True, wall_beyond=0.05)
    free, stopped = still(), still(world=world)
    point, normal = wall_plane(free.robot, world.wall_beyond)
    ways = []
    for plant in (free, stopped):
        plant.reset(0)
        for _ in range(60):
            jacobian = plant.robot.kinematics(plant.true_state()[0], np.zeros(2))[1][:3, :2]
            plant.step(jacobian.T @ (-30.0 * normal) + plant.data.qfrc_bias[plant._dofs])
        ways.append(float((point - plant.true_tool()) @ normal))
    assert ways[0] > 0.02 and abs(ways[1]) < 2e-3  # contact is a stiff spring in MuJoCo


def test_targets_behind_the_wall_move_onto_it():
    robot, world = make("arm"), World(wall=True, wall_beyond=0.1)
    point, normal = wall_plane(robot, 0.1)
    up = np.array([0.0, 0.0, 0.1])
    behind, front = point - 0.2 * normal + up, point + 0.2 * normal
    assert np.allclose(before_wall(robot, world, behind), point + up)
    assert np.array_equal(before_wall(robot, world, front), front)
    assert np.array_equal(before_wall(robot, World(), behind), behind)


def test_more_dry_friction_slows_a_moving_joint_by_what_was_asked_for():
    """I qd' = -(friction of the model file + 0.1 of the limit of 15 N m), without gravity, damping and effort."""
    plant = still("pendulum", World(friction=0.1))
    plant.model.opt.gravity[:], plant.model.dof_damping[:] = 0.0, 0.0
    plant.data.qvel[:] = 4.0
    for _ in range(10):
        plant.step(np.zeros(1))
    inertia = np.zeros((1, 1))
    mujoco.mj_fullM(plant.model, plant.data, inertia)
    assert 4.0 - plant.true_state()[1][0] == pytest.approx(0.2 * (0.02 + 1.5) / inertia[0, 0], rel=1e-3)


def test_wrong_masses_weigh_what_the_compensation_does_not_know():
    plain, wrong = still("arm"), still("arm", World(mass_error=0.3, mass_seed=2))
    links = plain.model.body_mass > 1e-3
    factor = wrong.model.body_mass[links] / plain.model.body_mass[links]
    assert 0.7 <= factor.min() < 0.9 and 1.1 < factor.max() <= 1.3
    forces = []
    for plant in (plain, wrong):
        plant.reset(0)
        mujoco.mj_inverse(plant.model, plant.data)
        forces.append(plant.data.qfrc_gravcomp[plant._dofs].copy())
    assert np.allclose(forces[0], forces[1])
    assert np.array_equal(still("arm", World(mass_error=0.3, mass_seed=2)).model.body_mass, wrong.model.body_mass)
    assert wrong.model.body(PAYLOAD).mass == plain.model.body(PAYLOAD).mass


def test_noise_is_that_of_the_encoder_times_its_factor():
    robot = make("arm")
    readings = []
    for factor in (1.0, 5.0):
        plant = MujocoPlant(robot, Config(disturbance=0.0))
        plant.change(World(noise=factor))
        readings.append(np.std([plant.reset(seed).position - robot.home for seed in range(200)]))
    assert readings == pytest.approx([1e-4, 5e-4], rel=0.1)  # 1400 samples: 2 %


def test_payload_and_gravity_compensation_of_the_plant_are_its_world():
    plant = MujocoPlant(make("arm"), Config(payload=2.0, gravity_compensation=False))
    assert plant.world == World(payload=2.0, gravity_compensation=False)
    assert plant.model.body(PAYLOAD).mass == 2.0 and not plant.model.body_gravcomp.any()
    plant.set_payload(1.0)
    assert plant.world.payload == 1.0
    plant.change(replace(plant.world, damping=2.0))
    assert plant.model.body(PAYLOAD).mass == 1.0


def test_a_wrong_world_is_refused():
    with pytest.raises(ConfigError, match=r"world\.delay: expected a value from 0 to 3, got 9"):
        from_mapping(World, {"delay": 9}, "world")
