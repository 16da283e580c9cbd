"""Where the time of a tick goes: how long each of its stages took, over the latest ticks.

Always on: a tick of five stages costs 1 us (benchmarks/latency.py measures it).
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np

RECENT = 1000  # ticks that the figures cover
TRUSTED = 1_000_000_000  # [ns] an age beyond it says that stamps come from another clock, as a simulator's do


class Stages:
    """`start` begins a tick, `done(stage)` says what was done since the last call, `end` that it is complete. A tick
    that is left early counts for the stages that it reached."""

    def __init__(self, clock: Callable[[], int] = perf_counter_ns):
        """clock: [ns]"""
        self._clock = clock
        self._spent: dict[str, deque[int]] = {}  # [ns]
        self._began = self._last = clock()

    def start(self) -> None:
        """A tick begins."""
        self._began = self._last = self._clock()

    def received(self, age: int) -> None:
        """Its input is of a state that is by now `age` [ns] old; how old it was when the tick began, after all that was
        computed with it before, sent and waited for."""
        age -= self._clock() - self._began
        if 0 <= age < TRUSTED:
            self._keep("receive", age)

    def done(self, stage: str) -> None:
        """This was done since the last call."""
        now = self._clock()
        self._keep(stage, now - self._last)
        self._last = now

    def end(self) -> None:
        """The tick is over."""
        self._keep("tick", self._last - self._began)

    def _keep(self, stage: str, spent: int) -> None:
        kept = self._spent.get(stage)
        if kept is None:
            kept = self._spent[stage] = deque(maxlen=RECENT)
        kept.append(spent)

    def latest(self) -> dict[str, float]:
        """How long every stage of the newest tick took [s]."""
        return {stage: 1e-9 * spent[-1] for stage, spent in self._spent.items()}

    def figures(self) -> dict[str, float]:
        """Median, 99 % and largest of every stage [us], as `STAGE_us_p50`, `_p99` and `_max`."""
        figures = {}
        for stage, spent in self._spent.items():
            p50, p99, largest = 1e-3 * np.percentile(np.array(spent), (50, 99, 100))
            for name, value in (("p50", p50), ("p99", p99), ("max", largest)):
                figures[f"{stage}_us_{name}"] = float(value)
        return figures
