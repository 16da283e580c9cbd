"""How many candidates planners that draw need for the cost that CEM has with all of its own.

    python3 -m mbrl_ros.evaluation.budgets [--only icem,pendulum] [--samples 128,47,32] [--seeds 0-9]

The problems are those of evaluation/planners that are no robot's; samples are the candidates of the first iteration,
and candidates those of all iterations, of iCEM fewer each time. Costs are above the optimum for lq and as they are for
swing-ups, and compared by pairs of a seed with CEM and the first of `--samples`. Prints a table.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mbrl_ros.config import ConfigError
from mbrl_ros.evaluation import reach
from mbrl_ros.evaluation.measures import interval
from mbrl_ros.evaluation.planners import CART_POLE, LQ, PENDULUM, chain, optimum, simulated
from mbrl_ros.evaluation.pool import as_done
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.sampling import Sampling

PARENT = "cem"
NAMES = tuple(name for name, kind in PLANNERS.items() if issubclass(kind, Sampling))
PROBLEMS = (LQ, PENDULUM, CART_POLE)


class Job(NamedTuple):
    """One seed."""

    problem: str
    planner: str
    samples: int
    seed: int


def run(job: Job) -> float:
    """What it cost."""
    torch.set_num_threads(1)
    cost = simulated(job.planner, job.problem, job.seed, {"samples": job.samples}).cost
    return cost - optimum(chain(job.seed)) if job.problem == LQ else cost


def candidates(planner: str, samples: int) -> int:
    """Drawn for one plan."""
    kind: Any = PLANNERS[planner]
    made = kind(kind.Config(horizon=2, samples=samples))
    return sum(made.count(i) for i in range(made.config.iterations))


def rows_of(costs: Mapping[Job, float]) -> list[dict[str, Any]]:
    """A row for every planner and number of samples on every problem, with the ratio of its costs to the parent's in
    the median of pairs, and its interval of 95 %; NaN where the parent did not run."""
    first = max(job.samples for job in costs)
    cells = dict.fromkeys(job[:3] for job in costs)
    rows = []
    for problem, planner, samples in cells:
        own = {job.seed: cost for job, cost in costs.items() if job[:3] == (problem, planner, samples)}
        parent = [costs.get(Job(problem, PARENT, first, seed), np.nan) for seed in own]
        ratio = np.array(list(own.values())) / parent
        low, high = interval(ratio, np.median)
        rows.append({"problem": problem, "planner": planner, "samples": samples, "seeds": list(own),
                     "candidates": candidates(planner, samples), "cost": float(np.median(list(own.values()))),
                     "ratio": float(np.median(ratio)), "ratio_low": low, "ratio_high": high,
                     "part": candidates(planner, samples) / candidates(PARENT, first)})
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"| problem | planner | samples | candidates | of those of {PARENT} | cost | of that of {PARENT} (95 %) |",
             "|---|---|---|---|---|---|---|"]
    lines += [f"| {r['problem']} | {r['planner']} | {r['samples']} | {r['candidates']} | {r['part']:.2f} | "
              f"{r['cost']:.3g} | {r['ratio']:.3g} ({r['ratio_low']:.3g} to {r['ratio_high']:.3g}) |" for r in rows]
    return "\n".join(lines)


def jobs_of(a: argparse.Namespace) -> list[Job]:
    """What the command line asks for. Raises ConfigError for a name that is not known."""
    words = [word for word in a.only.split(",") if word]
    if unknown := [word for word in words if word not in (*NAMES, *PROBLEMS)]:
        raise ConfigError(f"--only: unknown {unknown[0]!r}; choose some of {', '.join((*NAMES, *PROBLEMS))}")
    names, problems = ([word for word in known if word in words] or known for known in (NAMES, PROBLEMS))
    return [Job(problem, name, int(samples), seed) for problem in problems for name in dict.fromkeys((PARENT, *names))
            for samples in a.samples.split(",") for seed in reach.parse_seeds(a.seeds)]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m mbrl_ros.evaluation.budgets",
                                description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default="", help="planners and problems, with commas between; of either kind none: all")
    p.add_argument("--samples", default="128,64,47,32", help="of the first iteration (%(default)s)")
    p.add_argument("--seeds", default="0-9", help="tune on those from 100 up (%(default)s)")
    p.add_argument("--jobs", type=int, default=2, help="how many at a time; 0: in this process (%(default)s)")
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
    costs, began = {}, time.monotonic()
    for done, (job, cost) in enumerate(as_done(run, jobs, a.jobs), 1):
        costs[job] = cost
        print(f"[{done}/{len(jobs)}, {time.monotonic() - began:.0f} s] {job.problem}, {job.planner}, {job.samples}, "
              f"seed {job.seed}: {cost:.4g}", flush=True)
    rows = rows_of({job: costs[job] for job in jobs})
    print(markdown(rows))
    if a.json:
        reach.write(a.json, a, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
