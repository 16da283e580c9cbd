"""Iterative LQR for one problem on the CPU, compiled: what Ilqr.solve does, for linear dynamics and a task's cost.

In torch a plan of the ring is thousands of calls on small matrices, and the calls are what costs. Symbols, steps and
tests are those of ilqr.py and lqr.py, which remain for batches, other models, other costs and other devices.

A trajectory is z (T + 1, n + m) = [x; u] with u_T = 0.
Arrays that end in a product are wider than what is in them, up to a multiple of WIDTH; what is beyond is not read.
`solve` compiles when this module is imported, some 10 seconds once: Ilqr does so when it is made, hence before anything
moves. The result is kept in __pycache__ beside this file, or in the user's cache where that cannot be written, or where
NUMBA_CACHE_DIR says. Not-a-numbers have to arrive: no fast mathematics but fused multiply-add and the order of sums.
"""
from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from mbrl_ros.kernels.compiled import WIDTH, Array, compile_for, jit, jit_sums
from mbrl_ros.kernels.simd import LANES, TALL, dot, product, tile

EIGHT = 8  # rows of a tile of one vector
EPS = float(np.finfo(float).eps)
RUNNING, CONVERGED, ITERATION_LIMIT, LINE_SEARCH_FAILED, NOT_FINITE = range(5)  # what `solve` says, of its own


class Dynamics(NamedTuple):
    """x' = G [x_s; u; 1] with only those states s that x' depends on at any step."""

    G: Array  # (T or 1, n, d + 1), d = len(columns)
    GT: Array  # (T or 1, d, n), its transpose without the affine column
    columns: Array  # (d,) where s and u are in z
    dense: int  # rows of G from here on have one entry beside the affine one at most, as those of past efforts
    entry: Array  # (n,) where that is


class Terms(NamedTuple):
    """The cost sum_tj scale_tj norm_j(r_tj), r_tj = sum_e value_e z_t[index_e] - reference_tj.

    Row j of R has the entries e = start_j to start_{j+1}.
    """

    start: Array  # (k + 1,)
    index: Array
    value: Array
    reference: Array  # (T + 1, k)
    scale: Array  # (T + 1, k)
    width: Array  # (k,), infinite for the quadratic norm
    dead: Array  # (k,) bool
    pairs: Array  # (., 3), of the entries of every R_j R_j': row, column, j; in C = sum_j weight_j R_j R_j'
    product: Array  # (.,) and their values


class Spread(NamedTuple):
    """(1 + h' L h) Sigma with h = [1; x; u], see lqr.Spread; both (0, 0) where there is none."""

    Sigma: Array  # (n, n)
    L: Array  # (1 + n + m, 1 + n + m)


class Expansion(NamedTuple):
    """Of the cost about a trajectory: gradient, and C = sum_j weight_j R_j R_j'."""

    gradient: Array  # (T + 1, n + m)
    weight: Array  # (T + 1, k)


@jit
def _padded(size: int) -> int:
    return (size + WIDTH - 1) // WIDTH * WIDTH


@jit
def _clamp(value: float, low: float, high: float) -> float:
    """What is not a number stays so."""
    value = low if value < low else value
    return high if value > high else value


@jit
def _dynamics(F: Array, f: Array, n: int) -> Dynamics:
    steps, p = len(F), F.shape[2]
    used = np.zeros((n, p), np.bool_)
    for t in range(steps):
        for i in range(n):
            for j in range(p):
                used[i, j] |= F[t, i, j] != 0.0
    columns, d, dense, entry = np.empty(p, np.int64), 0, 0, np.zeros(n, np.int64)
    for j in range(p):
        if j >= n or used[:, j].any():
            columns[d] = j
            d += 1
    G, GT = np.zeros((steps, n, _padded(d + 1))), np.empty((steps, d, n))
    for t in range(steps):
        for i in range(n):
            for a in range(d):
                G[t, i, a] = GT[t, a, i] = F[t, i, columns[a]]
            G[t, i, d] = f[min(t, len(f) - 1), i]
    for i in range(n):
        entries = 0
        for a in range(d):
            if used[i, columns[a]]:
                entries, entry[i] = entries + 1, a
        if entries > 1:
            dense = i + 1
    return Dynamics(G, GT, columns[:d], dense, entry)


