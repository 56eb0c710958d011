"""Time of re-ranking: match a query with 50 images and verify, against a plain loop of OpenCV.

    python benchmarks/rerank.py folder-of-images [--top 50] [--features 1000] [--rounds 7]

The first image (by name) is the query, the next ones are what a search found; every row begins
with features in memory, as stored. `sketch` is cv2.BFMatcher's two nearest, the ratio test and
cv2.findHomography (USAC_MAGSAC), an image after the other. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.features import Features, Sift
from vladkit.geometry.matching import Matcher
from vladkit.geometry.verification import verify, verify_all
from vladkit.images import is_image_name


def sketch(query: Features, others: list[Features], metric: Callable) -> list[int]:
    matcher = cv2.BFMatcher()
    query_lf = metric(query.descriptor_lf)
    counts = []
    for other in others:
        pairs = matcher.knnMatch(query_lf, metric(other.descriptor_lf), k=2)
        good = [a for a, b in pairs if a.distance < 0.8 * b.distance]
        if len(good) < 4:
            counts.append(0)
            continue
        a_m2 = query.xy_l2[[m.queryIdx for m in good]]
        b_m2 = other.xy_l2[[m.trainIdx for m in good]]
        _, mask = cv2.findHomography(a_m2, b_m2, cv2.USAC_MAGSAC, 5.0)
        counts.append(0 if mask is None else int(mask.sum()))
    return counts


def median_ms(run: Callable[[], object], rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--top", type=int, default=50)
    parser.add_argument("--features", type=int, default=1000, help="of each image that was found")
    parser.add_argument("--query-features", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=None)
    args = parser.parse_args()

    sift = Sift()
    files = [f for f in sorted(args.folder.iterdir()) if is_image_name(f)][: args.top + 1]
    features = [sift.read(file) for file in files]
    query = features[0].strongest(args.query_features)
    others = [each.strongest(args.features) for each in features[1:]]
    n = np.mean([len(each) for each in others])
    print(f"{len(query)} features against {len(others)} images of {n:.0f} on average")

    stored = [each.descriptor_lf for each in others]
    matcher = Matcher(query.descriptor_lf, sift.metric)
    matched = [matcher.match(each) for each in stored]

    def metric() -> None:
        for each in others:
            sift.metric(each.descriptor_lf)

    def match() -> None:
        matcher = Matcher(query.descriptor_lf, sift.metric)
        for_each(lambda i: matcher.match(stored[i]), len(stored), resolve_n_jobs(args.jobs))

    def verify_only() -> None:
        for other, matches in zip(others, matched, strict=True):
            verify(query, other, matches)

    rows = {
        "metric, one thread": metric,
        "metric + match": match,
        "verify, one thread": verify_only,
        "all: verify_all": lambda: verify_all(query, others, sift.metric, n_jobs=args.jobs),
        "sketch": lambda: sketch(query, others, sift.metric),
    }
    for name, run in rows.items():
        print(f"{name:20} {median_ms(run, args.rounds):8.1f} ms")


if __name__ == "__main__":
    main()
