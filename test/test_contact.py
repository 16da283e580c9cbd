"""The door and the block: what they are, what they do to x, and the tasks as they stand in the files."""
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import Run, collect
from mbrl_ros.models.features import Features
from mbrl_ros.ring.learner import features_of
from mbrl_ros.simulation import block, door, hand
from mbrl_ros.simulation.world import goal, missed
from mbrl_ros.trainers.lqr_flm import LqrFlm, Settings
from mbrl_ros.trainers.training import make, suited

QUIET = {"plant": {"encoder_noise": 0.0, "disturbance": 0.0}}


def settings(name, **over):
    return assembly.settings(Names("arm", name, "ilqr", "gaussian"), merge({"plant": {"pace": "lockstep"}}, over))


def plant_of(name, **over):
    of = settings(name, **over)
    robot = assembly.make_robot(of)
    return robot, assembly.make_plant(of, robot)


def dof(plant, name):
    return int(plant.model.joint(name).dofadr[0])


def pulled(plant, name, force, steps=300):
    """Position of a joint after a constant force on it for so many timesteps, the arm being held by its own weight."""
    for _ in range(steps):
        plant.data.qfrc_applied[dof(plant, name)] = force
        mujoco.mj_step(plant.model, plant.data)
    return float(plant.data.joint(name).qpos[0]), float(plant.data.joint(name).qvel[0])


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.6, 1.0])
def test_the_handle_is_on_its_arc_and_the_rod_has_its_slack_in_it(angle):
    robot, plant = plant_of("door")
    world, data = plant.world, plant.data
    data.joint("door").qpos[:] = angle - world.door_open
    mujoco.mj_kinematics(plant.model, data)
    middle = 0.5 * (data.geom("door_near").xpos + data.geom("door_far").xpos)
    hinge = data.joint("door").xanchor
    assert np.linalg.norm((middle - hinge)[:2]) == pytest.approx(door.RADIUS)
    np.testing.assert_allclose(middle[:2], door.handle(robot, angle)[:2], atol=1e-9)
    if angle == world.door_open:  # where its coordinate is 0
        np.testing.assert_allclose(goal(robot, world)[:2], middle[:2], atol=1e-9)
    bar, panel = (data.geom(f"door_{name}") for name in ("bar", "panel"))
    apart = np.linalg.norm(bar.xpos[:2] - door.handle(robot, angle)[:2]) - door.BAR / 2
    assert apart == pytest.approx(hand.ROD + door.SLACK)
    across = (door.handle(robot, angle) - panel.xpos) @ data.body("door").xmat.reshape(3, 3)[:, 1]
    assert across - door.THICK / 2 == pytest.approx(hand.ROD + door.SLACK)


@pytest.mark.parametrize("task", ["door", "push"])
def test_what_is_at_rest_stays_and_nothing_touches_the_rod(task):
    robot, plant = plant_of(task, **QUIET)
    before = plant.true_objects()[0]
    start = [-0.6] if task == "door" else [-0.15, 0.0, 0.0]
    np.testing.assert_allclose(before, start, atol=1e-12)
    for _ in range(100):
        plant.step(np.zeros(robot.m))
    now, speed = plant.true_objects()
    assert np.abs(now - before).max() < 1e-4 and np.abs(speed).max() < 1e-4
    touching = {plant.model.geom(g).name for pair in plant.data.contact.geom for g in pair}
    assert "rod" not in touching


def test_the_friction_of_the_block_is_what_holds_it():
    weight = 9.81 * block.MASS
    for part in (0.9, 1.5):
        _, plant = plant_of("push", **QUIET)
        for _ in range(100):
            mujoco.mj_step(plant.model, plant.data)
        force, seconds = part * plant.world.block_friction * weight, 0.3
        where, speed = pulled(plant, "block_away", force, round(1000 * seconds))
        if part < 1:
            assert where + plant.world.block_beyond < 1e-3 and abs(speed) < 5e-3
        else:
            expected = (force - plant.world.block_friction * weight) / block.MASS * seconds
            assert speed == pytest.approx(expected, rel=0.05)


def test_the_friction_of_the_hinge_is_what_holds_the_door():
    _, plant = plant_of("door", **QUIET)
    plant.model.geom("rod").conaffinity[:] = 0  # else it carries the arm along
    shut, M = float(plant.data.joint("door").qpos[0]), np.empty((plant.model.nv, plant.model.nv))
    assert pulled(plant, "door", 0.9 * plant.world.door_friction)[0] - shut < 5e-3  # MuJoCo's friction creeps
    mujoco.mj_fullM(plant.model, plant.data, M)
    inertia, damping, torque = M[dof(plant, "door"), dof(plant, "door")], plant.world.door_damping, 3.0
    assert inertia == pytest.approx(door.MASS * door.RADIUS**2 / 3, rel=0.25)  # of the panel about its edge
    steady = (torque - plant.world.door_friction) / damping
    assert pulled(plant, "door", torque, 300)[1] == pytest.approx(steady * (1 - np.exp(-0.3 * damping / inertia)),
                                                                  rel=0.05)


