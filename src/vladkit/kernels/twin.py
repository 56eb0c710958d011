"""NumPy: what `fused` computes, to the bit. `auto` begins with it, before Numba is loaded.

Sums are those of `vladkit.kernels.reduce`: in the order of the rows, in float64. Labels are from a
matrix product, whose sums are taken in another order than those of `fused`; where that might
decide (two scores closer than both can be wrong, some rows in 10,000), the scores are computed once
more as `fused` does: one multiply-add after the other, rounded once each.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from typing import Any

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.kernels import reduce
from vladkit.kernels.nearest import check_overflow
from vladkit.kernels.pieces import fence_of_parts

__all__ = ["aggregate", "nearest", "rounds_once", "segment_sum"]

_BLOCK_SCORES = 2**17
"""Scores that exist at a time: 1 MB of float64."""

_FEW_ROWS = 64
"""Rows among which equal ones are not looked for."""


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts. `n_jobs` is not used."""
    k, f = centroid_kf.shape
    t, dtype = len(batch), batch.float_dtype
    local_Nf = batch.floats(0, t)
    label_N = nearest(local_Nf, centroid_kf)
    start_P, image_p = fence_of_parts(batch.start_T, f * dtype.itemsize)
    bucket_N = np.repeat(np.arange(len(image_p)) * k, np.diff(start_P)) + label_N
    wide, n_buckets = np.dtype(np.float64), len(image_p) * k
    count_b = np.bincount(bucket_N, minlength=n_buckets)
    if dtype == wide:

        def residuals(some: slice) -> AnyArray:
            residual_nf: AnyArray = local_Nf[some] - centroid_kf[label_N[some]]
            return residual_nf

        total_bf = reduce.sums(local_Nf, bucket_N, n_buckets, wide, rows=residuals, compiled=False)
    else:
        total_bf = reduce.sums(local_Nf, bucket_N, n_buckets, wide, compiled=False)
        total_pkf = total_bf.reshape(-1, k, f)
        total_pkf -= count_b.reshape(-1, k, 1) * centroid_kf.astype(wide)
    part_pkf = reduce.narrow(total_bf, dtype).reshape(-1, k, f)
    part_pk = count_b.reshape(-1, k)
    if len(part_pkf) == t:
        return part_pkf, part_pk
    residual_tkf, count_tk = np.zeros((t, k, f)), np.zeros((t, k), np.int64)
    for p, image in enumerate(image_p):
        residual_tkf[image] += part_pkf[p]
        count_tk[image] += part_pk[p]
    return reduce.narrow(residual_tkf, dtype), count_tk


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments, as `fused` does."""
    return reduce.sums(
        values_Nf, segment_N, n_segments, values_Nf.dtype, compiled=False, in_parts=True
    )


def nearest(local_Nf: FloatArray, centroid_kf: FloatArray) -> Int64Array:
    """Label of each descriptor, the one that `fused` finds."""
    k, f = centroid_kf.shape
    dtype = centroid_kf.dtype
    panel_kf, bias_k = _packed(centroid_kf)
    label_N = np.empty(len(local_Nf), np.int64)
    # Both ways' errors of two scores: f products and sums, by the norms of their factors
    share = 4 * (f + 3) * np.finfo(dtype).eps / 2
    size = np.sqrt(np.einsum("kf,kf->k", panel_kf, panel_kf, dtype=np.float64).max())
    step = max(16, _BLOCK_SCORES // k)
    for begin in range(0, len(local_Nf), step):
        local_nf = local_Nf[begin : begin + step]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            score_nk = local_nf @ panel_kf.T
            score_nk += bias_k
            norm_n = np.sqrt(np.einsum("nf,nf->n", local_nf, local_nf, dtype=np.float64))
            doubt_n = share * (norm_n * size + np.abs(bias_k).max()) + f * np.finfo(dtype).tiny
        label_n = np.argmax(score_nk, axis=1, out=label_N[begin : begin + step])
        top_n = score_nk[np.arange(len(label_n)), label_n]
        check_overflow(top_n)
        is_near_nk = score_nk >= (top_n - 1.001 * doubt_n)[:, None]
        row = np.flatnonzero(np.count_nonzero(is_near_nk, axis=1) > 1)
        if len(row) > _FEW_ROWS:  # equal rows once: 4,000 that tie everywhere took 2 s
            _, first, copy = np.unique(
                local_nf[row], axis=0, return_index=True, return_inverse=True
            )
            row_u = row[first]
            label_u = _decide(local_nf[row_u], panel_kf, bias_k, is_near_nk[row_u])
            label_n[row] = label_u[copy.reshape(-1)]  # NumPy 2.0 gives it two axes
        elif len(row):
            label_n[row] = _decide(local_nf[row], panel_kf, bias_k, is_near_nk[row])
    return label_N


def _decide(
    local_nf: FloatArray, panel_kf: FloatArray, bias_k: FloatArray, is_near_nk: AnyArray
) -> Int64Array:
    """Labels among the centroids that are near, by the scores of `fused`."""
    row, label = np.nonzero(is_near_nk)
    multiply_add = _fused_multiply_add if rounds_once() else _multiply_add
    score = bias_k[label]
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(local_nf.shape[1]):
            score = multiply_add(local_nf[row, j], panel_kf[label, j], score)
    score_nk = np.full(is_near_nk.shape, -np.inf, panel_kf.dtype)
    score_nk[row, label] = score
    label_n: Int64Array = np.argmax(score_nk, axis=1)
    return label_n


def _packed(centroid_kf: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Panel (k, f) and bias (k,) of `vladkit.kernels.compiled.pack`, by the same steps."""
    k = len(centroid_kf)
    wide_kf = centroid_kf.astype(np.float64)
    mean_f = np.add.accumulate(wide_kf, axis=0)[-1] / k  # in order, as a sum might not be
    peak_f = np.abs(wide_kf - mean_f).max(axis=0)
    step_f = _power_of_2(peak_f)
    origin_f = np.where(peak_f > 0, np.rint(mean_f / step_f) * step_f, wide_kf[0])
    size = np.maximum(_power_of_2(peak_f.max()), 2.0**-1000)
    direction_kf = wide_kf - origin_f
    scaled_kf = direction_kf * (1 / size) * (1 / _power_of_2(np.sqrt(size)))
    term_kf = scaled_kf * (0.5 * direction_kf + origin_f)
    bias_k = -np.add.accumulate(term_kf, axis=1)[:, -1]
    with np.errstate(over="ignore"):
        return scaled_kf.astype(centroid_kf.dtype), bias_k.astype(centroid_kf.dtype)


