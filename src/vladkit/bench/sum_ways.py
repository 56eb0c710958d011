"""Ways to reduce rows within segments: vladkit's, and those of others, as their users write them.

Each builds a call: the arrays are converted to what its library works on before the time is taken.
Results of tables (pandas, polars) have only the segments in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit.aggregation.segments import segment_reduce
from vladkit.bench.results import LeftOut
from vladkit.bench.sum_cases import SumCase
from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.kernels import loading

__all__ = ["READ", "SUM_WAYS", "SumWay", "as_array_of", "sum_ways_for"]

READ: Final = "read"
"""Floor: values and labels read once, by NumPy's sum."""

Call: TypeAlias = Callable[[], Any]

_WARM: Final = 0.05
"""Seconds of calls after which vladkit has begun to load compiled code, if it ever does."""


@dataclass(frozen=True)
class SumWay:
    """A program that reduces rows within segments.

    Parameters
    ----------
    name : str
    text : str
        One line on how it works.
    bind : callable
        Takes values, segments and the case; returns the call to time, or None if the program does
        another job than the case.
    module, package : str
        Module that it needs, and what pip calls it.
    """

    name: str
    text: str
    bind: Callable[[AnyArray, Int64Array, SumCase], Call | None]
    module: str = "numpy"
    package: str = "numpy"


def sum_ways_for(only: Sequence[str] | None = None) -> tuple[list[SumWay], list[LeftOut]]:
    """All ways whose module is installed, or those of `only`, and the others with the reason."""
    wanted = [way for way in SUM_WAYS if only is None or way.name in (*only, "vladkit", READ)]
    is_there = {way.name: find_spec(way.module) is not None for way in wanted}
    missing = [
        LeftOut(way.name, f"needs {way.package}, which is not installed: pip install {way.package}")
        for way in wanted
        if not is_there[way.name]
    ]
    return [way for way in wanted if is_there[way.name]], missing


def as_array_of(result: Any, case: SumCase) -> AnyArray:
    """A way's result as an array (n_segments,) or (n_segments, f); segments without rows are 0."""
    shape = (case.n_segments,) if case.f == 1 else (case.n_segments, case.f)
    kind = type(result).__module__.partition(".")[0]
    if kind not in ("pandas", "polars"):
        array = np.asarray(result)
        return array.T if array.shape == shape[::-1] != shape else array  # numbagg: (f, s)
    total = np.zeros(shape, np.float64)
    if kind == "pandas":
        total[result.index] = result.to_numpy().reshape(-1, *shape[1:])
    else:
        columns = result.drop("segment").to_numpy()
        total[result["segment"].to_numpy()] = columns.reshape(-1, *shape[1:])
    return total


