"""Many LQ problems at once on a GPU: each horizon is one kernel, in Triton (fused_kernels.py).

In torch a backward pass is some 17 small kernels a step, one after the other; here it is one launch, and nothing but
the problem is read and nothing but its solution written. Triton comes with torch's CUDA build and is imported when a
kernel is first wanted; a kernel compiles at its first call for a size. Without a GPU the kernels run in Triton's
interpreter, if TRITON_INTERPRET=1 was set before Triton was imported: slowly, for tests.
"""
from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mbrl_ros.types import QuadraticCost

if TYPE_CHECKING:
    from jaxtyping import Float

SMALLEST, LARGEST = 16, 64  # tiles: the least side of a product in Triton; beyond the largest, registers run out
# Warps of a program and products, by tile and bytes of a number: the fewest warps, so the fewest barriers, with which
# no register spills when compiled for sm_90; large tiles in single precision spill all the same, least with tf32x3. Not
# timed.
LAUNCH = {(16, 4): (1, "ieee"), (32, 4): (4, "ieee"), (64, 4): (8, "tf32x3"),
          (16, 8): (1, "ieee"), (32, 8): (2, "ieee"), (64, 8): (8, "ieee")}
ARC_POINTS = 16  # of the search in box._projected_search


class Fused(NamedTuple):
    """lqr.Backward's fields, and where limits acted."""

    K: Tensor  # (*b, T, m, n)
    k: Tensor  # (*b, T, m)
    L: Tensor  # (*b, T, m, m)
    Quu: Tensor  # (*b, T, m, m)
    values: Tensor | None  # (*b, T + 1, 1 + n, 1 + n)
    linear: Tensor  # (*b,)
    quadratic: Tensor  # (*b,)
    success: Tensor  # (*b,) bool
    price: Tensor | None  # (*b, T)
    clamped: Tensor  # (*b,) bool: a bound acted at some step


@functools.cache
def has_triton() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def applies(F: Float[Tensor, "... n p"]) -> bool:
    """Whether the kernels take problems with this F: on a GPU, with Triton, and not too large."""
    return F.is_cuda and F.dtype in (torch.float32, torch.float64) and 1 + F.shape[-1] <= LARGEST and has_triton()


def backward(F: Float[Tensor, "*#t n p"], f: Float[Tensor, "*#t n"] | None, cost: QuadraticCost,
             mu: Float[Tensor, " *b"] | None = None,
             spread: tuple[Float[Tensor, "... n n"], Float[Tensor, "... 1+p 1+p"]] | None = None,
             box: tuple[Float[Tensor, "*c T m"], Float[Tensor, "*c T m"]] | None = None,
             iterations: int = 30, slack: float = 1e-10, values: bool = True) -> Fused:
    """See lqr.backward; k within `box`, as box.BoxGain would have it. The values only if asked for.

    Raises ImportError without Triton, ValueError for problems beyond the largest tile.
    """
    n, p, T = F.shape[-2], F.shape[-1], cost.c.shape[-2] - 1
    m = p - n
    arrays: list[tuple[Tensor | None, int, int]] = [  # with the length of their time axis, and axes behind it
        (F, T, 2), (f, T, 1), (cost.C, T + 1, 2), (cost.c, T + 1, 1), (cost.const, T + 1, 0),
        *((part, T, 2) for part in spread or (None, None)), *((part, T, 1) for part in box or (None, None))]
    batch = torch.broadcast_shapes(*(a.shape[:max(a.ndim - axes - 1, 0)] for a, _, axes in arrays if a is not None),
                                   () if mu is None else mu.shape)
    B = batch.numel()
    views: list[Any] = []
    for array, steps, axes in arrays:
        views.extend((None, 0, 0) if array is None else _strided(array, batch, steps, axes))
    ridge = (None, 0) if mu is None else _strided(mu.unsqueeze(-1), batch, 1, 0)[:2]
    new = lambda *shape: F.new_empty(B, *shape)  # noqa: E731
    K, k, L, Quu = new(T, m, n), new(T, m), new(T, m, m), new(T, m, m)
    V = new(T + 1, 1 + n, 1 + n) if values else None
    linear, quadratic = new(), new()
    success, clamped = (F.new_empty(B, dtype=torch.bool) for _ in range(2))
    price = None if spread is None else new(T)
    _launch("backward_kernel", B, F, *views[:15], *ridge, *views[15:], K, k, L, Quu, V, linear, quadratic, success,
            price, clamped, T, n=n, m=m, iterations=iterations, slack_part=slack, points=ARC_POINTS)
    shaped = (None if a is None else a.reshape(batch + a.shape[1:])
              for a in (K, k, L, Quu, V, linear, quadratic, success, price, clamped))
    return Fused(*shaped)  # type: ignore[arg-type]


