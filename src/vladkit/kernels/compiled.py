"""What the fused kernel compiles: labels and sums of a run of images, and the vector code inside.

The kernel wants one thing that plain Numba cannot say: *keep this tile of scores in registers
until the arg-max has looked at it*. As loops over arrays, LLVM either spills the scores or
reduces along f, which costs a horizontal sum per score: 0.5 to 0.9 of the speed (docs/why.md
has the table). So the tile is built here from LLVM vector values. They are not tied to a
machine: LLVM splits a vector of 16 into 2 x 8 or 4 x 4 where registers are narrower.

Layout: `panel` holds the centroids in panels of WIDTH, panel p being an (f, WIDTH) block, so
that one load brings one dimension of WIDTH centroids, and each score sits in its own lane.

All of it is in one file because Numba keeps compiled code for as long as *this file's* text is
the same, whatever becomes of files that it imports: code compiled from an older neighbour
would outlive an upgrade.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["accumulate", "accumulate_groups", "width_for"]

_features = llvmlite.binding.get_host_cpu_features()
_REGISTER_BITS = 512 if _features.get("avx512f") else 256 if _features.get("avx") else 128

_ROWS: int = 16 if _features.get("avx512f") or not _features.get("sse2") else 12
"""Descriptors per tile, one accumulator register each: 16 of 32 registers (AVX-512, ARM) or
12 of 16 (older x86) leave room for the centroid panel and keep the multiply-add units busy
over their latency of 4."""

_GROUP = 8 if _ROWS == 16 else 4
"""Registers of a group's sum, and as many of its centroid: half of what there are."""

_BLOCK_TILES = 8
"""Tiles that share one sweep over the centroids: 128 descriptors of 128 float32 are 64 KB, which
L2 holds, while each panel is read once per block and not once per tile. (4 tiles are 2 % slower,
2 and 16 within 3 %.)"""

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
        return self.shuffle(first, empty, [0] * self.width)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(self.labels, lanes))

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

    def best_lanes(self, scores: list[Any], labels: list[Any], in_order: bool) -> Any:
        """Label of the highest score in each of `width` vectors, as one vector of labels.

        The lowest among equals; -1 where the highest is not finite. `in_order`: labels rise
        from lane to lane, so that the lower lane decides between equals.

        Two vectors are merged into one of the winners between neighbours of each, those into
        one, and so on: .72 -> .66 ms for the labels of 32,768 x 64 float32 and k = 16, where
        each vector by itself was reduced to its highest lane.
        """
        builder = self.builder
        step = 1
        while len(scores) > 1:
            pairs = list(zip(scores[::2], scores[1::2], labels[::2], labels[1::2], strict=True))
            even, odd = (self._neighbours(step, first) for first in (0, 1))
            scores, labels = [], []
            for a, b, label_a, label_b in pairs:
                low, low_label = self.shuffle(a, b, even), self.shuffle(label_a, label_b, even)
                high, high_label = self.shuffle(a, b, odd), self.shuffle(label_a, label_b, odd)
                wins = builder.fcmp_ordered(">", high, low)
                if not in_order:
                    equal = builder.fcmp_ordered("==", high, low)
                    lower = builder.icmp_signed("<", high_label, low_label)
                    wins = builder.or_(wins, builder.and_(equal, lower))
                scores.append(builder.select(wins, high, low))
                labels.append(builder.select(wins, high_label, low_label))
            step *= 2
        infinity = ir.Constant(self.floats, [float("inf")] * self.width)
        lowest = ir.Constant(self.floats, [float("-inf")] * self.width)
        finite = builder.and_(
            builder.fcmp_ordered("<", scores[0], infinity),
            builder.fcmp_ordered(">", scores[0], lowest),
        )
        return builder.select(finite, labels[0], ir.Constant(self.labels, [-1] * self.width))

    def _neighbours(self, step: int, first: int) -> list[int]:
        """Every other lane, from `first` on, of two vectors, each merged from `step` vectors.

        Lanes within 128 bits come first, those of the second vector beside those of the
        first there, then whole 128 bits: such shuffles cost the least. The winners end in
        the order of the vectors.
        """
        unit = 128 // self.bits
        if step < unit:
            return [
                begin + lane
                for part in range(0, self.width, unit)
                for begin in (part, part + self.width)
                for lane in range(first, unit, 2)
            ]
        units = range(first * unit, 2 * self.width, 2 * unit)
        return [begin + lane for begin in units for lane in range(unit)]


