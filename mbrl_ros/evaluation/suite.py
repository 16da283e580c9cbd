"""All scenarios of config/scenarios.yaml on several robots, with several priors, against three measures.

    python3 -m mbrl_ros.evaluation.suite [--full] [--only payload_1kg,wall] [--robots arm,planar2] [--priors ensemble]

Every prior runs beside the oracle (the same controller given the true dynamics), itself with learning switched off
after the first fit, and the prior `none`. Prints a table and leaves scenarios.json and a figure per family in
runs/<time>/. Seeds to tune on are those from 100 up.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mbrl_ros import assembly
from mbrl_ros.config import ConfigError, Names, from_mapping, merge, new_folder, section, share
from mbrl_ros.evaluation import measures, tables
from mbrl_ros.evaluation.command import add_jobs, parse_seeds, write_rows
from mbrl_ros.evaluation.pool import in_order
from mbrl_ros.evaluation.procedure import Run
from mbrl_ros.evaluation.reach import ORACLE, row, totals
from mbrl_ros.simulation.world import World, motor_gain

NONE, FROZEN = "none", " without learning"
MEASURES = ("frozen", "none")  # beside the oracle
KEYS = ("family", "task", "robots", "start", "change", "settings", "scenario", "quick")
Row = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """One entry of config/scenarios.yaml."""

    name: str
    family: str
    task: str
    robots: tuple[str, ...]  # empty: any
    start: Mapping[str, Any]  # of a World
    change: Mapping[str, Any]
    settings: Mapping[str, Any]
    config: Mapping[str, Any]  # of a measures.Config
    quick: bool


@dataclass(frozen=True)
class Job:
    """One scenario on one robot with one seed."""

    scenario: Scenario
    robot: str
    priors: tuple[str, ...]
    against: tuple[str, ...]  # of MEASURES
    seed: int


def read_scenarios(path: Path, full: bool) -> dict[str, Scenario]:
    """All scenarios of a file by name; raises ConfigError for what it does not know."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    common, found = section(content, "full" if full else "quick"), {}
    for name, entry in section(content, "scenarios").items():
        unknown = sorted(set(entry) - set(KEYS))
        if unknown:
            raise ConfigError(f"{name}.{unknown[0]}: unknown setting; a scenario has {', '.join(KEYS)}")
        start, change = section(entry, "start"), section(entry, "change")
        config = merge(common, section(entry, "scenario"))
        from_mapping(World, merge(start, change), f"{name}.world")
        from_mapping(measures.Config, config, f"{name}.scenario")
        found[name] = Scenario(name, entry.get("family", "others"), entry.get("task", "reach"),
                               tuple(entry.get("robots", ())), start, change, section(entry, "settings"), config,
                               entry.get("quick", True))
    return found


def run_job(job: Job) -> dict[str, Row]:
    """The figures of every method of a job, by its name: the oracle, the priors, and what they are measured against."""
    torch.set_num_threads(1)
    known = job.scenario
    methods = {ORACLE: (job.priors[0], True)}
    for prior in job.priors:
        methods[prior] = (prior, True)
        if "frozen" in job.against and prior != NONE:
            methods[prior + FROZEN] = (prior, False)
    if "none" in job.against:
        methods.setdefault(NONE, (NONE, True))
    rows: dict[str, Row] = {}
    best: list[measures.TargetResult] = []
    for name, (prior, adapt) in methods.items():
        settings = assembly.settings(Names(job.robot, known.task, prior=prior), known.settings)
        settings = merge(settings, {"learner": {"adapt": adapt}})
        config = replace(measures.config_of(settings, known.config), seed=job.seed)
        start = from_mapping(World, {"mass_seed": job.seed, "length_seed": job.seed, **known.start}, "start")
        run = Run(settings, config, job.seed, name == ORACLE, start, replace(start, **known.change))
        results = run.results()
        best = best or results  # the oracle comes first
        rows[name] = {**row(run, results, best), "recovery_s": run.recovery(),
                      "peak_mm": run.peak_mm(), "rms_mm": run.rms_mm()}
    return rows


