"""Where the time of one search goes: start-up, decode + SIFT, and all the rest.

    python benchmarks/search.py photos.vlad query.jpg [--rounds 9] [--json docs/results/search.json]

Each round is a fresh process, as `vladkit search` is. `rest` is reading the codebook, encoding,
reading all vectors and ranking, without geometry. The last two are the command itself, from its
start to its end. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def once(file: str, image: str) -> dict[str, float]:
    begin = time.perf_counter()
    import cv2  # noqa: F401  (search needs it: it belongs to start-up)

    from vladkit.collection.collection import Collection
    from vladkit.collection.search_options import SearchOptions
    from vladkit.features.pool import extract

    started = time.perf_counter()
    with Collection.open(file, read_only=True) as collection:
        opened = time.perf_counter()
        features = extract(collection.extractor, image)
        extracted = time.perf_counter()
        query = collection.index.describer.query(features)
        encoded = time.perf_counter()
        collection.index.searcher.search([query], SearchOptions(10, rerank=0))
        n_images = len(collection)
    end = time.perf_counter()
    return {
        "images": n_images,
        "imports": started - begin,
        "decode + SIFT": extracted - opened,
        "open": opened - started,
        "encode": encoded - extracted,
        "rank": end - encoded,
        "rest": (opened - started) + (end - extracted),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("image")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        json.dump(once(args.file, args.image), sys.stdout)
        return
    command = [sys.executable, __file__, args.file, args.image, "--once"]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(args.rounds)
    ]
    for options in ([], ["--rerank", "0"]):
        search = ["search", args.file, args.image, *options]
        name = "vladkit search" + "".join(f" {option}" for option in options)
        for run in runs:
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "vladkit", *search], check=True, capture_output=True
            )
            run[name] = time.perf_counter() - begin
    images = int(runs[0].pop("images"))
    print(f"{images} images")
    rows = [[name, f"{1e3 * statistics.median(run[name] for run in runs):.0f}"] for name in runs[0]]
    for name, took in rows:
        print(f"{name:25} {took:>5} ms")
    if args.json:
        from vladkit.bench.machine import provenance

        tables = {
            "size": {"columns": ["", "value"], "rows": [["images", str(images)]]},
            "steps": {"columns": ["", "ms"], "rows": rows},
        }
        run = {"provenance": provenance("benchmarks/search.py"), "tables": tables}
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