@pytest.mark.parametrize("task", ["door", "push"])
def test_rows_of_x_are_what_the_objects_do(task):
    """The arm pulls or pushes; what the estimator says of the objects is where MuJoCo has them."""
    robot, plant = plant_of(task)
    estimator = assembly.make_estimator(settings(task), robot)
    towards = goal(robot, plant.world) - robot.tool_position(robot.home)
    force = 12.0 * robot.tool(robot.home)[2].T @ (towards / np.linalg.norm(towards))  # [N m] of 12 N at the tool
    observation, off = plant.reset(3), []
    start = plant.true_objects()[0]
    for _ in range(40):
        x = estimator.update(observation).belief.mean
        there, speed = plant.true_objects()
        off.append([np.abs(x[robot.slice("object/position")] - there).max(),
                    np.abs(x[robot.slice("object/velocity")] - speed).max()])
        estimator.commanded(force)
        observation = plant.step(force)
    assert np.linalg.norm(plant.true_objects()[0] - start) > 0.05  # it has moved
    position, velocity = np.median(off, 0)
    assert position < 1e-3 and velocity < 0.1
    plant.reset(0)
    np.testing.assert_allclose(plant.true_objects()[0], start, atol=1e-12)  # put back


def test_what_is_known_of_the_joints_does_not_depend_on_whether_objects_are_observed():
    seen = []
    for objects in (["door"], []):
        of = settings("door", robot={"objects": objects}, **QUIET)
        robot = assembly.make_robot(of)
        plant, estimator = assembly.make_plant(of, robot), assembly.make_estimator(of, robot)
        observation = plant.reset(0)
        for _ in range(20):
            state = estimator.update(observation)
            estimator.commanded(np.full(robot.m, 0.5))
            observation = plant.step(np.full(robot.m, 0.5))
        rows = [i for i, name in enumerate(robot.state_names) if not name.startswith("object/")]
        seen.append((state.belief.mean[rows], state.belief.cov[np.ix_(rows, rows)]))
        assert len(rows) == robot.n - 2 * len(objects)
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[0][1], seen[1][1])


def test_objects_are_fitted_as_joints_are_and_keep_their_dynamics_in_x():
    robot = assembly.make_robot(settings("push"))
    rows, rng = robot.joint_rows, np.random.default_rng(0)
    features = features_of(robot)
    assert isinstance(features, Features) and features.dy == 2 * (robot.m + 3)
    fitted = features.dynamics(*(rng.standard_normal(shape) for shape in ((features.dy, features.dw), features.dy)),
                               np.eye(features.dy))
    z, u = rng.standard_normal(len(rows)), rng.standard_normal(robot.m)
    lifted = robot.lift(fitted, z, u)
    x = np.zeros(robot.n)
    x[rows] = z
    np.testing.assert_allclose((lifted.F @ np.concatenate([x, u]) + lifted.f)[rows],
                               fitted.F @ np.concatenate([z, u]) + fitted.f, atol=1e-9)
    np.testing.assert_allclose(lifted.F[np.ix_(rows, rows)], fitted.F[:, : len(rows)])


@pytest.mark.parametrize(("task", "done"), [("door", [0.0]), ("push", [0.0, 0.0, 0.7])])
def test_a_task_is_missed_by_how_far_its_object_is_from_its_place(task, done):
    robot, plant = plant_of(task)
    away, done = np.full(3, 9.0), np.array(done)
    assert missed(robot, plant.world, away, done) == 0.0
    done[0] = -0.02
    expected = 0.02 * door.RADIUS if task == "door" else 0.02
    assert missed(robot, plant.world, away, done) == pytest.approx(expected)


@pytest.mark.parametrize(("task", "over", "expected"), [
    ("door", {"robot": {"objects": ["lid"]}}, "robot.objects: expected some of door in this world, got 'lid'"),
    ("push", {"world": {"block": False}}, "robot.objects: expected some of none in this world, got 'block_away'"),
    ("door", {"world": {"slot": True}}, "world.*door: expected one thing in the hand, got one for slot and door"),
    ("door", {"robot": {"objects": ["door", "door"]}}, "objects: expected every object once, got 'door' 2 times"),
    ("door", {"robot": {"objects": ["joint1"]}}, "objects: expected names that no joint of the robot has, got 'joint1"),
    ("door", {"robot": {"objects": []}}, "task.open: objects: expected some of robot.objects, none, got all"),
    ("push", {"task": {"place": {"objects": ["door"]}}}, "task.place: objects: expected some of robot.objects, "
     "block_away, block_across, block_turn, got door"),
    ("push", {"trainer": {"back": "home"}}, "trainer.back: expected reset with robot.objects"),
    ("push", {"learner": {"prior": "nominal"}}, "robot.objects: expected none for physics as a model")])
def test_mistakes_are_one_line(task, over, expected):
    with pytest.raises(ConfigError, match=expected):
        of = suited(settings(task, **over), "lqr_flm")
        run = Run(of, measures.Config(data_seconds=0.2), 0)
        make(of, "lqr_flm", 0, run.robot)
        run.excite(0.2)
        run.fit(0.2)


def test_a_door_gets_opener_by_trials():
    """Three updates of two trials: the cost falls, and the door is further open than at first."""
    of = suited(settings("door", trainer={"seconds": 1.0}), "lqr_flm")
    run = Run(of, measures.Config(data_seconds=1.0), 100)
    config, trainer = make(of, "lqr_flm", 100, run.robot)
    assert isinstance(trainer, LqrFlm) and isinstance(trainer.config, Settings)
    costs, steps = [], round(config.seconds / run.robot.period)
    for i in range(4):
        trials = collect(run, trainer.policy(), config.trials, steps, 100 + config.trials * i)
        costs.append(trainer.update(trials)["task_cost"])
        if i == 0:
            first = missed(run.robot, run.plant.world, run.plant.true_tool(), run.plant.true_objects()[0])
    last = missed(run.robot, run.plant.world, run.plant.true_tool(), run.plant.true_objects()[0])
    assert costs[-1] < 0.7 * costs[0] and last < 0.7 * first
