"""Every planner on the same problems, as a table: cost, success, calls of the model, milliseconds of a plan.

    python3 -m mbrl_ros.evaluation.planners [--only icem,pendulum] [--seeds 0-4] [--jobs 2]

lq            a chain of masses and springs without limits: twenty plans in a row from nothing; success is to lack at
              most one per cent of what there is to gain over no effort
pendulum, cart_pole    swing-ups (swing_up.py) with the true dynamics, replanned every step for 5 s; success is upright
              for the last half second
reach_local   reach of a robot in the ring with the dynamics that the learner fits; success is within 10 mm, load or not
reach_global  likewise with the ensemble behind it

`model_calls` of a plan count every state at which the model is asked for the next one, or for its derivative there.
`baseline_cost` is that of iLQR with the same seeds, of lq the optimum. Writes runs/<time>/planners.json and .png.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, new_folder
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import add_jobs, parse_seeds, write
from mbrl_ros.evaluation.pool import as_done
from mbrl_ros.evaluation.procedure import Run
from mbrl_ros.evaluation.swing_up import SWING_UPS
from mbrl_ros.evaluation.tables import HUES
from mbrl_ros.models.dynamics import linearize, predict_mean
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.ilqr import Lqr
from mbrl_ros.planners.plan import begin, shifted
from mbrl_ros.planners.problem import Planner, Problem
from mbrl_ros.planners.sampling import Sampling
from mbrl_ros.task.quadratic import Quadratic
from mbrl_ros.types import Gaussian, LinearGaussianDynamics, Plan, QuadraticCost

LQ, PENDULUM, CART_POLE, REACH_LOCAL, REACH_GLOBAL = PROBLEMS = (
    "lq", "pendulum", "cart_pole", "reach_local", "reach_global")
MODEL = {LQ: "true", PENDULUM: "true", CART_POLE: "true", REACH_LOCAL: "local", REACH_GLOBAL: "global"}
REFERENCE = "ilqr"
PLANS, ENOUGH = 20, 0.01  # of lq
SECONDS, UPRIGHT, HORIZON = 5.0, 0.5, 30  # [s], [s], steps of swing-ups
WITHIN = 10.0  # [mm]
EVERY = 20  # plans of which one is made again, to count the calls
# What a planner gets here beside its defaults. To swing up is to leave what is cheap nearby.
SWINGING = {"noise": 0.3, "metric": "limits", "knots": 10, "feedback": True}
ENSEMBLE = {"steps": 600, "members": 5}


class Result(NamedTuple):
    """One seed of one planner on one problem."""

    success: float  # a part
    cost: float
    model_calls: float  # of a plan
    plan_ms: list[float]


class Counted:
    """A model that counts at how many states and efforts it is asked."""

    def __init__(self, model: Any) -> None:
        linear = isinstance(model, LinearGaussianDynamics)
        self.model = LinearGaussianDynamics(*(torch.as_tensor(a) for a in (model.F, model.f, model.Sigma))
                                            ) if linear else model
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def mean(self, x: Tensor, u: Tensor) -> Tensor:
        self._count(x, u)
        return predict_mean(self.model, x, u)

    def predict(self, x: Tensor, u: Tensor) -> Gaussian:
        """Comes with a derivative, which counts once."""
        if not isinstance(self.model, LinearGaussianDynamics):
            found: Gaussian = self.model.predict(x, u)
            return found
        return Gaussian(predict_mean(self.model, x, u), self.model.Sigma)

    def jacobian(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        self._count(x, u)
        F = linearize(self.model, x, u).F
        return predict_mean(self.model, x, u), F.expand(*x.shape[:-1], *F.shape[-2:])

    def w(self, x: Tensor, u: Tensor) -> Tensor:
        """By which members are asked."""
        self._count(x, u)
        found: Any = self.model
        w: Tensor = found.w(x, u)
        return w

    def _count(self, x: Tensor, u: Tensor) -> None:
        self.calls += int(np.prod(torch.broadcast_shapes(x.shape[:-1], u.shape[:-1])))


class Watched:
    """A planner whose time is taken, and whose every so manieth plan is made again with a model that counts."""

    def __init__(self, planner: Planner) -> None:
        self.planner, self.ms, self.calls = planner, list[float](), list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.planner, name)

    def plan(self, problem: Problem, previous: Plan | None) -> Plan:
        began = time.perf_counter()
        plan = self.planner.plan(problem, previous)
        self.ms.append(1e3 * (time.perf_counter() - began))
        if len(self.ms) % EVERY == 2:  # not the first, which has no warm start
            counted = Counted(problem.model)
            self.planner.plan(replace(problem, model=counted), previous)
            self.calls.append(counted.calls)
        return plan

    def result(self, success: float, cost: float) -> Result:
        return Result(success, cost, float(np.mean(self.calls)) if self.calls else np.nan, self.ms)


def measure(name: str, problem: str, seed: int, robot: str) -> Result:
    """One seed. Raises ConfigError for a planner that the problem does not suit."""
    torch.set_num_threads(1)
    if problem in (REACH_LOCAL, REACH_GLOBAL):
        return _reach(name, problem, seed, robot)
    return simulated(name, problem, seed)


def _tried(task: tuple[str, str, int, str]) -> Result | str:
    """`measure`, or why not."""
    try:
        return measure(*task)
    except ConfigError as error:
        return str(error)


def chain(seed: int, masses: int = 4, T: int = 20) -> Problem:
    """Masses on a line with springs between, a force on each: from a random start to rest, without limits."""
    n, h = 2 * masses, 0.1
    generator = torch.Generator().manual_seed(seed)
    springs = 4.0 * (2 * torch.eye(masses) - torch.eye(masses).roll(1, 0).tril() - torch.eye(masses).roll(-1, 0).triu())
    A, B = torch.eye(n).double(), torch.zeros(n, masses).double()
    A[masses:, :masses], A[masses:, masses:] = -h * springs, (1 - 0.1 * h) * torch.eye(masses)
    B[masses:] = h * torch.eye(masses)
    A[:masses], B[:masses] = A[:masses] + h * A[masses:], h * B[masses:]
    C = torch.diag(torch.tensor([1.0] * masses + [0.1] * masses + [0.1] * masses)).double().repeat(T + 1, 1, 1)
    C[-1, :n, :n] = 10.0 * torch.eye(n)
    cost = Quadratic(QuadraticCost(C, C.new_zeros(T + 1, n + masses), C.new_zeros(T + 1)))
    free = torch.full((T, masses), torch.inf).double()
    model = LinearGaussianDynamics(torch.cat([A, B], -1), A.new_zeros(n), A.new_zeros(n, n))
    return Problem(torch.randn(n, generator=generator, dtype=torch.float64), model, cost, -free, free, seed)


def optimum(problem: Problem) -> float:
    """Of an LQ problem."""
    return Lqr(Lqr.Config(horizon=len(problem.lower))).plan(problem, None).cost


def made(name: str, problem: str, horizon: int, settings: Mapping[str, Any]) -> Watched:
    """The planner for a problem that is no robot's."""
    kind = PLANNERS[name]
    more = SWINGING if problem != LQ and issubclass(kind, Sampling) else {}
    return Watched(kind(kind.Config(horizon=horizon, **{**more, **settings})))


