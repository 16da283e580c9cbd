"""What is asked for now and then is looked at now and then.

rclpy's executor of one thread makes its wait set anew, twice, for every message that comes, of all that a node has:
parameters, lifecycle and events of publishers are 27 of a guard's 36 entities, and made it take a third of a core.
"""
from __future__ import annotations

import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

EVERY = 0.1  # [s]
LOOK = 0.01  # [s] in which a wait set is made, and what is found ready begins


class Seldom(MutuallyExclusiveCallbackGroup):
    """A group whose entities are waited for once in EVERY seconds, or whenever an executor has nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self._until = self._next = -float("inf")

    def can_execute(self, entity: Any) -> bool:
        """Whether to look at it now."""
        now = time.monotonic()
        if now >= self._next:
            self._next, self._until = now + EVERY, now + LOOK
        return now < self._until and super().can_execute(entity)
