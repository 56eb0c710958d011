"""Where the time of one search goes: start-up, decode + SIFT, and all the rest.

    python benchmarks/search.py photos.vlad query.jpg [--rounds 9]

Each round is a fresh process, as `vladkit search` is. `rest` is reading the codebook, encoding,
reading all vectors and ranking. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time


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
    for name in runs[0]:
        values = [run[name] for run in runs]
        if name == "images":
            print(f"{values[0]} images")
        else:
            print(f"{name:14} {1e3 * statistics.median(values):7.1f} ms")


if __name__ == "__main__":
    main()
