"""`vladkit index` against a bare loop of decode + SIFT with the same settings and threads.

    python benchmarks/index.py FOLDER [--rounds 3]

The bare loop reads each file, decodes it at the same size and runs OpenCV's SIFT on it, one
image to a thread, and keeps nothing. Both are whole processes and take turns; the ratio is of
medians. What vladkit does beyond: start-up, finding files, training, encoding, storing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def bare(folder: str, threads: int) -> None:
    import cv2

    from vladkit.collection.discover import discover
    from vladkit.errors import ImageError
    from vladkit.features import Sift, read_gray

    cv2.setNumThreads(1)
    sift = Sift()

    def work(file: str) -> int:
        try:
            gray_yx = read_gray(file, max_side=sift.max_side).gray_yx
        except ImageError:
            return 0
        side = max(gray_yx.shape)
        if side < sift.enlarge_to:
            scale = sift.enlarge_to / side
            gray_yx = cv2.resize(gray_yx, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        opencv = cv2.SIFT.create(sift.max_features, contrastThreshold=sift.contrast_threshold)
        points, _ = opencv.detectAndCompute(gray_yx, None)
        return len(points)

    with ThreadPoolExecutor(threads) as pool:
        print(sum(pool.map(work, [found.file for found in discover([folder])])), "features")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.folder, args.threads)
        return
    seconds: dict[str, list[float]] = {"vladkit index": [], "bare decode + SIFT": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as temporary:
            output = str(Path(temporary) / "c.vlad")
            index = ["-m", "vladkit", "index", args.folder, "-o", output, "-j", str(args.threads)]
            loop = [__file__, args.folder, "--bare", "--threads", str(args.threads)]
            for name, command in zip(seconds, (index, loop), strict=True):
                begin = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{name:20} {median[name]:7.2f} s  ({spread}, {args.threads} threads)")
    print(f"ratio {median['vladkit index'] / median['bare decode + SIFT']:.3f}")


if __name__ == "__main__":
    main()
