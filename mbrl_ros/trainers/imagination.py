"""Learning in imagination: every method beside the one that it comes from, over seeds, on every task that it is for.

    python3 -m mbrl_ros.trainers.imagination --only maze,pendulum
    python3 -m mbrl_ros.trainers.imagination --only pendulum --methods q_learning,dyna_5 --seeds 100-102
    python3 -m mbrl_ros.trainers.imagination --resume runs/20261130-170000

Leaves dyna.json and dyna.png in runs/<time>/, the first anew after every run, and in runs/<time>/parts/ what has been
done, with which the third goes on: of a long run no more than the last minute is lost. With `--cluster` (the address of
a Ray cluster, or `local`) runs go to its processors; the folder has to be one that all machines see. Seeds to tune on
are those from 100 up.
To add a method: its file, with a Runner (compared.py) for each of its tasks, and an entry in METHODS here.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from mbrl_ros.config import ConfigError, new_folder
from mbrl_ros.evaluation.command import add_run_options, chosen, parse_seeds, write
from mbrl_ros.evaluation.pool import told
from mbrl_ros.trainers import imagined_study, paper_study, tabular_study
from mbrl_ros.trainers.compared import Curve, Method, Row, Task, plot, row, table

SHORT: dict[str, Task] = {**tabular_study.TASKS, **imagined_study.TASKS}  # hours; those of the paper are days
TASKS = {**SHORT, **paper_study.TASKS}
METHODS: dict[str, Method] = {**tabular_study.METHODS, **imagined_study.METHODS, **paper_study.METHODS}


class Job(NamedTuple):
    """One run."""

    task: str
    method: str
    seed: int


def run(parts: Path, job: Job) -> Curve:
    """In a process that may be its own; what has been done of it before is in `parts`, and is not done again."""
    torch.set_num_threads(1)
    done, keep = (parts / f"{job.task}-{job.method}-{job.seed}.{kind}" for kind in ("json", "checkpoint"))
    if done.exists():
        return Curve(**json.loads(done.read_text()))
    curve = METHODS[job.method].runs[job.task](job.seed, keep)
    new = done.with_suffix(".new")
    new.write_text(json.dumps(asdict(curve)))
    new.rename(done)
    keep.unlink(missing_ok=True)
    return curve


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for, seed by seed. Raises ConfigError that names what there is."""
    tasks, methods = chosen("--only", a.only, TASKS), chosen("--methods", a.methods, METHODS)
    jobs = [Job(task, method, seed) for task in tasks for seed in parse_seeds(a.seeds or TASKS[task].seeds)
            for method in methods if task in METHODS[method].runs]
    if not jobs:
        raise ConfigError(f"--methods: none of {a.methods} is for {a.only}")
    return jobs


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
    p.add_argument("--only", default=",".join(SHORT), help=f"some of {', '.join(TASKS)} (%(default)s)")
    p.add_argument("--methods", default=",".join(METHODS), help="(%(default)s)")
    p.add_argument("--cluster", default="", help="address of the head of a Ray cluster, or local; empty: processes")
    p.add_argument("--resume", type=Path, help="folder of a run to go on with: its tasks, methods and seeds")
    add_run_options(p, "")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        folder = _resumed(a) if a.resume else new_folder(a.output)
        jobs = jobs_of(a)
        write(folder / "dyna.json", a, rows=[])
        return _run(a, jobs, folder)
    except ConfigError as error:
        print(f"dyna: {error}", file=sys.stderr)
        return 2


def _resumed(a: argparse.Namespace) -> Path:
    """The folder to go on in; tasks, methods and seeds become those that it was begun with."""
    folder: Path = a.resume
    try:
        said = json.loads((folder / "dyna.json").read_text())["arguments"]
        a.only, a.methods, a.seeds = (said[name] for name in ("only", "methods", "seeds"))
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"--resume: {folder / 'dyna.json'}: nothing to go on with ({error})") from error
    return folder


def _run(a: argparse.Namespace, jobs: Sequence[Job], folder: Path) -> int:
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    say = lambda curve: f"{curve.returns[-1]:.4g} after {curve.steps[-1]} steps"  # noqa: E731
    for done in told(partial(run, parts.resolve()), jobs, a.jobs, say, a.cluster):
        rows = rows_of(done)
        write(folder / "dyna.json", a, rows=rows)
    plot(rows, TASKS).savefig(folder / "dyna.png", dpi=110)
    print(table(rows))
    print(f"dyna.json and dyna.png are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
