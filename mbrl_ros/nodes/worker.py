"""The process in which a trainer learns (nodes/training_work.py), as its node sees it."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from mbrl_ros.nodes.__main__ import PARENT


class Next(NamedTuple):
    """What the trainer wants to be played next, and what it has learned from."""

    trials: int
    updates: int
    plays: str  # mode of the controller
    policy: str  # file for the mode policy, or empty
    model: str  # file for the learner, or empty
    target: list[float]  # [m] where the tool shall go
    rows: list[dict[str, Any]]  # of the updates since the last answer


class Worker:
    """Started at once; a thread reads what it says. `answer` is the newest, None while it learns; `failed` says why it
    has ended."""

    def __init__(self, folder: Path):
        self.answer: Next | None = None
        self.failed = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mbrl_ros.nodes.training_work", str(folder)], text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, PARENT: str(os.getpid())})
        self._said: list[str] = []
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._complaints)]
        for thread in self._threads:
            thread.start()

    def look(self) -> None:
        """Have it learn from new trials in the folder."""
        self.answer = None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("look\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: `failed` says why

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.answer = Next(**json.loads(line))
        code = self._process.wait()
        self._threads[1].join()
        self.failed = f"learning ended with exit code {code}: {(self._said or ['no output'])[-1]}"

    def _complaints(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said = [*self._said, line.strip()][-20:]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        for thread in self._threads:  # they end with its output
            thread.join()
        self._process.communicate()
