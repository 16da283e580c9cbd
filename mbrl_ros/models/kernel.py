"""Global models at the one point where the ring asks for them, compiled: mean, covariance and slope in one call.

ensemble.py and mixture.py have the same in torch, for batches; tests compare them. Networks are small (64 units), so
that in torch the calls cost more than the arithmetic. It compiles when imported and is kept, as planners/kernel.py
says; matrices are as wide there as in fit_kernel.py. Not-a-numbers have to arrive.
"""
from __future__ import annotations

import math

import numba
import numpy as np

from mbrl_ros.compiled import OPTIONS, compile_for
from mbrl_ros.types import Array

WIDTH = 8  # doubles in a vector register of AVX-512
_jit = numba.njit(**OPTIONS)
_jit_sums = numba.njit(error_model="numpy", fastmath={"contract", "reassoc"})  # may add up in any order

_vector, _matrix, _stack = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, ::1]
_tuple = numba.types.Tuple


def widened(a: Array) -> Array:
    """a (..., c) as the kernels want it: zeros behind the last column, up to a multiple of WIDTH."""
    wide = np.zeros((*a.shape[:-1], (a.shape[-1] + WIDTH - 1) // WIDTH * WIDTH))
    wide[..., : a.shape[-1]] = a
    return wide


@_jit_sums
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for k in range(len(b)):
        total += a[k] * b[k]
    return total


@_jit
def _add_product(A: Array, B: Array, C: Array, rows: int) -> None:
    """C[:rows] += A[:rows] B, for an even number of rows; two of them by four terms at a time."""
    inner = len(B)
    fours = inner - inner % 4
    for i in range(0, rows, 2):
        x, y = C[i], C[i + 1]
        for k in range(0, fours, 4):
            a0, a1, a2, a3 = A[i, k], A[i, k + 1], A[i, k + 2], A[i, k + 3]
            b0, b1, b2, b3 = A[i + 1, k], A[i + 1, k + 1], A[i + 1, k + 2], A[i + 1, k + 3]
            w0, w1, w2, w3 = B[k], B[k + 1], B[k + 2], B[k + 3]
            for j in range(len(x)):
                x[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
                y[j] += b0 * w0[j] + b1 * w1[j] + b2 * w2[j] + b3 * w3[j]
        for k in range(fours, inner):
            a0, b0, w0 = A[i, k], A[i + 1, k], B[k]
            for j in range(len(x)):
                x[j] += a0 * w0[j]
                y[j] += b0 * w0[j]


@compile_for(_tuple((_vector, _matrix, _matrix, _matrix))(
    _vector, _stack, _matrix, _stack, _matrix, _stack, _matrix, _stack))
def ensemble(w: Array, A: Array, b: Array, W1: Array, b1: Array, W2: Array, b2: Array,
             W3: Array) -> tuple[Array, Array, Array, Array]:
    """Mean (dy,) of the members of an Ensemble at w (dw,), their covariance (dy, dy), the slope (dy, dw) of the mean,
    and the last hidden layer of each (E, h). The arrays are its fields, W1 and W2 `widened`.
    """
    (E, h, _), (dy, dw) = W1.shape, A.shape[1:]
    even = dy + dy % 2
    y, h1, last = np.empty((E, dy)), np.zeros(W2.shape[2]), np.empty((E, h))
    outer, inner, slope = np.zeros((even, h)), np.empty((even, W2.shape[2])), np.zeros((even, W1.shape[2]))
    for e in range(E):
        h2 = last[e]
        for i in range(h):
            h1[i] = math.tanh(_dot(W1[e, i], w) + b1[e, i])
        for i in range(h):
            h2[i] = math.tanh(_dot(W2[e, i], h1) + b2[e, i])
        for a in range(dy):
            y[e, a] = b[e, a] + _dot(A[e, a], w) + _dot(W3[e, a], h2)
            x, row = outer[a], W3[e, a]
            for i in range(h):
                x[i] = row[i] * (1.0 - h2[i] * h2[i])
            x, row = slope[a], A[e, a]
            for i in range(dw):
                x[i] += row[i]
        inner[:] = 0.0
        _add_product(outer, W2[e], inner, even)
        for a in range(dy):
            x = inner[a]
            for i in range(len(x)):
                x[i] *= 1.0 - h1[i] * h1[i]
        _add_product(inner, W1[e], slope, even)
    mean, cov, J = np.zeros(dy), np.zeros((dy, dy)), np.empty((dy, dw))
    for e in range(E):
        for a in range(dy):
            mean[a] += y[e, a] / E
    for e in range(E):
        y[e] -= mean
        for a in range(dy):
            for i in range(dy):
                cov[a, i] += y[e, a] * y[e, i] / max(1, E - 1)
    for a in range(dy):
        for i in range(dw):
            J[a, i] = slope[a, i] / E
    return mean, cov, J, last


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
            r[k] -= 0.5 * _dot(whiten[k, i], d) ** 2
        top = max(top, r[k])
        for a in range(dy):
            y[k, a] = f[k, a] + _dot(F[k, a], w)
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
