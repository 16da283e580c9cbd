"""What the tool can reach, and how: by known kinematics and the ends and speeds of the joints; no masses.

A target out of reach gets the nearest point that is not. A straight path may lead where no joints follow, or faster
than they can: into the arm's own column, where the elbow must whip round, or over an end. That is found before the
motion begins, which is then a straight path that takes longer, or one that is straight for the joints.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from mbrl_ros.kernels import reach
from mbrl_ros.models.kinematics import chain_of
from mbrl_ros.robot import Robot
from mbrl_ros.task.path import Turn, profile
from mbrl_ros.types import Array

EXACT = 1e-3  # [m] from a target that is nearer than this nobody is told
STARTS = 16  # postures from which a target is looked for
POINTS = 32  # of a straight path that are looked at
EDGE = 1e-2  # [m] that a path may leave its line by
LEVER = 0.2  # [m] that a radian counts
ANY = np.eye(3)  # in place of a rotation, where none is asked for
UNBOUNDED = np.pi  # [rad or m] from home, of joints without ends: where postures are drawn


class Reached(NamedTuple):
    """The reachable point (3,) [m] nearest to a target, how far that is [m], and joints (m,) that are there; of a pose
    its rotation (3, 3), too, and how far that is turned [rad]."""

    point: Array
    distance: float
    joints: Array
    rotation: Array | None
    angle: float


@dataclass(frozen=True)
class JointMotion:
    """A path on which all joints move straight from `start` (m,) to `end`, beginning at `begin` [ns]; its goal (3,)."""

    chain: tuple[Array, ...]
    start: Array
    end: Array
    goal: Array
    begin: int
    duration: float  # [s]
    posed: bool = False  # whether the tool shall be turned as these joints turn it
    held: bool = False  # whether these joints shall be there, and not just the tool

    def joints(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Positions and velocities of the joints (count, m) at time [ns], time + period [s], ..."""
        way, speed = profile(((time - self.begin) * 1e-9 + period * np.arange(count))[:, None], self.duration)
        return self.start + way * (self.end - self.start), speed * (self.end - self.start)

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Position [m] and velocity [m/s] (count, 3) of the tool, likewise."""
        q, qd = self.joints(time, period, count)
        p, _, G = reach.poses(*self.chain, q)
        return p, (G[:, :3] @ qd[..., None])[..., 0]

    def turned(self, time: int, period: float, count: int) -> tuple[Array, Array] | None:
        """See Course."""
        if not self.posed:
            return None
        q, qd = self.joints(time, period, count)
        _, R, G = reach.poses(*self.chain, q)
        return R, (G[:, 3:] @ qd[..., None])[..., 0]


def angle_between(a: Array, b: Array) -> float:
    """From one rotation (3, 3) to another [rad]."""
    return float(Rotation.from_matrix(a.T @ b).magnitude())


class Reachable:
    """Inverse kinematics of the first site of a robot, within the soft ends of its joints (guard.py)."""

    def __init__(self, robot: Robot):
        self.chain: tuple[Array, ...] = tuple(np.ascontiguousarray(a) for a in chain_of(robot, robot.sites[0]))
        self._speed, self.low = robot.velocity_limit, robot.position_low + robot.position_margin
        self.high = robot.position_high - robot.position_margin
        low, high = (np.where(np.isfinite(end), end, robot.home + side * UNBOUNDED)
                     for end, side in ((self.low, -1), (self.high, 1)))
        drawn = np.random.default_rng(0).uniform(low, np.maximum(low, high), (STARTS - 1, robot.m))
        self._starts = np.vstack([robot.home, drawn])

    def nearest(self, target: Array, q: Array, rotation: Array | None = None) -> Reached:
        """What can be reached of `target` (3,) [m], turned as `rotation` (3, 3) where there is one, by joints near q
        (m,) where there is a choice."""
        lever = 0.0 if rotation is None else LEVER
        joints, left = reach.nearest(*self.chain, target, ANY if rotation is None else np.ascontiguousarray(rotation),
                                     lever, np.vstack([q, q, self._starts]), self.low, self.high, 0.1 * EXACT)
        if left <= EXACT:
            return Reached(target, 0.0, joints, rotation, 0.0)
        point, found, _ = reach.poses(*self.chain, joints[None])
        if rotation is None:
            return Reached(point[0], left, joints, None, 0.0)
        return Reached(point[0], float(np.linalg.norm(point[0] - target)), joints, found[0],
                       angle_between(found[0], rotation))

    def straight(self, start: Array, goal: Array, q: Array, turn: Turn | None = None) -> float:
        """Least duration [s] of the straight path from `start`, where the joints are at q (m,), to `goal` (3,) [m], in
        which no joint is faster than its limit; infinite where they cannot follow it."""
        way, _ = profile(np.linspace(0.0, 1.0, POINTS)[:, None], 1.0)
        return self.along(start + way * (goal - start), q, turn)

    def along(self, points: Array, q: Array, turn: Turn | None = None) -> float:
        """Likewise along points (N, 3) that are equally far apart in time."""
        turned = ANY[None]
        if turn is not None:
            turned = np.ascontiguousarray(turn.at(np.linspace(0.0, turn.duration, len(points))[:, None])[0])
        found, left = self.joints_along(points, turned, q, turn is not None)
        if left.max() > EDGE or left[-1] > EXACT:
            return np.inf
        return float((np.abs(np.diff(found, axis=0)) / self._speed).max() * (len(points) - 1))

    def joints_along(self, points: Array, turned: Array, q: Array, posed: bool) -> tuple[Array, Array]:
        """Joint positions (N, m) that follow points (N, 3), and where `posed` rotations (N, 3, 3), from q (m,) on; and
        what is missing (N,) [m], a radian counting LEVER."""
        return reach.follow(*self.chain, np.ascontiguousarray(points), turned, LEVER if posed else 0.0, q, self.low,
                            self.high)

    def poses(self, q: Array) -> tuple[Array, Array, Array]:
        """Position (3,) [m], rotation (3, 3) and their derivative (6, m) at q (m,), as in kernels/reach.py."""
        p, R, G = reach.poses(*self.chain, np.ascontiguousarray(q[None]))
        return p[0], R[0], G[0]

    def quickest(self, joints: Array, q: Array) -> float:
        """The least duration [s] in which the joints get from q to `joints` (m,) straight."""
        return float(profile(np.array(0.5), 1.0)[1] * (np.abs(joints - q) / self._speed).max())
