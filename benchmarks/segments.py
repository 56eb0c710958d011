"""Sums and other reductions within segments: vladkit beside every peer, in one run.

    pip install numpy-groupies numbagg pandas polars torch jax awkward  # peers that take part
    python benchmarks/segments.py --json docs/results/segments.json     # all of it: 20 minutes
    python benchmarks/segments.py --plot docs/images/sums.svg --read docs/results/segments.json
    python docs/figures.py
    python benchmarks/segments.py --quick                               # less exact

Four parts: what a fresh process takes, times of sums, times of min, max and mean, and accuracy of
float32. The ways of a row take turns (`vladkit.bench.timing`), each as its users write it
(`vladkit.bench.sum_ways`); ratios are of medians. Accuracy is the error over the exact sum
(`math.fsum`). Figures of a fresh process are each of a process of its own: `timeit` is the best of
five as ``python -m timeit`` takes it; `calls` are those before the first that took less than 1.5
times the final speed, the median of the last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vladkit import segment_sum
from vladkit.bench.article import sum_verdicts
from vladkit.bench.machine import OtherWork, provenance
from vladkit.bench.results import SumsMeasured
from vladkit.bench.run import environment_for
from vladkit.bench.sum_cases import OTHER_OPERATIONS, SUMS, SumCase
from vladkit.bench.sum_ways import READ, SumWay, as_array_of, sum_ways_for
from vladkit.bench.sums import measure_sums
from vladkit.bench.timing import Plan
from vladkit.core.cores import usable_cores
from vladkit.kernels import METHODS

FULL = Plan(0, 0.05, 0.05, 0, 3.0, 5, 9)
QUICK = Plan(0, 0.01, 0.01, 0, 0.1, 1, 2)
SECONDS = {FULL: 15.0, QUICK: 0.5}  # of a case, after all ways have run once
QUICK_ROWS = 26_000_000  # most values of a case with --quick

ARTICLE_SUM = """
import numpy as np
from vladkit import segment_sum
rng = np.random.default_rng(0)
x = rng.standard_normal((32768, 64), np.float32)
s = rng.integers(0, 4096, 32768)
def call():
    segment_sum(x, s, 4096)
"""
ARTICLE_ENCODE = """
import numpy as np
from vladkit import encode
rng = np.random.default_rng(0)
x = rng.standard_normal((256, 128, 64)).astype("DTYPE")
c = x[0, :16].copy()
def call():
    encode(x, c)
"""
SMALL = """
import numpy as np
from vladkit import segment_sum
x = np.random.default_rng(0).standard_normal(1000)
s = np.arange(1000) % 10
def call():
    segment_sum(x, s, 10)
"""
FRESH = {
    "sum of 32,768 x 64 float32 into 4,096": ARTICLE_SUM,
    "encode 256 x 128 x 64, k = 16, float64": ARTICLE_ENCODE.replace("DTYPE", "float64"),
    "encode 256 x 128 x 64, k = 16, float32": ARTICLE_ENCODE.replace("DTYPE", "float32"),
    "sum of 1,000 float64": SMALL,
}

TIMEIT = """
import json, sys, timeit
timer = timeit.Timer(call)
number, _ = timer.autorange()
best = min(timer.repeat(5, number)) / number
print(json.dumps({"timeit_ms": 1e3 * best}))
"""
CALLS = """
import json, statistics, sys, time
took, begin = [], time.perf_counter()
while time.perf_counter() < begin + SECONDS:
    last = time.perf_counter()
    call()
    took.append(time.perf_counter() - last)
