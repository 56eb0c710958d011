"""Rankings in one collection of several sets and of photos of anything else.

    python benchmarks/mixed.py holidays kth museum corridor --distractors other-photos
    python benchmarks/mixed.py ... --seeds 0 1 2 --json docs/results/mixed.json
    python benchmarks/mixed.py ... --codebook-of 700

A set is a folder with ground_truth.json (docs/how-to/evaluation.md); the databases of all sets and
the distractors are indexed together, by the command's defaults. Each query is ranked by vectors;
the first ones of these by vectors and match codes, score s; the first ones of these are matched,
and the ranking computed by several rules from s and inliers n, of which b = max(n - 4, 0) are
evidence. Then how often an image that is not right is verified, and a
right one is: what "probably not in there" is worth. Figures are means over the seeds. With
`--codebook-of N` all is learned once from N of the images, as for shards.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.bench.run import environment_for
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.evaluation.benchmark import Benchmark, Query, read_ground_truth
from vladkit.evaluation.metrics import average_precision
from vladkit.geometry.verification import Verification
from vladkit.images import is_image_name

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
RULES: dict[str, Rule] = {
    "s": lambda s, b: s,
    "s (1 + b)": lambda s, b: s * (1 + b),
    "s (1 + log(1 + b))": lambda s, b: s * (1 + np.log1p(b)),
    "s (1 + 2 log(1 + b))": lambda s, b: s * (1 + 2 * np.log1p(b)),
    "s sqrt(1 + b)": lambda s, b: s * np.sqrt(1 + b),
}
INLIERS = (6, 8, 10, 15, 20, 30)


@dataclass(frozen=True)
class Ranked:
    """Images in the order of one query: score, inliers (-1: not matched), right or not.

    ``by_vectors`` are the ranks, from 1, that right images have by vectors alone.
    """

    score_n: np.ndarray
    inliers_n: np.ndarray
    right_n: np.ndarray
    n_relevant: int
    by_vectors: list[int]

    def ranks(self, rule: Rule, depth: int) -> list[int]:
        """Ranks, from 1, of the right images after the first `depth` were sorted by a rule."""
        s_n = np.maximum(self.score_n[:depth], 1e-6)
        b_n = np.maximum(self.inliers_n[:depth] - 4, 0)
        order_n = np.arange(len(self.right_n))
        order_n[:depth] = np.argsort(-rule(s_n, b_n), kind="stable")
        return (np.flatnonzero(self.right_n[order_n]) + 1).tolist()


def rank(collection: Collection, file_of: dict[int, str], query: Query, depth: int) -> Ranked:
    """Rank all images by vectors, and match the first ones."""
    searcher = collection.index.searcher
    features = collection.extract(query.file, region=query.region)
    asked = collection.index.describer.query(features)
    (ranked,) = searcher.nearest(asked.vector_vD[None], 0)
    ((_, relevance),) = query.relevance.items()
    relevant, ignored = ({os.path.realpath(f) for f in files} for files in
                         (relevance.relevant, {*relevance.ignored, query.file}))  # fmt: skip
    ranked = [each for each in ranked if file_of[each.image_id] not in ignored]
    by_vectors = [i for i, e in enumerate(ranked, 1) if file_of[e.image_id] in relevant]
    ranked = searcher.by_codes([asked], ranked)
    found: dict[int, Verification] = {}
    searcher.match(features, [each.image_id for each in ranked[:depth]], "homography", found)
    inliers = {i: each.n_inliers for i, each in found.items()}
    return Ranked(
        np.array([each.score for each in ranked]),
        np.array([inliers.get(each.image_id, -1) for each in ranked]),
        np.array([file_of[each.image_id] in relevant for each in ranked], bool),
        len(relevant),
        by_vectors,
    )


def rankings(collection: Collection, benchmark: Benchmark, depth: int) -> list[Ranked]:
    """Rankings of all queries that can be read."""
    file_of = {r.image_id: os.path.realpath(r.file) for r in collection.images()}
    found = []
    for query in benchmark.queries:
        try:
            found.append(rank(collection, file_of, query, depth))
        except ImageError as error:
            print(f"{query.file}: {error}", file=sys.stderr)
    return found


def figures(found: list[Ranked], depths: list[int]) -> dict[str, list[float]]:
    """[mAP, recall@1] of each rule and depth; shares of queries with a verified image that is wrong
    and with one that is right, for each least number of inliers.
    """
    asked = [each for each in found if each.n_relevant]
    result = {}

    def add(key: str, ranks: list[tuple[list[int], int]]) -> None:
        result[key] = [
            float(np.mean([average_precision(r, n) for r, n in ranks])),
            float(np.mean([bool(r) and r[0] == 1 for r, _ in ranks])),
        ]

    add("vectors alone", [(each.by_vectors, each.n_relevant) for each in asked])
    for depth, (name, rule) in ((d, r) for d in depths for r in RULES.items()):
        ranks = [(each.ranks(rule, depth), each.n_relevant) for each in asked]
        add("vectors and codes, s" if name == "s" else f"{name}, first {depth}", ranks)
    for least in INLIERS:
        verified = [(each, each.inliers_n[: depths[0]] >= least) for each in found]
        right = [(v & each.right_n[: len(v)]).any() for each, v in verified if each.n_relevant]
        wrong = [(v & ~each.right_n[: len(v)]).any() for each, v in verified]
        result[f"{least} inliers"] = [float(np.mean(wrong)), float(np.mean(right))]
    return result


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Figures of each set, by seed and averaged."""
    truths = {folder.name: folder / "ground_truth.json" for folder in args.sets}
    files = [args.distractors] if args.distractors else []
    for path in truths.values():
        database = json.loads(path.read_text())["database"]
        files += [path.parent / name for name in database]
    if args.codebook_of:
        files = sorted({os.path.realpath(f) for each in files for f in images_in(each)})
    runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in truths}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            target, made = Path(folder) / "mixed.vlad", {"seed": seed}
            if args.codebook_of:
                words = Path(folder) / "words.npz"
                some = np.random.default_rng(seed).permutation(files)[: args.codebook_of]
                Collection.learn(words, some.tolist(), n_jobs=args.n_jobs, seed=seed)
                made = {"codebook": words}
            with Collection.create(target, **made) as collection:
                report = collection.add(files, n_jobs=args.n_jobs)
                print(f"seed {seed}: {report.indexed} images indexed", flush=True)
                for name, path in truths.items():
                    benchmark = read_ground_truth(path)  # its database is not all that is ranked
                    found = rankings(collection, benchmark, max(args.depths))
                    runs[name].append(figures(found, args.depths))
                    print(name, json.dumps(runs[name][-1]), flush=True)
    return {
        name: {key: np.mean([each[key] for each in run], axis=0).tolist() for key in run[0]}
        for name, run in runs.items()
    }


