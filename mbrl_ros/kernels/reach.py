"""Inverse kinematics of one site on a chain of joints, within a box of joint positions, compiled."""
from __future__ import annotations

import numba
import numpy as np

from mbrl_ros.kernels.compiled import Array, compile_for, jit

ITERATIONS = 100  # of one start
NEAR = 1e-6  # [m] that count as there
STILL = 1e-9  # [rad or m] steps that are none any more

_f1, _f2, _f4 = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, :, ::1]
_chain = (numba.int64[::1], _f1, numba.boolean[::1], _f2, _f4, _f2)  # models.kinematics.Chain


@jit
def _forward(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, q: Array, p: Array, a: Array,
             J: Array) -> None:
    """Position p (3,) of the site, axes a (j, 3) of its joints and J (j, 3), the velocity that each gives it, at q."""
    pose, one, before = np.eye(4), np.empty((4, 4)), np.empty((4, 4))
    count = len(index)
    origin = np.empty((count, 3))
    for j in range(count):
        angle = q[index[j]] - zero[j]
        s, c = (np.sin(angle), 1.0 - np.cos(angle)) if hinge[j] else (angle, 0.0)
        for r in range(4):
            for k in range(4):
                one[r, k] = C[0, j, r, k] + s * C[1, j, r, k] + c * C[2, j, r, k]
                before[r, k] = pose[r, k]
        for r in range(3):
            for k in range(4):
                pose[r, k] = 0.0
                for i in range(4):
                    pose[r, k] += before[r, i] * one[i, k]
        for r in range(3):
            origin[j, r] = pose[r, 3]
            a[j, r] = pose[r, 0] * axis[j, 0] + pose[r, 1] * axis[j, 1] + pose[r, 2] * axis[j, 2]
    for r in range(3):
        p[r] = pose[r, 3]
        for i in range(3):
            p[r] += pose[r, i] * tip[i, 3]
    for j in range(count):
        if hinge[j]:
            x, y, z = p[0] - origin[j, 0], p[1] - origin[j, 1], p[2] - origin[j, 2]
            J[j, 0], J[j, 1], J[j, 2] = (a[j, 1] * z - a[j, 2] * y, a[j, 2] * x - a[j, 0] * z,
                                         a[j, 0] * y - a[j, 1] * x)
        else:
            J[j] = a[j]


@jit
def _solve(H: Array, free: Array, mu: float, g: Array, d: Array) -> bool:
    """d = -(H + mu)^-1 g where free, else 0, by Cholesky; False where that is not positive definite."""
    m = len(g)
    L = np.zeros((m, m))
    for i in range(m):
        for j in range(i + 1):
            value = (H[i, j] if free[i] and free[j] else 0.0) + ((mu if free[i] else 1.0) if i == j else 0.0)
            for k in range(j):
                value -= L[i, k] * L[j, k]
            if i > j:
                L[i, j] = value / L[j, j]
            elif value > 0.0:
                L[i, i] = np.sqrt(value)
            else:
                return False
    for i in range(m):
        d[i] = -g[i] if free[i] else 0.0
        for k in range(i):
            d[i] -= L[i, k] * d[k]
        d[i] /= L[i, i]
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            d[i] -= L[k, i] * d[k]
        d[i] /= L[i, i]
    return True