def forward(F: Float[Tensor, "... n p"], f: Float[Tensor, "... n"], K: Float[Tensor, "*b T m n"],
            k: Float[Tensor, "*b T m"], x: Float[Tensor, "*b T+1 n"], u: Float[Tensor, "*b T m"],
            box: tuple[Float[Tensor, "... T m"], Float[Tensor, "... T m"]], x0: Float[Tensor, "*b n"],
            lengths: Float[Tensor, " S"]
            ) -> tuple[Float[Tensor, "S *b T+1 n"], Float[Tensor, "S *b T m"]]:
    """See lqr.forward, for linear dynamics F (*b, T or 1, n, n + m) or (n, n + m), f alike without the last axis."""
    (*batch, T, m), n, S = u.shape, x.shape[-1], len(lengths)
    shape = torch.Size(batch)
    B = shape.numel()
    views: list[Any] = []
    for array, steps, axes in ((F, T, 2), (f, T, 1), (K, T, 2), (k, T, 1), (x, T + 1, 1), (u, T, 1),
                               *((part, T, 1) for part in box)):
        views.extend(_strided(array, shape, steps, axes))
    start = _strided(x0.unsqueeze(-2), shape, 1, 1)[:2]
    states, efforts = F.new_empty(S, B, T + 1, n), F.new_empty(S, B, T, m)
    rungs = max(SMALLEST, 1 << (S - 1).bit_length())
    _launch("forward_kernel", B, F, *views, *start, lengths.contiguous(), states, efforts, S, T, n=n, m=m, rungs=rungs)
    return states.reshape(S, *batch, T + 1, n), efforts.reshape(S, *batch, T, m)


def _launch(kernel: str, programs: int, F: Tensor, *arguments: Any, **constants: Any) -> None:
    """Run a kernel for problems like F; without Triton an ImportError that says what to do."""
    if not has_triton():
        raise ImportError("the fused kernels need Triton, which comes with torch's CUDA build (or: pip install triton)")
    kernels = importlib.import_module("mbrl_ros.planners.fused_kernels")
    P = _tile(1 + F.shape[-1])
    warps, precision = LAUNCH[P, F.element_size()]
    if programs:
        with torch.cuda.device_of(F):
            getattr(kernels, kernel)[(programs,)](*arguments, **constants, P=P, precision=precision, num_warps=warps,
                                                  enable_fp_fusion=True)


def _strided(array: Tensor, batch: torch.Size, steps: int, axes: int) -> tuple[Tensor, int, int]:
    """(*b, steps or 1, ...) or (...) with `axes` axes behind the time, as (B, steps, ...) and strides of the first two.

    Copied only where the last axes are not dense or the batch axes have no common stride.
    """
    if array.ndim == axes:
        array = array.unsqueeze(0)
    if array.numel() and not array[(0,) * (array.ndim - axes)].is_contiguous():
        array = array.contiguous()
    inner = array.shape[array.ndim - axes:]
    array = array.expand(*batch, steps, *inner).reshape(batch.numel(), steps, *inner)
    return array, array.stride(0), array.stride(1)


def _tile(size: int) -> int:
    """The side of the tile that holds `size` rows."""
    side = max(SMALLEST, 1 << (size - 1).bit_length())
    if side > LARGEST:
        raise ValueError(f"{size} = 1 + n + m rows are more than the largest tile of the fused kernel has, {LARGEST}")
    return side

