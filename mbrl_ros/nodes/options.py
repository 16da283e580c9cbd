"""Parameters of the nodes themselves, beside those of the parts they run."""
from __future__ import annotations

from dataclasses import dataclass

from mbrl_ros.config import ConfigError, param

EXECUTORS = ("auto", "single", "events")


@dataclass(frozen=True)
class Process:
    """Parameters `process.*` of every node: how its process runs."""

    executor: str = param("auto", "single: rclpy's single-threaded executor; events: its experimental one, at half the "
                          "CPU; auto: events, but single for the guard, with use_sim_time, and where there is no other",
                          choices=EXECUTORS)
    priority: int = param(0, "Real-time priority (SCHED_FIFO), where the system permits it: other work then delays no "
                          "tick; 0: none", 0, 99)
    parent: int = param(0, "Id of the process without which this one ends; 0: none", 0)


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
    base_frame: str = param("base", "Name of the frame of targets; an empty frame in a message means the same")


@dataclass(frozen=True)
class Guard:
    """Parameters `guard.*` that only the node has."""

    patience: int = param(20, "Lock-step: how often the plant repeats a state, every plant.timeout, before the "
                          "controller counts as silent", 1, 10**6)


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
class Logger:
    """Parameters `logger.*`."""

    folder: str = param("runs/recording", "Where the recording is written; where there is one already, which a logger "
                        "that was killed left perhaps, beside it with a number")
    plan: bool = param(False, "Record plans too, which makes the controller send them")
