"""PETS over trials: how soon tasks are solved, what probabilistic members and ensembles are for, and are bands right.

    python3 -m mbrl_ros.trainers.study --only cartpole,arm --seeds 0-4
    python3 -m mbrl_ros.trainers.study --only ablation --trials 3

`cartpole` and `arm` go on until a trial is solved: the mean distance over its last 50 steps is at most 100 mm of the
tip of the pole, 20 mm of the tool. `ablation` has five trials on the cart-pole, one member or five (d, p, de, pe) with
the mean, members (TS-inf) or other members at every step (TS-1). Bands are those of 95 % over 100 particles ten steps
ahead, held against the next trial. Leaves pets.json and pets.png in runs/<time>/, the first anew after every run.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, new_folder
from mbrl_ros.environments.cartpole import CartPole
from mbrl_ros.environments.environment import Environment, Episode, episode
from mbrl_ros.environments.ring import RingEnvironment
from mbrl_ros.evaluation.command import add_run_options, chosen, parse_seeds, write_rows
from mbrl_ros.evaluation.pool import alike, told
from mbrl_ros.evaluation.tables import HUES
from mbrl_ros.gaussian import Z95
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble
from mbrl_ros.models.rollout import MEAN, MEMBER, RESAMPLE, follow, stepper
from mbrl_ros.trainers.compared import between, difference
from mbrl_ros.trainers.pets import Agent, Settings
from mbrl_ros.types import Array

LAST = 50  # steps at the end of a trial in which it is to be there
AHEAD, EVERY, WORLDS = 10, 10, 20  # steps of a prediction, from one to the next, particles of a member
TRIALS = 1000  # seeds of trials from one run to the next

Row = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """An environment by seed, how far a state is from the goal [m], and what counts as solved."""

    make: Callable[[int], Environment]
    distance: Callable[[Environment, Array], Array]
    bound: float  # [m]
    trials: int
    steps: int
    pets: Settings


def _arm(seed: int) -> Environment:
    return RingEnvironment(assembly.settings(Names("arm"), {"plant": {"pace": "lockstep"}}), seed)


def tip_distance(environment: Environment, x: Array) -> Array:
    assert isinstance(environment, CartPole)
    return environment.distance(torch.as_tensor(x)).numpy()


def tool_distance(environment: Environment, x: Array) -> Array:
    distance: Array = np.linalg.norm(x[..., -3:], axis=-1)
    return distance


PROBLEMS = {"cartpole": Problem(lambda _: CartPole(), tip_distance, 0.1, 10, 200,
                                Settings(horizon=25, knots=8, noise=0.5)),
            "arm": Problem(_arm, tool_distance, 0.02, 15, 150, Settings())}
ABLATION = 5  # trials of it
MODELS = {name: ProbabilisticEnsemble.Config(members=5 if "e" in name else 1, deterministic="d" in name,
                                             bootstrap="e" in name)
          for name in ("d", "p", "de", "pe")}
PLAIN = ("d", MEAN)
STYLES = {MEAN: "-.", RESAMPLE: "--", MEMBER: "-"}
WAYS = {"d": (MEAN,), "p": (MEAN, MEMBER), "de": (MEAN, RESAMPLE, MEMBER), "pe": (MEAN, RESAMPLE, MEMBER)}


class Job(NamedTuple):
    """One run of trials."""

    problem: str
    model: str
    follow: str
    seed: int
    trials: int
    until_solved: bool


@dataclass
class Trials:
    """What became of them."""

    returns: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)  # [m], mean over the last steps
    inside: list[float] = field(default_factory=list)  # part within the bands, from the second trial on
    plan_ms: float = 0.0
    seconds: float = 0.0


def run(job: Job) -> Trials:
    """The trials of one job, in a process that may be its own."""
    torch.set_num_threads(1)
    problem, began, result = PROBLEMS[job.problem], time.monotonic(), Trials()
    environment = problem.make(job.seed)
    agent = Agent(environment, replace(problem.pets, follow=job.follow), MODELS[job.model], job.seed)
    spent: list[float] = []

    def act(x: Array) -> Array:
        at = time.perf_counter()
        a = agent.act(x)
        spent.append(1e3 * (time.perf_counter() - at))
        return a
    for trial in range(job.trials):
        agent.begin()
        e = episode(environment, act, TRIALS * job.seed + trial, problem.steps)
        away = problem.distance(environment, e.x[1:])
        ended = e.terminated and len(e.a) < problem.steps
        result.returns.append(float(e.reward.sum()))
        result.distance.append(float("inf") if ended else float(away[-LAST:].mean()))
        if agent.regression is not None:
            result.inside.append(coverage(environment, agent.regression, e, job.seed))
            result.plan_ms = float(np.median(spent))
        if job.until_solved and result.distance[-1] <= problem.bound:
            break
        agent.learn(environment.data(e.x[:-1], e.a, e.x[1:]))
        spent.clear()
    result.seconds = time.monotonic() - began
    return result


@torch.no_grad()
def coverage(environment: Environment, regression: ProbabilisticEnsemble, e: Episode, seed: int) -> float:
    """Which part of the learned coordinates, ten steps ahead, is within the 95 % bands of particles that follow
    members; NaN for an episode that is too short."""
    a = torch.as_tensor(environment.acted(e.x[1:], e.a))
    z = environment.inner(torch.as_tensor(e.x))
    starts = range(0, len(a) - AHEAD + 1, EVERY)
    if not starts:
        return float("nan")
    u, P = torch.stack([a[i : i + AHEAD] for i in starts]), WORLDS * regression.count
    step = stepper(environment.model(regression), MEMBER, seed)
    z_end = follow(step, z[list(starts)].expand(P, -1, -1), u)[..., -1, :]
    true = z[[i + AHEAD for i in starts]]
    inside = (true - z_end.mean(0)).abs() <= Z95 * z_end.std(0)
    return float(inside[:, environment.learned].double().mean())


def summary(job: Job, seeds: Sequence[int], runs: Sequence[Trials]) -> Row:
    """The row of one method on one problem."""
    problem = PROBLEMS[job.problem]
    solved = [next((i + 1 for i, d in enumerate(r.distance) if d <= problem.bound), None) for r in runs]
    bands = [value for r in runs for value in r.inside if np.isfinite(value)]
    return {"method": "pets", "problem": job.problem, "model": job.model, "follow": job.follow, "seeds": list(seeds),
            "until_solved": job.until_solved, "trials": job.trials,
            "success": float(np.mean([s is not None for s in solved])), "trials_to_success": solved,
            "cost": float(np.mean([-r.returns[-1] for r in runs])), "returns": [r.returns for r in runs],
            "distance_mm": [[1e3 * d for d in r.distance] for r in runs],
            "bands": float(np.mean(bands)) if bands else None, "bands_by_trial": [r.inside for r in runs],
            "plan_ms_p50": float(np.median([r.plan_ms for r in runs])), "seconds": sum(r.seconds for r in runs)}


def paired(rows: Sequence[Row]) -> list[Row]:
    """The same, those of the ablation with the interval (95 %) of what the last trial cost less what it cost with one
    model without noise, over the seeds of both; None where that did not run."""
    last = [{} if r["until_solved"] else {s: -of[-1] for s, of in zip(r["seeds"], r["returns"], strict=True)}
            for r in rows]
    plain = next((of for r, of in zip(rows, last, strict=True) if of and (r["model"], r["follow"]) == PLAIN), {})
    return [{**r, **difference("difference", of, plain)} for r, of in zip(rows, last, strict=True)]


def table(rows: Sequence[Row]) -> str:
    """In columns of Markdown."""
    lines = ["| problem | model | follow | seeds | solved | in trials | cost of the last | less that of d, 95 % "
             "| in bands | plan ms |", "|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        trials = ", ".join("-" if s is None else str(s) for s in r["trials_to_success"])
        bands = "" if r["bands"] is None else f"{r['bands']:.0%}"
        lines.append(f"| {r['problem']} | {r['model']} | {r['follow']} | {len(r['seeds'])} | {r['success']:.0%} | "
                     f"{trials} | {r['cost']:.1f} | {between(r, 'difference')} | {bands} | {r['plan_ms_p50']:.0f} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> Figure:
    """Distance to the goal over trials, a line for each method, thin ones for its seeds."""
    panels = list(dict.fromkeys((r["problem"], r["until_solved"]) for r in rows))
    figure = Figure(figsize=(5.0 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for r in (r for r in rows if (r["problem"], r["until_solved"]) == panel):
            longest = max(len(d) for d in r["distance_mm"])
            curves = np.array([d + [d[-1]] * (longest - len(d)) for d in r["distance_mm"]])  # solved, and left at that
            curves[~np.isfinite(curves)] = np.nan
            trials, color = np.arange(1, longest + 1), HUES[1 + list(MODELS).index(r["model"])]
            axes.plot(trials, curves.T, color=color, lw=0.5, alpha=0.5)
            middle = [np.nanmedian(of) if np.isfinite(of).any() else np.nan for of in curves.T]
            axes.plot(trials, middle, STYLES[r["follow"]], color=color, lw=1.8, marker="o", ms=3,
                      label=f"{r['model']}, {r['follow']}")
        axes.axhline(1e3 * PROBLEMS[panel[0]].bound, color="0.6", lw=0.8)
        axes.set(title=panel[0] if panel[1] else f"{panel[0]}, ablation", xlabel="trial", yscale="log",
                 ylabel="mean distance in the last 50 steps [mm]")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize="x-small", frameon=False)
    return figure


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for. Raises ConfigError that names what there is."""
    seeds, jobs = parse_seeds(a.seeds), []
    for name in chosen("--only", a.only, [*PROBLEMS, "ablation"]):
        if name in PROBLEMS:
            jobs += [Job(name, "pe", MEMBER, seed, a.trials or PROBLEMS[name].trials, True) for seed in seeds]
            continue
        models, ways = chosen("--models", a.models, MODELS), chosen("--follow", a.follow, WAYS["pe"])
        jobs += [Job("cartpole", model, way, seed, a.trials or ABLATION, False)
                 for seed in seeds for model in models for way in WAYS[model] if way in ways]
    return jobs


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.study",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default="cartpole,arm,ablation", help="what to run (%(default)s)")
    p.add_argument("--models", default=",".join(MODELS), help="of the ablation (%(default)s)")
    p.add_argument("--follow", default=",".join(WAYS["pe"]), help="ways of the ablation (%(default)s)")
    p.add_argument("--trials", type=int, default=0, help="at most; 0: 10 on the cart-pole, 15 on the arm, 5 to ablate")
    add_run_options(p, "0-4")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        jobs, folder = jobs_of(a), new_folder(a.output)
    except ConfigError as error:
        print(f"pets: {error}", file=sys.stderr)
        return 2
    for done in told(run, jobs, a.jobs, lambda found: f"{' '.join(f'{1e3 * d:.0f}' for d in found.distance)} mm"):
        rows = paired([summary(group[0], [j.seed for j in group], [done[j] for j in group])
                       for group in alike(jobs, done)])
        write_rows(folder / "pets.json", rows)
    plot(rows).savefig(folder / "pets.png", dpi=110)
    print(table(rows))
    print(f"pets.json and pets.png are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
