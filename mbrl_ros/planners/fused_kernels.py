"""The kernels behind fused.py, in Triton: one program per problem, whose tiles stay on the chip from step to step.

A tile is (P, P), P the power of two that holds the homogeneous h = [1; x; u]; beyond that it is zero. With G = [1 0 0;
f A B] a step is Q = C + G'V G, two products, and an elimination over the m pivots of Q_uu: its rows of u become
H = Q_uu^-1 Q_ua = -[k K], what is left above them the new V. Arrays are as torch has them, not padded: masks read them.

Triton reads the annotations of these functions, so that they take no others than its own.
"""
import triton
import triton.language as tl


@triton.jit
def _column(tile, cols):
    """The first column, (P,): what belongs to the 1 of h."""
    return tl.sum(tl.where(cols == 0, tile, 0.0), 1)


@triton.jit
def _times(tile, v):
    return tl.sum(tile * v[None, :], 1)


@triton.jit
def _clamp(v, low, high):
    above = tl.maximum(v, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(above, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _product(a, b, precision: tl.constexpr):
    return tl.dot(a, b, input_precision=precision, out_dtype=a.dtype)


@triton.jit
def _cost_tile(C, c, const, index, rows, cols, z: tl.constexpr):
    """[2 const, c'; c, C] of one step: half of h' (.) h is its cost."""
    inner = (rows > 0) & (cols > 0) & (rows < z) & (cols < z)
    tile = tl.load(C + (rows - 1) * (z - 1) + cols - 1, mask=inner, other=0.0)
    first = tl.load(c + index - 1, mask=(index > 0) & (index < z), other=0.0)
    first = tl.where(index == 0, 2.0 * tl.load(const), first)
    tile = tl.where(cols == 0, first[:, None], tile)
    return tl.where(rows == 0, first[None, :], tile)


@triton.jit
def _dynamics_tile(F, f, index, rows, cols, a: tl.constexpr, z: tl.constexpr):
    """G, the matrix of [1; x'] = G h, of one step; no f where that is None."""
    state = (rows > 0) & (rows < a)
    G = tl.load(F + (rows - 1) * (z - 1) + cols - 1, mask=state & (cols > 0) & (cols < z), other=0.0)
    if f is not None:
        first = tl.load(f + index - 1, mask=(index > 0) & (index < a), other=0.0)
        G = tl.where(cols == 0, first[:, None], G)
    return tl.where((rows == 0) & (cols == 0), 1.0, G)


@triton.jit
def _eliminate(M, free, L, index, rows, cols, a: tl.constexpr, z: tl.constexpr):
    """Gauss-Jordan elimination over the pivots a..z-1 that are free, and whether they were all positive.

    If all are free the Cholesky factor passes by: it is written to L, unless that is None.
    """
    good = 1
    for j in range(a, z):
        row = tl.sum(tl.where(rows == j, M, 0.0), 0)
        col = tl.sum(tl.where(cols == j, M, 0.0), 1)
        pivot = tl.sum(tl.where(index == j, row, 0.0))
        on = tl.sum(tl.where(index == j, free, 0)) > 0
        good = tl.where((pivot > 0) | (on == 0), good, 0)
        if L is not None:
            tl.store(L + (index - a) * (z - a) + j - a, tl.where(index >= j, col / tl.sqrt(pivot), 0.0),
                     mask=(index >= a) & (index < z))
        row = row / pivot
        eliminated = tl.where(rows == j, row[None, :], M - col[:, None] * row[None, :])
        M = tl.where(on, eliminated, M)
    return M, good


@triton.jit
def _free(k, g, low, high, slack, u):
    """Components of u that are not held at a bound by their gradient, (P,) of 0 and 1."""
    held = ((k <= low) & (g > slack)) | ((k >= high) & (g < -slack))
    return tl.where(u & (held == 0), 1, 0)


@triton.jit
def _projected_search(U, g, low, high, k, target, points: tl.constexpr):
    """The best of some points on the projected arc from k towards the target, each half as far as the one before."""
    best = tl.sum(g * 0.0) + float("inf")
    found = k
    length = 1.0
    for _ in range(points):
        d = _clamp(k + length * (target - k), low, high) - k
        change = tl.sum(d * (g + 0.5 * _times(U, d)))
        found = tl.where(change < best, k + d, found)
        best = tl.where(change < best, change, best)
        length = length * 0.5
    return found


@triton.jit
def _in_box(R, k, low, high, index, rows, cols, a: tl.constexpr, z: tl.constexpr, iterations: tl.constexpr,
            slack_part: tl.constexpr, points: tl.constexpr):
    """box.box_newton for the tile R of Q with mu, from where box.BoxGain begins: H, and the free components."""
    u = (index >= a) & (index < z)
    U = tl.where((rows >= a) & (rows < z) & (cols >= a) & (cols < z), R, 0.0)
    q = tl.where(u, _column(R, cols), 0.0)
    slack = slack_part * tl.max(tl.abs(q))
    at_limit = tl.sum(tl.where(u & ((low >= 0) | (high <= 0)), 1, 0)) > 0
    k = tl.where(at_limit, 0.0, _clamp(k, low, high))
    g = q + _times(U, k)
    free = _free(k, g, low, high, slack, u)
    face, H, left = free, tl.zeros_like(R), iterations
    while left > 0:
        face = free
        M, _good = _eliminate(tl.where(cols == 0, g[:, None], R), face, None, index, rows, cols, a, z)
        H = tl.where((face[:, None] > 0) & (cols < a), M, 0.0)
        target = k - _column(H, cols)
        within = _clamp(target, low, high)
        off = tl.sum(tl.where(within == target, 0, 1))
        if off > 0:
            within = _projected_search(U, g, low, high, k, target, points)
        k = within
        g = q + _times(U, k)
        free = _free(k, g, low, high, slack, u)
        changed = tl.sum(tl.where(free == face, 0, 1))
        left = tl.where(off + changed > 0, left - 1, 0)
    return tl.where((cols == 0) & u[:, None], -k[:, None], H), face


@triton.jit
def backward_kernel(F, F_b, F_t, f, f_b, f_t, C, C_b, C_t, c, c_b, c_t, const, const_b, const_t, mu, mu_b,
                    Sigma, Sigma_b, Sigma_t, leverage, leverage_b, leverage_t, low, low_b, low_t, high, high_b, high_t,
                    K, k, L, Quu, values, linear, quadratic, success, price, clamped, T,
                    n: tl.constexpr, m: tl.constexpr, P: tl.constexpr, iterations: tl.constexpr,
                    slack_part: tl.constexpr, points: tl.constexpr, precision: tl.constexpr):
    """lqr.backward of the problem b = program_id(0). Inputs come with their strides over b and t, zero where one array
    serves all, and dense matrices; outputs are contiguous. f, mu, Sigma, leverage, low, high and values may be None."""
    a: tl.constexpr = 1 + n
    z: tl.constexpr = 1 + n + m
    b = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    rows, cols = index[:, None], index[None, :]
    u = (index >= a) & (index < z)
    u_rows, a_cols = (rows >= a) & (rows < z), cols < a
    uu, aa = u_rows & (cols >= a) & (cols < z), (rows < a) & a_cols
    V = _cost_tile(C + b * C_b + T * C_t, c + b * c_b + T * c_t, const + b * const_b + T * const_t,
                   index, rows, cols, z)
    V = tl.where(aa, V, 0.0)
    promised = tl.sum(V) * 0.0
    first_order, second_order, positive, hit = tl.zeros_like(promised), tl.zeros_like(promised), 1, 0
    for step in range(T):
        t = (T - 1 - step).to(tl.int64)
        bt = b * T + t
        if values is not None:
            tl.store(values + (bt + b + 1) * a * a + rows * a + cols, 2.0 * V, mask=aa)
        Q = _cost_tile(C + b * C_b + t * C_t, c + b * c_b + t * c_t, const + b * const_b + t * const_t,
                       index, rows, cols, z)
        if leverage is not None:
            x = (rows > 0) & (cols > 0) & aa
            noise = tl.load(Sigma + b * Sigma_b + t * Sigma_t + (rows - 1) * n + cols - 1, mask=x, other=0.0)
            worth = tl.sum(tl.where(x, V * noise, 0.0))
            Q += worth * tl.load(leverage + b * leverage_b + t * leverage_t + rows * z + cols,
                                 mask=(rows < z) & (cols < z), other=0.0)
            tl.store(price + bt, worth)
        G = _dynamics_tile(F + b * F_b + t * F_t, None if f is None else f + b * f_b + t * f_t, index, rows, cols, a, z)
        Q += _product(tl.trans(G), _product(V, G, precision), precision)
        R = Q
        if mu is not None:
            D = tl.where(rows > 0, G, 0.0)
            R += tl.load(mu + b * mu_b) * _product(tl.trans(D), D, precision)
        S, good = _eliminate(R, tl.where(u, 1, 0), L + bt * m * m, index, rows, cols, a, z)
        positive = tl.where(good > 0, positive, 0)
        H = tl.where(u_rows & a_cols, S, 0.0)
        if low is not None:
            under = tl.load(low + b * low_b + t * low_t + index - a, mask=u, other=0.0)
            over = tl.load(high + b * high_b + t * high_t + index - a, mask=u, other=0.0)
            newton = -_column(H, cols)
            beyond = tl.sum(tl.where(_clamp(newton, under, over) == newton, 0, 1)) > 0
            hopeless = (positive == 0) | (tl.sum(newton - newton) != 0.0)  # of which nothing is used, nor waited for
            if beyond & (hopeless == 0):
                H, face = _in_box(R, newton, under, over, index, rows, cols, a, z, iterations, slack_part, points)
                hit = tl.where(tl.sum(face) < m, 1, hit)
        if low is not None or mu is not None:  # H is not the minimiser of Q: V is what it really costs
            Y = tl.where(aa & (rows == cols), 1.0, -H)
            S = _product(tl.trans(Y), _product(Q, Y, precision), precision)
        # The mean with the transpose keeps antisymmetric rounding errors from growing with the open loop, A'EA a step.
        V = tl.where(aa, 0.5 * (S + tl.trans(S)), 0.0)
        feedforward, q = -_column(H, cols), tl.where(u, _column(Q, cols), 0.0)
        first_order += tl.sum(feedforward * q)
        second_order += tl.sum(tl.where(uu, Q * feedforward[:, None] * feedforward[None, :], 0.0))
        tl.store(k + bt * m + index - a, feedforward, mask=u)
        tl.store(K + bt * m * n + (rows - a) * n + cols - 1, -H, mask=u_rows & a_cols & (cols > 0))
        tl.store(Quu + bt * m * m + (rows - a) * m + cols - a, Q, mask=uu)
    if values is not None:
        tl.store(values + b * (T + 1) * a * a + rows * a + cols, 2.0 * V, mask=aa)
    promised = first_order + second_order
    tl.store(linear + b, first_order)
    tl.store(quadratic + b, second_order)
    tl.store(success + b, (positive > 0) & (promised - promised == 0.0))
    tl.store(clamped + b, hit > 0)


@triton.jit
def forward_kernel(F, F_b, F_t, f, f_b, f_t, K, K_b, K_t, k, k_b, k_t, x, x_b, x_t, u, u_b, u_t, low, low_b, low_t,
                   high, high_b, high_t, start, start_b, lengths, states, efforts, S, T,
                   n: tl.constexpr, m: tl.constexpr, P: tl.constexpr, rungs: tl.constexpr, precision: tl.constexpr):
    """lqr.forward of the problem b = program_id(0): all step lengths at once, h' (rungs, P) in a tile. As above."""
    a: tl.constexpr = 1 + n
    z: tl.constexpr = 1 + n + m
    b, B = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    index, rung = tl.arange(0, P), tl.arange(0, rungs)[:, None]
    rows, cols = index[:, None], index[None, :]
    is_x, is_u = (cols > 0) & (cols < a), (cols >= a) & (cols < z)
    length = tl.load(lengths + rung, mask=rung < S, other=0.0)
    h = tl.load(start + b * start_b + cols - 1, mask=is_x, other=0.0)
    h = tl.where(cols == 0, 1.0, h) + tl.zeros_like(length)
    trajectory = rung.to(tl.int64) * B + b
    tl.store(states + trajectory * (T + 1) * n + cols - 1, h, mask=is_x & (rung < S))
    for t in range(T):
        nominal = tl.load(x + b * x_b + t * x_t + cols - 1, mask=is_x, other=0.0)
        feedback = tl.load(K + b * K_b + t * K_t + (cols - a) * n + rows - 1,
                           mask=is_u & (rows > 0) & (rows < a), other=0.0)  # transposed
        ahead = tl.load(k + b * k_b + t * k_t + cols - a, mask=is_u, other=0.0)
        effort = tl.load(u + b * u_b + t * u_t + cols - a, mask=is_u, other=0.0)
        under = tl.load(low + b * low_b + t * low_t + cols - a, mask=is_u, other=0.0)
        over = tl.load(high + b * high_b + t * high_t + cols - a, mask=is_u, other=0.0)
        effort += _product(tl.where(is_x, h - nominal, 0.0), feedback, precision) + length * ahead
        effort = _clamp(effort, under, over)
        tl.store(efforts + (trajectory * T + t) * m + cols - a, effort, mask=is_u & (rung < S))
        G = _dynamics_tile(F + b * F_b + t * F_t, f + b * f_b + t * f_t, index, rows, cols, a, z)
        h = _product(tl.where(is_u, effort, h), tl.trans(G), precision)
        tl.store(states + (trajectory * (T + 1) + t + 1) * n + cols - 1, h, mask=is_x & (rung < S))
