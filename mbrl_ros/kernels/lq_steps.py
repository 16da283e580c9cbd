"""The steps of one LQ problem in registers: intrinsics of numba for sizes that are known when they are compiled.

Homogeneous, in the order h = [x; 1; u]: a step costs 1/2 h'C h and leads to x' = F h, F = [A f B]. With V the matrix of
the value 1/2 [x; 1]'V [x; 1] of the next step,

    P = V [F; 0 1 0],   Q = C + [F; 0 1 0]'P,   u = G [x; 1],   V = Q_aa + left'right,

Q_u the rows of u in Q, left'right = Q_au G for the minimiser G. V is symmetric: only blocks on and above its diagonal
are computed, the others are their transposes, and blocks on the diagonal are made symmetric. Else the antisymmetric
rounding error would grow with the open-loop dynamics, A'E A per step. The column of the 1 is never formed: it is its
row.

Every intrinsic takes the address of one buffer, then where in it its arrays are (in elements), then n, m, lanes, bits,
which must be literal. The shapes of the arrays are in Layout; rows are whole vectors, what is beyond is zero or not
read.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mbrl_ros.kernels.simd import INDEX, Emitter, Value, split


class Layout(NamedTuple):
    """Sizes of one problem: n states, m efforts, vectors of `width` numbers."""

    n: int
    m: int
    width: int

    def padded(self, size: int) -> int:
        """The least multiple of the width that is not smaller."""
        return -(-size // self.width) * self.width

    @property
    def p(self) -> int:
        """Of h = [x; 1; u]."""
        return self.n + 1 + self.m

    @property
    def h(self) -> int:
        """Row of F (n, h), C (p, h), P (n + 1, h), Q_u (m, h), z (h,), left and right (2 m, h)."""
        return self.padded(self.p)

    @property
    def a(self) -> int:
        """Row of G (m, a)."""
        return self.padded(self.n + 1)

    @property
    def x(self) -> int:
        """Row of V (n + 1, x), the last one the linear part."""
        return self.padded(self.n)

    @property
    def u(self) -> int:
        """Row of bounds and of k (u,)."""
        return self.padded(self.m)


def _intrinsic(places: int, write: Callable[..., Value | None], floats: int = 0, result: Any = types.void) -> Any:
    """An intrinsic (base, *places, *floats, n, m, lanes, bits) of what write(emitter, layout, p, *places, *floats)
    adds to the code; `result` is int64, void, or None for a number."""

    def step(typingctx: Any, base: Any, *arguments: Any) -> Any:
        n, m, lanes, bits = (s.literal_value for s in arguments[-4:])
        number = types.float64 if bits == 64 else types.float32
        given = types.StarArgTuple.from_types((*[types.int64] * places, *[number] * floats, *arguments[-4:]))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Value:
            values = [builder.extract_value(args[1], i) for i in range(places + floats)]
            e = Emitter(builder, lanes, bits)
            value = write(e, Layout(n, m, lanes), e.pointer(args[0]), *values)
            return context.get_dummy_value() if value is None else value

        return (number if result is None else result)(types.int64, given), codegen

    return intrinsic(prefer_literal=True)(step)


def _address(typingctx: Any, array: Any) -> Any:
    """Of the first element of an array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, INDEX)

    return types.int64(array), codegen