def simulated(name: str, problem: str, seed: int, settings: Mapping[str, Any] | None = None) -> Result:
    """One seed of a problem that is no robot's, with these settings of the planner."""
    return _lq(name, seed, settings or {}) if problem == LQ else _swing(name, problem, seed, settings or {})


def _lq(name: str, seed: int, settings: Mapping[str, Any]) -> Result:
    problem, plan = chain(seed), None
    planner = made(name, LQ, len(problem.lower), settings)
    for i in range(PLANS):
        plan = planner.plan(replace(problem, seed=PLANS * seed + i), plan)
    assert plan is not None
    best, nothing = optimum(problem), float(begin(problem, torch.zeros_like(problem.lower))[1])
    return planner.result(float(plan.cost - best <= ENOUGH * (nothing - best)), plan.cost)


def _swing(name: str, problem: str, seed: int, settings: Mapping[str, Any]) -> Result:
    """The cost is what was paid, by the running weights, while it was replanned at every step."""
    swing, planner = SWING_UPS[problem], made(name, problem, HORIZON, settings)
    plan: Plan | None = None
    first, period, total = swing.problem(seed, HORIZON), swing.model.period, 0.0
    steps = round(SECONDS / period)
    x, up = first.x0, []
    running, none = swing.cost(1), torch.zeros(1, len(x), dtype=torch.float64)
    for i in range(steps):
        warm = None if plan is None else shifted(plan)
        plan = planner.plan(replace(first, x0=x, seed=steps * seed + i), warm)
        u = plan.efforts[0]
        total += float(running.evaluate(torch.cat([x[None], none]), u[None]))
        x = predict_mean(swing.model, x, u)
        up.append(bool(swing.upright(x)))
    return planner.result(float(all(up[-round(UPRIGHT / period):])), total)