def _address(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


@intrinsic  # type: ignore[untyped-decorator]
def _label_tile(
    typing_context: Any, local: Any, row: Any, last: Any, f: Any, panel: Any, p: Any,
    n_panels: Any, bias: Any, best: Any, label: Any, tile: Any, nearest: Any,
) -> Any:  # fmt: skip
    """``label_tile(local_Nf, row, last, f, panel, p, n_panels, bias, best, label, tile, nearest)``.

    Scores of descriptors `row` to ``row + _ROWS`` (those past `last` repeat it) against panel
    `p`; then, lane by lane, where a score beats the best of the panels before, it and its label
    take their place in best and label, (tiles x _ROWS x WIDTH). Strictly greater, so that earlier
    panels win ties; a NaN score never wins. After the last panel the lanes are compared, and
    ``nearest[tile * _ROWS + i]`` is the label of descriptor i, the lowest among equal scores.

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
        for i in range(_ROWS):
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
        score = [builder.phi(program.floats) for _ in range(_ROWS)]
        column = program.load(at(panel_at, builder.mul(j, index(width))), program.floats, bits)
        total = [
            program.multiply_add(
                program.splat(builder.load(at(row_at[i], j)), program.floats), column, score[i]
            )
            for i in range(_ROWS)
        ]
        # While this tile is computed, the next but one is fetched, a line or two with each
        # dimension: 13.9 -> 10.2 ms for 64,000 x 128 float32 and k = 64, 3.3 -> 1.6 ms for 32,768
        # x 64 float64 and k = 16. (The next one: 13 % slower for k = 16 in float32, three or four
        # on: no faster. Into L1 instead of L2: no faster, and slower at f = 768.)
        ahead = builder.mul(builder.add(j, builder.mul(f, index(2))), index(_ROWS))
        for line in range(0, _ROWS * bits // 8, 64):
            program.prefetch(at(tile_at, builder.add(ahead, index(line * 8 // bits))))
        following = builder.add(j, index(1))
        j.add_incoming(index(0), before)
        j.add_incoming(following, loop)
        for i in range(_ROWS):
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
        slot = [builder.mul(builder.add(builder.mul(tile, index(_ROWS)), index(i)), index(width))
                for i in range(_ROWS)]  # fmt: skip

        def compete(i: int, old: Any, old_label: Any) -> tuple[Any, Any]:
            wins = builder.fcmp_ordered(">", total[i], old)
            return builder.select(wins, total[i], old), builder.select(wins, lane, old_label)

        def keep(i: int, won: tuple[Any, Any]) -> None:
            program.store(won[0], at(best_at, slot[i]), bits)
            program.store(won[1], at(label_at, slot[i]), 32)

        def decide(won: list[tuple[Any, Any]], in_order: bool) -> None:
            for i in range(0, _ROWS, width):
                chunk = [won[min(r, _ROWS - 1)] for r in range(i, i + width)]
                found = program.best_lanes([c[0] for c in chunk], [c[1] for c in chunk], in_order)
                found = builder.sext(found, ir.VectorType(_INDEX, width))
                place = builder.add(builder.mul(tile, index(_ROWS)), index(i))
                if i + width <= _ROWS:
                    program.store(found, at(nearest_at, place), 64)
                    continue
                for r in range(_ROWS - i):
                    value = builder.extract_element(found, ir.Constant(_LABEL, r))
                    builder.store(value, at(nearest_at, builder.add(place, index(r))))

        def recall(i: int) -> tuple[Any, Any]:
            old = program.load(at(best_at, slot[i]), program.floats, bits)
            return old, program.load(at(label_at, slot[i]), program.labels, 32)

        is_last = builder.icmp_signed("==", builder.add(p, index(1)), n_panels)
        with builder.if_else(builder.icmp_signed("==", p, index(0))) as (first, later):
            with first, builder.if_else(is_last) as (only, more):
                with only:
                    decide([(compete(i, none, nobody)[0], lane) for i in range(_ROWS)], True)
                with more:
                    for i in range(_ROWS):
                        keep(i, compete(i, none, nobody))
            with later, builder.if_else(is_last) as (end, more):
                with end:
                    decide([compete(i, *recall(i)) for i in range(_ROWS)], False)
                with more:
                    for i in range(_ROWS):
                        keep(i, compete(i, *recall(i)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def _add_group(
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
def _take_ticket(typing_context: Any, counter: Any) -> Any:
    """``take_ticket(counter)``: what ``counter[0]`` was, and one more is there now; atomic."""
    signature = types.int64(counter)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, 0)
        return builder.atomic_rmw("add", address, ir.Constant(_INDEX, 1), "monotonic")

    return signature, generate


def _compile(function: Any) -> Any:
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place where a cache file may be written: compile each time
        return numba.njit(nogil=True)(function)


@_compile
def accumulate(  # type: ignore[no-untyped-def]
    local_Nf, start_T, centroid_kf, panel, bias, width, residual_tkf, count_tk
):
    """Residuals of all rows summed into their image's block; -1, or the first bad row.

    Reads local_Nf, start_T, centroid_kf, panel, bias (float arrays of one dtype, all
    C-contiguous; `width` lanes a panel); writes all of residual_tkf and count_tk.
    """
    n, f = local_Nf.shape
    k = centroid_kf.shape[0]
    n_panels = bias.shape[0] // width
    residual_bf = residual_tkf.reshape(-1, f)
    block = _BLOCK_TILES * _ROWS
    best = np.empty(block * width, local_Nf.dtype)
    label = np.empty(block * width, np.int32)
    nearest = np.empty(block, np.int64)
    # The rows of a block that one centroid gets, as a chain: first[centroid], following[row], ...
    first = np.full(k, -1, np.int64)
    following = np.empty(block, np.int64)
    used = np.empty(block, np.int64)
    image = -1
    end = 0  # of the current image: each block is zeroed when its turn comes, and is then in cache
    for begin in range(0, n, block):
        rows = min(block, n - begin)
        tiles = (rows + _ROWS - 1) // _ROWS
        for p in range(n_panels):
            for tile in range(tiles):
                row = begin + tile * _ROWS
                _label_tile(
                    local_Nf, row, n - 1, f, panel, p, n_panels, bias, best, label, tile, nearest
                )
        i = 0
        while i < rows:
            while begin + i >= end:
                image += 1
                end = start_T[image + 1]
                residual_tkf[image] = 0
                count_tk[image] = 0
            stop = min(rows, end - begin)
            n_used = 0
            for r in range(stop - 1, i - 1, -1):  # backwards, so that chains run forwards
                j = nearest[r]
                if j < 0:
                    return begin + _first_negative(nearest, i, stop)
                following[r] = first[j]
                if first[j] < 0:
                    used[n_used] = j
                    n_used += 1
                first[j] = r
                count_tk[image, j] += 1
            for u in range(n_used):
                j = used[u]
                _add_group(
                    residual_bf, image * k + j, local_Nf, begin, first[j], following,
                    centroid_kf, j, f,
                )  # fmt: skip
                first[j] = -1
            i = stop
    residual_tkf[image + 1 :] = 0  # images without descriptors at the end
    count_tk[image + 1 :] = 0
    return -1


@_compile
def accumulate_groups(  # type: ignore[no-untyped-def]
    local_Nf, start_T, fence, ticket, centroid_kf, panel, bias, width, residual_tkf, count_tk
):
    """`accumulate` for groups of images, ``fence[i]`` to ``fence[i + 1]``, while there are any.

    Several threads run this at once with the same arguments. -1, or a bad row of local_Nf.
    """
    while True:
        i = _take_ticket(ticket)
        if i >= len(fence) - 1:
            return -1
        a, b = fence[i], fence[i + 1]
        bad = accumulate(
            local_Nf[start_T[a] : start_T[b]],
            start_T[a : b + 1] - start_T[a],
            centroid_kf, panel, bias, width,
            residual_tkf[a:b],
            count_tk[a:b],
        )  # fmt: skip
        if bad >= 0:
            return start_T[a] + bad


@numba.njit
def _first_negative(values, start, stop):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        if values[i] < 0:
            return i
    return -1
