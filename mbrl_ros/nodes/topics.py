"""What the nodes say to each other: topics, qualities of service, diagnostics.

Names are relative, so that a namespace holds a second robot, and what is not a convention of ROS stands below the node
that it belongs to, so that nobody else's `plan` or `target` is meant.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger

from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import Command, Target
from mbrl_ros.msg import EffortCommand
from mbrl_ros.msg import Status as StatusMessage
from mbrl_ros.ring.guard import ARMED
from mbrl_ros.ring.stages import Stages
from mbrl_ros.types import Array

RING = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)  # of those who act: a stale state is worthless
SENT = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)  # to them, and to those who KEEP and are behind
# Of joint_states: hears drivers of either reliability, and an arm whose gripper publishes at the same moment.
STATES = QoSProfile(depth=4, reliability=ReliabilityPolicy.BEST_EFFORT)
LOCKSTEP_STATES = QoSProfile(depth=4, reliability=ReliabilityPolicy.RELIABLE)  # one that is lost would be waited for
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LATCHED_ALL = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                         durability=DurabilityPolicy.TRANSIENT_LOCAL)  # for those who must see every change, too
KEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)  # for those who must see every message
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # of those who only show it: nobody waits
KEEP_STATES = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)

JOINTS = "joint_states"  # of the robot, whose name it is
COMMANDS = "effort_controller/commands"  # to the robot, whose name it is likewise
DIAGNOSTICS = "/diagnostics"
CLOCK = "clock"  # of a simulated robot in lock-step; /clock where it is in no namespace
STATE = "estimator/state_estimate"
MODEL = "learner/local_dynamics"
CHECKPOINT = "learner/model_checkpoint"
TARGET = "controller/target"  # a place, whatever the orientation of the message
TARGET_POSE = "controller/target_pose"
TARGET_JOINTS = "controller/target_joints"
TRAJECTORY = "controller/trajectory"  # of joints
TOOL_TRAJECTORY = "controller/tool_trajectory"
TWIST = "controller/twist"
POLICY = "controller/policy"
POLICY_FILE = "controller/policy_file"
ASKED = "controller/effort_command"  # to the guard
FEEDBACK = "controller/effort_feedback"  # beside it, where controller.feedback is on
PLAN = "controller/plan"
REFERENCE = "controller/reference"
MODE = "controller/mode"
BELIEF = "controller/belief"  # what it holds of itself, in named numbers, for those who listen
PASSED = "guard/effort_command"  # what the guard lets pass, and which state it answers
GUARD = "guard/state"
EPISODE = "trainer/episode"  # a trial begins, or is over
TRAINED = "trainer/model_checkpoint"  # a model for the learner
TOOL = "plant/tool_pose"
CAMERA = "plant/camera"  # where camera.width is set
CAMERA_INFO = "plant/camera_info"  # beside it, where image_transport looks for it
DESCRIPTION = "robot_description"  # where robot_state_publisher and RViz look for it
PLAN_PATH = "display/plan_path"
PLAN_MARKERS = "display/plan_markers"
RESPONSE = "plant/response_time"
TIMED = ("plant", "estimator", "learner", "controller", "guard")  # nodes that say how long their stages take
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
THROTTLE = 5.0  # [s] between lines about the same kind of bad input


def stages(node: str) -> str:
    """The topic of how long the stages of that node's ticks take, for those who listen."""
    return f"{node}/stages"


def command(effort: Array | None, answers: int | None) -> EffortCommand:
    """An effort command as a message; without values where nothing is asked for."""
    return messages.to_effort_command(EffortCommand, Command(effort, answers))


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
        node.create_subscription(StatusMessage, GUARD, lambda status: tell(status.state == ARMED), LATCHED)


def publisher(node: Node, kind: Any, topic: str, qos: QoSProfile | int) -> Any:
    """A publisher without rclpy's default events, each of which an executor would wait for.

    A quality of service that does not fit is said by rclpy for the subscription.
    """
    return node.create_publisher(kind, topic, qos, event_callbacks=PublisherEventCallbacks(use_default_callbacks=False))


def wanted(publisher: Any) -> bool:
    """Whether somebody listens."""
    return publisher.get_subscription_count() > 0


def timed(node: Any) -> Stages:
    """A stage timer, whose figures the node says once a second where somebody listens."""
    timer, said = Stages(), Diagnostics(node, stages(node.get_name()))

    def say() -> None:
        if wanted(said.publisher):
            said.send(OK, "stages", timer.figures())

    node.create_timer(1.0, say)
    return timer


class Status:
    """Says state and reason of a node, now and to those who come later, whenever they have changed."""

    def __init__(self, node: Node, topic: str):
        self._node, self._said = node, ("", "")
        self._publisher = publisher(node, StatusMessage, topic, LATCHED)

    def say(self, state: str, reason: str, since: int | None = None) -> bool:
        """Publish them unless they are what was said last; whether they were not. `since` [ns] is now where not given.
        """
        if (state, reason) == self._said:
            return False
        self._said = state, reason
        since = self._node.get_clock().now().nanoseconds if since is None else since
        self._publisher.publish(messages.to_status(StatusMessage, messages.Status(since, state, reason)))
        return True


class Diagnostics:
    """Says on /diagnostics how a node with settings is; the hardware is the robot's file."""

    def __init__(self, node: Any, topic: str = DIAGNOSTICS):
        self._node, self._hardware = node, Path(node.names.robot).stem
        self.publisher = publisher(node, DiagnosticArray, topic, 10)

    def send(self, level: bytes, message: str, values: dict[str, Any], part: str = "") -> None:
        """One status of this node, or of the part of the ring that it plays; `values` become text."""
        part = part or self._node.get_name()
        name = f"{self._node.get_namespace()}/{part}".lstrip("/")
        pairs = [KeyValue(key=key, value=f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value))
                 for key, value in values.items()]
        status = DiagnosticStatus(level=level, name=name, message=message, values=pairs, hardware_id=self._hardware)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self.publisher.publish(array)