@jit
def _terms(R: Array, reference: Array, scale: Array, width: Array, dead: Array) -> Terms:
    k, p = R.shape
    start, index, value, e = np.zeros(k + 1, np.int64), np.empty(k * p, np.int64), np.empty(k * p), 0
    for j in range(k):
        for a in range(p):
            if R[j, a] != 0.0:
                index[e], value[e] = a, R[j, a]
                e += 1
        start[j + 1] = e
    pairs, product, e = np.empty((np.sum(np.diff(start) ** 2), 3), np.int64), np.empty(np.sum(np.diff(start) ** 2)), 0
    for j in range(k):
        for a in range(start[j], start[j + 1]):
            for b in range(start[j], start[j + 1]):
                pairs[e, 0], pairs[e, 1], pairs[e, 2], product[e] = index[a], index[b], j, value[a] * value[b]
                e += 1
    return Terms(start, index, value, reference, scale, width, dead, pairs, product)


@jit
def _norm(r: float, width: float, dead: bool) -> tuple[float, float, float]:
    """Value, derivative and curvature, see task.cost.ResidualCost."""
    if width == np.inf:
        return 0.5 * r * r, r, 1.0
    if dead:
        edge = abs(width)
        beyond = r - edge if r > edge else (r + edge if r < -edge and width > 0.0 else 0.0 * r)
        return 0.5 * beyond * beyond, beyond, 1.0 if beyond != 0.0 else 0.0
    root = np.sqrt(r * r + width * width)
    return root - width, r / root, 1.0 / root


@jit
def _residual(terms: Terms, z: Array, t: int, j: int) -> float:
    r = -terms.reference[t, j]
    for e in range(terms.start[j], terms.start[j + 1]):
        r += terms.value[e] * z[t, terms.index[e]]
    return r


@jit_sums
def _zero(z: Array) -> float:
    """Zero times everything: not a number where anything is not finite, as in a product with a dense R."""
    total = 0.0
    for t in range(z.shape[0]):
        for a in range(z.shape[1]):
            total += 0.0 * z[t, a]
    return total


@jit
def _evaluate(terms: Terms, z: Array) -> float:
    """Cost of a trajectory."""
    total = _zero(z)
    for j in range(len(terms.width)):
        width, dead = terms.width[j], terms.dead[j]
        for t in range(len(z)):
            total += terms.scale[t, j] * _norm(_residual(terms, z, t, j), width, dead)[0]
    return total


@jit
def _expand(terms: Terms, z: Array, expansion: Expansion) -> None:
    """About the trajectory z (T + 1, n + m)."""
    expansion.gradient[:] = 0.0
    for t in range(len(z)):
        for j in range(len(terms.width)):
            _, slope, curvature = _norm(_residual(terms, z, t, j), terms.width[j], terms.dead[j])
            expansion.weight[t, j] = terms.scale[t, j] * curvature
            for e in range(terms.start[j], terms.start[j + 1]):
                expansion.gradient[t, terms.index[e]] += terms.scale[t, j] * slope * terms.value[e]


@jit
def _forward(dynamics: Dynamics, nominal: Array, H: Array, lower: Array, upper: Array, length: float,
             z: Array) -> None:
    """Fill z (T + 1, n + m) under u_t + K_t (. - x_t) + a k_t, clamped, with a = `length` and H = -[K k].

    For the first state and u_t of `nominal`, which may be z itself where H is zero.
    """
    (T, m, wide), (n, d) = H.shape, (dynamics.G.shape[1], len(dynamics.columns))
    compact, deviation = np.zeros(dynamics.G.shape[2]), np.zeros(wide)
    compact[d], deviation[n] = 1.0, length
    z[0, :n], z[T, n:] = nominal[0, :n], 0.0
    for t in range(T):
        G = dynamics.G[min(t, len(dynamics.G) - 1)]
        for i in range(n):
            deviation[i] = z[t, i] - nominal[t, i]
        for a in range(m):
            z[t, n + a] = _clamp(nominal[t, n + a] - dot(H[t, a], deviation), lower[t, a], upper[t, a])
        for a in range(d):
            compact[a] = z[t, dynamics.columns[a]]
        for i in range(n):
            z[t + 1, i] = dot(G[i], compact)


