"""What codes of kept features cost: rankings, pairs, copies and homographies, against exact ones.

    python benchmarks/kept.py holidays kth museum corridor --affine graf boat wall
    python benchmarks/kept.py ... --keep-bytes 0 16 32 64 --json docs/results/kept.json

A set is a folder with ground_truth.json (docs/how-to/evaluation.md); --affine takes folders of
img1.png, img2.png, ... with H1to2p, ... Each set is indexed once with exact features; then its
features are encoded and read again in each number of bytes, 0 being as extracted. "inliers" are
those of the right images among the first 50 of each query, as a share of those with exact features;
"right" and "wrong" the shares of such images that are verified; "pairs" and "groups" what `vladkit
pairs -t 10 --rerank 10` and `duplicates` give, and how many of them are those of exact features.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.collection.descriptor_quantizer import DescriptorQuantizer
from vladkit.collection.kept_features import pack_features, unpack_features
from vladkit.collection.searching import Searcher
from vladkit.errors import ImageError
from vladkit.evaluation.benchmark import Query, read_ground_truth
from vladkit.evaluation.metrics import average_precision
from vladkit.features import Features, Sift
from vladkit.geometry.verification import MIN_INLIERS, verify_all
from vladkit.store.geometry import pack_geometry, unpack_geometry
from vladkit.store.rows import KeptFeatures

COLUMNS = ["set", "bytes", "KB an image", "mAP", "inliers", "correlation", "right", "wrong",
           "pairs", "groups", "ms a pair"]  # fmt: skip


@dataclass
class Codec:
    """The form of a file, exact without a quantizer, with a count of its bytes."""

    quantizer: DescriptorQuantizer | None
    n_bytes: int = 0
    n_images: int = 0

    def through(self, features: Features) -> Features:
        """Features as they are read again."""
        kept = pack_features(features, self.quantizer)
        size = kept.width, kept.height
        data = pack_geometry(kept.geometry_l5, *size, short=kept.is_coded)
        self.n_images += 1
        self.n_bytes += kept.descriptor_lf.nbytes + len(data)
        geometry_l5 = unpack_geometry(data, len(features), *size)
        again = KeptFeatures(kept.descriptor_lf, geometry_l5, *size, kept.is_coded)
        return unpack_features(again, self.quantizer)


def learned(features: list[Features], n_bytes: int, extractor: Sift) -> DescriptorQuantizer | None:
    """Quantizer of some images' descriptors, which are repeated if they are too few."""
    if not n_bytes:
        return None
    local_Nf = extractor.metric(np.concatenate([each.descriptor_lf for each in features]))
    some_n = np.random.default_rng(0).permutation(np.resize(np.arange(len(local_Nf)), 65536))
    return DescriptorQuantizer.fit(local_Nf[some_n], n_bytes, extractor, seed=0)


def matched(
    collection: Collection, asked: list[Query], queries: dict[str, Features]
) -> tuple[float, dict]:
    """mAP, and the inliers of each query with each image that was matched: (inliers, right)."""
    precisions, inliers = [], {}
    for query in asked:
        if query.file not in queries:
            continue
        ((_, relevance),) = query.relevance.items()
        relevant, ignored = ({os.path.realpath(f) for f in files} for files in
                             (relevance.relevant, {*relevance.ignored, query.file}))  # fmt: skip
        hits = collection.search(queries[query.file], top=0, rerank=50)
        files = [(os.path.realpath(hit.file), hit) for hit in hits]
        files = [(file, hit) for file, hit in files if file not in ignored]
        for file, hit in files:
            if hit.inliers is not None:
                inliers[query.file, file] = hit.inliers, file in relevant
        if relevant:
            ranks = [i for i, (file, _) in enumerate(files, 1) if file in relevant]
            precisions.append(average_precision(ranks, len(relevant)))
    return float(np.mean(precisions)), inliers


