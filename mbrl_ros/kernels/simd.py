"""Products of small matrices in vector registers.

A compiler turns plain loops over small matrices into one load and one store per product. Here a tile of the result
stays in registers while the inner index runs, written as LLVM's vector types through numba's intrinsics. LLVM lowers
vectors of any width on any processor; the width only decides how fast that is.

What it gains, one plan of the 7-joint arm (27 states, 7 efforts, 20 steps) on a Xeon with AVX-512, least of 3000 in
turns: 101 us with tiles, 134 us with loops that take four rows of B at a time, 172 us with plain loops; two passes
within limits 239, 353 and 433 us. `tile` is all there is of it, and of numba's inside it needs `make_array` alone.
"""
from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mbrl_ros.kernels.compiled import jit, jit_sums

INDEX, LANE, DOUBLE = ir.IntType(64), ir.IntType(32), ir.DoubleType()


def register_bytes() -> int:
    """Size of a vector register of this processor."""
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


LANES = register_bytes() // 8  # doubles in a register of this processor
TALL, BROAD = 4, 5 if LANES == 8 else 2  # rows and vectors of a tile that stays in registers


def _tile(_context: Any, A: Any, a: Any, B: Any, b: Any, C: Any, c: Any, inner: Any, rows: Any, vectors: Any) -> Any:
    """C = A B, with the sum over `inner` >= 1 terms, for literally so many rows and vectors of columns, in registers.

    A, B and C are arrays of doubles; a, b and c say where in them: (index of the first element, length of a row).
    """
    many, wide = rows.literal_value, vectors.literal_value
    vector = ir.VectorType(DOUBLE, LANES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def number(k: int) -> Any:
            return ir.Constant(INDEX, k)

        def address(p: Any, i: Any, of: Any = None) -> Any:
            at = builder.gep(p, [i], inbounds=True)
            return at if of is None else builder.bitcast(at, of.as_pointer())

        pA, pB, pC = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 4))
        (a, lda), (b, ldb), (c, ldc) = ([builder.extract_value(args[i], k) for k in (0, 1)] for i in (1, 3, 5))
        starts = [builder.add(a, builder.mul(lda, number(i))) for i in range(many)]
        name = f"llvm.fmuladd.v{LANES}f64"  # in one rounding where the processor can
        fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name)
        before, body, done = (builder.block, builder.append_basic_block("body"), builder.append_basic_block("done"))
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(INDEX)
        k.add_incoming(number(0), before)
        sums = [builder.phi(vector) for _ in range(many * wide)]
        row = builder.add(builder.mul(k, ldb), b)
        right = [builder.load(address(pB, builder.add(row, number(j * LANES)), vector), align=8) for j in range(wide)]
        after = []
        for i, start in enumerate(starts):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined),
                                         builder.load(address(pA, builder.add(start, k))), ir.Constant(LANE, 0))
            left = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(LANE, LANES), [0] * LANES))
            after += [builder.call(fma, [left, v, sums[i * wide + j]]) for j, v in enumerate(right)]
        following = builder.add(k, number(1))
        k.add_incoming(following, body)
        for total, new in zip(sums, after, strict=True):
            total.add_incoming(ir.Constant(vector, [0.0] * LANES), before)
            total.add_incoming(new, body)
        builder.cbranch(builder.icmp_signed("<", following, args[6]), body, done)
        builder.position_at_end(done)
        for i in range(many):
            first = builder.add(c, builder.mul(ldc, number(i)))
            for j in range(wide):
                to = address(pC, builder.add(first, number(j * LANES)), vector)
                builder.store(after[i * wide + j], to, align=8)
        return context.get_dummy_value()

    return types.void(A, a, B, b, C, c, types.int64, rows, vectors), codegen


tile: Any = intrinsic(prefer_literal=True)(_tile)


@jit
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


@jit_sums
def dot(a: Any, b: Any) -> float:
    """Of two vectors of one length."""
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total