@jit
def _by_eights(A: Array, B: Array, C: Array, c: int, rows: int, inner: int) -> None:
    """C[c:c + rows] = A[:rows, :inner] B[:inner] for WIDTH columns, C as rows of WIDTH; the last tile overlaps."""
    lda, i = A.shape[1], 0
    high = EIGHT if rows >= EIGHT else TALL if rows >= TALL else 1
    while i < rows:
        i = min(i, rows - high)
        for j in range(0, WIDTH, LANES):
            a, b, to = (i * lda, lda), (j, WIDTH), ((c + i) * WIDTH + j, WIDTH)
            if high == EIGHT:
                tile(A, a, B, b, C, to, inner, EIGHT, 1)
            elif high == TALL:
                tile(A, a, B, b, C, to, inner, TALL, 1)
            else:
                tile(A, a, B, b, C, to, inner, 1, 1)
        i += high


@jit
def _ladder(dynamics: Dynamics, nominal: Array, H: Array, lower: Array, upper: Array, lengths: Array,
            z: Array) -> None:
    """`_forward` for step lengths (WIDTH,) at once, from the first state of `nominal`; z (T + 1, n + m, WIDTH)."""
    (T, m, _), (n, d) = H.shape, (dynamics.G.shape[1], len(dynamics.columns))
    compact, deviation, change = np.ones((d + 1, WIDTH)), np.empty((n + 1, WIDTH)), np.empty((m, WIDTH))
    flat, p = z.reshape(-1, WIDTH), n + m
    deviation[n], z[T, n:] = lengths, 0.0
    for i in range(n):
        z[0, i] = nominal[0, i]
    for t in range(T):
        for i in range(n):
            x_0 = nominal[t, i]
            for w in range(WIDTH):
                deviation[i, w] = z[t, i, w] - x_0
        _by_eights(H[t], deviation, change, 0, m, n + 1)
        for a in range(m):
            u_0, low, high = nominal[t, n + a], lower[t, a], upper[t, a]
            for w in range(WIDTH):
                z[t, n + a, w] = _clamp(u_0 - change[a, w], low, high)
        for a in range(d):
            row = dynamics.columns[a]
            for w in range(WIDTH):
                compact[a, w] = z[t, row, w]
        _by_eights(dynamics.G[min(t, len(dynamics.G) - 1)], compact, flat, (t + 1) * p, n, d + 1)


@jit
def _evaluate_ladder(terms: Terms, z: Array, costs: Array) -> None:
    """`_evaluate` of WIDTH trajectories z (T + 1, n + m, WIDTH)."""
    costs[:], r = 0.0, np.empty(WIDTH)
    for t in range(z.shape[0]):
        for a in range(z.shape[1]):
            for w in range(WIDTH):
                costs[w] += 0.0 * z[t, a, w]
    for j in range(len(terms.width)):
        width, dead = terms.width[j], terms.dead[j]
        for t in range(len(z)):
            r[:] = -terms.reference[t, j]
            for e in range(terms.start[j], terms.start[j + 1]):
                value, row = terms.value[e], terms.index[e]
                for w in range(WIDTH):
                    r[w] += value * z[t, row, w]
            scale = terms.scale[t, j]
            if width == np.inf:
                for w in range(WIDTH):
                    costs[w] += scale * 0.5 * r[w] * r[w]
            else:
                for w in range(WIDTH):
                    costs[w] += scale * _norm(r[w], width, dead)[0]


@jit
def _cholesky(A: Array, L: Array) -> bool:
    """Lower factor of A (m, m); False where A is not positive definite."""
    m = len(L)
    for i in range(m):
        for j in range(i + 1):
            rest = A[i, j]
            for k in range(j):
                rest -= L[i, k] * L[j, k]
            if i != j:
                L[i, j], L[j, i] = rest / L[j, j], 0.0
            elif rest > 0.0:
                L[i, i] = np.sqrt(rest)
            else:
                return False
    return True


