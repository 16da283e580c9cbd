"""Inverse kinematics against closed forms and its own forward kinematics, and paths that joints can follow."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.kernels import reach
from mbrl_ros.task.reachable import EXACT, JointMotion, Reachable
from mbrl_ros.task.task import Task

ARMS = ("arm", "arm4", "arm6", "planar2", "pendulum")


def soft(robot):
    """The ends within which targets count as reachable, or some where there are none."""
    low, high = robot.position_low + robot.position_margin, robot.position_high - robot.position_margin
    return np.where(np.isfinite(low), low, -3.0), np.where(np.isfinite(high), high, 3.0)


@pytest.mark.parametrize("name", ARMS)
def test_poses_are_those_of_the_robot(name):
    robot, rng = make(name), np.random.default_rng(0)
    q = rng.uniform(*soft(robot), (20, robot.m))
    p, R, G = reach.poses(*Reachable(robot).chain, q)
    for i in range(20):
        position, rotation, jacobian = robot.tool(q[i])
        assert np.allclose(p[i], position, atol=1e-9) and np.allclose(G[i, :3], jacobian, atol=1e-9)
        assert np.allclose(R[i], rotation, atol=1e-9) and np.allclose(G[i, 3:], robot.orientation(q[i])[1], atol=1e-9)


@pytest.mark.parametrize("name", ARMS)
def test_whatever_the_joints_reach_is_reachable(name):
    robot, rng = make(name), np.random.default_rng(1)
    of, (low, high) = Reachable(robot), soft(robot)
    for _ in range(200):
        target = robot.tool_position(rng.uniform(low, high))
        found = of.nearest(target, robot.home)
        assert found.distance == 0.0 and found.point is target
        assert np.linalg.norm(robot.tool_position(found.joints) - target) <= EXACT
        assert (found.joints >= low - 1e-12).all() and (found.joints <= high + 1e-12).all()


def test_beyond_two_links_the_nearest_point_is_on_the_circle_of_the_stretched_arm():
    robot = make("planar2")
    of, shoulder = Reachable(robot), robot.model.body("upper").pos
    length = np.linalg.norm(robot.tool_position(np.zeros(2)) - shoulder)
    for angle in (-0.6, 0.2, 0.9):
        straight = robot.tool_position(np.array([angle, 0.0]))
        way = (straight - shoulder) / length
        found = of.nearest(shoulder + 9.0 * way, robot.home)
        assert np.allclose(found.point, straight, atol=1e-5) and found.distance == pytest.approx(9.0 - length)
        beside = of.nearest(straight + np.array([0.0, 0.3, 0.0]), robot.home)  # out of the plane
        assert np.allclose(beside.point, straight, atol=1e-3) and beside.distance == pytest.approx(0.3, abs=1e-5)


def test_nothing_that_the_joints_reach_is_nearer_than_the_nearest_point():
    robot, rng = make("arm"), np.random.default_rng(2)
    of = Reachable(robot)
    anywhere = reach.poses(*of.chain, rng.uniform(*soft(robot), (20_000, robot.m)))[0]
    for _ in range(50):
        target = rng.uniform(-1.5, 1.5, 3)
        assert of.nearest(target, robot.home).distance <= np.linalg.norm(anywhere - target, axis=1).min() + EXACT


def test_a_target_is_led_to_the_nearest_point_or_refused():
    settings = assembly.settings(Names("arm"))
    robot = assembly.make_robot(settings)
    led = assembly.make_controller(settings, robot)
    said = led.set_target(np.array([9.0, -0.2, 0.5]))
    assert "m out of reach; the nearest point is" in said
    assert np.linalg.norm(led.mpc.target) < 1.5 and led.mpc.target[0] > 0.5
    inside = robot.tool_position(robot.home) + 0.05
    assert led.set_target(inside) == "" and np.array_equal(led.mpc.target, inside)
    settings = assembly.settings(Names("arm"), {"controller": {"unreachable": "refuse"}})
    refusing = assembly.make_controller(settings, robot)
    refusing.set_target(inside)
    with pytest.raises(ConfigError, match="out of reach"):
        refusing.set_target(np.array([9.0, -0.2, 0.5]))
    assert np.array_equal(refusing.mpc.target, inside)


def test_no_path_asks_for_more_than_the_joints_can_do():
    """Straight where that is quick enough, with the duration it always had; else slower, or straight for the joints."""
    settings = assembly.settings(Names("arm"))
    robot, rng = make("arm"), np.random.default_rng(3)
    task, kinds = Task(settings["task"], robot), set()
    for _ in range(60):
        q = robot.home + rng.uniform(-1.0, 1.0, robot.m)
        q = np.clip(q, *soft(robot))
        end = np.clip(q + rng.uniform(-1.0, 1.0, robot.m), *soft(robot))
        start, goal = robot.tool_position(q), robot.tool_position(end)
        path = task.path_to(goal, start, 0, q)
        position, velocity = path.at(0, 0.01, 1001)
        assert np.allclose(position[0], start, atol=1e-9) and np.allclose(position[-1], goal, atol=EXACT)
        assert np.allclose(np.gradient(position, 0.01, axis=0)[1:-1], velocity[1:-1], atol=5e-3)
        if isinstance(path, JointMotion):
            joints, speeds = path.joints(0, 0.01, 1001)
            assert (np.abs(speeds) <= 0.9 * robot.velocity_limit * (1 + 1e-6)).all()
            assert (joints >= soft(robot)[0] - 1e-9).all() and (joints <= soft(robot)[1] + 1e-9).all()
        else:
            usual = task.path.duration(start, goal)
            assert task.reachable.straight(start, goal, q) <= 0.9 * path.path.duration(start, goal) * (1 + 1e-9)
            assert path.path.duration(start, goal) >= usual
        kinds.add((type(path).__name__, path.path.longest > task.path.longest if hasattr(path, "path") else None))
    assert {("Motion", False), ("JointMotion", None)} <= kinds
