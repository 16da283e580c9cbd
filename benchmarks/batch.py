"""Time of a batch of LQ problems: the compiled kernel on the CPU, one after the other, beside torch, and with a GPU the
fused kernel beside torch and its CUDA graph.

    . .venv/bin/activate && . install/setup.sh && OMP_NUM_THREADS=1 python3 benchmarks/batch.py

Every problem has dynamics and cost of its own, time-varying, the latter weighted squares of all states and efforts:
of the kind that the kernel of the ring plans, in double precision. Arrays lie where they are worked on before the clock
starts. Contestants take turns, and each answer is compared with torch's on the CPU. Times are of a whole batch, copies
in and out included; `ours` is the fused kernel on a GPU, else the kernel on the CPU, else torch.
"""
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_ros.planners import fused, lqr
from mbrl_ros.planners.graphed import Graphed
from mbrl_ros.planners.ilqr import Lqr
from mbrl_ros.planners.problem import Problem
from mbrl_ros.task.cost import ResidualCost
from mbrl_ros.types import LinearGaussianDynamics, QuadraticCost

SIZES = [(14, 7, 25)]
BATCHES = [1, 16, 256, 4096]
DIFFERENT = 64  # problems; larger batches repeat them, in memory of their own
ALONE = 16  # problems one after the other in torch, at most: 1 to 2 ms each
SECONDS = 4.0  # for each contestant and batch, unless three turns take longer
AGREE = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the largest gain

Contestant = Callable[[], tuple[Tensor, Tensor]]  # -> K, k of the whole batch


