"""Messages of what is asked for -> the goal of a controller: as a node takes them, and a replay again, without ROS."""
from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages import targets
from mbrl_ros.ring.aims import rotation_of
from mbrl_ros.ring.controller import Controller
from mbrl_ros.task.frames import Frames

JOGGING = 0.3  # [s] that a twist lasts: whoever jogs sends them faster, and the tool stops where they end


class Asked:
    """A method for every topic, named as its last part. What is taken is done once the mode is `reach`. Each says what
    is other than asked for, nothing where nothing is, and raises MessageError or ConfigError for what cannot be taken.
    """

    def __init__(self, controller: Controller, frames: Frames | None = None):
        self._controller, self.frames = controller, frames or Frames(controller.robot)

    def target(self, message: Any, refuse: bool = False) -> str:
        """A geometry_msgs/PoseStamped: a place, whatever its orientation. `refuse` what is out of reach."""
        target = messages.from_target(message)
        p, R = self.frames.of(target.frame)
        return self._controller.set_target(p + R @ target.position, refuse=refuse)

    def target_pose(self, message: Any, refuse: bool = False) -> str:
        """Likewise a place and an orientation."""
        target = targets.from_pose(message)
        p, R = self.frames.of(target.frame)
        return self._controller.set_target(p + R @ target.position, R @ rotation_of(target.quaternion), refuse)

    def target_joints(self, message: Any) -> str:
        """A sensor_msgs/JointState."""
        return self._controller.set_joints(targets.from_joints(message.name, message.position,
                                                               self._controller.robot.joints))

    def trajectory(self, message: Any) -> str:
        """A trajectory_msgs/JointTrajectory."""
        self._controller.set_joint_trajectory(
            *targets.from_joint_trajectory(message, self._controller.robot.joints))
        return ""

    def tool_trajectory(self, message: Any) -> str:
        """A trajectory_msgs/MultiDOFJointTrajectory of one frame, the tool's."""
        points = targets.from_pose_trajectory(message)
        p, R = self.frames.of(points.frame, "trajectory")
        turned = None if points.quaternions is None else np.array([R @ rotation_of(q) for q in points.quaternions])
        self._controller.set_pose_trajectory(points.times, p + points.positions @ R.T, turned)
        return ""

    def twist(self, message: Any) -> str:
        """A geometry_msgs/TwistStamped, in a frame or, named as the tool's, in its own axes."""
        velocity, frame = targets.from_twist(message)
        R = self._controller.tool_rotation if frame in self._controller.robot.sites[:1] else self.frames.of(
            frame, "twist")[1]
        self._controller.jog(np.hstack([R @ velocity[:3], R @ velocity[3:]]), JOGGING)
        return ""
