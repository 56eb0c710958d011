"""Axes of short vectors (PCA): how many, and learned from which share of the images.

    python benchmarks/axes.py holidays kth museum corridor --others photos
    python benchmarks/axes.py ... --json docs/results/axes.json

All images are described once, whole. First each set (a folder with ground_truth.json) by itself:
axes are learned from all of its images, of different numbers. Then images of all sets and others
together, in an order that is drawn: axes are learned from the first ones, and rank all; then the
vectors that they were learned from are shrunk (vladkit.aggregation.shrinkage). Figures are mAP by
vectors, and by vectors and match codes, without matching.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vladkit import Collection, Whitening
from vladkit.aggregation.shrinkage import score_shrinkage, shrunk
from vladkit.bench.machine import provenance
from vladkit.bench.run import environment_for
from vladkit.errors import ImageError
from vladkit.evaluation.benchmark import read_ground_truth
from vladkit.evaluation.metrics import average_precision

IMAGES_PER_AXIS = (0, 2, 3, 4, 6)
"""0: whole vectors."""
MOST_AXES = 256
SHARES = (0.5, 0.75, 0.9, 0.95, 0.98, 1.0)
ROTATED = 0.8
BY_VECTORS = 0.002
PIECE = 500
"""As a search ranks, docs/explanation/ranking.md and match-kernels.md."""


@dataclass(frozen=True)
class Asked:
    """Queries of a set: views (q, v, D), agreements (q, n), right images and those left out."""

    query_qvD: np.ndarray
    agreement_qn: np.ndarray
    right_qn: np.ndarray
    ignored_qn: np.ndarray

    def on(self, image_n: np.ndarray) -> Asked:
        """Queries that have something right among some of the images."""
        q = self.right_qn[:, image_n].any(axis=1)
        rest = (a[q][:, image_n] for a in (self.agreement_qn, self.right_qn, self.ignored_qn))
        return Asked(self.query_qvD[q], *rest)


def axes(n: int, images_per_axis: int) -> int:
    return min(MOST_AXES, n // images_per_axis)


def scores(
    asked: Asked, vector_nD: np.ndarray, n_learned: int, n_axes: int, *, shrinks: bool = False
) -> np.ndarray:
    """Similarities (q, n) of vectors that axes of the first ones make short; 0: whole ones."""
    query_qvD = asked.query_qvD
    if n_axes:
        learned_nD = vector_nD[:n_learned]
        whitening = Whitening(n_axes).fit(learned_nD)
        query_qvD, vector_nD = whitening.transform_views(query_qvD), whitening.transform(vector_nD)
        gram_nn = learned_nD.astype(np.float64) @ learned_nD.T if shrinks else np.zeros((0, 0))
        share_d = score_shrinkage(gram_nn, n_axes)
        if share_d is not None:
            vector_nD[:n_learned] = shrunk(vector_nD[:n_learned], share_d, whitening.power)
    view_qvn = query_qvD @ vector_nD.T
    return np.maximum(view_qvn[:, 0], ROTATED * view_qvn[:, 1:].max(axis=1))


def mean_precision(asked: Asked, score_qn: np.ndarray) -> float:
    found = []
    for score_n, right_n, ignored_n in zip(score_qn, asked.right_qn, asked.ignored_qn, strict=True):
        order_n = np.argsort(-score_n, kind="stable")
        order_n = order_n[~ignored_n[order_n]]
        ranks = (np.flatnonzero(right_n[order_n]) + 1).tolist()
        found.append(average_precision(ranks, int(right_n.sum())))
    return float(np.mean(found))


def both(asked: Asked, similarity_qn: np.ndarray) -> tuple[float, float]:
    """MAP by vectors, and by vectors and codes."""
    product_qn = similarity_qn * (asked.agreement_qn + BY_VECTORS)
    return mean_precision(asked, similarity_qn), mean_precision(asked, product_qn)


def describe(
    args: argparse.Namespace,
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Asked]]:
    """Vectors (n, D) of all images in the order drawn, rows of each set, and its queries."""
    truths = {folder.name: read_ground_truth(folder / "ground_truth.json") for folder in args.sets}
    others = sorted(args.others.rglob("*.jpg")) if args.others else []
    files = [str(f) for b in truths.values() for f in sorted(b.database or ())]
    files += map(str, others)
    random.Random(args.seed).shuffle(files)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "whole.vlad"
        with Collection.create(target, n_components=0, seed=args.seed) as collection:
            collection.add(files)
            place = {os.path.realpath(f): i for i, f in enumerate(files)}
            row_of = {r.image_id: place[os.path.realpath(r.file)] for r in collection.images()}
            vector_nD = np.zeros((len(files), collection.n_dimensions), np.float32)
            for image_id_n, block_nD in collection.index.store.vector_blocks():
                vector_nD[[row_of[i] for i in image_id_n.tolist()]] = block_nD
            queries = {
                name: Asked(*map(np.array, zip(*ask(collection, b, row_of, files), strict=True)))
                for name, b in truths.items()
            }
    of_set = {
        name: np.array([place[os.path.realpath(f)] for f in sorted(b.database or ())])
        for name, b in truths.items()
    }
    return vector_nD, of_set, queries


def ask(collection: Collection, benchmark, row_of: dict[int, int], files: list[str]) -> Iterator:
    searcher, describer = collection.index.searcher, collection.index.describer
    real = [os.path.realpath(file) for file in files]
    for query in benchmark.queries:
        try:
            asked = describer.query(collection.extract(query.file, region=query.region))
        except ImageError as error:
            print(f"{query.file}: {error}", file=sys.stderr)
            continue
        (ranked,) = searcher.nearest(asked.vector_vD[None], 0)
        agreement_n = np.zeros(len(files))
        for begin in range(0, len(ranked), PIECE):  # as many as are scored together
            for each in searcher.by_codes([asked], ranked[begin : begin + PIECE]):
                agreement_n[row_of[each.image_id]] = each.agreement or 0
        ((_, relevance),) = query.relevance.items()
        relevant = {os.path.realpath(f) for f in relevance.relevant}
        ignored = {os.path.realpath(f) for f in (*relevance.ignored, query.file)}
        yield (
            asked.vector_vD,
            agreement_n,
            np.array([f in relevant for f in real]),
            np.array([f in ignored for f in real]),
        )


def row(title: str, by_set: dict[str, tuple[float, float]]) -> list[str]:
    cells = [*by_set.values(), tuple(np.mean(list(by_set.values()), axis=0))]
    line = [title, *("{:.3f} {:.3f}".format(*cell) for cell in cells)]
    print(" | ".join(line), flush=True)
    return line


def tables(args: argparse.Namespace) -> dict:
    vector_nD, of_set, queries = describe(args)
    columns = ["by vectors, and codes", *queries, "mean"]
    alone = []
    for per_axis in IMAGES_PER_AXIS:
        found = {}
        for name, asked in queries.items():
            own_nD, own = vector_nD[of_set[name]], asked.on(of_set[name])
            n_axes = axes(len(own_nD), per_axis) if per_axis else 0
            found[name] = both(own, scores(own, own_nD, len(own_nD), n_axes))
        alone.append(row(f"{per_axis} images an axis" if per_axis else "whole", found))
    together = []
    for n in args.sizes:
        image_n = np.arange(min(n, len(vector_nD)))
        here = {name: asked.on(image_n) for name, asked in queries.items()}
        for share in (0, *SHARES):
            learned = int(share * len(image_n))
            n_axes = axes(learned, 3) if learned else 0
            some_nD = vector_nD[image_n]
            title = f"{len(image_n)} images, " + (f"axes of {learned}" if learned else "whole")
            for shrinks in (False, True) if n_axes else (False,):
                of = {
                    k: both(a, scores(a, some_nD, learned, n_axes, shrinks=shrinks))
                    for k, a in here.items()
                }
                together.append(row(title + ", shrunk" * shrinks, of))
    return {
        "each set by itself": {"columns": columns, "rows": alone},
        "together": {"columns": columns, "rows": together},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path, help="folders with ground_truth.json")
    parser.add_argument("--others", type=Path, help="folder of photos of anything else")
    parser.add_argument("--sizes", type=int, nargs="+", default=[600, 1000, 1820],
                        help="images that are ranked together")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    wanted = environment_for(1)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)
    made = tables(args)
    if args.json:
        run = {"provenance": provenance("benchmarks/axes.py --json"), "tables": made}
        Path(args.json).write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
