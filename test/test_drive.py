"""Joints as they really are: every setting of a drive is the physics it says."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest
from arms import make

from mbrl_ros.simulation.drive import Drive
from mbrl_ros.simulation.oracle import Oracle
from mbrl_ros.simulation.plant import Config, MujocoPlant
from mbrl_ros.simulation.world import CLEAR, World, before_wall, table_height

QUIET = Config(encoder_noise=0.0, disturbance=0.0)


def plant_in(world, name="pendulum", config=QUIET, **overrides):
    plant = MujocoPlant(make(name, **overrides), config)
    plant.change(world)
    plant.reset(0)
    return plant


def bare(plant):
    """Without gravity, damping and friction."""
    plant.model.opt.gravity[:] = 0.0
    plant.model.dof_damping[:] = plant.model.dof_frictionloss[:] = 0.0
    if plant.drive.elastic:
        plant.drive.gear[:] = 0.0
    return plant


def frequency(angles, timestep):
    """[rad/s] of a swing, from its crossings of the middle."""
    angles = angles - (angles.max() + angles.min()) / 2
    zero = np.flatnonzero((angles[:-1] > 0) & (angles[1:] <= 0))
    at = zero + angles[zero] / (angles[zero] - angles[zero + 1])
    return 2 * np.pi / (np.diff(at).mean() * timestep)


def wound(plant, seconds):
    """The angles of rotor and link in every timestep after the rotor is thrown."""
    plant.data.qvel[plant.drive.dofs] = 0.1
    angles = []
    for _ in range(round(seconds / plant.model.opt.timestep)):
        plant.drive.act(plant.data, np.zeros(plant.robot.m))
        mujoco.mj_step(plant.model, plant.data)
        angles.append([plant.data.qpos[plant.drive.dofs][0], plant.data.qpos[plant._qpos][0]])
    return np.array(angles)


def two_masses(plant):
    """B and I [kg m^2] of rotor and link, and K [N m/rad]."""
    M = np.empty((plant.model.nv, plant.model.nv))
    mujoco.mj_forward(plant.model, plant.data)
    mujoco.mj_fullM(plant.model, plant.data, M)
    return M[plant.drive.dofs[0], plant.drive.dofs[0]], M[plant._dofs[0], plant._dofs[0]], plant.drive.stiffness[0]


def test_a_rotor_swings_on_its_spring_with_the_link_held():
    plant = bare(plant_in(World(windup=0.02)))
    B, _, K = two_masses(plant)
    assert pytest.approx(plant.robot.effort_limit[0] / 0.02) == K
    plant.model.dof_damping[plant._dofs] = 1e7
    angles = wound(plant, 1.0)[:, 0]
    assert frequency(angles, plant.model.opt.timestep) == pytest.approx(np.sqrt(K / B), rel=1e-2)


def test_rotor_and_link_swing_against_each_other_about_a_centre_that_moves_on():
    plant = bare(plant_in(World(windup=0.02)))
    B, link, K = two_masses(plant)
    angles = wound(plant, 1.0)
    swing = frequency(angles[:, 0] - angles[:, 1], plant.model.opt.timestep)
    assert swing == pytest.approx(np.sqrt(K / B + K / link), rel=1e-2)
    start = angles[0] @ [B, link] / (B + link)
    assert angles[-1] @ [B, link] / (B + link) - start == pytest.approx(0.1 * B / (B + link), rel=1e-2)


@pytest.mark.parametrize("name", ["planar2", "arm"])
def test_a_stiff_joint_moves_like_a_rigid_one(name):
    """With all inertia and damping between rotor and link as it was in one; the stiffer, the nearer."""
    apart = []
    for windup in (0.01, 0.0025):
        rigid, elastic = plant_in(World(), name), plant_in(World(windup=windup), name)
        rigid.substeps, rigid.model.opt.timestep = elastic.substeps, elastic.model.opt.timestep
        for plant in (rigid, elastic):
            plant.model.dof_frictionloss[:] = 0.0  # its softness in MuJoCo goes with the inertia of what it stops
        rng = np.random.default_rng(0)
        for _ in range(10):
            effort = 0.05 * rng.standard_normal(rigid.robot.m) * rigid.robot.effort_limit
            rigid.step(effort), elastic.step(effort)
        moved = np.abs(rigid.true_state()[0] - rigid.robot.home).max()
        apart.append(np.abs(rigid.true_state()[0] - elastic.true_state()[0]).max() / moved)
    assert apart[1] < apart[0] < 0.1 and apart[1] < 0.01


def test_encoders_on_the_motor_see_the_weight_wind_up_the_joint():
    """An arm that carries itself rests with the links at home and the motors ahead by weight / K."""
    seen = {}
    for motor in (True, False):
        plant = plant_in(World(windup=0.01, motor_encoders=motor), "arm")
        for _ in range(50):
            seen[motor] = plant.step(np.zeros(7)).position
        assert np.abs(plant.true_state()[0] - plant.robot.home).max() < 1e-3
    weight = plant.robot.weight(plant.robot.home)
    assert np.allclose(seen[True] - seen[False], weight / plant.drive.stiffness, atol=1e-5)
    assert np.abs(weight / plant.drive.stiffness).max() > 1e-3


def test_readings_at_the_link_are_what_the_spring_passes_on():
    """Free of all else, the rotor takes its share of the effort: the link gets I / (B + I) of it, on average."""
    plant = bare(plant_in(World(windup=0.01, reading_link=True)))
    B, link, _ = two_masses(plant)
    reported = [plant.step(np.array([1.0])).effort[0] for _ in range(20)]
    assert abs(plant.true_state()[0][0] - plant.robot.home[0]) > 0.1
    assert np.mean(reported) == pytest.approx(link / (B + link), rel=2e-2)


def test_the_oracle_takes_elastic_joints_for_rigid_ones_and_sees_every_load():
    plant = plant_in(World(windup=0.01, swinging=1.0), "arm")
    plant.step(0.1 * plant.robot.effort_limit)
    model, data = plant.rigid()
    assert model.nv == plant.model.nv - 7
    assert np.array_equal(data.joint("swinging_load").qpos, plant.data.joint("swinging_load").qpos)
    assert Oracle(plant).physics.model is model
    plant.set_payload(1.0)
    assert plant.rigid()[0].body_mass.sum() == pytest.approx(model.body_mass.sum() + 1.0)


@pytest.mark.parametrize("compensated", [True, False])
def test_the_effort_at_a_reset_holds_an_elastic_arm(compensated):
    """What is reported to have held it is what the next period needs: nothing falls, and nothing is thrown."""
    plant = plant_in(World(windup=0.01, gravity_compensation=compensated), name="arm")
    held, home = plant.reset(0).effort, plant.robot.home
    for _ in range(10):
        plant.step(held)
    assert np.abs(plant.true_state()[0] - home).max() < (1e-3 if compensated else 0.03)
    assert (np.abs(held) > 1.0).any() != compensated


def test_a_joint_that_becomes_elastic_moves_on():
    plant = plant_in(World(), "arm")
    for _ in range(5):
        plant.step(0.2 * plant.robot.effort_limit)
    before = plant.true_state()
    plant.change(World(windup=0.01))
    assert np.array_equal(plant.true_state(), before) and np.abs(before[1]).max() > 0.1
    assert np.array_equal(plant.data.qvel[plant.drive.dofs], before[1])


def test_a_joint_sticks_below_stiction_and_runs_away_above_it():
    """Friction at rest is 1.5 times that in motion: in between a joint stays where it is, and goes on if it moves."""
    world = World(friction=0.1, stiction=1.5, stribeck=0.01)
    moving = 0.1 * 15.0 + 0.02  # N m: of the effort limit, and of the model file
    ways, speeds = [], []
    for effort, speed in ((1.3 * moving, 0.0), (1.3 * moving, 1.0), (1.7 * moving, 0.0)):
        plant = plant_in(world)
        plant.model.opt.gravity[:] = plant.model.dof_damping[:] = 0.0
        plant.data.qvel[:] = speed
        for _ in range(25):
            plant.step(np.array([effort]))
        ways.append(plant.true_state()[0][0] - plant.robot.home[0]), speeds.append(plant.true_state()[1][0])
    assert abs(ways[0]) < 1e-3 and abs(speeds[0]) < 1e-3
    assert speeds[1] > 1.1 and speeds[2] > 0.1


def test_cogging_is_a_potential_with_the_period_of_the_motor():
    """A free joint gets its speed back after every period, and in between has A / N more or less energy than that."""
    plant = bare(plant_in(World(cogging=0.02, cogging_periods=50.0), home=[0.0]))
    plant.data.qvel[:], energy, angle = 1.0, [], []
    _, inertia, _ = two_masses(plant)
    for _ in range(300):
        plant.drive.act(plant.data, np.zeros(1))
        mujoco.mj_step(plant.model, plant.data)
        angle.append(plant.data.qpos[0]), energy.append(0.5 * inertia * plant.data.qvel[0] ** 2)
    amplitude = 0.02 * 15.0
    expected = 0.5 * inertia + amplitude / 50 * (1 - np.cos(50 * np.array(angle)))
    assert np.allclose(energy, expected, atol=0.1 * amplitude / 50)  # a timestep is a twentieth of a radian of it
    assert np.ptp(energy) == pytest.approx(2 * amplitude / 50, rel=0.1)


def test_encoders_have_steps():
    plant = plant_in(World(quantum=4e-4), config=Config())
    readings = np.array([plant.step(np.array([1.0])).position[0] for _ in range(50)]) / 4e-4
    assert np.allclose(readings, np.round(readings), atol=1e-9) and len(set(np.round(readings))) > 5
    assert abs(readings[-1] * 4e-4 - plant.true_state()[0][0]) < 2e-4 + 5e-4


def test_links_are_longer_or_shorter_than_the_robot_believes():
    plant = plant_in(World(length_error=0.01, length_seed=3), "arm")
    off = plant.true_tool() - plant.robot.tool_position(plant.robot.home)
    assert 1e-4 < np.linalg.norm(off) < 0.01 * 1.6  # of a reach of 1.6 m
    assert plant.model.body_mass == pytest.approx(plant_in(World(), "arm").model.body_mass)
    right = plant_in(World(), "arm")
    assert np.array_equal(right.true_tool(), right.robot.tool_position(right.robot.home))


def test_commands_come_at_irregular_times():
    """Late by up to half a period: what acts on average is the command, less a part of its change from 0 to 0.5."""
    plant = plant_in(World(jitter=0.5))
    late = [plant.step(np.array([float(i % 2)])).effort[0] - i % 2 for i in range(1, 200)]
    late = np.abs(late[1:])  # before the first, what held the arm acted
    assert late.min() < 0.03 and 0.47 < late.max() <= 0.5 and late.mean() == pytest.approx(0.25, abs=0.03)


def test_lost_states_are_never_seen_and_the_effort_is_held():
    plant = plant_in(World(lost=0.2))
    times = np.array([plant.step(np.zeros(1)).time for _ in range(500)])
    periods = np.diff(times) / 20e6
    assert np.array_equal(periods, np.round(periods)) and periods.min() == 1
    assert np.mean(periods) == pytest.approx(1 / 0.8, rel=0.1)
    free, held = plant_in(World()), plant_in(World(lost=0.5))
    first = held.step(np.ones(1)).time
    for _ in range(round((first - free._time) / 20e6)):
        free.step(np.ones(1))
    assert np.array_equal(free.true_state(), held.true_state())


def pressed(world, q):
    """A plant whose hold has pressed for two seconds towards the posture q."""
    plant = plant_in(world, "arm")
    robot = plant.robot
    for i in range(100):
        at, speed = plant.true_state()
        wanted = robot.home + min(1.0, i / 60) * (np.array(q) - robot.home)
        plant.step(0.2 * robot.stiffness * (wanted - at) - 0.5 * robot.damping * speed)
    return plant


def test_no_link_passes_the_table():
    """Pressed down, the arm comes to rest on it, with whatever link comes first."""
    world = World(table=True, table_below=0.15)
    low = [0.0, 0.4, 0.0, -2.3562, 0.0, 1.5708, 0.7854]
    free, stopped = pressed(World(), low), pressed(world, low)
    height = table_height(free.robot, world)
    assert free.true_tool()[2] < height - 0.1
    assert stopped.true_tool()[2] > height - 0.005 and stopped.data.ncon > 0


def test_the_arm_meets_itself_only_where_contacts_are_on():
    """Folded until the hand is in the base without contacts; with them it stops before."""
    folded = [0.0, 0.5, 0.0, -3.0, 0.0, 1.5, 0.7854]
    free, stopped = pressed(World(), folded), pressed(World(contacts=True), folded)
    where = plant_in(World(contacts=True), "arm")
    assert where.data.ncon == 0  # at home nothing touches
    depth = []
    for plant in (free, stopped):
        where.data.qpos[where._qpos] = plant.true_state()[0]
        mujoco.mj_forward(where.model, where.data)
        depth.append(-min(contact.dist for contact in where.data.contact))
    assert free.data.ncon == 0 and depth[0] > 0.05 and 0 < depth[1] < 0.01


def test_targets_in_the_table_move_above_it():
    robot, world = make("arm"), World(table=True, table_below=0.1)
    low = np.array([0.4, 0.1, 0.0])
    moved = before_wall(robot, world, low)
    assert moved.tolist() == [0.4, 0.1, table_height(robot, world) + CLEAR]
    assert np.array_equal(before_wall(robot, world, moved), moved)


def test_a_drive_of_an_unchanged_world_passes_efforts_on_as_they_are():
    plant = plant_in(World(), "arm")
    effort = np.arange(7.0)
    Drive(plant.robot, World(), plant.model).act(plant.data, effort)
    assert np.array_equal(plant.data.qfrc_applied[plant._dofs], effort)
