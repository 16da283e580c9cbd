"""How far a node is that starts: a line where loading takes long, and one when it is ready, with what it waited for."""
from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

SOON = 4.0  # [s] of loading that nobody needs to be told of
PATIENCE = 20.0  # [s] of waiting likewise, and between lines about it
LOOK = 0.2  # [s] between looks at what is waited for
LOADING = ("{name}: loading and compiling; the first start of a version takes a minute or more on two cores, others "
           "some ten seconds")


def age() -> float:
    """Since this process was started [s]."""
    with open("/proc/self/stat") as file:
        started = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def announce(name: str) -> None:
    """Say, some seconds from now, that this process loads: by a thread, because modules compile where they are
    imported. Said of one node of the ring, the controller, which loads what the others do and more."""
    said = lambda: Readiness.made or print(LOADING.format(name=name), file=sys.stderr, flush=True)  # noqa: E731
    line = threading.Timer(SOON, said)
    line.daemon = True
    line.start()


class Readiness:
    """Says of a node what it waits for, and that it is ready. Costs nothing from then on."""

    made = False  # ever, in this process

    def __init__(self, node: Any):
        self._node, self._log = node, node.get_logger()
        self._took = {"loading": age()}  # [s] by what was waited for
        self._left: dict[str, Callable[[], bool]] = {}
        self._began = time.monotonic()
        Readiness.made = True

    def done(self, what: str) -> None:
        """So much time has passed with that, since it was made or the last was done."""
        now = time.monotonic()
        self._took[what], self._began = now - self._began, now

    def wait(self, conditions: Mapping[str, Callable[[], bool]]) -> None:
        """Look from now on whether the conditions hold, by what is waited for; each of them once is enough."""
        self._left, self._next = dict(conditions), time.monotonic() + PATIENCE
        self._timer = self._node.create_timer(LOOK, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        for what in [what for what, holds in self._left.items() if holds()]:
            del self._left[what]
            self._took[what] = now - self._began
        if not self._left:
            self._node.destroy_timer(self._timer)
            of = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in self._took.items())
            self._log.info(f"ready; waited for {of}")
        elif now > self._next:
            self._next = now + PATIENCE
            self._log.warning(f"not ready after {age():.0f} s: waiting for {', '.join(self._left)}")
