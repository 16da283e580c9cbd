"""What the tool can reach, and how: by known kinematics and the ends and speeds of the joints; no masses.

A target out of reach gets the nearest point that is not. A straight path may lead where no joints follow, or faster
than they can: into the arm's own column, where the elbow must whip round, or over an end. That is found before the
motion begins, which is then a straight path that takes longer, or one that is straight for the joints.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mbrl_ros.kernels import reach
from mbrl_ros.models.kinematics import chain_of
from mbrl_ros.robot import Robot
from mbrl_ros.task.path import profile
from mbrl_ros.types import Array

EXACT = 1e-3  # [m] from a target that is nearer than this nobody is told
STARTS = 16  # postures from which a target is looked for
POINTS = 32  # of a straight path that are looked at
EDGE = 1e-2  # [m] that a path may leave its line by
UNBOUNDED = np.pi  # [rad or m] from home, of joints without ends: where postures are drawn


class Reached(NamedTuple):
    """The reachable point (3,) [m] nearest to a target, how far that is [m], and joints (m,) that are there."""

    point: Array
    distance: float
    joints: Array


@dataclass(frozen=True)
class JointMotion:
    """A path on which all joints move straight from `start` (m,) to `end`, beginning at `begin` [ns]; its goal (3,)."""

    chain: tuple[Array, ...]
    start: Array
    end: Array
    goal: Array
    begin: int
    duration: float  # [s]

    def joints(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Positions and velocities of the joints (count, m) at time [ns], time + period [s], ..."""
        way, speed = profile(((time - self.begin) * 1e-9 + period * np.arange(count))[:, None], self.duration)
        return self.start + way * (self.end - self.start), speed * (self.end - self.start)

    def at(self, time: int, period: float, count: int) -> tuple[Array, Array]:
        """Position [m] and velocity [m/s] (count, 3) of the tool, likewise."""
        q, qd = self.joints(time, period, count)
        p, J = reach.positions(*self.chain, q)
        return p, (J @ qd[..., None])[..., 0]


class Reachable:
    """Inverse kinematics of the first site of a robot, within the soft ends of its joints (guard.py)."""

    def __init__(self, robot: Robot):
        self._chain: tuple[Array, ...] = tuple(np.ascontiguousarray(a) for a in chain_of(robot, robot.sites[0]))
        self._speed, self._low = robot.velocity_limit, robot.position_low + robot.position_margin
        self._high = robot.position_high - robot.position_margin
        low, high = (np.where(np.isfinite(end), end, robot.home + side * UNBOUNDED)
                     for end, side in ((self._low, -1), (self._high, 1)))
        drawn = np.random.default_rng(0).uniform(low, np.maximum(low, high), (STARTS - 1, robot.m))
        self._starts = np.vstack([robot.home, drawn])

    def nearest(self, target: Array, q: Array) -> Reached:
        """What can be reached of `target` (3,) [m], by joints near q (m,) where there is a choice."""
        joints, left = reach.nearest(*self._chain, target, np.vstack([q, q, self._starts]), self._low, self._high,
                                     0.1 * EXACT)
        if left <= EXACT:
            return Reached(target, 0.0, joints)
        return Reached(reach.positions(*self._chain, joints[None])[0][0], left, joints)

    def straight(self, start: Array, goal: Array, q: Array) -> float:
        """Least duration [s] of the straight path from `start`, where the joints are at q (m,), to `goal` (3,) [m], in
        which no joint is faster than its limit; infinite where they cannot follow it."""
        way, _ = profile(np.linspace(0.0, 1.0, POINTS)[:, None], 1.0)
        found, left = reach.follow(*self._chain, start + way * (goal - start), q, self._low, self._high)
        if left.max() > EDGE or left[-1] > EXACT:
            return np.inf
        return float((np.abs(np.diff(found, axis=0)) / self._speed).max() * (POINTS - 1))

    def bent(self, goal: Array, q: Array) -> tuple[Array, float]:
        """Joints (m,) at the goal (3,) [m], and the least duration [s] in which they get there from q straight."""
        joints = self.nearest(goal, q).joints
        return joints, float(profile(np.array(0.5), 1.0)[1] * (np.abs(joints - q) / self._speed).max())

    def motion(self, goal: Array, q: Array, end: Array, begin: int, duration: float) -> JointMotion:
        """From q (m,) to joints `end` (m,) whose tool is at the goal."""
        return JointMotion(self._chain, np.array(q), end, goal, begin, duration)