def _tiles(e: Emitter, rows: int, vectors: int) -> list[tuple[int, int, int, int]]:
    """(first row, rows, first vector, vectors) of tiles that fit into the registers, one row of vectors beside them."""
    tiles = []
    for j, columns in split(vectors, 5 if e.registers == 32 else 3):
        for i, number in split(rows, (e.registers - 1 - columns) // columns):
            tiles.append((i, number, j, columns))
    return tiles


def _ahead(e: Emitter, s: Layout, p: Value, P: Value, V: Value, F: Value) -> None:
    """P (n + 1, h) = V [F; 0 1 0]; of V only the rows are read, and the constant is left out."""
    w, n = s.width, s.n
    for i, rows, j, columns in _tiles(e, n + 1, s.h // w):
        tile = [[e.number(0.0)] * columns for _ in range(rows)]
        if j <= n // w < j + columns:
            for r in range(min(rows, n - i)):
                v = e.spread(p, e.index(1, n * s.x + i + r, V))
                tile[r][n // w - j] = e.choose([lane == n % w for lane in range(w)], v, e.number(0.0))
        tile = e.accumulate(
            tile, n,
            lambda k, r: e.spread(p, e.index(k, s.x, e.index(1, i + r, V)) if i + r < n else e.index(  # noqa: B023
                1, n * s.x, e.index(k, 1, V))),
            lambda k, v: e.load(p, e.index(k, s.h, e.index(1, (j + v) * w, F))))  # noqa: B023
        for r, row in enumerate(tile):
            for v, a in enumerate(row):
                e.store(a, p, e.index(1, (i + r) * s.h + (j + v) * w, P))


def _efforts(e: Emitter, s: Layout, p: Value, Q: Value, C: Value, F: Value, P: Value) -> None:
    """Q_u (m, h) = C_u + B'P."""
    w, first = s.width, s.n + 1
    for i, rows, j, columns in _tiles(e, s.m, s.h // w):
        tile = [[e.load(p, e.index(1, (first + i + r) * s.h + (j + v) * w, C)) for v in range(columns)]
                for r in range(rows)]
        tile = e.accumulate(tile, s.n,
                            lambda k, r: e.spread(p, e.index(k, s.h, e.index(1, first + i + r, F))),  # noqa: B023
                            lambda k, v: e.load(p, e.index(k, s.h, e.index(1, (j + v) * w, P))))  # noqa: B023
        for r, row in enumerate(tile):
            for v, a in enumerate(row):
                e.store(a, p, e.index(1, (i + r) * s.h + (j + v) * w, Q))


def _ridge(e: Emitter, s: Layout, p: Value, R: Value, Q: Value, F: Value, mu: Value) -> None:
    """R (m, h) = Q_u + mu B'F."""
    w, first, weight = s.width, s.n + 1, e.everywhere(mu)
    for i, rows, j, columns in _tiles(e, s.m, s.h // w):
        tile = [[e.number(0.0)] * columns for r in range(rows)]
        tile = e.accumulate(tile, s.n,
                            lambda k, r: e.spread(p, e.index(k, s.h, e.index(1, first + i + r, F))),  # noqa: B023
                            lambda k, v: e.load(p, e.index(k, s.h, e.index(1, (j + v) * w, F))))  # noqa: B023
        for r, row in enumerate(tile):
            for v, a in enumerate(row):
                at = (i + r) * s.h + (j + v) * w
                e.store(e.fma(weight, a, e.load(p, e.index(1, at, Q))), p, e.index(1, at, R))


def _eliminate(e: Emitter, s: Layout, p: Value, Q: Value, left: Value, right: Value) -> Value:
    """Q_uu = L D L': right = D^-1 L^-1 Q_u, left = -L^-1 Q_u (m, h). Zero unless all pivots are positive."""
    w, first, vectors = s.width, s.n + 1, s.h // s.width
    rows = [[e.load(p, e.index(1, i * s.h + v * w, Q)) for v in range(vectors)] for i in range(s.m)]
    good = ir.Constant(ir.IntType(1), 1)
    one = ir.Constant(e.scalar, 1.0)
    for j in range(s.m):
        pivot = e.lane(rows[j][(first + j) // w], (first + j) % w)
        good = e.b.and_(good, e.b.fcmp_ordered(">", pivot, ir.Constant(e.scalar, 0.0)))
        inverse = e.everywhere(e.b.fdiv(one, pivot))
        scaled, negative = [e.b.fmul(inverse, v) for v in rows[j]], [e.b.fneg(v) for v in rows[j]]
        for i in range(j + 1, s.m):
            at = first + i
            coupling = e.shuffle(negative[at // w], negative[at // w], [at % w] * w)
            rows[i] = [e.fma(coupling, v, a) for v, a in zip(scaled, rows[i], strict=True)]
        for v in range(vectors):
            e.store(negative[v], p, e.index(1, j * s.h + v * w, left))
            e.store(scaled[v], p, e.index(1, j * s.h + v * w, right))
    return e.b.zext(good, INDEX)


def _gains(e: Emitter, s: Layout, p: Value, G: Value, right: Value) -> None:
    """G (m, a) = -L'^-1 right, with `right` of eliminate; zeros beyond the column of the 1."""
    w, first, vectors = s.width, s.n + 1, s.a // s.width
    rows: list[list[Value]] = [[]] * s.m
    inside = [lane <= s.n - (vectors - 1) * w for lane in range(w)]
    for j in range(s.m - 1, -1, -1):
        rows[j] = [e.b.fneg(e.load(p, e.index(1, j * s.h + v * w, right))) for v in range(vectors)]
        for i in range(s.m - 1, j, -1):
            coupling = e.b.fneg(e.spread(p, e.index(1, j * s.h + first + i, right)))
            rows[j] = [e.fma(coupling, b, a) for a, b in zip(rows[j], rows[i], strict=True)]
        rows[j][-1] = e.choose(inside, rows[j][-1], e.number(0.0))
        for v, a in enumerate(rows[j]):
            e.store(a, p, e.index(1, j * s.a + v * w, G))


def _value(e: Emitter, s: Layout, p: Value, V: Value, C: Value, F: Value, P: Value, left: Value, right: Value,
           count: Value) -> None:
    """V (n + 1, x) = C_aa + F_a'P + left'right over `count` rows of the last two; the row of the 1 comes last."""
    w, n, blocks = s.width, s.n, s.x // s.width
    for block in range(blocks):
        rows = [*range(block * w, min(n, (block + 1) * w)), *([n] if block == 0 else [])]
        for start, columns in split(blocks - block, (e.registers - 1) // (len(rows) + 1)):
            j = block + start
            tile = [[e.load(p, e.index(1, i * s.h + (j + v) * w, C)) for v in range(columns)] for i in rows]
            if block == 0:
                tile[-1] = [e.b.fadd(a, e.load(p, e.index(1, n * s.h + (j + v) * w, P)))
                            for v, a in enumerate(tile[-1])]
            for L, R, number in ((F, P, n), (left, right, count)):
                tile = e.accumulate(tile, number,
                                    lambda k, r: e.spread(p, e.index(k, s.h, e.index(1, rows[r], L))),  # noqa: B023
                                    lambda k, v: e.load(p, e.index(k, s.h, e.index(1, (j + v) * w, R))))  # noqa: B023
            for v in range(columns):
                column = [row[v] for row in tile]
                if block == 0:
                    e.store(column.pop(), p, e.index(1, n * s.x + (j + v) * w, V))
                across = e.transpose(column + [e.number(0.0)] * (w - len(column)))
                if j + v == block:
                    half = e.number(0.5)
                    column = [e.b.fmul(half, e.b.fadd(a, b)) for a, b in zip(column, across, strict=False)]
                else:
                    for r in range(min(w, n - (j + v) * w)):
                        e.store(across[r], p, e.index(1, ((j + v) * w + r) * s.x + block * w, V))
                for r, a in enumerate(column):
                    e.store(a, p, e.index(1, (block * w + r) * s.x + (j + v) * w, V))


def _advance(e: Emitter, s: Layout, p: Value, z: Value, following: Value, G: Value, F: Value, k: Value, low: Value,
             high: Value, shorten: Value) -> None:
    """u = G [x; 1] - shorten k within bounds into z = [x 1 0], and x' = F [x; 1; u] into `following` = [x' 1 0]."""
    w, n, ahead = s.width, s.n, s.a // s.width
    x = [e.load(p, e.index(1, v * w, z)) for v in range(ahead)]
    efforts = []
    less = e.b.fneg(e.everywhere(shorten))
    for first in range(0, s.m, w):
        rows = [_dot(e, p, e.index(1, i * s.a, G), x) for i in range(first, min(first + w, s.m))]
        u = e.fma(less, e.load(p, e.index(1, first, k)), e.sums(rows))
        efforts.append(e.clamp(u, e.load(p, e.index(1, first, low)), e.load(p, e.index(1, first, high))))
    whole = []
    for v in range(s.h // w):
        vector = x[v] if v < ahead else e.number(0.0)
        for group, u in enumerate(efforts):
            places = [v * w + lane - (n + 1) - group * w for lane in range(w)]
            used = min(w, s.m - group * w)
            if any(0 <= a < used for a in places):
                vector = e.shuffle(vector, u, [w + a if 0 <= a < used else lane for lane, a in enumerate(places)])
        whole.append(vector)
        e.store(vector, p, e.index(1, v * w, z))
    for v in range(ahead):
        rows = [_dot(e, p, e.index(1, i * s.h, F), whole) for i in range(v * w, min(n, (v + 1) * w))]
        after = e.sums(rows) if rows else e.number(0.0)
        one = [float(v * w + lane == n) for lane in range(w)]
        e.store(e.choose([v * w + lane < n for lane in range(w)], after, e.lanes(one)), p, e.index(1, v * w, following))


def _slope(e: Emitter, s: Layout, p: Value, g: Value, Q: Value, z: Value) -> None:
    """g (u,) = Q_u h, zeros beyond."""
    h = [e.load(p, e.index(1, v * s.width, z)) for v in range(s.h // s.width)]
    _products(e, s, p, g, Q, s.h, h)


def _aim(e: Emitter, s: Layout, p: Value, u: Value, G: Value, z: Value) -> None:
    """u (u,) = G [x; 1] for z = [x; 1; anything finite], zeros beyond."""
    _products(e, s, p, u, G, s.a, [e.load(p, e.index(1, v * s.width, z)) for v in range(s.a // s.width)])


def _products(e: Emitter, s: Layout, p: Value, to: Value, A: Value, stride: int, vectors: list[Value]) -> None:
    for first in range(0, s.m, s.width):
        rows = [_dot(e, p, e.index(1, i * stride, A), vectors) for i in range(first, min(first + s.width, s.m))]
        e.store(e.sums(rows), p, e.index(1, first, to))


def _gradient(e: Emitter, s: Layout, p: Value, to: Value, g: Value, Q: Value, k: Value) -> None:
    """to (u,) = g + Q_uu k, anything beyond."""
    for first in range(0, s.m, s.width):
        total = e.load(p, e.index(1, first, g))
        for i in range(s.m):
            row = e.load(p, e.index(1, i * s.h + s.n + 1 + first, Q))  # of the last row perhaps beyond its end
            total = e.fma(e.spread(p, e.index(1, i, k)), row, total)
        e.store(total, p, e.index(1, first, to))


def _hold(e: Emitter, s: Layout, p: Value, M: Value, R: Value, free: Value, bound: Value, scratch: Value) -> None:
    """M (m, h): R without the efforts that are not free, which add R bound to the column of the 1."""
    vectors, w = s.h // s.width, s.width
    fixed = [e.load(p, e.index(1, v * w, bound)) for v in range(vectors)]
    kept = [e.load(p, e.index(1, v * w, free)) for v in range(vectors)]
    _products(e, s, p, scratch, R, s.h, fixed)
    one = e.lanes([float(lane == s.n % w) for lane in range(w)])
    for i in range(s.m):
        for v in range(vectors):
            row = e.b.fmul(kept[v], e.load(p, e.index(1, i * s.h + v * w, R)))
            if v == s.n // w:
                row = e.fma(one, e.spread(p, e.index(1, i, scratch)), row)
            e.store(row, p, e.index(1, i * s.h + v * w, M))


def _halves(e: Emitter, s: Layout, p: Value, left: Value, right: Value, Q: Value, G: Value) -> None:
    """left = [B; G], right = [G; B], B = Q_ua + 1/2 Q_uu G: left'right is what any gain G adds to the value."""
    vectors, w, half = s.a // s.width, s.width, e.number(0.5)
    rows = [[e.load(p, e.index(1, i * s.a + v * w, G)) for v in range(vectors)] for i in range(s.m)]
    for i in range(s.m):
        B = [e.load(p, e.index(1, i * s.h + v * w, Q)) for v in range(vectors)]
        for k, row in enumerate(rows):
            weight = e.b.fmul(half, e.spread(p, e.index(1, i * s.h + s.n + 1 + k, Q)))
            B = [e.fma(weight, b, a) for a, b in zip(B, row, strict=True)]
        for v in range(vectors):
            for first, second, a in ((left, right, B[v]), (right, left, rows[i][v])):
                e.store(a, p, e.index(1, i * s.h + v * w, first))
                e.store(a, p, e.index(1, (s.m + i) * s.h + v * w, second))


def _is_finite(e: Emitter, s: Layout, p: Value, V: Value) -> Value:
    """Whether V (n + 1, x) is, 0 or 1."""
    total, zero = e.number(0.0), e.number(0.0)
    for i in range((s.n + 1) * s.x // s.width):
        total = e.fma(zero, e.load(p, e.index(1, i * s.width, V)), total)
    return e.b.zext(e.b.fcmp_ordered("==", e.sum(total), ir.Constant(e.scalar, 0.0)), INDEX)


def _dot(e: Emitter, p: Value, row: Value, vectors: list[Value]) -> Value:
    """Lane by lane; the sum of the lanes is the product of the row with the vectors."""
    total = e.b.fmul(e.load(p, row), vectors[0])
    for v, vector in enumerate(vectors[1:], 1):
        total = e.fma(e.load(p, e.index(1, v * e.width, row)), vector, total)
    return total


def _cost(e: Emitter, s: Layout, p: Value, C: Value, z: Value, steps: Value) -> Value:
    """sum_t 1/2 h_t'C_t h_t over C (steps, p, h) and z (steps, h)."""
    vectors, w = s.h // s.width, s.width

    def step(t: Value, total: list[Value]) -> list[Value]:
        C_t, z_t = e.index(t, s.p * s.h, C), e.index(t, s.h, z)
        h = [e.load(p, e.index(1, v * w, z_t)) for v in range(vectors)]
        for parity in (0, 1):  # two sums at a time, because each waits for itself
            slope = [e.number(0.0)] * vectors
            for i in range(parity, s.p, 2):
                weight = e.spread(p, e.index(1, i, z_t))
                slope = [e.fma(weight, e.load(p, e.index(1, i * s.h + v * w, C_t)), a) for v, a in enumerate(slope)]
            total = [e.fma(a, b, c) for a, b, c in zip(slope, h, total, strict=True)]
        return total

    total = e.loop(steps, [e.number(0.0)] * vectors, step)
    for v in total[1:]:
        total[0] = e.b.fadd(total[0], v)
    return e.b.fmul(ir.Constant(e.scalar, 0.5), e.sum(total[0]))


def _row(e: Emitter, s: Layout, p: Value, to: Value, q: Value, row: Value, affine: Value) -> None:
    """[x; u] at q into [x; 1; u] at p."""
    e.copy(p, to, q, row, s.n)
    e.put(affine, p, e.index(1, s.n, to))
    e.copy(p, e.index(1, s.n + 1, to), q, e.index(1, s.n, row), s.m)


def _load_F(e: Emitter, s: Layout, p: Value, F: Value, source: Value, affine: Value) -> None:
    """F (n, n + m) and f (n,) at the addresses `source` and `affine` into the layout."""
    q, f = e.pointer(source), e.pointer(affine)

    def step(i: Value, none: list[Value]) -> list[Value]:
        _row(e, s, p, e.index(i, s.h, F), q, e.index(i, s.n + s.m), e.get(f, i))
        return none

    e.loop(s.n, [], step)


def _load_C(e: Emitter, s: Layout, p: Value, C: Value, source: Value, linear: Value, constant: Value) -> None:
    """C (n + m, n + m), c (n + m,) and const () at the addresses given into the layout."""
    q, c = e.pointer(source), e.pointer(linear)
    for first, number, below in ((0, s.n, 0), (s.n, s.m, 1)):
        def step(i: Value, none: list[Value], first: int = first, below: int = below) -> list[Value]:
            row = e.index(1, first, i)
            _row(e, s, p, e.index(i, s.h, e.index(1, (first + below) * s.h, C)), q, e.index(row, s.n + s.m),
                 e.get(c, row))
            return none
        e.loop(number, [], step)
    twice = e.b.fmul(ir.Constant(e.scalar, 2.0), e.get(e.pointer(constant), 0))
    _row(e, s, p, e.index(1, s.n * s.h, C), c, 0, twice)


address: Any = intrinsic(_address)
load_F, load_C = _intrinsic(3, _load_F), _intrinsic(4, _load_C)
ahead, efforts, ridge = _intrinsic(3, _ahead), _intrinsic(4, _efforts), _intrinsic(3, _ridge, floats=1)
eliminate, gains = _intrinsic(3, _eliminate, result=types.int64), _intrinsic(2, _gains)
value, advance = _intrinsic(7, _value), _intrinsic(7, _advance, floats=1)
cost, is_finite = _intrinsic(3, _cost, result=None), _intrinsic(1, _is_finite, result=types.int64)
slope, aim, halves = _intrinsic(3, _slope), _intrinsic(3, _aim), _intrinsic(4, _halves)
gradient, hold = _intrinsic(4, _gradient), _intrinsic(5, _hold)