def images_in(place: Path) -> list[Path]:
    """Image files of a folder, or one by itself."""
    return [f for f in place.rglob("*") if is_image_name(f)] if place.is_dir() else [place]


def tables(by_set: dict[str, dict[str, list[float]]]) -> dict:
    names = list(by_set)
    keys = list(by_set[names[0]])
    rules = [key for key in keys if not key.endswith("inliers")]

    def row(key: str, form: str) -> list[str]:
        each = [by_set[name][key] for name in names]
        mean = np.mean(each, axis=0)
        return [key, *(form.format(*cell) for cell in each), form.format(*mean)]

    return {
        "rankings": {
            "columns": ["mAP (recall@1)", *names, "mean"],
            "rows": [row(key, "{:.3f} ({:.2f})") for key in rules],
        },
        "verified": {
            "columns": ["verified: wrong (right)", *names, "mean"],
            "rows": [row(f"{n} inliers", "{:.2f} ({:.2f})") for n in INLIERS],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path, help="folders with ground_truth.json")
    parser.add_argument("--distractors", type=Path, help="folder of other photos")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[100, 50, 20],
                        help="images that are matched; verified ones are of the first")  # fmt: skip
    parser.add_argument("--codebook-of", type=int, metavar="N", help="images to learn from, once")
    parser.add_argument("-j", "--n-jobs", type=int, default=resolve_n_jobs(None))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    wanted = environment_for(1)  # threads are ours: each query has its own
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)
    made = tables(measure(args))
    for table in made.values():
        print(*(" | ".join(row) for row in (table["columns"], *table["rows"])), "", sep="\n")
    if args.json:
        run = {"provenance": provenance("benchmarks/mixed.py --json"), "tables": made}
        Path(args.json).write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
