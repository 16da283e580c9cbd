"""Inverse kinematics of one site on a chain of joints, within a box of joint positions, compiled.

A target is a point, or with a `lever` [m] above 0 a pose: then a radian that the site is turned from it counts like so
many metres.
"""
from __future__ import annotations

import numba
import numpy as np

from mbrl_ros.kernels.compiled import Array, compile_for, jit

ITERATIONS = 100  # of one start
NEAR = 1e-6  # [m] that count as there
STILL = 1e-9  # [rad or m] steps that are none any more

_f1, _f2, _f3, _f4 = (numba.types.Array(numba.float64, n, 'C') for n in (1, 2, 3, 4))
_chain = (numba.int64[::1], _f1, numba.boolean[::1], _f2, _f4, _f2)  # models.kinematics.Chain


@jit
def _forward(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, q: Array, p: Array, a: Array,
             J: Array, R: Array) -> None:
    """Position p (3,) and rotation R (3, 3) of the site, axes a (j, 3) of its joints and J (j, 3), the velocity that
    each gives it, at q."""
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
            R[r, i] = pose[r, 0] * tip[0, i] + pose[r, 1] * tip[1, i] + pose[r, 2] * tip[2, i]
    for j in range(count):
        if hinge[j]:
            x, y, z = p[0] - origin[j, 0], p[1] - origin[j, 1], p[2] - origin[j, 2]
            J[j, 0], J[j, 1], J[j, 2] = (a[j, 1] * z - a[j, 2] * y, a[j, 2] * x - a[j, 0] * z,
                                         a[j, 0] * y - a[j, 1] * x)
        else:
            J[j] = a[j]


@jit
def _rotation_vector(R: Array, about: Array, w: Array) -> None:
    """w (3,) <- log(R about'), the turn from the rotation `about` (3, 3) to R in the base frame [rad]."""
    E = np.empty((3, 3))
    for r in range(3):
        for k in range(3):
            E[r, k] = R[r, 0] * about[k, 0] + R[r, 1] * about[k, 1] + R[r, 2] * about[k, 2]
    w[0], w[1], w[2] = 0.5 * (E[2, 1] - E[1, 2]), 0.5 * (E[0, 2] - E[2, 0]), 0.5 * (E[1, 0] - E[0, 1])
    s, c = np.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2]), 0.5 * (E[0, 0] + E[1, 1] + E[2, 2] - 1.0)
    if s > 1e-8:
        w *= np.arctan2(s, c) / s
    elif c < 0.0:  # half a turn: E = 2 w w' / pi^2 - 1
        k = 0
        for r in range(1, 3):
            k = r if E[r, r] > E[k, k] else k
        for r in range(3):
            w[r] = E[r, k] + (1.0 if r == k else 0.0)
        w *= np.pi / np.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])


