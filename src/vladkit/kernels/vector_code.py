"""Vector code for compiled functions: what LLVM is told that plain Numba cannot say.

A function that has code from here is compiled with ``beside=(vector_code.__file__,)``: Numba keeps
compiled code for as long as the text of the function's own file is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = [
    "INDEX",
    "LABEL",
    "PANELS",
    "REGISTERS",
    "REGISTER_BITS",
    "ROWS_OF_1",
    "ROWS_OF_2",
    "ROWS_OF_4",
    "VectorCode",
    "address_of",
    "prefetch",
    "width_for",
]

# Asked of Numba and not of the processor: it may compile for another one (NUMBA_CPU_NAME=generic,
# so that machines can share a cache), and its cache tells code apart by these three alone.
_triple, _, _features = cpu_target.target_context.codegen().magic_tuple()
_has = _features.split(",").__contains__
REGISTER_BITS = 512 if _has("+avx512f") else 256 if _has("+avx") else 128

REGISTERS = 32 if _has("+avx512f") or not _triple.startswith(("x86", "i")) else 16
"""Vector registers: 32 with AVX-512 and on ARM, 16 on older x86."""

PANELS = 4 if REGISTERS == 32 else 2
"""Panels of centroids scored at once: a value of a descriptor, once loaded, serves this number
of multiply-adds, and the best of the panels is found in registers. CPU ms for 64,000 x 16 float32
and k = 64 / k = 256, of rows x panels with AVX-512, in blocks of 1024: 16 x 1 2.05 / 7.6, 8 x 2
1.73 / 6.5, 4 x 4 1.65 / 6.0; 12 x 2 and 6 x 4 are no faster. With AVX2: 12 x 1 4.2 / 16.1, 6 x 2
2.05 / 6.5, 3 x 4 3.1 / 10.3, 4 x 2 2.02 / 6.8 (and 8 % slower for f = 128). There twelve addresses
do not fit into the general registers, and the accumulators and columns of 3 x 4 not into the
others."""

ROWS_OF_4, ROWS_OF_2, ROWS_OF_1 = (4, 8, 8) if REGISTERS == 32 else (3, 6, 8)
"""Descriptors scored at once against 4, 2 and 1 panels, an accumulator register for each pair:
enough to keep the multiply-add units busy over their latency of 4. (One panel: 4 to 16 rows take
the same time with AVX-512; with AVX2 12 take 15 % longer than 8.)"""

INDEX = ir.IntType(64)
LABEL = ir.IntType(32)


def width_for(dtype: np.dtype[Any]) -> int:
    """Lanes of one register: 16 float32 or 8 float64 with AVX-512."""
    return REGISTER_BITS // (8 * dtype.itemsize)


class VectorCode:
    """LLVM idioms for vectors of one register, of one float type."""

    def __init__(self, context: Any, builder: Any, float_type: Any) -> None:
        self.builder = builder
        self.bits = int(float_type.bitwidth)
        self.width = REGISTER_BITS // self.bits
        self.scalar = context.get_data_type(float_type)
        self.floats = ir.VectorType(self.scalar, self.width)
        self.labels = ir.VectorType(LABEL, self.width)

    def index(self, value: int) -> Any:
        """A constant for an address."""
        return ir.Constant(INDEX, value)

    def at(self, base: Any, offset: Any) -> Any:
        """Address of the number `offset` numbers after `base`."""
        return self.builder.gep(base, [offset])

    def load(self, address: Any, vector: Any, bits: int) -> Any:
        """Vector at an address of numbers of `bits` bits."""
        loaded = self.builder.load(self.builder.bitcast(address, vector.as_pointer()))
        loaded.align = bits // 8
        return loaded

    def store(self, value: Any, address: Any, bits: int) -> None:
        """Write a vector to an address of numbers of `bits` bits."""
        stored = self.builder.store(value, self.builder.bitcast(address, value.type.as_pointer()))
        stored.align = bits // 8

    def splat(self, value: Any, vector: Any, lanes: int = 0) -> Any:
        """Vector with one value in each lane."""
        empty = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(empty, value, ir.Constant(LABEL, 0))
        return self.shuffle(first, empty, [0] * (lanes or self.width))

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """Vector of lanes of `a`, counted from 0, and of `b`, counted on from there."""
        chosen = ir.VectorType(LABEL, len(lanes))
        return self.builder.shuffle_vector(a, b, ir.Constant(chosen, lanes))

    def call(self, name: str, result: Any, arguments: list[Any], **flags: Any) -> Any:
        """Result of a function of LLVM."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments, **flags)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, rounded once where the processor can."""
        return self.call(f"llvm.fmuladd.v{self.width}f{self.bits}", self.floats, [a, b, c])

    def scores(
        self,
        row_at: list[Any],
        column_at: list[Any],
        start: list[Any],
        f: Any,
        meanwhile: Callable[[Any], None],
    ) -> list[list[Any]]:
        """Scores of descriptors against panels of centroids, which stay in registers.

        `start` are the biases of the panels. `meanwhile` adds code to the loop over dimensions.
        """
        builder = self.builder
        before = builder.block
        loop = builder.append_basic_block("dimension")
        after = builder.append_basic_block("compare")
        builder.branch(loop)
        builder.position_at_end(loop)
        j = builder.phi(INDEX)
        score = [[builder.phi(self.floats) for _ in column_at] for _ in row_at]
        offset = builder.mul(j, self.index(self.width))
        column = [self.load(self.at(c, offset), self.floats, self.bits) for c in column_at]
        total = []
        for row, score_q in zip(row_at, score, strict=True):
            value = self.splat(builder.load(self.at(row, j)), self.floats)
            total.append(
                [self.multiply_add(value, c, s) for c, s in zip(column, score_q, strict=True)]
            )
        meanwhile(j)
        following = builder.add(j, self.index(1))
        j.add_incoming(self.index(0), before)
        j.add_incoming(following, loop)
        for score_q, total_q in zip(score, total, strict=True):
            for phi, first, sum_ in zip(score_q, start, total_q, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(sum_, loop)
        builder.cbranch(builder.icmp_signed("<", following, f), loop, after)
        builder.position_at_end(after)
        return total


def address_of(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Address of the first number of an array, argument `i` of a function."""
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, values: Any, i: Any) -> Any:
    """``prefetch(values, i)``: ask for the cache line of ``values[i]``, harmless past the end."""
    signature = types.void(values, i)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = address_of(context, builder, signature, arguments, 0)
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(function, [address, *(ir.Constant(flag, v) for v in (0, 3, 1))])
        return context.get_dummy_value()

    return signature, generate