def measure(truth: Path, sizes: list[int], every: int) -> list[list[str]]:
    """Rows of one set."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder) / "set.vlad", keep_bytes=0) as collection,
    ):
        names = json.loads(truth.read_text())["database"]
        collection.add([truth.parent / name for name in names])
        searcher, ids = collection.index.searcher, [row.image_id for row in collection.images()]
        exact = Searcher.features(searcher, ids)
        asked, queries = read_ground_truth(truth).queries[::every], {}
        for query in asked:
            try:
                queries[query.file] = collection.extract(query.file)
            except ImageError as error:
                print(f"{query.file}: {error}")
        base = None
        for n_bytes in sizes:
            codec = Codec(learned(list(exact.values()), n_bytes, collection.extractor))
            coded = {i: codec.through(each) for i, each in exact.items()}
            # every command that matches asks for features here
            searcher.features = lambda ids, coded=coded: {i: coded[i] for i in ids if i in coded}
            begin = time.process_time()
            precision, inliers = matched(collection, asked, queries)
            ms = 1e3 * (time.process_time() - begin) / len(inliers)
            pairs = {(p.first, p.second) for p in collection.pairs(10, rerank=10)
                     if (p.inliers or 0) >= MIN_INLIERS}  # fmt: skip
            groups = {
                frozenset([g.path, *(each.path for each in g.others)])
                for g in collection.duplicates()
            }
            found = inliers, pairs, groups
            base = base or found
            both = [key for key in inliers if key in base[0] and inliers[key][1]]
            mine_n, theirs_n = (
                np.array([each[key][0] for key in both]) for each in (inliers, base[0])
            )
            verified = {is_right: [n >= MIN_INLIERS for n, right in inliers.values()
                                   if right == is_right] for is_right in (True, False)}  # fmt: skip
            correlation = np.corrcoef(mine_n, theirs_n)[0, 1] if len(both) > 1 else 1.0
            rows.append([
                truth.parent.name, str(n_bytes), f"{codec.n_bytes / codec.n_images / 1e3:.0f}",
                f"{precision:.3f}", f"{mine_n.sum() / max(1, theirs_n.sum()):.3f}",
                f"{correlation:.3f}",
                *(f"{np.mean(verified[right] or [0]):.3f}" for right in (True, False)),
                *(f"{len(a)} ({len(a & b)})" for a, b in zip(found[1:], base[1:], strict=True)),
                f"{ms:.1f}",
            ])  # fmt: skip
            print(f"| {' | '.join(rows[-1])} |", flush=True)
    return rows


def homographies(folders: list[Path], sizes: list[int]) -> list[list[str]]:
    """Rows of the pairs (img1, img2), (img1, img3), ...: inliers, and errors of the corners."""
    sift = Sift()
    cases = []
    for folder in folders:
        first = sift.read(folder / "img1.png")
        for i in range(2, 7):
            true_33 = np.loadtxt(folder / f"H1to{i}p")
            cases.append((first, sift.read(folder / f"img{i}.png").strongest(1000), true_33))
    rows = []
    for n_bytes in sizes:
        codec = Codec(learned([other for _, other, _ in cases], n_bytes, sift))
        errors, counts = [], []
        for first, other, true_33 in cases:
            (found,) = verify_all(first, [codec.through(other)], sift.metric)
            counts.append(found.n_inliers)
            w, h = first.width - 1, first.height - 1
            corner_43 = np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]])
            if found.transform_33 is not None:
                ends = [corner_43 @ each.T for each in (found.transform_33, true_33)]
                mine_42, theirs_42 = (each[:, :2] / each[:, 2:] for each in ends)
                errors.append(np.linalg.norm(mine_42 - theirs_42, axis=1).mean())
        close = [sum(e < limit for e in errors) for limit in (3, 10)]
        rows.append([str(n_bytes), f"{np.mean(counts):.0f}", f"{np.median(errors):.2f}",
                     *(f"{n} of {len(cases)}" for n in close)])  # fmt: skip
        print(f"| {' | '.join(rows[-1])} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--affine", nargs="*", type=Path, default=[])
    parser.add_argument("--keep-bytes", nargs="*", type=int, default=[0, 32])
    parser.add_argument("--every", type=int, default=1, help="take each N-th query")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for folder in args.sets:
        rows += measure(folder / "ground_truth.json", args.keep_bytes, args.every)
    tables = {"sets": {"columns": COLUMNS, "rows": rows}}
    if args.affine:
        columns = ["bytes", "inliers", "error, median px", "below 3 px", "below 10 px"]
        found = homographies(args.affine, args.keep_bytes)
        tables["homographies"] = {"columns": columns, "rows": found}
    if args.json:
        about = provenance("benchmarks/kept.py --json")
        args.json.write_text(json.dumps({"provenance": about, "tables": tables}, indent=1) + "\n")


if __name__ == "__main__":
    main()
