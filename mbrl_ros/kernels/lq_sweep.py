"""One LQ problem without limits, compiled for its size: load, backward pass and rollout, once over the data."""
from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from mbrl_ros.kernels.compiled import compile_for
from mbrl_ros.kernels.lq_places import REVISION, Places
from mbrl_ros.kernels.lq_steps import (
    Layout,
    address,
    advance,
    ahead,
    cost,
    efforts,
    eliminate,
    gains,
    is_finite,
    load_C,
    load_F,
    value,
)
from mbrl_ros.types import CONVERGED, LINE_SEARCH_FAILED, NOT_FINITE, STATUSES, Array

_CONVERGED, _FAILED, _NOT_FINITE = (STATUSES.index(s) for s in (CONVERGED, LINE_SEARCH_FAILED, NOT_FINITE))


@functools.cache
def compiled(n: int, m: int, bits: int, width: int) -> Any:
    """run(...) for n states, m efforts and vectors of `width` numbers of `bits`, compiled now or from disk."""
    W, L = width, Layout(n, m, width)
    h, x, U = L.h, L.x, L.u
    F_size, C_size, V_size, G_size, R_size = n * h, L.p * h, (n + 1) * x, m * L.a, m * h
    F_bytes, f_bytes, C_bytes, c_bytes, const_bytes = (
        size * bits // 8 for size in (n * (n + m), n, (n + m) * (n + m), n + m, 1))
    number = numba.float64 if bits == 64 else numba.float32
    revision = REVISION

    def run(buffer: Array, places: Array, x0: Array, F: Array, f: Array, C: Array, c: Array, const: Array, fresh: bool,
            forward: bool) -> tuple[int, float]:
        """Status and cost of a pass, from x0 where `forward`; loads the problem on the way if `fresh`."""
        base, T, steps, o = address(buffer), len(c) - 1, len(F), places
        # One by one, because a tuple takes ten times as long to come in.
        at = Places(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14],
                    o[15], o[16], o[17], o[18], o[19], o[20], o[21], o[22], o[23], o[24])
        F_in, f_in, C_in, c_in, const_in = address(F), address(f), address(C), address(c), address(const)
        stride, good = (F_size if steps > 1 else 0), revision >= 0
        C_t, V_t = at.C + T * C_size, at.V + T * V_size
        if fresh:
            load_C(base, C_t, C_in + T * C_bytes, c_in + T * c_bytes, const_in + T * const_bytes, n, m, W, bits)
        for i in range(n):
            for j in range(n):
                buffer[V_t + i * x + j] = number(0.5) * (buffer[C_t + i * h + j] + buffer[C_t + j * h + i])
            buffer[V_t + n * x + i] = buffer[C_t + n * h + i]
        for t in range(T - 1, -1, -1):
            F_t, C_t, V_t, Q = at.F + t * stride, at.C + t * C_size, at.V + t * V_size, at.R + t * R_size
            if fresh:
                if steps > 1 or t == T - 1:
                    now = min(t, steps - 1)
                    load_F(base, F_t, F_in + now * F_bytes, f_in + now * f_bytes, n, m, W, bits)
                load_C(base, C_t, C_in + t * C_bytes, c_in + t * c_bytes, const_in + t * const_bytes, n, m, W, bits)
            ahead(base, at.P, V_t + V_size, F_t, n, m, W, bits)
            efforts(base, Q, C_t, F_t, at.P, n, m, W, bits)
            good &= eliminate(base, Q, at.left, at.right, n, m, W, bits) == 1
            value(base, V_t, C_t, F_t, at.P, at.left, at.right, m, n, m, W, bits)
            gains(base, at.G + t * G_size, at.right, n, m, W, bits)
        if not good or is_finite(base, at.V, n, m, W, bits) == 0:
            total = 0.0
            for i in range(at.F, at.V):  # F and C with what is affine
                total += 0.0 * buffer[i]
            return _FAILED if total == 0.0 else _NOT_FINITE, np.inf
        if not forward:
            return _CONVERGED, np.inf
        z = at.z
        for i in range(n):
            buffer[z + i] = x0[i]
        for t in range(T):
            advance(base, z + t * h, z + (t + 1) * h, at.G + t * G_size, at.F + t * stride, at.zero, at.low + t * U,
                    at.high + t * U, number(0.0), n, m, W, bits)
        total = float(cost(base, at.C, z, T + 1, n, m, W, bits))
        return (_CONVERGED, total) if np.isfinite(total) else (_NOT_FINITE, np.inf)

    vector, matrix, stack, yes = number[::1], number[:, ::1], number[:, :, ::1], numba.boolean
    signature = numba.types.Tuple((numba.int64, numba.float64))(
        vector, numba.int64[::1], vector, stack, matrix, stack, matrix, vector, yes, yes)
    return compile_for(signature)(run)
