"""Time of one iLQR plan on the CPU: torch against the compiled kernel, on tasks with and without active limits.

    . .venv/bin/activate && . install/setup.sh && OMP_NUM_THREADS=1 python3 benchmarks/plan.py

Prints a table of medians in microseconds. The two take turns, so that whatever else the machine does meets both, and
their efforts must be the same.
"""
from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import torch

from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.types import LinearGaussianDynamics

SIZES = [(4, 1, 20), (12, 2, 20), (27, 7, 20), (27, 7, 50), (40, 7, 20)]  # n, m, T; (27, 7) is the 7-joint arm
AGREE = 1e-9  # N m, of efforts of the order of 1


def arm_like(n: int, m: int, T: int, limit: float) -> Problem:
    """m double integrators with coupled inertias, a read-out of them as tool, past efforts; quadratic norms."""
    generator = torch.Generator().manual_seed(100)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    h, tool = 0.02, max(n - 3 * m, 0)
    F = torch.zeros(n, n + m, dtype=torch.float64)
    F[: 2 * m, : 2 * m] = torch.eye(2 * m) + 0.02 * draw(2 * m, 2 * m)
    F[:m, m : 2 * m] += h * torch.eye(m)
    F[m : 2 * m, n:] = h * (torch.eye(m) + 0.1 * draw(m, m))
    F[2 * m : 2 * m + tool] = draw(tool, 2 * m) @ F[: 2 * m]
    F[2 * m + tool : n, n : 2 * n - 2 * m - tool] = torch.eye(n - 2 * m - tool)
    R = torch.eye(n + m, dtype=torch.float64)
    scale = torch.ones(T + 1, n + m, dtype=torch.float64)
    scale[-1, n:] = 0.0
    cost = ResidualCost(R, draw(T + 1, n + m), scale, torch.full((n + m,), torch.inf, dtype=torch.float64),
                        torch.zeros(n + m, dtype=torch.bool))
    bound = torch.full((T, m), limit, dtype=torch.float64)
    model = LinearGaussianDynamics(F, 0.01 * draw(n), torch.eye(n, dtype=torch.float64))
    return Problem(draw(n), model, cost, -bound, bound)


def rows(repeats: int = 100) -> list[dict[str, Any]]:
    """For bench.py: medians [us]."""
    torch.set_num_threads(1)
    found = []
    for n, m, T in SIZES:
        for limit in (float("inf"), 0.5):
            problem, settings = arm_like(n, m, T, limit), Ilqr.Config(horizon=T, iterations=2)
            planner, reference = Ilqr(settings), Ilqr(replace(settings, solver="torch"))
            plans = reference.plan(problem, None), planner.plan(problem, None)
            difference = float((torch.as_tensor(plans[0].efforts) - torch.as_tensor(plans[1].efforts)).abs().max())
            if difference > AGREE:
                raise SystemExit(f"plan ({n},{m},{T}): the answers differ by {difference:.0e}")
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                for spent, run in zip(times, (lambda: reference.plan(problem, None),  # noqa: B023
                                              lambda: planner.plan(problem, None)), strict=True):  # noqa: B023
                    began = time.perf_counter()
                    run()
                    spent.append(1e6 * (time.perf_counter() - began))
            slow, fast = (statistics.median(t) for t in times)
            found.append({"what": f"plan, {plans[1].iterations} iterations, limits {'act' if limit < 1 else 'far'}",
                          "size": f"({n},{m},{T})", "ours_us": fast, "peer": "torch", "peer_us": slow,
                          "ratio": slow / fast})
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--repeats", type=int, default=100)
    print("| plan | n, m, T | kernel [us] | torch [us] | ratio |\n|---|---|---|---|---|")
    for row in rows(arguments.parse_args().repeats):
        print(f"| {row['what']} | {row['size']} | {row['ours_us']:.0f} | {row['peer_us']:.0f} | {row['ratio']:.0f} |")


if __name__ == "__main__":
    main()
