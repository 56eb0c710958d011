"""`vladkit index` against a bare loop of decode + SIFT with the same settings and threads.

    python benchmarks/index.py [FOLDER] [--rounds 3] [--json docs/results/index.json]

Without a folder: crops of the photographs that scikit-image ships. The bare loop reads each file,
decodes it at the same size and runs OpenCV's SIFT on it, one image to a thread, and keeps nothing.
Both are whole processes and take turns; the ratio is of medians. What vladkit does beyond:
start-up, finding files, training, encoding, storing.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def write_crops(folder: Path) -> None:
    """Write five crops of each of scikit-image's photographs that is a natural scene."""
    import cv2
    import skimage

    shipped = Path(skimage.__file__).parent / "data"
    for name in ("astronaut", "camera", "chelsea", "coffee", "coins", "motorcycle_left", "rocket"):
        image = cv2.imread(str(next(shipped.glob(f"{name}.*"))))
        h, w = image.shape[:2]
        for i in range(5):
            y, x = i * h // 20, (4 - i) * w // 20
            cv2.imwrite(
                str(folder / f"{name}{i}.jpg"), image[y : y + 4 * h // 5, x : x + 4 * w // 5]
            )


def bare(folder: str, threads: int) -> None:
    import cv2

    from vladkit.errors import ImageError
    from vladkit.features import Sift
    from vladkit.images import is_image_name, read_image

    cv2.setNumThreads(1)
    sift = Sift()

    def work(file: Path) -> int:
        try:
            gray_yx = read_image(file, max_side=sift.max_side).gray_yx
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
        files = sorted(file for file in Path(folder).rglob("*") if is_image_name(file))
        print(sum(pool.map(work, files)), "features")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="of images; default: scikit-image's photographs")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.folder, args.threads)
        return
    seconds: dict[str, list[float]] = {"vladkit index": [], "bare decode + SIFT": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder, output = args.folder, str(Path(temporary) / "c.vlad")
            if folder is None:
                folder = str(Path(temporary) / "photos")
                Path(folder).mkdir()
                write_crops(Path(folder))
            index = ["-m", "vladkit", "index", folder, "-o", output, "-j", str(args.threads)]
            loop = [__file__, folder, "--bare", "--threads", str(args.threads)]
            for name, command in zip(seconds, (index, loop), strict=True):
                begin = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{name:20} {median[name]:7.2f} s  ({spread}, {args.threads} threads)")
    ratio = median["vladkit index"] / median["bare decode + SIFT"]
    print(f"ratio {ratio:.3f}")
    if args.json:
        from vladkit.bench.machine import provenance

        rows = [[name, f"{seconds:.1f}"] for name, seconds in median.items()]
        tables = {
            "folder": {
                "columns": ["", "ratio"],
                "rows": [["vladkit index over decode and SIFT", f"{ratio:.2f}"]],
            },
            "seconds": {"columns": ["", "s"], "rows": rows},
        }
        run = {"provenance": provenance("benchmarks/index.py"), "tables": tables}
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
