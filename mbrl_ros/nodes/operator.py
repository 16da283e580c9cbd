"""The node that runs an experiment: it asks by services, sets parameters, and listens.

It works the same against nodes in its own process and against nodes in others, in lock-step and in real time.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.nodes import topics
from mbrl_ros.nodes.calls import UNHEARD, Call
from mbrl_ros.nodes.listener import Listener
from mbrl_ros.ring.guard import ARMED
from mbrl_ros.robot import Robot

STARTING = 300.0  # [s] for nodes to appear: a first start compiles
PATIENCE = 60.0  # [s] for anything that should take a moment, on a busy machine
PER_PERIOD = 1.0  # [s] likewise for one control period
FITTING = 1200.0  # [s]
SETTLED = 0.5  # [s] that a guard has to stay armed
ACQUAINTED = 1.0  # [s] in real time, for both ends of every service to find each other
SERVICES = ("controller/hold", "controller/excite", "controller/reach", "controller/stop", "learner/fit", "guard/reset")


class OperatorError(RuntimeError):
    """Something asked for did not happen; one line says what."""


class Operator(Node):
    """Asks the other nodes, and waits for what comes of it. `spin` makes messages arrive, and raises where the
    experiment must end."""

    def __init__(self, robot: Robot, lockstep: bool, spin: Callable[[float], None]):
        super().__init__("operator")
        self._lockstep, self._spin = lockstep, spin
        self.heard = Listener(self, robot)
        self._triggers: dict[str, Any] = {name: self.create_client(Trigger, name) for name in SERVICES}
        self._arm: Any = self.create_client(SetBool, "guard/arm")
        self._setters = {name: AsyncParameterClient(self, name) for name in ("plant", "learner", "controller")}

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Wait until the condition holds. Raises OperatorError after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise OperatorError(f"{what}: nothing within {seconds:.0f} s")
            self._spin(0.05)

    def _pass(self, seconds: float, condition: Callable[[], Any] = lambda: False) -> None:
        """Let so much time pass, or as much as it takes until the condition holds."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self._spin(0.05)

    def ready(self) -> None:
        """Wait until all that an experiment needs is there."""
        for parameters in self._setters.values():
            self.wait(parameters.services_are_ready, "waiting for the nodes", STARTING)
        for client in (*self._triggers.values(), self._arm):
            self.wait(client.service_is_ready, "waiting for services")
        for topic in (topics.STATE, topics.MODEL, topics.TOOL, topics.REFERENCE, topics.PASSED):
            self.wait(partial(self.count_publishers, topic), f"waiting for {topic}")
        if not self._lockstep:
            # A server that has not found the way back to its client yet holds its executor up for 0.1 s an answer.
            self._pass(ACQUAINTED)

    def request(self, service: str) -> str:
        """Call a Trigger service. Raises OperatorError where it refuses."""
        answer = self._ask(lambda: self._triggers[service].call_async(Trigger.Request()), service)
        if not answer.success:
            raise OperatorError(f"{service} refused: {answer.message}")
        return answer.message

    def _ask(self, call: Callable[[], Any], what: str) -> Any:
        made = Call(call)
        self._pass(PATIENCE, made.answered)
        if not made.answered():
            raise OperatorError(f"{what} does not answer")
        return made.result()

    def arm(self) -> None:
        """Arm the guard, and wait until it stays armed.

        It is asked again where it refuses: the controller may not be warmed up, and nodes may be late while they get to
        know each other.
        """
        end, heard = time.monotonic() + PATIENCE, self.heard
        while True:
            self._ask(lambda: self._triggers["guard/reset"].call_async(Trigger.Request()), "guard/reset")
            heard.fault = ""  # before it is asked: what comes from now on counts
            said = self._ask(lambda: self._arm.call_async(SetBool.Request(data=True)), "guard/arm").message
            self._pass(SETTLED, lambda: heard.fault)
            if said == ARMED and not heard.fault:
                return
            if time.monotonic() > end:
                raise OperatorError(f"guard/arm refused: {heard.fault or said}")

    def disarm(self) -> None:
        """Leave the robot to the guard."""
        self._ask(lambda: self._arm.call_async(SetBool.Request(data=False)), "guard/arm")

    def set(self, node: str, name: str, value: Any) -> None:
        """Set a parameter. Raises OperatorError where it is refused."""
        what = f"{node}, to set {name},"
        result = self._ask(lambda: self._setters[node].set_parameters([Parameter(name, value=value)]), what).results[0]
        if not result.successful:
            raise OperatorError(f"{name} = {value} refused: {result.reason}")

    def advance(self, periods: int) -> list[int]:
        """Let so many control periods pass; their stamps. In lock-step the plant then holds the next state back.

        Where the last of them were not heard, others take their place: the plant is asked for as many more.
        """
        heard, period = self.heard, 1e9 * self.heard.robot.period
        first, before = len(heard.stamps), heard.stamps[-1] if heard.stamps else None
        end = time.monotonic() + PATIENCE + PER_PERIOD * periods

        def left() -> int:
            """How many are still to come, by the clock: one that was not heard has passed all the same."""
            if len(heard.stamps) == first:
                return periods
            since = heard.stamps[first] - period if before is None else before
            unanswered = self._lockstep and heard.stamps[-1] not in heard.effort
            return max(int(unanswered), periods - round((heard.stamps[-1] - since) / period))

        came = -1
        while left():
            if time.monotonic() > end:
                raise OperatorError(f"waiting for states: {left()} of {periods} did not come")
            if self._lockstep and came in (-1, len(heard.stamps)):  # at first, and when nothing comes any more
                self.set("plant", "plant.hold_after", left())
            came = len(heard.stamps)
            self._pass(UNHEARD, lambda: not left())
        return heard.stamps[first : first + periods]

    def fit(self) -> str:
        """Have a global model fitted, and wait until it is in use."""
        heard = self.heard
        heard.said.pop("learner", None)
        before, answer = heard.checkpoint, self.request("learner/fit")
        failed = lambda: heard.said.get("learner", ("", {}))[0].startswith("the fit failed")  # noqa: E731
        self.wait(lambda: heard.checkpoint > before or failed(), "waiting for the fit", FITTING)
        if failed():
            raise OperatorError(heard.said["learner"][0])
        return answer

    def hear_out(self) -> None:
        """Wait until plant, controller and guard have said once more how they are."""
        self.heard.said.clear()
        self.wait(lambda: {"plant", "controller", "guard"} <= set(self.heard.said), "waiting for diagnostics")
