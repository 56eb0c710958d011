"""A whole run, in a process of its own whose libraries have the wanted number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from vladkit.bench.cases import CASES, QUICK_CASES, Case
from vladkit.bench.machine import machine, versions
from vladkit.bench.measure import baseline
from vladkit.bench.results import FisherMeasured, LeftOut, Measured, Report, SumsMeasured
from vladkit.bench.sum_cases import SumCase
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import VladkitError

__all__ = ["environment_for", "run"]

_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # number of cores for XLA on a CPU
    "NUMBA_NUM_THREADS",  # numbagg
    "POLARS_MAX_THREADS",
)

_SPIN: Final = "22"
"""Threads of OpenBLAS wait for more work for 2^22 cycles, 1.6 ms, instead of 2^28: long enough for
the next product of the same way (`X @ C.T` is as fast), too short to disturb the next way."""

_START = "import sys; sys.path[:] = {path!r}; from vladkit.bench.worker import main; main()"


def environment_for(threads: int) -> dict[str, str]:
    """Environment variables with which BLAS, OpenMP and JAX of a process use `threads` threads.

    The libraries read them once, when they are loaded. JAX is restricted to the CPU, because all
    ways are compared on it.
    """
    held = {name: str(threads) for name in _THREAD_VARIABLES}
    return os.environ | held | {"OPENBLAS_THREAD_TIMEOUT": _SPIN, "JAX_PLATFORMS": "cpu"}


def run(
    cases: Sequence[Case] | None = None,
    *,
    sums: Sequence[SumCase] = (),
    threads: int | None = None,
    quick: bool = False,
    only: Sequence[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Measure every way on every case.

    Parameters
    ----------
    cases : sequence of Case, optional
        By default `cases.CASES`, or `cases.QUICK_CASES` with `quick`.
    sums : sequence of SumCase
        Sums by themselves, to measure first; then all of it takes about a minute.
    threads : int, optional
        Number of threads of every way; by default one for each core. Negative numbers as in
        `encode`.
    quick : bool
        Measure fewer cases for a shorter time: under 30 s on two cores instead of five minutes.
    only : sequence of str, optional
        Names of ways to measure; the bare product and the loop are always measured.
    progress : callable, optional
        Called with ("measuring", cases done, cases), sums included.

    Raises
    ------
    ParameterError
        If `threads` is 0.
    VladkitError
        If the process that measures ends early; the message names the case.
    """
    begin = time.perf_counter()
    cases = tuple(cases or (QUICK_CASES if quick else CASES))
    n_threads = resolve_n_jobs(threads)
    order = {
        "cases": [asdict(case) for case in cases],
        "sums": [asdict(case) for case in sums],
        "threads": n_threads,
        "quick": quick,
        "only": list(only) if only is not None else None,
    }
    known: dict[str, Any] = {}
    measured: list[Measured] = []
    measured_sums: list[SumsMeasured] = []
    total = len(sums) + len(cases)
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path), json.dumps(order)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment_for(n_threads),
        )
        assert process.stdout is not None
        try:
            if progress is not None:
                progress("measuring", 0, total)
            with process.stdout as answers:
                for line in answers:
                    known |= json.loads(line)
                    if "sums" in known:
                        measured_sums.append(SumsMeasured.from_json(known.pop("sums")))
                    elif "measured" in known:
                        measured.append(Measured.from_json(known.pop("measured")))
                    else:
                        continue
                    if progress is not None:
                        progress("measuring", len(measured_sums) + len(measured), total)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        if code != 0 or len(measured) < len(cases):
            said.seek(0)
            names = [case.name for case in sums] + [case.name for case in cases]
            last = said.read().strip().splitlines()[-1:] or ["it wrote no message"]
            raise VladkitError(
                f"the process that measures ended with {code} at case "
                f"{names[len(measured_sums) + len(measured)]}: {last[0]}"
            )
    return Report(
        machine=machine(),
        versions=versions(),
        threads=n_threads,
        quick=quick,
        seconds=time.perf_counter() - begin,
        copy_bytes_per_s=known["copy_bytes_per_s"],
        other_cores=known["other_cores"],
        baseline=baseline(row.way for row in measured[0].rows),
        left_out=tuple(LeftOut(*pair) for pair in known["left_out"]),
        measured=tuple(measured),
        sums=tuple(measured_sums),
        fisher=FisherMeasured(**known["fisher"]) if "fisher" in known else None,
    )
