"""All parameters of the nodes beside this one, asked for once, as the events that would have set them."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterEvent
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.node import Node

AT_ONCE = 16  # parameters per call: 0.2 ms of the node that answers, which may have a tick to do


class Snapshots:
    """Asks the nodes of these names, in the namespace of `node`, one after the other; never waits for them.

    `found` is called with a ParameterEvent of all parameters of each. A node that ends and comes back says itself what
    it declares, on /parameter_events. It has clients for reading alone, which is all that the security policy permits.
    """

    def __init__(self, node: Node, names: Iterable[str], found: Callable[[ParameterEvent], None]):
        self._node, self._found, self.waiting = node, found, list(names)
        self._clients: dict[str, tuple[Any, Any]] = {
            name: (node.create_client(ListParameters, f"{name}/list_parameters"),
                   node.create_client(GetParameters, f"{name}/get_parameters")) for name in self.waiting}
        self._busy = False
        self._timer = node.create_timer(0.2, self._look)

    def _look(self) -> None:
        """Begin with the next node that is there."""
        if not self.waiting:
            self._timer.cancel()
        name = next((name for name in self.waiting if all(c.service_is_ready() for c in self._clients[name])), None)
        if self._busy or name is None:
            return
        self._busy = True
        listed = self._clients[name][0].call_async(ListParameters.Request())
        listed.add_done_callback(partial(self._listed, name))

    def _listed(self, name: str, future: Any) -> None:
        event = ParameterEvent(node=f"{self._node.get_namespace().rstrip('/')}/{name}")
        event.stamp = self._node.get_clock().now().to_msg()
        self._ask(name, sorted(future.result().result.names), event)

    def _ask(self, name: str, left: list[str], event: ParameterEvent) -> None:
        """For some of them, and then for the rest."""
        if not left:
            self._found(event)
            self.waiting.remove(name)
            self._busy = False
            return
        asked = left[:AT_ONCE]

        def answered(future: Any) -> None:
            event.new_parameters += [Parameter(name=key, value=value) for key, value in
                                     zip(asked, future.result().values, strict=True)]
            self._ask(name, left[AT_ONCE:], event)

        self._clients[name][1].call_async(GetParameters.Request(names=asked)).add_done_callback(answered)
