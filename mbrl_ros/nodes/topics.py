"""What the nodes say to each other: topics, qualities of service, diagnostics.

Names are relative, so that a namespace holds a second robot.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import TransitionEvent
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray, MultiArrayDimension
from std_srvs.srv import Trigger

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import Command, Target
from mbrl_ros.ring.stages import Stages
from mbrl_ros.types import Array

RING = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)  # of those who act: a stale state is worthless
SENT = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)  # to them, and to those who KEEP and are behind
# Of joint_states: hears drivers of either reliability, and an arm whose gripper publishes at the same moment.
STATES = QoSProfile(depth=4, reliability=ReliabilityPolicy.BEST_EFFORT)
LOCKSTEP_STATES = QoSProfile(depth=4, reliability=ReliabilityPolicy.RELIABLE)  # one that is lost would be waited for
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
KEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)  # for those who must see every message
KEEP_STATES = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)

ASKED = "effort_command"  # from the controller to the guard
FEEDBACK = "effort_feedback"  # beside it, where controller.feedback is on
COMMANDS = "effort_controller/commands"  # from the guard to the robot
DIAGNOSTICS = "/diagnostics"
STAGES = "stages"  # how long the stages of a node's ticks take, for those who listen
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
THROTTLE = 5.0  # [s] between lines about the same kind of bad input


def command(effort: Array | None, answers: int | None) -> Float64MultiArray:
    """An effort command as a message; without values where nothing is asked for."""
    return messages.to_effort_command(Float64MultiArray, Command(effort, answers), MultiArrayDimension)


def pose(position: Array, time: int, frame: str = "") -> PoseStamped:
    """A point in space as a message."""
    return messages.to_target(PoseStamped, Target(position, frame, time))


def answer(response: Trigger.Response, success: bool, message: str) -> Trigger.Response:
    """Fill a Trigger or SetBool response."""
    response.success, response.message = success, message
    return response


def foreign(node: Node, names: Sequence[str], joints: Sequence[str]) -> None:
    """Say, once for each node, that joint_states are also about other joints than the robot's."""
    node.get_logger().info(f"joint_states of {', '.join(names) or 'no joint'}: ignored, because none of "
                           f"{', '.join(joints)} is there", once=True)


def follow_guard(node: Node, armed_at_start: bool, tell: Callable[[bool], None]) -> None:
    """Tell, now and from now on, whether the guard passes commands on. One that is armed at the first of them, in
    lock-step, is not asked, so that the order of messages cannot change what happens."""
    tell(armed_at_start)
    if not armed_at_start:
        node.create_subscription(TransitionEvent, "guard/transition_event",
                                 lambda event: tell(event.goal_state.label == "active"), KEEP)


def publisher(node: Node, kind: Any, topic: str, qos: QoSProfile | int) -> Any:
    """A publisher without rclpy's default events, each of which an executor would wait for.

    A quality of service that does not fit is said by rclpy for the subscription.
    """
    return node.create_publisher(kind, topic, qos, event_callbacks=PublisherEventCallbacks(use_default_callbacks=False))


def wanted(publisher: Any) -> bool:
    """Whether somebody listens."""
    return publisher.get_subscription_count() > 0


def timed(node: Node) -> Stages:
    """A stage timer, whose figures the node says once a second where somebody listens."""
    stages, said = Stages(), Diagnostics(node, STAGES)

    def say() -> None:
        if wanted(said.publisher):
            said.send(OK, "stages", stages.figures())

    node.create_timer(1.0, say)
    return stages


class Diagnostics:
    """Says on /diagnostics how a node is."""

    def __init__(self, node: Node, topic: str = DIAGNOSTICS):
        self._node = node
        self.publisher = publisher(node, DiagnosticArray, topic, 10)

    def send(self, level: bytes, message: str, values: dict[str, Any]) -> None:
        """One status of this node; `values` become text."""
        name = self._node.get_fully_qualified_name().lstrip("/")
        pairs = [KeyValue(key=key, value=f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value))
                 for key, value in values.items()]
        status = DiagnosticStatus(level=level, name=name, message=message, values=pairs)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self.publisher.publish(array)
