"""Curves over the latest seconds, for plots: rows of numbers with the times they were said at."""
from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from mbrl_ros.types import Array

SECONDS = 15.0  # that are shown


class Series:
    """Named numbers over time."""

    def __init__(self, seconds: float = SECONDS):
        self._seconds = seconds
        self._rows: deque[tuple[float, Mapping[str, float]]] = deque()

    def add(self, time: float, numbers: Mapping[str, float]) -> None:
        """What was said at `time` [s]. Time that goes back, as with another run of a simulation, begins anew."""
        if self._rows and time < self._rows[-1][0]:
            self._rows.clear()
        self._rows.append((time, numbers))
        while self._rows[0][0] < time - self._seconds:
            self._rows.popleft()

    @property
    def newest(self) -> Mapping[str, float]:
        """What was said last."""
        return self._rows[-1][1] if self._rows else {}

    def columns(self, names: list[str], factor: float = 1.0) -> tuple[Array, ...] | None:
        """Times before the newest [s], and a column for each name; of rows that have all of them as finite numbers, for
        uPlot draws nothing where a column begins with NaN. None where there are fewer than two rows."""
        rows: Any = [(time, *(numbers.get(name, np.nan) for name in names)) for time, numbers in self._rows]
        if len(rows) < 2 or not names:
            return None
        table = np.array(rows, float)
        table = table[np.isfinite(table).all(1)]
        if len(table) < 2:
            return None
        table[:, 0] -= rows[-1][0]
        table[:, 1:] *= factor
        return tuple(np.ascontiguousarray(column) for column in table.T)
