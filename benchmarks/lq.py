"""Time of one LQ problem on the CPU: the compiled kernel against Crocoddyl and HPIPM, one thread, in turns.

    pip install -r benchmarks/requirements.txt
    . .venv/bin/activate && . install/setup.sh && OMP_NUM_THREADS=1 python3 benchmarks/lq.py

Every answer of a peer is compared with ours in the same run; a peer that is missing is left out, with a line that
says so. Times are processor time, because on a busy machine long calls are interrupted more often than short ones,
and all take turns. The ratio is of medians. `fresh` means that F, f, C and c are new, as after each fit of the learner.
Ours is called through Workspace, checks included. `limited` is until each solver says that it has converged.
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

from mbrl_ros.kernels.lq_kernel import Settings, Workspace

sys.path.insert(0, str(Path(__file__).parent))
from lq_peers import Crocoddyl, Data, Hpipm

SIZES = [(4, 2, 25), (14, 7, 25), (14, 7, 50), (20, 7, 25), (32, 7, 25), (32, 7, 50)]
LIMIT = 0.5
AGREE = 1e-9  # relative, double precision
AGREE_LIMITED = 1e-6  # relative, of the cost: both stop when little is left to gain


def problem(n: int, m: int, T: int, seed: int = 100) -> Data:
    """Random, time-varying, stable, with offsets and cross terms."""
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(T, n, n))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max(-1)[:, None, None]
    F = np.concatenate([A, generator.normal(size=(T, n, m))], -1)
    W = generator.normal(size=(T + 1, n + m, n + m)) / (n + m) ** 0.5
    C = W @ W.swapaxes(-1, -2) + 0.1 * np.eye(n + m)
    c = generator.normal(size=(T + 1, n + m))
    C[-1, :, n:], C[-1, n:], c[-1, n:] = 0.0, 0.0, 0.0
    C[-1, n:, n:] = np.eye(m)  # of no effect; Crocoddyl wants it
    return Data(generator.normal(size=n), F, 0.1 * generator.normal(size=(T, n)), C, c, np.zeros(T + 1))


class Ours:
    """The kernel on one problem."""

    def __init__(self, data: Data, dtype: Any = np.float64, width: int | None = None, limit: float = np.inf) -> None:
        self.data = Data(*(np.ascontiguousarray(a, dtype) for a in data))
        T, n, p = data.F.shape
        self.workspace = Workspace(n, p - n, T, dtype, width)
        self.workspace.limit(-limit, limit)
        self.zero, self.settings = np.zeros((T, p - n), dtype), Settings(iterations=100)
        self.fresh()

    def fresh(self) -> None:
        """Load, backward pass, rollout."""
        self.workspace.load(*self.data[1:])
        self.workspace.sweep(self.data.x0)

    def backward(self) -> None:
        """Backward pass of what is loaded."""
        self.workspace.sweep(self.data.x0, forward=False)

    def iterate(self) -> None:
        """Backward pass and rollout."""
        self.workspace.sweep(self.data.x0)

    def limited(self) -> None:
        """With limits, from zero efforts, nothing known of what will be clamped."""
        self.workspace.forget()
        self.workspace.solve(self.data.x0, self.zero, self.settings)


def measure(calls: list[Callable[[], None]], repeats: int) -> list[list[float]]:
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
        print(f"{kind.name} is left out: {error}", file=sys.stderr)
        return None


def rows(sizes: list[tuple[int, int, int]] = SIZES, repeats: int = 60) -> list[dict[str, Any]]:
    """One comparison each: what, size, ours_us, peer, peer_us, ratio (peer over ours), and the least times, ours_min_us
    and peer_min_us. Raises RuntimeError where answers differ."""
    found: list[dict[str, Any]] = []
    for n, m, T in sizes:
        data = problem(n, m, T)
        double, single, four = Ours(data), Ours(data, np.float32), Ours(data, width=4)
        exact = double.workspace.solution()
        for other, most in ((four, AGREE), (single, 1e-4)):
            _require(_difference(other.workspace.solution().u, exact.u), most, "another width or precision")
        calls: dict[tuple[str, str], Callable[[], None]] = {}
        for name, ours in (("double", double), ("single", single), ("4 lanes", four)):
            calls |= {(f"{what}, {name}", "ours"): getattr(ours, what) for what in ("backward", "iterate", "fresh")}
        pairs = [(f"{what}, single", "ours", f"{what}, double", "double") for what in ("backward", "fresh")]
        for peer in (_peer(Crocoddyl, data), _peer(Hpipm, data)):
            if peer is None:
                continue
            _require(_difference(peer.efforts(), exact.u), AGREE, peer.name)
            if isinstance(peer, Crocoddyl):
                _require(_difference(peer.gains(), exact.K), AGREE, peer.name)
            for what in ("backward", "iterate", "fresh"):
                if hasattr(peer, what):
                    calls[what, peer.name] = getattr(peer, what)
                    pairs += [(f"{what}, {name}", "ours", what, peer.name) for name in ("double", "single", "4 lanes")]
        limited, peer = Ours(data, limit=LIMIT), _peer(Crocoddyl, data, LIMIT)
        calls["limited", "ours"] = limited.limited
        limited.limited()
        if peer is not None:
            peer.limited()
            _require(abs(peer.solver.cost - limited.workspace.solution().cost) / abs(peer.solver.cost), AGREE_LIMITED,
                     "limited")
            calls["limited", peer.name] = peer.limited
            pairs.append(("limited", "ours", "limited", peer.name))
        times = dict(zip(calls, measure(list(calls.values()), repeats), strict=True))
        for what, us, their, name in pairs:
            mine, theirs = times[what, us], times[their, "ours" if name == "double" else name]
            found.append({"what": what, "size": f"{n}, {m}, {T}", "ours_us": round(mine[1], 2), "peer": name,
                          "peer_us": round(theirs[1], 2), "ratio": round(theirs[1] / mine[1], 2),
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