final = statistics.median(took[-max(1, min(20, len(took) // 4)):])
n = next(i for i, t in enumerate(took) if t < 1.5 * final)
print(json.dumps({"calls": n, "until_final_s": sum(took[:n]), "final_ms": 1e3 * final}))
"""
FIRST = """
import json, sys, time
begin = time.perf_counter()
call()
first = time.perf_counter() - begin
print(json.dumps({"first_ms": 1e3 * first, "numba": "numba" in sys.modules}))
"""


def scaled(case: SumCase, rows: int) -> SumCase:
    return replace(case, n=min(case.n, rows // case.f))


def accuracy(ways: list[SumWay], quick: bool, rows: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Relative errors of one float32 sum, by way, for each kind of values."""
    ones = min(rows, 20_000_000 if quick else 100_000_000)
    tens = min(rows, 1_000_000 if quick else 10_000_000)
    sign = np.where(np.arange(tens) % 2, -1, 1)
    alternating = np.random.default_rng(0).uniform(1, 2, tens) * sign
    kinds = {
        f"{ones:.0e} ones".replace("e+0", "e"): np.ones(ones, np.float32),
        f"{tens:.0e} x 1.1".replace("e+0", "e"): np.full(tens, 1.1, np.float32),
        f"{tens:.0e} of alternating signs".replace("e+0", "e"): alternating.astype(np.float32),
    }
    for name, values in kinds.items():
        segment = np.zeros(len(values), np.int64)
        exact = float(len(values)) if name.endswith("ones") else math.fsum(values.tolist())
        case = SumCase(len(values), 1, 1)
        calls: dict[str, Callable[[], object]] = {
            f"vladkit {way}": partial(segment_sum, values, segment, 1, method=way)
            for way in METHODS
        }
        calls |= {w.name: w.bind(values, segment, case) for w in ways if w.name != READ}
        errors = {}
        for way, call in calls.items():
            try:
                got = float(as_array_of(call(), case)[0])
            except (ImportError, MemoryError):
                continue
            errors[way] = abs(got - exact) / abs(exact)
        yield name, errors


def fresh(code: str, measured: str, seconds: float) -> dict:
    """Figures that a process of its own prints."""
    measured = measured.replace("SECONDS", str(seconds))
    done = subprocess.run(
        [sys.executable, "-c", code + measured], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def fresh_figures(quick: bool) -> list[dict]:
    """Medians of three processes (with `quick` one) for each thing."""
    rows = []
    for name, code in FRESH.items():
        runs = [
            fresh(code, TIMEIT, 0) | fresh(code, CALLS, 3) | fresh(code, FIRST, 0)
            for _ in range(1 if quick else 3)
        ]
        medians = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        rows.append({"case": name} | medians)
    return rows


def measured_rows(cases: tuple[SumCase, ...], ways: list[SumWay], plan: Plan) -> list[SumsMeasured]:
    found = []
    for case in cases:
        m = measure_sums(case, plan, ways, SECONDS[plan])
        found.append(m)
        ratio, way = m.over_fastest()
        times = ", ".join(f"{r.way} {r.median_ms:.4g}" for r in m.rows if r.median_ms is not None)
        print(f"{case.op} {case.name}: {ratio:.2f} x {way}; ms: {times}")
        for row in m.rows:
            if row.skipped:
                print(f"  {row.way}: {row.skipped}")
    return found


def as_rows(found: list[SumsMeasured]) -> list[dict]:
    """Values for JSON, with the ratio to the fastest other way."""
    return [
        {"name": m.case.name, "over_fastest": ratio, "fastest_other": way} | m.as_json()
        for m in found
        for ratio, way in [m.over_fastest()]
    ]


def measure(quick: bool, rows: int, parts: list[str]) -> dict:
    ways, missing = sum_ways_for()
    for out in missing:
        print(f"left out: {out.way}: {out.reason}")
    plan = QUICK if quick else FULL
    run: dict = {"quick": quick}
    if "fresh" in parts:
        run["fresh"] = fresh_figures(quick)
        print(*run["fresh"], sep="\n")
    others = OtherWork()
    for part, cases in (("sums", SUMS), ("others", OTHER_OPERATIONS)):
        if part in parts:
            found = measured_rows(tuple(scaled(case, rows) for case in cases), ways, plan)
            print(*sum_verdicts(found), sep="\n")
            run[part] = as_rows(found)
    if "accuracy" in parts:
        run["accuracy"] = dict(accuracy(ways, quick, rows))
        for name, errors in run["accuracy"].items():
            print(f"{name}:", ", ".join(f"{way} {error:.1e}" for way, error in errors.items()))
    about = provenance("benchmarks/segments.py" + " --quick" * quick)
    names = {"numpy_groupies", "numbagg", "pandas", "polars", "awkward"} & sys.modules.keys()
    about["versions"] |= {n: getattr(sys.modules[n], "__version__", None) for n in sorted(names)}
    return {"provenance": about | {"other_cores": others.cores()}} | run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes instead of twenty")
    parser.add_argument("--rows", type=int, help="most values of a case")
    parts = ["fresh", "sums", "others", "accuracy"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--read", metavar="FILE", help="figures of an earlier run")
    parser.add_argument("--plot", metavar="FILE", help="draw the sums: PNG, SVG or PDF")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    wanted = environment_for(usable_cores())
    if not args.read and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)  # libraries read it once
    if args.read:
        run = json.loads(Path(args.read).read_text())
    else:
        run = measure(args.quick, args.rows or (QUICK_ROWS if args.quick else 10**9), args.parts)
    if args.json:
        Path(args.json).write_text(json.dumps(run, indent=1) + "\n")
    if args.plot:
        from vladkit.bench.plot_sums import write_sums_plot

        about = f"{run['provenance']['machine']['cpu']}, {run['provenance']['date']}"
        write_sums_plot([SumsMeasured.from_json(row) for row in run["sums"]], about, args.plot)


if __name__ == "__main__":
    main()
