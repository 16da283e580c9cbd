"""The node that records everything that is said on the ring, as MCAP."""
from __future__ import annotations

import dataclasses
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from mbrl_ros.config import ConfigError
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.msg import LinearGaussianPolicy, LocalDynamics, ModelCheckpoint, Plan, StateEstimate
from mbrl_ros.nodes import options, topics
from mbrl_ros.nodes.parts import PartNode
from mbrl_ros.nodes.spin import RECORDING, run
from mbrl_ros.recordings.recording import Recorder

STATES = {"joint_states": JointState}
RING = {"state_estimate": StateEstimate, "local_dynamics": LocalDynamics,
        topics.ASKED: Float64MultiArray, topics.COMMANDS: Float64MultiArray, "target": PoseStamped, "reference": PoseStamped,
        "plant/tool_pose": PoseStamped, topics.DIAGNOSTICS: DiagnosticArray}
LATCHED = {"mode": String, "model_checkpoint": ModelCheckpoint, "policy": LinearGaussianPolicy}


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
        ring = {**RING, "plan": Plan} if own.plan else RING
        states = topics.KEEP if self.lockstep() else topics.KEEP_STATES  # as the others hear them
        for kinds, qos in ((STATES, states), (ring, topics.KEEP), (LATCHED, topics.LATCHED)):
            for topic, kind in kinds.items():
                name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
                self.create_subscription(kind, topic, partial(self._received, self.resolve_topic_name(topic), name), qos,
                                         raw=True)
        self.create_timer(1.0, self._report)

    def _received(self, topic: str, kind: str, data: bytes) -> None:
        now = time.time_ns()
        try:
            self._recorder.write(topic, kind, data, now, now)
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


def main(args: list[str] | None = None) -> int:
    return run(LoggerNode, args, RECORDING)


if __name__ == "__main__":
    raise SystemExit(main())
