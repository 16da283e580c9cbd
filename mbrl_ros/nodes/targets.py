"""What the controller node can be asked for by topics: a place or a pose of the tool, joints, trajectories, a twist."""
from __future__ import annotations

from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from mbrl_ros.config import ConfigError
from mbrl_ros.messages.fields import MessageError
from mbrl_ros.nodes import topics
from mbrl_ros.ring.asked import Asked
from mbrl_ros.ring.controller import Controller

KINDS = {topics.TARGET: PoseStamped, topics.TARGET_POSE: PoseStamped, topics.TARGET_JOINTS: JointState,
         topics.TRAJECTORY: JointTrajectory, topics.TOOL_TRAJECTORY: MultiDOFJointTrajectory,
         topics.TWIST: TwistStamped}


class Targets(Asked):
    """Takes what comes, or says in one line why not."""

    def __init__(self, node: Node, controller: Controller):
        super().__init__(controller)
        self._node = node
        for topic, kind in KINDS.items():
            node.create_subscription(kind, topic, partial(self._take, topic), topics.RING)

    def _take(self, topic: str, message: Any) -> None:
        log = self._node.get_logger()
        try:
            said = getattr(self, topic.rpartition("/")[2])(message)
            if said:
                log.warning(f"{said}, and the tool goes there", throttle_duration_sec=topics.THROTTLE)
        except (MessageError, ConfigError) as error:
            log.warning(f"{topic} ignored: {error}", throttle_duration_sec=topics.THROTTLE)
