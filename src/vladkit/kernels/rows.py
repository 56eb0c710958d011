"""NumPy: rows into segments without a loop in Python, a column at a time.

Functions of `vladkit.kernels.segment`, for a process that has not loaded Numba: the same arguments,
and the same results to the bit. ``ufunc.at`` takes rows in their order, as a loop does, and is fast
where all arrays have one axis and one dtype (NumPy 1.25): 0.7 ns for a number, 6 ns with two axes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array

__all__ = ["add", "extreme", "multiply"]

_BLOCK_VALUES: Final = 2**16
"""Values of a block, which stays in L2 while its columns are read: 0.5 MB."""


def add(values_Nf: AnyArray, segment_N: Int64Array, total_sf: AnyArray, count_s: Int64Array) -> int:
    """Add rows to the sums of their segments, and count them where `count_s` is not empty."""
    bad = _first_outside(segment_N, len(total_sf))
    if bad < 0:
        _at(np.add, values_Nf, segment_N, total_sf)
        if len(count_s):
            count_s += np.bincount(segment_N, minlength=len(count_s))
    return bad


def multiply(values_Nf: AnyArray, segment_N: Int64Array, product_sf: AnyArray) -> int:
    """Multiply the products of segments by their rows."""
    bad = _first_outside(segment_N, len(product_sf))
    if bad < 0:
        _at(np.multiply, values_Nf, segment_N, product_sf)
    return bad


def extreme(
    values_Nf: AnyArray,
    segment_N: Int64Array,
    best_sf: AnyArray,
    row_sf: Int64Array,
    first_row: int,
    least: bool,
) -> int:
    """Keep the least (or greatest) rows of segments, and where row_sf is not empty, their numbers.

    The row of an extreme is the first that equals it, or is NaN as it is.
    """
    bad = _first_outside(segment_N, len(best_sf))
    if bad >= 0:
        return bad
    before_sf = best_sf.copy() if len(row_sf) else best_sf
    with np.errstate(invalid="ignore"):  # NumPy warns of NaN here, and nowhere else
        _at(np.minimum if least else np.maximum, values_Nf, segment_N, best_sf)
    if not len(row_sf):
        return bad
    for j in range(values_Nf.shape[1]):
        row = np.flatnonzero(_equal(values_Nf[:, j], best_sf[segment_N, j]))[::-1]
        found_s = np.full(len(best_sf), -1)
        found_s[segment_N[row]] = row + first_row  # the last that is written stays: the first row
        is_kept_s = (row_sf[:, j] >= 0) & _equal(before_sf[:, j], best_sf[:, j])
        row_sf[:, j] = np.where(is_kept_s, row_sf[:, j], found_s)
    return bad


def _at(ufunc: Any, values_Nf: AnyArray, segment_N: Int64Array, result_sf: AnyArray) -> None:
    n, f = values_Nf.shape
    step = max(256, _BLOCK_VALUES // max(f, 1))
    for begin in range(0, n, step):
        wide_nf = values_Nf[begin : begin + step].astype(result_sf.dtype, copy=False)
        segment_n = segment_N[begin : begin + step]
        for j in range(f):
            ufunc.at(result_sf[:, j], segment_n, wide_nf[:, j])


def _equal(a: AnyArray, b: AnyArray) -> AnyArray:
    equal: AnyArray = (a == b) | ((a != a) & (b != b))
    return equal


def _first_outside(segment_N: Int64Array, n_segments: int) -> int:
    """First row whose segment does not exist, or -1: numbers below 0 are large without a sign."""
    if not len(segment_N) or np.maximum.reduce(segment_N.view(np.uint64)) < n_segments:
        return -1
    return int(np.argmax((segment_N < 0) | (segment_N >= n_segments)))
