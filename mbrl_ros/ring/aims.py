"""What the controller is asked for, checked before it is taken: targets, trajectories, velocities.

What the joints cannot reach, or what lies inside of something to be kept out of, gives the nearest that is not, and a
line that says so; or it is refused, with `controller.unreachable: refuse`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from mbrl_ros.config import ConfigError
from mbrl_ros.robot import Robot
from mbrl_ros.task import bypass
from mbrl_ros.task.goal import Goal, as_goal
from mbrl_ros.task.path import MinimumJerk
from mbrl_ros.task.reachable import ANY, EDGE
from mbrl_ros.task.task import Task
from mbrl_ros.task.trajectory import Jog, JointTrajectory, PoseTrajectory, check_times
from mbrl_ros.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float

SAMPLES = 200  # of a trajectory that are looked at
FAR = 0.1  # [rad or m, m] that the first point of a trajectory may be from where the arm is, at time 0
SOFT = 1.0  # [m/s^2, rad/s^2] of velocities at most
LEAD = 0.05  # [m or rad] that the path of a velocity may be ahead of the tool


class Unreachable(ConfigError):
    """A target that is out of reach, or inside of what shall be kept out of."""


def rotation_of(quaternion: Sequence[float] | Array, what: str = "target") -> Float[Array, "3 3"]:
    """Of x, y, z, w. Raises ConfigError for one that has no length."""
    q = np.array(quaternion, float)
    if q.shape != (4,) or not np.isfinite(q).all() or abs(np.linalg.norm(q) - 1.0) > 0.05:
        raise ConfigError(f"{what}: expected a quaternion x, y, z, w of length 1, got {q.tolist()}")
    rotation: Array = Rotation.from_quat(q).as_matrix()
    return rotation


def target(task: Task, position: Array, rotation: Array | None, q: Array, refuse: bool) -> tuple[Goal, str]:
    """A goal for the tool at `position` (3,) [m], turned as `rotation` (3, 3) or the task where they say so, from
    joints at q (m,); and what is other than asked for, empty where nothing is. Raises Unreachable instead where that is
    to be refused."""
    position = np.asarray(position, float)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ConfigError(f"target: expected 3 finite coordinates [m], got {position.tolist()}")
    said, asked = "", position.tolist()
    if task.shapes and bypass.depth(task.shapes, position) > 0:
        position = bypass.outside(task.shapes, position)
        said = (f"target: {asked} is inside of what shall be kept out of; the nearest point outside is "
                f"{np.round(position, 4).tolist()}")
    goal = as_goal(Goal(position, rotation), task.rotation)
    reached = task.reachable.nearest(goal.position, q, goal.rotation)
    if reached.distance or reached.angle:
        turned = "" if goal.rotation is None else f" and {np.degrees(reached.angle):.1f} degrees"
        said = (f"target: {asked} is {reached.distance:.3f} m{turned} out of reach; the nearest "
                f"{'pose is at' if turned else 'point is'} {np.round(reached.point, 4).tolist()}")
    if said and refuse:
        raise Unreachable(said)
    return Goal(reached.point, reached.rotation), said


def joints(task: Task, robot: Robot, q: Array, refuse: bool) -> tuple[Goal, str]:
    """Likewise a goal for the joints at q (m,) [rad or m], within their soft ends."""
    q = np.asarray(q, float)
    if q.shape != (robot.m,) or not np.isfinite(q).all():
        raise ConfigError(f"target: expected {robot.m} finite joint positions, got {q.tolist()}")
    low, high = task.reachable.low, task.reachable.high
    inside, said = np.clip(q, low, high), ""
    beyond = np.abs(inside - q)
    if beyond.any():
        i = int(beyond.argmax())
        said = (f"target: {robot.joints[i]} at {q[i]:g} is out of reach; it goes from {low[i]:.4g} to {high[i]:.4g}")
    p, R, _ = task.reachable.poses(inside)
    if task.shapes and bypass.depth(task.shapes, p) > 0:
        raise Unreachable(f"target: the tool would be at {np.round(p, 4).tolist()}, inside of what shall be kept out "
                          "of")
    if said and refuse:
        raise Unreachable(said)
    return Goal(p, R, inside), said


def joint_trajectory(task: Task, robot: Robot, times: Sequence[float] | Array, points: Array,
                     velocities: Array | None, q: Array) -> JointTrajectory:
    """Joints through points (N, m) at times (N,) [s], from q (m,) on. Raises ConfigError for what is malformed or too
    fast, Unreachable for what is beyond the soft ends."""
    t, points = check_times(times, "trajectory"), np.ascontiguousarray(points, float)  # for the kernels
    if points.shape != (len(t), robot.m) or not np.isfinite(points).all():
        raise ConfigError(f"trajectory: expected {len(t)} points of {robot.m} finite joint positions, got "
                          f"{points.shape}")
    if velocities is not None and (velocities.shape != points.shape or not np.isfinite(velocities).all()):
        raise ConfigError(f"trajectory: expected {len(t)} points of {robot.m} finite joint velocities or none, got "
                          f"{velocities.shape}")
    _from_here(t, float(np.abs(points[0] - q).max()))
    made = JointTrajectory(task.reachable.chain, t, points, velocities)
    found = made.begun(0, q, np.zeros(3), ANY).joints(0, made.duration / SAMPLES, SAMPLES + 1)
    assert found is not None
    way, speed = found
    low, high = task.reachable.low - FAR * 0.1, task.reachable.high + FAR * 0.1
    for i, name in enumerate(robot.joints):
        if (way[:, i] < low[i]).any() or (way[:, i] > high[i]).any():
            raise Unreachable(f"trajectory: {name} goes from {way[:, i].min():.4g} to {way[:, i].max():.4g}; expected "
                              f"{low[i]:.4g} to {high[i]:.4g}")
    _not_too_fast(robot, np.abs(speed).max(0) / robot.velocity_limit)
    return made


def pose_trajectory(task: Task, robot: Robot, times: Sequence[float] | Array, positions: Array,
                    rotations: Array | None, q: Array) -> PoseTrajectory:
    """The tool through positions (N, 3) [m], and where they are given rotations (N, 3, 3), at times (N,) [s], from
    joints at q (m,) on. Raises ConfigError for what is malformed or too fast, Unreachable for what the joints cannot
    follow."""
    t, positions = check_times(times, "trajectory"), np.array(positions, float)
    if positions.shape != (len(t), 3) or not np.isfinite(positions).all():
        raise ConfigError(f"trajectory: expected {len(t)} points of 3 finite coordinates [m], got {positions.shape}")
    tool, rotation, _ = task.reachable.poses(q)
    _from_here(t, float(np.linalg.norm(positions[0] - tool)))
    if rotations is None and task.rotation is not None:
        rotations = np.tile(task.rotation, (len(t), 1, 1))
    made = PoseTrajectory(t, positions, rotations)
    begun = made.begun(0, q, tool, rotation)
    points, _ = begun.at(0, made.duration / SAMPLES, SAMPLES + 1)
    turned = begun.turned(0, made.duration / SAMPLES, SAMPLES + 1)
    rotation = ANY[None] if turned is None else np.ascontiguousarray(turned[0])
    found, left = task.reachable.joints_along(points, rotation, q, turned is not None)
    if left.max() > EDGE:
        raise Unreachable(f"trajectory: {left.max():.3f} m out of reach after "
                          f"{left.argmax() * made.duration / SAMPLES:.2f} s")
    speed = np.abs(np.diff(found, axis=0)).max(0) / (made.duration / SAMPLES)
    _not_too_fast(robot, speed / robot.velocity_limit)
    return made


def _from_here(times: Array, away: float) -> None:
    if times[0] == 0 and away > FAR:
        raise ConfigError(f"trajectory: its first point, at time 0, is {away:.3f} away from where the arm is; expected "
                          f"at most {FAR}, or a later time to get there")


def _not_too_fast(robot: Robot, speed: Array) -> None:
    i = int(speed.argmax())
    if speed[i] > 1.0:
        raise ConfigError(f"trajectory: {robot.joints[i]} at {speed[i]:.1f} times its velocity limit; expected "
                          "later times")


def jog(task: Task, velocity: Array, seconds: float, before: Jog | None, now: int, tool: Array) -> Jog:
    """A velocity of the tool (6,) [m/s, rad/s] in the base frame, for so long. It goes on from the one before at `now`
    [ns], but for what that is ahead of the tool (3,) [m]."""
    velocity = np.asarray(velocity, float)
    if velocity.shape != (6,) or not np.isfinite(velocity).all():
        raise ConfigError(f"twist: expected 6 finite velocities [m/s, rad/s], got {velocity.tolist()}")
    acceleration = task.path.acceleration if isinstance(task.path, MinimumJerk) else 10.0
    gentle = min(acceleration, SOFT)
    if before is None:
        return Jog(velocity, seconds, gentle, np.zeros(6))
    (p,), (v,) = before.at(now, 0.0, 1)
    (R,), (w,) = before.turned(now, 0.0, 1)
    ahead = p - tool
    length = float(np.linalg.norm(ahead))
    if length > LEAD:
        p = tool + ahead * LEAD / length
    return Jog(velocity, seconds, gentle, np.hstack([v, w]), p, R)
