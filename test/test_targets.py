"""Poses, joints, trajectories, velocities, shapes to stay out of: against kinematics, differences, closed forms."""
from __future__ import annotations

import numpy as np
import pytest
from arms import make, settings
from scipy.spatial.transform import Rotation
from test_controller import state

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.messages.targets import from_joints
from mbrl_ros.ring import aims
from mbrl_ros.ring.arrival import LATE, RUNNING, THERE, Arrival, Tolerances
from mbrl_ros.ring.controller import REACH
from mbrl_ros.ring.loop import Ring
from mbrl_ros.simulation.oracle import Oracle
from mbrl_ros.task import bypass
from mbrl_ros.task.bypass import Bypass
from mbrl_ros.task.frames import Frames, UnknownFrame
from mbrl_ros.task.goal import Goal
from mbrl_ros.task.keep_out import KeepOutBox, KeepOutPlane, KeepOutSphere
from mbrl_ros.task.reachable import Reachable, angle_between
from mbrl_ros.task.task import Task
from mbrl_ros.task.trajectory import Jog, JointTrajectory, PoseTrajectory

SHAPES = [KeepOutSphere(center=(0.1, -0.2, 0.3), radius=0.2),
          KeepOutBox(center=(0.1, 0.0, 0.2), size=(0.6, 0.5, 0.4), tilt=(0.3, -0.2, 0.5)),
          KeepOutPlane(point=(0.0, 0.1, 0.1), normal=(1.0, 1.0, 0.0))]


def draw(robot, seed, count=1, spread=0.6):
    of, rng = Reachable(robot), np.random.default_rng(seed)
    q = robot.home + rng.uniform(-spread, spread, (count, robot.m))
    return np.clip(q, of.low + 0.03, of.high - 0.03)


@pytest.mark.parametrize("name", ["arm", "arm6"])
def test_the_poses_of_postures_are_reachable_and_are_those_of_the_joints_that_are_found(name):
    robot = make(name)
    of = Reachable(robot)
    for q in draw(robot, 0, 50):
        position, rotation, _ = robot.tool(q)
        found = of.nearest(position, robot.home, rotation)
        p, R, _ = robot.tool(found.joints)
        assert found.distance == found.angle == 0.0
        assert np.linalg.norm(p - position) < 1e-3 and angle_between(R, rotation) < 5e-3
        assert (found.joints >= of.low - 1e-12).all() and (found.joints <= of.high + 1e-12).all()


def test_a_pose_beyond_two_joints_is_led_to_one_that_they_have_or_refused():
    robot = make("planar2")
    of = Reachable(robot)
    position, rotation, _ = robot.tool(robot.home)
    out_of_plane = Rotation.from_euler("z", 0.5).as_matrix() @ rotation
    found = of.nearest(position, robot.home, out_of_plane)
    p, R, _ = robot.tool(found.joints)
    assert found.angle == pytest.approx(angle_between(R, out_of_plane)) and found.angle > 0.4
    assert np.allclose(found.point, p, atol=1e-9) and np.allclose(found.rotation, R, atol=1e-9)
    s = assembly.settings(Names("planar2"))
    led = assembly.make_controller(s, robot)
    assert "degrees out of reach; the nearest pose is at" in led.set_target(position, out_of_plane)
    with pytest.raises(aims.Unreachable, match="degrees out of reach"):
        led.set_target(position, out_of_plane, refuse=True)


def test_a_motion_to_a_pose_ends_there_and_its_turn_is_the_integral_of_its_angular_velocity():
    robot = make("arm")
    task, kinds = Task(settings("arm")["task"], robot), set()
    for q, end in zip(draw(robot, 1, 20), draw(robot, 2, 20, 1.2), strict=True):
        (p, R, _), (goal, turned, _) = robot.tool(q), robot.tool(end)
        path = task.path_to(Goal(goal, turned), p, 5, q)
        found, w = path.turned(5, 1e-3, round(1e3 * path.duration) + 2)
        assert angle_between(found[0], R) < 1e-6 and angle_between(found[-1], turned) < 5e-3
        assert np.allclose(path.at(5, path.duration, 2)[0], [p, goal], atol=1e-3)
        steps = Rotation.from_matrix(found[1:] @ np.swapaxes(found[:-1], 1, 2)).as_rotvec() / 1e-3
        assert np.abs(steps - 0.5 * (w[1:] + w[:-1])).max() < 0.02
        kinds.add(type(path).__name__)
    assert "Motion" in kinds


