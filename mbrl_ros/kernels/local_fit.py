"""The fit of one tick, compiled: forgotten moments, normal-inverse-Wishart posterior, conditional.

It is what gaussian.py has, which tests compare it with: of 35 numbers that is some sixty calls of numpy, and the calls
are what costs. [S_ww S_wr; S_rw S_rr] is eliminated row by row (Cholesky, upper), and what is left of S_rr after the
rows of w is Sigma; a further column carries the way from the mean to w, for the leverage.

Rows are wider than what is in them, up to a multiple of WIDTH. Only upper triangles are read. Everything compiles when
this module is imported, some seconds once, and is kept as kernels/ilqr.py says.
"""
from __future__ import annotations

import numba
import numpy as np

from mbrl_ros.kernels.compiled import WIDTH, Array, compile_for, jit
from mbrl_ros.kernels.simd import dot

_vector, _matrix, _float = numba.float64[::1], numba.float64[:, ::1], numba.float64
_tuple = numba.types.Tuple


@jit
def _subtract(W: Array, i: int, c: Array, first: int, last: int, left: int) -> None:
    """Rows i and i + 1 of W, from column `left` on, minus c (2, .) times the rows first..last - 1: two rows by four
    terms at a time use the registers best."""
    x, y, fours = W[i, left:], W[i + 1, left:], last - (last - first) % 4
    for k in range(first, fours, 4):
        a0, a1, a2, a3 = c[0, k], c[0, k + 1], c[0, k + 2], c[0, k + 3]
        b0, b1, b2, b3 = c[1, k], c[1, k + 1], c[1, k + 2], c[1, k + 3]
        w0, w1, w2, w3 = W[k, left:], W[k + 1, left:], W[k + 2, left:], W[k + 3, left:]
        for j in range(len(x)):
            x[j] -= a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
            y[j] -= b0 * w0[j] + b1 * w1[j] + b2 * w2[j] + b3 * w3[j]
    for k in range(fours, last):
        a0, b0, w0 = c[0, k], c[1, k], W[k, left:]
        for j in range(len(x)):
            x[j] -= a0 * w0[j]
            y[j] -= b0 * w0[j]


@jit
def _eliminate(W: Array, known: int) -> bool:
    """Rows of W (even, wide) -> U for the first `known`, with U'U = W there, and W - U'U of the others for the rest.

    False where there is no such U; a pivot that is not a number is none of that, and arrives. Whole vectors are worked
    on, so what is left of the diagonal is overwritten.
    """
    c = np.empty((2, known))
    for i in range(0, len(W), 2):
        above, left = min(i, known), i - i % WIDTH
        for k in range(above):
            c[0, k], c[1, k] = W[k, i], W[k, i + 1]
        _subtract(W, i, c, 0, above, left)
        x, y = W[i, left:], W[i + 1, left:]
        if i < known:
            if W[i, i] <= 0.0:
                return False
            part = 1.0 / np.sqrt(W[i, i])
            for j in range(len(x)):
                x[j] *= part
            part = W[i, i + 1]
            for j in range(len(x)):
                y[j] -= part * x[j]
        if i + 1 < known:
            if W[i + 1, i + 1] <= 0.0:
                return False
            part = 1.0 / np.sqrt(W[i + 1, i + 1])
            for j in range(len(x)):
                y[j] *= part
    return True


@jit
def _substitute(W: Array, known: int) -> None:
    """Columns `known` and on of the first rows X of [U X] -> U^-1 X; of U, nothing is left that can be relied on."""
    c, left, i = np.empty((2, known)), known - known % WIDTH, known - 2
    if known % 2:
        x = W[known - 1, left:]
        last = 1.0 / W[known - 1, known - 1]
        for j in range(len(x)):
            x[j] *= last
        i -= 1
    while i >= 0:
        part, last, beside = 1.0 / W[i, i], 1.0 / W[i + 1, i + 1], W[i, i + 1]
        for k in range(i + 2, known):
            c[0, k], c[1, k] = W[i, k], W[i + 1, k]
        _subtract(W, i, c, i + 2, known, left)
        x, y = W[i, left:], W[i + 1, left:]
        for j in range(len(x)):
            y[j] *= last
            x[j] = part * (x[j] - beside * y[j])
        i -= 2


