"""The node that records everything that is said on the ring, as MCAP.

Matrices that can be worked out anew from the states (docs/design.md, section 6) are recorded now and then only; what the
nodes are set to is asked for once, and changes of it are heard.
"""
from __future__ import annotations

import dataclasses
import shutil
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.msg import ParameterEvent
from rclpy.qos import qos_profile_parameter_events
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from mbrl_ros import options
from mbrl_ros.config import ConfigError
from mbrl_ros.recordings.bags import exact
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.msg import (
    Belief,
    EffortCommand,
    Episode,
    LinearGaussianPolicy,
    LocalDynamics,
    ModelCheckpoint,
    Plan,
    StateEstimate,
    Status,
)
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.parts import PartNode
from mbrl_ros.nodes.snapshots import Snapshots
from mbrl_ros.nodes.spin import RECORDING, run
from mbrl_ros.recordings.recording import Recorder

STATES = {topics.JOINTS: JointState}
RING = {topics.STATE: StateEstimate, topics.MODEL: LocalDynamics, topics.ASKED: EffortCommand,
        topics.PASSED: EffortCommand, topics.TARGET: PoseStamped, topics.TARGET_POSE: PoseStamped,
        topics.TARGET_JOINTS: JointState, topics.TRAJECTORY: JointTrajectory,
        topics.TOOL_TRAJECTORY: MultiDOFJointTrajectory, topics.TWIST: TwistStamped, topics.REFERENCE: PoseStamped,
        topics.TOOL: PoseStamped, topics.EPISODE: Episode, topics.DIAGNOSTICS: DiagnosticArray,
        **{topics.stages(node): DiagnosticArray for node in topics.TIMED}}
LATCHED = {topics.MODE: Status, topics.GUARD: Status, topics.CHECKPOINT: ModelCheckpoint,
           topics.POLICY: LinearGaussianPolicy}
PARAMETERS, EVENTS = "parameters", "/parameter_events"  # the first is only in recordings
THINNED = (LocalDynamics, Plan)
# By a few dynamics in full, which tell a replay at which state it was heard.
FOLLOWED = (Status, ModelCheckpoint, LinearGaussianPolicy, ParameterEvent)
FULL = 4


class LoggerNode(PartNode):
    """Hands serialized messages as they come to a Recorder, whose thread writes them.

    A disk that fails or is full ends the recording, which is said; the node and the ring go on.
    """

    def __init__(self, **arguments: Any):
        super().__init__("logger", **arguments)
        self.process = dataclasses.replace(self.process, priority=0)  # it can wait
        own = self.declare("logger", self.option(options.Logger, "logger"))
        names = (f"{own.folder}_{i}" if i > 1 else own.folder for i in count(1))
        folder = next(name for name in names if not Path(name).exists())
        try:
            self._recorder = Recorder(folder)
        except RecordingError as error:
            raise ConfigError(f"logger.folder: {error}") from error
        self.get_logger().info(f"recording into {folder}")
        self._failure = ""  # as it was said
        self._diagnostics = topics.Diagnostics(self)
        wanted = {topics.PLAN: (Plan, own.plan), topics.BELIEF: (Belief, own.belief)}
        ring = {**RING, **{topic: kind for topic, (kind, of) in wanted.items() if of}}
        states = topics.KEEP if self.lockstep() else topics.KEEP_STATES  # as the others hear them
        self._every, self._heard, self._full = own.every, dict.fromkeys(THINNED, 0), FULL
        self._models = Path(folder) / "models"
        events = {EVENTS: ParameterEvent}
        for kinds, qos in ((STATES, states), (ring, topics.KEEP), (LATCHED, topics.LATCHED),
                           (events, qos_profile_parameter_events)):
            for topic, kind in kinds.items():
                self.create_subscription(kind, topic, partial(self._received, self.resolve_topic_name(topic), kind), qos,
                                         raw=True)
        self.create_timer(1.0, self._report)
        self._snapshots = Snapshots(self, topics.TIMED, lambda event: self._write(
            self.resolve_topic_name(PARAMETERS), ParameterEvent, exact(_name(ParameterEvent), serialize_message(event))))

    def _received(self, topic: str, kind: Any, data: bytes) -> None:
        if kind in THINNED and self._left_out(kind):
            return
        if kind in FOLLOWED:
            self._full = FULL
        self._write(topic, kind, data)
        if kind is ModelCheckpoint:
            self._keep_model(deserialize_message(data, ModelCheckpoint))

    def _left_out(self, kind: Any) -> bool:
        self._heard[kind] += 1
        if kind is LocalDynamics and self._full > 0:
            self._full -= 1
            return False
        return self._heard[kind] % self._every != 0

    def _keep_model(self, checkpoint: ModelCheckpoint) -> None:
        """Copy the files of a global model, which may be gone by the time that somebody reads this."""
        source, to = Path(checkpoint.path).parent, self._models / f"version_{checkpoint.version}"
        try:
            to.mkdir(parents=True, exist_ok=True)
            for name in ("model.npz", "data.npz"):
                shutil.copyfile(source / name, to / name)
        except OSError as error:
            self.get_logger().warning(f"the model is not recorded: {error}")

    def _write(self, topic: str, kind: Any, data: bytes) -> None:
        now = time.time_ns()
        try:
            self._recorder.write(topic, _name(kind), data, now, now)
        except RecordingError as error:
            self._failed(str(error))

    def _failed(self, reason: str) -> None:
        if not self._failure:
            self._failure = reason
            self.get_logger().error(f"recording ends: {reason}")
            self._report()

    def _report(self) -> None:
        if self._recorder.failure:
            self._failed(self._recorder.failure)
        level, said = (topics.ERROR, f"recording ended: {self._failure}") if self._failure else (topics.OK, "recording")
        self._diagnostics.send(level, said, {"messages": self._recorder.messages})

    def close(self) -> None:
        """Finish the recording."""
        try:
            self._recorder.close()
        except RecordingError as error:
            self.get_logger().error(str(error))


def _name(kind: Any) -> str:
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def main(args: list[str] | None = None) -> int:
    return run(LoggerNode, args, RECORDING)


if __name__ == "__main__":
    raise SystemExit(main())
