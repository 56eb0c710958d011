"""Cost of a collection of Lance against its size: storing, building the index, searching.

    python benchmarks/lance_collection.py [--sizes 100000 1000000] [--kinds scenes random]
        [--folder FOLDER] [--json FILE]

Vectors and queries are those of benchmarks/million.py: 256 dimensions, float16. They are stored as
`vladkit index` stores them, 32,768 to a commit; the index is that of `vladkit build-ann`. A query
gives the first 10 by stored vectors, out of 50 candidates, in a process that has the collection
open; `recall@10` is the share of the exactly nearest 10 among them. Each step is a process of its
own, and "resident" the most memory that it has had, with its imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from million import NOISE, QUERIES, TOP, D, memory, unit, vectors
from vladkit.bench.machine import provenance
from vladkit.core.arrays import Float32Array, Int64Array
from vladkit.store.blocks import Layout
from vladkit.store.exact import estimate_all
from vladkit.store.lance.store import LanceStore
from vladkit.store.rows import ImageRow, Record

BATCH = 32_768
CANDIDATES = 50


def connect(path: str, *, make: bool = False) -> LanceStore:
    store = LanceStore.create(path) if make else LanceStore.open(path)
    store.layout = Layout(np.dtype("f2"), D)
    return store


def write(path: str, kind: str, n: int, seed: int) -> dict[str, object]:
    """Store vectors as those of images that do not exist."""
    store, seconds, done = connect(path, make=True), 0.0, 0
    with store.writing():
        source = store.add_source("/nowhere", "nowhere").source_id
    held: list[Float32Array] = []
    for vector_nD in vectors(kind, n, seed):
        held.append(vector_nD.astype("<f2"))
        if sum(map(len, held)) < BATCH and done + sum(map(len, held)) < n:
            continue
        begin = time.perf_counter()
        with store.writing():
            half_nD = np.concatenate(held)
            rows = [ImageRow(source, f"{done + i:08}.jpg", 1, 1) for i in range(len(half_nD))]
            store.put([Record(row, half_D) for row, half_D in zip(rows, half_nD, strict=True)])
        seconds += time.perf_counter() - begin
        done, held = done + len(half_nD), []
    return {"write_s": round(seconds, 1), "bytes": store.n_bytes()}


def build(path: str, kind: str, n: int, seed: int) -> dict[str, object]:
    begin = time.perf_counter()
    report = connect(path).build_ann(D, seed)
    return {"build_s": round(time.perf_counter() - begin, 1), "report": asdict(report)}


def queries(store: LanceStore, n: int, seed: int) -> Float32Array:
    """Stored vectors with noise."""
    rng = np.random.default_rng([seed, 1])
    place_q = np.sort(rng.choice(n, QUERIES, replace=False))
    begin, found = 0, []
    for _, vector_nD in store.vector_blocks():
        end = begin + len(vector_nD)
        found.append(vector_nD[place_q[(place_q >= begin) & (place_q < end)] - begin])
        begin = end
    noise_qD = unit(rng.standard_normal((QUERIES, D), np.float32))
    return unit(np.concatenate(found).astype(np.float32) + NOISE * noise_qD)


def nearest(store: LanceStore, query_qD: Float32Array) -> Int64Array:
    """The exactly nearest, read a block at a time."""
    best_qr = np.full((len(query_qD), TOP), -np.inf, np.float32)
    id_qr = np.zeros(best_qr.shape, np.int64)
    for block in store.vector_blocks():
        image_id_n, score_qn = estimate_all(query_qD, [block])
        score_qm = np.concatenate([best_qr, score_qn], axis=1)
        id_qm = np.concatenate([id_qr, np.broadcast_to(image_id_n, score_qn.shape)], axis=1)
        order_qr = np.argsort(-score_qm, axis=1)[:, :TOP]
        best_qr = np.take_along_axis(score_qm, order_qr, axis=1)
        id_qr = np.take_along_axis(id_qm, order_qr, axis=1)
    return id_qr


def truth(path: str, kind: str, n: int, seed: int) -> dict[str, object]:
    store = connect(path)
    query_qD = queries(store, n, seed)
    np.savez(f"{path}.npz", query_qD=query_qD, id_qr=nearest(store, query_qD))
    return {}


def search(path: str, kind: str, n: int, seed: int) -> dict[str, object]:
    with np.load(f"{path}.npz") as kept:
        query_qD, id_qr = kept["query_qD"], kept["id_qr"]
    begin = time.perf_counter()
    ann = connect(path).ann()
    assert ann is not None
    opened = time.perf_counter() - begin
    result = {"open_ms": round(1e3 * opened, 1)}
    for when in ("first_", ""):  # cells stay in memory once they were looked into
        seconds, hits = [], 0
        for query_D, id_r in zip(query_qD, id_qr, strict=True):
            begin = time.perf_counter()
            found_qn, _ = ann.search(query_D[None], CANDIDATES)
            seconds.append(time.perf_counter() - begin)
            hits += np.isin(id_r, found_qn[0, :TOP]).sum()
        result |= {
            f"{when}median_ms": round(1e3 * float(np.median(seconds)), 1),
            f"{when}p95_ms": round(1e3 * float(np.percentile(seconds, 95)), 1),
            "recall": round(hits / id_qr.size, 4),
        }
    return result


STEPS = {"write": write, "build": build, "truth": truth, "search": search}


def measure(folder: Path, kind: str, n: int, seed: int) -> dict[str, object]:
    path = folder / f"{kind}{n}.lance"
    row: dict[str, object] = {"vectors": n, "kind": kind}
    for step in STEPS:
        command = [sys.executable, __file__, "--step", step, str(path), kind, str(n), str(seed)]
        done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        row |= {k: v for k, v in done.items() if k not in ("resident_mb", "cpu_s")}
        if step != "truth":
            row[f"{step}_cpu_s"] = done["cpu_s"]
            row[f"{step}_resident_mb"] = done["resident_mb"]
    return row


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A column for each size, as the page shows it."""

    def each(format_: Callable[[dict[str, Any]], str]) -> list[str]:
        return [format_(row) for row in rows]

    steps = "write", "build", "search"
    kinds = {row["kind"] for row in rows}
    of_kind = ["" if len(kinds) == 1 else f", {row['kind']}" for row in rows]
    names = [f"{row['vectors']:,}{kind}" for row, kind in zip(rows, of_kind, strict=True)]
    cells = {
        "files of images, without features": each(lambda r: size(r["bytes"])),
        "storing": each(lambda r: seconds(r["write_s"])),
        "building the index and measuring its recall": each(lambda r: seconds(r["build_s"])),
        "the same, CPU": each(lambda r: seconds(r["build_cpu_s"])),
        "cells; of them looked into": each(
            lambda r: f"{r['report']['n_cells']:,}; {r['report']['n_probes']:,}"
        ),
        "recall@10": each(lambda r: f"{r['recall']:.3f}"),
        "the first 100 queries, median; 95 within": each(lambda r: times(r, "first_")),
        "queries after that, median; 95 within": each(lambda r: times(r, "")),
        "memory resident: storing, building, searching": each(
            lambda r: ", ".join(f"{r[f'{step}_resident_mb']}" for step in steps) + " MB"
        ),
    }
    return {"columns": ["vectors", *names], "rows": [[name, *row] for name, row in cells.items()]}


def times(row: dict[str, Any], when: str) -> str:
    """Median and 95th percentile of a query's time."""
    return f"{row[f'{when}median_ms']:.0f}; {row[f'{when}p95_ms']:.0f} ms"


def seconds(value: float) -> str:
    """Seconds, or minutes where they are many."""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def size(n_bytes: float) -> str:
    """Bytes in MB or GB."""
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--kinds", nargs="+", default=["scenes", "random"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--step", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step, path, kind, n, seed = args.step
        done = STEPS[step](path, kind, int(n), int(seed))
        done |= {"resident_mb": round(memory()[0]), "cpu_s": round(time.process_time(), 1)}
        json.dump(done, sys.stdout)
        return
    rows = []
    for kind in args.kinds:
        for n in args.sizes:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                rows.append(measure(Path(folder), kind, n, args.seed))
            print(json.dumps(rows[-1]), flush=True)
            if args.json:
                written = {"provenance": provenance("benchmarks/lance_collection.py")}
                written |= {"tables": {"size": table(rows)}, "rows": rows}
                args.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
