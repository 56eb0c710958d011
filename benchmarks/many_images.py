"""A whole search in a collection of a million images: processor time and memory.

    python benchmarks/many_images.py photos.vlad QUERY... [--sizes 1000 100000 1000000] --json OUT

The collection is copied and grown to each size with images that do not exist: the vector and the
match codes of each are mixed from those of two real ones (benchmarks/shortlist.py says how), and
nothing is kept of them to match with.

A search is that of Python and of `vladkit search --rerank 0`: the image is read, its features are
found, all vectors are compared, and the codes of the shortlist. Each size is measured in a new
process, the exact way and with an index (`vladkit build-ann`); "beyond extraction" is what is left
without decode + SIFT, which no collection changes. Times are medians over the queries, CPU that of
all threads; "first" is the first search of the process, with what it loads and opens. "resident"
counts the pages of mapped files, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from million import memory
from shortlist import mixed
from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.features.pool import extract
from vladkit.store.rows import ImageRow, Record

BLOCK = 2000


def grow(path: Path, size: int, seed: int) -> float:
    """Add images until there are `size`; images/s written, 0 if there were as many."""
    rng = np.random.default_rng([seed, size])
    with Collection.open(path) as collection:
        store = collection.index.store
        real = [row.image_id for row in store.indexed() if row.n_bytes > 1]
        found, parent_codes = store.codes(real)
        if parent_codes is None or found != real:
            sys.exit(f"{path} has images without match codes")
        held = store.vectors(real)
        vector_pD = np.stack([held[i] for i in real]).astype(np.float32)
        n = before = store.count()[0]
        writing = 0.0
        while n < size:
            m = min(BLOCK, size - n)
            vector_mD, codes = mixed(rng, m, vector_pD, parent_codes)
            dtype = store.layout.dtype
            begin = time.perf_counter()
            with store.writing():
                source = store.add_source("/nowhere", "nowhere").source_id
                store.put(
                    [
                        Record(
                            ImageRow(source, f"{n + i:08}.jpg", 1, 1, 640, 480, 1000),
                            vector_mD[i].astype(dtype),
                            codes=codes[[i]],
                        )
                        for i in range(m)
                    ]
                )
            writing += time.perf_counter() - begin
            n += m
    return (n - before) / writing if n > before else 0.0


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """(seconds, seconds of CPU of all threads)."""
    begin, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - begin, time.process_time() - cpu


def search(path: str, images: list[str]) -> dict[str, float]:
    """In a process of its own: times (ms) and memory (MB) of searches."""
    begin, cpu = time.perf_counter(), time.process_time()
    with Collection.open(path, read_only=True) as collection:
        collection.search(images[0], rerank=0)
        first = time.perf_counter() - begin, time.process_time() - cpu
        extraction = [timed(lambda i=i: extract(collection.extractor, i)) for i in images]
        whole = [timed(lambda i=i: collection.search(i, rerank=0)) for i in images]
    resident, own = memory()
    beyond = [w[1] - e[1] for w, e in zip(whole, extraction, strict=True)]
    return {
        "first": 1e3 * first[0],
        "first_cpu": 1e3 * first[1],
        "wall": 1e3 * statistics.median(w for w, _ in whole),
        "cpu": 1e3 * statistics.median(c for _, c in whole),
        "most_cpu": 1e3 * max(c for _, c in whole),
        "beyond_cpu": 1e3 * statistics.median(beyond),
        "resident": resident,
        "own": own,
    }


def measured(path: Path, images: list[str]) -> dict[str, float]:
    """`search` in a new process, the faster of two."""
    command = [sys.executable, __file__, str(path), *images, "--search"]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # as the command does
    runs = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=alone).stdout)
        for _ in range(2)
    ]
    return min(runs, key=lambda run: float(run["cpu"]))


def row(name: str, found: dict[str, float]) -> list[str]:
    """Figures of one way as text."""
    return [
        name,
        f"{found['cpu']:.0f} ({found['most_cpu']:.0f})",
        f"{found['beyond_cpu']:.0f}",
        f"{found['wall']:.0f}",
        f"{found['first']:.0f} ({found['first_cpu']:.0f})",
        f"{found['resident']:.0f}, {found['own']:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="collection")
    parser.add_argument("queries", nargs="+", help="images to search with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the file; a temporary one by default")
    parser.add_argument("--json", type=Path, help="write all figures")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        json.dump(search(str(args.file), args.queries), sys.stdout)
        return
    columns = ["", "CPU ms (most)", "beyond extraction, CPU ms", "ms"]
    columns += ["first, ms (CPU)", "MB resident, without files"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "grown.vlad"
        shutil.copy(args.file, path)
        for size in sorted(args.sizes):
            rate = grow(path, size, args.seed)
            said = f"{path.stat().st_size / 1e9:.2f} GB"
            said += f", {rate:,.0f} images/s written" if rate else ""
            print(f"{size:,}: {said}", file=sys.stderr, flush=True)
            ways = ["exact"]
            if size >= 10_000:
                ways.append("index")
            for way in ways:
                if way == "index":
                    with Collection.open(path) as collection:
                        collection.build_ann()
                rows.append(row(f"{size:,} images, {way}", measured(path, args.queries)))
                print(f"| {' | '.join(rows[-1])} |", flush=True)
    if args.json:
        run = {
            "provenance": provenance("benchmarks/many_images.py --json"),
            "tables": {"searches": {"columns": columns, "rows": rows}},
        }
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
