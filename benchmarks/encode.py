"""Time `encode` against the article's loop and against the bare product X @ C.T, in one run.

    python benchmarks/encode.py              # on 1 and 2 threads
    python benchmarks/encode.py --quick      # the article's case on one thread: does it run?
    python benchmarks/encode.py --json > docs/results/encode.json   # then: python docs/figures.py
    python benchmarks/encode.py --small --json > docs/results/encode-small.json

Each number of threads is a process of its own, because a BLAS reads its number once.

Everything in a row is timed in turn (A B C, A B C, ...), so that a machine whose speed drifts
drifts under all of them (`vladkit.bench.timing` says how, and why). A turn is some 0.1 s of calls
that are not counted, then five that are. Ratios are of medians. `memory` is the peak of resident
memory while encoding, above what the process held before the input was made, over input plus
output. `--small` are batches of some hundred or thousand descriptors on one thread, and where their
time goes: least times, in us.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable

import numpy as np

from vladkit import encode
from vladkit.bench.cases import ARTICLE, Case
from vladkit.bench.machine import provenance
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


SMALL = [
    Case(1, 500, 128, 64),
    Case(4, 500, 128, 64),
    Case(20, 100, 16, 16),
    Case(100, 100, 16, 16),
    Case(4, 500, 16, 64),
    Case(64, 500, 16, 64),
    Case(4, 500, 32, 16),
    Case(4, 500, 64, 8),
    Case(100, 100, 128, 4),
]
FLOP_SIZE = 2048  # of the square product whose rate is the processor's


def small(case: Case, rate: float) -> list[str]:
    """Cells of a case: least times of `encode`, of parts of it, and of the product."""
    from vladkit.core.ragged import as_ragged
    from vladkit.kernels import compiled, fused

    local_tlf, centroid_kf = case.arrays()
    local_Nf, start_T = local_tlf.reshape(-1, case.f), as_ragged(local_tlf).start_T
    n, (_, panel, bias, width) = len(local_Nf), fused._packed(centroid_kf)
    out = np.empty((case.t, case.k, case.f), case.dtype), np.empty((case.t, case.k), np.int64)
    lanes = (1 + n + 1024) * width
    best, label = np.full(lanes, -np.inf, case.dtype), np.full(lanes, -1, np.int32)
    nearest, score_Nk = np.empty(n + 1024, np.int64), np.empty((n, case.k), case.dtype)
    rest = panel, len(bias) // width, bias, best, label, nearest
    ways: dict[str, Callable[[], object]] = {
        "encode": lambda: encode(local_tlf, centroid_kf, method="fused", n_jobs=1),
        "kernel": lambda: compiled.accumulate(
            local_Nf, start_T, centroid_kf, panel, bias, width, *out
        ),
        "labels": lambda: compiled._label_block(local_Nf, 0, n, *rest),
        "product": lambda: np.matmul(local_Nf, centroid_kf.T, out=score_Nk),
    }
    times = turns(ways, dict.fromkeys(ways, 20), 100, burn=0.002)
    least = {name: 1e6 * min(times[name]) for name in ways}
    name = f"{case.t} x {case.l} x {case.f}, {case.k}"
    floor = 2e6 * n * case.k * case.f / rate
    cells = [f"{least[way]:.0f}" for way in ways]
    return [name, *cells, f"{floor:.0f}", f"{least['encode'] / least['product']:.2f}"]


def small_table() -> dict:
    a_ff = np.random.default_rng(0).standard_normal((FLOP_SIZE, FLOP_SIZE), np.float32)
    times = turns({"product": lambda: a_ff @ a_ff}, {"product": 1}, 7, burn=0.0)
    rate = 2 * FLOP_SIZE**3 / min(times["product"])
    rows = [small(case, rate) for case in SMALL]
    columns = ["images x descriptors x dimensions, k", "`encode`", "its kernel", "labels alone",
               "`X @ C.T`", f"at {rate / 1e9:.0f} GFLOP/s", "`encode` / `X @ C.T`"]  # fmt: skip
    return {"small": {"columns": columns, "rows": rows}}


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
    parser.add_argument("--small", action="store_true", help="small batches, part by part")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of is not None:
        print(_memory_of(CASES[args.memory_of], args.threads[0]))
        return
    if args.rows and args.small:
        json.dump(small_table(), sys.stdout)
        return
    if args.rows:
        cases = CASES[:1] if args.quick else CASES
        json.dump([measure(case, args.threads[0], args.rounds) for case in cases], sys.stdout)
        return
    if args.quick:
        args.threads, args.rounds = [1], 1
    if args.small:
        command = [sys.executable, __file__, "--rows", "--small"]
        env = environment_for(1)
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        tables = json.loads(done.stdout)
        if args.json:
            about = provenance("benchmarks/encode.py --small --json")
            json.dump({"provenance": about, "tables": tables}, sys.stdout, indent=1)
            print()
        else:
            print(*(" | ".join(row) for row in tables["small"]["rows"]), sep="\n")
        return
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
        json.dump(
            {"provenance": provenance("benchmarks/encode.py --json"), "rows": rows},
            sys.stdout,
            indent=1,
        )
        print()
    else:
        table(rows)


if __name__ == "__main__":
    main()