@jit
def _cholesky_solve(L: Array, B: Array) -> None:
    """B (m, c) <- (L L')^-1 B."""
    m, columns = len(L), B.shape[1]
    for i in range(m):
        part = 1.0 / L[i, i]  # one division a row, not one a column
        for k in range(i):
            for j in range(columns):
                B[i, j] -= L[i, k] * B[k, j]
        for j in range(columns):
            B[i, j] *= part
    for i in range(m - 1, -1, -1):
        part = 1.0 / L[i, i]
        for k in range(i + 1, m):
            for j in range(columns):
                B[i, j] -= L[k, i] * B[k, j]
        for j in range(columns):
            B[i, j] *= part


@jit
def _free(k: Array, g: Array, low: Array, high: Array, slack: float, free: Array) -> None:
    """Components that are not held at a bound by their gradient."""
    for a in range(len(k)):
        free[a] = not ((k[a] <= low[a] and g[a] > slack) or (k[a] >= high[a] and g[a] < -slack))


@jit
def _gradient(Quu: Array, q: Array, k: Array, g: Array) -> None:
    for a in range(len(k)):
        g[a] = q[a]
        for b in range(len(k)):
            g[a] += Quu[a, b] * k[b]


@jit
def _face(Quu: Array, free: Array, L: Array) -> None:
    """Cholesky factor of Q_uu with rows and columns of the identity where clamped."""
    m = len(free)
    A = np.eye(m)
    for a in range(m):
        for b in range(m):
            if free[a] and free[b]:
                A[a, b] = Quu[a, b]
    _cholesky(A, L)


@jit
def _projected_search(Quu: Array, g: Array, low: Array, high: Array, k: Array, target: Array) -> None:
    """k <- the best of 16 points on the projected arc from k towards target."""
    m, least = len(k), np.inf
    d, best = np.empty(m), np.zeros(m)
    for i in range(16):
        change = 0.0
        for a in range(m):
            d[a] = _clamp(k[a] + 0.5**i * (target[a] - k[a]), low[a], high[a]) - k[a]
        for a in range(m):
            slope = g[a]
            for b in range(m):
                slope += 0.5 * Quu[a, b] * d[b]
            change += d[a] * slope
        if change < least:
            least, best[:] = change, d
    k += best


@jit
def _box_newton(Quu: Array, H: Array, n: int, low: Array, high: Array, k: Array, iterations: int,
                slack: float) -> bool:
    """H = [Q_ux q_u] <- -[K k] within bounds on k, from a feasible k; whether every component is free."""
    m = len(k)
    q, g, target, L, right = H[:, n].copy(), np.empty(m), np.empty(m), np.empty((m, m)), np.empty((m, 1))
    free, face = np.empty(m, np.bool_), np.empty(m, np.bool_)
    zero = 0.0
    for a in range(m):
        zero = max(zero, slack * abs(q[a]))
    _gradient(Quu, q, k, g)
    _free(k, g, low, high, zero, free)
    for _ in range(iterations):
        face[:] = free
        _face(Quu, face, L)
        for a in range(m):
            right[a, 0] = g[a] if face[a] else 0.0
        _cholesky_solve(L, right)
        on_face = True
        for a in range(m):
            target[a] = k[a] - right[a, 0]  # minimiser on the face
            on_face &= _clamp(target[a], low[a], high[a]) == target[a]
        if on_face:
            k[:] = target
        else:
            _projected_search(Quu, g, low, high, k, target)
        _gradient(Quu, q, k, g)
        _free(k, g, low, high, zero, free)
        for a in range(m):
            on_face &= free[a] == face[a]
        if on_face:
            break
    all_free = True
    for a in range(m):
        all_free &= face[a]
        if not face[a]:
            H[a] = 0.0
    _cholesky_solve(L, H)
    for a in range(m):
        H[a, n] = -k[a]
    return all_free


@jit
def _gain(Quu: Array, H: Array, n: int, low: Array, high: Array, L: Array, iterations: int,
          slack: float) -> tuple[bool, bool]:
    """H = [Q_ux q_u] <- -[K k], L <- the factor of Q_uu; whether there is one, and whether a bound acted.

    See box.BoxGain.
    """
    m = len(L)
    if not _cholesky(Quu, L):
        return False, False
    start, inside, within = np.zeros(m), True, True
    for a in range(m):
        inside &= low[a] < 0.0 < high[a]
    if inside:
        newton = H.copy()
        _cholesky_solve(L, newton)
        for a in range(m):
            start[a] = _clamp(-newton[a, n], low[a], high[a])
            within &= start[a] == -newton[a, n]
        if within:
            H[:] = newton
            return True, False
    return True, not _box_newton(Quu, H, n, low, high, start, iterations, slack)


