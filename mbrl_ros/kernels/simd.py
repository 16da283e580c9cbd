"""Vectors of the processor, as LLVM types: what the kernels of one LQ problem are written in.

A compiler turns plain loops over small matrices into one load and one store per product. Here a tile of the result
stays in registers while the inner index runs, several times as fast. `Emitter` writes such code into the function that
numba is compiling: the intrinsics of lq_steps.py call it. LLVM lowers vectors of any width on any processor; the width
only decides how fast that is.

Addresses are (pointer, index), the index in elements, a Python number or a value known at run time.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mbrl_ros.kernels.compiled import OPTIONS

Value = Any  # of LLVM: a scalar or a vector
INDEX = ir.IntType(64)
LANE = ir.IntType(32)


def register_bytes() -> int:
    """Size of a vector register of this processor."""
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


def split(total: int, most: int) -> list[tuple[int, int]]:
    """(first, number) of as few and as equal parts of at most `most` as there are."""
    parts = -(-total // most)
    sizes = [total // parts + (i < total % parts) for i in range(parts)]
    return [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]


class Emitter:
    """Instructions on vectors of `width` floating-point numbers of `bits` each, at the end of what `builder` wrote."""

    def __init__(self, builder: Any, width: int, bits: int) -> None:
        self.b, self.width, self.bits = builder, width, bits
        self.scalar = ir.DoubleType() if bits == 64 else ir.FloatType()
        self.vector = ir.VectorType(self.scalar, width)
        # AVX-512 and NEON have 32 registers, SSE and AVX 16; with the latter a tile that is too large spills.
        self.registers = 32 if width * bits == 512 else 16

    def number(self, value: float) -> Value:
        """The same number in every lane."""
        return ir.Constant(self.vector, [value] * self.width)

    def lanes(self, values: Sequence[float]) -> Value:
        """A vector of constants, zeros where there are too few."""
        return ir.Constant(self.vector, [*values, *[0.0] * (self.width - len(values))])

    def pointer(self, address: Value) -> Value:
        """Of an address that is an integer."""
        return self.b.inttoptr(address, self.scalar.as_pointer())

    def index(self, k: Value | int, stride: int, offset: Value | int = 0) -> Value | int:
        """k stride + offset."""
        if isinstance(k, int) and isinstance(offset, int):
            return k * stride + offset
        product = ir.Constant(INDEX, k * stride) if isinstance(k, int) else self.b.mul(k, ir.Constant(INDEX, stride))
        return self.b.add(product, ir.Constant(INDEX, offset) if isinstance(offset, int) else offset)

    def _at(self, p: Value, i: Value | int) -> Value:
        return self.b.gep(p, [ir.Constant(INDEX, i) if isinstance(i, int) else i], inbounds=True)

    def load(self, p: Value, i: Value | int, width: int | None = None) -> Value:
        """A vector from p[i] on, anywhere."""
        vector = ir.VectorType(self.scalar, width or self.width)
        return self.b.load(self.b.bitcast(self._at(p, i), vector.as_pointer()), align=self.bits // 8)

    def store(self, v: Value, p: Value, i: Value | int) -> None:
        """A vector to p[i] on."""
        self.b.store(v, self.b.bitcast(self._at(p, i), v.type.as_pointer()), align=self.bits // 8)

    def get(self, p: Value, i: Value | int) -> Value:
        """The scalar p[i]."""
        return self.b.load(self._at(p, i))

    def put(self, s: Value, p: Value, i: Value | int) -> None:
        """p[i] = s."""
        self.b.store(s, self._at(p, i))

    def everywhere(self, s: Value) -> Value:
        """A scalar in every lane."""
        one = self.b.insert_element(ir.Constant(self.vector, ir.Undefined), s, ir.Constant(LANE, 0))
        return self.shuffle(one, one, [0] * self.width)

    def spread(self, p: Value, i: Value | int) -> Value:
        """p[i] in every lane."""
        return self.everywhere(self.get(p, i))

    def lane(self, v: Value, i: int) -> Value:
        """Lane i as a scalar."""
        return self.b.extract_element(v, ir.Constant(LANE, i))

    def shuffle(self, a: Value, b: Value, order: Sequence[int]) -> Value:
        """Lanes of a (0 to width - 1) and b (from width on)."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, len(order)), list(order)))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, in one rounding where the processor can."""
        name = f"llvm.fmuladd.v{self.width}f{self.bits}"
        function = self.b.module.globals.get(name) or ir.Function(
            self.b.module, ir.FunctionType(self.vector, [self.vector] * 3), name)
        return self.b.call(function, [a, b, c])

    def choose(self, where: Sequence[bool], a: Value, b: Value) -> Value:
        """a in the lanes that are true, else b."""
        return self.shuffle(a, b, [i if w else i + self.width for i, w in enumerate(where)])

    def clamp(self, v: Value, low: Value, high: Value) -> Value:
        """Within bounds; what is not a number stays so."""
        v = self.b.select(self.b.fcmp_ordered("<", v, low), low, v)
        return self.b.select(self.b.fcmp_ordered(">", v, high), high, v)

    def loop(self, count: Value | int, start: Sequence[Value],
             step: Callable[[Value, list[Value]], list[Value]]) -> list[Value]:
        """state = step(k, state) for k < count, which is at least one."""
        before = self.b.block
        body, done = self.b.append_basic_block("body"), self.b.append_basic_block("done")
        self.b.branch(body)
        self.b.position_at_end(body)
        k = self.b.phi(INDEX)
        k.add_incoming(ir.Constant(INDEX, 0), before)
        state = [self.b.phi(v.type) for v in start]
        for phi, v in zip(state, start, strict=True):
            phi.add_incoming(v, before)
        after = step(k, list(state))
        following = self.b.add(k, ir.Constant(INDEX, 1))
        k.add_incoming(following, self.b.block)
        for phi, v in zip(state, after, strict=True):
            phi.add_incoming(v, self.b.block)
        end = ir.Constant(INDEX, count) if isinstance(count, int) else count
        self.b.cbranch(self.b.icmp_signed("<", following, end), body, done)
        self.b.position_at_end(done)
        return after

    def accumulate(self, tile: list[list[Value]], count: Value | int, left: Callable[[Value, int], Value],
                   right: Callable[[Value, int], Value]) -> list[list[Value]]:
        """tile[r][j] += sum_k left(k, r) right(k, j), the tile in registers."""
        rows, columns = len(tile), len(tile[0])

        def step(k: Value, flat: list[Value]) -> list[Value]:
            vectors = [right(k, j) for j in range(columns)]
            sums = []
            for r in range(rows):
                s = left(k, r)
                sums += [self.fma(s, v, a) for v, a in zip(vectors, flat[r * columns:], strict=False)]
            return sums

        flat = self.loop(count, [v for row in tile for v in row], step)
        return [flat[r * columns:(r + 1) * columns] for r in range(rows)]

    def _pair(self, a: Value, b: Value, d: int) -> tuple[Value, Value]:
        """Exchange the lanes of a with bit d for those of b without."""
        every = range(self.width)
        return (self.shuffle(a, b, [i + self.width - d if i & d else i for i in every]),
                self.shuffle(a, b, [i + self.width if i & d else i + d for i in every]))

    def transpose(self, rows: list[Value]) -> list[Value]:
        """Of `width` vectors, by exchanging ever larger blocks."""
        rows, d = list(rows), 1
        while d < self.width:
            for i in range(self.width):
                if not i & d:
                    rows[i], rows[i + d] = self._pair(rows[i], rows[i + d], d)
            d *= 2
        return rows

    def sums(self, rows: list[Value]) -> Value:
        """Lane i is the sum of the lanes of rows[i], of at most `width` vectors: a transposition that adds."""
        rows = rows + [self.number(0.0)] * (self.width - len(rows))
        d = 1
        while d < self.width:
            rows = [self.b.fadd(*self._pair(a, b, d)) for a, b in zip(rows[::2], rows[1::2], strict=True)]
            d *= 2
        return rows[0]

    def sum(self, v: Value) -> Value:
        """Of all lanes."""
        d = self.width // 2
        while d:
            v = self.b.fadd(v, self.shuffle(v, v, [i ^ d for i in range(self.width)]))
            d //= 2
        return self.lane(v, 0)

    def copy(self, p: Value, i: Value | int, q: Value, j: Value | int, count: int) -> None:
        """p[i:i + count] = q[j:j + count]: vectors that overlap, rather than a rest of scalars."""
        size = min(self.width, 1 << (count.bit_length() - 1))
        for k in [*range(0, count - size, size), count - size]:
            self.store(self.load(q, self.index(1, k, j), size), p, self.index(1, k, i))


