"""The demonstration in the plain loop, over many seeds, and the oracle it is measured against.

    python3 -m mbrl_ros.evaluation.reach --seeds 0-9 --data-seconds 10 --prior ensemble [--variation 0.4] [--no-adapt]

runs the scenario without ROS (the same core, faster than over DDS; one test shows that both give the same efforts),
prints a row per seed and writes a JSON file. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, merge, parse_overrides
from mbrl_ros.evaluation import measures
from mbrl_ros.evaluation.command import add_jobs, parse_seeds, write
from mbrl_ros.evaluation.measures import TargetResult
from mbrl_ros.evaluation.pool import in_order
from mbrl_ros.evaluation.procedure import Run

Settings = Mapping[str, Any]
SHOWN = ("seed", "success_5mm", "success_20mm", "median_error_mm", "worst_error_mm", "oracle_cost_ratio",
         "tick_ms_p50", "seconds", "fault")
ORACLE = "oracle"  # the same controller given the true dynamics


def run_seed(cases: Mapping[str, Settings], config: measures.Config, seed: int) -> dict[str, dict[str, Any]]:
    """The figures of one seed for every case (planner, prior), with the cost of the oracle on that robot."""
    torch.set_num_threads(1)
    config = replace(config, seed=seed)
    rows: dict[str, dict[str, Any]] = {}
    best: list[TargetResult] = []
    for name, settings in {ORACLE: next(iter(cases.values())), **cases}.items():
        began = time.perf_counter()
        run = Run(settings, config, seed, oracle=name == ORACLE)
        results = run.results()
        best = best or results  # the oracle comes first
        rows[name] = {**row(run, results, best), "seconds": time.perf_counter() - began}
    return rows


def row(run: Run, results: list[TargetResult], best: list[TargetResult]) -> dict[str, Any]:
    """The figures of one run; `best` are the results of the oracle."""
    return {"seed": run.seed, **measures.summarize(results, best), "fault": run.fault,
            "tick_ms_p50": float(np.percentile(run.tick_ms, 50)) if run.tick_ms else None,
            "medians_mm": [r.median_mm for r in results], "worsts_mm": [r.worst_mm for r in results],
            "costs": [r.cost for r in results], "oracle_costs": [r.cost for r in best]}


def run_oracle(settings: Settings, config: measures.Config, seed: int) -> list[TargetResult]:
    """The scenario by the same controller given the true dynamics."""
    return Run(settings, config, seed, oracle=True).results()


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All targets of all seeds together."""
    medians, worsts = (np.concatenate([r[k] for r in rows]) for k in ("medians_mm", "worsts_mm"))
    half = (len(rows[0]["worsts_mm"]) + 1) // 2
    def cost(r: dict[str, Any], part: slice) -> float:  # NaN where there is no such target
        with np.errstate(invalid="ignore"):  # of two that diverged
            return float(np.divide(sum(r["costs"][part]), sum(r["oracle_costs"][part]) or np.nan))
    return {"seeds": len(rows), "targets": len(worsts), "success_5mm": float(np.mean(worsts <= 5)),
            "success_10mm": float(np.mean(worsts <= 10)),
            "success_20mm": float(np.mean(worsts <= 20)), "median_error_mm": float(np.median(medians)),
            "worst_error_mm": float(worsts.max()), "diverged": sum(r["diverged"] for r in rows),
            "cost_ratio_median": float(np.median([cost(r, slice(None)) for r in rows])),
            "cost_ratio_worst": float(max(cost(r, slice(None)) for r in rows)),
            "cost_ratio_before": float(np.median([cost(r, slice(None, half)) for r in rows])),
            "cost_ratio_after": float(np.median([cost(r, slice(half, None)) for r in rows]))}


def markdown(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The totals of all cases as a table."""
    lines = ["| | within 5 mm | within 20 mm | median | worst | cost: before, after payload | worst seed | diverged |",
             "|---|---|---|---|---|---|---|---|"]
    for name, s in summaries.items():
        before, after = ("-" if np.isnan(s[f"cost_ratio_{half}"]) else f"{s[f'cost_ratio_{half}']:.2f}"
                         for half in ("before", "after"))
        cells = [name, f"{100 * s['success_5mm']:.1f} %", f"{100 * s['success_20mm']:.1f} %",
                 f"{s['median_error_mm']:.2f} mm", f"{s['worst_error_mm']:.2f} mm",
                 f"{before}, {after}", f"{s['cost_ratio_worst']:.2f}",
                 f"{s['diverged']} of {s['seeds']}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.reach",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--robot", default="arm")
    p.add_argument("--task", default="reach")
    p.add_argument("--planner", default="ilqr", help="one, or several with commas between; the oracle's is ilqr")
    p.add_argument("--prior", default="ensemble", help="one, or several with commas between")
    p.add_argument("--seeds", default="100-102")
    p.add_argument("--targets", type=int, default=20)
    p.add_argument("--data-seconds", type=float, default=30.0)
    p.add_argument("--variation", type=float, default=0.0, help="scale the robot at random; each seed its own robot")
    p.add_argument("--no-adapt", action="store_true", help="learning off after the excitation")
    p.add_argument("--set", default="{}", help="more settings, as YAML: '{ilqr: {horizon: 0.3}}'")
    add_jobs(p)
    p.add_argument("--json", type=Path, help="where to write the rows")
    return p


def main(arguments: list[str] | None = None) -> int:
    a = parser().parse_args(arguments)
    try:
        rows = _rows(a)
    except ConfigError as error:
        print(f"reach: {error}", file=sys.stderr)
        return 2
    summaries = {name: totals(of_case) for name, of_case in rows.items()}
    print(markdown(summaries))
    if a.json:
        write(a.json, a, all=summaries, seeds=rows)
    return 0


def names_of(a: argparse.Namespace) -> dict[str, Names]:
    """The cases: every planner with every prior, named by what differs."""
    planners, priors = a.planner.split(","), a.prior.split(",")
    several = len(planners) > 1, len(priors) > 1
    label = lambda pair: " ".join(n for n, differs in zip(pair, several, strict=True) if differs)  # noqa: E731
    return {label(pair) or pair[1]: Names(a.robot, a.task, *pair) for pair in itertools.product(planners, priors)}


def _rows(a: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All seeds of every case, `--jobs` seeds at a time; prints a line for each as it ends."""
    more = parse_overrides(a.set)
    if a.no_adapt:
        more = merge(more, {"learner": {"adapt": False}})
    names = names_of(a)
    given = {"targets": a.targets, "data_seconds": a.data_seconds}
    config = measures.config_of(assembly.settings(next(iter(names.values()))), given)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    jobs = []
    for seed in parse_seeds(a.seeds):
        robot = {"robot": {"variation": a.variation, "variation_seed": seed}}
        jobs.append(({name: assembly.settings(of, merge(more, robot)) for name, of in names.items()}, config, seed))
    for found in in_order(run_seed, jobs, a.jobs):
        for name, row in found.items():
            rows.setdefault(name, []).append(row)  # of the oracle, too
            shown = [f"{k} {row[k]:.3g}" if isinstance(row[k], (int, float)) else f"{k} {row[k]}"
                     for k in SHOWN if row[k] != ""]
            print(f"{name:{max(map(len, rows))}s}", "  ".join(shown), flush=True)
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
