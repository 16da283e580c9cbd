"""Lines about input that cannot be used: the first of a kind at once, then one a minute with how many it stands for."""
from __future__ import annotations

import re
import time
from typing import Any

EVERY = 60.0  # [s]
KINDS = 100  # that are remembered: what others send may differ without end
NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?|\bnan\b|\binf\b")


class Complaints:
    """Of one node. Lines that differ in numbers only are of one kind."""

    def __init__(self, logger: Any):
        self._logger = logger
        self._kinds: dict[str, tuple[float, int]] = {}  # when it was said [s]; how many have come since

    def error(self, line: str) -> None:
        """Say it as an error."""
        said = self._due(line)
        if said:
            self._logger.error(said)

    def warning(self, line: str) -> None:
        """Say it as a warning."""
        said = self._due(line)
        if said:
            self._logger.warning(said)

    def _due(self, line: str) -> str:
        """What is to be said now; nothing where it was said within the last minute."""
        kind, now = NUMBER.sub("#", line), time.monotonic()
        if kind not in self._kinds:
            if len(self._kinds) >= KINDS:
                self._kinds.clear()
            self._kinds[kind] = now, 0
            return line
        before, count = self._kinds[kind]
        if now - before < EVERY:
            self._kinds[kind] = before, count + 1
            return ""
        self._kinds[kind] = now, 0
        return f"{line} ({count + 1} such in {now - before:.0f} s)"
