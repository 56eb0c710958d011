"""Two vector programs that LLVM's own vectoriser does not find, written out for it.

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

__all__ = ["ROWS", "add_group", "label_tile", "take_ticket", "width_for"]

_features = llvmlite.binding.get_host_cpu_features()
_REGISTER_BITS = 512 if _features.get("avx512f") else 256 if _features.get("avx") else 128

ROWS: int = 16 if _features.get("avx512f") or not _features.get("sse2") else 12
"""Descriptors per tile, one accumulator register each: 16 of 32 registers (AVX-512, ARM) or
12 of 16 (older x86) leave room for the centroid panel and keep the multiply-add units busy
over their latency of 4."""

_GROUP = 8 if ROWS == 16 else 4
"""Registers of a group's sum, and as many of its centroid: half of what there are."""

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

    def prefetch(self, address: Any) -> None:
        """Ask for a cache line that will be read; harmless past the end of an array."""
        byte = ir.IntType(8).as_pointer()
        flags = [ir.Constant(_LABEL, v) for v in (0, 2, 1)]  # to read, into L2, data
        arguments = [self.builder.bitcast(address, byte), *flags]
        self.call("llvm.prefetch.p0", ir.VoidType(), arguments)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.call(f"llvm.fmuladd.v{self.width}f{self.bits}", self.floats, [a, b, c])

    def best_lane(self, score: Any, label: Any) -> Any:
        """Label of the highest score, the lowest among equals; -1 if it is not finite."""
        shape = f"v{self.width}"
        top = self.call(
            f"llvm.vector.reduce.fmax.{shape}f{self.bits}",
            self.scalar, [score], fastmath=("nnan", "nsz"),
        )  # fmt: skip
        is_top = self.builder.fcmp_ordered("==", score, self.splat(top, self.floats))
        none = ir.Constant(self.labels, [2**31 - 1] * self.width)
        lowest = self.call(
            f"llvm.vector.reduce.smin.{shape}i32",
            _LABEL, [self.builder.select(is_top, label, none)],
        )  # fmt: skip
        finite = self.builder.fcmp_ordered("<", top, ir.Constant(self.scalar, float("inf")))
        bad = ir.Constant(_LABEL, -1)
        return self.builder.sext(self.builder.select(finite, lowest, bad), _INDEX)