def test_the_residual_of_a_turn_is_zero_on_the_path_and_its_slope_is_the_difference():
    robot = make("arm")
    task = Task({"terms": ["turn"], "turn": {"residual": "tool_orientation"}}, robot)
    q = draw(robot, 3)[0]
    p, R, _ = robot.tool(q)
    wanted = R @ Rotation.from_rotvec([0.1, -0.2, 0.15]).as_matrix()
    w = task.window(task.path_to(Goal(p, wanted), p, 0, q), 60_000_000_000, q, 4, np.zeros(robot.m))  # long over
    cost = task.cost(w, None)
    x = np.zeros(robot.n + robot.m)

    def residual(at):
        x[: robot.m] = at
        return cost.R @ x - cost.reference[0]

    assert np.allclose(residual(q), -Rotation.from_matrix(R.T @ wanted).as_rotvec(), atol=1e-9)
    for j in range(robot.m):
        step = 1e-6 * np.eye(robot.m)[j]
        turned = Rotation.from_matrix(robot.tool(q - step)[1].T @ robot.tool(q + step)[1]).as_rotvec() / 2e-6
        assert np.allclose((residual(q + step) - residual(q - step)) / 2e-6, turned, atol=1e-4)


def test_what_is_not_asked_for_has_no_rows():
    """A place without an orientation is planned for as if there were no terms of turns, joints and far shapes."""
    robot = make("arm")
    s = settings("arm")["task"]
    rest = {"terms": [t for t in s["terms"] if t not in ("turn", "joints")],
            **{k: v for k, v in s.items() if k not in ("terms", "turn", "joints")}}
    far = {**s, "terms": [*s["terms"], "ball"],
           "ball": {"residual": "keep_out_sphere", "norm": "hinge", "center": [3.0, 3.0, 3.0]}}
    goal = robot.tool_position(robot.home) + np.array([0.1, 0.1, 0.0])
    costs = []
    for each in (rest, s, far):
        task = Task(each, robot)
        path = task.path_to(goal, robot.tool_position(robot.home), 0, robot.home)
        costs.append(task.cost(task.window(path, 10, robot.home, 20, np.zeros(robot.m)), None))
    for field in ("R", "reference", "scale", "width", "dead"):
        assert np.array_equal(getattr(costs[0], field), getattr(costs[1], field))
        assert np.array_equal(getattr(costs[0], field), getattr(costs[2], field))
    posed = Task(s, robot)
    path = posed.path_to(Goal(goal, np.eye(3)), robot.tool_position(robot.home), 0, robot.home)
    assert len(posed.cost(posed.window(path, 10, robot.home, 20, np.zeros(robot.m)), None).R) >= len(costs[0].R) + 3


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_the_derivative_of_a_distance_is_its_difference_and_leads_to_the_surface(shape):
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (200, 3))
    d, normal = shape.distance(points)
    assert np.allclose(np.linalg.norm(normal, axis=1), 1.0)
    outside = d > 0
    assert outside.any() and not outside.all()
    assert np.allclose(shape.distance(points - d[:, None] * normal)[0], 0.0, atol=1e-9)
    steps = 1e-6 * np.eye(3)
    ahead, behind = (shape.distance(points[:, None] + side * steps)[0] for side in (1, -1))
    assert np.allclose((ahead - behind)[outside] / 2e-6, normal[outside], atol=1e-4)


def test_a_box_is_as_far_as_its_face_edge_or_corner():
    box = KeepOutBox(center=(1.0, 0.0, 0.0), size=(2.0, 2.0, 2.0))
    d, _ = box.distance(np.array([[3.0, 0.0, 0.0], [3.0, 2.0, 0.0], [3.0, 2.0, 2.0], [1.0, 0.0, 0.7]]))
    assert np.allclose(d, [1.0, np.sqrt(2.0), np.sqrt(3.0), -0.3])


@pytest.mark.parametrize("shape", [
    {"residual": "keep_out_sphere", "radius": 0.06}, {"residual": "keep_out_box", "size": [0.1, 0.1, 0.1]}])
