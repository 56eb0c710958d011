"""Finding altered copies among pictures of the same scenes: precision and recall over pairs.

    python benchmarks/duplicates.py folder [folder ...] [--pictures 200] [--candidates 20] [--flips]

Takes every n-th pair of neighbours (by name) of the folders' pictures, so that sets whose files of
one scene follow each other give pictures of the same scene taken again, which are no duplicates.
Each picture is altered in nine ways in memory (eight without --flips). Candidates of a picture are
its nearest by VLAD vectors, at the four quarter turns and, with --flips, mirrored too.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from vladkit.duplicates import group, same_shot
from vladkit.features import (
    Features,
    Sift,
    decode_gray,
    is_picture_name,
    one_opencv_thread,
)
from vladkit.ragged import Ragged
from vladkit.recipe import Recipe


def resized(factor: float) -> Callable[[np.ndarray, int], np.ndarray]:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda image, _: cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)


def half(image: np.ndarray, i: int) -> np.ndarray:
    h, w = image.shape[:2]
    inset = (1 - 0.5**0.5) / 2
    y, x = round(h * inset), round(w * inset)
    parts = [np.s_[:, : w // 2], np.s_[:, w // 2 :], np.s_[: h // 2], np.s_[h // 2 :]]
    return image[[*parts, np.s_[y : h - y, x : w - x]][i % 5]]


def turned(image: np.ndarray, i: int) -> np.ndarray:
    h, w = image.shape[:2]
    turn_23 = cv2.getRotationMatrix2D((w / 2, h / 2), 7 if i % 2 else -7, 1)
    return cv2.warpAffine(image, turn_23, (w, h))


def watermarked(image: np.ndarray, i: int) -> np.ndarray:
    h, w = image.shape[:2]
    size = w / 320
    where = round(w * 0.1), round(h * (0.3 + 0.1 * (i % 5)))
    text = image.copy()
    cv2.putText(text, "SAMPLE PICTURE", where, cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3,
                max(1, round(3 * size)))  # fmt: skip
    return cv2.addWeighted(image, 0.3, text, 0.7, 0)


ALTERATIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "original": lambda image, _: image,
    "half size": resized(0.5),
    "1.5 x": resized(1.5),
    "quality 30": lambda image, _: image,
    "cropped": half,
    "rotated 90": lambda image, i: np.rot90(image, 1 + 2 * (i % 2)),
    "rotated 7": turned,
    "watermarked": watermarked,
    "brightness": lambda image, i: cv2.convertScaleAbs(
        image, alpha=1.25 if i % 2 else 0.75, beta=20
    ),
    "flipped": lambda image, _: image[:, ::-1],
}


def altered(file: Path, i: int, name: str, sift: Sift) -> Features:
    image = np.ascontiguousarray(ALTERATIONS[name](cv2.imread(str(file)), i))
    quality = 30 if name == "quality 30" else 90
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return sift.extract(decode_gray(data.tobytes(), max_side=sift.max_side))


def choose(folders: list[Path], n: int) -> list[Path]:
    """`n` pictures: pairs of neighbours, evenly spread over the folders."""
    chosen = []
    for folder in folders:
        files = sorted(f for f in folder.iterdir() if is_picture_name(f))
        n_pairs = -(-n // (2 * len(folders)))
        starts = np.linspace(0, len(files) - 2, n_pairs).astype(int)
        chosen += [files[k] for k in sorted({k for s in starts for k in (s, s + 1)})]
    return chosen[:n]


def candidates(features: list[Features], sift: Sift, top: int, flips: bool) -> set[tuple[int, int]]:
    """Pairs (i, j), i < j, where one is among the nearest of the other."""
    recipe = Recipe()
    rng = np.random.default_rng(0)
    sample = [recipe.local(sift, f.some(600, rng)) for f in features[:: len(ALTERATIONS) - 1]]
    sample_Nf = np.concatenate(sample)
    vlad = recipe.vlad(*sample_Nf.shape).fit(Ragged(sample_Nf, [0, len(sample_Nf)]))

    def vectors(some: list[Features], turns: int) -> np.ndarray:
        return vlad.transform(Ragged.from_list([recipe.local(sift, f, turns) for f in some]))

    upright_nD = vectors(features, 0)
    looks = [features, [sift.mirrored(f) for f in features]] if flips else [features]
    score_nn = np.max([vectors(f, turns) @ upright_nD.T for f in looks for turns in range(4)], 0)
    np.fill_diagonal(score_nn, -1)
    near_nr = np.argsort(-score_nn, axis=1)[:, :top]
    return {(min(i, j), max(i, j)) for i, row in enumerate(near_nr.tolist()) for j in row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--flips", action="store_true")
    args = parser.parse_args()

    sift = Sift()
    names = [n for n in ALTERATIONS if args.flips or n != "flipped"]
    files = choose(args.folders, args.pictures)
    items = [(i, name) for i in range(len(files)) for name in names]
    with one_opencv_thread(), ThreadPoolExecutor() as pool:
        features = list(pool.map(lambda item: altered(files[item[0]], *item, sift), items))
        pairs = sorted(candidates(features, sift, args.candidates, args.flips))
        kept = [f.strongest(args.features) for f in features]
        begin = time.perf_counter()
        found = list(
            pool.map(lambda p: same_shot(kept[p[0]], kept[p[1]], sift, flips=args.flips), pairs)
        )
        seconds = time.perf_counter() - begin

    def right(p: tuple[int, int]) -> bool:
        return items[p[0]][0] == items[p[1]][0]

    accepted = [p for p, difference in zip(pairs, found, strict=True) if difference]
    wrong = [p for p in accepted if not right(p)]
    grouped = {p for members in group(accepted) for p in combinations(sorted(members), 2)}
    wanted = {p for p in combinations(range(len(items)), 2) if right(p)}
    print(f"{len(files)} pictures x {len(names)}, {len(pairs)} candidate pairs, {seconds:.1f} s")
    n_right = len(accepted) - len(wrong)
    print(
        f"pairs:  precision {n_right / max(1, len(accepted)):.4f}, "
        f"recall of candidates {n_right}/{sum(map(right, pairs))}"
    )
    print(f"groups: precision {len(grouped & wanted) / max(1, len(grouped)):.4f}, "
          f"recall {len(grouped & wanted) / len(wanted):.4f}")  # fmt: skip
    missed = Counter(items[k][1] for p in wanted - grouped for k in p)
    print("in missed pairs:", dict(missed.most_common()))
    for p in wrong[:20]:
        print("wrong:", *((files[items[k][0]].name, items[k][1]) for k in p))
    kinds: dict[str, Counter] = {name: Counter() for name in names[1:]}
    for (i, j), difference in zip(pairs, found, strict=True):
        if difference and right((i, j)) and items[i][1] == "original":
            kinds[items[j][1]]["+".join(difference.kinds)] += 1
    for name, counts in kinds.items():
        print(f"  {name:12} {dict(counts.most_common(4))}")


if __name__ == "__main__":
    main()
