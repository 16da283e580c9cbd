"""Time of one LQ problem on the CPU: the planner of the ring against Crocoddyl and HPIPM, one thread, in turns.

    pip install -r benchmarks/requirements.txt
    . .venv/bin/activate && . install/setup.sh && OMP_NUM_THREADS=1 python3 benchmarks/lq.py

The dynamics are dense and time-varying, the cost is weighted squares of all states and efforts about a reference, which
is of the kind that the planner compiles. Every answer of a peer is compared with ours in the same run; a peer that is
missing is left out, with a line that says so. Times are processor time, because on a busy machine long calls are
interrupted more often than short ones, and all take turns. The ratio is of medians.

Ours is one call of Ilqr.plan, checks included, from arrays to a plan: it keeps nothing, so that its `iterate` and its
`fresh` are the same call. That of a peer is an iterate of data that are there, and one from new F, f, C and c, as after
each fit of the learner. `limited` is until each solver says that it has converged.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.planners.ilqr import Ilqr
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.types import LinearGaussianDynamics, Plan

sys.path.insert(0, str(Path(__file__).parent))
from lq_peers import Crocoddyl, Data, Hpipm

SIZES = [(4, 2, 25), (14, 7, 25), (14, 7, 50), (27, 7, 20), (32, 7, 25)]  # n, m, T; (27, 7, 20) is the arm's
LIMIT = 0.5
AGREE = 1e-9  # relative
AGREE_LIMITED = 1e-6  # relative, of the cost: both stop when little is left to gain


def problem(n: int, m: int, T: int, limit: float = np.inf, seed: int = 100) -> Problem:
    """Random, stable, with offsets."""
    generator = np.random.default_rng(seed)
    A, p = generator.normal(size=(T, n, n)), n + m
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max(-1)[:, None, None]
    F = np.concatenate([A, generator.normal(size=(T, n, m))], -1)
    model = LinearGaussianDynamics(F, 0.1 * generator.normal(size=(T, n)), np.eye(n))
    scale = generator.uniform(0.5, 2.0, size=(T + 1, p))
    scale[-1, n:] = 0.0
    cost = ResidualCost(np.eye(p), generator.normal(size=(T + 1, p)), scale, np.full(p, np.inf), np.zeros(p, bool))
    bound = np.full((T, m), limit)
    return Problem(generator.normal(size=n), model, cost, -bound, bound)


def for_peers(problem: Problem) -> Data:
    """The same as matrices."""
    model, cost, n = problem.model, problem.cost, len(problem.x0)
    assert isinstance(cost, ResidualCost)
    C, c = cost.scale[:, :, None] * np.eye(cost.scale.shape[1]), -cost.scale * cost.reference
    C[-1, n:, n:] = np.eye(C.shape[1] - n)  # of no effect; Crocoddyl wants it
    return Data(problem.x0, model.F, model.f, C, c, 0.5 * (cost.scale * cost.reference**2).sum(-1))


class Ours:
    """The planner on one problem."""

    def __init__(self, problem: Problem, iterations: int) -> None:
        self.problem, self.planner = problem, Ilqr(Ilqr.Config(horizon=len(problem.lower), iterations=iterations))
        self.solved = self.solve()

    def solve(self) -> Plan:
        """From zero efforts."""
        return self.planner.plan(self.problem, None)


def measure(calls: list[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Processor time of each [us], least and median, in turns of four calls: the first only fills the caches."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for spent, call in zip(times, calls, strict=True):
            call()
            for _ in range(3):
                began = time.thread_time_ns()
                call()
                spent.append(1e-3 * (time.thread_time_ns() - began))
    return [[min(t), statistics.median(t)] for t in times]


def _difference(a: Any, b: Any) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def _require(difference: float, most: float, what: str) -> None:
    if not difference <= most:
        raise RuntimeError(f"{what}: answers differ by {difference:.1e}, at most {most:.0e} expected")


def _peer(kind: Any, *arguments: Any) -> Any:
    try:
        return kind(*arguments)
    except ImportError as error:
        print(f"{kind.name} is left out ({error}): pip install -r benchmarks/requirements.txt", file=sys.stderr)
        return None


def rows(sizes: list[tuple[int, int, int]] = SIZES, repeats: int = 60) -> list[dict[str, Any]]:
    """One comparison each: what, size, ours_us, peer, peer_us, ratio (peer over ours), and the least times, ours_min_us
    and peer_min_us. Raises RuntimeError where answers differ."""
    found: list[dict[str, Any]] = []
    for size in sizes:
        free, limited = Ours(problem(*size), 1), Ours(problem(*size, LIMIT), 100)
        data = for_peers(free.problem)
        calls: dict[tuple[str, str], Callable[[], Any]] = {("iterate", "ours"): free.solve,
                                                           ("limited", "ours"): limited.solve}
        for peer in (_peer(Crocoddyl, data), _peer(Hpipm, data)):
            if peer is None:
                continue
            _require(_difference(peer.efforts(), free.solved.efforts), AGREE, peer.name)
            if isinstance(peer, Crocoddyl):
                _require(_difference(peer.gains(), free.solved.policy.K), AGREE, peer.name)
            calls |= {(what, peer.name): getattr(peer, what) for what in ("iterate", "fresh")}
        peer = _peer(Crocoddyl, data, LIMIT)
        if peer is not None:
            peer.limited()
            cost = peer.solver.cost + data.const.sum()  # of which Crocoddyl does not know
            _require(abs(cost / limited.solved.cost - 1), AGREE_LIMITED, "limited")
            calls["limited", peer.name] = peer.limited
        times = dict(zip(calls, measure(list(calls.values()), repeats), strict=True))
        for (what, name), theirs in times.items():
            if name != "ours":
                mine = times["limited" if what == "limited" else "iterate", "ours"]
                found.append({"what": what, "size": f"{size[0]}, {size[1]}, {size[2]}", "ours_us": round(mine[1], 2),
                              "peer": name, "peer_us": round(theirs[1], 2), "ratio": round(theirs[1] / mine[1], 2),
                              "ours_min_us": round(mine[0], 2), "peer_min_us": round(theirs[0], 2)})
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--repeats", type=int, default=60)
    arguments.add_argument("--size", type=int, nargs=3, action="append", metavar=("N", "M", "T"))
    options = arguments.parse_args()
    print("| what | n, m, T | ours min, median [us] | peer | peer min, median [us] | ratio |\n|" + "---|" * 6)
    for size in options.size or SIZES:
        for row in rows([tuple(size)], options.repeats):
            print(f"| {row['what']} | {row['size']} | {row['ours_min_us']:.1f}, {row['ours_us']:.1f} | {row['peer']} "
                  f"| {row['peer_min_us']:.1f}, {row['peer_us']:.1f} | {row['ratio']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
