"""The process that measures: started by `vladkit.bench.run` with its threads already set.

Its argument is the order, as JSON. It writes lines of JSON to stdout: the ways left out, the copy
rate, each case, and the work of others.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

__all__ = ["main"]


def main() -> None:
    """Measure, and write the results line by line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C goes to both; this one just ends
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not print into the answers
    _measure_all(json.loads(sys.argv[1]), answers)


def _measure_all(order: dict[str, Any], answers: TextIO) -> None:
    from vladkit.bench.cases import Case
    from vladkit.bench.fisher import measure_fisher
    from vladkit.bench.machine import OtherWork, copy_rate
    from vladkit.bench.measure import measure, warm_up
    from vladkit.bench.sum_cases import SumCase
    from vladkit.bench.sum_ways import sum_ways_for
    from vladkit.bench.sums import measure_sums
    from vladkit.bench.timing import ARTICLE_PLAN, FULL, QUICK

    def tell(kind: str, value: object) -> None:
        print(json.dumps({kind: value}), file=answers, flush=True)

    sums = [SumCase(**case) for case in order["sums"]]
    plan = QUICK if order["quick"] else ARTICLE_PLAN if sums else FULL
    threads, only = order["threads"], order["only"]
    cases = [Case(**case | {"sweeps": tuple(case["sweeps"])}) for case in order["cases"]]
    others = OtherWork()
    sum_ways, left_out = sum_ways_for(only) if sums else ([], [])
    for each in sums:  # first: a reader of the article looks for them first
        tell("sums", measure_sums(each, plan, sum_ways, plan.total / len(sums)).as_json())
    left_out = left_out + warm_up(threads, only)
    tell("left_out", [[x.way, x.reason] for x in left_out])
    begin = time.perf_counter()
    rate = copy_rate(threads)
    tell("copy_bytes_per_s", rate)
    for i, case in enumerate(cases):
        share = (begin + plan.total - time.perf_counter()) / (len(cases) - i)
        measured = measure(
            case, plan, threads=threads, copy_bytes_per_s=rate, seconds=share, only=only
        )
        tell("measured", measured.as_json())
    if only is None:
        tell("fisher", asdict(measure_fisher(plan, threads)))
    tell("other_cores", others.cores())
