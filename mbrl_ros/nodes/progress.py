"""One line about how far an experiment is: rewritten on a terminal, a new one every few seconds elsewhere."""
from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.types import Array

if TYPE_CHECKING:
    from mbrl_ros.nodes.listener import Listener

TERMINAL, FILE = 0.2, 5.0  # [s] between lines


class Progress:
    """Shows how far an experiment is. `show` may be called as often as one likes."""

    def __init__(self) -> None:
        self._phase, self._target = "starting", None
        self._heard: Listener | None = None
        self._terminal = sys.stdout.isatty()
        self._began, self._shown, self._period = time.monotonic(), -np.inf, 0.0

    def watch(self, heard: Listener, period: float) -> None:
        """Take the simulated time, by counting control periods [s], and the error from what is heard."""
        self._heard, self._period = heard, period

    def phase(self, text: str, target: Array | None = None) -> None:
        """Say what happens now, and where the tool shall go."""
        changed = text.split()[0] != self._phase.split()[0]
        self._phase, self._target = text, target
        if changed:
            self._shown = -np.inf

    def show(self) -> None:
        """Print the line, if it is time for one."""
        now = time.monotonic()
        if now - self._shown < (TERMINAL if self._terminal else FILE):
            return
        self._shown = now
        line = f"[{now - self._began:5.1f} s] {self._phase}"
        heard = self._heard
        if heard is not None and heard.stamps:
            line += f"   robot's time {self._period * len(heard.stamps):.1f} s"
            tool = heard.tool.get(heard.stamps[-1])
            if self._target is not None and tool is not None:
                line += f"   error {1e3 * np.linalg.norm(tool - self._target):.1f} mm"
        print(f"\r{line:100}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def end(self) -> None:
        """Print no more lines."""
        if self._terminal:
            print(f"\r{'':100}\r", end="", flush=True)
        self._terminal, self._shown = False, np.inf
