"""Error and cost against the control rate, in the plain loop.

    python3 -m mbrl_ros.evaluation.rates --robots arm,runs/x/iiwa.yaml --rates 50,100,200,500 --seeds 0-2

runs the demonstration of evaluation/reach at every rate, with all that is in seconds as it is, and prints a row for
each. `cost` is that of all targets, so that rates can be compared; `ratio` is to the true dynamics at the same rate. Of
a robot file whose gains setup found, the gains are found again at every rate, because they depend on it.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge, parse_overrides
from mbrl_ros.evaluation import measures, reach
from mbrl_ros.evaluation.command import add_jobs, finite, parse_seeds, write_rows
from mbrl_ros.evaluation.pool import in_order

GAINS = ("stiffness", "damping", "inertia")  # of robot.*, what pushes find
COLUMNS = ("robot", "rate [Hz]", "within 5 mm", "median [mm]", "worst [mm]", "cost", "ratio", "diverged",
           "cost given the true dynamics", "diverged with it", "tick [ms]")


def measure(robot: str, rate: float, prior: str, seeds: list[int], given: dict[str, Any], more: dict[str, Any],
            found: bool) -> dict[str, Any]:
    """The row of one robot at one rate; `message` where its hold finds no gains there."""
    try:
        unknown: dict[str, Any] = {"robot": {name: [] for name in GAINS}} if found else {}
        at_rate = merge({"robot": {"period": 1 / rate}}, unknown)
        settings = assembly.settings(Names(robot, prior=prior), merge(at_rate, more))
        config = measures.config_of(settings, given)
        rows = [reach.run_seed({prior: settings}, config, seed) for seed in seeds]
    except ConfigError as error:
        return {"robot": robot, "rate_hz": rate, "message": str(error)}
    ours, best = (reach.totals([row[case] for row in rows]) for case in (prior, reach.ORACLE))
    cost = [float(np.median([sum(row[case]["costs"]) for row in rows])) for case in (prior, reach.ORACLE)]
    ticks = [row[prior]["tick_ms_p50"] for row in rows if row[prior]["tick_ms_p50"]]
    return {"robot": robot, "rate_hz": rate, "message": "", **ours, "cost": cost[0], "oracle_cost": cost[1],
            "oracle_diverged": best["diverged"], "tick_ms": float(np.median(ticks)) if ticks else None,
            "faults": {case: [row[case]["fault"] for row in rows] for case in rows[0]}}


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for r in rows:
        name = f"{Path(r['robot']).stem} | {r['rate_hz']:g}"
        if r["message"]:
            lines.append(f"| {name} | {r['message']} |" + "|" * (len(COLUMNS) - 3))
            continue
        cells = [f"{100 * r['success_5mm']:.0f} %", f"{r['median_error_mm']:.2f}", f"{r['worst_error_mm']:.2f}",
                 f"{r['cost']:.4f}", f"{r['cost_ratio_median']:.2f}", f"{r['diverged']} of {r['seeds']}",
                 f"{r['oracle_cost']:.4f}", f"{r['oracle_diverged']} of {r['seeds']}",
                 "" if r["tick_ms"] is None else f"{r['tick_ms']:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.rates",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robots", default="arm", help="names or files, with commas between")
    p.add_argument("--rates", default="50,100,200,500", help="[Hz]")
    p.add_argument("--seeds", default="0-2")
    p.add_argument("--targets", type=int, default=10)
    p.add_argument("--data-seconds", type=float, default=10.0)
    p.add_argument("--prior", default="ensemble")
    p.add_argument("--set", default="{}", help="more settings, as YAML")
    add_jobs(p)
    p.add_argument("--json", type=Path, help="where to write the rows")
    return p


def main(arguments: list[str] | None = None) -> int:
    a = parser().parse_args(arguments)
    given, rows = {"targets": a.targets, "data_seconds": a.data_seconds}, []
    try:
        seeds, more, rates = parse_seeds(a.seeds), parse_overrides(a.set), [float(r) for r in a.rates.split(",")]
        jobs = [(robot, rate, a.prior, seeds, given, more, Path(robot).is_file())
                for robot in a.robots.split(",") for rate in rates]
        for row in in_order(measure, jobs, a.jobs):
            rows.append(row)
            print(json.dumps(finite(row)), file=sys.stderr, flush=True)
    except (ConfigError, ValueError) as error:
        print(f"rates: {error}", file=sys.stderr)
        return 2
    print(markdown(rows))
    if a.json:
        write_rows(a.json, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