@jit
def _set_cost(terms: Terms, expansion: Expansion, t: int, Q: Array) -> None:
    """[C_t, gradient] into Q (n + m, wide)."""
    p = expansion.gradient.shape[1]
    Q[:] = 0.0
    Q[:, p] = expansion.gradient[t]
    for e in range(len(terms.product)):
        Q[terms.pairs[e, 0], terms.pairs[e, 1]] += expansion.weight[t, terms.pairs[e, 2]] * terms.product[e]


@jit
def _add_spread(spread: Spread, V: Array, z: Array, Q: Array) -> float:
    """Add price times L about z (n + m,) to Q = [Q_zz q_z]; returns the price, tr(V Sigma)."""
    n, p, price = len(spread.Sigma), len(z), 0.0
    for i in range(n):
        price += dot(spread.Sigma[i], V[i])
    for a in range(p):
        row = spread.L[a + 1]
        Q[a, p] += price * (row[0] + dot(z, row[1:]))
        for b in range(p):
            Q[a, b] += price * row[b + 1]
    return price


@jit
def _spread_cost(spread: Spread, price: Array, z: Array) -> float:
    """What the spread costs along a trajectory: sum_t 1/2 price_t h'Lh."""
    total, L = 0.0, spread.L
    if len(L) == 0:
        return total
    for t in range(len(price)):
        form = L[0, 0]
        for a in range(z.shape[1]):
            form += z[t, a] * (2.0 * L[a + 1, 0] + dot(z[t], L[a + 1, 1:]))
        total += 0.5 * price[t] * form
    return total


@jit
def _backward(dynamics: Dynamics, terms: Terms, expansion: Expansion, spread: Spread, z: Array, low: Array,
              high: Array, mu: float, iterations: int, slack: float, H: Array, L: Array,
              price: Array) -> tuple[bool, bool, float, float]:
    """Fill H (T, m, wide) = -[K k], L (T, m, m) and the price of the spread (T,), about the trajectory z.

    Returns success, clamped, sum k'q_u, sum k'Q_uu k. See lqr.backward.
    Homogeneous, with the affine terms last: the value at x is 1/2 a'V a, a = [x; 1].
    """
    (T, m), n, d, dense = low.shape, dynamics.G.shape[1], len(dynamics.columns), dynamics.dense
    p, wide, s = n + m, dynamics.G.shape[2], d - m  # the first s columns are states, m efforts follow
    V, Q = np.zeros((n + 1, _padded(n + 1))), np.empty((p, _padded(p + 1)))  # Q = [Q_zz q_z]
    VG, GVG = np.empty((n + 1, wide)), np.empty((d, wide))
    Quu, ridged = np.empty((m, m)), np.empty((m, m))
    QuuH, halfT, S = np.empty((m, V.shape[1])), np.empty((n + 1, m)), np.empty(V.shape)
    _set_cost(terms, expansion, T, Q)
    V[:n, :n], V[n, :n] = Q[:n, :n], Q[:n, p]
    clamped, linear, quadratic = False, 0.0, 0.0
    for t in range(T - 1, -1, -1):
        now = min(t, len(dynamics.G) - 1)
        G = dynamics.G[now]
        product(V, G, VG, n + 1, dense)
        for k in range(dense, n):
            a = dynamics.entry[k]
            for i in range(n + 1):
                VG[i, a] += V[i, k] * G[k, a]
        product(dynamics.GT[now], VG, GVG, d, dense)
        for k in range(dense, n):
            a = dynamics.entry[k]
            for b in range(wide):
                GVG[a, b] += G[k, a] * VG[k, b]
        _set_cost(terms, expansion, t, Q)
        for a in range(d):
            row = dynamics.columns[a]
            for b in range(d):
                Q[row, dynamics.columns[b]] += GVG[a, b]
            Q[row, p] += VG[n, a]
        if len(spread.L):
            price[t] = _add_spread(spread, V, z[t], Q)
        H_t = H[t]
        for a in range(m):
            for i in range(n):
                H_t[a, i] = Q[n + a, i]
            H_t[a, n] = Q[n + a, p]
            for b in range(m):
                Quu[a, b] = ridged[a, b] = Q[n + a, n + b]
        if mu > 0.0:
            for a in range(m):
                for i in range(n):
                    ridge = mu * G[i, s + a]
                    for b in range(s):
                        H_t[a, dynamics.columns[b]] += ridge * G[i, b]
                    for b in range(m):
                        ridged[a, b] += ridge * G[i, s + b]
        good, bounded = _gain(ridged, H_t, n, low[t], high[t], L[t], iterations, slack)
        if not good:
            return False, False, 0.0, 0.0
        clamped |= bounded
        product(Quu, H_t, QuuH, m, m)
        for a in range(m):
            linear -= H_t[a, n] * Q[n + a, p]
            quadratic += H_t[a, n] * QuuH[a, n]
            for i in range(n):
                halfT[i, a] = 2.0 * Q[n + a, i] - QuuH[a, i]
            halfT[n, a] = 2.0 * Q[n + a, p] - QuuH[a, n]
        product(halfT, H_t, S, n + 1, m)
        # Symmetrised: else the antisymmetric rounding error would grow with the open-loop dynamics, A'E A per step.
        for i in range(n):
            V[n, i] = Q[i, p] - 0.5 * (S[i, n] + S[n, i])
            for j in range(n):
                S[i, j] = Q[i, j] - S[i, j]
            for j in range(i + 1):
                V[i, j] = V[j, i] = 0.5 * (S[i, j] + S[j, i])
    return np.isfinite(linear + quadratic), clamped, linear, quadratic


