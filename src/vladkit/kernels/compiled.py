"""Compiled code of the fused kernel: labels and sums of a run of images, and its vector code.

The kernel wants one thing that plain Numba cannot say: *keep this tile of scores in registers
until the arg-max has looked at it*. As loops over arrays, LLVM either spills the scores or
reduces along f, which costs a horizontal sum per score: 0.5 to 0.9 of the speed
(docs/explanation/why.md has the table). So the tile is built here from LLVM vector values. They are
not tied to a machine: LLVM splits a vector of 16 into 2 x 8 or 4 x 4 where registers are narrower.

Layout: `panel` holds the centroids in panels of WIDTH, panel p being an (f, WIDTH) block, so
that one load brings one dimension of WIDTH centroids, and each score sits in its own lane. Lane i
of panel p is centroid i x panels + p: labels rise from lane to lane, whatever panel they come from,
so that a comparison of lanes need not look at them to give a tie to the lower.

All else of it is in one file because Numba keeps compiled code for as long as *this file's* text is
the same, whatever becomes of files that it imports: code compiled from an older neighbour
would outlive an upgrade. (`vladkit.kernels.cached.compiled` is told of the one it has.)
"""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vladkit.kernels import vector_code
from vladkit.kernels.cached import compiled
from vladkit.kernels.vector_code import (
    INDEX,
    LABEL,
    PANELS,
    REGISTER_BITS,
    REGISTERS,
    ROWS_OF_1,
    ROWS_OF_2,
    ROWS_OF_4,
    VectorCode,
    address_of,
)

__all__ = ["accumulate", "accumulate_groups", "pack"]

_OPTIONS: Final = {"beside": (vector_code.__file__,)}

_AHEAD = 32
"""Descriptors from those in work to those being fetched. (8: 16 % slower for 32,768 x 64 float32
and k = 16; 64: no faster. Into L1 instead of L2: no faster, and slower at f = 768.)"""

_GROUP = REGISTERS // 2
"""Registers of a group's sum: half of what there are."""

_MEMBERS = 16
_BLOCK_BYTES = 2**18
_LEAST_ROWS, _MOST_ROWS = 96, 960
"""Size of a block that one sweep over the centroids labels and sums: about 16 descriptors of each
centroid, because each centroid in use costs a branch that cannot be predicted (2.1 -> 1.65 ms for
64,000 x 16 and k = 64, against blocks of 128 descriptors), as long as L2 holds them (f = 768: 9 %
slower in blocks of 3 MB). 128 KB to 1 MB are within 3 %. Multiples of all numbers of rows above."""


