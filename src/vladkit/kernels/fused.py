"""Numba: assignment and accumulation in one pass over the descriptors. The default.

Per block of descriptors: scores of a tile of descriptors against a panel of centroids stay in
registers, the arg-max looks at them there, and each residual is added into its image's (k, f)
block while descriptor and block are in cache. Nothing of size N x k is ever written.

No ``prange`` and no BLAS inside (docs/explanation/why.md): the compiled function releases the GIL
and is called by several plain threads, each with images of its own. Where an image is cut depends
on its size alone and not on the number of threads, so neither does the result, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TypeAlias

import numba
import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.core.threads import for_each
from vladkit.errors import ParameterError
from vladkit.kernels import gaussians, reduce
from vladkit.kernels import soft as loops
from vladkit.kernels.compiled import accumulate, accumulate_groups, pack
from vladkit.kernels.mixture import Mixture
from vladkit.kernels.nearest import centered_codebook, check_overflow
from vladkit.kernels.pieces import (
    PIECE_BYTES,
    is_for_one_thread,
    most_rows_of,
    pieces_of,
    rows_of_long,
)
from vladkit.kernels.vector_code import width_for

__all__ = ["CHECKS_FINITE", "aggregate", "aggregate_mixture", "aggregate_soft", "segment_sum"]

CHECKS_FINITE = True

_GROUPS = 8
"""Least groups of images for each thread; large batches have one for about 4096 rows."""


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts, on `n_jobs` threads."""
    _check_compiler()
    k, f = centroid_kf.shape
    residual_tkf = np.empty((len(batch), k, f), batch.float_dtype)
    count_tk = np.empty((len(batch), k), np.int64)
    codebook = _packed(centroid_kf)
    if is_for_one_thread(batch.n_local, k, f):
        n_jobs = 1
    most_rows = most_rows_of(f * batch.float_dtype.itemsize)
    if batch.is_ready() and not _has_long(batch, rows_of_long(most_rows)):
        _share_views(batch, codebook, n_jobs, residual_tkf, count_tk)
    else:

        def sums(local_Nf: FloatArray, start_T: Int64Array, *out: AnyArray) -> int:
            return int(accumulate(_read_only(local_Nf), start_T, *codebook, *out))

        _share_pieces(batch, sums, n_jobs, most_rows, residual_tkf, count_tk)
    return residual_tkf, count_tk


