"""Reductions of rows within segments, of NumPy's arrays: sums, products, extremes.

Rows are taken in their order, and floats are summed in float64; many rows in parts that threads
share, whose sums are added in order. Shapes alone decide on the parts. So a result is the same to
the bit whichever loops compute it, compiled ones (`vladkit.kernels.segment`) or NumPy's
(`vladkit.kernels.rows`), and on any number of threads. Rows that the loops cannot read in place are
converted in blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.kernels import rows as numpy_loops
from vladkit.kernels.loading import Code
from vladkit.kernels.operations import outside, worst

__all__ = ["extremes", "narrow", "of_numbers", "products", "row_blocks", "sums"]

_BLOCK_VALUES: Final = 2**15
"""Values that are converted at a time, and stay in L2: 256 KB."""

_MANY: Final = 2**20
"""Values of a result beyond which the rows of a segment are brought together first: sums in float64
would take more memory than their results, and be written to all over it."""

_MOST_PARTS: Final = 4
"""Parts of many rows. Each begins with results of its own, and least and greatest rows change most
often in the beginning: those of a million numbers in 1,000 segments take 0.50 ms in 2 parts, 0.55
in 4, 0.69 in 7. Sums take the same time in 2, 4 or 8."""

_PART_VALUES: Final = 2**17
"""Fewest values of a part: 0.1 ms, and a thread wakes up 0.02 to 0.2 ms late."""

_SHARE_VALUES: Final = 2**20
"""Fewest values of a share (`_shares_of`): some 0.5 ms."""

_LOOKED_AT: Final = 256
"""Labels by which rows are shared out."""

_LINE: Final = 64
"""Bytes of a line of cache."""

_LINES: Final = 128
"""Bytes that a core fetches together: a line, and the one beside it."""

_FLOAT64: Final = np.dtype(np.float64)
_NO_ROWS: Final = np.zeros(0, np.int64)
_NO_NUMBERS: Final = np.zeros((0, 1), np.int64)


def sums(
    values_Nf: AnyArray,
    segment_N: AnyArray,
    n_segments: int,
    dtype: np.dtype[Any],
    *,
    weight_N: AnyArray | None = None,
    rows: Callable[[slice], AnyArray] | None = None,
    count_s: Int64Array = _NO_ROWS,
    compiled: bool | None = None,
    in_parts: bool = False,
    n_jobs: int | None = None,
) -> AnyArray:
    """Sums (s, f) of rows, times weights, in `dtype`; rows are counted in `count_s` if it is given.

    Parameters
    ----------
    values_Nf : (N, f) array of float, int, uint or bool
    segment_N : (N,) array of int or uint
    n_segments : int
    dtype : float32, float64, int64 or uint64
    weight_N : (N,) array, optional
    rows : callable, optional
        Gives the values (n, f) of some rows that are summed instead of values_Nf, in float64.
    count_s : (n_segments,) array of int64, optional
        Zeros that the numbers of rows are added to.
    compiled : bool, optional
        Whether to use compiled loops; None is once they are loaded.
    in_parts : bool
        Whether many rows may be summed in parts (`_parts_of`), their sums then added in order: a
        sum depends on all rows, not on those of its segment alone.
    n_jobs : int, optional
        Threads of compiled loops.

    Raises
    ------
    ParameterError
        If a segment does not exist.
    """
    wide = _FLOAT64 if dtype.kind == "f" else dtype
    if weight_N is not None:

        def rows(some: slice) -> AnyArray:
            weighted_nf: AnyArray = values_Nf[some].astype(wide, order="C")
            weighted_nf *= weight_N[some, None].astype(wide)
            return weighted_nf

    if values_Nf.dtype == np.bool_:
        values_Nf = values_Nf.view(np.uint8)
    is_bytes = values_Nf.dtype == np.uint8 and wide.kind != "f"
    is_ready = rows is None and _is_ready(values_Nf, segment_N, np.dtype("B") if is_bytes else wide)
    n, f = values_Nf.shape
    code = _code("add", values_Nf.dtype.char if is_ready else wide.char, wide.char)
    is_chosen_here = compiled is None
    if compiled is None:
        compiled = code.is_ready()
    is_plain = is_ready and not is_bytes and not len(count_s)
    if compiled and is_plain and _is_scattered(n, f, n_segments):
        return _sums_of_sorted(values_Nf, segment_N, n_segments, dtype, n_jobs)
    parts = _parts_of(n, f, n_segments) if in_parts else [slice(0, n)]
    shares = []
    if compiled and is_ready and len(parts) == 1:
        shares = _shares_of(segment_N, f, resolve_n_jobs(n_jobs))
    make = _aligned if f >= 8 or len(parts) > 1 else np.zeros  # which takes 3 us less
    total_psf = [make((n_segments, f), wide) for _ in parts]
    count_ps = [make(count_s.shape, count_s.dtype) for _ in parts]

    def add(loops: Any, value: AnyArray, segment: Int64Array, _: int, p: int) -> int:
        if shares:
            return int(loops.add_own(value, segment, total_psf[0], count_ps[0], *shares[p]))
        return int(loops.add(value, segment, total_psf[p], count_ps[p]))

    noted = code if is_chosen_here else None
    arguments = values_Nf, segment_N, n_segments, wide, is_ready
    parts = [slice(0, n)] * len(shares) or parts
    _run(add, noted, compiled, *arguments, rows=rows, parts=parts, n_jobs=n_jobs)
    total_sf: AnyArray = total_psf[0]
    with np.errstate(over="ignore", invalid="ignore"):  # as in the loops
        for other_sf in total_psf[1:]:  # in order, as `sum` might not
            total_sf += other_sf
    for other_s in count_ps:
        count_s += other_s
    return narrow(total_sf, dtype)


def products(
    values_Nf: AnyArray, segment_N: AnyArray, n_segments: int, dtype: np.dtype[Any]
) -> AnyArray:
    """Products (s, f) of rows in `dtype`; floats are multiplied in float64. See `sums`."""
    wide = _FLOAT64 if dtype.kind == "f" else dtype
    product_sf = np.ones((n_segments, values_Nf.shape[1]), wide)

    def multiply(loops: Any, value: AnyArray, segment: Int64Array, _: int, __: int) -> int:
        return int(loops.multiply(value, segment, product_sf))

    code = _code("multiply", wide.char, wide.char)
    is_ready = _is_ready(values_Nf, segment_N, wide)
    _run(multiply, code, code.is_ready(), values_Nf, segment_N, n_segments, wide, is_ready)
    return narrow(product_sf, dtype)


def extremes(
    values_Nf: AnyArray, segment_N: AnyArray, best_sf: AnyArray, *, least: bool, numbered: bool
) -> AnyArray:
    """Least (or greatest) rows into best_sf; their numbers (s, f) if `numbered`, -1 without rows.

    best_sf holds what is not less (or greater) than any row: float32, float64, int64, uint64, or a
    longdouble, which only NumPy's loops know.
    """
    n_segments = len(best_sf)
    row_sf = np.full(best_sf.shape, -1) if numbered else _NO_NUMBERS
    n, f = values_Nf.shape
    parts = [slice(0, n)] if numbered else _parts_of(n, f, n_segments)
    best_psf = [best_sf, *(_aligned(best_sf.shape, best_sf.dtype) for _ in parts[1:])]
    for other_sf in best_psf[1:]:
        other_sf[...] = best_sf

    dtype = best_sf.dtype
    code = _code("extreme", dtype.char, dtype.char) if dtype in _READY else None
    compiled = code is not None and code.is_ready()
    is_ready = _is_ready(values_Nf, segment_N, dtype)
    shares = []
    if compiled and is_ready and len(parts) == 1 and not numbered:
        shares = _shares_of(segment_N, f, resolve_n_jobs(None))
        parts = [slice(0, n)] * len(shares) or parts

    def keep(loops: Any, value: AnyArray, segment: Int64Array, first: int, p: int) -> int:
        if shares:
            return int(loops.extreme_own(value, segment, best_sf, least, *shares[p]))
        return int(loops.extreme(value, segment, best_psf[p], row_sf, first, least))

    arguments = values_Nf, segment_N, n_segments, dtype, is_ready
    _run(keep, code, compiled, *arguments, parts=parts)
    for other_sf in best_psf[1:]:
        (np.minimum if least else np.maximum)(best_sf, other_sf, out=best_sf)
    return row_sf


def of_numbers(
    value_N: AnyArray, segment_N: Int64Array, n_segments: int, op: str
) -> AnyArray | None:
    """Sums, means or extremes (s,) of float32, float64 or int64, with little around the loop.

    None where the compiled loop is not loaded, cannot read the arrays, or does not know `op`.
    """
    if op not in ("sum", "mean", "min", "max"):
        return None
    dtype = value_N.dtype
    is_extreme = op in ("min", "max")
    if op == "mean" and dtype.kind != "f":
        return None
    wide = _FLOAT64 if dtype.kind == "f" and not is_extreme else dtype
    code = _code("extreme" if is_extreme else "add", dtype.char, wide.char)
    can_read = dtype.isnative and value_N.flags.carray and segment_N.flags.carray
    if not (can_read and value_N.size < 2 * _PART_VALUES and code.is_ready()):
        return None
    loops, value_N1 = _compiled_loops(), value_N.reshape(-1, 1)
    if is_extreme:
        result_s1 = np.empty((n_segments, 1), wide)
        result_s1.fill(worst(dtype, op == "min"))
        bad = loops.extreme(value_N1, segment_N, result_s1, _NO_NUMBERS, 0, op == "min")
        if dtype.kind == "f":
            result_s1 += 0.0  # -0.0 and 0.0 are equal: which one stays is not left to chance
    else:
        count_s = np.zeros(n_segments, np.int64) if op == "mean" else _NO_ROWS
        result_s1 = np.zeros((n_segments, 1), wide)
        bad = loops.add(value_N1, segment_N, result_s1, count_s)
    if bad >= 0:
        raise outside(segment_N, bad, n_segments)
    result_s = result_s1.reshape(-1)
    if op == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where there are no rows
            result_s /= count_s
    return narrow(result_s, dtype)


def narrow(total_sf: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Results in `dtype`, infinity or 0 where they do not fit, as NumPy's own would be."""
    if total_sf.dtype == dtype:
        return total_sf
    with np.errstate(over="ignore", under="ignore"):
        return total_sf.astype(dtype)


