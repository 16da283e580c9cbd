"""The simulated robot behind joint_states and effort_controller/commands."""
from __future__ import annotations

import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros import assembly
from mbrl_ros.messages import ring as messages
from mbrl_ros.messages.ring import MessageError
from mbrl_ros.nodes import options, topics
from mbrl_ros.nodes.pace import Lockstep, Realtime
from mbrl_ros.nodes.parts import PartNode
from mbrl_ros.nodes.spin import run
from mbrl_ros.types import Observation


class PlantNode(PartNode):
    """Steps MujocoPlant at one of two paces (pace.py) and publishes what it gives."""

    def __init__(self, **arguments: Any):
        super().__init__("plant", **arguments)
        self.robot = assembly.make_robot(self.settings)
        self.plant = assembly.make_plant(self.settings, self.robot)
        config = self.plant.config
        self.declare("robot", self.robot.config)
        self.declare("plant", config, lambda new: self.plant.set_payload(new.payload))
        own = self.declare("plant", self.option(options.Plant, "plant"),
                           lambda new: self.pace.hold_after(new.hold_after))
        self._states = topics.publisher(self, JointState, "joint_states", topics.SENT)
        self._clock_time = topics.publisher(self, Clock, "/clock", topics.RING) if config.pace == "lockstep" else None
        self._tool = topics.publisher(self, PoseStamped, "plant/tool_pose", topics.KEEP)
        self._response = topics.publisher(self, Float64, "plant/response_time", topics.KEEP)
        self._diagnostics = topics.Diagnostics(self)
        self._stages = topics.timed(self)
        self._published = 0.0  # monotonic [s]
        self.pace = (Lockstep if config.pace == "lockstep" else Realtime)(self, own.hold_after)
        self.pace.start(self.plant.reset(config.seed))
        self.create_subscription(Float64MultiArray, topics.COMMANDS, self._commanded, topics.RING)
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
        message = messages.to_joint_state(JointState, observation, self.robot.joints)
        if topics.wanted(self._tool):
            self._tool.publish(topics.pose(self.plant.true_tool(), observation.time))
        if self._clock_time is not None:
            self._clock_time.publish(Clock(clock=message.header.stamp))
        self._stages.done("fill")
        self._states.publish(message)
        self._stages.done("publish")
        self._stages.end()

    def _commanded(self, message: Float64MultiArray) -> None:
        arrived, published = time.monotonic(), self._published
        try:
            command = messages.from_effort_command(message, self.robot.m)
        except MessageError as error:
            self.get_logger().error(f"command dropped: {error}", throttle_duration_sec=topics.THROTTLE)
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
        self._diagnostics.send(topics.OK, self.pace.name, {
            "periods": self.pace.periods, "missed": self.pace.missed, "repeated": self.pace.repeated})


def main(args: list[str] | None = None) -> int:
    return run(PlantNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
