"""The response of all joints of a hold to many candidate efforts, compiled."""
from __future__ import annotations

import numba
import numpy as np

from mbrl_ros.kernels.compiled import Array, compile_for

_stack = numba.float64[:, :, ::1]


@compile_for(numba.types.Tuple((_stack, _stack))(_stack, numba.float64[::1], numba.float64[::1], numba.float64[:, ::1],
                                                 _stack))
def responses(step: Array, K: Array, D: Array, state: Array, push: Array) -> tuple[Array, Array]:
    """What ring.excitation.HoldResponse.regressors gives, for push (C, T, m)."""
    C, T, m = push.shape
    w, end = np.ones((C, T, 3 * m + 1)), np.empty((C, m, 2))
    for c in range(C):
        for j in range(m):
            q, qd = state[j]
            for t in range(T):
                f = push[c, t, j]
                w[c, t, j], w[c, t, m + j], w[c, t, 2 * m + j] = q, qd, f - K[j] * q - D[j] * qd
                q, qd = (step[j, 0, 0] * q + step[j, 0, 1] * qd + step[j, 0, 2] * f,
                         step[j, 1, 0] * q + step[j, 1, 1] * qd + step[j, 1, 2] * f)
            end[c, j, 0], end[c, j, 1] = q, qd
    return w, end
