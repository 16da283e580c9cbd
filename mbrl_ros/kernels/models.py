"""Global models at the one point where the ring asks for them, compiled: mean, covariance and slope in one call.

ensemble.py and mixture.py have the same in torch, for batches; tests compare them. Networks are small (64 units), so
that in torch the calls cost more than the arithmetic. It compiles when imported and is kept, as kernels/ilqr.py
says.
"""
from __future__ import annotations

import math

import numba
import numpy as np

from mbrl_ros.kernels.compiled import WIDTH, Array, compile_for, jit
from mbrl_ros.kernels.simd import dot, product

SATURATED = 20.0  # tanh is 1 to rounding from there on
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # of ln 2, the high part to 33 bits

_vector, _matrix, _stack = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, ::1]
_tuple = numba.types.Tuple


def widened(a: Array) -> Array:
    """a (..., c) as the kernels want it: zeros behind the last column, up to a multiple of WIDTH."""
    wide = np.zeros((*a.shape[:-1], (a.shape[-1] + WIDTH - 1) // WIDTH * WIDTH))
    wide[..., : a.shape[-1]] = a
    return wide


@jit
def _tanh(x: Array, power: Array) -> None:
    """x (n,) <- tanh x = 1 - 2 / (exp 2x + 1), to rounding in absolute terms, with room for n integers.

    exp 2|x| = 2^k exp r with |r| <= ln 2 / 2, of which the Taylor series to its 12th term is exact to rounding. Written
    as loops that compilers turn into vectors; math.tanh would take most of a tick's time for the model.
    """
    scale = power.view(np.float64)
    for i in range(len(x)):
        a = abs(x[i])
        a = SATURATED if a > SATURATED else a
        k = np.floor(a * (2.0 / math.log(2.0)) + 0.5)
        k = k if k < 64.0 else 0.0  # what is not a number is no integer; it arrives by r
        r = (2.0 * a - k * LN2_HIGH) - k * LN2_LOW
        series = 1.0 / 479001600.0
        series = series * r + 1.0 / 39916800.0
        series = series * r + 1.0 / 3628800.0
        series = series * r + 1.0 / 362880.0
        series = series * r + 1.0 / 40320.0
        series = series * r + 1.0 / 5040.0
        series = series * r + 1.0 / 720.0
        series = series * r + 1.0 / 120.0
        series = series * r + 1.0 / 24.0
        series = series * r + 1.0 / 6.0
        series = series * r + 0.5
        series = series * r + 1.0
        series = series * r + 1.0
        power[i] = (np.int64(k) + 1023) << 52  # the bits of 2^k
        x[i] = math.copysign(series, x[i])
    for i in range(len(x)):
        x[i] = math.copysign(1.0 - 2.0 / (abs(x[i]) * scale[i] + 1.0), x[i])


@compile_for(_tuple((_vector, _matrix, _matrix, _matrix))(
    _vector, _stack, _matrix, _stack, _matrix, _stack, _matrix, _stack))
def ensemble(w: Array, A: Array, b: Array, W1: Array, b1: Array, W2: Array, b2: Array,
             W3: Array) -> tuple[Array, Array, Array, Array]:
    """Mean (dy,) of the members of an Ensemble at w (dw,), their covariance (dy, dy), the slope (dy, dw) of the mean,
    and the last hidden layer of each (E, h). The arrays are its fields, W1 and W2 `widened`.
    """
    (E, h), (dy, dw), wide = b1.shape, A.shape[1:], W2.shape[2]
    y, h1, last, room = np.empty((E, dy)), np.empty(h), np.empty((E, h)), np.empty(h, np.int64)
    outer, inner = np.empty((dy, h)), np.empty((dy, wide))
    part, slope = np.empty((dy, W1.shape[2])), np.zeros((dy, dw))
    for e in range(E):
        h2 = last[e]
        for i in range(h):
            h1[i] = b1[e, i] + dot(W1[e, i, :dw], w)
        _tanh(h1, room)
        for i in range(h):
            h2[i] = b2[e, i] + dot(W2[e, i, :h], h1)
        _tanh(h2, room)
        for a in range(dy):
            y[e, a] = b[e, a] + dot(A[e, a], w) + dot(W3[e, a], h2)
            for i in range(h):
                outer[a, i] = W3[e, a, i] * (1.0 - h2[i] * h2[i])
        product(outer, W2[e], inner, dy, h)
        for a in range(dy):
            for i in range(h):
                inner[a, i] *= 1.0 - h1[i] * h1[i]
        product(inner, W1[e], part, dy, h)
        for a in range(dy):
            for i in range(dw):
                slope[a, i] += A[e, a, i] + part[a, i]
    mean, cov = np.zeros(dy), np.zeros((dy, dy))
    for e in range(E):
        for a in range(dy):
            mean[a] += y[e, a] / E
    for e in range(E):
        y[e] -= mean
        for a in range(dy):
            for i in range(dy):
                cov[a, i] += y[e, a] * y[e, i] / max(1, E - 1)
    slope /= E
    return mean, cov, slope, last


@compile_for(_tuple((_vector, _matrix, _matrix))(
    _vector, _vector, _matrix, _stack, _stack, _matrix, _stack))
def mixture(w: Array, log_height: Array, mean_w: Array, whiten: Array, F: Array, f: Array,
            Sigma: Array) -> tuple[Array, Array, Array]:
    """Mean (dy,) and covariance (dy, dy) of a Mixture at w (dw,), and its slope (dy, dw) with the responsibilities
    held: sum_k r_k F_k.

    Component k has the log density log_height[k] - |whiten_k (w - mean_k)|^2 / 2 over w, but for a constant, and
    y | w, k ~ N(F_k w + f_k, Sigma_k).
    """
    K, dy, dw = F.shape
    r, y, top = np.empty(K), np.empty((K, dy)), -np.inf
    for k in range(K):
        r[k], d = log_height[k], w - mean_w[k]
        for i in range(dw):
            r[k] -= 0.5 * dot(whiten[k, i], d) ** 2
        top = max(top, r[k])
        for a in range(dy):
            y[k, a] = f[k, a] + dot(F[k, a], w)
    r = np.exp(r - top)
    r /= r.sum()
    mean, cov, J = np.zeros(dy), np.zeros((dy, dy)), np.zeros((dy, dw))
    for k in range(K):
        for a in range(dy):
            mean[a] += r[k] * y[k, a]
            for i in range(dw):
                J[a, i] += r[k] * F[k, a, i]
    for k in range(K):
        y[k] -= mean
        for a in range(dy):
            for i in range(dy):
                cov[a, i] += r[k] * (Sigma[k, a, i] + y[k, a] * y[k, i])
    return mean, cov, J
