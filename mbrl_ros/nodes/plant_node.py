"""The simulated robot behind joint_states and effort_controller/commands, in lock-step guard/effort_command."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros import assembly, options
from mbrl_ros.drawing import camera
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.camera import to_camera_info, to_image
from mbrl_ros.messages.ring import Command, MessageError
from mbrl_ros.msg import EffortCommand
from mbrl_ros.nodes import topics
from mbrl_ros.nodes.camera import CameraProcess
from mbrl_ros.nodes.pace import Lockstep, Realtime
from mbrl_ros.nodes.parts import PartNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.types import Array, Observation


class PlantNode(PartNode):
    """Steps MujocoPlant at one of two paces (pace.py) and publishes what it gives."""

    def __init__(self, **arguments: Any):
        super().__init__("plant", **arguments)
        self.robot = assembly.make_robot(self.settings)
        self.plant = assembly.make_plant(self.settings, self.robot)
        config = self.plant.config
        self.declare("robot", self.robot.config)
        self.declare("plant", config, lambda new: self.plant.set_payload(new.payload))
        self.declare("world", self.plant.world)
        own = self.declare("plant", self.option(options.Plant, "plant"),
                           lambda new: self.pace.hold_after(new.hold_after))
        self._states = topics.publisher(self, JointState, topics.JOINTS, topics.SENT)
        lockstep = config.pace == "lockstep"
        self._clock_time = topics.publisher(self, Clock, topics.CLOCK, topics.RING) if lockstep else None
        self._tool = topics.publisher(self, PoseStamped, topics.TOOL, topics.KEEP)
        self._response = topics.publisher(self, Float64, topics.RESPONSE, topics.KEEP)
        self.camera: CameraProcess | None = None
        if self.declare("camera", self.component(camera.Config, "camera")).width:
            self._picture = topics.publisher(self, Image, topics.CAMERA, topics.RING)
            self._camera_info = topics.publisher(self, CameraInfo, topics.CAMERA_INFO, topics.RING)
            self.camera = CameraProcess(self.settings, self._show)
        self._diagnostics = topics.Diagnostics(self)
        self._stages = topics.timed(self)
        self._published = 0.0  # monotonic [s]
        self.pace = (Lockstep if lockstep else Realtime)(self, own.hold_after)
        self.pace.start(self.plant.reset(config.seed))
        self._passed = -np.inf  # monotonic [s]: when a guard commanded last
        self.create_subscription(EffortCommand, topics.PASSED, self._commanded, topics.RING)
        if not lockstep:
            self.create_subscription(Float64MultiArray, topics.COMMANDS, self._efforts, topics.RING)
        self.create_service(Trigger, "plant/reset", self._reset)
        self.create_service(SetBool, "plant/run", self._run)
        self.create_timer(1.0, self._report)

    def step(self, *efforts: Any) -> Observation:
        """One period of the plant."""
        self._stages.start()
        observation = self.plant.step(*efforts)
        self._stages.done("simulate")
        return observation

    def publish(self, observation: Observation) -> None:
        """Send an observation; the ground truth goes out only if somebody listens."""
        self._published = time.monotonic()
        self._stages.start()
        message = messages.to_joint_state(JointState, observation, self.robot.observed, self.robot.base_frame)
        if topics.wanted(self._tool):
            self._tool.publish(topics.pose(self.plant.true_tool(), observation.time, self.robot.base_frame))
        if self._clock_time is not None:
            self._clock_time.publish(Clock(clock=message.header.stamp))
        self._stages.done("fill")
        self._states.publish(message)
        self._stages.done("publish")
        if self.camera is not None and topics.wanted(self._picture):
            self.camera.offer(observation.time, self.plant.true_state()[0])
            self._stages.done("camera")
        self._stages.end()

    def _show(self, time: int, pixels: Array, focal: float) -> None:
        """In a thread of its own."""
        self._camera_info.publish(to_camera_info(CameraInfo, pixels, focal, time))
        self._picture.publish(to_image(Image, pixels, time))

    def _commanded(self, message: EffortCommand) -> None:
        self._passed = time.monotonic()
        self._take(messages.from_effort_command, message)

    def _efforts(self, message: Float64MultiArray) -> None:
        """Of whoever is not our guard: that one says the same once more, and which state it answers."""
        if time.monotonic() - self._passed > self.plant.config.timeout:
            self._take(messages.from_efforts, message)

    def _take(self, read: Callable[[Any, int], Command], message: Any) -> None:
        arrived, published = time.monotonic(), self._published
        try:
            command = read(message, self.robot.m)
        except MessageError as error:
            self.complaints.error(f"command dropped: {error}")
            return
        if self.pace.command(command, arrived) and topics.wanted(self._response):
            self._response.publish(Float64(data=arrived - published))

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.pace.start(self.plant.reset(self.plant.config.seed))
        return topics.answer(response, True, "at rest at robot.home")

    def _run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.pace.run(request.data)
        return topics.answer(response, True, "running" if request.data else "paused")

    def _report(self) -> None:
        blind = "" if self.camera is None else self.camera.failed
        self._diagnostics.send(topics.WARN if blind else topics.OK, f"{self.pace.name}; {blind}".rstrip("; "), {
            "periods": self.pace.periods, "missed": self.pace.missed, "repeated": self.pace.repeated})

    def close(self) -> None:
        """End the process that draws."""
        if self.camera is not None:
            self.camera.close()


def main(args: list[str] | None = None) -> int:
    return run(PlantNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
