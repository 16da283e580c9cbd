"""A network that has learned to reach from the planner, and the planner beside it, to the same new targets.

    python3 -m mbrl_ros.trainers.imitation --robot arm --seeds 0-4 --trials 16 --targets 20

For each seed: excitation of `trainer.seconds` (30 s), a model fitted to it, tours of as long for DAgger (dagger.py),
then new targets drawn as in the demonstration, without a change of the world, by the planner and by the network. Within
10 mm is what the tool keeps to during all of the last half second. `--payload` is once more with that in the hand.
Leaves imitation.json in runs/<time>/, and policies that controller.policy takes. Seeds to tune on are those from 100
up.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge, new_folder, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import parse_seeds, write
from mbrl_ros.evaluation.measures import FAILED, TargetResult
from mbrl_ros.evaluation.procedure import RESET, Run, Stopped
from mbrl_ros.ring.controller import POLICY, REACH
from mbrl_ros.trainers.__main__ import begin, rows_of
from mbrl_ros.types import Array

WHO = {"planner": REACH, "network": POLICY}
SECONDS = 30.0  # of a trial, unless the settings say another
Row = dict[str, Any]


def reach_all(run: Run, mode: str, targets: Sequence[Array], seed: int) -> list[TargetResult]:
    """From the start posture to one target after the other; after a fault from there again."""
    results = []
    run.back(RESET, seed)
    for i, target in enumerate(targets):
        results.append(run.follow(target, mode))
        if results[-1] is FAILED:
            run.back(RESET, seed + i)
    return results


def imitate(settings: Mapping[str, Any], seed: int, trials: int, targets: int, payload: float, folder: Path
            ) -> list[Row]:
    """The rows of one seed, after so many trials. Raises ConfigError, Stopped."""
    began = time.process_time()
    config, run, trainer = begin(settings, "dagger", seed)
    for row in rows_of(config, run, trainer, trials, seed, folder / str(seed)):
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    seconds = time.process_time() - began
    student = trainer.student  # type: ignore[attr-defined]
    drawn = measures.draw_targets(run.robot, replace(run.config, seed=seed, targets=targets))
    rows = []
    for mass in [0.0, payload] if payload > 0 else [0.0]:
        run.plant.set_payload(mass)
        for who, mode in WHO.items():
            run.controller.set_policy(student)
            results = reach_all(run, mode, drawn, seed)
            worst = np.array([result.worst_mm for result in results])
            rows.append({"who": who, "seed": seed, "payload_kg": mass, "targets": targets,
                         "within_10": float((worst <= 10).mean()), "within_20": float((worst <= 20).mean()),
                         "median_mm": float(np.median([r.median_mm for r in results])), "worst_mm": worst.tolist(),
                         "robot_seconds": config.seconds * trials, "cpu_seconds": seconds})
    return rows


def table(rows: Sequence[Row]) -> str:
    """In columns of Markdown, over all seeds."""
    lines = ["| who | payload kg | targets | within 10 mm | 20 mm | median mm | seeds within 10 mm |",
             "|---|---|---|---|---|---|---|"]
    for mass in sorted({r["payload_kg"] for r in rows}):
        for who in WHO:
            of = [r for r in rows if (r["who"], r["payload_kg"]) == (who, mass)]
            each = ", ".join(f"{r['within_10']:.0%}" for r in of)
            lines.append(f"| {who} | {mass:g} | {sum(r['targets'] for r in of)} | "
                         f"{np.mean([r['within_10'] for r in of]):.0%} | {np.mean([r['within_20'] for r in of]):.0%} | "
                         f"{np.median([r['median_mm'] for r in of]):.1f} | {each} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.trainers.imitation",
                                description=(__doc__ or "").partition("\n")[0])
    names = Names()
    for name in ("robot", "task", "planner", "prior"):
        p.add_argument(f"--{name}", default=getattr(names, name), help="(%(default)s)")
    p.add_argument("--seeds", default="100", help="such as 0-4 or 1,2 (%(default)s)")
    p.add_argument("--trials", type=int, default=16, help="the first excites (%(default)s)")
    p.add_argument("--targets", type=int, default=20, help="new ones (%(default)s)")
    p.add_argument("--payload", type=float, default=0.0, help="once more with that in the hand [kg]; 0: not")
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{dagger: {hidden: 128}}'")
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 1: the ring stopped, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        if a.trials < 2 or a.targets < 1:
            raise ConfigError("--trials, --targets: expected at least 2, and 1")
        over = merge({"plant": {"pace": "lockstep"}, "trainer": {"seconds": SECONDS}}, parse_overrides(a.set))
        settings = assembly.settings(Names(a.robot, a.task, a.planner, a.prior), over)
        folder = new_folder(a.output)
        for seed in parse_seeds(a.seeds):
            rows += imitate(settings, seed, a.trials, a.targets, a.payload, folder)
            write(folder / "imitation.json", a, rows=rows)
    except (ConfigError, Stopped) as error:
        print(f"imitation: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(table(rows))
    print(f"imitation.json is in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
