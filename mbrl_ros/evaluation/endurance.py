"""Whether anything drifts, winds up, grows or is forgotten in ten minutes of moving, and of standing still.

    python3 -m mbrl_ros.evaluation.endurance --robot arm --prior ensemble --seed 100 --minutes 10

Three runs of the plain loop, each after an excitation and a fit: `moving` reaches target after target; `standing` stays
at one target under model-predictive control, `holding` in the posture control that needs no model. Before and after
standing or holding the same targets are reached: what the learner forgot meanwhile shows there. Two columns compare the
first minute with the last; it ends with exit code 1 where the controller faulted.
"""
from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import Run, Stopped, excited
from mbrl_ros.models.dynamics import DynamicsModel
from mbrl_ros.ring.controller import HOLD, REACH
from mbrl_ros.ring.learner import OnlineLearner
from mbrl_ros.types import Array, LinearGaussianDynamics, StateEstimate

Settings = Mapping[str, Any]
Row = tuple[str, float, float]  # name, at the beginning, at the end
MOVING, STANDING, HOLDING = WAYS = ("moving", "standing", "holding")
COMPARED = 10  # targets reached before and after standing still
PART = 60.0  # [s] that are compared; half of the time, where that is less


class Tick(NamedTuple):
    """What is kept of one control period."""

    error: float  # [mm] of the true tool, to where it should be
    effort: Array  # (m,), over the limit
    speed: float  # of the fastest joint [rad/s or m/s]
    surprise: float  # squared Mahalanobis error of the last prediction, over its dimension
    fit_ms: float  # of the learner
    plan_ms: float  # of the controller


class Watch:
    """In place of learner and controller of a ring: has them answer, and keeps a Tick of every period."""

    def __init__(self, run: Run):
        self.run = run
        self.ticks: list[Tick] = []
        self.target = run.plant.true_tool()  # (3,) [m]
        self._fit_ms = 0.0
        run.ring.learner = run.ring.controller = self

    def update(self, state: StateEstimate) -> LinearGaussianDynamics:
        """Of the learner."""
        began = time.perf_counter()
        dynamics = self.run.learner.update(state)
        self._fit_ms = 1e3 * (time.perf_counter() - began)
        return dynamics

    @property
    def model_trust(self) -> float:
        """Of the learner."""
        return self.run.learner.model_trust

    @property
    def model(self) -> DynamicsModel | None:
        """Of the learner."""
        return self.run.learner.model

    def act(self, state: StateEstimate, dynamics: LinearGaussianDynamics, trust: float,
            model: DynamicsModel | None) -> Array | None:
        """Of the controller."""
        run, began = self.run, time.perf_counter()
        learner = run.learner
        assert isinstance(learner, OnlineLearner)  # of `excited`
        effort = run.controller.act(state, dynamics, trust, model)
        plan_ms, away = 1e3 * (time.perf_counter() - began), run.plant.true_tool() - self.target
        self.ticks.append(Tick(1e3 * float(np.linalg.norm(away)), effort / run.robot.effort_limit,
                               float(np.abs(run.plant.true_state()[1]).max()), learner.prediction_error,
                               self._fit_ms, plan_ms))
        return effort

    def reach(self, targets: list[Array], seconds: float) -> list[Tick]:
        """Targets, each for so long; the settled ticks."""
        settled = []
        for self.target in targets:
            self.run.controller.set_target(self.target)
            self.run.let(REACH, seconds)
            settled += self.ticks[-round(measures.SETTLED / self.run.robot.period):]
        return settled

    def stay(self, mode: str, seconds: float) -> list[Tick]:
        """Where it is, or should be."""
        begin = len(self.ticks)
        if mode == HOLD:
            self.target = self.run.plant.true_tool()
        self.run.let(mode, seconds)
        return self.ticks[begin:]