def summary(job: Job, prior: str, rows: list[Row]) -> Row:
    """The figures of all seeds of one method; infinite where there was a divergence, None where there is nothing."""
    all_of = totals(rows)
    after = float(np.median([r["medians_mm"][(len(r["medians_mm"]) + 1) // 2 :] for r in rows]))
    over = lambda which, key: (float(which([r[key] for r in rows]))  # noqa: E731
                               if all(r[key] is not None for r in rows) else None)
    return {"scenario": job.scenario.name, "family": job.scenario.family, "prior": prior, "robot": job.robot,
            "seeds": len(rows), **{k: all_of[k] for k in ("targets", "success_5mm", "success_20mm", "median_error_mm",
                                                          "worst_error_mm")},
            "oracle_cost_ratio": all_of["cost_ratio_median"], "divergences": all_of["diverged"],
            "recovery_s_median": over(np.median, "recovery_s"), "recovery_s_worst": over(max, "recovery_s"),
            "peak_mm_median": over(np.median, "peak_mm"), "peak_mm_worst": over(max, "peak_mm"),
            "median_error_after_mm": after, "rms_mm": over(np.median, "rms_mm"), "runs": rows}


def run_all(jobs: list[Job], workers: int) -> list[Row]:
    """The rows of all scenarios, robots and methods; prints a line for each job, in their order."""
    groups: dict[tuple[str, str, str], list[tuple[Job, Row]]] = {}
    began = time.monotonic()
    for i, (job, rows) in enumerate(zip(jobs, in_order(run_job, [(job,) for job in jobs], workers), strict=True), 1):
        stopped = [name for name, r in rows.items() if r["fault"]]
        print(f"[{i}/{len(jobs)}, {time.monotonic() - began:.0f} s] {job.scenario.name} on {job.robot}, seed "
              f"{job.seed}" + (f": stopped: {', '.join(stopped)}" if stopped else ""), flush=True)
        for method, figures in rows.items():
            groups.setdefault((job.scenario.name, job.robot, method), []).append((job, figures))
    return [summary(members[0][0], method, [row for _, row in members]) for (_, _, method), members in groups.items()]


def plan(a: argparse.Namespace) -> list[Job]:
    """The jobs that the command line asks for. Raises ConfigError that names what there is."""
    scenarios = read_scenarios(share() / "config" / "scenarios.yaml", a.full)
    names = a.only.split(",") if a.only else [s.name for s in scenarios.values() if s.quick or a.full]
    robots = (a.robots or ("planar2,arm4,arm6,arm" if a.full else "planar2,arm")).split(",")
    priors = tuple((a.priors or ("ensemble,gaussian" if a.full else "gaussian")).split(","))
    against = tuple(a.against.split(",")) if a.against else ()
    for measure in against:
        if measure not in MEASURES:
            raise ConfigError(f"--against: unknown measure {measure!r}; choose from {', '.join(MEASURES)}")
    seeds = parse_seeds(a.seeds or ("0-9" if a.full else "0"))
    jobs = []
    for name in names:
        if name not in scenarios:
            raise ConfigError(f"--only: unknown scenario {name!r}; choose from {', '.join(scenarios)}")
        for robot in robots:
            if not scenarios[name].robots or robot in scenarios[name].robots:
                jobs += [Job(scenarios[name], robot, priors, against, seed) for seed in seeds]
    for job in jobs[:: len(seeds)]:  # mistakes show now and not hours later
        for prior in priors:
            settings = assembly.settings(Names(job.robot, job.scenario.task, prior=prior), job.scenario.settings)
            motor_gain(assembly.make_robot(settings), from_mapping(World, job.scenario.change, "change"))
    if not jobs:
        raise ConfigError("no scenario is meant for these robots; see config/scenarios.yaml")
    return jobs


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.suite",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--full", action="store_true", help="all scenarios, four robots, two priors, ten seeds, ten targets")
    p.add_argument("--only", help="names of scenarios with commas between")
    p.add_argument("--robots")
    p.add_argument("--priors")
    p.add_argument("--seeds", help="such as 0-9 or 1,4,7")
    p.add_argument("--against", default="frozen,none", help="what to run beside the priors and the oracle: frozen (the "
                   "same without learning after the fit), none (no prior)")
    add_jobs(p)
    p.add_argument("--output", type=Path, default=Path("runs"), help="a folder for this run is made in it")
    return p


def main(arguments: list[str] | None = None) -> int:
    a = parser().parse_args(arguments)
    try:
        jobs = plan(a)
        folder = new_folder(a.output)
        rows = run_all(jobs, a.jobs)
    except ConfigError as error:
        print(f"suite: {error}", file=sys.stderr)
        return 2
    write_rows(folder / "scenarios.json", rows)
    figures = tables.draw(rows, folder)
    print(tables.table(rows))
    print(f"scenarios.json and {', '.join(path.name for path in figures)} are in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
