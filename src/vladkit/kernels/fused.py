"""Numba: assignment and accumulation in one pass over the descriptors. The default.

Per block of descriptors: scores of a tile of descriptors against a panel of centroids stay in
registers, the arg-max looks at them there, and each residual is added into its image's (k, f)
block while descriptor and block are in cache. Nothing of size N x k is ever written.

No ``prange`` and no BLAS inside (DESIGN.md, and docs/why.md): the compiled function releases
the GIL and is called from a thread pool over pieces of the batch. The pieces do not depend on
the number of threads, so neither does the result, to the bit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from vladkit.axes import FloatArray, Int64Array
from vladkit.errors import ParameterError
from vladkit.kernels.nearest import centered_codebook
from vladkit.kernels.vector import ROWS, add_difference, best_of_lanes, score_tile, width_for
from vladkit.ragged import Ragged
from vladkit.workers import for_each

__all__ = ["CHECKS_FINITE", "aggregate"]

CHECKS_FINITE = True

_BLOCK_TILES = 8
"""Tiles that share one sweep over the centroids: 128 descriptors of 128 float32 are 64 KB, so
block and panel stay in a 1 MB L2 while each panel is read once per block, not once per tile."""

_PIECE_BYTES = 2**20
"""A piece of work is about 1 MB of descriptors: where input has to be converted (uint8, lists,
strided) the copy is of one piece and still in cache when the kernel reads it."""

_VIEW_FACTOR = 8
"""Pieces that are views cost no copy; larger ones save calls (about 10 us each)."""


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts, on `n_jobs` threads."""
    if numba.config.DISABLE_JIT:
        raise ParameterError(
            "method='fused' is compiled code, and NUMBA_DISABLE_JIT is set: "
            "unset it, or use method='reduceat'"
        )
    k, f = centroid_kf.shape
    residual_tkf = np.zeros((len(batch), k, f), batch.float_dtype)
    count_tk = np.zeros((len(batch), k), np.int64)
    panel, bias = _pack(centroid_kf)
    width = width_for(batch.float_dtype)
    pieces = _pieces(batch, n_jobs)
    # An image in several pieces: each sums into a block of its own, added up in order below.
    extra: dict[int, tuple[FloatArray, Int64Array]] = {}

    def run(i: int) -> None:
        start, stop, row_start, row_stop = pieces[i]
        local_Nf = batch.floats(start, stop, row_start, row_stop)
        if row_stop is None:
            start_T = batch.start_T[start : stop + 1] - batch.start_T[start]
            out_tkf, out_tk = residual_tkf[start:stop], count_tk[start:stop]
        else:
            start_T = np.array([0, len(local_Nf)], np.int64)
            out_tkf, out_tk = residual_tkf[start:stop], count_tk[start:stop]
            if row_start:
                out_tkf, out_tk = np.zeros_like(out_tkf), np.zeros_like(out_tk)
                extra[i] = out_tkf, out_tk
        bad = _accumulate(local_Nf, start_T, centroid_kf, panel, bias, width, out_tkf, out_tk)
        if bad >= 0:
            batch.raise_not_finite(int(batch.start_T[start]) + row_start + bad)

    for_each(run, len(pieces), n_jobs)
    for i in sorted(extra):
        start = pieces[i][0]
        residual_tkf[start] += extra[i][0][0]
        count_tk[start] += extra[i][1][0]
    return residual_tkf, count_tk


def _pack(centroid_kf: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The centred codebook in panels (see `vladkit.kernels.vector`); spare lanes never win."""
    k, f = centroid_kf.shape
    width = width_for(centroid_kf.dtype)
    direction_kf, bias_k = centered_codebook(centroid_kf)
    n_panels = -(-k // width)
    padded_kf = np.zeros((n_panels * width, f), centroid_kf.dtype)
    padded_kf[:k] = direction_kf
    bias = np.full(n_panels * width, -np.inf, centroid_kf.dtype)
    bias[:k] = bias_k
    panel = padded_kf.reshape(n_panels, width, f).transpose(0, 2, 1)
    return np.ascontiguousarray(panel).ravel(), bias


def _pieces(batch: Ragged, n_jobs: int) -> list[tuple[int, int, int, int | None]]:
    """Cut the batch into (first image, end image, first row, end row) pieces.

    Whole images together (rows: 0, None) up to the piece's size; an image beyond it is cut by
    rows. Only sizes decide where an image is cut, so that an image's sum is the same in a
    batch, alone, and on any number of threads.
    """
    row_bytes = batch.n_features * batch.float_dtype.itemsize
    most_rows = max(1024, _PIECE_BYTES // row_bytes)
    group_rows = most_rows
    if batch.is_ready():
        group_rows = max(most_rows, min(_VIEW_FACTOR * most_rows, batch.n_local // n_jobs + 1))
    pieces: list[tuple[int, int, int, int | None]] = []
    start_T = batch.start_T
    i, t = 0, len(batch)
    while i < t:
        length = int(start_T[i + 1] - start_T[i])
        if length > _VIEW_FACTOR * most_rows:
            rows = range(0, length, most_rows * _VIEW_FACTOR)
            pieces += [(i, i + 1, a, min(a + rows.step, length)) for a in rows]
            i += 1
            continue
        limit = start_T[i] + group_rows
        end = max(i + 1, int(np.searchsorted(start_T, limit, side="right")) - 1)
        pieces.append((i, end, 0, None))
        i = end
    return pieces


def _compile(function: Any) -> Any:
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place where a cache file may be written: compile each time
        return numba.njit(nogil=True)(function)


@_compile
def _accumulate(  # type: ignore[no-untyped-def]
    local_Nf, start_T, centroid_kf, panel, bias, width, residual_tkf, count_tk
):
    """Add the residuals of all rows into their image's block; -1, or the first bad row.

    Reads local_Nf, start_T, centroid_kf, panel, bias (float arrays of one dtype, all
    C-contiguous; `width` lanes a panel); updates residual_tkf and count_tk.
    """
    n, f = local_Nf.shape
    k = centroid_kf.shape[0]
    n_panels = bias.shape[0] // width
    residual_bf = residual_tkf.reshape(-1, f)
    best = np.empty(_BLOCK_TILES * ROWS * width, local_Nf.dtype)
    label = np.empty(_BLOCK_TILES * ROWS * width, np.int32)
    image = 0
    for begin in range(0, n, _BLOCK_TILES * ROWS):
        rows = min(_BLOCK_TILES * ROWS, n - begin)
        tiles = (rows + ROWS - 1) // ROWS
        best[:] = -np.inf
        label[:] = -1
        for p in range(n_panels):
            for tile in range(tiles):
                score_tile(
                    local_Nf, begin + tile * ROWS, n - 1, f, panel, p, bias, best, label, tile
                )
        for i in range(rows):
            nearest = best_of_lanes(best, label, i)
            if nearest < 0:
                return begin + i
            while begin + i >= start_T[image + 1]:
                image += 1
            count_tk[image, nearest] += 1
            add_difference(
                residual_bf, image * k + nearest, local_Nf, begin + i, centroid_kf, nearest, f
            )
    return -1
