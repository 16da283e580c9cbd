"""What many candidates cost on one core: linear dynamics and a task's cost, eight at a time in vector registers.

It compiles when it is imported, see kernels/ilqr.py, of which it is made.
"""
from __future__ import annotations

import numba
import numpy as np

from mbrl_ros.kernels.compiled import WIDTH, Array, compile_for
from mbrl_ros.kernels.ilqr import _by_eights, _dynamics, _evaluate_ladder, _terms

_vector, _matrix, _stack = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, ::1]
_SIGNATURE = _vector(_vector, _stack, _matrix, _matrix, _matrix, _matrix, _vector, numba.boolean[::1], _stack)


def _costs(x0: Array, F: Array, f: Array, R: Array, reference: Array, scale: Array, width: Array, dead: Array,
           u: Array) -> Array:
    """The costs (S,) of efforts u (S, T, m) from x0 (n,); not a number where anything is not finite.

    F (T or 1, n, n + m), f (T or 1, n) and the fields of task.cost.ResidualCost, all C-contiguous.
    """
    (S, T, m), n = u.shape, len(x0)
    dynamics, terms = _dynamics(F, f, n), _terms(R, reference, scale, width, dead)
    d, p, dense = len(dynamics.columns), n + m, dynamics.dense
    z, compact = np.zeros((T + 1, p, WIDTH)), np.ones((d + 1, WIDTH))
    flat, values, costs = z.reshape(-1, WIDTH), np.empty(WIDTH), np.empty(S)
    for i in range(n):
        z[0, i] = x0[i]
    for first in range(0, S, WIDTH):
        for w in range(WIDTH):
            s = min(first + w, S - 1)
            for t in range(T):
                for a in range(m):
                    z[t, n + a, w] = u[s, t, a]
        for t in range(T):
            G = dynamics.G[min(t, len(dynamics.G) - 1)]
            for a in range(d):
                row = dynamics.columns[a]
                for w in range(WIDTH):
                    compact[a, w] = z[t, row, w]
            _by_eights(G, compact, flat, (t + 1) * p, dense, d + 1)
            for i in range(dense, n):
                a = dynamics.entry[i]
                for w in range(WIDTH):
                    z[t + 1, i, w] = G[i, a] * compact[a, w] + G[i, d]
        _evaluate_ladder(terms, z, values)
        for w in range(min(WIDTH, S - first)):
            costs[first + w] = values[w]
    return costs


costs = compile_for(_SIGNATURE)(_costs)
