"""Whether what was asked for is reached: within tolerances for some time, before another time is over."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mbrl_ros.robot import Robot
from mbrl_ros.task.goal import Course, Goal
from mbrl_ros.task.reachable import Reachable, angle_between
from mbrl_ros.types import Array, Plan, StateEstimate

RUNNING, THERE, LATE = "running", "there", "late"
PATIENCE = 10.0  # [s] after the end of the path


@dataclass(frozen=True)
class Tolerances:
    """What counts as there."""

    position: float = 0.005  # [m]
    angle: float = np.radians(1.0)  # [rad]
    joints: float = 0.02  # [rad or m]
    settle: float = 0.5  # [s] for which it must stay within
    limit: float = 0.0  # [s] from the first period on; 0: the time of the path and PATIENCE


class Miss(NamedTuple):
    """How far a state is from a goal."""

    distance: float  # [m] of the tool
    angle: float  # [rad], 0 where no orientation is asked for
    joints: float  # [rad or m], the largest, 0 where none are asked for


class Arrival:
    """Follows one goal, state by state."""

    def __init__(self, goal: Goal, tolerances: Tolerances, robot: Robot, reachable: Reachable):
        self.goal, self.tolerances, self._reachable = goal, tolerances, reachable
        self._tool, self._joints = robot.slice(f"site/{robot.sites[0]}/position"), robot.slice("joint/position")
        self._began: int | None = None  # [ns]
        self._within: int | None = None  # [ns] since when
        self.miss, self.seconds = Miss(np.inf, 0.0, 0.0), 0.0

    def update(self, state: StateEstimate, course: Course | None) -> str:
        """RUNNING, THERE or LATE."""
        self._began = state.time if self._began is None else self._began
        self.seconds = 1e-9 * (state.time - self._began)
        self.miss, of = self.missing(state.belief.mean), self.tolerances
        if self.goal.joints is not None:
            within = self.miss.joints <= of.joints
        else:
            within = self.miss.distance <= of.position and self.miss.angle <= of.angle
        self._within = None if not within else state.time if self._within is None else self._within
        if self._within is not None and 1e-9 * (state.time - self._within) >= of.settle:
            return THERE
        limit = of.limit or PATIENCE + (course.duration if course is not None else 0.0)
        return LATE if self.seconds > limit else RUNNING

    def missing(self, x: Array) -> Miss:
        """Of a state x (n,)."""
        q, angle, joints = x[self._joints], 0.0, 0.0
        if self.goal.rotation is not None and self.goal.joints is None:
            angle = angle_between(self._reachable.poses(q)[1], self.goal.rotation)
        if self.goal.joints is not None:
            joints = float(np.abs(q - self.goal.joints).max())
        return Miss(float(np.linalg.norm(x[self._tool] - self.goal.position)), angle, joints)

    def predicted(self, plan: Plan | None) -> float:
        """What will be missing at the end of a plan: of joints [rad or m] where they are asked for, else of the tool
        [m]; infinite without a plan."""
        if plan is None:
            return np.inf
        miss = self.missing(np.asarray(plan.states[-1]))
        return miss.joints if self.goal.joints is not None else miss.distance
