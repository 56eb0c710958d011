"""How many images vectors have to find, so that the best by vectors and codes are among them.

    python benchmarks/shortlist.py mixed.vlad holidays kth museum corridor
    python benchmarks/shortlist.py mixed.vlad ... --sizes 0 10000 100000 1000000 --json OUT

A search ranks by vectors, and orders the first ones of these (the shortlist) by vectors and match
codes together. Here all images are scored by both. "first 10" is the share of the first 10 of that
ranking that are in a shortlist of S images; "right" the share of those images among them that a
query's set calls right. Images of no set are parents of synthetic ones: each has half of the words
of one, with their codes, and half of those of another; its vector lies half way between theirs.
None is written to a file: a block of them is made, scored and forgotten.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vladkit import Codes, Collection
from vladkit.bench.machine import provenance
from vladkit.collection.describer import Query
from vladkit.collection.searching import _BY_VECTORS, _best_rotation
from vladkit.errors import ImageError
from vladkit.evaluation.benchmark import read_ground_truth

TOP = 10
BLOCK = 2000
SHORTLISTS = (200, 500, 1000, 2000, 5000, 20000)


@dataclass
class Scored:
    """Scores (q, n) of queries and images, block by block, and which images are right."""

    query: list[Query]
    right: list[set[int]]
    similarity: list[np.ndarray] = field(default_factory=list)
    product: list[np.ndarray] = field(default_factory=list)

    def add(self, collection: Collection, vector_nD: np.ndarray, codes: Codes) -> None:
        """Score images that come next."""
        asmk = collection.index.describer.asmk
        view_qvD = np.stack([each.vector_vD for each in self.query])
        s_qn = _best_rotation(view_qvD @ vector_nD.T.astype(np.float32))
        own_q1 = np.array([[each.own] for each in self.query])
        asked = Codes.concatenate([each.codes for each in self.query])
        agreement_qn = asmk._similarity(asked, codes, rotated=True, weight=0.8) / own_q1
        self.similarity.append(s_qn.astype(np.float32))
        self.product.append((s_qn * (agreement_qn + _BY_VECTORS)).astype(np.float32))

    def shares(self) -> tuple[list[float], list[float]]:
        """Shares of the first 10, and of the right ones among them, for each shortlist."""
        inside, right_inside = [], []
        s_qn, product_qn = (np.concatenate(p, axis=1) for p in (self.similarity, self.product))
        for s_n, product_n, right in zip(s_qn, product_qn, self.right, strict=True):
            first = np.argsort(-product_n)[:TOP]
            rank_r = np.array([(s_n > s_n[i]).sum() for i in first])
            inside.append([(rank_r < most).mean() for most in SHORTLISTS])
            is_right_r = np.array([i in right for i in first.tolist()])
            right_inside += [[r < most for most in SHORTLISTS] for r in rank_r[is_right_r]]
        return np.mean(inside, axis=0).tolist(), np.mean(right_inside, axis=0).tolist()


def asked(collection: Collection, folders: list[Path], every: int) -> tuple[Scored, np.ndarray]:
    """Queries of sets with the places of their right images; places of images of no set."""
    place_of = {os.path.realpath(r.file): i for i, r in enumerate(images(collection))}
    scored, of_sets = Scored([], []), set()
    for folder in folders:
        benchmark = read_ground_truth(folder / "ground_truth.json")
        for i, query in enumerate(benchmark.queries):
            ((_, relevance),) = query.relevance.items()
            right = {place_of[f] for f in map(os.path.realpath, relevance.relevant)
                     if f in place_of}  # fmt: skip
            of_sets |= right | {place_of.get(os.path.realpath(query.file), -1)}
            if i % every or not right:
                continue
            try:
                features = collection.extract(query.file, region=query.region)
            except ImageError:
                continue
            scored.query.append(collection.index.describer.query(features))
            scored.right.append(right)
    return scored, np.setdiff1d(np.arange(len(place_of)), list(of_sets))


def images(collection: Collection) -> list:
    """Rows of all images, in the order of their keys."""
    return sorted(collection.images(), key=lambda row: row.image_id)


def mixed(
    rng: np.random.Generator, n: int, vector_pD: np.ndarray, codes: Codes
) -> tuple[np.ndarray, Codes]:
    """Vectors and codes of `n` images, each of two of the parents."""
    pair_n2 = np.sort([rng.choice(len(codes), 2, replace=False) for _ in range(n)], axis=1)
    vector_nD = vector_pD[pair_n2].sum(axis=1)
    vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
    both = codes[pair_n2.ravel()]
    keep_N = rng.random(len(both.word_N)) < 0.5
    image_N = (both.image_N // 2)[keep_N]
    key_N = image_N * 2**31 + both.word_N[keep_N]
    order_N = np.argsort(key_N, kind="stable")
    first_N = np.append(True, np.diff(key_N[order_N]) > 0)  # a word that both have: one of them
    row_N = np.flatnonzero(keep_N)[order_N[first_N]]
    length_n = np.bincount(image_N[order_N[first_N]], minlength=n)
    angle_N = None if both.angle_N is None else both.angle_N[row_N]
    start_T = np.append(0, np.cumsum(length_n))
    return vector_nD, Codes(start_T, both.word_N[row_N], both.code_Nb[row_N], angle_N)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="collection")
    parser.add_argument("sets", nargs="+", type=Path, help="folders with ground_truth.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 10_000, 100_000, 1_000_000])
    parser.add_argument("--every", type=int, default=10, help="take each N-th query")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    rows = []
    with Collection.open(args.file, read_only=True, trust=True) as collection:
        scored, parents = asked(collection, args.sets, args.every)
        if not scored.query or len(parents) < 2:
            parser.error(f"{args.file} has no image of the sets, or none of anything else")
        id_n, vector_nD = collection.vectors()
        place_n = np.argsort(id_n)
        vector_nD = vector_nD[place_n].astype(np.float32)
        found, codes = collection.index.store.codes(id_n[place_n].tolist())
        if codes is None or found != id_n[place_n].tolist():
            parser.error(f"{args.file} has images without match codes")
        scored.add(collection, vector_nD, codes)
        n = len(id_n)
        parent_codes = codes[parents]
        for size in args.sizes:
            while n < size:
                m = min(BLOCK, size - n)
                scored.add(collection, *mixed(rng, m, vector_nD[parents], parent_codes))
                n += m
            for kind, shares in zip(("first 10", "right"), scored.shares(), strict=True):
                rows.append([f"{n:,} images, {kind}", *(f"{share:.3f}" for share in shares)])
                print(f"| {' | '.join(rows[-1])} |", flush=True)
    if args.json:
        columns = [f"{len(scored.query)} queries", *(f"S = {most:,}" for most in SHORTLISTS)]
        run = {
            "provenance": provenance("benchmarks/shortlist.py --json"),
            "tables": {"shares": {"columns": columns, "rows": rows}},
        }
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