def _read(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    return lambda: (np.add.reduce(values, axis=None), np.add.reduce(segment))


def _vladkit(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    def call() -> Any:
        return segment_reduce(values, segment, case.n_segments, case.op)

    until = time.perf_counter() + _WARM
    while time.perf_counter() < until:
        call()
    loading.wait_for_all()
    return call


_AT: Final[dict[str, Any]] = {"sum": np.add, "min": np.minimum, "max": np.maximum}
_EMPTY: Final = {"sum": 0, "mean": 0, "min": np.inf, "max": -np.inf}


def _filled(case: SumCase) -> AnyArray:
    """Result of no rows."""
    dtype = case.result_dtype
    value: float = _EMPTY[case.op]
    if dtype.kind == "i" and value:
        value = np.iinfo(dtype).max if value > 0 else np.iinfo(dtype).min
    shape = (case.n_segments,) if case.f == 1 else (case.n_segments, case.f)
    return np.full(shape, value, dtype)


def _add_at(values: AnyArray, segment: Int64Array, case: SumCase) -> Call | None:
    if case.op not in _AT:
        return None
    at, dtype = _AT[case.op].at, case.result_dtype

    def call() -> AnyArray:
        total = _filled(case)
        at(total, segment, values.astype(dtype, copy=False))  # of one dtype: the fast path
        return total

    return call


def _bincount(values: AnyArray, segment: Int64Array, case: SumCase) -> Call | None:
    s = case.n_segments
    if case.f > 1 or case.op != "sum" or case.dtype == "int64":  # exact only to 2^53
        return None
    if case.dtype == "bool":
        return lambda: np.bincount(segment[values], minlength=s)
    return lambda: np.bincount(segment, values, s).astype(values.dtype, copy=False)


def _sorted_runs(
    values: AnyArray, segment: Int64Array, case: SumCase
) -> tuple[AnyArray, Int64Array]:
    """Rows sorted by segment, which those who have sorted ones leave out."""
    if case.order == "sorted":
        return values, segment
    order = np.argsort(segment)  # not stable, and faster: vectorised since NumPy 1.25
    return values[order], segment[order]


def _reduceat(values: AnyArray, segment: Int64Array, case: SumCase) -> Call | None:
    if case.op not in _AT:
        return None

    def call() -> AnyArray:
        value, label = _sorted_runs(values, segment, case)
        first = np.flatnonzero(np.diff(label, prepend=-1))
        total = _filled(case)
        total[label[first]] = _AT[case.op].reduceat(value, first, dtype=total.dtype)
        return total

    return call


def _sparse(values: AnyArray, segment: Int64Array, case: SumCase) -> Call | None:
    if case.op != "sum":
        return None
    from scipy.sparse import csr_array

    def call() -> AnyArray:
        one, start = np.ones(case.n, case.result_dtype), np.arange(case.n + 1)
        matrix = csr_array((one, segment, start), shape=(case.n, case.n_segments))
        total: AnyArray = matrix.T @ values
        return total

    return call


_COMBINE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "sum": lambda a, b: a + b,
    "min": lambda a, b: min(a, b),  # Numba compiles no builtin by itself
    "max": lambda a, b: max(a, b),
}


@cache
def _numba_loops(op: str) -> tuple[Any, Any]:
    """Loops that a user writes, for values (N,) and (N, f)."""
    import numba

    combine = numba.njit(_COMBINE[op])

    @numba.njit
    def loop(values, segment, total):  # type: ignore[no-untyped-def]
        for i in range(len(segment)):
            total[segment[i]] = combine(total[segment[i]], values[i])

    @numba.njit
    def loop_rows(values, segment, total):  # type: ignore[no-untyped-def]
        for i in range(len(segment)):
            for j in range(values.shape[1]):
                total[segment[i], j] = combine(total[segment[i], j], values[i, j])

    return loop, loop_rows


def _numba(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    loop = _numba_loops("sum" if case.op == "mean" else case.op)[values.ndim - 1]

    def call() -> AnyArray:
        total = _filled(case)
        loop(values, segment, total)
        return total

    def mean() -> AnyArray:
        count = np.bincount(segment, minlength=case.n_segments).astype(values.dtype)
        total: AnyArray = call() / count.reshape(-1, *[1] * (values.ndim - 1))
        return total

    return mean if case.op == "mean" else call


def _groupies(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    aggregate = import_module("numpy_groupies").aggregate

    axis = 0 if case.f > 1 else None
    return lambda: aggregate(segment, values, func=case.op, size=case.n_segments, axis=axis)


def _numbagg(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    group = getattr(import_module("numbagg"), f"group_nan{case.op}")
    axis = {"axis": 0} if case.f > 1 else {}
    return lambda: group(values, segment, num_labels=case.n_segments, **axis)


def _pandas(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    import pandas

    frame = pandas.DataFrame(values) if case.f > 1 else pandas.Series(values)
    return lambda: getattr(frame.groupby(segment), case.op)()


def _polars(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    polars = import_module("polars")
    columns = values.reshape(case.n, case.f).T
    frame = polars.DataFrame({str(j): column for j, column in enumerate(columns)})
    frame = frame.with_columns(segment=polars.Series(segment))
    reduced = getattr(polars.all(), case.op)()
    return lambda: frame.group_by("segment").agg(reduced)


def _torch(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    import torch

    dtype = getattr(torch, case.result_dtype.name)
    value, label = torch.from_numpy(values), torch.from_numpy(segment)
    shape = (case.n_segments, *value.shape[1:])
    if case.op == "sum":
        return lambda: torch.zeros(shape, dtype=dtype).index_add_(0, label, value.to(dtype))
    how = {"min": "amin", "max": "amax", "mean": "mean"}[case.op]
    each = label.reshape(-1, *[1] * (values.ndim - 1)).expand(values.shape)

    def call() -> Any:
        result = torch.zeros(shape, dtype=dtype)
        return result.scatter_reduce_(0, each, value, how, include_self=False)

    return call


def _jax(values: AnyArray, segment: Int64Array, case: SumCase) -> Call | None:
    if case.op == "mean":
        return None
    import jax

    reduce = getattr(jax.ops, f"segment_{case.op}")
    reduce = jax.jit(reduce, static_argnames="num_segments")
    wide = values.dtype.itemsize == 8  # JAX converts these to 32 bits by default
    with jax.enable_x64(wide):
        value, label = jax.device_put(values), jax.device_put(segment)
        if case.dtype == "bool":
            value = value.astype(np.int32)

    def call() -> Any:
        with jax.enable_x64(wide):
            return reduce(value, label, num_segments=case.n_segments).block_until_ready()

    return call


def _awkward(values: AnyArray, segment: Int64Array, case: SumCase) -> Call:
    awkward = import_module("awkward")
    reduce = getattr(awkward, case.op)

    def call() -> Any:
        value, label = _sorted_runs(values, segment, case)
        rows = awkward.unflatten(value, np.bincount(label, minlength=case.n_segments))
        return reduce(rows, axis=1, mask_identity=False)

    return call


SUM_WAYS: Final = (
    SumWay("vladkit", "segment_sum, segment_reduce: as they choose; floats in float64", _vladkit),
    SumWay("add.at", "np.add.at (minimum.at, maximum.at): unbuffered, row after row", _add_at),
    SumWay("bincount", "np.bincount with weights: one column, in float64", _bincount),
    SumWay("reduceat", "argsort unless sorted, then np.add.reduceat over the runs", _reduceat),
    SumWay("scipy.sparse", "a matrix with one 1 in each row, transposed, times the rows", _sparse,
           "scipy", "scipy"),
    SumWay("Numba loop", "a loop of three lines (five for rows) under numba.njit", _numba,
           "numba", "numba"),
    SumWay("numpy-groupies", "aggregate", _groupies, "numpy_groupies", "numpy-groupies"),
    SumWay("numbagg", "group_nansum and so on", _numbagg, "numbagg", "numbagg"),
    SumWay("pandas", "groupby(segment).sum()", _pandas, "pandas", "pandas"),
    SumWay("polars", "group_by('segment').agg(pl.all().sum())", _polars, "polars", "polars"),
    SumWay("torch", "index_add_ (scatter_reduce_)", _torch, "torch", "torch"),
    SumWay("JAX", "jax.ops.segment_sum, compiled by jit", _jax, "jax", "jax"),
    SumWay("awkward", "argsort unless sorted, then awkward.sum over lists of rows", _awkward,
           "awkward", "awkward"),
    SumWay(READ, "the floor: values and labels read once, by np.sum", _read),
)  # fmt: skip
"""All ways, in the order of the tables."""
