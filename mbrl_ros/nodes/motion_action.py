"""Actions that move the arm, in the executor of the controller, without a thread.

An accepted goal is a coroutine that waits for a future, which a later tick completes, or whatever ends the motion
before: another goal or target, a mode, a cancellation, a fault, the guard, silence. The tick makes a comparison; it
never waits, and without a goal it does nothing. Codes are those of ReachTarget.Result.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from rclpy.task import Future

from mbrl_ros.action import ReachTarget
from mbrl_ros.nodes.targets import Targets
from mbrl_ros.ring.controller import FAULT, HOLD, REACH, UNTRUSTED, Controller
from mbrl_ros.ring.guard import ARMED, STOPPED
from mbrl_ros.ring.guard import FAULT as GUARD_FAULT
from mbrl_ros.ring.mpc import NO_MODEL
from mbrl_ros.types import StateEstimate

Codes = ReachTarget.Result
WATCH = 0.1  # [s] between looks at what no tick would show: cancellation, silence
FEEDBACK = 0.1  # [s] of the robot's time between two


class Refusal(NamedTuple):
    """Why a mode would not be entered: the name of a code, and a line."""

    kind: str
    reason: str


class Refused(Exception):
    """A goal that ends at once, with this code."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code = code


@dataclass
class Running:
    """The goal that is being done."""

    handle: Any
    aim: object  # what the controller's goal is meanwhile
    progress: Any  # of its kind of action
    over: Any  # a Future of code and reason
    begun: bool = False  # once the mode is REACH
    said: int = 0  # [ns] when feedback was sent last


class MotionAction(ABC):
    """A server. `refusal` says why a mode would be refused now. `arms_itself`: that of a guard in lock-step, which is
    armed by the first command."""

    def __init__(self, node: Node, controller: Controller, targets: Targets, kind: Any, name: str,
                 refusal: Callable[[str], Refusal | None], arms_itself: bool):
        self.controller, self.targets, self._refusal, self._arms_itself = controller, targets, refusal, arms_itself
        self._running: Running | None = None
        self._server = ActionServer(node, kind, name, self._execute, goal_callback=lambda _: GoalResponse.ACCEPT,
                                    cancel_callback=lambda _: CancelResponse.ACCEPT)
        self._watch = node.create_timer(WATCH, self.look)
        self._watch.cancel()  # until there is a goal

    # --- of a kind of action

    @abstractmethod
    def aim(self, request: Any) -> Any:
        """Give the controller its goal; what tells the progress. Raises Refused, with that goal unchanged."""

    @abstractmethod
    def follow(self, running: Running, state: StateEstimate) -> tuple[int, str] | None:
        """Code and reason where it is over at this state."""

    @abstractmethod
    def feedback(self, running: Running, state: StateEstimate) -> Any:
        """What is said meanwhile."""

    @abstractmethod
    def result(self, progress: Any, code: int, reason: str) -> Any:
        """What is said in the end; without progress where it was refused."""

    # --- of all

    async def _execute(self, handle: Any) -> Any:
        try:
            running = self._begin(handle)
        except Refused as refused:
            handle.abort()
            return self.result(None, refused.code, str(refused))
        code, reason = await running.over
        if code == Codes.NONE:
            handle.succeed()
        elif code == Codes.CANCELED:
            handle.canceled()
        else:
            handle.abort()
        return self.result(running.progress, code, reason)

    def _begin(self, handle: Any) -> Running:
        refusal = self._refusal(REACH)
        if refusal is not None:
            raise Refused(getattr(Codes, refusal.kind), refusal.reason)
        progress = self.aim(handle.request)
        self.end(Codes.PREEMPTED, "another goal")
        self._running = Running(handle, self.controller.mpc.goal, progress, Future())
        self.controller.request(REACH)
        self._watch.reset()
        return self._running

    def tick(self, state: StateEstimate) -> None:
        """After the controller has acted on a state."""
        running = self._running
        if running is None or self._is_over(running) or not running.begun:
            return
        became = self.follow(running, state)
        if became is not None:
            self.end(*became)
        elif state.time - running.said >= 1e9 * FEEDBACK:
            running.said = state.time
            running.handle.publish_feedback(self.feedback(running, state))

    def _is_over(self, running: Running) -> bool:
        """End what is cancelled, or not done any more; whether it was."""
        controller = self.controller
        running.begun = running.begun or controller.mode == REACH
        if running.handle.is_cancel_requested:
            controller.request(HOLD)
            self.end(Codes.CANCELED, "cancelled: the arm is held where it is")
        elif controller.mode == FAULT:
            self.end(Codes.FAULT, controller.reason)
        elif controller.mode != REACH and running.begun:
            lost = controller.reason in (UNTRUSTED, NO_MODEL)
            self.end(Codes.NO_MODEL if lost else Codes.PREEMPTED, f"{controller.mode}: {controller.reason}")
        elif controller.mpc.goal is not running.aim:
            self.end(Codes.PREEMPTED, "another target")
        return self._running is not running

    def guard(self, state: str, reason: str) -> None:
        """The guard is in another state."""
        said = f"guard {state}: {reason}"
        if state == STOPPED:
            self.end(Codes.STOPPED, said)
        elif state == GUARD_FAULT:
            self.end(Codes.FAULT, said)
        elif state != ARMED and not self._arms_itself:
            self.end(Codes.NOT_ARMED, said)

    def look(self) -> None:
        """Between ticks, and when the mode has changed."""
        running = self._running
        if running is None or self._is_over(running):
            return
        refusal = self._refusal(REACH)
        if refusal is not None and refusal.kind in ("NO_STATE", "NOT_ACTIVE"):
            self.end(getattr(Codes, refusal.kind), refusal.reason)

    def end(self, code: int, reason: str) -> None:
        """The goal that is being done, if there is one, ends like this."""
        running, self._running = self._running, None
        if running is not None:
            self._watch.cancel()
            running.over.set_result((code, reason))

    def destroy(self) -> None:
        """Before its node goes."""
        self._server.destroy()