@jit
def _descend(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, target: Array, low: Array,
             high: Array, q: Array, bent: bool) -> float:
    """q <- the nearest local minimum of |p(q) - target|^2 / 2 in the box; the distance [m] that is left.

    Gauss and Newton's steps damped as Levenberg and Marquardt's, on the joints that no end holds: hardly more than the
    least that it takes. With the second derivative of the kinematics (`bent`) they are Newton's, which converge where
    the target is out of reach, but wander where it is not.
    """
    m, count = len(q), len(index)
    p, a, J, e = np.empty(3), np.empty((count, 3)), np.empty((count, 3)), np.empty(3)
    H, g, d, tried, free = np.empty((m, m)), np.empty(m), np.empty(m), np.empty(m), np.empty(m, np.bool_)
    mu, cost, fresh = 1e-3, np.inf, True
    for _ in range(ITERATIONS):
        if fresh:
            _forward(index, zero, hinge, axis, C, tip, q, p, a, J)
            cost = 0.0
            for r in range(3):
                e[r] = p[r] - target[r]
                cost += 0.5 * e[r] * e[r]
            if cost < 0.5 * NEAR**2:
                break
            H[:], g[:] = 0.0, 0.0
            for i in range(count):
                for j in range(i, count):  # joint i carries joint j: dJ_j / dq_i = a_i x J_j
                    h = J[i, 0] * J[j, 0] + J[i, 1] * J[j, 1] + J[i, 2] * J[j, 2]
                    if bent and hinge[i]:
                        h += (e[0] * (a[i, 1] * J[j, 2] - a[i, 2] * J[j, 1])
                              + e[1] * (a[i, 2] * J[j, 0] - a[i, 0] * J[j, 2])
                              + e[2] * (a[i, 0] * J[j, 1] - a[i, 1] * J[j, 0]))
                    H[index[i], index[j]] = H[index[j], index[i]] = h
                g[index[i]] = J[i, 0] * e[0] + J[i, 1] * e[1] + J[i, 2] * e[2]
            for i in range(m):
                free[i] = not ((q[i] <= low[i] and g[i] > 0.0) or (q[i] >= high[i] and g[i] < 0.0))
        if not _solve(H, free, mu, g, d):
            mu, fresh = 10.0 * mu, False
            continue
        moved = 0.0
        for i in range(m):
            tried[i] = min(max(q[i] + min(max(d[i], -0.5), 0.5), low[i]), high[i])
            moved = max(moved, abs(tried[i] - q[i]))
        if moved < STILL:
            break
        _forward(index, zero, hinge, axis, C, tip, tried, p, a, J)
        fresh = 0.5 * ((p[0] - target[0])**2 + (p[1] - target[1])**2 + (p[2] - target[2])**2) < cost
        if fresh:
            q[:] = tried
        mu = max(0.2 * mu, 1e-7) if fresh else 10.0 * mu
        if mu > 1e6:
            break
    return float(np.sqrt(2.0 * cost))


@compile_for(numba.types.Tuple((_f1, numba.float64))(*_chain, _f1, _f2, _f1, _f1, numba.float64))
def nearest(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, target: Array, starts: Array,
            low: Array, high: Array, enough: float) -> tuple[Array, float]:
    """Joint positions q (m,) from one of `starts` (S, m), of which the site is nearest to the target (3,), and the
    distance; the first start that comes within `enough` [m] will do, and the very first without wandering."""
    best, least, q = starts[0].copy(), np.inf, np.empty(len(low))
    for s in range(len(starts)):
        for i in range(len(q)):
            q[i] = min(max(starts[s, i], low[i]), high[i])
        left = _descend(index, zero, hinge, axis, C, tip, target, low, high, q, s > 0)
        if left < least - 1e-4:
            best[:], least = q, left
        if least <= enough:
            break
    return best, least


@compile_for(numba.types.Tuple((_f2, _f1))(*_chain, _f2, _f1, _f1, _f1))
def follow(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, points: Array, q: Array,
           low: Array, high: Array) -> tuple[Array, Array]:
    """Joint positions (N, m) that follow points (N, 3) from q on, each from the one before, and what is missing [m]."""
    found, left, now = np.empty((len(points), len(q))), np.empty(len(points)), q.copy()
    for i in range(len(now)):
        now[i] = min(max(now[i], low[i]), high[i])
    for n in range(len(points)):
        left[n] = _descend(index, zero, hinge, axis, C, tip, points[n], low, high, now, False)
        found[n] = now
    return found, left


@compile_for(numba.types.Tuple((_f2, numba.float64[:, :, ::1]))(*_chain, _f2))
def positions(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, q: Array
              ) -> tuple[Array, Array]:
    """Where the site is at q (N, m): (N, 3) [m], and its derivative (N, 3, m)."""
    count = len(index)
    p, G, a, J = np.empty((len(q), 3)), np.zeros((len(q), 3, q.shape[1])), np.empty((count, 3)), np.empty((count, 3))
    for n in range(len(q)):
        _forward(index, zero, hinge, axis, C, tip, q[n], p[n], a, J)
        for j in range(count):
            G[n, :, index[j]] = J[j]
    return p, G
