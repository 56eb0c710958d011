"""Cost of a collection against its size: taking in vectors, exact and approximate search.

    python benchmarks/million.py [--sizes 10000 100000 1000000] [--kinds scenes random] [--seed 0]

Vectors are synthetic, 256 dimensions, float16, of unit length:

scenes
    What VLAD vectors reduced by PCA look like. n/10 scenes, of which a few have many images and
    most have one or two (Zipf, exponent 1/2); a scene belongs to one of 200 kinds of place; an
    image is its scene plus a deviation, 0.3 to 2 times as long as the scene (log-uniform), so
    that some images have near copies and others nothing like them. The standard deviation of
    dimension i falls as i^-0.16: so it does for the principal axes of 710 photographs (Holidays
    and museum paintings, default settings).
random
    Directions without any structure. Nobody's images are like that; it is the worst case for an
    approximate search, which lives on near things being together.

Queries are stored vectors with noise of 0.75 of their length added (cosine 0.8 to the original).
`recall@10` is the share of the exactly nearest 10 that are found, after 50 candidates were scored
again from the stored rows; `original first` how often the vector that the query was made from comes
out first, by exact search and by the approximate one.

A search is measured in a process of its own. "new process" is its first, of 4 queries (the turns of
one image), with the import of faiss and opening the files, but without Python's and NumPy's
start, and with the collection in the page cache; "again" the median of further ones; "1 query" of
single queries. "resident" counts the
pages of mapped files, which the system takes back when it needs them; "without files" does not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array, Int64Array
from vladkit.store.ann import build_ann, open_ann
from vladkit.store.blocks import Layout
from vladkit.store.exact import score_all
from vladkit.store.rows import ImageRow, Record
from vladkit.store.store import Store

D = 256
BLOCK_BYTES = 2**20
QUERIES = 100
TURNS = 4
TOP = 10
CANDIDATES = 50
NOISE = 0.75

# -- stored vectors -------------------------------------------------------------------------------


def write_rows(path: Path, batches: Iterator[Float32Array]) -> tuple[int, float]:
    """Store vectors as those of images that do not exist; (how many, seconds to store them)."""
    n, seconds = 0, 0.0
    with Store.create(path) as store:
        with store.writing():
            source = store.add_source("/nowhere", "nowhere").source_id
        for vector_nD in batches:
            half_nD = vector_nD.astype("<f2")
            begin = time.perf_counter()
            with store.writing():
                rows = [ImageRow(source, f"{i:08}.jpg", 1, 1) for i in range(n, n + len(half_nD))]
                store.put([Record(row, half_D) for row, half_D in zip(rows, half_nD, strict=True)])
            seconds += time.perf_counter() - begin
            n += len(half_nD)
        begin = time.perf_counter()
    return n, seconds + time.perf_counter() - begin


def connect(path: Path) -> Store:
    store = Store.open(path, read_only=True)
    store.layout = Layout(np.dtype("f2"), D)
    return store


def read_blocks(store: Store) -> Iterator[tuple[Int64Array, AnyArray]]:
    """All vectors, a block at a time."""
    return store.vector_blocks()


def read_rows(store: Store, id_n: Int64Array) -> AnyArray:
    """The vectors of some images."""
    found = store.vectors(id_n.tolist())
    return np.stack([found[i] for i in id_n.tolist()])


# -- vectors --------------------------------------------------------------------------------------


def unit(vector_nD: Float32Array) -> Float32Array:
    return vector_nD / np.linalg.norm(vector_nD, axis=1, keepdims=True)


def vectors(kind: str, n: int, seed: int) -> Iterator[Float32Array]:
    rng = np.random.default_rng(seed)
    batch = BLOCK_BYTES // (2 * D) * 8
    sizes = [min(batch, n - begin) for begin in range(0, n, batch)]
    if kind == "random":
        for m in sizes:
            yield unit(rng.standard_normal((m, D), np.float32))
        return
    scale_D = (np.arange(1, D + 1) ** -0.16).astype(np.float32)
    n_scenes = max(1, n // 10)
    place_kD = rng.standard_normal((200, D), np.float32)
    scene_nD = rng.standard_normal((n_scenes, D), np.float32)
    scene_nD *= 0.8
    place_n = rng.integers(0, 200, n_scenes)
    for begin in range(0, n_scenes, batch):  # the only large array: what is measured is the store
        some = slice(begin, begin + batch)
        scene_nD[some] += 0.6 * place_kD[place_n[some]]
    images_n = np.cumsum(np.arange(1, n_scenes + 1) ** -0.5)
    for m in sizes:
        scene_m = np.searchsorted(images_n, rng.uniform(0, images_n[-1], m))
        deviation_m1 = np.exp(rng.uniform(np.log(0.3), np.log(2), (m, 1))).astype(np.float32)
        vector_mD = scene_nD[scene_m] + deviation_m1 * rng.standard_normal((m, D), np.float32)
        yield unit(vector_mD * scale_D)


def queries(path: Path, n: int, seed: int) -> tuple[Int64Array, Float32Array]:
    rng = np.random.default_rng([seed, 1])
    own_q = np.sort(rng.choice(n, QUERIES, replace=False)) + 1  # ids begin with 1
    noise_qD = unit(rng.standard_normal((QUERIES, D), np.float32))
    stored_qD = read_rows(connect(path), own_q).astype(np.float32)
    return own_q, unit(stored_qD + NOISE * noise_qD)


# -- measuring ------------------------------------------------------------------------------------


def memory() -> tuple[float, float]:
    """(most memory resident so far, now of this process alone: without files), MB; Linux."""
    # not ru_maxrss, which begins with what the parent process had
    status = Path("/proc/self/status").read_text()
    most, own = (float(status.split(name)[1].split()[0]) for name in ("VmHWM:", "RssAnon:"))
    return most / 1024, own / 1024


def exact(connection: Store, query_qD: Float32Array) -> Int64Array:
    id_n, score_qn = score_all(query_qD, read_blocks(connection))
    top_qr = np.argpartition(-score_qn, TOP, axis=1)[:, :TOP]
    order_qr = np.argsort(-np.take_along_axis(score_qn, top_qr, axis=1), axis=1)
    return id_n[np.take_along_axis(top_qr, order_qr, axis=1)]


def approximate(connection: Store, index, query_qD: Float32Array) -> Int64Array:  # type: ignore[no-untyped-def]
    candidate_qn, _ = index.search(query_qD, CANDIDATES)
    found = []
    for query_D, candidate_n in zip(query_qD, candidate_qn, strict=True):
        candidate_n = candidate_n[candidate_n >= 0]
        score_n = read_rows(connection, candidate_n).astype(np.float32) @ query_D
        found.append(candidate_n[np.argsort(-score_n)[:TOP]])
    return np.stack(found)


def search(path: Path, n: int, seed: int, way: str) -> dict[str, object]:
    """In a process of its own: times (s), memory (MB) and what is found first."""
    _, query_qD = queries(path, n, seed)
    begin = time.perf_counter()
    connection = connect(path)
    if way == "approximate":
        index = open_ann(f"{path}.ann", "benchmark")
        assert index is not None
    seconds, cpu_seconds = [], []
    for i in range(0, 15 * TURNS, TURNS):
        cpu = time.process_time()
        some_qD = query_qD[i : i + TURNS]
        approximate(connection, index, some_qD) if way == "approximate" else exact(
            connection, some_qD
        )
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu)
        begin = time.perf_counter()
    one = []
    for query_D in query_qD[-15:]:
        begin = time.perf_counter()
        if way == "approximate":
            approximate(connection, index, query_D[np.newaxis])
        else:
            exact(connection, query_D[np.newaxis])
        one.append(time.perf_counter() - begin)
    resident, own = memory()
    if way == "approximate":
        found_qr = approximate(connection, index, query_qD)
    else:
        found_qr = np.concatenate(
            [exact(connection, query_qD[i : i + 8]) for i in range(0, 100, 8)]
        )
    return {
        "first": seconds[0],
        "again": statistics.median(seconds[1:]),
        "one": statistics.median(one),
        "cpu": min(cpu_seconds),
        "resident": resident,
        "own": own,
        "found": found_qr.tolist(),
    }


def measure(folder: Path, kind: str, n: int, seed: int) -> dict[str, str]:
    path = folder / f"{kind}{n}.vlad"
    _, ingest = write_rows(path, vectors(kind, n, seed))
    own_q, _ = queries(path, n, seed)
    connection = connect(path)
    begin, cpu = time.perf_counter(), time.process_time()
    report = build_ann(
        lambda: read_blocks(connection), n, D, f"{path}.ann", stamp="benchmark", seed=seed
    )
    build, cpu = time.perf_counter() - begin, time.process_time() - cpu
    connection.close()
    done = {}
    for way in ("exact", "approximate"):
        command = [sys.executable, __file__, "--search", way, str(path), str(n), str(seed)]
        # as the command does
        alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        run = subprocess.run(command, check=True, capture_output=True, env=alone)
        done[way] = json.loads(run.stdout)
    truth_qr, found_qr = (np.array(done[way]["found"]) for way in done)
    hits = [
        np.isin(truth_r, found_r).sum() for truth_r, found_r in zip(truth_qr, found_qr, strict=True)
    ]
    first = [float((found[:, 0] == own_q).mean()) for found in (truth_qr, found_qr)]
    sizes = [Path(name).stat().st_size / 1e6 for name in (path, f"{path}.ann")]
    row = {
        "vectors": f"{n:,} {kind}",
        "file, MB": f"{sizes[0]:.0f}",
        "vectors/s in": f"{n / ingest:,.0f}",
    }
    for way, result in done.items():
        row[f"{way}: new process, ms"] = f"{1e3 * result['first']:.0f}"
        row[f"{way}: again, ms"] = f"{1e3 * result['again']:.1f}"
        row[f"{way}: 1 query, ms"] = f"{1e3 * result['one']:.1f}"
        row[f"{way}: again, least CPU ms"] = f"{1e3 * result['cpu']:.1f}"
        row[f"{way}: resident, without files, MB"] = (
            f"{result['resident']:.0f}, {result['own']:.0f}"
        )
    return row | {
        "build, s (of CPU)": f"{build:.1f} ({cpu:.1f})",
        "index, MB": f"{sizes[1]:.1f}",
        "cells, looked into": f"{report.n_cells}, {report.n_probes}",
        "scanned": f"{report.scanned:.1%}",
        "recall@10 of stored": f"{report.recall:.3f}",
        "recall@10": f"{sum(hits) / truth_qr.size:.3f}",
        "original first": f"{first[0]:.2f}, {first[1]:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--kinds", nargs="+", default=["scenes", "random"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one by default")
    parser.add_argument("--search", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        way, path, n, seed = args.search
        json.dump(search(Path(path), int(n), int(seed), way), sys.stdout)
        return
    rows = []
    for kind in args.kinds:
        for n in args.sizes:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                rows.append(measure(Path(folder), kind, n, args.seed))
            print(rows[-1], file=sys.stderr, flush=True)
    for name in rows[0]:  # a column for each collection
        print("| " + " | ".join([name, *(row[name] for row in rows)]) + " |")
        if name == "vectors":
            print("|" + "---|" * (len(rows) + 1))


if __name__ == "__main__":
    main()
