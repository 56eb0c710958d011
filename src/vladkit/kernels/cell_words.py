"""Compiled code of `vladkit.kernels.words`: the nearest word of descriptors, cell by cell.

As in `vladkit.kernels.compiled`, scores of some descriptors against panels of words stay in
registers until they have been compared. Here the descriptors of a cell are not neighbours: their
rows are listed. Each keeps the best score of every lane, and the second best, from one cell to the
next; which lane has the best is asked once, at the end. So nothing is copied or written for a cell:
beside a matrix product for each, with its scores written, copied rows and a call of Python, it
takes three fifths of the time (1,300 x 128 float32 in 8 of 128 cells of 16,384 words: 6.3 ms
instead of 11.1, 104 and 60 billion operations a second of one core, where one large product has
69).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vladkit.core.arrays import FloatArray, Int64Array
from vladkit.kernels import vector_code
from vladkit.kernels.cached import compiled
from vladkit.kernels.vector_code import (
    LABEL,
    PANELS,
    ROWS_OF_1,
    ROWS_OF_2,
    ROWS_OF_4,
    VectorCode,
    address_of,
    width_for,
)

__all__ = ["CellPanels", "best_three"]


class CellPanels:
    """Words in panels of the width of a register, those of a cell together.

    Parameters
    ----------
    word_kf : (k, f) floating
        Directions of the words, in the order of cells.
    bias_k : (k,) floating
    fence_C : (c + 1,) integers
        First word of each cell.
    """

    def __init__(self, word_kf: FloatArray, bias_k: FloatArray, fence_C: Int64Array) -> None:
        width = width_for(word_kf.dtype)
        size_c = np.diff(fence_C)
        self.width = width
        self.start_C = np.append(0, np.cumsum(-(-size_c // width) * width))
        n_lanes, (k, f) = int(self.start_C[-1]), word_kf.shape
        lane_k = np.arange(k) + np.repeat(self.start_C[:-1] - fence_C[:-1], size_c)
        self.word_L = np.full(n_lanes, -1)
        self.word_L[lane_k] = np.arange(k)
        self.bias_L = np.full(n_lanes, -np.inf, word_kf.dtype)  # spare lanes never win
        self.bias_L[lane_k] = bias_k
        spread_Lf = np.zeros((n_lanes, f), word_kf.dtype)
        spread_Lf[lane_k] = word_kf
        panel_pfw = spread_Lf.reshape(-1, width, f).transpose(0, 2, 1)
        self.panel_M = np.ascontiguousarray(panel_pfw).ravel()


def best_three(
    local_nf: FloatArray, row_N: Int64Array, fence_C: Int64Array, panels: CellPanels
) -> tuple[Int64Array, FloatArray]:
    """Find the best three words of descriptors among those of some cells for each.

    Parameters
    ----------
    local_nf : (n, f) floating
        Without any whose scores might overflow.
    row_N : (N,) int64
        Rows that look into the first cell, then those that look into the second, and so on.
    fence_C : (c + 1,) int64
        First of these of each cell.
    panels : CellPanels

    Returns
    -------
    place_n3 : (n, 3) int64
        Places of the best words in the order of cells; -1 where there is none, and where the place
        of a second or third is not known. Equal ones in any order.
    score_n3 : (n, 3) floating
        Their scores, falling.
    """
    n = len(local_nf)
    lane_n3, score_n3 = np.empty((n, 3), np.int64), np.empty((n, 3), local_nf.dtype)
    # one that cannot be written: Numba would compile once more for one that can
    local_nf = np.ascontiguousarray(local_nf).view()
    local_nf.flags.writeable = False
    words = panels.start_C, panels.panel_M, panels.bias_L, panels.width
    _best_three(local_nf, row_N, fence_C, *words, lane_n3, score_n3)
    return np.where(lane_n3 < 0, -1, panels.word_L[lane_n3]), score_n3


def _score_tile(rows: int, panels: int) -> Any:
    """An intrinsic that scores `rows` descriptors by `panels` panels of words.

    ``score_tile(local_nf, row_N, i, end, spare, f, panel, first, bias, best, second, lane)``:
    descriptors ``row_N[i]`` to ``row_N[i + rows - 1]``, before `end`, against the panels from lane
    `first` on. best, second and lane, (n + 1) x WIDTH, hold what was found for each descriptor so
    far, lane by lane: the best score, the second best, and the lane of the best, counted over all
    panels. Strictly greater, so that earlier panels win ties. Tiles go on beyond `end` with the
    last descriptor, and leave what they find of it in row `spare`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def score_tile(
        typing_context: Any, local: Any, row: Any, i: Any, end: Any, spare: Any, f: Any,
        panel: Any, first: Any, bias: Any, best: Any, second: Any, lane: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(local, row, i, end, spare, f, panel, first, bias, best, second, lane)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            code = VectorCode(context, builder, local.dtype)
            arrays = (0, 1, 6, 8, 9, 10, 11)
            address = [address_of(context, builder, signature, arguments, n) for n in arrays]
            _generate_tile(code, rows, panels, address, arguments)
            return context.get_dummy_value()

        return signature, generate

    return score_tile


def _generate_tile(
    code: VectorCode, rows: int, panels: int, address: list[Any], arguments: Any
) -> None:
    builder, bits, at, index = code.builder, code.bits, code.at, code.index
    local_at, list_at, panel_at, bias_at, *kept_at = address
    _, _, i, end, spare, f, _, first, *_ = arguments
    last = builder.sub(end, index(1))
    row_at, slot = [], []
    for r in range(rows):
        place = builder.add(i, index(r))
        is_there = builder.icmp_signed("<", place, end)
        row = builder.load(at(list_at, builder.select(is_there, place, last)))
        row_at.append(at(local_at, builder.mul(row, f)))
        slot.append(builder.mul(builder.select(is_there, row, spare), index(code.width)))
    first_q = [builder.add(first, index(q * code.width)) for q in range(panels)]
    column_at = [at(panel_at, builder.mul(lane, f)) for lane in first_q]
    start = [code.load(at(bias_at, lane), code.floats, bits) for lane in first_q]
    score = code.scores(row_at, column_at, start, f, lambda j: None)
    own_lane = ir.Constant(code.labels, list(range(code.width)))
    lane_q = [
        builder.add(own_lane, code.splat(builder.trunc(lane, LABEL), code.labels))
        for lane in first_q
    ]
    kinds = (code.floats, bits), (code.floats, bits), (code.labels, 32)
    for r in range(rows):
        mine_at = [at(base, slot[r]) for base in kept_at]
        best, second, lane = (code.load(a, *kind) for a, kind in zip(mine_at, kinds, strict=True))
        for q in range(panels):
            wins = builder.fcmp_ordered(">", score[r][q], best)
            lower = builder.select(wins, best, score[r][q])
            second = builder.select(builder.fcmp_ordered(">", lower, second), lower, second)
            best = builder.select(wins, score[r][q], best)
            lane = builder.select(wins, lane_q[q], lane)
        for value, a, (_, size) in zip((best, second, lane), mine_at, kinds, strict=True):
            code.store(value, a, size)


_score_by_1 = _score_tile(ROWS_OF_1, 1)
_score_by_2 = _score_tile(ROWS_OF_2, 2)
_score_by_4 = _score_tile(ROWS_OF_4, 4)


@compiled(beside=(vector_code.__file__,))
def _best_three(  # type: ignore[no-untyped-def]
    local_nf, row_N, fence_C, start_C, panel, bias, width, lane_n3, score_n3
):
    """Write the lanes of the best words of each row, and their scores.

    Reads rows row_N[fence_C[c]:fence_C[c + 1]] of local_nf for cell c, whose words are the lanes
    from start_C[c] on; panel (lanes x f,) and bias (lanes,) are of one dtype with local_nf.
    """
    n, f = local_nf.shape
    best = np.full((n + 1) * width, -np.inf, local_nf.dtype)
    second = np.full((n + 1) * width, -np.inf, local_nf.dtype)
    lane = np.full((n + 1) * width, -1, np.int32)
    for c in range(len(start_C) - 1):
        begin, end = fence_C[c], fence_C[c + 1]
        first = start_C[c] if begin < end else start_C[c + 1]
        while first < start_C[c + 1]:
            n_panels = (start_C[c + 1] - first) // width
            if PANELS >= 4 and n_panels >= 4:
                for i in range(begin, end, ROWS_OF_4):
                    _score_by_4(
                        local_nf, row_N, i, end, n, f, panel, first, bias, best, second, lane
                    )
                first += 4 * width
            elif n_panels >= 2:
                for i in range(begin, end, ROWS_OF_2):
                    _score_by_2(
                        local_nf, row_N, i, end, n, f, panel, first, bias, best, second, lane
                    )
                first += 2 * width
            else:
                for i in range(begin, end, ROWS_OF_1):
                    _score_by_1(
                        local_nf, row_N, i, end, n, f, panel, first, bias, best, second, lane
                    )
                first += width
    lane_n3[:] = -1
    score_n3[:] = -np.inf
    for i in range(n):
        for s in range(i * width, (i + 1) * width):
            _insert(lane_n3[i], score_n3[i], best[s], lane[s])
            _insert(lane_n3[i], score_n3[i], second[s], -1)


@numba.njit
def _insert(lane_3, score_3, score, lane):  # type: ignore[no-untyped-def]
    """Put a score and its lane in their place, if it is among the best three."""
    if not score > score_3[2]:
        return
    at = 2
    while at > 0 and score > score_3[at - 1]:
        score_3[at], lane_3[at] = score_3[at - 1], lane_3[at - 1]
        at -= 1
    score_3[at], lane_3[at] = score, lane