def test_the_path_goes_round_what_is_in_its_way_and_no_joint_is_too_fast(shape):
    robot = make("arm")
    start = robot.tool_position(robot.home)
    goal = start + np.array([0.0, 0.35, -0.1])
    task = settings("arm")["task"]
    task = Task({**task, "terms": [*task["terms"], "it"],
                 "it": {**shape, "norm": "hinge", "center": (0.5 * (start + goal)).tolist()}}, robot)
    path = task.path_to(goal, start, 0, robot.home)
    assert isinstance(path.path, Bypass)
    points, speed = path.at(0, 0.01, round(100 * path.duration) + 2)
    assert bypass.depth(task.shapes, points).max() < 1e-3
    assert np.allclose(points[[0, -1]], [start, goal], atol=1e-6)
    assert np.allclose(np.gradient(points, 0.01, axis=0)[1:-1], speed[1:-1], atol=0.02)
    _, left = task.reachable.joints_along(points, np.eye(3)[None], robot.home, False)
    assert left.max() < 0.01
    inside = 0.5 * (start + goal)
    moved, said = aims.target(task, inside, None, robot.home, False)
    assert "inside of what shall be kept out of" in said and bypass.depth(task.shapes, moved.position) < 1e-6
    with pytest.raises(aims.Unreachable, match="inside of what shall be kept out of"):
        aims.target(task, inside, None, robot.home, True)


def test_trajectories_pass_their_points_at_their_times_and_rest_at_both_ends():
    robot = make("arm")
    chain, times = Reachable(robot).chain, np.array([0.8, 1.7, 3.0])
    q = draw(robot, 4, 3, 0.3)
    p, R = (np.array([robot.tool(one)[i] for one in q]) for i in (0, 1))
    tool, rotation, _ = robot.tool(robot.home)
    for made, at in ((JointTrajectory(chain, times, q), lambda c, t: c.joints(t, 1e-3, 3)),
                     (JointTrajectory(chain, times, q, np.zeros((3, 7))), lambda c, t: c.joints(t, 1e-3, 3)),
                     (PoseTrajectory(times, p, R), lambda c, t: c.at(t, 1e-3, 3))):
        course = made.begun(7, robot.home, tool, rotation)
        points = q if isinstance(made, JointTrajectory) else p
        for t, point in zip(times, points, strict=True):
            assert np.allclose(at(course, 7 + round(1e9 * t))[0][0], point, atol=1e-9)
        for t in (0.3, 1.2, 2.4):
            x, v = at(course, 7 + round(1e9 * t))
            assert np.allclose((x[2] - x[0]) / 2e-3, v[1], atol=1e-4)
        for t in (7, 7 + round(3e9), 7 + round(9e9)):
            assert np.allclose(at(course, t)[1][0], 0.0, atol=1e-9)
        assert np.allclose(course.at(7, 1.0, 1)[0][0], tool, atol=1e-9) and course.duration == 3.0
        assert angle_between(course.turned(7 + round(3e9), 1.0, 1)[0][0], R[-1]) < 1e-6


@pytest.mark.parametrize("call, words", [
    (lambda t, r: aims.joint_trajectory(t, r, [1.0, 0.5], np.zeros((2, 7)), None, r.home), "increasing times from 0"),
    (lambda t, r: aims.joint_trajectory(t, r, [1.0], np.zeros((1, 2)), None, r.home), "1 points of 7 finite joint"),
    (lambda t, r: aims.joint_trajectory(t, r, [0.0, 1.0], np.tile(r.home + 0.3, (2, 1)), None, r.home), "first point"),
    (lambda t, r: aims.joint_trajectory(t, r, [0.1], r.home[None] + 0.5, None, r.home), "times its velocity limit"),
    (lambda t, r: aims.joint_trajectory(t, r, [9.0], r.home[None] + 4.0, None, r.home), "joint1 goes from"),
    (lambda t, r: aims.pose_trajectory(t, r, [2.0], np.array([[3.0, 0.0, 0.0]]), None, r.home), "out of reach after"),
    (lambda t, r: aims.joints(t, r, np.zeros(3), False), "expected 7 finite joint positions"),
    (lambda t, r: aims.joints(t, r, np.full(7, 9.0), True), "joint4 at 9 is out of reach"),
    (lambda t, r: aims.rotation_of([0.0, 0.0, 0.0, 0.0]), "quaternion x, y, z, w of length 1"),
    (lambda t, r: aims.jog(t, np.full(6, np.nan), 0.3, None, 0, np.zeros(3)), "6 finite velocities")])
def test_what_cannot_be_followed_is_refused_with_a_line(call, words):
    robot = make("arm")
    with pytest.raises(ConfigError, match=words):
        call(Task(settings("arm")["task"], robot), robot)


