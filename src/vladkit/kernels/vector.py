"""Three vector programs that LLVM's own vectoriser does not find, written out for it.

The fused kernel wants one thing that plain Numba cannot say: *keep this tile of scores in
registers until the arg-max has looked at it*. As loops over arrays, LLVM either spills the
scores or reduces along f, which costs a horizontal sum per score: 0.5 to 0.9 of the speed
(docs/why.md has the table). So the tile is built here from LLVM vector values. They are not
tied to a machine: LLVM splits a vector of 16 into 2 x 8 or 4 x 4 where registers are narrower.

Layout: `panel` holds the centroids in panels of WIDTH, panel p being an (f, WIDTH) block, so
that one load brings one dimension of WIDTH centroids, and each score sits in its own lane.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["ROWS", "add_difference", "best_of_lanes", "score_tile", "width_for"]

_features = llvmlite.binding.get_host_cpu_features()
_REGISTER_BITS = 512 if _features.get("avx512f") else 256 if _features.get("avx") else 128

ROWS: int = 16 if _features.get("avx512f") or not _features.get("sse2") else 12
"""Descriptors per tile, one accumulator register each: 16 of 32 registers (AVX-512, ARM) or
12 of 16 (older x86) leave room for the centroid panel and keep the multiply-add units busy
over their latency of 4."""

_INDEX = ir.IntType(64)
_LABEL = ir.IntType(32)


def width_for(dtype: np.dtype[Any]) -> int:
    """Lanes of one register: 16 float32 or 8 float64 with AVX-512."""
    return _REGISTER_BITS // (8 * dtype.itemsize)


class _Program:
    """The few LLVM idioms that the programs below share, for one float type."""

    def __init__(self, context: Any, builder: Any, float_type: Any) -> None:
        self.builder = builder
        self.bits = int(float_type.bitwidth)
        self.width = _REGISTER_BITS // self.bits
        self.scalar = context.get_data_type(float_type)
        self.floats = ir.VectorType(self.scalar, self.width)
        self.labels = ir.VectorType(_LABEL, self.width)

    def index(self, value: int) -> Any:
        return ir.Constant(_INDEX, value)

    def at(self, base: Any, offset: Any) -> Any:
        return self.builder.gep(base, [offset])

    def load(self, address: Any, vector: Any, bits: int) -> Any:
        loaded = self.builder.load(self.builder.bitcast(address, vector.as_pointer()))
        loaded.align = bits // 8
        return loaded

    def store(self, value: Any, address: Any, bits: int) -> None:
        stored = self.builder.store(value, self.builder.bitcast(address, value.type.as_pointer()))
        stored.align = bits // 8

    def splat(self, value: Any, vector: Any) -> Any:
        empty = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(empty, value, ir.Constant(_LABEL, 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(self.labels, [0] * self.width))

    def call(self, name: str, result: Any, arguments: list[Any], **flags: Any) -> Any:
        kind = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments, **flags)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.call(f"llvm.fmuladd.v{self.width}f{self.bits}", self.floats, [a, b, c])


def _address(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


@intrinsic  # type: ignore[untyped-decorator]
def score_tile(
    typing_context: Any, local: Any, row: Any, last: Any, f: Any, panel: Any, p: Any,
    bias: Any, best: Any, label: Any, tile: Any,
) -> Any:  # fmt: skip
    """``score_tile(local_Nf, row, last, f, panel, p, bias, best, label, tile)``.

    Scores of descriptors `row` to ``row + ROWS`` (those past `last` repeat it) against panel
    `p`, then lane by lane: where a score beats `best`, it and its label replace what is there.
    Strictly greater, so that earlier panels win ties; a NaN score never wins.
    Reads local, panel, bias; updates best and label, (tiles x ROWS x WIDTH).
    """
    signature = types.void(local, row, last, f, panel, p, bias, best, label, tile)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        program = _Program(context, builder, local.dtype)
        bits, width, at = program.bits, program.width, program.at
        local_at, panel_at, bias_at, best_at, label_at = (
            _address(context, builder, signature, arguments, i) for i in (0, 4, 6, 7, 8)
        )
        _, row, last, f, _, p, _, _, _, tile = arguments
        row_at = []
        for i in range(ROWS):
            r = builder.add(row, program.index(i))
            r = builder.select(builder.icmp_signed("<", r, last), r, last)
            row_at.append(at(local_at, builder.mul(r, f)))
        first_label = builder.mul(p, program.index(width))
        panel_at = at(panel_at, builder.mul(first_label, f))
        start = program.load(at(bias_at, first_label), program.floats, bits)

        before = builder.block
        loop = builder.append_basic_block("dimension")
        after = builder.append_basic_block("compare")
        builder.branch(loop)
        builder.position_at_end(loop)
        j = builder.phi(_INDEX)
        score = [builder.phi(program.floats) for _ in range(ROWS)]
        column = program.load(
            at(panel_at, builder.mul(j, program.index(width))), program.floats, bits
        )
        total = [
            program.multiply_add(
                program.splat(builder.load(at(row_at[i], j)), program.floats), column, score[i]
            )
            for i in range(ROWS)
        ]
        following = builder.add(j, program.index(1))
        j.add_incoming(program.index(0), before)
        j.add_incoming(following, loop)
        for i in range(ROWS):
            score[i].add_incoming(start, before)
            score[i].add_incoming(total[i], loop)
        builder.cbranch(builder.icmp_signed("<", following, f), loop, after)

        builder.position_at_end(after)
        lane = builder.add(
            program.splat(builder.trunc(first_label, _LABEL), program.labels),
            ir.Constant(program.labels, list(range(width))),
        )
        for i in range(ROWS):
            slot = builder.add(
                builder.mul(tile, program.index(ROWS * width)), program.index(i * width)
            )
            old = program.load(at(best_at, slot), program.floats, bits)
            old_label = program.load(at(label_at, slot), program.labels, 32)
            wins = builder.fcmp_ordered(">", total[i], old)
            program.store(builder.select(wins, total[i], old), at(best_at, slot), bits)
            program.store(builder.select(wins, lane, old_label), at(label_at, slot), 32)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def best_of_lanes(typing_context: Any, best: Any, label: Any, i: Any) -> Any:
    """``best_of_lanes(best, label, i)``: label of descriptor `i`, lowest among equal scores.

    -1 if no score is finite. A NaN or infinite descriptor leaves no finite score, whatever
    the centroids: each product is then infinite or (times 0) NaN. That is how the kernel
    finds bad input without a pass of its own.
    """
    signature = types.int64(best, label, i)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        program = _Program(context, builder, best.dtype)
        slot = builder.mul(arguments[2], program.index(program.width))
        best_at, label_at = (_address(context, builder, signature, arguments, i) for i in (0, 1))
        score = program.load(program.at(best_at, slot), program.floats, program.bits)
        lane = program.load(program.at(label_at, slot), program.labels, 32)
        shape = f"v{program.width}"
        top = program.call(
            f"llvm.vector.reduce.fmax.{shape}f{program.bits}",
            program.scalar, [score], fastmath=("nnan", "nsz"),
        )  # fmt: skip
        is_top = builder.fcmp_ordered("==", score, program.splat(top, program.floats))
        none = ir.Constant(program.labels, [2**31 - 1] * program.width)
        lowest = program.call(
            f"llvm.vector.reduce.smin.{shape}i32", _LABEL, [builder.select(is_top, lane, none)]
        )
        finite = builder.fcmp_ordered("<", top, ir.Constant(program.scalar, float("inf")))
        return builder.sext(builder.select(finite, lowest, ir.Constant(_LABEL, -1)), _INDEX)

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def add_difference(
    typing_context: Any, out: Any, out_row: Any, local: Any, row: Any,
    centroid: Any, label: Any, f: Any,
) -> Any:  # fmt: skip
    """``add_difference(out, out_row, local, row, centroid, label, f)``.

    ``out[out_row] += local[row] - centroid[label]``; all three are (rows, f), C-contiguous,
    and do not overlap (which is what LLVM would otherwise test for every row).
    """
    signature = types.void(out, out_row, local, row, centroid, label, f)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        program = _Program(context, builder, local.dtype)
        f = arguments[6]
        out_at, local_at, centroid_at = (
            program.at(
                _address(context, builder, signature, arguments, i),
                builder.mul(arguments[i + 1], f),
            )
            for i in (0, 2, 4)
        )
        whole = builder.and_(f, program.index(-program.width))
        step = program.index(program.width)
        with cgutils.for_range_slice(builder, program.index(0), whole, step, _INDEX) as (j, _):
            out_v, local_v, centroid_v = (
                program.load(program.at(base, j), program.floats, program.bits)
                for base in (out_at, local_at, centroid_at)
            )
            total = builder.fadd(out_v, builder.fsub(local_v, centroid_v))
            program.store(total, program.at(out_at, j), program.bits)
        one = program.index(1)
        with cgutils.for_range_slice(builder, whole, f, one, _INDEX) as (j, _):
            difference = builder.fsub(
                builder.load(program.at(local_at, j)), builder.load(program.at(centroid_at, j))
            )
            place = program.at(out_at, j)
            builder.store(builder.fadd(builder.load(place), difference), place)
        return context.get_dummy_value()

    return signature, generate
