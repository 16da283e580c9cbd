"""One LQ problem with limits on the efforts, compiled for its size: the passes of ilqr.py, where they are explained.

k is a box-limited Newton step that begins with the limits that acted in the last pass. All is in absolute coordinates,
u = G [x; 1] (lq_steps.py), so that no pass has to expand the cost about its trajectory z.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from mbrl_ros.kernels.compiled import OPTIONS, compile_for
from mbrl_ros.kernels.lq_places import REVISION, Places
from mbrl_ros.kernels.lq_steps import (
    Layout,
    address,
    advance,
    ahead,
    aim,
    cost,
    efforts,
    eliminate,
    gains,
    gradient,
    halves,
    hold,
    is_finite,
    load_C,
    load_F,
    ridge,
    slope,
    value,
)
from mbrl_ros.types import CONVERGED, ITERATION_LIMIT, LINE_SEARCH_FAILED, NOT_FINITE, STATUSES, Array

_RUNNING, _CONVERGED, _LIMIT, _FAILED, _NOT_FINITE = -1, *(
    STATUSES.index(s) for s in (CONVERGED, ITERATION_LIMIT, LINE_SEARCH_FAILED, NOT_FINITE))
_jit = numba.njit(**OPTIONS)


class Settings(NamedTuple):
    """Those of Ilqr.Config, and of its limits."""

    iterations: int = 5
    step_lengths: int = 8
    backtracking: float = 0.5
    accept_ratio: float = 0.1
    tolerance: float = 1e-8
    mu_start: float = 0.0
    mu_min: float = 1e-6
    mu_max: float = 1e10
    mu_factor: float = 1.6
    box_iterations: int = 30
    box_slack: float = 1e-10


@_jit
def _within(b: Array, target: int, low: int, high: int, m: int) -> bool:
    """False for what is not a number, too."""
    inside = True
    for a in range(m):
        inside &= b[low + a] <= b[target + a] <= b[high + a]
    return inside


@_jit
def _active(b: Array, held: Array, gradient: int, k: int, u: int, low: int, high: int, slack: float) -> bool:
    """Which components of k the gradient holds at a bound (-1, 1, or 0); whether they are those that were."""
    same = True
    for a in range(len(held)):
        now, slope = 0, b[gradient + a]
        if slope > slack:
            now = -1 if b[k + a] <= b[low + a] - b[u + a] else 0
        elif slope < -slack:
            now = 1 if b[k + a] >= b[high + a] - b[u + a] else 0
        same &= now == held[a]
        held[a] = now
    return same


@_jit
def _bounds(b: Array, held: Array, free: int, bound: int, low: int, high: int) -> None:
    """Of what is held."""
    for a in range(len(held)):
        b[free + a] = 1.0 if held[a] == 0 else 0.0
        b[bound + a] = 0.0 if held[a] == 0 else b[low + a] if held[a] < 0 else b[high + a]


@_jit
def _fix(b: Array, M: int, held: Array, bound: int, n: int, h: int) -> None:
    """Rows of M (m, h) that say u = bound where held."""
    for a in range(len(held)):
        if held[a] != 0:
            row = M + a * h
            for j in range(h):
                b[row + j] = 0.0
            b[row + n + 1 + a] = 1.0
            b[row + n] = -b[bound + a]


@_jit
def _search(b: Array, k: int, target: int, g: int, R: int, u: int, low: int, high: int, uu: int, h: int,
            m: int) -> None:
    """k <- the best of 16 points on the projected arc towards target - u (Bertsekas 1982)."""
    least, d, best = np.inf, np.empty(m), np.zeros(m)
    for i in range(16):
        change = 0.0
        for a in range(m):
            moved = b[k + a] + 0.5**i * (b[target + a] - b[u + a] - b[k + a])
            d[a] = min(max(moved, b[low + a] - b[u + a]), b[high + a] - b[u + a]) - b[k + a]
        for a in range(m):
            gradient = b[g + a] + 0.0
            for j in range(m):
                gradient += b[R + a * h + uu + j] * (b[k + j] + 0.5 * d[j])
            change += d[a] * gradient
        if change < least:
            least, best[:] = change, d
    for a in range(m):
        b[k + a] += best[a]


@_jit
def _all_finite(b: Array, start: int, end: int) -> bool:
    total = 0.0
    for i in range(start, end):
        total += 0.0 * b[i]
    return total == 0.0


@functools.cache
def compiled(n: int, m: int, bits: int, width: int) -> Any:
    """run(...) for n states, m efforts and vectors of `width` numbers of `bits`, compiled now or from disk."""
    W, L = width, Layout(n, m, width)
    h, x, ga, U, uu = L.h, L.x, L.a, L.u, n + 1
    F_size, C_size, V_size, G_size, R_size = n * h, L.p * h, (n + 1) * x, m * L.a, m * h
    F_bytes, f_bytes, C_bytes, c_bytes, const_bytes = (
        size * bits // 8 for size in (n * (n + m), n, (n + m) * (n + m), n + m, 1))
    number = numba.float64 if bits == 64 else numba.float32
    eps, revision = float(np.finfo(np.float64 if bits == 64 else np.float32).eps), REVISION

    def run(buffer: Array, places: Array, x0: Array, F: Array, f: Array, C: Array, c: Array, const: Array, held: Array,
            fresh: bool, options: Array) -> tuple[int, int, float, int, int, int]:
        """Load the problem if `fresh`, and solve it from x0, beginning with the efforts of which k holds the negative.

        held (T, m) says which limits acted at first, and then at last: -1, 1, or 0. Returns status, passes, cost, and
        the places of z, G (-1 where no pass succeeded) and R.
        """
        o = options
        s = Settings(int(o[0]), int(o[1]), o[2], o[3], o[4], o[5], o[6], o[7], o[8], int(o[9]), o[10])
        o = places
        at = Places(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14],
                    o[15], o[16], o[17], o[18], o[19], o[20], o[21], o[22], o[23], o[24])
        base, T, steps = address(buffer), len(c) - 1, len(F)
        F_in, f_in, C_in, c_in, const_in = address(F), address(f), address(C), address(c), address(const)
        z, candidate, best = at.z, at.candidate, at.best
        G, R, spare_G, spare_R = at.G, at.R, at.spare_G, at.spare_R
        stride = F_size if steps > 1 else 0
        for i in range(n):
            buffer[z + i] = buffer[candidate + i] = buffer[best + i] = x0[i]
        total, status, passes, iterations = np.inf, _RUNNING, 0 * revision, s.iterations
        if fresh:
            load_C(base, at.C + T * C_size, C_in + T * C_bytes, c_in + T * c_bytes, const_in + T * const_bytes,
                   n, m, W, bits)
            for t in range(steps):
                load_F(base, at.F + t * F_size, F_in + t * F_bytes, f_in + t * f_bytes, n, m, W, bits)
            for t in range(T):
                load_C(base, at.C + t * C_size, C_in + t * C_bytes, c_in + t * c_bytes, const_in + t * const_bytes,
                       n, m, W, bits)
        for t in range(T):  # no gains, a full step back from k = -u
            advance(base, z + t * h, z + (t + 1) * h, at.zero, at.F + t * stride, at.k + t * U, at.low + t * U,
                    at.high + t * U, number(1.0), n, m, W, bits)
        total = float(cost(base, at.C, z, T + 1, n, m, W, bits))
        if not np.isfinite(total):
            total, status = np.inf, _NOT_FINITE
        mu, rate, retry, solved = s.mu_start, 1.0, False, False
        while status == _RUNNING and passes < iterations:
            passes += 1
            good, clamped, linear, quadratic = True, False, 0.0, 0.0
            C_t, V_t = at.C + T * C_size, at.V + T * V_size
            for i in range(n):
                for j in range(n):
                    buffer[V_t + i * x + j] = number(0.5) * (buffer[C_t + i * h + j] + buffer[C_t + j * h + i])
                buffer[V_t + n * x + i] = buffer[C_t + n * h + i]
            for t in range(T - 1, -1, -1):
                F_t, C_t, V_t = at.F + t * stride, at.C + t * C_size, at.V + t * V_size
                G_t, R_t, Q = spare_G + t * G_size, spare_R + t * R_size, spare_R + t * R_size
                ahead(base, at.P, V_t + V_size, F_t, n, m, W, bits)
                if mu > 0.0:
                    Q = at.Q
                efforts(base, Q, C_t, F_t, at.P, n, m, W, bits)
                z_t, g, k, u, low, high, target = (
                    z + t * h, at.g, at.k + t * U, z + t * h + uu, at.low + t * U, at.high + t * U, at.target)
                slope(base, g, Q, z_t, n, m, W, bits)
                if mu > 0.0:
                    ridge(base, R_t, Q, F_t, number(mu), n, m, W, bits)
                    slope(base, target, R_t, z_t, n, m, W, bits)
                    for a in range(m):  # mu weighs the deviation: about z its gradient is zero
                        buffer[R_t + a * h + n] += buffer[g + a] - buffer[target + a]
                if eliminate(base, R_t, at.left, at.right, n, m, W, bits) == 0:
                    good = False
                    break
                warm, slack = False, 0.0
                for a in range(m):
                    warm |= held[t, a] != 0
                    slack = max(slack, s.box_slack * abs(buffer[g + a]))
                settled = False
                if warm:  # the bounds that acted in the last pass mostly go on acting
                    for a in range(m):
                        side = held[t, a]
                        bound = low if side < 0 else high
                        buffer[k + a] = buffer[bound + a] - buffer[u + a] if side != 0 else number(0.0)
                else:
                    gains(base, G_t, at.right, n, m, W, bits)
                    aim(base, target, G_t, z_t, n, m, W, bits)
                    settled = _within(buffer, target, low, high, m)
                    for a in range(m):
                        buffer[k + a] = min(max(buffer[target + a], buffer[low + a]), buffer[high + a]) - buffer[u + a]
                    if not settled:
                        gradient(base, at.gradient, g, R_t, k, n, m, W, bits)
                        _active(buffer, held[t], at.gradient, k, u, low, high, slack)
                if not settled:
                    for _ in range(s.box_iterations):
                        _bounds(buffer, held[t], at.free + uu, at.bound + uu, low, high)
                        hold(base, at.M, R_t, at.free, at.bound, target, n, m, W, bits)
                        _fix(buffer, at.M, held[t], at.bound + uu, n, h)
                        eliminate(base, at.M, at.left, at.right, n, m, W, bits)
                        gains(base, G_t, at.right, n, m, W, bits)
                        aim(base, target, G_t, z_t, n, m, W, bits)
                        settled = _within(buffer, target, low, high, m)
                        if settled:
                            for a in range(m):
                                buffer[k + a] = buffer[target + a] - buffer[u + a]
                        else:
                            _search(buffer, k, target, g, R_t, u, low, high, uu, h, m)
                        gradient(base, at.gradient, g, R_t, k, n, m, W, bits)
                        settled &= _active(buffer, held[t], at.gradient, k, u, low, high, slack)
                        if settled:
                            break
                    if not settled:
                        for a in range(m):
                            buffer[G_t + a * ga + n] += buffer[u + a] + buffer[k + a] - buffer[target + a]
                free = mu == 0.0 and settled
                gradient(base, at.gradient, at.zero, Q, k, n, m, W, bits)  # Q_uu k
                for a in range(m):
                    linear += buffer[k + a] * buffer[g + a]
                    quadratic += buffer[k + a] * buffer[at.gradient + a]
                    free &= held[t, a] == 0
                    clamped |= held[t, a] != 0
                rows = m
                if not free:
                    halves(base, at.left, at.right, Q, G_t, n, m, W, bits)
                    rows = 2 * m
                value(base, V_t, C_t, F_t, at.P, at.left, at.right, rows, n, m, W, bits)
            good &= np.isfinite(linear + quadratic) and is_finite(base, at.V, n, m, W, bits) == 1
            if good:
                G, spare_G, R, spare_R, solved = spare_G, G, spare_R, R, True
            finite = good or _all_finite(buffer, at.F, at.V)
            enough = max(s.tolerance, 10 * eps) * (1 + abs(total))
            expected = -(linear + 0.5 * quadratic)
            flat, accepted = good and expected <= enough, False
            converged = flat and mu == 0.0
            if good and not flat:
                least, length = np.inf, 1.0
                for rung in range(s.step_lengths):
                    for t in range(T):
                        advance(base, candidate + t * h, candidate + (t + 1) * h, G + t * G_size, at.F + t * stride,
                                at.k + t * U, at.low + t * U, at.high + t * U, number(1.0 - length), n, m, W, bits)
                    found = float(cost(base, at.C, candidate, T + 1, n, m, W, bits))
                    promised = -length * (linear + 0.5 * length * quadratic)
                    if total - found >= s.accept_ratio * promised and promised > 0.0 and found < least:
                        accepted, least, best, candidate = True, found, candidate, best
                        # A full step that delivers what it promised met no limit on the way, and no shorter one would:
                        # it is the best. Where no limit acted in the pass either, it is the minimum.
                        if rung == 0 and abs(total - found - expected) <= enough:
                            converged = mu == 0.0 and not clamped
                            break
                    length *= s.backtracking
                if accepted:
                    total, z, best = least, best, z
            if accepted:
                rate = min(rate / s.mu_factor, 1 / s.mu_factor)
                mu *= rate
                if mu < s.mu_min:
                    mu = 0.0
                retry = False
            elif flat:
                mu, rate, retry = 0.0, 1.0, True
            else:
                rate = max(rate * s.mu_factor, s.mu_factor)
                mu = max(mu * rate, s.mu_min)
                if retry or mu > s.mu_max:
                    status = _FAILED
                elif not finite:
                    status = _NOT_FINITE
            if converged:
                status = _CONVERGED
        return _LIMIT if status == _RUNNING else status, passes, total, z, G if solved else -1, R

    vector, matrix, stack, integers = number[::1], number[:, ::1], number[:, :, ::1], numba.int64
    signature = numba.types.Tuple((integers, integers, numba.float64, integers, integers, integers))(
        vector, integers[::1], vector, stack, matrix, stack, matrix, vector, integers[:, ::1], numba.boolean,
        numba.float64[::1])
    return compile_for(signature)(run)
