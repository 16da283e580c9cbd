"""The parameters of other nodes that may change while they run: found, followed, and set."""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterEvent
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import qos_profile_parameter_events

from mbrl_ros.nodes.parameters import Described, described

NODES = ("controller", "learner", "estimator", "plant", "guard")
LOOK = 1.0  # [s] between looks for nodes that are new
PER_SECOND = 5.0  # at most so often a value is set that is moved all the time


class LiveParameters:
    """Asks nodes for what they declare, again whenever they declare more: a managed node does so when it is configured.
    `show(node, parameters)`, `changed(node, name, value)` and `say(line, good)` are called by the executor."""

    def __init__(self, node: Node, show: Callable[[str, list[Described]], None],
                 changed: Callable[[str, str, Any], None], say: Callable[..., None]):
        self._node, self._show, self._changed, self._say = node, show, changed, say
        self._clients = {name: AsyncParameterClient(node, name) for name in NODES}
        prefix = node.get_namespace().rstrip("/")
        self._names = {f"{prefix}/{name}": name for name in NODES}
        self._unknown = set(NODES)
        self._values: dict[tuple[str, str], Any] = {}  # by node and name, as the node has them
        self._moved: dict[tuple[str, str], Any] = {}  # to be set
        self._looked = self._sent = 0.0
        node.create_subscription(ParameterEvent, "/parameter_events", self._heard, qos_profile_parameter_events)

    def set(self, node: str, name: str, value: Any) -> None:
        """Set a parameter, soon; of values that come faster than that the newest."""
        self._moved[node, name] = value

    def poll(self) -> None:
        """What is due."""
        now = time.monotonic()
        if self._moved and now - self._sent >= 1.0 / PER_SECOND:
            self._sent = now
            for (node, name), value in self._moved.items():
                future = self._clients[node].set_parameters([Parameter(name, value=value)])
                future.add_done_callback(partial(self._answered, node, name, value))
            self._moved.clear()
        if self._unknown and now - self._looked >= LOOK:
            self._looked = now
            for node in sorted(self._unknown):
                if self._clients[node].services_are_ready():
                    self._unknown.discard(node)
                    self._clients[node].list_parameters([], 0).add_done_callback(partial(self._listed, node))

    def _listed(self, node: str, future: Any) -> None:
        names = list(future.result().result.names)
        self._clients[node].describe_parameters(names).add_done_callback(partial(self._described, node, names))

    def _described(self, node: str, names: list[str], future: Any) -> None:
        live = [(name, d) for name, d in zip(names, future.result().descriptors, strict=False) if not d.read_only]
        self._clients[node].get_parameters([name for name, _ in live]).add_done_callback(
            partial(self._got, node, live))

    def _got(self, node: str, live: list[tuple[str, Any]], future: Any) -> None:
        values = [parameter_value_to_python(value) for value in future.result().values]
        known = [described(name, value, descriptor) for (name, descriptor), value in zip(live, values, strict=False)
                 if descriptor.description]  # those of rclpy itself have none
        self._values |= {(node, p.name): p.value for p in known}
        self._show(node, known)

    def _answered(self, node: str, name: str, value: Any, future: Any) -> None:
        result = future.result().results[0]
        if result.successful:
            self._say(f"{node}: {name} = {value:g}")
        else:
            self._say(f"{node}: {name} = {value:g} refused: {result.reason}", False)
            if (node, name) in self._values:
                self._changed(node, name, self._values[node, name])

    def _heard(self, event: ParameterEvent) -> None:
        node = self._names.get(event.node)
        if node is None:
            return
        if event.new_parameters:
            self._unknown.add(node)
        for parameter in event.changed_parameters:
            if (node, parameter.name) in self._values:
                self._values[node, parameter.name] = value = parameter_value_to_python(parameter.value)
                self._changed(node, parameter.name, value)
