"""A call over ROS that is made again while no answer comes.

An answer is lost where the server has not found the way back to a new client yet, or while the machine is busy.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

UNHEARD = 10.0  # [s] after which it is made again


class Call:
    """Made when it is first asked for its answer. `call` returns a future, and may be made more than once."""

    def __init__(self, call: Callable[[], Any]):
        self._call, self._futures = call, list[Any]()
        self._again = 0.0  # monotonic [s]

    def answered(self) -> bool:
        """Whether there is an answer; where there is none for long, calls again."""
        if any(future.done() for future in self._futures):
            return True
        now = time.monotonic()
        if now >= self._again:
            self._futures.append(self._call())
            self._again = now + UNHEARD
        return False

    def result(self) -> Any:
        """The answer, None where there is none."""
        return next((future.result() for future in self._futures if future.done()), None)