def _tile(_context: Any, A: Any, a: Any, B: Any, b: Any, C: Any, c: Any, inner: Any, rows: Any, vectors: Any) -> Any:
    """C = A B, with the sum over `inner` >= 1 terms, for literally so many rows and vectors of columns, in registers.

    A, B and C are arrays of doubles; a, b and c say where in them: (index of the first element, length of a row).
    """
    many, wide, lanes = rows.literal_value, vectors.literal_value, register_bytes() // 8

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        e = Emitter(builder, lanes, 64)
        pA, pB, pC = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 4))
        (a, lda), (b, ldb), (c, ldc) = ([builder.extract_value(args[i], k) for k in (0, 1)] for i in (1, 3, 5))
        starts = [builder.add(a, builder.mul(lda, ir.Constant(INDEX, i))) for i in range(many)]
        sums = e.accumulate(
            [[e.number(0.0)] * wide for _ in range(many)], args[6],
            lambda k, i: e.spread(pA, builder.add(starts[i], k)),
            lambda k, j: e.load(pB, builder.add(builder.mul(k, ldb), e.index(j, lanes, b))))
        for i, row in enumerate(sums):
            first = builder.add(c, builder.mul(ldc, ir.Constant(INDEX, i)))
            for j, values in enumerate(row):
                e.store(values, pC, e.index(j, lanes, first))
        return context.get_dummy_value()

    return types.void(A, a, B, b, C, c, types.int64, rows, vectors), codegen