def _reach(name: str, problem: str, seed: int, robot: str) -> Result:
    targets = 6 if problem == REACH_LOCAL else 2
    more = {"controller": {"model": MODEL[problem]}, "ensemble": ENSEMBLE}
    settings = assembly.settings(Names(robot, planner=name, prior="ensemble"), more)
    config = measures.Config(targets=targets, data_seconds=10.0, seconds_per_target=2.0, seed=seed)
    run = Run(settings, config, seed)
    planner = run.controller.mpc.planner = Watched(run.controller.mpc.planner)
    results = run.results()
    return planner.result(float(np.mean([r.worst_mm <= WITHIN for r in results])),
                          float(np.mean([r.cost for r in results])))


def row(name: str, problem: str, results: Mapping[int, Result | str]) -> dict[str, Any]:
    """Of all seeds; `refused` says why there is none."""
    good = [r for r in results.values() if not isinstance(r, str)]
    refused = next((r for r in results.values() if isinstance(r, str)), "")
    figures: dict[str, float | None] = {"success": None, "cost": None, "model_calls": None, "plan_ms_p50": None}
    if good:
        figures = {"success": float(np.mean([r.success for r in good])), "cost": float(np.mean([r.cost for r in good])),
                   "model_calls": float(np.nanmean([r.model_calls for r in good])),
                   "plan_ms_p50": float(np.median(np.concatenate([r.plan_ms for r in good])))}
    return {"planner": name, "problem": problem, "model": MODEL[problem], "seeds": sorted(results), **figures,
            "baseline_cost": None, "refused": refused}