def row_blocks(n: int, f: int) -> Iterator[slice]:
    """Rows in blocks of some 100,000 bytes."""
    step = max(1, _BLOCK_VALUES // max(f, 1))
    return (slice(begin, begin + step) for begin in range(0, n, step))


def _parts_of(n: int, f: int, n_segments: int) -> list[slice]:
    """Rows in parts that threads reduce at the same time, each into results of its own.

    Only shapes decide, so that results are the same on any number of threads. To write the
    first zeros of results and to add them up is at most some 1/16 of the work. (100,000 x 64 into
    1,000: 1.1 ms in 4 parts, 1.3 in 8, 2.1 in one; 1,000,000 x 8 into 100,000: 5 ms in one part, 6
    in two, 20 in four.) Numbers that go to many segments wait for memory, and may take more:
    1,000,000 into 300,000 take 1.8 ms, in two parts 1.1. Many wide rows are shared out by their
    segments (`_shares_of`) where these have fewer than 128 each: of 100,000 x 64 into 1,000 that
    takes 0.65 to 0.9 of the time of parts; of 200,000 x 128 into 64 it would take 1.6.
    """
    n_parts = min(_MOST_PARTS, n * f // _PART_VALUES)
    each = n / max(1, n_segments)  # rows of a segment
    is_shared = f >= 16 and n * f >= 2 * _SHARE_VALUES
    least = 128 if is_shared else 16
    n_parts = min(n_parts, max(int(each / least), 2 if f == 1 and each >= 3 else 1))
    if n_parts < 2 or n_segments * f > _MANY:
        return [slice(0, n)]
    fence = [n * p // n_parts for p in range(n_parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(fence)]


def _shares_of(segment_N: Int64Array, f: int, n_jobs: int) -> list[tuple[np.uint64, np.uint64]]:
    """Ranges of segments with about as many rows each: the first, and how many follow it.

    For threads that write to one result where each in one of its own (`_parts_of`) is too much: one
    takes the rows of a range, in their order, so results are as on one thread. None where that
    does not pay: each looks at all labels, which is the better part of adding numbers. On two cores
    that had nothing else to do 32,768 x 64 into 4,096 took 0.75 of the time, 1,000,000 x 8 into
    100,000 0.6; on a thread that finds no second core they take 1.1 and 1.5 times as long.
    """
    n = len(segment_N)
    n_shares = min(n_jobs, n * f // _SHARE_VALUES)
    if n_shares < 2 or f == 1:
        return []
    some_m = np.sort(segment_N[:: max(1, n // _LOOKED_AT)].view(np.uint64))
    low = np.unique(some_m[len(some_m) * np.arange(1, n_shares) // n_shares])
    fence = [0, *low[low > 0].tolist(), 2**64]
    ranges = itertools.pairwise(fence)
    return [(np.uint64(a), np.uint64(b - a - 1)) for a, b in ranges] if len(fence) > 2 else []


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    """Zeros that begin with a line of cache, and have the last of their lines to themselves.

    Vectors of 64 bytes that lie in two lines are read and written as two: sums of 32,768 x 64 into
    4,096 took 0.43 ms instead of 0.32. Two cores that write to one line wait for each other: a
    million numbers into two segments took 1.9 ms instead of 1.0.
    """
    size = math.prod(shape)
    padded: AnyArray = np.zeros(size + (_LINE + _LINES) // dtype.itemsize, dtype)
    begin = -padded.ctypes.data % _LINE // dtype.itemsize
    return padded[begin : begin + size].reshape(shape)


def _run(
    loop: Callable[[Any, AnyArray, Int64Array, int, int], int],
    code: Code | None,
    compiled: bool,
    values_Nf: AnyArray,
    segment_N: AnyArray,
    n_segments: int,
    dtype: np.dtype[Any],
    is_ready: bool,
    *,
    rows: Callable[[slice], AnyArray] | None = None,
    parts: Sequence[slice] | None = None,
    n_jobs: int | None = None,
) -> None:
    """Give parts of rows to a loop, whole where it can read them, else converted in blocks."""
    loops: Any = _compiled_loops() if compiled else numpy_loops
    begin = 0.0 if compiled else perf_counter()
    n, f = values_Nf.shape
    parts = parts or [slice(0, n)]
    bad_p = [-1] * len(parts)

    def run(p: int) -> None:
        part = parts[p]
        if is_ready:
            bad = loop(loops, values_Nf[part], segment_N[part], part.start, p)
            bad_p[p] = bad if bad < 0 else part.start + bad
            return
        for block in row_blocks(part.stop - part.start, f):
            some = slice(part.start + block.start, min(part.start + block.stop, part.stop))
            value = np.array(values_Nf[some], dtype, order="C") if rows is None else rows(some)
            segment = np.require(segment_N[some], np.int64, ["C", "A", "W"])
            bad = loop(loops, value, segment, some.start, p)
            if bad >= 0:
                bad_p[p] = some.start + bad
                return

    for_each(run, len(parts), resolve_n_jobs(n_jobs) if compiled and len(parts) > 1 else 1)
    bad = min((bad for bad in bad_p if bad >= 0), default=-1)
    if bad >= 0:
        raise outside(segment_N, bad, n_segments)
    if code is None:
        return
    if compiled:
        code.mark_ready()
    else:
        code.note(perf_counter() - begin)


_READY: Final = {np.dtype(t) for t in (np.uint8, np.float32, np.float64, np.int64, np.uint64)}


def _is_ready(values_Nf: AnyArray, segment_N: AnyArray, dtype: np.dtype[Any]) -> bool:
    """Whether the loops can read the rows in place, for results in `dtype`.

    `carray` also means writable: Numba compiles for arrays that may and may not be written, and
    one of them is enough.
    """
    return (
        values_Nf.dtype in _READY
        and (values_Nf.dtype == dtype or values_Nf.dtype.kind == dtype.kind == "f")
        and values_Nf.flags.carray
        and segment_N.dtype == np.int64
        and segment_N.flags.carray
    )


def _is_scattered(n: int, f: int, n_segments: int) -> bool:
    """Whether to sort rows first: many wide results, of few rows each.

    With 100,000 x 64 float32 and 100,000 segments 8 ms instead of 24; with 10,000 6.5 instead of
    3.8.
    """
    return n_segments * f > _MANY and ((f >= 16 and n <= 4 * n_segments) or f >= 512)


def _sums_of_sorted(
    values_Nf: AnyArray,
    segment_N: Int64Array,
    n_segments: int,
    dtype: np.dtype[Any],
    n_jobs: int | None,
) -> AnyArray:
    """Sums after a counting sort; threads take segments with about as many rows each."""
    loops = _compiled_loops()
    n, f = values_Nf.shape
    start_S, order_N = np.zeros(n_segments + 1, np.int64), np.empty(n, np.int64)
    bad = loops.sort(segment_N, start_S, order_N)
    if bad >= 0:
        raise outside(segment_N, bad, n_segments)
    total_sf = np.empty((n_segments, f), dtype)
    jobs = resolve_n_jobs(n_jobs)
    parts = 4 * jobs if jobs > 1 else 1
    fence = np.searchsorted(start_S, np.arange(parts) * n // parts)
    fence = np.append(np.minimum(fence, n_segments), n_segments)
    fence[0] = 0

    def run(i: int) -> None:
        row_f = _aligned((f,), _FLOAT64 if dtype.kind == "f" else dtype)
        loops.add_sorted(values_Nf, order_N, start_S, fence[i], fence[i + 1], row_f, total_sf)

    for_each(run, parts, jobs)
    return total_sf


@lru_cache(1)
def _compiled_loops() -> Any:
    from vladkit.kernels import segment

    return segment


@lru_cache
def _code(loop: str, char: str, wide: str) -> Code:
    """Compiled code of a loop for values of a dtype, and results of another."""

    def load() -> None:
        value = np.zeros((1, 1), char)
        segment = np.zeros(1, np.int64)
        total = np.zeros((1, 1), wide)
        rest: tuple[Any, ...] = {
            "add": (np.zeros(0, np.int64),),
            "multiply": (),
            "extreme": (_NO_NUMBERS.copy(), 0, True),
        }[loop]
        loops, own = _compiled_loops(), (np.uint64(0), np.uint64(0))
        getattr(loops, loop)(value, segment, total, *rest)
        if loop == "add":
            loops.add_own(value, segment, total, *rest, *own)
        elif loop == "extreme":
            loops.extreme_own(value, segment, total, True, *own)

    return Code(load)