@compile_for(_tuple((_vector, _matrix, _float))(_vector, _matrix, _float, _vector, _float, _float, _float))
def forget_and_add(mean: Array, cov: Array, count: float, z: Array, part: float, forgetting: float,
                   count_limit: float) -> tuple[Array, Array, float]:
    """Mean (d,), covariance (d, d) and count of gaussian.forget_and_add, after one more vector z (d,), which counts
    as this `part` of one where those before overlap it."""
    d = len(z)
    count = min(count + part, max(part / forgetting, count_limit))
    gain = max(forgetting, part / count)
    way, after, spread = z - mean, np.empty(d), np.empty((d, d))
    for i in range(d):
        after[i] = mean[i] + gain * way[i]
        for j in range(d):
            spread[i, j] = (1.0 - gain) * (cov[i, j] + gain * (way[i] * way[j]))
    return after, spread, count


@compile_for(_tuple((_float, _vector, numba.boolean))(_matrix, _vector, _matrix, _vector, _vector, _float))
def innovation(F: Array, f: Array, cov: Array, w: Array, y: Array, jitter: float) -> tuple[float, Array, bool]:
    """How far y (dy,) is from N(F w + f, cov): squared Mahalanobis distance, and each in its own deviations (dy,).

    False where cov is not definite beyond `jitter` times the mean of its diagonal.
    """
    dy, ridge, e = len(y), 0.0, np.empty(len(y))
    for i in range(dy):
        ridge += cov[i, i] * jitter / dy
        e[i] = y[i] - dot(F[i], w) - f[i]
    W = np.zeros((dy + dy % 2, (dy + WIDTH) // WIDTH * WIDTH))
    for i in range(dy):
        W[i, i:dy] = cov[i, i:]
        W[i, i] += ridge
        W[i, dy] = e[i]
    good = _eliminate(W, dy)
    squared = 0.0
    for i in range(dy):
        squared += W[i, dy] * W[i, dy]
        e[i] /= np.sqrt(cov[i, i])
    return squared, e, good


@compile_for(_tuple((_matrix, _vector, _matrix, numba.boolean))(
    _vector, _vector, _matrix, _vector, _matrix, _float, _float, _vector, _matrix, _float, _vector, _float, _vector,
    _float))
def posterior(w: Array, g: Array, J: Array, mu0: Array, Phi: Array, m0: float, n0: float, mean: Array, cov: Array,
              count: float, offset: Array, offset_count: float, scale: Array,
              jitter: float) -> tuple[Array, Array, Array, bool]:
    """F (dy, dw), f (dy,) and Sigma (dy, dy) of learner.posterior; all that with S_ww in units of `scale` (d,).

    g (dy,) and J (dy, dw) are the global model at w (dw,), mu0 (d,), Phi (d, d), m0, n0 the prior over what it leaves,
    mean, cov and count the moments of that, and offset (d,) of offset_count vectors the mean behind f. False where
    S_ww is not definite beyond `jitter` times the mean of its diagonal; then there is no model.
    """
    dw, dy, d = len(w), len(g), len(scale)
    total = count + n0
    pull = count * m0 / (count + m0)
    way, unit, mu = mean - mu0, 1.0 / scale, np.empty(d)
    W = np.zeros((d + d % 2, (d + WIDTH) // WIDTH * WIDTH))
    ridge = 0.0
    for i in range(d):
        mu[i] = (m0 * mu0[i] + offset_count * offset[i]) / (m0 + offset_count) * unit[i]
        part, towards = unit[i] / total, pull * way[i]
        x, phi, S = W[i], Phi[i], cov[i]
        for j in range(i - i % WIDTH, d):
            x[j] = (phi[j] + count * S[j] + towards * way[j]) * (part * unit[j])
        if i < dw:
            ridge += W[i, i] * jitter / dw
            W[i, d] = w[i] * unit[i] - mu[i]
    for i in range(dw):
        W[i, i] += ridge
    F, f, Sigma = np.empty((dy, dw)), np.empty(dy), np.empty((dy, dy))
    if not _eliminate(W, dw):
        return F, f, Sigma, False
    wider = 1.0
    if offset_count > 0.0:  # without data, Sigma has all of what the model does not know
        squared = 0.0
        for i in range(dw):
            squared += W[i, d] * W[i, d]
        wider += 1.0 / (offset_count + m0) + squared / total
    for a in range(dy):
        part = wider * scale[dw + a]
        for b in range(a, dy):
            Sigma[a, b] = Sigma[b, a] = W[dw + a, dw + b] * (part * scale[dw + b])
    _substitute(W, dw)
    for a in range(dy):
        part, f[a] = scale[dw + a], g[a] + scale[dw + a] * mu[dw + a]
        for i in range(dw):
            slope = part * W[i, dw + a]
            F[a, i] = J[a, i] + slope * unit[i]
            f[a] -= J[a, i] * w[i] + slope * mu[i]
    return F, f, Sigma, True