def test_a_velocity_comes_up_gently_and_stops_by_itself():
    jog = Jog(np.array([0.1, 0.0, -0.2, 0.0, 0.0, 0.5]), 1.0, 1.0, np.zeros(6)).begun(0, None, np.ones(3), np.eye(3))
    p, v = jog.at(0, 1e-3, 3001)
    R, w = jog.turned(0, 1e-3, 3001)
    assert np.allclose(np.gradient(p, 1e-3, axis=0)[1:-1], v[1:-1], atol=1e-3)
    assert np.abs(np.diff(v, axis=0)).max() <= 1.0e-3 + 1e-9
    assert np.allclose(v[600], [0.1, 0.0, -0.2]) and np.allclose(v[-1], 0.0) and np.allclose(w[-1], 0.0)
    assert np.allclose(jog.goal, p[-1]) and angle_between(R[-1], Rotation.from_euler("z", 0.5).as_matrix()) < 1e-6
    task = Task(settings("arm")["task"], make("arm"))
    on = aims.jog(task, np.zeros(6), 1.0, jog, 600_000_000, p[600])
    assert np.allclose(on.start, p[600]) and np.allclose(on.before[:3], v[600])
    behind = aims.jog(task, np.zeros(6), 1.0, jog, 600_000_000, p[600] - [0.5, 0.0, 0.0])
    assert np.linalg.norm(behind.start - (p[600] - [0.5, 0.0, 0.0])) == pytest.approx(aims.LEAD)


def test_frames_that_do_not_move_are_resolved_and_others_refused():
    robot = make("arm")
    of = Frames(robot)
    for name in ("", "world", "base", robot.base_frame):
        p, R = of.of(name)
        assert np.allclose(p, 0.0) and np.allclose(R, np.eye(3))
    for name in ("link3", "tool", "moon"):
        with pytest.raises(UnknownFrame, match=f"frame '{name}'; expected 'base_link'"):
            of.of(name)
    shoulder = Frames(make("planar2"))
    assert "world" in shoulder._known


def test_joints_come_in_any_order_of_names():
    assert np.array_equal(from_joints(["b", "a"], [1.0, 2.0], ("a", "b")), [2.0, 1.0])
    assert np.array_equal(from_joints([], [1.0, 2.0], ("a", "b")), [1.0, 2.0])
    for names, values in ((["a"], [1.0]), (["a", "c"], [1.0, 2.0]), (["a", "b"], [1.0]), ([], [1.0])):
        with pytest.raises(MessageError):
            from_joints(names, values, ("a", "b"))


def test_there_is_within_tolerances_for_a_while_and_late_is_after_the_path():
    robot = make("planar2")
    of, at = Reachable(robot), state(robot)
    tool = at.belief.mean[robot.slice("site/tool/position")]
    from dataclasses import replace
    near = Arrival(Goal(tool + 0.001), Tolerances(settle=0.1), robot, of)
    assert [near.update(replace(at, time=t * 10_000_000), None) for t in range(11)] == [RUNNING] * 10 + [THERE]
    far = Arrival(Goal(tool + 0.1), Tolerances(limit=0.05), robot, of)
    assert [far.update(replace(at, time=t * 10_000_000), None) for t in range(7)] == [RUNNING] * 6 + [LATE]
    assert far.miss.distance == pytest.approx(np.sqrt(3) * 0.1)


def oracle_ring(name):
    parts = assembly.make_parts(assembly.settings(Names(name, prior="gaussian")), 0)
    oracle = Oracle(parts.plant)
    oracle.active = parts.controller.has_model = True
    ring = Ring(parts.plant, parts.estimator, oracle, parts.controller, parts.plant.reset(0))
    parts.controller.request(REACH)
    ring.tick()
    return ring, parts


def let(ring, seconds):
    for _ in range(round(seconds / 0.02)):
        ring.tick()


def test_joints_poses_and_trajectories_are_followed_with_the_true_dynamics():
    ring, parts = oracle_ring("arm")
    robot, controller, plant = parts.robot, parts.controller, parts.plant
    q = robot.home + np.array([0.3, 0.2, -0.2, 0.3, 0.2, -0.3, 0.4])
    assert controller.set_joints(q) == ""
    let(ring, 2.5)
    assert np.abs(plant.true_state()[0] - q).max() < 0.02
    position, rotation, _ = robot.tool(robot.home)
    assert controller.set_target(position, rotation) == ""
    let(ring, 3.0)
    found = robot.tool(plant.true_state()[0])
    assert np.linalg.norm(found[0] - position) < 0.005 and angle_between(found[1], rotation) < np.radians(1.0)
    controller.set_joint_trajectory(np.array([1.0, 2.0]), np.array([robot.home + 0.2, q]))
    let(ring, 2.5)
    assert np.abs(plant.true_state()[0] - q).max() < 0.02
    before = plant.true_tool()
    controller.jog(np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0]), 0.5)
    let(ring, 1.5)
    assert plant.true_tool()[2] - before[2] == pytest.approx(0.05, abs=0.01)
