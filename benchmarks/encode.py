"""Time `encode` against the article's loop and against the bare product X @ C.T, in one run.

    python benchmarks/encode.py              # on 1 and 2 threads; --json for the figures

Each number of threads is a process of its own, because a BLAS reads its number once.

Everything in a row is timed in turn (A B C, A B C, ...), so that a machine whose speed drifts
drifts under all of them. A turn is some .1 s of calls that are not counted, then five that are:
the threads of the BLAS spin for tens of ms after a product, and would take the cores from
whatever comes next; a pause instead lets a virtual machine's cores fall asleep. Ratios are of
medians. `memory` is the peak of resident memory while encoding, above what the process held
before the input was made, over input plus output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vladkit import encode

# t, l, f, k, dtype, with the article's loop (as it published it: scikit-learn predicts)
CASES = [
    (256, 128, 64, 16, "float64", True),
    (256, 128, 64, 16, "float32", True),
    (64, 1000, 128, 64, "float32", False),
    (64, 1000, 128, 256, "float32", False),
    (16, 1000, 768, 32, "float32", False),
    (2000, 500, 128, 64, "float32", False),
]


def data(t: int, l: int, f: int, k: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1234)
    local_tlf = rng.standard_normal((t, l, f), dtype=np.dtype(dtype))
    centroid_kf = local_tlf.reshape(-1, f)[rng.choice(t * l, k, replace=False)] * 0.5
    return local_tlf, centroid_kf


def article_loop(kmeans, local_tlf: np.ndarray) -> np.ndarray:
    """The article's loop with the lines that its listing lost: labels, then one sum a cluster."""
    t, _, f = local_tlf.shape
    center_kf = kmeans.cluster_centers_
    vlad_tkf = np.zeros((t, len(center_kf), f), local_tlf.dtype)
    for local_lf, vlad_kf in zip(local_tlf, vlad_tkf, strict=True):
        label_l = kmeans.predict(local_lf)
        for i in range(len(center_kf)):
            vlad_kf[i] = np.sum(local_lf[label_l == i] - center_kf[i], axis=0)
    return vlad_tkf


def fitted_kmeans(local_tlf: np.ndarray, centroid_kf: np.ndarray):
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(n_clusters=len(centroid_kf), n_init=1, max_iter=1, random_state=0)
    kmeans.fit(local_tlf.reshape(-1, local_tlf.shape[2])[:1000])
    kmeans.cluster_centers_ = centroid_kf.copy()
    return kmeans


def rounds(ways: dict[str, Callable[[], object]], n: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n):
        for name, way in ways.items():
            until = time.perf_counter() + 0.1
            way()
            while time.perf_counter() < until:
                way()
            for _ in range(5):
                begin = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - begin)
    return times


def measure(case: tuple, threads: int, n: int) -> dict:
    t, l, f, k, dtype, with_loop = case
    local_tlf, centroid_kf = data(t, l, f, k, dtype)
    local_Nf = local_tlf.reshape(-1, f)
    score_Nk = np.empty((t * l, k), dtype)
    ways: dict[str, Callable[[], object]] = {
        "fused": lambda: encode(local_tlf, centroid_kf, method="fused", n_jobs=threads),
        "product": lambda: np.matmul(local_Nf, centroid_kf.T, out=score_Nk),
        "product, allocating": lambda: local_Nf @ centroid_kf.T,
    }
    if with_loop:
        kmeans = fitted_kmeans(local_tlf, centroid_kf)
        ways["loop"] = lambda: article_loop(kmeans, local_tlf)
        wanted = article_loop(kmeans, local_tlf)
        error = float(np.abs(wanted - encode(local_tlf, centroid_kf, method="fused")).max())
    else:
        wanted = encode(local_tlf[:4], centroid_kf, method="loop")
        got = encode(local_tlf[:4], centroid_kf, method="fused")
        error = float(np.abs(wanted - got).max())
    times = rounds(ways, n)
    median = {name: statistics.median(v) for name, v in times.items()}
    return {
        "case": f"{t}x{l}x{f} k={k} {dtype}",
        "threads": threads,
        "ms": {name: 1e3 * m for name, m in median.items()},
        "ms_min": {name: 1e3 * min(v) for name, v in times.items()},
        "over_product": median["fused"] / median["product"],
        "loop_over_fused": median["loop"] / median["fused"] if with_loop else None,
        "max_error": error,
        "memory": peak_memory(case, threads),
    }


def peak_memory(case: tuple, threads: int) -> float:
    """Peak resident memory of a fresh process, over input plus output (Linux only)."""
    command = [sys.executable, __file__, "--memory-of", json.dumps(case), "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _memory_of(case: tuple, threads: int) -> float:
    def field(name: str) -> int:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if name in x)
        return int(line.split()[1]) * 1024

    t, l, f, k, dtype, _ = case
    small = data(2 * threads, max(64, k), f, k, dtype)
    encode(*small, method="fused", n_jobs=threads)  # compiled code and threads are not counted
    before = field("VmRSS")
    local_tlf, centroid_kf = data(t, l, f, k, dtype)
    Path("/proc/self/clear_refs").write_text("5")  # peak := now
    out = encode(local_tlf, centroid_kf, method="fused", n_jobs=threads)
    return (field("VmHWM") - before) / (local_tlf.nbytes + out.nbytes)


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
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(_memory_of(json.loads(args.memory_of), args.threads[0]))
        return
    if args.rows:
        json.dump([measure(case, args.threads[0], args.rounds) for case in CASES], sys.stdout)
        return
    rows = []
    for threads in args.threads:
        command = [sys.executable, __file__, "--rows", "--threads", str(threads)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [*command, "--rounds", str(args.rounds)],
            env=environment, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        rows += json.loads(done.stdout)
    if args.json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}"
        json.dump({"machine": machine, "rows": rows}, sys.stdout, indent=1)
    else:
        table(rows)


if __name__ == "__main__":
    main()
