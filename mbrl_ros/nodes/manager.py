"""Takes a managed node from its start to `active`, once: what the launch file does where there is launch_ros."""
from __future__ import annotations

import time
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node

UNHEARD = 10.0  # [s] after which is asked again: an answer is lost when its way back is not yet known
NEXT = {State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_CONFIGURE,
        State.PRIMARY_STATE_INACTIVE: Transition.TRANSITION_ACTIVATE}


class Manager(Node):
    """Asks for the state and for the transition out of it, in turns, whenever `step` is called."""

    def __init__(self, managed: str, **arguments: Any):
        super().__init__("manager", **arguments)
        self.done = False
        self.problem = ""  # why it will never be
        self._managed, self._changing = managed, False
        self._state = self.create_client(GetState, f"{managed}/get_state")
        self._change = self.create_client(ChangeState, f"{managed}/change_state")
        self._future: Any = None
        self._asked = 0.0

    def step(self) -> None:
        """The next question, where the last one is answered, or never will be."""
        if self.done or self.problem:
            return
        if self._future is not None and self._future.done():
            self._answered(self._future.result())
        elif self._future is None or time.monotonic() - self._asked > UNHEARD:
            self._ask(None)

    def _answered(self, answer: Any) -> None:
        self._future = None
        if self._changing:
            self.problem = "" if answer.success else f"the {self._managed} refuses to change its state"
            self._changing = False
        elif answer.current_state.id in NEXT:
            self._ask(NEXT[answer.current_state.id])
        else:
            self.done = answer.current_state.id == State.PRIMARY_STATE_ACTIVE  # else on its way

    def _ask(self, transition: int | None) -> None:
        """For a transition, or for the state."""
        client = self._state if transition is None else self._change
        if not client.service_is_ready():
            return
        request = GetState.Request()
        if transition is not None:
            request = ChangeState.Request(transition=Transition(id=transition))
        self._future, self._asked, self._changing = client.call_async(request), time.monotonic(), transition is not None