class _Program(VectorCode):
    """LLVM idioms of the programs below."""

    def prefetch(self, address: Any) -> None:
        """Ask for a cache line that will be read; harmless past the end of an array."""
        byte = ir.IntType(8).as_pointer()
        flags = [ir.Constant(LABEL, v) for v in (0, 2, 1)]  # to read, into L2, data
        arguments = [self.builder.bitcast(address, byte), *flags]
        self.call("llvm.prefetch.p0", ir.VoidType(), arguments)

    def best_lanes(self, scores: list[Any], labels: list[Any]) -> Any:
        """Label of the highest score in each of `width` vectors, as one vector of labels.

        The lowest among equals, as labels rise from lane to lane; -1 where the highest is not
        finite.

        Two vectors are merged into one of the winners between neighbours of each, those into
        one, and so on: 0.72 -> 0.66 ms for the labels of 32,768 x 64 float32 and k = 16, where
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


def _label_tile(rows: int, panels: int) -> Any:
    """An intrinsic that labels `rows` descriptors by `panels` panels of centroids.

    ``label_tile(local_Nf, row, last, f, panel, p, n_panels, bias, best, label, i, nearest)``:
    scores of descriptors `row` to ``row + rows`` (those past `last` repeat it) against panels `p`
    to ``p + panels``; then, lane by lane, where a score beats the best of the panels before, it
    and its label take their place in best and label, (1 + block) x WIDTH, from row ``1 + i`` on;
    row 0 is what the first panels are compared with, minus infinity and -1. (One program for first
    and later panels instead of two: as fast.)
    Strictly greater, so that earlier panels win ties; a NaN score never wins. After the last panel
    the lanes are compared, and ``nearest[i + r]`` is the label of descriptor r, the lowest among
    equal scores.

    It is -1 if no score is finite. A NaN or infinite descriptor leaves no finite score, whatever
    the centroids: each product is then infinite or (times 0) NaN. That is how the kernel finds
    bad input without a pass of its own.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def label_tile(
        typing_context: Any, local: Any, row: Any, last: Any, f: Any, panel: Any, p: Any,
        n_panels: Any, bias: Any, best: Any, label: Any, i: Any, nearest: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            local, row, last, f, panel, p, n_panels, bias, best, label, i, nearest
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            program = _Program(context, builder, local.dtype)
            address = [
                address_of(context, builder, signature, arguments, n) for n in (0, 4, 7, 8, 9, 11)
            ]
            _generate_tile(program, rows, panels, address, arguments)
            return context.get_dummy_value()

        return signature, generate

    return label_tile


def _generate_tile(
    program: _Program, rows: int, panels: int, address: list[Any], arguments: Any
) -> None:
    builder = program.builder
    bits, width, at, index = program.bits, program.width, program.at, program.index
    local_at, panel_at, bias_at, best_at, label_at, nearest_at = address
    _, row, last, f, _, p, n_panels, _, _, _, place, _ = arguments
    row_at = []
    for r in range(rows):
        mine = builder.add(row, index(r))
        mine = builder.select(builder.icmp_signed("<", mine, last), mine, last)
        row_at.append(at(local_at, builder.mul(mine, f)))
    ahead_at = at(local_at, builder.mul(builder.add(row, index(_AHEAD)), f))
    column_at, start = [], []
    for q in range(panels):
        first_lane = builder.mul(builder.add(p, index(q)), index(width))
        column_at.append(at(panel_at, builder.mul(first_lane, f)))
        start.append(program.load(at(bias_at, first_lane), program.floats, bits))

    # Rows to come are fetched, some bytes with each dimension: 13.9 -> 10.2 ms for 64,000 x 128
    # float32 and k = 64, 3.3 -> 1.6 ms for 32,768 x 64 float64 and k = 16.
    def prefetch(j: Any) -> None:
        ahead = at(ahead_at, builder.mul(j, index(rows)))
        for line in range(0, rows * bits // 8, 64):
            program.prefetch(at(ahead, index(line * 8 // bits)))

    total = program.scores(row_at, column_at, start, f, prefetch)
    step = program.splat(builder.trunc(n_panels, LABEL), program.labels)
    lane = builder.mul(step, ir.Constant(program.labels, list(range(width))))
    candidate = [
        builder.add(lane, program.splat(builder.trunc(builder.add(p, index(q)), LABEL), lane.type))
        for q in range(panels)
    ]
    is_first = builder.icmp_signed("==", p, index(0))
    kept_row = [builder.add(place, index(r + 1)) for r in range(rows)]

    def winner(r: int) -> tuple[Any, Any]:
        slot = builder.mul(builder.select(is_first, index(0), kept_row[r]), index(width))
        old = program.load(at(best_at, slot), program.floats, bits)
        old_label = program.load(at(label_at, slot), program.labels, 32)
        for q in range(panels):
            wins = builder.fcmp_ordered(">", total[r][q], old)
            old = builder.select(wins, total[r][q], old)
            old_label = builder.select(wins, candidate[q], old_label)
        return old, old_label

    def keep(r: int, best: Any, label: Any) -> None:
        slot = builder.mul(kept_row[r], index(width))
        program.store(best, at(best_at, slot), bits)
        program.store(label, at(label_at, slot), 32)

    def decide(won: list[tuple[Any, Any]]) -> None:
        for i in range(0, rows, width):
            n = min(width, rows - i)
            chunk = [won[i + r % n] for r in range(width)]
            found = program.best_lanes([c[0] for c in chunk], [c[1] for c in chunk])
            found = program.shuffle(found, found, list(range(n)))
            found = builder.sext(found, ir.VectorType(INDEX, n))
            program.store(found, at(nearest_at, builder.add(place, index(i))), 64)

    won = [winner(r) for r in range(rows)]
    is_last = builder.icmp_signed("==", builder.add(p, index(panels)), n_panels)
    with builder.if_else(is_last) as (end, more):
        with end:
            decide(won)
        with more:
            for r in range(rows):
                keep(r, *won[r])


_label_by_1 = _label_tile(ROWS_OF_1, 1)
_label_by_2 = _label_tile(ROWS_OF_2, 2)
_label_by_4 = _label_tile(ROWS_OF_4, 4)


def _group(is_whole: bool) -> Any:
    """An intrinsic that sums a group: the descriptors of one image, block and centroid.

    ``group(wide, out, row, local, begin, first, following, centroid, label, f, count)``: rows
    ``begin + i`` of local, for i = `first`, ``following[first]``, and so on until -1, are added up
    in float64: float32 as they are, float64 less the centroid, which keeps their digits far
    from 0. The sum stays in registers for the whole group: 1.3 -> 0.9 ms for 32,768 x 64 float32
    and k = 16, where every row by itself read and wrote it.

    If the group has all of the image's rows with that label, the sum, less `count` centroids for
    float32, is written to row `row` of out; else it is added to that of wide. All are (rows, f),
    C-contiguous, and do not overlap.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def group(
        typing_context: Any, wide: Any, out: Any, row: Any, local: Any, begin: Any, first: Any,
        following: Any, centroid: Any, label: Any, f: Any, count: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            wide, out, row, local, begin, first, following, centroid, label, f, count
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            program = _Program(context, builder, local.dtype)
            address = [
                address_of(context, builder, signature, arguments, n) for n in (0, 1, 3, 6, 7)
            ]
            _generate_group(program, is_whole, address, arguments)
            return context.get_dummy_value()

        return signature, generate

    return group


def _generate_group(program: _Program, is_whole: bool, address: list[Any], arguments: Any) -> None:
    builder, at, index = program.builder, program.at, program.index
    wide_at, out_at, local_at, following_at, centroid_at = address
    _, _, row, _, begin, first, _, _, label, f, count = arguments
    double = ir.DoubleType()
    narrow = program.bits == 32
    wide_at, out_at = (at(x, builder.mul(row, f)) for x in (wide_at, out_at))
    local_at = at(local_at, builder.mul(begin, f))
    centroid_at = at(centroid_at, builder.mul(label, f))
    width = REGISTER_BITS // 64
    count = builder.sitofp(count, double)

    def walk(j: Any, n: int, lanes: int) -> None:
        """Sum `n` pieces of `lanes` numbers of each row from dimension j on."""
        wide = ir.VectorType(double, lanes) if lanes > 1 else double
        floats = ir.VectorType(program.scalar, lanes) if lanes > 1 else program.scalar
        place = [builder.add(j, index(i * lanes)) for i in range(n)]

        def read(base: Any, x: Any) -> Any:
            value = program.load(at(base, x), floats, program.bits)
            return builder.fpext(value, wide) if narrow else value

        center = [read(centroid_at, x) for x in place] if is_whole or not narrow else []
        zero = ir.Constant(wide, [0.0] * lanes if lanes > 1 else 0.0)
        start = [zero if is_whole else program.load(at(wide_at, x), wide, 64) for x in place]
        before = builder.block
        loop = builder.append_basic_block("member")
        after = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(INDEX)
        total = [builder.phi(wide) for _ in place]
        row_at = at(local_at, builder.mul(i, f))
        value = [read(row_at, x) for x in place]
        if not narrow:
            value = [builder.fsub(x, c) for x, c in zip(value, center, strict=True)]
        added = [builder.fadd(t, x) for t, x in zip(total, value, strict=True)]
        after_i = builder.load(at(following_at, i))
        i.add_incoming(first, before)
        i.add_incoming(after_i, loop)
        for t, s, a in zip(total, start, added, strict=True):
            t.add_incoming(s, before)
            t.add_incoming(a, loop)
        builder.cbranch(builder.icmp_signed(">=", after_i, index(0)), loop, after)
        builder.position_at_end(after)
        for i, x in enumerate(place):
            if not is_whole:
                program.store(added[i], at(wide_at, x), 64)
                continue
            result = added[i]
            if narrow:
                times = program.splat(count, wide, lanes) if lanes > 1 else count
                result = builder.fsub(result, builder.fmul(times, center[i]))
                result = builder.fptrunc(result, floats)
            program.store(result, at(out_at, x), program.bits)

    done = index(0)
    for n, lanes in ((_GROUP, width), (_GROUP // 4, width), (1, width), (1, 1)):
        end = builder.and_(f, index(-n * lanes))
        with cgutils.for_range_slice(builder, done, end, index(n * lanes), INDEX) as (j, _):
            walk(j, n, lanes)
        done = end


_add_group, _sum_group = _group(is_whole=False), _group(is_whole=True)


@intrinsic  # type: ignore[untyped-decorator]
def _take_ticket(typing_context: Any, counter: Any) -> Any:
    """``take_ticket(counter)``: what ``counter[0]`` was, and one more is there now; atomic."""
    signature = types.int64(counter)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = address_of(context, builder, signature, arguments, 0)
        return builder.atomic_rmw("add", address, ir.Constant(INDEX, 1), "monotonic")

    return signature, generate


@compiled(**_OPTIONS)
def pack(centroid_kf, width, origin_f, panel, bias):  # type: ignore[no-untyped-def]
    """`vladkit.kernels.nearest.centered_codebook`, laid out in panels; spare lanes never win.

    Writes origin_f (f,), float64, panel (panels x f x width,) and bias (panels x width,).
    """
    k, f = centroid_kf.shape
    n_panels = bias.shape[0] // width
    mean_f = np.zeros(f)
    for i in range(k):
        for j in range(f):
            mean_f[j] += centroid_kf[i, j]
    for j in range(f):  # here and below, loops: they compile in seconds less than array expressions
        mean_f[j] /= k
    peak_f = np.zeros(f)
    for i in range(k):
        for j in range(f):
            peak_f[j] = max(peak_f[j], abs(centroid_kf[i, j] - mean_f[j]))
    peak = 0.0
    for j in range(f):
        step = _power_of_2(peak_f[j])
        origin_f[j] = np.rint(mean_f[j] / step) * step if peak_f[j] > 0 else centroid_kf[0, j]
        peak = max(peak, peak_f[j])
    size = max(_power_of_2(peak), 2.0**-1000)
    per_size, per_root = 1 / size, 1 / _power_of_2(np.sqrt(size))
    exact = np.empty(width, np.float64)
    for p in range(n_panels):
        exact[:] = 0
        n_lanes = (k - p + n_panels - 1) // n_panels
        for j in range(f):
            at = (p * f + j) * width
            for lane in range(n_lanes):
                direction = centroid_kf[lane * n_panels + p, j] - origin_f[j]
                scaled = direction * per_size * per_root
                panel[at + lane] = scaled
                exact[lane] -= scaled * (0.5 * direction + origin_f[j])
            panel[at + n_lanes : at + width] = 0
        for lane in range(width):
            bias[p * width + lane] = exact[lane] if lane < n_lanes else -np.inf


@numba.njit
def _power_of_2(value):  # type: ignore[no-untyped-def]
    """Largest power of 2 that is not above the value; 1 for 0."""
    return value / (2 * math.frexp(value)[0]) if value > 0 else 1.0


@compiled(**_OPTIONS)
def accumulate(  # type: ignore[no-untyped-def]
    local_Nf, start_T, centroid_kf, panel, bias, width, residual_tkf, count_tk
):
    """Residuals of all rows summed into their image's block; -1, or a bad row.

    That is one without a label, or the first of an image whose sums overflow.

    Reads local_Nf, start_T, centroid_kf, panel, bias (float arrays of one dtype, all
    C-contiguous; `width` lanes a panel); writes all of residual_tkf and count_tk.
    """
    n, f = local_Nf.shape
    k = centroid_kf.shape[0]
    n_panels = bias.shape[0] // width
    residual_bf = residual_tkf.reshape(-1, f)
    block = min(_MOST_ROWS, _MEMBERS * k, _BLOCK_BYTES // (f * local_Nf.itemsize))
    block = max(_LEAST_ROWS, block // _LEAST_ROWS * _LEAST_ROWS)
    # Blocks end where images do, if that is near; if the centroids do not stay in L2, only near.
    t, most_rows = len(start_T) - 1, block + block // 4
    least_rows = block // 2 if panel.size * panel.itemsize < _BLOCK_BYTES // 2 else block * 7 // 8
    slack = most_rows + _LEAST_ROWS  # tiles of rows go on beyond the end
    best = np.empty((1 + slack) * width, local_Nf.dtype)
    label = np.empty((1 + slack) * width, np.int32)
    best[:width] = -np.inf
    label[:width] = -1
    nearest = np.empty(slack, np.int64)
    # The rows of a block that one centroid gets, as a chain: first[centroid], following[row], ...
    first = np.full(k, -1, np.int64)
    following = np.empty(slack, np.int64)
    used = np.empty(slack, np.int64)
    wide_kf = np.empty((k, f), np.float64)  # sums of an image in several blocks
    image, end = -1, 0
    begin, rows, next_image = 0, 0, 0
    while begin + rows < n:
        begin += rows
        rows = min(block, n - begin)
        while next_image < t and start_T[next_image + 1] <= begin + most_rows:
            next_image += 1
        # an image in one block is summed in registers alone: it is better not cut
        if start_T[next_image] - begin > least_rows:
            rows = start_T[next_image] - begin
        _label_block(local_Nf, begin, rows, panel, n_panels, bias, best, label, nearest)
        i = 0
        while i < rows:
            while begin + i >= end:  # outputs are zeroed when their turn comes, and are in cache
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
            is_whole = begin <= start_T[image] and end <= begin + rows
            if not is_whole and begin + i == start_T[image]:
                wide_kf[:] = 0
            for u in range(n_used):
                j = used[u]
                row = image * k + j
                if is_whole:
                    _sum_group(
                        wide_kf, residual_bf, row, local_Nf, begin, first[j], following,
                        centroid_kf, j, f, count_tk[image, j],
                    )  # fmt: skip
                else:
                    _add_group(
                        wide_kf, residual_bf, j, local_Nf, begin, first[j], following,
                        centroid_kf, j, f, 0,
                    )  # fmt: skip
                first[j] = -1
            i = stop
            if begin + i == end:
                if not is_whole:
                    _settle(wide_kf, centroid_kf, count_tk[image], residual_tkf[image])
                if not _all_finite(residual_bf, image * k, (image + 1) * k):
                    return start_T[image]
    residual_tkf[image + 1 :] = 0  # images without descriptors at the end
    count_tk[image + 1 :] = 0
    return -1


@compiled(**_OPTIONS)
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
def _label_block(  # type: ignore[no-untyped-def]
    local_Nf, begin, rows, panel, n_panels, bias, best, label, nearest
):
    """Labels of `rows` descriptors from `begin` on into nearest, by all panels.

    best and label hold the rows' best scores, lane by lane, from some panels to the next.
    """
    last = len(local_Nf) - 1
    f = local_Nf.shape[1]
    p = 0
    while p < n_panels:
        if PANELS >= 4 and n_panels - p >= 4:
            for i in range(0, rows, ROWS_OF_4):
                _label_by_4(
                    local_Nf, begin + i, last, f, panel, p, n_panels, bias, best, label, i, nearest
                )
            p += 4
        elif n_panels - p >= 2:
            for i in range(0, rows, ROWS_OF_2):
                _label_by_2(
                    local_Nf, begin + i, last, f, panel, p, n_panels, bias, best, label, i, nearest
                )
            p += 2
        else:
            for i in range(0, rows, ROWS_OF_1):
                _label_by_1(
                    local_Nf, begin + i, last, f, panel, p, n_panels, bias, best, label, i, nearest
                )
            p += 1


@numba.njit
def _settle(wide_kf, centroid_kf, count_k, residual_kf):  # type: ignore[no-untyped-def]
    """Write the sums of an image, as ``sum_group`` does."""
    k, f = residual_kf.shape
    for j in range(k):
        for i in range(f):
            if residual_kf.itemsize == 8:
                residual_kf[j, i] = wide_kf[j, i]
            elif count_k[j]:
                residual_kf[j, i] = wide_kf[j, i] - np.float64(count_k[j]) * centroid_kf[j, i]


@numba.njit
def _all_finite(residual_bf, first, last):  # type: ignore[no-untyped-def]
    """Whether no sum of some rows is infinite or NaN; they are in cache still."""
    finite = True
    for b in range(first, last):
        for j in range(residual_bf.shape[1]):
            finite &= abs(residual_bf[b, j]) < np.inf
    return finite


@numba.njit
def _first_negative(values, start, stop):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        if values[i] < 0:
            return i
    return -1
