"""Learning over trials in the plain loop: a row for every update, which together are the learning curve.

    python3 -m mbrl_ros.trainers --trainer refit --robot planar2 --trials 5 --seed 0

Leaves train.json in runs/<time>/. `cost` is that of being away from the target, with efforts (measures.py), over a
trial. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, from_mapping, merge, new_folder, parse_overrides, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.procedure import Run, Stopped, collect
from mbrl_ros.evaluation.reach import write
from mbrl_ros.trainers import TRAINERS
from mbrl_ros.trainers.trainer import Config, Trainer, target_of

Row = dict[str, Any]


def train(settings: Mapping[str, Any], name: str, updates: int, seed: int) -> Iterator[Row]:
    """One row for each update of a trainer; the seeds of trials count on from `seed`. Raises ConfigError, Stopped."""
    if name not in TRAINERS:
        raise ConfigError(f"--trainer: unknown {name!r}; choose one of {', '.join(TRAINERS)}")
    config = from_mapping(Config, section(settings, "trainer"), "trainer")
    run = Run(settings, measures.Config(data_seconds=config.seconds), seed)
    kind, robot, steps = TRAINERS[name], run.robot, round(config.seconds / run.robot.period)
    trainer: Trainer = kind(from_mapping(kind.Config, section(settings, name), name), robot, settings, seed)
    target = target_of(config, robot, settings, seed)
    run.controller.set_target(target)
    for i in range(updates):
        played = trainer.policy()
        trials = collect(run, played, config.trials, steps, seed + i * config.trials, config.back)
        found = [measures.score_trial(robot, trial, target, steps) for trial in trials]
        figures = trainer.update(trials)
        fitted = trainer.model()
        if fitted is not None:
            run.use(*fitted)
        yield {"update": i, "played": played if isinstance(played, str) else "policy",
               "cost": float(np.mean([cost for cost, _ in found])), "final_mm": float(np.mean([mm for _, mm in found])),
               "seconds": robot.period * sum(len(trial.u) for trial in trials), **figures}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers", description=(__doc__ or "").partition("\n")[0])
    names = Names()
    p.add_argument("--trainer", default="refit", help=f"one of {', '.join(TRAINERS)} (%(default)s)")
    for name in ("robot", "task", "planner", "prior"):
        p.add_argument(f"--{name}", default=getattr(names, name), help="(%(default)s)")
    p.add_argument("--trials", type=int, default=10, help="updates, of trainer.trials trials each (%(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{trainer: {back: home}}'")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 1: the ring stopped, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        over = merge({"plant": {"pace": "lockstep"}}, parse_overrides(a.set))
        settings = assembly.settings(Names(a.robot, a.task, a.planner, a.prior), over)
        for row in train(settings, a.trainer, a.trials, a.seed):
            rows.append(row)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        folder = new_folder(a.output)
    except (ConfigError, Stopped) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    write(folder / "train.json", a, rows=rows)
    print(f"train.json is in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
