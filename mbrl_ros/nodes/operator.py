"""Who runs an experiment: asks by services, sets parameters, and listens. It works the same against nodes in its own
process and against nodes in others, in lock-step and in real time."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

from mbrl_ros import messages
from mbrl_ros.fields import read_stamp
from mbrl_ros.msg import ModelCheckpoint, StateEstimate
from mbrl_ros.nodes import topics
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array

PATIENCE = 60.0  # [s] for anything that should take a moment; a busy machine takes its time to start processes
PER_PERIOD = 1.0  # [s] likewise for one control period


class OperatorError(RuntimeError):
    """Something asked for did not happen; one line says what."""


class Operator(Node):
    """Keeps what it hears by stamp; `spin` makes messages arrive, and raises where the experiment must end."""

    def __init__(self, robot: Robot, lockstep: bool, spin: Callable[[float], None]):
        super().__init__("operator")
        self.robot, self._lockstep, self._spin = robot, lockstep, spin
        self.stamps: list[int] = []  # of the states, in the order of their arrival
        self.tool: dict[int, Array] = {}  # true position (3,) [m] by stamp
        self.reference: dict[int, Array] = {}
        self.effort: dict[int, Array] = {}  # commanded (m,)
        self.response: list[float] = []  # [s]
        self.mode, self.fault, self.checkpoint = "", "", 0  # now; the first, and why; version of the newest
        self.said: dict[str, tuple[str, dict[str, str]]] = {}  # newest diagnostics by node
        self._parameters = {name: AsyncParameterClient(self, name) for name in ("plant", "learner", "controller")}
        self._listen(StateEstimate, "state_estimate", lambda m: self._state(read_stamp(m.header.stamp)))
        self._listen(PoseStamped, "plant/tool_pose", lambda m: self._point(self.tool, m))
        self._listen(PoseStamped, "reference", lambda m: self._point(self.reference, m))
        self._listen(Float64MultiArray, topics.COMMANDS, self._commanded)
        self._listen(Float64, "plant/response_time", lambda m: self.response.append(m.data))
        self._listen(DiagnosticArray, topics.DIAGNOSTICS, self._diagnostics)
        self._listen(String, "mode", lambda m: setattr(self, "mode", m.data), topics.LATCHED)
        self._listen(ModelCheckpoint, "model_checkpoint", lambda m: setattr(self, "checkpoint", m.version),
                     topics.LATCHED)

    def _listen(self, kind: Any, topic: str, heard: Callable[[Any], None], qos: Any = topics.KEEP) -> None:
        self.create_subscription(kind, topic, heard, qos)

    def _state(self, stamp: int) -> None:
        if not self.stamps or stamp > self.stamps[-1]:
            self.stamps.append(stamp)

    def _point(self, points: dict[int, Array], message: PoseStamped) -> None:
        point = messages.from_target(message)
        points[point.time] = point.position

    def _commanded(self, message: Float64MultiArray) -> None:
        command = messages.from_effort_command(message, self.robot.m)
        if command.answers is not None:
            self.effort.setdefault(command.answers, command.effort)

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.said[status.name] = (status.message, {pair.key: pair.value for pair in status.values})
            if status.name == "controller" and status.message.startswith("fault"):
                self.fault = self.fault or status.message

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Until the condition holds. Raises OperatorError after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise OperatorError(f"{what}: nothing within {seconds:.0f} s")
            self._spin(0.05)

    def ready(self) -> None:
        """Until all that an experiment needs is there."""
        for client in self._parameters.values():
            self.wait(client.services_are_ready, "waiting for the nodes")
        for topic in ("state_estimate", "plant/tool_pose", "reference", topics.COMMANDS):
            self.wait(lambda topic=topic: self.count_publishers(topic), f"waiting for {topic}")

    def request(self, service: str) -> str:
        """Call a Trigger service. Raises OperatorError where it refuses."""
        client = self.create_client(Trigger, service)
        self.wait(client.service_is_ready, f"waiting for {service}")
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"waiting for {service} to answer")
        answer = future.result()
        self.destroy_client(client)
        if not answer.success:
            raise OperatorError(f"{service} refused: {answer.message}")
        return answer.message

    def set(self, node: str, name: str, value: Any) -> None:
        """Set a parameter. Raises OperatorError where it is refused."""
        future = self._parameters[node].set_parameters([Parameter(name, value=value)])
        self.wait(future.done, f"waiting for {node} to set {name}")
        result = future.result().results[0]
        if not result.successful:
            raise OperatorError(f"{name} = {value} refused: {result.reason}")

    def advance(self, periods: int) -> list[int]:
        """Let so many control periods pass; their stamps. In lock-step the plant then holds the next state back."""
        first = len(self.stamps)
        if self._lockstep:
            self.set("plant", "plant.hold_after", periods)
        passed = lambda: len(self.stamps) >= first + periods  # noqa: E731
        held = lambda: not self._lockstep or self.stamps[-1] in self.effort  # noqa: E731
        self.wait(lambda: passed() and held(), "waiting for states", PATIENCE + PER_PERIOD * periods)
        return self.stamps[first : first + periods]

    def fit(self) -> str:
        """Have a global model fitted, and wait until it is in use."""
        before, said = self.checkpoint, self.request("learner/fit")
        failed = lambda: self.said.get("learner", ("", {}))[0].startswith("the fit failed")  # noqa: E731
        self.wait(lambda: self.checkpoint > before or failed(), "waiting for the fit", 20 * PATIENCE)
        if failed():
            raise OperatorError(self.said["learner"][0])
        return said

    def track(self, stamps: list[int]) -> tuple[Array, Array, Array]:
        """True tool (T, 3), path (T, 3) and commanded effort (T, m) at those stamps; gaps hold the value before."""
        return tuple(_hold(values, stamps, size) for values, size in  # type: ignore[return-value]
                     ((self.tool, 3), (self.reference, 3), (self.effort, self.robot.m)))

    def hear_out(self) -> None:
        """Until plant and controller have said once more how they are."""
        self.said.clear()
        self.wait(lambda: {"plant", "controller"} <= set(self.said), "waiting for diagnostics")

    def figure(self, node: str, key: str) -> float:
        """A number from a node's newest diagnostics."""
        return float(self.said.get(node, ("", {}))[1].get(key, "nan"))


def _hold(values: dict[int, Array], stamps: list[int], size: int) -> Array:
    rows = np.empty((len(stamps), size))
    last = next((values[s] for s in stamps if s in values), np.full(size, np.nan))
    for i, stamp in enumerate(stamps):
        rows[i] = last = values.get(stamp, last)
    return rows
