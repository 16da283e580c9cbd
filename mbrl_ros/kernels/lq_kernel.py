"""One LQ problem with dense, time-varying F_t and C_t on the CPU, compiled for its size.

Minimise sum_t 1/2 z_t'C_t z_t + c_t'z_t + const_t, z = [x; u], subject to x_{t+1} = F_t z_t + f_t, from x_0, and to
lower_t <= u_t <= upper_t. Without limits one backward pass solves it (lq_sweep.py), with them passes follow each other
as in ilqr.py (lq_limits.py). Both work on one buffer (lq_places.py) by the intrinsics of lq_steps.py, in double or
single precision. Numba keeps what it compiles on disk.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mbrl_ros.kernels import lq_limits, lq_sweep, simd
from mbrl_ros.kernels.lq_limits import Settings
from mbrl_ros.kernels.lq_places import Places
from mbrl_ros.kernels.lq_steps import Layout
from mbrl_ros.types import CONVERGED, STATUSES, Array

MOST_STATES, MOST_EFFORTS = 64, 16  # larger problems would take too long to compile
_CONVERGED = STATUSES.index(CONVERGED)


class Solution(NamedTuple):
    """Views of the workspace, valid until it solves again: of the last pass that succeeded, and the best trajectory."""

    status: int  # index into STATUSES
    passes: int
    cost: float  # infinite where anything is not finite
    x: Array  # (T + 1, n)
    u: Array  # (T, m)
    K: Array  # (T, m, n), zero where no pass succeeded
    k: Array  # (T, m), u = K x + k
    Quu: Array  # (T, m, m), regularised; the identity where no pass succeeded
    V: Array  # (T + 1, n, n), the value at x is 1/2 x'V x + v'x and a constant
    v: Array  # (T + 1, n)
    solved: bool  # a pass succeeded


class Workspace:
    """The memory of problems of one size, allocated once."""

    def __init__(self, n: int, m: int, T: int, dtype: Any = np.float64, width: int | None = None) -> None:
        """double or single precision; `width` lanes a vector, a power of two."""
        if not (1 <= n <= MOST_STATES and 1 <= m <= MOST_EFFORTS and T >= 1):
            raise ValueError(f"n = {n} must be within 1 and {MOST_STATES}, m = {m} within 1 and {MOST_EFFORTS}, "
                             f"T = {T} at least 1")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float64, np.float32):
            raise ValueError(f"dtype must be float64 or float32, not {self.dtype}")
        bits = 8 * self.dtype.itemsize
        width = width or simd.register_bytes() * 8 // bits
        self.n, self.m, self.T, self.layout = n, m, T, Layout(n, m, width)
        self._compiled = n, m, bits, width
        self._at = Places.of(self.layout, T)
        memory = np.zeros(self._at.size + 64, self.dtype)
        start = -memory.ctypes.data % 64 // self.dtype.itemsize  # rows of whole vectors do not cross cache lines
        self._buffer = memory[start : start + self._at.size]
        self._places = np.array(self._at, np.int64)
        self._held = np.zeros((T, m), np.int64)
        for z in (self._at.z, self._at.candidate, self._at.best):
            self._buffer[z + n] = 1.0
        self._buffer[self._at.free : self._at.free + n + 1] = 1.0
        self.low, self.high = self._view(self._at.low, T, self.layout.u), self._view(self._at.high, T, self.layout.u)
        self._k = self._view(self._at.k, T, self.layout.u)
        self._sweep: Any = None
        self._solve: Any = None
        p = n + m
        self._shapes = (((T, n, p), (1, n, p)), ((T, n), (1, n)), ((T + 1, p, p),), ((T + 1, p),), ((T + 1,),))
        self._data: tuple[Array, ...] = ()
        self._fresh = False  # whether the data have to be copied yet
        self.limit(-np.inf, np.inf)

    def _view(self, start: int, *shape: int) -> Array:
        return self._buffer[start : start + int(np.prod(shape))].reshape(shape)

    def limit(self, lower: Array | float, upper: Array | float) -> None:
        """Bounds on the efforts (T, m), kept until there are others."""
        self.low[:, : self.m], self.high[:, : self.m] = lower, upper

    def forget(self) -> None:
        """Which limits acted in the last solve, where the next one would begin."""
        self._held[:] = 0

    def load(self, F: Array, f: Array, C: Array, c: Array, const: Array) -> None:
        """Which problem the next calls solve: F (T or 1, n, n + m), f (T or 1, n), C (T + 1, n + m, n + m),
        c (T + 1, n + m), const (T + 1,), C-contiguous, read by the next call.

        Raises ValueError where shapes or types do not fit.
        """
        data = (F, f, C, c, const)
        for array, shapes, name in zip(data, self._shapes, ("F", "f", "C", "c", "const"), strict=True):
            if array.shape not in shapes or array.dtype != self.dtype or not array.flags.c_contiguous:
                raise ValueError(f"{name} must be C-contiguous {self.dtype} of shape {shapes[0]}, "
                                 f"not {array.dtype} of shape {array.shape}")
        if len(F) != len(f):
            raise ValueError(f"F and f must have as many steps, not {len(F)} and {len(f)}")
        self._data, self._fresh = data, True

    def prepare(self, limits: bool = False) -> None:
        """Compile `sweep`, and `solve` if `limits`; otherwise their first call does, which takes seconds."""
        lq_sweep.compiled(*self._compiled)
        if limits:
            lq_limits.compiled(*self._compiled)

    def sweep(self, x0: Array, forward: bool = True) -> tuple[int, float]:
        """Status and cost of one backward pass without limits and, if `forward`, the rollout of its policy with
        efforts clamped into the limits; see `solution`. The status is converged, not_finite, or line_search_failed
        where Q_uu is not positive definite."""
        self._check(x0)
        if self._sweep is None:
            self._sweep = lq_sweep.compiled(*self._compiled)
        status, cost = self._sweep(self._buffer, self._places, x0, *self._data, self._fresh, forward)
        at, self._fresh = self._at, False
        self._found = status, 1, cost, at.z, at.G if status == _CONVERGED else -1, at.R
        return status, cost

    def solve(self, x0: Array, u: Array, settings: Settings) -> tuple[int, float]:
        """Status and cost of passes within limits from the efforts u (T, m), finite and within the limits."""
        self._check(x0)
        if self._solve is None:
            self._solve = lq_limits.compiled(*self._compiled)
        self._k[:, : self.m] = -u
        self._found = self._solve(self._buffer, self._places, x0, *self._data, self._held, self._fresh,
                                  np.array(settings, float))
        self._fresh = False
        return self._found[0], self._found[2]

    def _check(self, x0: Array) -> None:
        if x0.shape != (self.n,) or not self._data:
            raise ValueError(f"x0 must have shape ({self.n},), not {x0.shape}" if self._data else "nothing is loaded")

    def solution(self) -> Solution:
        """Of the last call."""
        L, T, n, m = self.layout, self.T, self.n, self.m
        status, passes, cost, z, G, R = self._found
        trajectory, values = self._view(z, T + 1, L.h), self._view(self._at.V, T + 1, n + 1, L.x)
        gains = self._view(G, T, m, L.a) if G >= 0 else np.zeros((T, m, L.a), self.dtype)
        Quu = self._view(R, T, m, L.h)[..., n + 1 : L.p] if G >= 0 else np.tile(np.eye(m, dtype=self.dtype), (T, 1, 1))
        return Solution(status, passes, cost, trajectory[:, :n], trajectory[:T, n + 1 : L.p],
                        gains[..., :n], gains[..., n], Quu, values[:, :n, :n], values[:, n, :n], G >= 0)
