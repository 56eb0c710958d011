"""Time `encode` against the article's loop and against the bare product X @ C.T, in one run.

    python benchmarks/encode.py              # on 1 and 2 threads
    python benchmarks/encode.py --quick      # the article's case on one thread: does it run?
    python benchmarks/encode.py --json > docs/results/encode.json   # then: python docs/figures.py

Each number of threads is a process of its own, because a BLAS reads its number once.

Everything in a row is timed in turn (A B C, A B C, ...), so that a machine whose speed drifts
drifts under all of them (`vladkit.bench.timing` says how, and why). A turn is some 0.1 s of calls
that are not counted, then five that are. Ratios are of medians. `memory` is the peak of resident
memory while encoding, above what the process held before the input was made, over input plus
output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

from vladkit import encode
from vladkit.bench.cases import ARTICLE, Case
from vladkit.bench.machine import machine, versions
from vladkit.bench.memory import reset_peak, status_bytes
from vladkit.bench.peers import article_loop, fitted_kmeans
from vladkit.bench.run import environment_for
from vladkit.bench.timing import turns

# The article's are timed with its loop (as it published it: scikit-learn predicts).
CASES = [
    *ARTICLE,
    Case(64, 1000, 128, 64),
    Case(64, 1000, 128, 256),
    Case(16, 1000, 768, 32),
    Case(2000, 500, 128, 64),
]


def measure(case: Case, threads: int, n: int) -> dict:
    local_tlf, centroid_kf = case.arrays()
    local_Nf = local_tlf.reshape(-1, case.f)
    score_Nk = np.empty((len(local_Nf), case.k), case.dtype)
    ways: dict[str, Callable[[], object]] = {
        "fused": lambda: encode(local_tlf, centroid_kf, method="fused", n_jobs=threads),
        "product": lambda: np.matmul(local_Nf, centroid_kf.T, out=score_Nk),
        "product, allocating": lambda: local_Nf @ centroid_kf.T,
    }
    with_loop = case in ARTICLE
    if with_loop:
        kmeans = fitted_kmeans(local_tlf, centroid_kf)
        ways["loop"] = lambda: article_loop(kmeans, local_tlf)
        wanted = article_loop(kmeans, local_tlf)
        error = float(np.abs(wanted - encode(local_tlf, centroid_kf, method="fused")).max())
    else:
        wanted = encode(local_tlf[:4], centroid_kf, method="loop")
        got = encode(local_tlf[:4], centroid_kf, method="fused")
        error = float(np.abs(wanted - got).max())
    times = turns(ways, dict.fromkeys(ways, 5), n, burn=0.1)
    median = {name: statistics.median(v) for name, v in times.items()}
    return {
        "case": case.name,
        "threads": threads,
        "ms": {name: 1e3 * m for name, m in median.items()},
        "ms_min": {name: 1e3 * min(v) for name, v in times.items()},
        "over_product": median["fused"] / median["product"],
        "loop_over_fused": median["loop"] / median["fused"] if with_loop else None,
        "max_error": error,
        "memory": peak_memory(case, threads),
    }


def peak_memory(case: Case, threads: int) -> float:
    """Peak resident memory of a fresh process, over input plus output (Linux only)."""
    number = str(CASES.index(case))
    command = [sys.executable, __file__, "--memory-of", number, "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _memory_of(case: Case, threads: int) -> float:
    small = Case(2 * threads, max(64, case.k), case.f, case.k, case.dtype).arrays()
    encode(*small, method="fused", n_jobs=threads)  # compiled code and threads are not counted
    before = status_bytes("VmRSS")
    local_tlf, centroid_kf = case.arrays()
    reset_peak()
    out = encode(local_tlf, centroid_kf, method="fused", n_jobs=threads)
    return (status_bytes("VmHWM") - before) / (local_tlf.nbytes + out.nbytes)


def provenance() -> dict:
    """Where and when the figures were measured, and with which commit."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return {
        "script": "benchmarks/encode.py --json",
        "machine": machine(),
        "versions": versions(),
        "commit": done.stdout.strip() or None,
        "date": date.today().isoformat(),
    }


def table(rows: list[dict]) -> None:
    print(f"{'case':32} {'threads':>7} {'encode ms':>9} {'X@C.T ms':>9} {'ratio':>6} "
          f"{'loop ms':>8} {'x loop':>6} {'error':>8} {'memory':>7}")  # fmt: skip
    for r in rows:
        loop = " " * 15
        if r["loop_over_fused"]:
            loop = f"{r['ms']['loop']:8.1f} {r['loop_over_fused']:6.0f}"
        times = f"{r['ms']['fused']:9.2f} {r['ms']['product']:9.2f} {r['over_product']:6.2f}"
        print(f"{r['case']:32} {r['threads']:7} {times} {loop} {r['max_error']:8.1e} "
              f"{r['memory']:7.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one case, one thread, one round")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of is not None:
        print(_memory_of(CASES[args.memory_of], args.threads[0]))
        return
    if args.rows:
        cases = CASES[:1] if args.quick else CASES
        json.dump([measure(case, args.threads[0], args.rounds) for case in cases], sys.stdout)
        return
    if args.quick:
        args.threads, args.rounds = [1], 1
    rows = []
    for threads in args.threads:
        command = [sys.executable, __file__, "--rows", "--threads", str(threads)]
        command += ["--quick"] * args.quick
        done = subprocess.run(
            [*command, "--rounds", str(args.rounds)],
            env=environment_for(threads), check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        rows += json.loads(done.stdout)
    if args.json:
        json.dump({"provenance": provenance(), "rows": rows}, sys.stdout, indent=1)
        print()
    else:
        table(rows)


if __name__ == "__main__":
    main()
