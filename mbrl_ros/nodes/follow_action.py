"""The action controller/follow_joint_trajectory, as ros2_control's, where control_msgs is installed: what MoveIt calls.

Nothing else of that package is used, and nothing else needs it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.messages.targets import seconds
from mbrl_ros.nodes.motion_action import Codes, MotionAction, Refused, Running
from mbrl_ros.types import Array, StateEstimate

try:
    from control_msgs.action import FollowJointTrajectory
except ImportError:  # not in the wheels
    FollowJointTrajectory = None

NAME = "controller/follow_joint_trajectory"
GOAL_TOLERANCE = 0.02  # [rad or m] where a goal says none
PATH = -1  # a code beside those of ReachTarget
GOAL_TIME = 5.0  # [s] likewise, after the end


@dataclass
class Followed:
    """The tolerances of a goal, and how it goes."""

    path: Array  # (m,) [rad or m]; infinite: any
    goal: Array  # (m,)
    late: float  # [s]
    desired: Array  # (m,)
    actual: Array
    since: float = 0.0  # [s]


class FollowAction(MotionAction):
    """See motion_action.py."""

    def aim(self, request: Any) -> Followed:
        """See MotionAction."""
        joints = self.controller.robot.joints
        try:
            path = _tolerances(request.path_tolerance, joints, np.inf)
            goal = _tolerances(request.goal_tolerance, joints, GOAL_TOLERANCE)
            self.targets.trajectory(request.trajectory)
        except (MessageError, ConfigError) as error:
            raise Refused(Codes.INVALID_GOAL, str(error)) from error
        late, zero = seconds(request.goal_time_tolerance) or GOAL_TIME, np.zeros(len(joints))
        return Followed(path, goal, late, zero, zero)

    def follow(self, running: Running, state: StateEstimate) -> tuple[int, str] | None:
        """See MotionAction."""
        of, course = running.progress, self.controller.mpc.course
        found = None if course is None else course.joints(state.time, 0.0, 1)
        if course is None or found is None:
            return None
        of.desired = found[0][0]
        of.actual = state.belief.mean[self.controller.robot.slice("joint/position")]
        of.since, error = 1e-9 * (state.time - course.begin), np.abs(of.desired - of.actual)
        i = int((error / of.path).argmax())
        if error[i] > of.path[i] and of.since < course.duration:
            return PATH, f"{self.controller.robot.joints[i]} is {error[i]:.3g} off its path"
        if of.since < course.duration:
            return None
        i = int((error / of.goal).argmax())
        if error[i] <= of.goal[i]:
            return Codes.NONE, ""
        if of.since > course.duration + of.late:
            return Codes.TIMEOUT, f"{self.controller.robot.joints[i]} is {error[i]:.3g} off its goal"
        return None

    def feedback(self, running: Running, state: StateEstimate) -> Any:
        """See MotionAction."""
        of = running.progress
        said = FollowJointTrajectory.Feedback()
        said.joint_names = list(self.controller.robot.joints)
        for field, values in (("desired", of.desired), ("actual", of.actual), ("error", of.desired - of.actual)):
            point = getattr(said, field)
            point.positions = values.tolist()
            point.time_from_start.sec, point.time_from_start.nanosec = int(of.since), int(1e9 * (of.since % 1.0))
        return said

    def result(self, progress: Followed | None, code: int, reason: str) -> Any:
        """See MotionAction. The codes of the action are few; the line says the rest."""
        of = FollowJointTrajectory.Result
        codes = {Codes.NONE: of.SUCCESSFUL, Codes.TIMEOUT: of.GOAL_TOLERANCE_VIOLATED,
                 PATH: of.PATH_TOLERANCE_VIOLATED}
        broken = of.INVALID_GOAL if progress is None else of.PATH_TOLERANCE_VIOLATED
        return of(error_code=codes.get(code, broken), error_string=reason)


def _tolerances(given: Any, joints: tuple[str, ...], otherwise: float) -> Array:
    """Positions (m,) of control_msgs/JointTolerance by joint: 0 or none is `otherwise`, below 0 any."""
    values = {tolerance.name: float(tolerance.position) for tolerance in given}
    unknown = [name for name in values if name not in joints]
    if unknown or not np.isfinite(list(values.values())).all():
        raise MessageError(f"tolerances: expected finite ones of {', '.join(joints)}, got {values}")
    of = np.array([values.get(joint, 0.0) for joint in joints])
    return np.where(of < 0, np.inf, np.where(of == 0, otherwise, of))