def _power_of_2(value: Any) -> Any:
    mantissa, _ = np.frexp(value)
    return np.where(value > 0, value / np.where(value > 0, 2 * mantissa, 1), 1.0)


@lru_cache
def rounds_once() -> bool | None:
    """Whether compiled multiply-adds round once; None where that cannot be known without Numba."""
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
        return None
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    module: Any = getattr(np, "_core", None)
    has = getattr(getattr(module, "_multiarray_umath", None), "__cpu_features__", {})
    return has.get("FMA3")


def _multiply_add(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    product: FloatArray = a * b
    return product + c


def _fused_multiply_add(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """Correctly rounded ``a * b + c``: Boldo and Melquiond, IEEE Trans. Comput. 57 (2008).

    Of float32 a product is exact in float64. Of float64 it is two numbers, its rounding and the
    rest. What is added last is rounded to odd: its last bit says that there was a rest, so that
    rounding it once more goes the right way.
    """
    if a.dtype == np.float32:
        narrow: FloatArray = _add_to_odd(a.astype(np.float64) * b, c.astype(np.float64))
        return narrow.astype(np.float32)
    high, low = a * b, np.zeros_like(a)
    a_high, b_high = _upper_half(a), _upper_half(b)
    a_low, b_low = a - a_high, b - b_high
    low = ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low
    middle, rest = _two_sum(c, low)
    top, second = _two_sum(high, middle)
    total: FloatArray = top + _add_to_odd(second, rest)
    return total


def _upper_half(value: FloatArray) -> FloatArray:
    """Upper 26 bits of float64."""
    split = value * 134217729.0  # 2^27 + 1
    upper: FloatArray = split - (split - value)
    return upper


def _two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum and its rounding error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _add_to_odd(a: FloatArray, b: FloatArray) -> FloatArray:
    """Sum of float64, rounded to the odd neighbour where it is not exact."""
    total, rest = _two_sum(a, b)
    bits = total.view(np.int64)
    is_even = (rest != 0) & (bits & 1 == 0)
    away = np.where((rest > 0) == (total > 0), 1, -1)
    odd: FloatArray = np.where(is_even, bits + away, bits).view(np.float64)
    return odd
