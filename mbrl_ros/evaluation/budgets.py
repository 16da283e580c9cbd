"""What planners that draw reach with a third of the candidates that CEM has by default.

    python3 -m mbrl_ros.evaluation.budgets [--only pendulum,cart_pole] [--seeds 0-9]

The problems are those of evaluation/planners that are no robot's; candidates are those of all iterations of a plan, of
iCEM fewer each time. Costs are above the optimum for lq and as they are for swing-ups, and compared with those of CEM
by pairs of a seed. Prints a table.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation.command import add_jobs, chosen, parse_seeds, write
from mbrl_ros.evaluation.measures import interval
from mbrl_ros.evaluation.planners import CART_POLE, LQ, PENDULUM, chain, optimum, simulated
from mbrl_ros.evaluation.pool import told
from mbrl_ros.planners import PLANNERS

PARENT = "cem"
VARIANTS: dict[str, tuple[str, dict[str, int]]] = {  # settings of a planner; of few chosen on seeds 100 to 105
    PARENT: ("cem", {}), "icem": ("icem", {}),
    "icem, 5 iterations": ("icem", {"samples": 40, "iterations": 5, "elites": 4}),
    "icem, 3 iterations": ("icem", {"samples": 57, "iterations": 3, "elites": 4}),
    "cem, 5 iterations": ("cem", {"samples": 28, "iterations": 5, "elites": 4}),
    "cem, 3 iterations": ("cem", {"samples": 47, "iterations": 3, "elites": 4}),
    "mppi, 5 iterations": ("mppi", {"samples": 28, "iterations": 5}),
    "random, 5 iterations": ("random", {"samples": 28, "iterations": 5})}
PROBLEMS = (LQ, PENDULUM, CART_POLE)


class Job(NamedTuple):
    """One seed."""

    problem: str
    variant: str
    seed: int


def run(job: Job) -> float:
    """What it cost."""
    torch.set_num_threads(1)
    planner, settings = VARIANTS[job.variant]
    cost = simulated(planner, job.problem, job.seed, settings).cost
    return cost - optimum(chain(job.seed)) if job.problem == LQ else cost


def candidates(variant: str) -> int:
    """Drawn for one plan."""
    planner, settings = VARIANTS[variant]
    kind: Any = PLANNERS[planner]
    made = kind(kind.Config(horizon=2, **settings))
    return sum(made.count(i) for i in range(made.config.iterations))


def rows_of(costs: Mapping[Job, float]) -> list[dict[str, Any]]:
    """A row for every variant on every problem, with the ratio of its costs to those of the parent, which has to be
    there: the median of pairs, and its interval of 95 %."""
    rows = []
    for problem, variant in dict.fromkeys(job[:2] for job in costs):
        own = {job.seed: cost for job, cost in costs.items() if job[:2] == (problem, variant)}
        ratio = np.array([cost / costs[Job(problem, PARENT, seed)] for seed, cost in own.items()])
        low, high = interval(ratio, np.median)
        rows.append({"problem": problem, "variant": variant, "seeds": list(own), "candidates": candidates(variant),
                     "cost": float(np.median(list(own.values()))), "ratio": float(np.median(ratio)), "ratio_low": low,
                     "ratio_high": high, "no_dearer": float(np.mean(ratio <= 1.0))})
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"| problem | planner | candidates | cost | of that of {PARENT} (95 %) | no dearer |",
             "|---|---|---|---|---|---|"]
    lines += [f"| {r['problem']} | {r['variant']} | {r['candidates']} | {r['cost']:.3g} | {r['ratio']:.3g} "
              f"({r['ratio_low']:.3g} to {r['ratio_high']:.3g}) | {r['no_dearer']:.0%} |" for r in rows]
    return "\n".join(lines)


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for. Raises ConfigError for a problem that is not known."""
    return [Job(problem, variant, seed) for problem in chosen("--only", a.only, PROBLEMS) for variant in VARIANTS
            for seed in parse_seeds(a.seeds)]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.budgets",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default=",".join(PROBLEMS), help="problems (%(default)s)")
    p.add_argument("--seeds", default="0-9", help="tune on those from 100 up (%(default)s)")
    add_jobs(p)
    p.add_argument("--json", type=Path, help="where to write the rows")
    return p


def main(arguments: list[str] | None = None) -> int:
    """0: done, 2: a mistake of the user."""
    a = parser().parse_args(arguments)
    try:
        jobs = jobs_of(a)
    except ConfigError as error:
        print(f"budgets: {error}", file=sys.stderr)
        return 2
    *_, costs = told(run, jobs, a.jobs, lambda cost: f"{cost:.4g}")
    rows = rows_of({job: costs[job] for job in jobs})
    print(markdown(rows))
    if a.json:
        write(a.json, a, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
