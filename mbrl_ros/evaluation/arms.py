"""Arms of other people, from their model files alone: set up without a hand-written number, then measured.

    python3 -m mbrl_ros.evaluation.arms --seeds 0-2 --targets 10 [--only panda]

Files are those of the packages robosuite, whose assets are unpacked into .cache/ where they are not there yet, and
example-robot-data (requirements-dev.txt). Writes runs/<time>/arms.json and arms.md, and beside them the robot files.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros import assembly, setup_robot
from mbrl_ros.config import ConfigError, Names, new_folder, share
from mbrl_ros.evaluation import measures, reach
from mbrl_ros.evaluation.command import add_run_options, finite, parse_seeds, write_rows
from mbrl_ros.evaluation.pool import as_done

ROBOSUITE, DATA = "robosuite", "example-robot-data"
WHEEL = "robosuite==1.5.2"
ASSETS = "robosuite/models/assets/robots/"
ARMS = {f"{ROBOSUITE} {name}": (ROBOSUITE, f"{name}/robot.xml") for name in ("iiwa", "jaco", "panda", "ur5e")} | {
    f"{DATA} panda": (DATA, "panda_description/urdf/panda.urdf"),
    f"{DATA} ur5": (DATA, "ur_description/urdf/ur5_robot.urdf"),
    f"{DATA} z1": (DATA, "z1_description/urdf/z1.urdf")}
FIGURES = ("success_5mm", "success_20mm", "median_error_mm", "worst_error_mm")


def folder_of(package: str) -> Path:
    """Where the models of a package are; fetches the assets of robosuite. Raises ConfigError where they are not."""
    if package == DATA:
        for base in map(Path, sys.path):
            found = base / "cmeel.prefix" / "share" / DATA / "robots"
            if found.is_dir():
                return found
        raise ConfigError(f"no {DATA}: expected it installed, as by requirements-dev.txt")
    cache = share() / ".cache"
    if not (cache / ASSETS).is_dir():
        cache.mkdir(exist_ok=True)
        done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), WHEEL],
                              capture_output=True, text=True)
        wheel = next(cache.glob("robosuite-*.whl"), None)
        if done.returncode or wheel is None:
            raise ConfigError(f"{WHEEL} cannot be fetched: {(done.stderr.splitlines() or ['no wheel'])[-1]}")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(cache, [name for name in archive.namelist() if name.startswith(ASSETS)])
        wheel.unlink()
    return cache / ASSETS


def measure(name: str, model: str, folder: str, seeds: list[int], given: dict[str, Any], prior: str) -> dict[str, Any]:
    """The row of one arm: set up, then the procedure of evaluation/reach; `message` says what was too slow or fails."""
    began, path = time.perf_counter(), Path(folder) / f"{name.replace(' ', '-')}.yaml"
    row: dict[str, Any] = {"robot": name, "seeds": seeds, **dict.fromkeys(FIGURES), "oracle_cost_ratio": None,
                           "divergences": None, "setup_seconds": None, "message": "", "rate_hz": None}
    try:
        setup = setup_robot.set_up(model)
        setup_robot.write(setup, path, model)
        row["setup_seconds"] = time.perf_counter() - began
        row["rate_hz"] = 1.0 / setup.settings["robot"]["period"]
        row["message"] = "; ".join(line for line in setup.assumed if "too slow" in line)
        settings = assembly.settings(Names(robot=str(path), prior=prior))
        config = measures.config_of(settings, given)
        row["payload_kg"] = config.payload
        runs = [reach.run_seed({prior: settings}, config, seed) for seed in seeds]
    except ConfigError as error:
        return {**row, "setup_seconds": row["setup_seconds"] or time.perf_counter() - began, "message": str(error)}
    of_all, of_oracle = (reach.totals([run[case] for run in runs]) for case in (prior, reach.ORACLE))
    faults = [f"seed {run[prior]['seed']}: {run[prior]['fault']}" for run in runs if run[prior]["fault"]]
    if of_oracle["diverged"]:
        faults.append(f"given the true dynamics, {of_oracle['diverged']} of {len(seeds)} diverge as well")
    return {**row, **{key: of_all[key] for key in FIGURES}, "oracle_cost_ratio": of_all["cost_ratio_median"],
            "divergences": of_all["diverged"], "message": "; ".join([*filter(None, [row["message"]]), *faults])}


def _measured(folder: str, seeds: list[int], given: dict[str, Any], prior: str, arm: tuple[str, str]) -> dict[str, Any]:
    """The row of an arm, by its name and the file of its model."""
    return measure(*arm, folder, seeds, given, prior)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| | rate | load | within 5 mm | within 20 mm | median | worst | cost | diverged | setup |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        if r["success_5mm"] is None:
            lines.append(f"| {r['robot']} | {r['message']} |||||||||")
            continue
        figure = lambda value, unit="": f"{value:.2f}{unit}" if np.isfinite(value) else "-"  # noqa: E731
        shown = [f"{r['rate_hz']:.0f} Hz", f"{r['payload_kg']:g} kg", f"{100 * r['success_5mm']:.0f} %",
                 f"{100 * r['success_20mm']:.0f} %", *(figure(r[k], " mm") for k in FIGURES[2:]),
                 figure(r["oracle_cost_ratio"]), f"{r['divergences']} of {len(r['seeds'])}",
                 f"{r['setup_seconds']:.0f} s"]
        lines.append(f"| {r['robot']} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.arms",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--targets", type=int, default=10)
    p.add_argument("--data-seconds", type=float, default=30.0)
    p.add_argument("--prior", default="ensemble")
    p.add_argument("--only", default="", help="names of arms, or parts of them, with commas between")
    add_run_options(p, "0-2")
    a = p.parse_args(arguments)
    try:
        chosen = {name: where for name, where in ARMS.items() if any(part in name for part in a.only.split(","))}
        if not chosen:
            raise ConfigError(f"--only: expected some of {', '.join(ARMS)}, got {a.only}")
        models = {name: str(folder_of(package) / file) for name, (package, file) in chosen.items()}
        seeds, folder = parse_seeds(a.seeds), new_folder(a.output)
        given, done = {"targets": a.targets, "data_seconds": a.data_seconds}, {}
        of = partial(_measured, str(folder), seeds, given, a.prior)
        for (name, _), row in as_done(of, list(models.items()), a.jobs):
            done[name] = row
            print(json.dumps(finite(row)), flush=True)
        rows = [done[name] for name in models]
    except ConfigError as error:
        print(f"arms: {error}", file=sys.stderr)
        return 2
    write_rows(folder / "arms.json", rows)
    (folder / "arms.md").write_text(markdown(rows) + "\n")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