@jit
def _missing(p: Array, R: Array, target: Array, turned: Array, lever: float, e: Array, w: Array) -> float:
    """Half the square of what is missing of a target; fills e (3,) [m] and, with a lever, w (3,) [rad]."""
    cost = 0.0
    for r in range(3):
        e[r] = p[r] - target[r]
        cost += 0.5 * e[r] * e[r]
    if lever > 0.0:
        _rotation_vector(R, turned, w)
        cost += 0.5 * lever * lever * (w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    return cost


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
def _descend(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, target: Array, turned: Array,
             lever: float, low: Array, high: Array, q: Array, bent: bool) -> float:
    """q <- the nearest local minimum of |p(q) - target|^2 / 2, and lever^2 times that of the turn, in the box; the
    distance [m] that is left.

    Gauss and Newton's steps damped as Levenberg and Marquardt's, on the joints that no end holds: hardly more than the
    least that it takes. With the second derivative of the position (`bent`) they are Newton's, which converge where
    the target is out of reach, but wander where it is not.
    """
    m, count = len(q), len(index)
    p, R, a, J = np.empty(3), np.empty((3, 3)), np.empty((count, 3)), np.empty((count, 3))
    e, w = np.empty(3), np.zeros(3)
    H, g, d, tried, free = np.empty((m, m)), np.empty(m), np.empty(m), np.empty(m), np.empty(m, np.bool_)
    mu, cost, fresh = 1e-3, np.inf, True
    for _ in range(ITERATIONS):
        if fresh:
            _forward(index, zero, hinge, axis, C, tip, q, p, a, J, R)
            cost = _missing(p, R, target, turned, lever, e, w)
            if cost < 0.5 * NEAR**2:
                break
            H[:], g[:] = 0.0, 0.0
            for i in range(count):
                turns = lever * lever if hinge[i] else 0.0
                for j in range(i, count):  # joint i carries joint j: dJ_j / dq_i = a_i x J_j
                    h = J[i, 0] * J[j, 0] + J[i, 1] * J[j, 1] + J[i, 2] * J[j, 2]
                    if hinge[j]:
                        h += turns * (a[i, 0] * a[j, 0] + a[i, 1] * a[j, 1] + a[i, 2] * a[j, 2])
                    if bent and hinge[i]:
                        h += (e[0] * (a[i, 1] * J[j, 2] - a[i, 2] * J[j, 1])
                              + e[1] * (a[i, 2] * J[j, 0] - a[i, 0] * J[j, 2])
                              + e[2] * (a[i, 0] * J[j, 1] - a[i, 1] * J[j, 0]))
                    H[index[i], index[j]] = H[index[j], index[i]] = h
                g[index[i]] = (J[i, 0] * e[0] + J[i, 1] * e[1] + J[i, 2] * e[2]
                               + turns * (a[i, 0] * w[0] + a[i, 1] * w[1] + a[i, 2] * w[2]))
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
        _forward(index, zero, hinge, axis, C, tip, tried, p, a, J, R)
        fresh = _missing(p, R, target, turned, lever, e, w) < cost
        if fresh:
            q[:] = tried
        mu = max(0.2 * mu, 1e-7) if fresh else 10.0 * mu
        if mu > 1e6:
            break
    return float(np.sqrt(2.0 * cost))


@compile_for(numba.types.Tuple((_f1, numba.float64))(*_chain, _f1, _f2, numba.float64, _f2, _f1, _f1, numba.float64))
def nearest(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, target: Array, turned: Array,
            lever: float, starts: Array, low: Array, high: Array, enough: float) -> tuple[Array, float]:
    """Joint positions q (m,) from one of `starts` (S, m), of which the site is nearest to the target (3,), turned as
    `turned` (3, 3) where there is a lever, and the distance; the first start that comes within `enough` [m] will do,
    and the very first without wandering."""
    best, least, q = starts[0].copy(), np.inf, np.empty(len(low))
    for s in range(len(starts)):
        for i in range(len(q)):
            q[i] = min(max(starts[s, i], low[i]), high[i])
        left = _descend(index, zero, hinge, axis, C, tip, target, turned, lever, low, high, q, s > 0)
        if left < least - 1e-4:
            best[:], least = q, left
        if least <= enough:
            break
    return best, least


@compile_for(numba.types.Tuple((_f2, _f1))(*_chain, _f2, _f3, numba.float64, _f1, _f1, _f1))
def follow(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, points: Array, turned: Array,
           lever: float, q: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Joint positions (N, m) that follow points (N, 3), turned as (N, 3, 3) where there is a lever, from q on, each
    from the one before, and what is missing [m]."""
    found, left, now = np.empty((len(points), len(q))), np.empty(len(points)), q.copy()
    for i in range(len(now)):
        now[i] = min(max(now[i], low[i]), high[i])
    for n in range(len(points)):
        left[n] = _descend(index, zero, hinge, axis, C, tip, points[n], turned[min(n, len(turned) - 1)], lever, low,
                           high, now, False)
        found[n] = now
    return found, left


@compile_for(numba.types.Tuple((_f2, _f3, _f3))(*_chain, _f2))
def poses(index: Array, zero: Array, hinge: Array, axis: Array, C: Array, tip: Array, q: Array
          ) -> tuple[Array, Array, Array]:
    """Where the site is at q (N, m): (N, 3) [m], how it is turned (N, 3, 3), and their derivative (N, 6, m), that of
    the turn as an angular velocity in the base frame."""
    count = len(index)
    p, R, G = np.empty((len(q), 3)), np.empty((len(q), 3, 3)), np.zeros((len(q), 6, q.shape[1]))
    a, J = np.empty((count, 3)), np.empty((count, 3))
    for n in range(len(q)):
        _forward(index, zero, hinge, axis, C, tip, q[n], p[n], a, J, R[n])
        for j in range(count):
            G[n, :3, index[j]] = J[j]
            if hinge[j]:
                G[n, 3:, index[j]] = a[j]
    return p, R, G