def problems(n: int, m: int, T: int, batch: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
    """F (batch, T, n, n + m), C (batch, T + 1, n + m, n + m), c, const: random, stable."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(DIFFERENT, *shape, generator=generator, dtype=torch.float64)  # noqa: E731
    A, p = draw(T, n, n), n + m
    A *= 0.95 / torch.linalg.eigvals(A).abs().amax(-1)[..., None, None]
    scale = 0.5 + 1.5 * draw(T + 1, p).sigmoid()
    scale[:, -1, n:] = 0.0
    arrays = (torch.cat([A, draw(T, n, m)], -1), torch.diag_embed(scale), scale * draw(T + 1, p), draw(T + 1))
    which = torch.arange(batch) % DIFFERENT
    return tuple(array.to(dtype)[which] for array in arrays)


def contestants(arrays: tuple[Tensor, ...]) -> dict[str, Contestant]:
    """By name; on the CPU what torch does with the batch, and with its problems one after the other."""
    F, C, c, _ = (array.numpy() for array in arrays)
    batch, T, n, p = F.shape
    planner, eye, no = Lqr(Lqr.Config(horizon=T)), np.eye(p), np.zeros(p, bool)
    bound, quadratic = np.full((T, p - n), np.inf), np.full(p, np.inf)

    def kernel() -> tuple[Tensor, Tensor]:
        K, k = np.empty((batch, T, p - n, n)), np.empty((batch, T, p - n))
        for b in range(batch):
            scale = C[b].diagonal(axis1=-2, axis2=-1)
            reference = -c[b] / np.where(scale > 0, scale, 1.0)
            problem = Problem(np.zeros(n), LinearGaussianDynamics(F[b], np.zeros((T, n)), np.eye(n)),
                              ResidualCost(eye, reference, scale, quadratic, no), -bound, bound)
            plan = planner.plan(problem, None)
            K[b] = plan.policy.K
            k[b] = plan.efforts - (K[b] @ plan.states[:-1, :, None])[..., 0]
        return torch.from_numpy(K), torch.from_numpy(k)

    def batched(F: Tensor, *cost: Tensor) -> Contestant:
        return lambda: _gains(lqr._in_torch(F, None, QuadraticCost(*cost), None, lqr.newton, None))

    def one_by_one() -> tuple[Tensor, Tensor]:
        alone = [batched(*(array[b] for array in arrays))() for b in range(batch)]
        return tuple(map(torch.stack, zip(*alone, strict=True)))  # type: ignore[return-value]

    found: dict[str, Contestant] = {"torch, CPU": batched(*arrays)}
    if F.dtype == np.float64:
        found["kernel, CPU"] = kernel
    if batch <= ALONE:
        found["torch, CPU, one by one"] = one_by_one
    if torch.cuda.is_available():
        on_gpu = tuple(array.cuda() for array in arrays)
        graphed = Graphed(lqr._flat)
        found["torch, GPU"] = _waiting(batched(*on_gpu))
        found["CUDA graph"] = _waiting(
            lambda: _gains(lqr._assemble(*graphed(on_gpu[0], None, *on_gpu[1:], None, None, None))))
        if fused.has_triton():
            found["fused, GPU"] = _waiting(lambda: _gains(fused.backward(on_gpu[0], None, QuadraticCost(*on_gpu[1:]))))
    return found


def _gains(step: Any) -> tuple[Tensor, Tensor]:
    return step.K, step.k


def _waiting(run: Contestant) -> Contestant:
    """Until the GPU has finished."""
    def complete() -> tuple[Tensor, Tensor]:
        gains = run()
        torch.cuda.synchronize()
        return gains
    return complete


def measure(runs: dict[str, Contestant]) -> dict[str, tuple[float, float]]:
    """Minimum and median in microseconds; every run was called before, which may compile."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    done: set[str] = set()
    while len(done) < len(runs):
        for name, run in runs.items():
            if name in done:
                continue
            began = time.perf_counter()
            run()
            spent = times[name]
            spent.append(time.perf_counter() - began)
            if len(spent) >= 3 and (sum(spent) > SECONDS or len(spent) >= 100):
                done.add(name)
    return {name: (1e6 * min(spent), 1e6 * statistics.median(spent)) for name, spent in times.items()}


def compare(n: int, m: int, T: int, batch: int, dtype: torch.dtype) -> dict[str, tuple[float, float]]:
    """Times by name. Raises RuntimeError where answers differ."""
    runs = contestants(problems(n, m, T, batch, dtype))
    expected = runs["torch, CPU"]()
    for name, run in runs.items():
        for found, truth in zip(run(), expected, strict=True):
            difference = float((found.cpu() - truth).abs().max() / truth.abs().max())
            if not difference <= AGREE[dtype]:
                raise RuntimeError(f"{name}, batch of {batch}: the gains differ by {difference:.1e}")
    return measure(runs)


def rows(sizes: list[tuple[int, int, int]] = SIZES, batches: list[int] = BATCHES) -> list[dict[str, Any]]:
    """One comparison each: what, size, ours_us, peer, peer_us, ratio (peer over ours), in medians."""
    found: list[dict[str, Any]] = []
    for n, m, T in sizes:
        for batch in batches:
            for dtype in (torch.float64, torch.float32):
                times = compare(n, m, T, batch, dtype)
                name = next(name for name in ("fused, GPU", "kernel, CPU", "torch, CPU") if name in times)
                ours = times[name][1]
                what = f"backward, batch of {batch}, {'double' if dtype == torch.float64 else 'single'}: {name}"
                found += [{"what": what, "size": (n, m, T), "ours_us": ours, "peer": peer, "peer_us": median,
                           "ratio": median / ours} for peer, (_, median) in times.items() if peer != name]
    return found


def main() -> None:
    """Print the table, in microseconds for a whole batch and for one problem of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    batches = parser.parse_args().batches
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        print("No GPU: neither the fused kernel nor the CUDA graph is timed.")
    print("| n, m, T | numbers | batch | what | min, median [us] | median a problem [us] |\n|---|---|---|---|---|---|")
    for n, m, T in SIZES:
        for batch in batches:
            for dtype in (torch.float64, torch.float32):
                for name, (least, median) in compare(n, m, T, batch, dtype).items():
                    print(f"| {n}, {m}, {T} | {str(dtype)[6:]} | {batch} | {name} | {least:.0f}, {median:.0f} "
                          f"| {median / batch:.1f} |", flush=True)


if __name__ == "__main__":
    main()
