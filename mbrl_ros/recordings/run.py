"""What was said on the ring of one robot while it was recorded, in order: for those who explain or repeat a run."""
from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mbrl_ros.messages.ring import LocalModel, PlanReport, ReceivedLabels
from mbrl_ros.types import Array


class Said(NamedTuple):
    """Something that is not of every tick."""

    time: int  # [ns] when it was recorded
    kind: str  # mode, target, guard, model
    text: str
    value: Any = None


class Change(NamedTuple):
    """A parameter that was set while the run was recorded."""

    time: int  # [ns]
    node: str
    name: str
    value: Any


class Goal(NamedTuple):
    """What the controller was asked for by a message."""

    message: Any
    position: Array | None  # (3,) [m] of the tool, in the frame of the message; None where it is something else


class Belief(NamedTuple):
    """What the controller held of itself at a tick; NaN where there was nothing to say."""

    time: int  # [ns] of the state
    trust: float
    prediction_error: float  # squared, over its variance
    plan_time: float  # [s]
    failed: bool  # the plan: not finite, late, or an error
    cost: float
    terms: dict[str, float]  # what each has in the cost


class Status(NamedTuple):
    """What a node said of itself, or how long its stages took."""

    time: int  # [ns]
    name: str
    level: int  # 0 well, 1 warning, 2 error
    message: str
    values: dict[str, str]


@dataclass
class Points:
    """Vectors over time."""

    time: Array  # (T,) [ns]
    values: Array  # (T, k); NaN where nothing was said


@dataclass
class States:
    """All state estimates."""

    time: Array  # (T,) [ns] of the measurement
    x: Array  # (T, n)
    effort: Array  # (T, m)
    step: Array  # (T,)
    episode: Array  # (T,)
    names: ReceivedLabels = field(default_factory=lambda: ReceivedLabels((), ()))

    def rows(self, begin: str, end: str = "") -> list[int]:
        """Which entries of x have names that begin and end so."""
        return [i for i, name in enumerate(self.names.state_names) if name.startswith(begin) and name.endswith(end)]


@dataclass
class Run:
    """What was said of one robot. `order` has all of it as (what, value), as it was recorded."""

    path: Path
    start: int  # [ns]
    seconds: float
    states: States
    joints: Points  # the position of every measurement, with its own stamp
    asked: Points  # efforts, by the state that they answer
    sent: Points
    tool: Points
    reference: Points
    targets: list[Said]
    said: list[Said]
    models: list[LocalModel]
    plans: list[PlanReport]
    beliefs: list[Belief]
    parameters: dict[str, dict[str, Any]]  # by node, as they were first
    changes: list[Change]
    diagnostics: list[Status]
    stages: list[Status]
    topics: dict[str, tuple[str, int, int]]  # type, messages, bytes
    left_out: list[str]
    order: list[tuple[str, Any]]

    @functools.cached_property
    def _places(self) -> tuple[Array, Array]:
        """When commands were recorded [ns], and the states that they answer [s since the first]."""
        said = (value for what, value in self.order if what == "asked")
        found = [(heard, command.answers) for heard, command in said if command.answers]
        heard, answers = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return heard, 1e-9 * (answers - self.states.time[0])

    def seconds_at(self, time: int) -> float:
        """Where on the axis of the states, which begins with the first of them, something belongs that was recorded at
        `time` [ns]: in lock-step the two clocks differ, and commands tell how."""
        heard, seconds = self._places
        return float(np.interp(time, heard, seconds)) if len(heard) else 1e-9 * (time - self.start)

    def setting(self, name: str, default: Any = None) -> Any:
        """A parameter as it was first, of whichever node has it."""
        return next((of[name] for of in self.parameters.values() if name in of), default)


def at(points: Points, time: Array) -> Array:
    """The values (T, k) with exactly these stamps [ns]; NaN where there are none."""
    k = points.values.shape[1] if points.values.ndim == 2 else 0
    found = np.full((len(time), k), np.nan)
    if len(points.time):
        order = np.argsort(points.time, kind="stable")
        index = np.asarray(np.searchsorted(points.time[order], time))
        index = np.where(index == len(order), 0, index)
        hit = points.time[order][index] == time
        found[hit] = points.values[order][index[hit]]
    return found


def tool_rows(states: States) -> list[int]:
    """Where the position of the first site is in x."""
    names = [n for n in states.names.state_names if n.startswith("site/") and "/position/" in n]
    site = names[0].split("/")[1] if names else ""
    return states.rows(f"site/{site}/position/") if site else []