def _address(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


@intrinsic  # type: ignore[untyped-decorator]
def label_tile(
    typing_context: Any, local: Any, row: Any, last: Any, f: Any, panel: Any, p: Any,
    n_panels: Any, bias: Any, best: Any, label: Any, tile: Any, nearest: Any,
) -> Any:  # fmt: skip
    """``label_tile(local_Nf, row, last, f, panel, p, n_panels, bias, best, label, tile, nearest)``.

    Scores of descriptors `row` to ``row + ROWS`` (those past `last` repeat it) against panel
    `p`; then, lane by lane, where a score beats the best of the panels before, it and its label
    take their place in best and label, (tiles x ROWS x WIDTH). Strictly greater, so that earlier
    panels win ties; a NaN score never wins. After the last panel the lanes are compared, and
    ``nearest[tile * ROWS + i]`` is the label of descriptor i, the lowest among equal scores.

    It is -1 if no score is finite. A NaN or infinite descriptor leaves no finite score, whatever
    the centroids: each product is then infinite or (times 0) NaN. That is how the kernel finds
    bad input without a pass of its own.
    """
    signature = types.void(
        local, row, last, f, panel, p, n_panels, bias, best, label, tile, nearest
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        program = _Program(context, builder, local.dtype)
        bits, width, at, index = program.bits, program.width, program.at, program.index
        local_at, panel_at, bias_at, best_at, label_at, nearest_at = (
            _address(context, builder, signature, arguments, i) for i in (0, 4, 7, 8, 9, 11)
        )
        _, row, last, f, _, p, n_panels, _, _, _, tile, _ = arguments
        tile_at = at(local_at, builder.mul(row, f))
        row_at = []
        for i in range(ROWS):
            r = builder.add(row, index(i))
            r = builder.select(builder.icmp_signed("<", r, last), r, last)
            row_at.append(at(local_at, builder.mul(r, f)))
        first_label = builder.mul(p, index(width))
        panel_at = at(panel_at, builder.mul(first_label, f))
        start = program.load(at(bias_at, first_label), program.floats, bits)

        before = builder.block
        loop = builder.append_basic_block("dimension")
        after = builder.append_basic_block("compare")
        builder.branch(loop)
        builder.position_at_end(loop)
        j = builder.phi(_INDEX)
        score = [builder.phi(program.floats) for _ in range(ROWS)]
        column = program.load(at(panel_at, builder.mul(j, index(width))), program.floats, bits)
        total = [
            program.multiply_add(
                program.splat(builder.load(at(row_at[i], j)), program.floats), column, score[i]
            )
            for i in range(ROWS)
        ]
        # While this tile is computed, the next is fetched, a line or two with each dimension:
        # 13.9 -> 10.2 ms for 64,000 x 128 float32 and k = 64, 3.3 -> 1.6 ms for 32,768 x 64
        # float64 and k = 16. (Into L1 instead of L2: no faster, and slower at f = 768.)
        ahead = builder.mul(builder.add(j, f), index(ROWS))
        for line in range(0, ROWS * bits // 8, 64):
            program.prefetch(at(tile_at, builder.add(ahead, index(line * 8 // bits))))
        following = builder.add(j, index(1))
        j.add_incoming(index(0), before)
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
        none = ir.Constant(program.floats, [float("-inf")] * width)
        nobody = ir.Constant(program.labels, [-1] * width)
        slot = [builder.mul(builder.add(builder.mul(tile, index(ROWS)), index(i)), index(width))
                for i in range(ROWS)]  # fmt: skip

        def compete(i: int, old: Any, old_label: Any) -> tuple[Any, Any]:
            wins = builder.fcmp_ordered(">", total[i], old)
            return builder.select(wins, total[i], old), builder.select(wins, lane, old_label)

        def keep(i: int, won: tuple[Any, Any]) -> None:
            program.store(won[0], at(best_at, slot[i]), bits)
            program.store(won[1], at(label_at, slot[i]), 32)

        def decide(i: int, won: tuple[Any, Any]) -> None:
            place = builder.add(builder.mul(tile, index(ROWS)), index(i))
            builder.store(program.best_lane(*won), at(nearest_at, place))

        def recall(i: int) -> tuple[Any, Any]:
            old = program.load(at(best_at, slot[i]), program.floats, bits)
            return old, program.load(at(label_at, slot[i]), program.labels, 32)

        is_last = builder.icmp_signed("==", builder.add(p, index(1)), n_panels)
        with builder.if_else(builder.icmp_signed("==", p, index(0))) as (first, later):
            with first, builder.if_else(is_last) as (only, more):
                with only:
                    for i in range(ROWS):
                        decide(i, compete(i, none, nobody))
                with more:
                    for i in range(ROWS):
                        keep(i, compete(i, none, nobody))
            with later, builder.if_else(is_last) as (end, more):
                with end:
                    for i in range(ROWS):
                        decide(i, compete(i, *recall(i)))
                with more:
                    for i in range(ROWS):
                        keep(i, compete(i, *recall(i)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def add_group(
    typing_context: Any, out: Any, out_row: Any, local: Any, begin: Any, first: Any,
    following: Any, centroid: Any, label: Any, f: Any,
) -> Any:  # fmt: skip
    """``add_group(out, out_row, local, begin, first, following, centroid, label, f)``.

    ``out[out_row] += local[begin + i] - centroid[label]`` for i = `first`, ``following[first]``,
    and so on until -1. The sum stays in registers for the whole group: 1.3 -> 0.9 ms for
    32,768 x 64 float32 and k = 16, where every row by itself read and wrote it.
    out, local and centroid are (rows, f), C-contiguous, and do not overlap.
    """
    signature = types.void(out, out_row, local, begin, first, following, centroid, label, f)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        program = _Program(context, builder, local.dtype)
        bits, at, index = program.bits, program.at, program.index
        _, out_row, _, begin, first, _, _, label, f = arguments
        out_at, local_at, following_at, centroid_at = (
            _address(context, builder, signature, arguments, i) for i in (0, 2, 5, 6)
        )
        out_at = at(out_at, builder.mul(out_row, f))
        local_at = at(local_at, builder.mul(begin, f))
        centroid_at = at(centroid_at, builder.mul(label, f))

        def walk(j: Any, n: int, read: Any, write: Any) -> None:
            """Sum `n` pieces of each row from dimension j on; read and write know their size."""
            place = [builder.add(j, index(i * program.width)) for i in range(n)]
            center = [read(at(centroid_at, x)) for x in place]
            start = [read(at(out_at, x)) for x in place]
            before = builder.block
            loop = builder.append_basic_block("member")
            after = builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(_INDEX)
            total = [builder.phi(value.type) for value in start]
            row_at = at(local_at, builder.mul(i, f))
            added = [
                builder.fadd(t, builder.fsub(read(at(row_at, x)), c))
                for t, x, c in zip(total, place, center, strict=True)
            ]
            after_i = builder.load(at(following_at, i))
            i.add_incoming(first, before)
            i.add_incoming(after_i, loop)
            for t, s, a in zip(total, start, added, strict=True):
                t.add_incoming(s, before)
                t.add_incoming(a, loop)
            builder.cbranch(builder.icmp_signed(">=", after_i, index(0)), loop, after)
            builder.position_at_end(after)
            for a, x in zip(added, place, strict=True):
                write(a, at(out_at, x))

        def load(address: Any) -> Any:
            return program.load(address, program.floats, bits)

        def store(value: Any, address: Any) -> None:
            program.store(value, address, bits)

        done = index(0)
        for n in (_GROUP, 2, 1):
            step = n * program.width
            end = builder.and_(f, index(-step))
            with cgutils.for_range_slice(builder, done, end, index(step), _INDEX) as (j, _):
                walk(j, n, load, store)
            done = end
        with cgutils.for_range_slice(builder, done, f, index(1), _INDEX) as (j, _):
            walk(j, 1, builder.load, builder.store)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def take_ticket(typing_context: Any, counter: Any) -> Any:
    """``take_ticket(counter)``: what ``counter[0]`` was, and one more is there now; atomic."""
    signature = types.int64(counter)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, 0)
        return builder.atomic_rmw("add", address, ir.Constant(_INDEX, 1), "monotonic")

    return signature, generate
