"""Learning over trials in the plain loop: a row for every update, which together are the learning curve.

    python3 -m mbrl_ros.train --trainer refit --robot planar2 --trials 5 --seed 0
    python3 -m mbrl_ros.train --resume runs/20261129-170000 --trials 10

Leaves every trial (MCAP) and train.json in runs/<time>/, from which the second goes on, and policy.npz where what was
learned fits into a file (`controller.policy`). `cost` is that of being away from the target, with efforts
(measures.py), over a trial. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, from_mapping, merge, new_folder, parse_overrides, section
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import write
from mbrl_ros.evaluation.procedure import Run, Stopped, collect
from mbrl_ros.messages.episode import ABORT, DONE, Episode
from mbrl_ros.recordings.mcap_file import RecordingError
from mbrl_ros.ring.controller import POLICY
from mbrl_ros.ring.policy import save
from mbrl_ros.trainers import TRAINERS
from mbrl_ros.trainers.trainer import Config, Trainer, target_of
from mbrl_ros.trainers.training import Row, Training, keep, kept, make, suited


def begin(settings: Mapping[str, Any], name: str, seed: int) -> tuple[Config, Run, Trainer]:
    """A trainer, with the ring that it is to play in. Raises ConfigError, Stopped."""
    settings = suited(settings, name)
    config = from_mapping(Config, section(settings, "trainer"), "trainer")
    run = Run(settings, measures.config_of(settings, {"data_seconds": config.seconds}), seed)
    return config, run, make(settings, name, seed, run.robot)[1]


def train(settings: Mapping[str, Any], name: str, updates: int, seed: int, folder: Path | None = None) -> Iterator[Row]:
    """One row for each update of a trainer; the seeds of trials count on from `seed`. The trials are in the folder, and
    those that were there before count; what it has learned is in its policy.npz. Raises ConfigError, Stopped."""
    if folder is not None:
        keep(folder, suited(settings, name), name, seed)
    config, run, trainer = begin(settings, name, seed)
    yield from rows_of(config, run, trainer, updates, seed, folder)


def rows_of(config: Config, run: Run, trainer: Trainer, updates: int, seed: int, folder: Path | None = None
            ) -> Iterator[Row]:
    """See `train`."""
    target = target_of(config, run.robot, run.settings, seed)
    training = Training(trainer, config, run.robot, target, folder)
    run.controller.set_target(target)
    for i in range(updates):
        while len(training.rows) == i:
            _play(run, training, seed)
        fitted = trainer.model()
        if fitted is not None and i >= len(training.rows) - 1:
            run.use(*fitted)
        learned = getattr(trainer, "learned", lambda: None)()
        if folder is not None and learned is not None:
            save(learned, folder / "policy.npz")
        yield training.rows[i]


def _play(run: Run, training: Training, seed: int) -> None:
    """The next trial, and what is learned from it."""
    config, n, played = training.config, len(training.trials), training.policy
    world = getattr(training.trainer, "world", lambda: None)()
    if world is not None and world != run.plant.world:
        run.plant.change(world)
    trial, = collect(run, played, 1, training.steps, seed + n, config.back)
    over = DONE if len(trial.u) == training.steps else ABORT
    training.record(Episode(int(trial.time[-1]), n + 1, len(training.rows),
                            played if isinstance(played, str) else POLICY, over, run.controller.reason), trial)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.train", description=(__doc__ or "").partition("\n")[0])
    names = Names()
    p.add_argument("--trainer", default="refit", help=f"one of {', '.join(TRAINERS)} (%(default)s)")
    for name in ("robot", "task", "planner", "prior"):
        p.add_argument(f"--{name}", default=getattr(names, name), help="(%(default)s)")
    p.add_argument("--trials", type=int, default=10, help="updates, of trainer.trials trials each (%(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{trainer: {back: home}}'")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    p.add_argument("--resume", type=Path, help="folder of a training to go on with: its trainer, robot, settings, seed")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 1: the ring stopped, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        if a.resume is None:
            over = merge({"plant": {"pace": "lockstep"}}, parse_overrides(a.set))
            settings = assembly.settings(Names(a.robot, a.task, a.planner, a.prior), over)
            name, seed, folder = a.trainer, a.seed, new_folder(a.output)
        else:
            name, seed, settings = kept(a.resume).values()
            folder = a.resume
        for row in train(settings, name, a.trials, seed, folder):
            rows.append(row)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    except (ConfigError, RecordingError, Stopped) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1 if isinstance(error, Stopped) else 2
    write(folder / "train.json", a, rows=rows)
    print(f"train.json is in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
