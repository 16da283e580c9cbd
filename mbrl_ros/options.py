"""Parameters of the nodes themselves, beside those of the parts they run. The same files hold both."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbrl_ros.config import ConfigError, from_mapping, param, section

EXECUTORS = ("auto", "single", "events")


@dataclass(frozen=True)
class Process:
    """Parameters `process.*` of every node: how its process runs."""

    executor: str = param("auto", "single: rclpy's single-threaded executor; events: its experimental one, at half the "
                          "CPU; auto: events, but single for the guard, with use_sim_time, and where there is no other",
                          choices=EXECUTORS)
    priority: int = param(0, "Real-time priority (SCHED_FIFO), where the system permits it: other work then delays no "
                          "tick; 0: none", 0, 99)


@dataclass(frozen=True)
class Plant:
    """Parameters `plant.*` that only the node has."""

    hold_after: int = param(-1, "Lock-step: hold the state back after this many more periods, counted from when "
                            "this is set; -1: never. plant/run goes on without limit", -1, 10**9, live=True)


@dataclass(frozen=True)
class Estimator:
    """Parameters `estimator.*` that only the node has."""

    max_age: float = param(0.0, "Drop measurements whose stamp is further than this from now [s]; 0: say so "
                           "once and go on, as for a robot on another clock. Does not act in lock-step", 0.0, 3600.0)


@dataclass(frozen=True)
class Learner:
    """Parameters `learner.*` that only the node has."""

    folder: str = param("", "Where fitted models are written; empty: a temporary folder")
    resume: str = param("", "Folder version_N of an earlier fit to start with; empty: none")


@dataclass(frozen=True)
class Controller:
    """Parameters `controller.*` that only the node has."""

    watchdog: float = param(0.2, "Zero effort and a fault when no new state came for this long [s]; 0: never. Does not "
                            "act in lock-step, where time stands still between commands", 0.0, 10.0)
    require_model: bool = param(True, "Refuse to reach before a model has been fitted")
    lifecycle: str = param("active", "State into which the node brings itself; unconfigured: somebody else does, by "
                           "controller/change_state", choices=("unconfigured", "inactive", "active"))


@dataclass(frozen=True)
class Guard:
    """Parameters `guard.*` that only the node has."""

    patience: int = param(20, "Lock-step: how often the plant repeats a state, every plant.timeout, before the "
                          "controller counts as silent", 1, 10**6)
    spare: bool = param(False, "In real time: a second guard, the node spare, stands by on this machine and goes on in "
                        "hold where this one ends or is stopped")
    silence: float = param(0.0, "For how long a guard may do nothing until the one that stands by ends it and goes on "
                           "[s]; 0: ten control periods. One that is stopped is ended after one", 0.0, 60.0)


@dataclass(frozen=True)
class Task:
    """Parameters `task.*` beside those of the terms and the path."""

    terms: tuple[str, ...] = param((), "Names of the terms of the cost")
    target: tuple[float, ...] = param((), "Where the tool shall go, in the base frame [m]: x, y, z; empty: where it is",
                                      live=True)

    def __post_init__(self) -> None:
        if len(self.target) not in (0, 3):
            raise ConfigError(f"target: expected 3 coordinates [m], got {len(self.target)}")


@dataclass(frozen=True)
class Dashboard:
    """Parameters `dashboard.*`."""

    port: int = param(8080, "Of the page, http://127.0.0.1:PORT, which only this machine sees; a busy one is an error",
                      1024, 65535)
    rate: float = param(30.0, "Of the frames [Hz]", 1.0, 60.0)


@dataclass(frozen=True)
class Display:
    """Parameters `display.*`."""

    rate: float = param(15.0, "At most so often is a plan drawn [Hz]", 0.1, 100.0)
    magnify: float = param(10.0, "How many times as wide the tube is drawn: it is some millimetres", 0.1, 1000.0,
                           live=True)


@dataclass(frozen=True)
class Logger:
    """Parameters `logger.*`."""

    folder: str = param("runs/recording", "Where the recording is written; where there is one already, which a logger "
                        "that was killed left perhaps, beside it with a number")
    plan: bool = param(True, "Record plans too, which makes the controller send them")
    belief: bool = param(False, "Likewise controller/belief, so that the layouts for Foxglove and PlotJuggler draw a "
                         "recording as they draw a ring")
    every: int = param(50, "Of local_dynamics and plan, record one in so many, and those after anything has changed; "
                       "1: all. What is left out is worked out anew from the states (replay)", 1, 10**6)


OPTIONS: dict[str, Any] = {
    "process": Process, "plant": Plant, "estimator": Estimator, "learner": Learner, "controller": Controller,
    "guard": Guard, "logger": Logger, "dashboard": Dashboard, "display": Display}


def split(values: Mapping[str, Any], own: Any, prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a group without those of the dataclass `own`, and these, which are checked."""
    names = {f.name for f in dataclasses.fields(own)}
    nodes = {key: value for key, value in values.items() if key in names}
    from_mapping(own, nodes, prefix)
    return {key: value for key, value in values.items() if key not in names}, nodes


def without(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that only nodes read. Raises ConfigError for a bad value among these."""
    return {prefix: split(section(settings, prefix), OPTIONS[prefix], prefix)[0] if prefix in OPTIONS else values
            for prefix, values in settings.items()}
