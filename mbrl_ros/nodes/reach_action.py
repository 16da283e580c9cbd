"""The action controller/reach_target: a place or a pose of the tool, or joint positions, and when they are reached."""
from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_ros.action import ReachTarget
from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.messages.targets import from_joints, seconds
from mbrl_ros.nodes.motion_action import Codes, MotionAction, Refused, Running
from mbrl_ros.ring.aims import Unreachable
from mbrl_ros.ring.arrival import LATE, THERE, Arrival, Tolerances
from mbrl_ros.task.frames import UnknownFrame
from mbrl_ros.task.goal import Goal
from mbrl_ros.types import StateEstimate

NAME = "controller/reach_target"
Request = ReachTarget.Goal


class ReachAction(MotionAction):
    """See motion_action.py."""

    def aim(self, request: Any) -> Arrival:
        """See MotionAction. A target that is out of reach is refused, whatever controller.unreachable says."""
        mpc = self.controller.mpc
        try:
            tolerances = _tolerances(request)
            self._aim(request)
        except (MessageError, ConfigError) as error:
            code = (Codes.UNREACHABLE if isinstance(error, Unreachable) else
                    Codes.UNKNOWN_FRAME if isinstance(error, UnknownFrame) else Codes.INVALID_GOAL)
            raise Refused(code, str(error)) from error
        assert isinstance(mpc.goal, Goal)
        return Arrival(mpc.goal, tolerances, self.controller.robot, mpc.task.reachable)

    def _aim(self, request: Any) -> None:
        if request.kind == Request.POSITION:
            self.targets.target(request.pose, refuse=True)
        elif request.kind == Request.POSE:
            self.targets.target_pose(request.pose, refuse=True)
        elif request.kind == Request.JOINTS:
            joints = from_joints(request.joint_names, request.joint_positions, self.controller.robot.joints)
            self.controller.set_joints(joints, refuse=True)
        else:
            raise MessageError(f"kind: expected {Request.POSITION}, {Request.POSE} or {Request.JOINTS}, got "
                               f"{request.kind}")

    def follow(self, running: Running, state: StateEstimate) -> tuple[int, str] | None:
        """See MotionAction."""
        arrival: Arrival = running.progress
        became = arrival.update(state, self.controller.mpc.course)
        if became == THERE:
            return Codes.NONE, ""
        if became == LATE:
            return Codes.TIMEOUT, f"not there after {arrival.seconds:.1f} s: {_words(arrival)}"
        return None

    def feedback(self, running: Running, state: StateEstimate) -> Any:
        """See MotionAction."""
        arrival, mpc = running.progress, self.controller.mpc
        return ReachTarget.Feedback(distance=arrival.miss.distance, angle=arrival.miss.angle,
                                    joint_error=arrival.miss.joints,
                                    predicted_error=_number(arrival.predicted(mpc.plan)), trust=float(mpc.trust))

    def result(self, progress: Arrival | None, code: int, reason: str) -> Any:
        """See MotionAction."""
        result = ReachTarget.Result(error_code=code, error_msg=reason)
        if progress is not None:
            miss, duration = progress.miss, progress.seconds
            result.distance, result.angle, result.joint_error = _number(miss.distance), miss.angle, miss.joints
            result.duration.sec, result.duration.nanosec = int(duration), int(1e9 * (duration % 1.0))
        return result


def _tolerances(request: Any) -> Tolerances:
    values = {"position": request.position_tolerance, "angle": request.orientation_tolerance,
              "joints": request.joint_tolerance, "settle": seconds(request.settle_time),
              "limit": seconds(request.time_limit)}
    for name, value in values.items():
        if not (np.isfinite(value) and value >= 0):
            raise MessageError(f"tolerances: {name}: expected a number from 0, got {value}")
    return Tolerances(**{name: value for name, value in values.items() if value > 0})


def _number(value: float) -> float:
    """The largest there is in place of infinity, which no consumer expects."""
    return float(np.nan_to_num(value, posinf=np.finfo(float).max))


def _words(arrival: Arrival) -> str:
    if arrival.goal.joints is not None:
        return f"a joint is {arrival.miss.joints:.3g} off"
    turned = "" if arrival.goal.rotation is None else f" and {np.degrees(arrival.miss.angle):.2f} degrees"
    return f"the tool is {1e3 * arrival.miss.distance:.1f} mm{turned} off"