@jit
def _is_finite(dynamics: Dynamics, terms: Terms, expansion: Expansion, spread: Spread) -> bool:
    """Whether dynamics, spread and the expansion of the cost are finite."""
    total = _zero(expansion.gradient) + _zero(spread.Sigma) + _zero(spread.L)
    for t in range(len(dynamics.G)):
        total += _zero(dynamics.G[t])
    for t in range(len(expansion.weight)):
        for j in range(len(terms.width)):
            for e in range(terms.start[j], terms.start[j + 1]):
                total += 0.0 * expansion.weight[t, j] * terms.value[e]
    return np.isfinite(total)


_vector, _matrix, _stack = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, ::1]
_int, _float = numba.int64, numba.float64
_SIGNATURE = numba.types.Tuple((_matrix, _matrix, _stack, _stack, _float, _int, _int))(
    _vector, _stack, _matrix, _matrix, _matrix, _matrix, _vector, numba.boolean[::1], *[_matrix] * 5,
    _int, _int, *[_float] * 7, _int, _float)


def _solve(x0: Array, F: Array, f: Array, R: Array, reference: Array, scale: Array, width: Array, dead: Array,
          lower: Array, upper: Array, u: Array, Sigma: Array, leverage: Array, iterations: int, step_lengths: int,
          backtracking: float, accept_ratio: float, tolerance: float, mu_start: float, mu_min: float, mu_max: float,
          mu_factor: float, box_iterations: int,
          box_slack: float) -> tuple[Array, Array, Array, Array, float, int, int]:
    """The fields of ilqr.Solution for one problem x0 (n,) from the efforts u (T, m), finite and within the bounds.

    F (T or 1, n, n + m) and f (T or 1, n), Sigma and leverage as in Spread, the fields of task.cost.ResidualCost and
    of Ilqr.Config; all arrays C-contiguous.
    """
    (T, m), n = u.shape, len(x0)
    p = n + m
    dynamics, terms = _dynamics(F, f, n), _terms(R, reference, scale, width, dead)
    spread, price = Spread(Sigma, leverage), np.zeros(T)
    z, candidate, best = np.empty((T + 1, p)), np.empty((T + 1, p)), np.empty((T + 1, p))
    ladder, values, lengths = np.empty((T + 1, p, WIDTH)), np.empty(WIDTH), np.empty(WIDTH)
    H, L = np.zeros((T, m, _padded(n + 1))), np.zeros((T, m, m))
    H_new, L_new = np.zeros(H.shape), np.zeros(L.shape)
    for i in range(n):
        z[0, i] = x0[i] if np.isfinite(x0[i]) else 0.0
    z[:T, n:] = u
    _forward(dynamics, z, H, lower, upper, 0.0, z)
    z[:T, n:] = u  # where a state was not a number, so are the efforts now
    cost = _evaluate(terms, z)
    status = RUNNING
    if not (np.isfinite(cost) and np.isfinite(x0).all()):
        cost, status = np.inf, NOT_FINITE
    expansion = Expansion(np.empty((T + 1, p)), np.empty((T + 1, len(R))))
    low, high = np.empty((T, m)), np.empty((T, m))
    mu, rate, solved, retry, passes = mu_start, 1.0, False, False, 0
    while status == RUNNING and passes < iterations:
        passes += 1
        _expand(terms, z, expansion)
        for t in range(T):
            for a in range(m):
                low[t, a], high[t, a] = lower[t, a] - z[t, n + a], upper[t, a] - z[t, n + a]
        good, clamped, linear, quadratic = _backward(dynamics, terms, expansion, spread, z, low, high, mu,
                                                     box_iterations, box_slack, H_new, L_new, price)
        if good:
            H, H_new, L, L_new, solved = H_new, H, L_new, L, True
        before = _spread_cost(spread, price, z)
        enough = max(tolerance, 10 * EPS) * (1 + abs(cost) + abs(before))
        expected = -(linear + 0.5 * quadratic)
        flat, accepted = good and expected <= enough, False
        converged = flat and mu == 0.0
        if good and not flat:
            least, lowest, length = np.inf, np.inf, 1.0
            first = 0 if clamped or mu > 0.0 else 1  # then the full step is tried alone: mostly it ends the search
            for rung in range(step_lengths):
                w = (rung - first) % WIDTH
                if rung < first:
                    _forward(dynamics, z, H, lower, upper, length, candidate)
                    value = _evaluate(terms, candidate)
                else:
                    if w == 0:
                        for k in range(WIDTH):
                            lengths[k] = length * backtracking**k
                        _ladder(dynamics, z, H, lower, upper, lengths, ladder)
                        _evaluate_ladder(terms, ladder, values)
                    value = values[w]
                total, promised = value, -length * (linear + 0.5 * length * quadratic)
                if len(leverage):
                    if rung >= first:
                        candidate[:] = ladder[:, :, w]
                    total += _spread_cost(spread, price, candidate) - before
                if cost - total >= accept_ratio * promised and promised > 0.0 and total < least:
                    if rung >= first:
                        candidate[:] = ladder[:, :, w]
                    accepted, least, lowest, best, candidate = True, total, value, candidate, best
                    # An exact full step needs no shorter one, which would promise less.
                    converged = rung == 0 and mu == 0.0 and not clamped and abs(cost - total - expected) <= enough
                    if converged:
                        break
                length *= backtracking
            if accepted:
                cost, z, best = lowest, best, z
        if accepted:
            rate = min(rate / mu_factor, 1 / mu_factor)
            mu *= rate
            if mu < mu_min:
                mu = 0.0
            retry = False
        elif flat:
            mu, rate, retry = 0.0, 1.0, True
        else:
            rate = max(rate * mu_factor, mu_factor)
            mu = max(mu * rate, mu_min)
            if retry or mu > mu_max:
                status = LINE_SEARCH_FAILED
            elif not good and not _is_finite(dynamics, terms, expansion, spread):
                status = NOT_FINITE
        if converged:
            status = CONVERGED
    Sigma = np.zeros((T, m, m))
    if solved:
        for t in range(T):
            Sigma[t] = np.eye(m)
            _cholesky_solve(L[t], Sigma[t])
    K = -H[:, :, :n] if solved else np.zeros((T, m, n))
    x = z[:, :n].copy()
    for t in range(T + 1):
        for i in range(n):
            x[t, i] = x[t, i] if np.isfinite(x[t, i]) else 0.0
    return x, z[:T, n:].copy(), K, Sigma, cost, ITERATION_LIMIT if status == RUNNING else status, passes


solve = compile_for(_SIGNATURE)(_solve)