def endure(way: str, settings: Settings, data_seconds: float, minutes: float, seed: int) -> list[Row]:
    """One run. Raises Stopped where the controller faults."""
    run, data = excited(settings, data_seconds, seed)
    run.fit_to(data)
    run.hold()
    watch, period = Watch(run), run.robot.period
    config = measures.config_of(settings, {"seed": seed})
    each, part = config.seconds_per_target, min(PART, 30.0 * minutes)
    count = round(60 * minutes / each) if way == MOVING else COMPARED
    targets = measures.draw_targets(run.robot, replace(config, targets=count))
    memory = [memory_of(run)]
    rest = watch.reach(targets, each)
    rows: list[Row] = []
    if way == MOVING:
        passed, share = watch.ticks, measures.SETTLED / each
    else:
        passed = watch.stay(REACH if way == STANDING else HOLD, 60 * minutes)
        again = watch.reach(targets, each)
        for kind, figure in (("median", np.median), ("worst", np.max)):
            before, after = (float(figure([t.error for t in ticks])) for ticks in (rest, again))
            rows.append((f"{kind} error of {count} targets, before and after [mm]", before, after))
        rest, share = passed, 1.0
    memory.append(memory_of(run))
    whole, still = round(part / period), round(part * share / period)
    rows += compare(passed[:whole], passed[-whole:], rest[:still], rest[-still:])
    names = ("learner [MiB]", "process, this record included [MiB]")
    return rows + [(name, *ends) for name, ends in zip(names, zip(*memory, strict=True), strict=True)]


def compare(first: list[Tick], last: list[Tick], first_rest: list[Tick], last_rest: list[Tick]) -> list[Row]:
    """Figures of two stretches, and of the parts of them in which the arm should be at rest."""
    def row(name: str, figure: Callable[[Any], Any], of: str, ends: tuple[list[Tick], list[Tick]]) -> Row:
        a, b = (float(figure(np.array([getattr(t, of) for t in ticks]))) for ticks in ends)
        return name, a, b

    whole, rest = (first, last), (first_rest, last_rest)
    mean = np.mean([t.effort for t in first_rest], 0)
    return [
        row("median error at rest [mm]", np.median, "error", rest),
        row("worst error at rest [mm]", np.max, "error", rest),
        row("speed of the fastest joint at rest, median [rad/s]", np.median, "speed", rest),
        row("mean effort at rest, of the joint with most [% of limit]", lambda e: 100 * abs(e.mean(0)).max(), "effort",
            rest),
        row("... away from its beginning", lambda e: 100 * abs(e.mean(0) - mean).max(), "effort", rest),
        row("deviation of effort at rest, of the joint with most [% of limit]", lambda e: 100 * e.std(0).max(),
            "effort", rest),
        row("squared error of prediction, over its covariance", np.mean, "surprise", whole),
        row("fit, median [ms]", np.median, "fit_ms", whole),
        row("plan, median [ms]", np.median, "plan_ms", whole),
    ]


def memory_of(run: Run) -> tuple[float, float]:
    """Of what the learner keeps, its prior aside, and of the process [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    kept = {name: value for name, value in vars(run.learner).items() if name not in ("robot", "prior")}
    return size_of(kept) / 2**20, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def size_of(value: Any) -> int:
    """Bytes of the numbers in arrays, containers and records."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(size_of(v) for v in value.values())
    if isinstance(value, (list, tuple, deque)):
        return sum(size_of(v) for v in value)
    if dataclasses.is_dataclass(value):
        return size_of(vars(value))
    return 8 if isinstance(value, (int, float)) else 0


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.endurance",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--prior", default="ensemble")
    p.add_argument("--ways", default=",".join(WAYS), help="which, with commas between (%(default)s)")
    p.add_argument("--seed", type=int, default=100)
    p.add_argument("--minutes", type=float, default=10.0)
    p.add_argument("--data-seconds", type=float, default=30.0)
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{learner: {forgetting_time: 0.2}}'")
    a = p.parse_args(arguments)
    torch.set_num_threads(1)
    stopped = False
    try:
        if not set(ways := a.ways.split(",")) <= set(WAYS) or a.minutes < 0.1:
            raise ConfigError(f"expected --ways from {', '.join(WAYS)}, and --minutes from 0.1 up")
        settings = assembly.settings(Names(robot=a.robot, prior=a.prior), parse_overrides(a.set))
        for way in ways:
            print(f"\n| {a.minutes:g} minutes {way}, seed {a.seed} | beginning | end |\n|---|---|---|", flush=True)
            try:
                for name, first, last in endure(way, settings, a.data_seconds, a.minutes, a.seed):
                    print(f"| {name} | {first:.3g} | {last:.3g} |", flush=True)
            except Stopped as reason:
                stopped = True
                print(f"| the ring stopped | {reason} | |", flush=True)
    except ConfigError as error:
        print(f"evaluate_endurance: {error}", file=sys.stderr)
        return 2
    return int(stopped)


if __name__ == "__main__":
    raise SystemExit(main())
