"""Finding altered copies among images of the same scenes: precision and recall over pairs.

    python benchmarks/duplicates.py folder [folder ...] [--images 200] [--flips]

Takes every n-th pair of neighbours (by name) of the folders' images, so that sets whose files of
one scene follow each other give images of the same scene taken again, which are no duplicates.
Each image is altered in nine ways (eight without --flips), all are indexed, and
`Collection.duplicates` is asked for groups.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before NumPy

import cv2
import numpy as np

from vladkit import Collection
from vladkit.images import is_image_name


def resized(factor: float) -> Callable[[np.ndarray, int], np.ndarray]:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda image, _: cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)


def half(image: np.ndarray, i: int) -> np.ndarray:
    h, w = image.shape[:2]
    inset = (1 - 0.5**0.5) / 2
    y, x = round(h * inset), round(w * inset)
    parts = [np.s_[:, : w // 2], np.s_[:, w // 2 :], np.s_[: h // 2], np.s_[h // 2 :]]
    return image[[*parts, np.s_[y : h - y, x : w - x]][i % 5]]


def rotated(image: np.ndarray, i: int) -> np.ndarray:
    h, w = image.shape[:2]
    turn_23 = cv2.getRotationMatrix2D((w / 2, h / 2), 7 if i % 2 else -7, 1)
    return cv2.warpAffine(image, turn_23, (w, h))


def watermarked(image: np.ndarray, i: int) -> np.ndarray:
    h, w = image.shape[:2]
    size = w / 320
    where = round(w * 0.1), round(h * (0.3 + 0.1 * (i % 5)))
    text = image.copy()
    cv2.putText(text, "SAMPLE IMAGE", where, cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3,
                max(1, round(3 * size)))  # fmt: skip
    return cv2.addWeighted(image, 0.3, text, 0.7, 0)


ALTERATIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "original": lambda image, _: image,
    "half size": resized(0.5),
    "1.5 x": resized(1.5),
    "quality 30": lambda image, _: image,
    "cropped": half,
    "rotated 90": lambda image, i: np.rot90(image, 1 + 2 * (i % 2)),
    "rotated 7": rotated,
    "watermarked": watermarked,
    "brightness": lambda image, i: cv2.convertScaleAbs(
        image, alpha=1.25 if i % 2 else 0.75, beta=20
    ),
    "flipped": lambda image, _: image[:, ::-1],
}


def write_altered(file: Path, i: int, name: str, target: Path) -> None:
    image = np.ascontiguousarray(ALTERATIONS[name](cv2.imread(str(file)), i))
    quality = 30 if name == "quality 30" else 90
    cv2.imwrite(str(target), image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def choose(folders: list[Path], n: int) -> list[Path]:
    """`n` images: pairs of neighbours, evenly spread over the folders."""
    chosen = []
    for folder in folders:
        files = sorted(f for f in folder.iterdir() if is_image_name(f))
        n_pairs = -(-n // (2 * len(folders)))
        starts = np.linspace(0, len(files) - 2, n_pairs).astype(int)
        chosen += [files[k] for k in sorted({k for s in starts for k in (s, s + 1)})]
    return chosen[:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--flips", action="store_true")
    args = parser.parse_args()

    names = [n for n in ALTERATIONS if args.flips or n != "flipped"]
    files = choose(args.folders, args.images)
    items = {f"{i:03} {name}.jpg": (i, name) for i in range(len(files)) for name in names}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "images")
        folder.mkdir()
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(write_altered, files[i], i, name, folder / path)
                for path, (i, name) in items.items()
            ]
            for job in jobs:
                job.result()
        with Collection.create(Path(home, "c.vlad")) as collection:
            collection.add([folder])
            begin = time.perf_counter()
            groups = collection.duplicates(flips=args.flips, candidates=args.candidates)
            seconds = time.perf_counter() - begin

    def right(pair: tuple[str, str]) -> bool:
        return items[pair[0]][0] == items[pair[1]][0]

    grouped = {
        pair
        for each in groups
        for pair in combinations(sorted([each.path, *(o.path for o in each.others)]), 2)
    }
    wanted = {pair for pair in combinations(sorted(items), 2) if right(pair)}
    print(f"{len(files)} images x {len(names)}: {len(groups)} groups in {seconds:.1f} s")
    print(
        f"pairs that share a group: precision {len(grouped & wanted) / max(1, len(grouped)):.4f}, "
        f"recall {len(grouped & wanted) / len(wanted):.4f}"
    )
    missed = Counter(items[path][1] for pair in wanted - grouped for path in pair)
    print("in missed pairs:", dict(missed.most_common()))
    for pair in sorted(grouped - wanted)[:20]:
        print("wrong:", *((files[items[path][0]].name, items[path][1]) for path in pair))
    kinds: dict[str, Counter[str]] = {name: Counter() for name in names}
    for each in groups:
        if items[each.path][1] == "original":  # else the 1.5 times larger one is the reference
            continue
        for other in each.others:
            kinds[items[other.path][1]][", ".join(other.kinds)] += 1
    print("kinds, where the enlarged copy is the reference:")
    for name, counts in kinds.items():
        print(f"  {name:12} {dict(counts.most_common(4))}")


if __name__ == "__main__":
    main()
