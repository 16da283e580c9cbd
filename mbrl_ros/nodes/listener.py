"""Keeps what is said on the ring, by stamp: for an operator, and for a report afterwards."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from std_msgs.msg import Float64

from mbrl_ros.messages import ring as messages
from mbrl_ros.msg import EffortCommand, LocalDynamics, ModelCheckpoint, StateEstimate, Status
from mbrl_ros.nodes import topics
from mbrl_ros.robot import Robot
from mbrl_ros.types import Array


class Prediction(NamedTuple):
    """A prediction of the tool one step later: F [x; u] + f, with variances."""

    F: Array  # (3, n + m)
    f: Array  # (3,)
    variance: Array  # (3,) [m^2]


class Listener:
    """What was heard on the ring; it subscribes by the node that it is given."""

    def __init__(self, node: Node, robot: Robot):
        self.robot = robot
        self.stamps: list[int] = []  # [ns] of the states, in the order of their arrival
        self.x: dict[int, Array] = {}  # (n,) estimated
        self.acted: dict[int, Array] = {}  # (m,) [N m or N] over the period that ended at the stamp
        self.tool: dict[int, Array] = {}  # (3,) [m] true position
        self.reference: dict[int, Array] = {}  # (3,) [m] of the path
        self.effort: dict[int, Array] = {}  # (m,) [N m or N] commanded
        self.prediction: dict[int, Prediction] = {}
        self.response: list[float] = []  # [s] from a state to its command
        self.mode, self.fault, self.checkpoint = "", "", 0  # now; the first, and why; version of the newest
        self.said: dict[str, tuple[str, dict[str, str]]] = {}  # newest diagnostics by node
        self.stages: dict[str, dict[str, float]] = {}  # newest times of the stages of a tick [us] by node
        self._tool_rows = robot.slice(f"site/{robot.sites[0]}/position")
        hear = lambda kind, topic, heard, qos=topics.KEEP: node.create_subscription(kind, topic, heard, qos)  # noqa: E731
        hear(StateEstimate, topics.STATE, self._state)
        hear(LocalDynamics, topics.MODEL, self._model)
        hear(PoseStamped, topics.TOOL, lambda m: self._point(self.tool, m))
        hear(PoseStamped, topics.REFERENCE, lambda m: self._point(self.reference, m))
        hear(EffortCommand, topics.PASSED, self._command)
        hear(Float64, topics.RESPONSE, lambda m: self.response.append(m.data))
        hear(DiagnosticArray, topics.DIAGNOSTICS, self._diagnostics)
        for name in topics.TIMED:
            hear(DiagnosticArray, topics.stages(name), self._timed)
        hear(Status, topics.MODE, lambda m: setattr(self, "mode", m.state), topics.LATCHED)
        hear(ModelCheckpoint, topics.CHECKPOINT, lambda m: setattr(self, "checkpoint", m.version), topics.LATCHED)

    def _state(self, message: StateEstimate) -> None:
        state = messages.from_state_estimate(message, self.robot)
        if not self.stamps or state.time > self.stamps[-1]:
            self.stamps.append(state.time)
            self.x[state.time], self.acted[state.time] = state.belief.mean, state.effort

    def _model(self, message: LocalDynamics) -> None:
        model, rows = messages.from_local_dynamics(message, self.robot), self._tool_rows
        F, n = model.dynamics.F[rows], self.robot.n
        variance = np.diag(model.dynamics.Sigma)[rows] + ((F[:, :n] @ model.state.belief.cov) * F[:, :n]).sum(1)
        self.prediction[model.state.time] = Prediction(F, model.dynamics.f[rows], variance)

    def _point(self, points: dict[int, Array], message: PoseStamped) -> None:
        point = messages.from_target(message)
        points[point.time] = point.position

    def _command(self, message: EffortCommand) -> None:
        command = messages.from_effort_command(message, self.robot.m)
        if command.answers is not None:
            self.effort.setdefault(command.answers, command.effort)

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.said[status.name] = (status.message, {pair.key: pair.value for pair in status.values})
            if status.name in ("controller", "guard") and status.message.startswith("fault"):
                self.fault = self.fault or status.message

    def _timed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.stages[status.name] = {pair.key: float(pair.value) for pair in status.values}

    def figure(self, node: str, key: str) -> float:
        """A number from a node's newest diagnostics; NaN where it said none."""
        return float(self.said.get(node, ("", {}))[1].get(key, "nan"))

    def track(self, stamps: list[int]) -> tuple[Array, Array, Array]:
        """True tool (T, 3), path (T, 3) and commanded effort (T, m) at those stamps; gaps hold the value before."""
        return (_rows(self.tool, stamps, 3), _rows(self.reference, stamps, 3),
                _rows(self.effort, stamps, self.robot.m))

    def posture(self, stamps: list[int]) -> tuple[Array, Array]:
        """Joint positions (T, m) and tool (T, 3) as estimated."""
        x = _rows(self.x, stamps, self.robot.n)
        return x[:, self.robot.slice("joint/position")], x[:, self._tool_rows]

    def predicted(self, stamps: list[int]) -> tuple[Array, Array]:
        """Mean and deviation (T, 3) of the tool at each stamp as foreseen a step before; NaN where none was."""
        mean, deviation = np.full((len(stamps), 3), np.nan), np.full((len(stamps), 3), np.nan)
        stride = self.robot.stride
        for i, (before, now) in enumerate(zip(stamps, stamps[stride:], strict=False), start=stride):
            p, acted = self.prediction.get(before), [self.acted.get(s) for s in stamps[i - stride + 1 : i + 1]]
            if p is not None and before in self.x and now in self.x and all(a is not None for a in acted):
                mean[i] = p.F @ np.concatenate([self.x[before], np.mean(np.array(acted), 0)]) + p.f
                deviation[i] = np.sqrt(p.variance)
        return mean, deviation


def _rows(values: dict[int, Array], stamps: list[int], size: int) -> Array:
    rows: Array = np.empty((len(stamps), size))
    last: Any = next((values[s] for s in stamps if s in values), np.full(size, np.nan))
    for i, stamp in enumerate(stamps):
        rows[i] = last = values.get(stamp, last)
    return rows