def aggregate_soft(
    batch: Ragged, centroid_kf: FloatArray, alpha: float, n_jobs: int
) -> tuple[FloatArray, FloatArray]:
    """Weighted residual sums and masses, a piece of the batch at a time on `n_jobs` threads.

    The weights of a piece exist at once; their exponentials are NumPy's, which are vectorised.
    """
    _check_compiler()
    k, f = centroid_kf.shape
    dtype = batch.float_dtype
    exact_kf = centroid_kf.astype(np.float64)
    origin_f, direction_kf, scaled_kf, unit_2 = centered_codebook(np, exact_kf, exact_kf)
    bias_k = (-0.5 * np.einsum("kf,kf->k", scaled_kf, direction_kf)).astype(dtype)
    origin_f, direction_kf = origin_f.astype(dtype), direction_kf.astype(dtype)
    scaled_fk = np.ascontiguousarray(scaled_kf.T, dtype)
    scale = dtype.type(min(2 * alpha * unit_2[0] * unit_2[1], np.finfo(dtype).max))

    def sums(
        local_Nf: FloatArray, start_T: Int64Array, out_tkf: FloatArray, out_tk: AnyArray
    ) -> int:
        weight_Nk = np.empty((len(local_Nf), k), dtype)
        shifted_Nf = local_Nf - origin_f  # weights need each digit of a distance, labels do not
        loops.soft_scores(shifted_Nf, scaled_fk, bias_k, scale, weight_Nk)
        with np.errstate(under="ignore"):
            np.exp(weight_Nk, out=weight_Nk)
        loops.soft_sums(shifted_Nf, start_T, weight_Nk, direction_kf, out_tkf, out_tk)
        return -1

    residual_tkf = np.empty((len(batch), k, f), dtype)
    mass_tk = np.empty((len(batch), k), dtype)
    most_rows = max(64, PIECE_BYTES // (max(k, f) * dtype.itemsize))
    _share_pieces(batch, sums, n_jobs, most_rows, residual_tkf, mass_tk)
    check_overflow(mass_tk)
    return residual_tkf, mass_tk


def aggregate_mixture(
    batch: Ragged, mixture: Mixture, n_jobs: int
) -> tuple[FloatArray, FloatArray]:
    """Moments and masses by a mixture's posteriors: `aggregate_soft` with other distances.

    Three scatter-reduces with one weight: of 1, of the residual, and of its square less 1.
    """
    _check_compiler()
    k, f = mixture.mean_kf.shape
    dtype = batch.float_dtype
    origin_f, direction_kf = mixture.centered()
    scale_kf = 1 / np.sqrt(mixture.variance_kf)
    packed = gaussians.pack_gaussians(direction_kf, scale_kf, mixture.log_k(), dtype)
    origin_f = origin_f.astype(dtype)
    # float32, too, is summed in float64: with few means near 0, sums of residuals are small
    shift_kf = gaussians.padded(-direction_kf * scale_kf, np.dtype(np.float64))
    scale_kf = gaussians.padded(scale_kf, np.dtype(np.float64))
    least = 1e-30

    def sums(
        local_Nf: FloatArray, start_T: Int64Array, out_tkm: FloatArray, out_tk: AnyArray
    ) -> int:
        weight_Nk = np.empty((len(local_Nf), packed[2].size), dtype)
        shifted_Nf = gaussians.padded(local_Nf, dtype, origin_f)
        gaussians.least_distances(shifted_Nf, *packed, weight_Nk)
        with np.errstate(under="ignore"):
            np.exp(weight_Nk, out=weight_Nk)
        gaussians.posterior_moments(
            shifted_Nf, start_T, weight_Nk, scale_kf, shift_kf, least, out_tkm, out_tk
        )
        return -1

    moment_tkm = np.empty((len(batch), k, 2 * f), dtype)
    mass_tk = np.empty((len(batch), k), dtype)
    most_rows = max(64, PIECE_BYTES // (max(k, f) * dtype.itemsize))
    _share_pieces(batch, sums, n_jobs, most_rows, moment_tkm, mass_tk)
    check_overflow(mass_tk)
    return moment_tkm, mass_tk


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments by compiled loops."""
    _check_compiler()
    dtype = values_Nf.dtype
    return reduce.sums(
        values_Nf, segment_N, n_segments, dtype, compiled=True, in_parts=True, n_jobs=n_jobs
    )


def _check_compiler() -> None:
    if numba.config.DISABLE_JIT:
        raise ParameterError(
            "method='fused' is compiled code, and NUMBA_DISABLE_JIT is set: "
            "unset it, or use method='reduceat'"
        )


def _has_long(batch: Ragged, most_rows: int) -> bool:
    if batch.n_local <= most_rows:
        return False
    return int(np.diff(batch.start_T).max(initial=0)) > most_rows


_Codebook: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, int]


def _share_views(
    batch: Ragged,
    codebook: _Codebook,
    n_jobs: int,
    residual_tkf: FloatArray,
    count_tk: Int64Array,
) -> None:
    """Aggregate input that the kernel can read in place; threads share it without the GIL.

    They take groups of images from a common counter inside the compiled code. A thread that
    wakes up 0.2 ms late then finds less left to do, instead of keeping the other waiting: 0.9
    -> 0.65 ms for 256 x 128 x 64 float32, k = 16 on two threads.
    """
    t = len(batch)
    ticket = np.zeros(1, np.int64)

    def sums(fence: Int64Array) -> int:
        arrays = _read_only(batch.local_Nf), batch.start_T, fence, ticket
        return int(accumulate_groups(*arrays, *codebook, residual_tkf, count_tk))

    if n_jobs == 1:  # not `accumulate` itself: this one would be left to be compiled later
        bad = [sums(np.array([0, t], np.int64))]
    else:
        groups = min(t, max(_GROUPS * n_jobs, batch.n_local // 4096))
        fence = np.arange(groups + 1) * t // max(groups, 1)
        bad = [-1] * min(n_jobs, groups)

        def run(i: int) -> None:
            bad[i] = sums(fence)

        for_each(run, len(bad), n_jobs)
    found = [row for row in bad if row >= 0]
    if found:
        batch.raise_not_finite(min(found))


def _share_pieces(
    batch: Ragged,
    sums: Callable[..., int],
    n_jobs: int,
    most_rows: int,
    residual_tkf: FloatArray,
    count_tk: AnyArray,
) -> None:
    """Aggregate input that has to be converted (uint8, lists, strided), or has very large images.

    A piece is converted at a time, and still in cache when the kernel reads it:
    ``sums(local_Nf, start_T, out_tkf, out_tk)`` writes its sums, and returns -1 or a bad row.
    """
    pieces = pieces_of(batch.start_T, most_rows)
    # An image in several pieces: each sums into a block of its own, added up in order below.
    extra: dict[int, tuple[FloatArray, AnyArray]] = {}

    def run(i: int) -> None:
        start, stop, row_start, row_stop = pieces[i]
        local_Nf = batch.floats(start, stop, row_start, row_stop)
        start_T = batch.start_T[start : stop + 1] - batch.start_T[start]
        out_tkf, out_tk = residual_tkf[start:stop], count_tk[start:stop]
        if row_stop is not None:
            start_T = np.array([0, len(local_Nf)], np.int64)
        if row_start:
            out_tkf, out_tk = np.empty_like(out_tkf), np.empty_like(out_tk)
            extra[i] = out_tkf, out_tk
        bad = sums(local_Nf, start_T, out_tkf, out_tk)
        if bad >= 0:
            batch.raise_not_finite(int(batch.start_T[start]) + row_start + bad)

    for_each(run, len(pieces), n_jobs)
    for start, parts in groupby(sorted(extra), lambda i: pieces[i][0]):
        wide_kf, wide_k = residual_tkf[start].astype(np.float64), count_tk[start].astype(np.float64)
        for i in parts:
            wide_kf += extra[i][0][0]
            wide_k += extra[i][1][0]
        residual_tkf[start] = reduce.narrow(wide_kf, residual_tkf.dtype)
        count_tk[start] = wide_k
    if extra:
        check_overflow(residual_tkf)


def _packed(centroid_kf: FloatArray) -> _Codebook:
    """Pack the codebook for the kernel, in compiled code.

    It takes 9 us for 64 x 128, NumPy's steps 27; the labels and sums of 500 descriptors take 77.
    (Then the origin was the mean. One that keeps whole numbers whole, and the unit, take 1.4 times
    as long.)
    """
    centroid_kf = _read_only(centroid_kf)
    k, f = centroid_kf.shape
    width = width_for(centroid_kf.dtype)
    n_panels = -(-k // width)
    panel = np.empty(n_panels * width * f, centroid_kf.dtype)
    bias = np.empty(n_panels * width, centroid_kf.dtype)
    pack(centroid_kf, width, np.empty(f), panel, bias)
    return centroid_kf, panel, bias, width


def _read_only(array: FloatArray) -> FloatArray:
    """View that cannot be written: Numba would compile once more for one that can, in 1 to 5 s."""
    view = array.view()
    view.flags.writeable = False
    return view
