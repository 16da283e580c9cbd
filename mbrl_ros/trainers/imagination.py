"""Learning in imagination: every method beside the one that it comes from, over seeds, on every task that it is for.

    python3 -m mbrl_ros.trainers.imagination --only maze,pendulum
    python3 -m mbrl_ros.trainers.imagination --only pendulum --methods q_learning,dyna_5 --seeds 100-102

Leaves dyna.json and dyna.png in runs/<time>/, the first anew after every run. Seeds to tune on are those from 100 up.
To add a method: its file, with a function from a seed to a Curve for each of its tasks, and an entry in METHODS here.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from mbrl_ros.config import ConfigError, new_folder
from mbrl_ros.evaluation.pool import as_done
from mbrl_ros.evaluation.reach import parse_seeds, write
from mbrl_ros.trainers import imagined_study, tabular_study
from mbrl_ros.trainers.compared import Curve, Method, Row, Task, plot, row, table

TASKS: dict[str, Task] = {**tabular_study.TASKS, **imagined_study.TASKS}
METHODS: dict[str, Method] = {**tabular_study.METHODS, **imagined_study.METHODS}


class Job(NamedTuple):
    """One run."""

    task: str
    method: str
    seed: int


def run(job: Job) -> Curve:
    """In a process that may be its own."""
    torch.set_num_threads(1)
    return METHODS[job.method].runs[job.task](job.seed)


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for, seed by seed. Raises ConfigError that names what there is."""
    tasks, methods = a.only.split(","), a.methods.split(",")
    for flag, names, known in (("--only", tasks, TASKS), ("--methods", methods, METHODS)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{flag}: unknown {name!r}; choose from {', '.join(known)}")
    return [Job(task, method, seed) for task in tasks for seed in parse_seeds(a.seeds or TASKS[task].seeds)
            for method in methods if task in METHODS[method].runs]


def rows_of(done: Mapping[Job, Curve]) -> list[Row]:
    """A row for each method on each task, in the order of the registries."""
    found: list[Row] = []
    for task in TASKS:
        runs = {name: {job.seed: curve for job, curve in done.items() if job[:2] == (task, name)} for name in METHODS}
        parents = {name: method.parent for name, method in METHODS.items()}
        found += [row(name, parents[name], task, TASKS[task], runs[name], runs.get(parents[name] or "", {}))
                  for name in METHODS if runs[name]]
    return found


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.imagination",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default=",".join(TASKS), help="tasks (%(default)s)")
    p.add_argument("--methods", default=",".join(METHODS), help="(%(default)s)")
    p.add_argument("--seeds", default="", help="such as 0-9 or 1,4,7; empty: those of each task")
    p.add_argument("--jobs", type=int, default=2, help="how many at a time; 0: in this process (%(default)s)")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        jobs, folder = jobs_of(a), new_folder(a.output)
    except ConfigError as error:
        print(f"dyna: {error}", file=sys.stderr)
        return 2
    done: dict[Job, Curve] = {}
    rows: list[Row] = []
    began = time.monotonic()
    for job, curve in as_done(run, jobs, a.jobs):
        done[job] = curve
        print(f"[{len(done)}/{len(jobs)}, {time.monotonic() - began:.0f} s] {job.task}, {job.method}, seed {job.seed}: "
              f"{curve.returns[-1]:.4g} after {curve.steps[-1]} steps", flush=True)
        rows = rows_of(done)
        write(folder / "dyna.json", a, rows=rows)
    plot(rows, TASKS).savefig(folder / "dyna.png", dpi=110)
    print(table(rows))
    print(f"dyna.json and dyna.png are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
