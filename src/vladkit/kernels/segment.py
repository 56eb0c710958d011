"""Loops over rows and their segments that Numba compiles.

Each takes rows in their order and adds to what its outputs hold, so that rows may come in blocks,
and a sum has the bits of NumPy's ``add.at`` (`vladkit.kernels.rows`). Each returns -1, or the first
row whose segment does not exist; rows before that are in the outputs.

None calls anything outside this file but `prefetch`: Numba would not notice a change elsewhere (see
`vladkit.kernels.cached`).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from vladkit.kernels import vector_code
from vladkit.kernels.cached import compiled
from vladkit.kernels.vector_code import prefetch

__all__ = ["add", "add_own", "add_sorted", "extreme", "extreme_own", "multiply", "sort"]

_OPTIONS: Final = {"error_model": "numpy"}
_KEPT: Final[dict[str, Any]] = _OPTIONS | {"beside": (vector_code.__file__,)}

_AHEAD: Final = 12
"""Rows from the one in work to the one whose output is being fetched."""

_CACHED: Final = 2**15
"""Values of an output that is small enough to stay in L2: no fetching."""

_FETCHED: Final = 128
"""Values of a row that are fetched ahead; the processor notices the rest by itself."""

_BLOCK: Final = 2**12
"""Rows that are added in one way."""


@compiled(**_KEPT)
def add(values_Nf, segment_N, total_sf, count_s):  # type: ignore[no-untyped-def]
    """Add rows to the sums of their segments, and count them where `count_s` is not empty."""
    n, f = values_Nf.shape
    value_M, total_M = values_Nf.reshape(-1), total_sf.reshape(-1)
    is_cached = len(total_M) <= _CACHED
    for begin in range(0, n, _BLOCK):
        end = min(n, begin + _BLOCK)
        segment_n, value_m = segment_N[begin:end], value_M[begin * f : end * f]
        if f == 1 and _has_runs(segment_n):
            bad = _add_runs(value_m, segment_n, total_M, count_s)
        elif f == 1:
            bad = _add_numbers(value_m, segment_n, total_M, count_s)
        elif f == 2 and is_cached:
            bad = _add_2(value_m, segment_n, total_M)
        elif f == 3 and is_cached:
            bad = _add_3(value_m, segment_n, total_M)
        elif f == 4 and is_cached:
            bad = _add_4(value_m, segment_n, total_M)
        else:
            bad = _add_rows(values_Nf[begin:end], segment_n, total_sf)
        if bad >= 0:
            return begin + bad
        if f != 1 and len(count_s):
            for s in segment_n:
                count_s[np.uint64(s)] += 1
    return -1


@numba.njit(**_OPTIONS)
def _has_runs(segment_N):  # type: ignore[no-untyped-def]
    """Whether most of the first rows have the segment of the row before.

    The first, which are read next: some from all over the block took 0.3 of the time of the sums.
    """
    n_same, n = 0, min(len(segment_N), 128)
    for i in range(1, n):
        n_same += segment_N[i] == segment_N[i - 1]
    return 8 * n_same > 7 * n


@numba.njit(**_OPTIONS)
def _add_runs(value_N, segment_N, total_s, count_s):  # type: ignore[no-untyped-def]
    """`add` for one column, where most rows are of the segment of the row before.

    A sum that has just been stored comes back from memory late; here it stays in a register:
    3.8 -> 1.0 ms for 1e6 sorted float64 and 1,000 segments. (1.0 -> 2.2 where runs are of 3 rows.)
    """
    n, n_segments = len(segment_N), np.uint64(len(total_s))
    if n == 0:
        return -1
    s = np.uint64(segment_N[0])
    if s >= n_segments:
        return 0
    total, first = total_s[s], 0
    for i in range(n):
        next_s = np.uint64(segment_N[i])
        if next_s != s:
            if next_s >= n_segments:
                return i
            total_s[s] = total
            if len(count_s):
                count_s[s] += i - first
            s, first = next_s, i
            total = total_s[s]
        total += value_N[i]
    total_s[s] = total
    if len(count_s):
        count_s[s] += n - first
    return -1


@numba.njit(**_OPTIONS)
def _add_numbers(value_N, segment_N, total_s, count_s):  # type: ignore[no-untyped-def]
    """`add` for one column. To count in a loop of its own takes three times as long: 0.5 ms of 1e6
    rows, here 0.15.
    """
    n, n_segments = len(segment_N), np.uint64(len(total_s))
    is_large, is_counted = len(total_s) > _CACHED, len(count_s) > 0
    for i in range(n):
        s = np.uint64(segment_N[i])
        if s >= n_segments:
            return i
        if is_large:
            prefetch(total_s, segment_N[min(n - 1, i + _AHEAD)])
        total_s[s] += value_N[i]
        if is_counted:
            count_s[s] += 1
    return -1


def _add_few(f: int) -> Any:
    """`add` for `f` columns, a number that the compiler knows: half the time of any number."""

    @numba.njit(**_OPTIONS)
    def add_few(value_M, segment_N, total_M):  # type: ignore[no-untyped-def]
        n_segments = np.uint64(len(total_M) // f)
        for i in range(len(segment_N)):
            s = np.uint64(segment_N[i])
            if s >= n_segments:
                return i
            for j in range(f):
                total_M[s * np.uint64(f) + np.uint64(j)] += value_M[i * f + j]
        return -1

    return add_few


_add_2, _add_3, _add_4 = _add_few(2), _add_few(3), _add_few(4)


@numba.njit(**_OPTIONS)
def _add_rows(values_Nf, segment_N, total_sf):  # type: ignore[no-untyped-def]
    n, f = values_Nf.shape
    total_M = total_sf.reshape(-1)
    n_segments = np.uint64(total_sf.shape[0])
    is_large = len(total_M) > _CACHED
    for i in range(n):
        s = np.uint64(segment_N[i])
        if s >= n_segments:
            return i
        if is_large:
            first = segment_N[min(n - 1, i + _AHEAD)] * f
            for j in range(first, first + f, 8):
                prefetch(total_M, j)
        for j in range(f):
            total_sf[s, j] += values_Nf[i, j]
    return -1


@compiled(**_KEPT)
def add_own(  # type: ignore[no-untyped-def]
    values_Nf, segment_N, total_sf, count_s, low, most
):
    """`add` for rows of segments from `low` to ``low + most`` alone, both uint64.

    Threads that have a range each write to one output, and need no copies of it. What does not
    exist is in the last range, which ends with the last number that there is.
    """
    n, f = values_Nf.shape
    total_M = total_sf.reshape(-1)
    n_segments, is_counted = np.uint64(total_sf.shape[0]), len(count_s) > 0
    own_b = np.empty(_BLOCK + _AHEAD, np.int64)
    for begin in range(0, n, _BLOCK):
        for k in range(_find_own(segment_N, begin, min(n, begin + _BLOCK), low, most, own_b)):
            i = np.uint64(own_b[k])
            s = np.uint64(segment_N[i])
            if s >= n_segments:
                return np.int64(i)
            first = segment_N[np.uint64(own_b[k + _AHEAD])] * f
            for j in range(first, first + f, 8):
                prefetch(total_M, j)
            for j in range(f):
                total_sf[s, j] += values_Nf[i, j]
            if is_counted:
                count_s[s] += 1
    return -1


@numba.njit(**_OPTIONS)
def _find_own(segment_N, begin, end, low, most, own_b):  # type: ignore[no-untyped-def]
    """Number of rows of a block whose segments are in a range; these rows, and the last again.

    Without a branch: which rows these are cannot be foreseen. 0.3 ns a row.
    """
    m = np.uint64(0)
    for i in range(begin, end):
        own_b[m] = i
        m += np.uint64(np.uint64(segment_N[np.uint64(i)]) - low <= most)
    for k in range(m, m + np.uint64(_AHEAD) if m else m):
        own_b[k] = own_b[m - np.uint64(1)]
    return np.int64(m)


@numba.njit(**_OPTIONS)
def _first_outside(segment_N, n_segments):  # type: ignore[no-untyped-def]
    """First row whose segment does not exist, or -1."""
    outside = np.int64(0)
    for i in range(len(segment_N)):  # the sign bit says; so the loop is one of vectors
        outside |= segment_N[i] | (n_segments - 1 - segment_N[i])
    if outside < 0:
        for i in range(len(segment_N)):
            if segment_N[i] < 0 or segment_N[i] >= n_segments:
                return i
    return -1


@compiled(**_KEPT)
def multiply(values_Nf, segment_N, product_sf):  # type: ignore[no-untyped-def]
    """Multiply the products of segments by their rows."""
    n, f = values_Nf.shape
    bad = _first_outside(segment_N, product_sf.shape[0])
    if bad >= 0:
        return bad
    for i in range(n):
        s = segment_N[i]
        for j in range(f):
            product_sf[s, j] *= values_Nf[i, j]
    return -1


@compiled(**_KEPT)
def extreme(  # type: ignore[no-untyped-def]
    values_Nf, segment_N, best_sf, row_sf, first_row, least
):
    """Keep the least rows of segments (else the greatest), and where row_sf is not empty, their
    numbers, counted from `first_row`; -1 there is a segment without rows so far.

    NaN is less, and greater, than everything. Of equal rows the first one stays.
    """
    n, f = values_Nf.shape
    if f != 1 or row_sf.shape[0] > 0:
        bad = _first_outside(segment_N, best_sf.shape[0])
        if bad >= 0:
            return bad
    if row_sf.shape[0] > 0:
        for i in range(n):
            s = np.uint64(segment_N[i])
            for j in range(f):
                x, best = values_Nf[i, j], best_sf[s, j]
                better = x < best if least else x > best
                if better or row_sf[s, j] < 0 or (x != x and best == best):
                    best_sf[s, j] = x
                    row_sf[s, j] = first_row + i
        return -1
    for begin in range(0, n, _BLOCK):
        some_nf, segment_n = values_Nf[begin : begin + _BLOCK], segment_N[begin : begin + _BLOCK]
        if f == 1:
            bad = _keep_numbers(some_nf.reshape(-1), segment_n, best_sf.reshape(-1), least)
            if bad >= 0:
                return begin + bad
        else:
            _keep_rows(some_nf, segment_n, best_sf, least)
            _keep_nan(some_nf, segment_n, best_sf)
    return -1


@compiled(**_KEPT)
def extreme_own(  # type: ignore[no-untyped-def]
    values_Nf, segment_N, best_sf, least, low, most
):
    """`extreme` without numbers of rows, for segments of a range alone: see `add_own`."""
    n, f = values_Nf.shape
    best_M = best_sf.reshape(-1)
    n_segments = np.uint64(best_sf.shape[0])
    own_b = np.empty(_BLOCK + _AHEAD, np.int64)
    for begin in range(0, n, _BLOCK):
        for k in range(_find_own(segment_N, begin, min(n, begin + _BLOCK), low, most, own_b)):
            i = np.uint64(own_b[k])
            s = np.uint64(segment_N[i])
            if s >= n_segments:
                return np.int64(i)
            first = segment_N[np.uint64(own_b[k + _AHEAD])] * f
            for j in range(first, first + f, 8):
                prefetch(best_M, j)
            if least:
                for j in range(f):
                    x, best = values_Nf[i, j], best_sf[s, j]
                    best_sf[s, j] = x if (x < best) | (x != x) else best
            else:
                for j in range(f):
                    x, best = values_Nf[i, j], best_sf[s, j]
                    best_sf[s, j] = x if (x > best) | (x != x) else best
    return -1


@numba.njit(**_OPTIONS)
def _keep_numbers(value_N, segment_N, best_s, least):  # type: ignore[no-untyped-def]
    """`extreme` for one column: a store that is left out is not waited for.

    What is not greater (or less) is less, equal to nothing as NaN is, or beside a NaN, which stays.
    """
    n_segments = np.uint64(len(best_s))
    if least:
        for i in range(len(segment_N)):
            s = np.uint64(segment_N[i])
            if s >= n_segments:
                return i
            if not value_N[i] >= best_s[s] and best_s[s] == best_s[s]:
                best_s[s] = value_N[i]
    else:
        for i in range(len(segment_N)):
            s = np.uint64(segment_N[i])
            if s >= n_segments:
                return i
            if not value_N[i] <= best_s[s] and best_s[s] == best_s[s]:
                best_s[s] = value_N[i]
    return -1


@numba.njit(**_OPTIONS)
def _keep_rows(values_Nf, segment_N, best_sf, least):  # type: ignore[no-untyped-def]
    """`extreme` for several columns without NaN."""
    n, f = values_Nf.shape
    for i in range(n):
        s = np.uint64(segment_N[i])
        if least:
            for j in range(f):
                x, best = values_Nf[i, j], best_sf[s, j]
                best_sf[s, j] = x if x < best else best
        else:
            for j in range(f):
                x, best = values_Nf[i, j], best_sf[s, j]
                best_sf[s, j] = x if x > best else best


@numba.njit(**_OPTIONS)
def _keep_nan(values_Nf, segment_N, best_sf):  # type: ignore[no-untyped-def]
    """Write NaN where rows hold it; nothing is less or greater, so it stays."""
    n, f = values_Nf.shape
    value_M = values_Nf.reshape(-1)
    n_nan = 0
    for i in range(len(value_M)):
        n_nan += value_M[i] != value_M[i]
    if n_nan:
        for i in range(n):
            for j in range(f):
                if values_Nf[i, j] != values_Nf[i, j]:
                    best_sf[segment_N[i], j] = values_Nf[i, j]


@compiled(**_KEPT)
def sort(segment_N, start_S, order_N):  # type: ignore[no-untyped-def]
    """Write rows sorted by segment, stable, and where each segment starts (of zeros)."""
    n_segments = len(start_S) - 1
    bad = _first_outside(segment_N, n_segments)
    if bad >= 0:
        return bad
    for s in segment_N:
        start_S[s + 1] += 1
    for s in range(n_segments):
        start_S[s + 1] += start_S[s]
    free_s = start_S[:-1].copy()
    for i in range(len(segment_N)):
        s = segment_N[i]
        order_N[free_s[s]] = i
        free_s[s] += 1
    return -1


@compiled(**_KEPT)
def add_sorted(  # type: ignore[no-untyped-def]
    values_Nf, order_N, start_S, first, last, row_f, total_sf
):
    """Write the sums of segments `first` to `last` (not included); four rows at a time.

    A sum is taken in `row_f`, which stays in cache, and goes through it once for four rows.
    """
    n, f = values_Nf.shape
    value_M = values_Nf.reshape(-1)
    fetched = min(f, _FETCHED)
    for s in range(first, last):
        i, end = start_S[s], start_S[s + 1]
        for ahead in range(i + _AHEAD, min(end + _AHEAD, n)):
            begin = order_N[ahead] * f
            for j in range(begin, begin + fetched, 16):
                prefetch(value_M, j)
        if end - i < 2:
            for j in range(f):
                total_sf[s, j] = values_Nf[order_N[i], j] if i < end else 0
            continue
        a, b = order_N[i], order_N[i + 1]
        for j in range(f):
            row_f[j] = row_f.dtype.type(values_Nf[a, j]) + values_Nf[b, j]
        i += 2
        while i + 4 <= end:
            a, b, c, d = order_N[i], order_N[i + 1], order_N[i + 2], order_N[i + 3]
            for j in range(f):
                first_two = row_f[j] + values_Nf[a, j] + values_Nf[b, j]
                row_f[j] = first_two + values_Nf[c, j] + values_Nf[d, j]
            i += 4
        while i < end:
            for j in range(f):
                row_f[j] += values_Nf[order_N[i], j]
            i += 1
        for j in range(f):
            total_sf[s, j] = row_f[j]
