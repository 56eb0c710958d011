"""One case: all ways checked, their memory measured, then all timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vladkit.aggregation.encode import encode
from vladkit.bench.cases import Case
from vladkit.bench.memory import extra_bytes
from vladkit.bench.results import LeftOut, Measured, Row
from vladkit.bench.timing import Plan, planned, turns
from vladkit.bench.ways import ARTICLE_LOOP, PRODUCT, Way, held_to, ways_for
from vladkit.core.arrays import FloatArray
from vladkit.errors import MemoryLimitError
from vladkit.kernels.mask import MOST_BYTES

__all__ = ["baseline", "measure", "warm_up"]

_CHECKED_IMAGES = 4
_CHECKED_ROWS = 2000
"""Images and (about) descriptors for the oracle: 0.02 s at k = 64, f = 128."""

_TO_PREPARE = 0.6
"""Share of the time of a case for the preparation; ways left after that are skipped."""


def warm_up(threads: int, only: Sequence[str] | None = None) -> list[LeftOut]:
    """Load libraries and compiled code; return the ways that cannot take part.

    This takes seconds, which count for no case; the first run of fused on a machine compiles.
    """
    left_out: list[LeftOut] = []
    for dtype in ("float64", "float32"):
        local_tlf, centroid_kf = Case(2, 8, 8, 2, dtype).arrays()
        ways, left_out = ways_for(local_tlf, centroid_kf, threads, only)
        with held_to(threads):
            for way in ways:
                try:
                    way.bind(local_tlf)()
                except Exception:  # of a peer: `measure` records it
                    if way.kind != "peer":
                        raise
    return left_out


def baseline(ways: Iterable[str]) -> str:
    """Name of the loop to compare with: the article's if scikit-learn is installed, else ours."""
    return ARTICLE_LOOP if ARTICLE_LOOP in ways else "loop"


@dataclass(frozen=True)
class _Ready:
    """A way that has run once: its call on `images` images takes about `seconds`."""

    way: Way
    call: Callable[[], Any]
    images: int
    seconds: float
    memory_bytes: int | None
    error: float | None


def measure(
    case: Case,
    plan: Plan,
    *,
    threads: int,
    copy_bytes_per_s: float,
    seconds: float | None = None,
    only: Sequence[str] | None = None,
) -> Measured:
    """Time all ways on a case, in about `seconds` (by default all of the plan).

    Parameters
    ----------
    case : Case
    plan : Plan
    threads : int
        Number of threads for `fused`, torch and faiss. NumPy's BLAS, OpenMP and JAX took theirs
        from the environment when they were loaded; `vladkit.bench.run` sets it.
    copy_bytes_per_s : float
        Result of `machine.copy_rate`.
    only : sequence of str, optional
        Names of ways to measure; the bare product and the loop are always measured.
    """
    begin = time.perf_counter()
    seconds = plan.total if seconds is None else seconds
    local_tlf, centroid_kf = case.arrays()
    ways, _ = ways_for(local_tlf, centroid_kf, threads, only)
    loop = baseline([way.name for way in ways])
    checked = max(1, min(_CHECKED_IMAGES, case.t, _CHECKED_ROWS // case.l))
    wanted_mkf = encode(local_tlf[:checked], centroid_kf, method="loop")
    limit = plan.limit if case.sweeps else plan.limit_alone
    ready: dict[str, _Ready] = {}
    rows: dict[str, Row] = {}
    with held_to(threads):
        for way in ways:
            late = time.perf_counter() > begin + _TO_PREPARE * seconds
            if late and way.name not in (PRODUCT, "fused", loop):
                rows[way.name] = Row(way.name, way.kind, 0, skipped="no time left")
                continue
            try:
                _refuse_much_memory(way, case)
                ready[way.name] = _prepared(way, local_tlf, wanted_mkf, limit)
            except MemoryError as error:
                rows[way.name] = Row(way.name, way.kind, 0, skipped=str(error) or "out of memory")
            except Exception as error:  # of a peer: its row has the reason, the others go on
                if way.kind != "peer":
                    raise
                reason = f"failed: {type(error).__name__}: {error}"
                rows[way.name] = Row(way.name, way.kind, 0, skipped=reason)
        second = {name: r.seconds for name, r in ready.items()}
        calls, n = planned(second, plan, begin + seconds - time.perf_counter())
        times = turns({name: r.call for name, r in ready.items()}, calls, n, plan.burn)
    for name, r in ready.items():
        rows[name] = _row(r, times[name], case.t)
    bytes_ms = 1e3 * case.floor_bytes / copy_bytes_per_s
    in_order = tuple(rows[way.name] for way in ways)
    m = Measured(case, rows[PRODUCT].median_ms or 0.0, bytes_ms, in_order)
    return replace(m, rows=tuple(_related(row, m, rows[loop].median_ms) for row in m.rows))


def _refuse_much_memory(way: Way, case: Case) -> None:
    values = way.middle_copies * case.t * case.l * case.k * case.f
    wanted = values * np.dtype(case.dtype).itemsize
    if wanted > MOST_BYTES:
        raise MemoryLimitError(
            f"too much memory: intermediate arrays of {wanted / 2**30:.1f} GiB, "
            f"more than {MOST_BYTES / 2**30:.0f}"
        )


def _prepared(way: Way, local_tlf: FloatArray, wanted_mkf: FloatArray, limit: float) -> _Ready:
    """Run a way on the first images, then on as many as it can do in `limit` seconds."""
    t, checked = len(local_tlf), len(wanted_mkf)
    error = memory = None
    if not way.is_quick and checked < t:
        few = way.bind(local_tlf[:checked])
        error = _error(few(), wanted_mkf)
        seconds = _seconds(few)
        images = max(checked, int(limit * checked / seconds))
        if images < t:
            call = few if images == checked else way.bind(local_tlf[:images])
            return _Ready(way, call, images, seconds * images / checked, None, error)
    call = way.bind(local_tlf)
    result = call()  # may compile
    if way.kind != "floor":
        error = _error(result, wanted_mkf)
    del result
    took: list[float] = []
    memory = extra_bytes(lambda: took.append(_seconds(call)))
    seconds = took[0] if took else _seconds(call)
    return _Ready(way, call, t, seconds, memory, error)


def _error(result: Any, wanted_mkf: FloatArray) -> float:
    got_mkf = np.asarray(result)[: len(wanted_mkf)]
    if not np.isfinite(got_mkf).all():
        raise FloatingPointError("its result is not finite")
    largest = float(np.abs(wanted_mkf).max())
    return float(np.abs(got_mkf - wanted_mkf).max()) / (largest or 1.0)


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _row(r: _Ready, times: list[float], t: int) -> Row:
    p10, median, p90 = 1e3 * t / r.images * np.percentile(times, [10, 50, 90])
    return Row(
        way=r.way.name,
        kind=r.way.kind,
        images=r.images,
        calls=len(times),
        median_ms=float(median),
        p10_ms=float(p10),
        p90_ms=float(p90),
        memory_bytes=r.memory_bytes,
        error=r.error,
    )


def _related(row: Row, m: Measured, loop_ms: float | None) -> Row:
    if row.median_ms is None:
        return row
    return replace(
        row,
        loop_over_way=loop_ms / row.median_ms if loop_ms else None,
        way_over_product=row.median_ms / m.product_ms,
        way_over_floor=row.median_ms / m.floor_ms,
    )
