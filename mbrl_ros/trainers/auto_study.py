"""A schedule of MBPO learned on the swing-up of a pendulum, and tried on seeds that it has not seen.

    python3 -m mbrl_ros.trainers.auto_study                       # some hours on two cores
    python3 -m mbrl_ros.trainers.auto_study --stages 3 --runs 4 --seeds 100-101

The baseline is the mean curve of MBPO with fixed settings over the seeds 100 to 104; runs to learn from have seeds from
1000 up. Then, on each seed: the mean return over a run with the schedule, with the fixed settings, and with two other
real parts of batches. Leaves auto.json, auto.npz with the schedule and auto.png, what it chose over a run, in
runs/<time>/.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_ros.config import ConfigError, new_folder
from mbrl_ros.environments.pendulum import Pendulum
from mbrl_ros.evaluation.command import add_run_options, parse_seeds, write
from mbrl_ros.evaluation.measures import interval
from mbrl_ros.evaluation.pool import as_done
from mbrl_ros.trainers import auto, sac
from mbrl_ros.trainers.auto import Auto, Choice, Schedule
from mbrl_ros.trainers.steps import train
from mbrl_ros.types import Array

STEPS, EPISODE = 3000, 200
BASE = sac.Settings(rate=1e-3, start=400, updates=2)
OWN: dict[str, Any] = {"every": 200, "rollouts": 400, "shortest": 3, "longest": 3, "decide": 100, "steps": STEPS,
                       "scale": 1000.0}
REAL = (0.05, 0.3, 1.0)  # parts of batches that stay as they are; the first is that of the parent
BASELINE = range(100, 105)


class Job(NamedTuple):
    """One run: with the schedule of these weights, or, without any, with fixed settings."""

    seed: int
    weights: dict[str, Array] | None
    chance: float
    baseline: Sequence[float]
    real: float = REAL[0]


class Done(NamedTuple):
    """What a run left."""

    returns: list[float]  # of a test after each episode
    choices: list[Choice]
    settings: list[tuple[float, int, int]]  # real part, updates, length, after each choice


class Fixed:
    """A schedule that leaves everything as it is."""

    def choose(self, seen: Array) -> tuple[tuple[int, ...], float]:
        """See Schedule."""
        return (1, 1, 1, 1), 0.0


class Watched(Auto):
    """Notes what it is set to."""

    noted: list[tuple[float, int, int]]

    def decide(self) -> None:
        """See Auto."""
        super().decide()
        self.noted.append((self.real, self.updates, self.length))


def run(job: Job) -> Done:
    """In a process that may be its own."""
    torch.set_num_threads(1)
    schedule: Any = Fixed()
    if job.weights is not None:
        schedule = Schedule(Schedule.Config(), job.seed)
        schedule.network.load_state_dict({name: torch.as_tensor(value) for name, value in job.weights.items()})
        schedule.random = job.chance
    known = Pendulum()

    def at(step: int) -> float:
        return job.baseline[min(len(job.baseline), max(1, step // EPISODE)) - 1] if job.baseline else 0.0
    learner = Watched(known, BASE, auto.Settings(**{**OWN, "real": job.real}), schedule, at, job.seed)
    learner.noted = []
    curve = train(known, learner, job.seed, STEPS, EPISODE, EPISODE)
    learner.settle()
    return Done(curve.returns, learner.choices, learner.noted)


def weights_of(schedule: Schedule) -> dict[str, Array]:
    """Of its network, as arrays."""
    return {name: value.numpy().copy() for name, value in schedule.network.state_dict().items()}


def learned(a: argparse.Namespace, baseline: Sequence[float]) -> tuple[Schedule, list[float]]:
    """The schedule, and the mean of each stage; runs of a stage side by side."""
    def stage(schedule: Schedule, seeds: Sequence[int]) -> list[tuple[Sequence[Choice], float]]:
        jobs = [Job(seed, weights_of(schedule), schedule.random, baseline) for seed in seeds]
        played: list[tuple[Sequence[Choice], float]] = [
            (done.choices, float(np.mean(done.returns))) for _, done in as_done(run, jobs, a.jobs)]
        print(f"{seeds[0]} to {seeds[-1]}: {np.mean([score for _, score in played]):.4g}", flush=True)
        return played
    return auto.learn_schedule(stage, Schedule.Config(), a.stages, a.runs, 1)


def compared(schedule: Schedule, baseline: Sequence[float], seeds: Sequence[int],
             jobs: int) -> tuple[list[dict[str, Any]], list[list[tuple[float, int, int]]]]:
    """Rows beside the parent, and what was chosen in each run."""
    kinds = {"auto": (weights_of(schedule), REAL[0]), **{f"real_{real:g}": (None, real) for real in REAL}}
    of = [(name, Job(seed, weights, 0.0, baseline, real)) for name, (weights, real) in kinds.items() for seed in seeds]
    done = {(job.seed, name): result for (name, job), result in as_done(_named, of, jobs)}
    mean = {name: np.array([np.mean(done[seed, name].returns) for seed in seeds]) for name in kinds}
    rows = []
    for name in kinds:
        low, high = interval(mean[name] - mean["real_0.05"]) if len(seeds) > 1 else (None, None)
        rows.append({"method": name, "parent": "real_0.05", "task": "swing", "seeds": list(seeds), "steps": STEPS,
                     "return_median": float(np.median(mean[name])), "return_worst": float(mean[name].min()),
                     "parent_median": float(np.median(mean["real_0.05"])), "difference_low": low,
                     "difference_high": high, "curves": [done[seed, name].returns for seed in seeds]})
    return rows, [done[seed, "auto"].settings for seed in seeds]


def _named(job: tuple[str, Job]) -> Done:
    return run(job[1])


def plot(chosen: Sequence[Sequence[tuple[float, int, int]]]) -> Figure:
    """What it was set to over each run."""
    figure = Figure(figsize=(12.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (axes, name) in enumerate(zip(figure.subplots(1, 3), ("real part of a batch", "updates after a step",
                                                                 "steps of a rollout"), strict=True)):
        for one in chosen:
            axes.plot(BASE.start + OWN["decide"] * np.arange(len(one)), [s[i] for s in one], lw=0.8, alpha=0.6)
        axes.set(title=name, xlabel="steps of the environment")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.auto_study",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--stages", type=int, default=10, help="of learning (%(default)s)")
    p.add_argument("--runs", type=int, default=10, help="of a stage (%(default)s)")
    add_run_options(p, "0-9")
    a = p.parse_args(arguments)
    try:
        seeds, folder = parse_seeds(a.seeds), new_folder(a.output)
    except ConfigError as error:
        print(f"auto: {error}", file=sys.stderr)
        return 2
    first = [done.returns for _, done in as_done(run, [Job(seed, None, 0.0, ()) for seed in BASELINE], a.jobs)]
    baseline = np.mean(first, 0).tolist()
    schedule, scores = learned(a, baseline)
    np.savez(folder / "auto.npz", **weights_of(schedule))
    rows, chosen = compared(schedule, baseline, seeds, a.jobs)
    write(folder / "auto.json", a, rows=rows, stages=scores, baseline=baseline)
    plot(chosen).savefig(folder / "auto.png", dpi=110)
    for row in rows:
        print(f"{row['method']}: median {row['return_median']:.4g}, worst {row['return_worst']:.4g}, over the parent "
              f"{row['difference_low']} to {row['difference_high']}")
    print(f"auto.json, auto.npz and auto.png are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