tile: Any = intrinsic(prefer_literal=True)(_tile)


LANES = register_bytes() // 8  # doubles in a register of this processor
TALL, BROAD = 4, 5 if LANES == 8 else 2  # rows and vectors of a tile that stays in registers


@numba.njit(**OPTIONS)
def product(A: Any, B: Any, C: Any, rows: int, inner: int) -> None:
    """C[:rows] = A[:rows, :inner] B[:inner], all columns, in tiles of TALL rows; the last one overlaps.

    B and C are a whole number of registers wide.
    """
    if inner == 0:
        C[:rows] = 0.0
        return
    lda, ldb, ldc = A.shape[1], B.shape[1], C.shape[1]
    columns, j = ldc // LANES, 0
    while j < columns:
        wide = min(BROAD, columns - j) if rows >= TALL else 1
        b, i = (j * LANES, ldb), 0
        while i < rows:
            if rows < TALL:
                tile(A, (i * lda, lda), B, b, C, (i * ldc + j * LANES, ldc), inner, 1, 1)
                i += 1
                continue
            i = min(i, rows - TALL)
            a, c = (i * lda, lda), (i * ldc + j * LANES, ldc)
            if wide == 5:
                tile(A, a, B, b, C, c, inner, TALL, 5)
            elif wide == 4:
                tile(A, a, B, b, C, c, inner, TALL, 4)
            elif wide == 3:
                tile(A, a, B, b, C, c, inner, TALL, 3)
            elif wide == 2:
                tile(A, a, B, b, C, c, inner, TALL, 2)
            else:
                tile(A, a, B, b, C, c, inner, TALL, 1)
            i += TALL
        j += wide