def with_baseline(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, each with what its cost is to be compared with."""
    cost = {r["problem"]: r["cost"] for r in rows if r["planner"] == REFERENCE}
    of_lq = lambda r: float(np.mean([optimum(chain(seed)) for seed in r["seeds"]]))  # noqa: E731
    return [{**r, "baseline_cost": of_lq(r) if r["problem"] == LQ else cost.get(r["problem"])} for r in rows]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| problem | planner | success | cost | of the baseline | model calls | plan |",
             "|---|---|---|---|---|---|---|"]
    for r in rows:
        if r["success"] is None:
            lines.append(f"| {r['problem']} | {r['planner']} | {r['refused']} |||||")
            continue
        part = f"{r['cost'] / r['baseline_cost']:.3g}" if r["baseline_cost"] else "-"
        lines.append(f"| {r['problem']} | {r['planner']} | {100 * r['success']:.0f} % | {r['cost']:.4g} | {part} | "
                     f"{r['model_calls']:.0f} | {r['plan_ms_p50']:.2f} ms |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Success, cost over that of the baseline, and milliseconds of every planner, a column for each problem."""
    problems, names = ([key for key in of if any(r[kind] == key for r in rows)]
                       for of, kind in ((PROBLEMS, "problem"), (tuple(PLANNERS), "planner")))
    figure = Figure(figsize=(2.6 + 2.4 * len(problems), 2.0 + 0.9 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, len(problems), sharey=True, squeeze=False)
    for j, problem in enumerate(problems):
        of = {r["planner"]: r for r in rows if r["problem"] == problem and r["success"] is not None}
        bars = {"success [%]": lambda r: 100 * r["success"], "plan [ms]": lambda r: r["plan_ms_p50"],
                "cost / baseline": lambda r: r["cost"] / r["baseline_cost"] if r["baseline_cost"] else np.nan}
        for axes, (label, figure_of) in zip(panels[:, j], bars.items(), strict=True):
            values = [figure_of(of[name]) if name in of else np.nan for name in names]
            axes.barh(range(len(names)), values, color=[HUES[i % len(HUES)] for i in range(len(names))])
            axes.set(xlabel=label, yticks=range(len(names)), yticklabels=names)
            if label == "success [%]":
                axes.set(title=problem, xlim=(0, 100))
            elif np.isfinite(values).any() and np.nanmax(values) > 10 * np.nanmin(values) > 0:
                axes.set_xscale("log")
            axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].invert_yaxis()
    return figure


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.planners",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default="", help="planners and problems, with commas between; of either kind none: all")
    p.add_argument("--seeds", default="0-4")
    p.add_argument("--global-seeds", default="0-1", help="of reach_global, where a plan takes long")
    p.add_argument("--robot", default="planar2", help="that reaches")
    add_jobs(p)
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(arguments: list[str] | None = None) -> int:
    a = parser().parse_args(arguments)
    try:
        names, problems = chosen(a.only)
        seeds = {problem: parse_seeds(a.global_seeds if problem == REACH_GLOBAL else a.seeds)
                 for problem in problems}
        folder = new_folder(a.output)
        rows = with_baseline(list(_rows(names, seeds, a.robot, a.jobs)))
    except ConfigError as error:
        print(f"planners: {error}", file=sys.stderr)
        return 2
    write(folder / "planners.json", a, rows=rows)
    draw(rows).savefig(folder / "planners.png", dpi=110)
    print(markdown(rows))
    print(f"written to {folder}")
    return 0


def chosen(only: str) -> tuple[list[str], list[str]]:
    """Planners and problems. Raises ConfigError for a name of neither."""
    words = [word for word in only.split(",") if word]
    unknown = [word for word in words if word not in (*PLANNERS, *PROBLEMS)]
    if unknown:
        raise ConfigError(f"--only: unknown {unknown[0]!r}; choose some of {', '.join((*PLANNERS, *PROBLEMS))}")
    return ([name for name in PLANNERS if name in words] or list(PLANNERS),
            [problem for problem in PROBLEMS if problem in words] or list(PROBLEMS))


def _rows(names: list[str], seeds: Mapping[str, list[int]], robot: str, jobs: int) -> Iterator[dict[str, Any]]:
    """One for each problem and planner, in order; prints a line as each seed ends."""
    results: dict[tuple[str, str], dict[int, Result | str]] = {(p, n): {} for p in seeds for n in names}
    began = time.perf_counter()
    tasks = [(name, problem, seed, robot)  # the longest first
             for problem in reversed(list(seeds)) for name in names for seed in seeds[problem]]
    for done, ((name, problem, seed, _), result) in enumerate(as_done(_tried, tasks, jobs), 1):
        results[problem, name][seed] = result
        said = result if isinstance(result, str) else f"success {result.success:.2f}  cost {result.cost:.4g}"
        print(f"{done}/{len(tasks)}  {time.perf_counter() - began:5.0f} s  {problem} {name} seed {seed}: {said}",
              flush=True)
    for (problem, name), of in results.items():
        yield row(name, problem, of)


if __name__ == "__main__":
    raise SystemExit(main())
