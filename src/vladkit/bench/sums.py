"""Sums by themselves, one case: all ways checked, then all timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from vladkit.bench.results import SumRow, SumsMeasured
from vladkit.bench.sum_cases import SumCase
from vladkit.bench.sum_ways import READ, SumWay, as_array_of
from vladkit.bench.timing import Plan, planned, turns
from vladkit.core.arrays import AnyArray, Int64Array

__all__ = ["measure_sums"]

_LEAST: Final = 2e-4
"""Seconds that are timed at once: shorter calls are repeated, so that the clock costs nothing."""

_ERROR: Final = 1e-2
"""Largest error, over the largest result, of a way that does the same job; float32 needs most."""


def measure_sums(case: SumCase, plan: Plan, ways: Sequence[SumWay], seconds: float) -> SumsMeasured:
    """Time ways on a case, in about `seconds`; those that do another job have no row.

    A call of more than ``plan.limit_alone`` is timed once. A way whose library fails has a row
    with the reason, and so has one with a wrong result.
    """
    begin = time.perf_counter()
    values, segment = case.arrays()
    wanted = _wanted(values, segment, case)
    calls: dict[str, Callable[[], object]] = {}
    second: dict[str, float] = {}
    rows: dict[str, SumRow] = {}
    repeats: dict[str, int] = {}
    with np.errstate(invalid="ignore"):  # numbagg's NaN of segments without rows
        for way in ways:
            try:
                call = way.bind(values, segment, case)
                if call is None:
                    continue
                if way.name != READ:
                    _check(call(), wanted, segment, case)
                took = min(_seconds(call) for _ in range(2))
            except Exception as error:  # of a peer: its row has the reason, the others go on
                if way.name == "vladkit":
                    raise
                reason = f"failed: {type(error).__name__}: {str(error)[:200]}"
                rows[way.name] = SumRow(way.name, 0, skipped=reason)
                continue
            if took > plan.limit_alone:
                rows[way.name] = SumRow(way.name, 1, 1e3 * took, 1e3 * took)
                continue
            repeats[way.name] = max(1, round(_LEAST / took))
            calls[way.name] = _repeated(call, repeats[way.name])
            second[way.name] = took * repeats[way.name]
        n_calls, n = planned(second, plan, begin + seconds - time.perf_counter())
        for name, times in turns(calls, n_calls, n, plan.burn).items():
            ms = 1e3 * np.array(times) / repeats[name]
            rows[name] = SumRow(name, len(times), float(np.median(ms)), float(ms.min()))
    return SumsMeasured(case, tuple(rows[way.name] for way in ways if way.name in rows))


def _wanted(values: AnyArray, segment: Int64Array, case: SumCase) -> AnyArray:
    """Result by NumPy, a column at a time, in float64 or int64."""
    value_Nf = values.reshape(case.n, case.f)
    wide = np.int64 if case.dtype in ("int64", "bool") and case.op != "mean" else np.float64
    result: AnyArray = np.zeros((case.n_segments, case.f), wide)
    at = {"min": np.minimum, "max": np.maximum}.get(case.op, np.add).at
    if case.op in ("min", "max"):
        result[segment] = value_Nf  # some row of each segment
    for j in range(case.f):
        column = result[:, j].copy()
        at(column, segment, value_Nf[:, j].astype(wide))
        result[:, j] = column
    if case.op == "mean":
        result /= np.maximum(np.bincount(segment, minlength=case.n_segments), 1)[:, None]
    return result.reshape(-1) if case.f == 1 else result


def _check(result: Any, wanted: AnyArray, segment: Int64Array, case: SumCase) -> None:
    got = as_array_of(result, case)
    if got.shape != wanted.shape:
        raise ValueError(f"its result has shape {got.shape}, wanted {wanted.shape}")
    used = np.unique(segment)  # of the others, each library has its own opinion
    error = np.abs(got[used].astype(np.float64) - wanted[used]).max() / np.abs(wanted[used]).max()
    if not error < _ERROR:
        raise FloatingPointError(f"its result is off by {error:.1g} of the largest")


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _repeated(call: Callable[[], object], n: int) -> Callable[[], object]:
    def run() -> None:
        for _ in range(n):
            call()

    return call if n == 1 else run
