"""Several query images of one thing: rules that make one ranking of them, compared by mAP.

    python benchmarks/together.py holidays kth museum corridor --distractors other-photos
    python benchmarks/together.py ... --seeds 0 1 2 --json docs/results/together.json

A set is a folder with ground_truth.json (see docs/how-to/evaluation.md). All databases and the
distractors are indexed together, by the command's defaults.
A query is asked together with others of its set that share an image to be
found, such as other photos of a painting; else with the first of its own
relevant images. What all of them have to find is found; what only some have, and the images
that are asked with, do not count. "alone" is the mean over the images, each asked by itself.

Vectors (s) and match codes (a) are scored for all images, and the first 100 of each rule are
matched with each query image. "joined" is one query of all descriptors: the mean of the vectors,
and codes of the sums of residuals over the images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.bench.run import environment_for
from vladkit.collection.describer import Query
from vladkit.collection.searching import _BY_VECTORS
from vladkit.errors import ImageError
from vladkit.evaluation.metrics import average_precision, find_ranks
from vladkit.features import Features
from vladkit.geometry.verification import rescore

DEPTH = 100
LEAST = 1e-6


@dataclass(frozen=True)
class Group:
    """Files that are asked together, and those to be found and not to be counted."""

    asked: list[str]
    wanted: frozenset[str]
    ignored: frozenset[str]


def groups(folder: Path, size: int) -> Iterator[Group]:
    """Groups of `size` query images of a set."""
    truth = json.loads((folder / "ground_truth.json").read_text())
    queries = truth["queries"]
    relevant_of = {q["query"]: set(q["relevant"]) - {q["query"]} for q in queries}
    ignored_of = {q["query"]: {*q.get("junk", ()), q["query"]} for q in queries}
    for name, relevant in relevant_of.items():
        others = [o for o in relevant_of if o > name and relevant_of[o] & relevant]
        asked = [name, *others[: size - 1]]
        if len(others) < size - 1:
            asked = [name, *sorted(relevant)[: size - 1]]
        found = [relevant_of[o] for o in asked if o in relevant_of]
        wanted = set.intersection(*found) - {*asked}
        ignored = set.union(*found, *(ignored_of.get(o, set()) for o in asked), {*asked}) - wanted
        if len(asked) == size and wanted:
            asked, *others = (
                [os.path.realpath(folder / o) for o in names] for names in (asked, wanted, ignored)
            )
            yield Group(asked, *map(frozenset, others))


class Scored:
    """Scores (q, n) of the images of a group and of all that is indexed, and the inliers."""

    def __init__(self, collection: Collection, asked: list[Features], ids: np.ndarray) -> None:
        self.index, self.asked, self.ids_n = collection.index, asked, ids
        self.queries = [self.index.describer.query(each) for each in asked]
        self._inliers: list[dict[int, int]] = [{} for _ in asked]

    def _similarity(self, query_vD: np.ndarray) -> np.ndarray:
        id_n, (score_n,) = self.index.searcher.scores(query_vD[None])
        return score_n[np.argsort(id_n)]

    def _agreement(self, query: Query) -> np.ndarray:
        found = self.index.searcher._agreements(query, self.ids_n.tolist())
        return np.array([found.get(i, 0.0) for i in self.ids_n.tolist()])

    @cached_property
    def s_qn(self) -> np.ndarray:
        """Similarity to each query image."""
        return np.stack([self._similarity(each.vector_vD) for each in self.queries])

    @cached_property
    def a_qn(self) -> np.ndarray:
        """Agreement of the codes with each query image."""
        return np.stack([self._agreement(each) for each in self.queries])

    @cached_property
    def s_joined_n(self) -> np.ndarray:
        """Similarity to the mean of the vectors."""
        mean_vD = np.mean([each.vector_vD for each in self.queries], axis=0)
        return self._similarity(mean_vD / np.linalg.norm(mean_vD, axis=1, keepdims=True))

    @cached_property
    def a_joined_n(self) -> np.ndarray:
        """Agreement with the codes of all descriptors as of one image."""
        describer = self.index.describer
        parts = [describer._local_and_angle(each) for each in self.asked]
        local_lf = np.concatenate([local_lf for local_lf, _ in parts])
        angle_l = None if parts[0][1] is None else np.concatenate([a for _, a in parts])
        many, one = describer.asmk._query(local_lf, angle_l)
        (own,) = describer.asmk._similarity(many, one, n_jobs=1)[0].tolist()
        return self._agreement(Query(self.queries[0].vector_vD, None, many, own))

    def inliers(self, q: int, rows: np.ndarray) -> np.ndarray:
        """Inliers (n,) of one query image with some images; 0 with others."""
        known = self._inliers[q]
        new = [i for i in self.ids_n[rows].tolist() if i not in known]
        found: dict = {}
        self.index.searcher.match(self.asked[q], new, "homography", found)
        known |= dict.fromkeys(new, 0) | {i: each.n_inliers for i, each in found.items()}
        n = np.zeros(len(self.ids_n), np.int64)
        n[rows] = [known[i] for i in self.ids_n[rows].tolist()]
        return n

    def matched(self, score_n: np.ndarray, combine: Callable) -> np.ndarray:
        """Scores after the first ones are matched with each image."""
        rows = first(score_n)
        inliers_n = combine(np.stack([self.inliers(q, rows) for q in range(len(self.asked))]))
        return rescore(np.maximum(score_n, LEAST), inliers_n, least=LEAST)


def first(score_n: np.ndarray) -> np.ndarray:
    return np.argsort(-score_n, kind="stable")[:DEPTH]


def product(s_n: np.ndarray, a_n: np.ndarray) -> np.ndarray:
    return s_n * (a_n + _BY_VECTORS) / (1 + _BY_VECTORS)


def most(x_qn: np.ndarray) -> np.ndarray:
    return x_qn.max(axis=0)


def mean(x_qn: np.ndarray) -> np.ndarray:
    return x_qn.mean(axis=0)


def total(x_qn: np.ndarray) -> np.ndarray:
    return x_qn.sum(axis=0)


def alone(scored: Scored, matched: bool) -> np.ndarray:
    """Scores (q, n) of each image by itself."""
    score_qn = product(scored.s_qn, scored.a_qn)
    if not matched:
        return score_qn
    each = [(score_n, scored.inliers(q, first(score_n))) for q, score_n in enumerate(score_qn)]
    return np.stack([rescore(np.maximum(s, LEAST), n, least=LEAST) for s, n in each])


STAGES: dict[str, Callable[[Scored], np.ndarray]] = {
    "joined": lambda x: product(x.s_joined_n, x.a_joined_n),
    "mean s, mean a": lambda x: product(mean(x.s_qn), mean(x.a_qn)),
    "most s, most a": lambda x: product(most(x.s_qn), most(x.a_qn)),
}
ENDS = {"most inliers": most, "sum of inliers": total}


def rankings(scored: Scored) -> dict[str, list[np.ndarray]]:
    """Scores (n,) by rule; "alone" has several."""
    rules = {"alone, vectors": list(scored.s_qn), "alone, not matched": list(alone(scored, False))}
    rules["alone, matched"] = list(alone(scored, True))
    rules["vectors: mean vector"] = [scored.s_joined_n]
    rules["vectors: mean s"] = [mean(scored.s_qn)]
    rules["vectors: most s"] = [most(scored.s_qn)]
    for name, stage in STAGES.items():
        score_n = stage(scored)
        rules[f"{name}; not matched"] = [score_n]
        for end, combine in ENDS.items():
            rules[f"{name}; {end}"] = [scored.matched(score_n, combine)]
    rules["each matched; mean of scores"] = [mean(alone(scored, True))]
    rules["each matched; most of scores"] = [most(alone(scored, True))]
    return rules


def measure(
    collection: Collection, folder: Path, size: int, every: int
) -> dict[str, tuple[float, int]]:
    """MAP of each rule, and the number of groups."""
    row_of = {os.path.realpath(r.file): r.image_id for r in collection.images()}
    ids_n = np.array(sorted(row_of.values()), np.int64)
    extract = cache(collection.extract)
    found: dict[str, list[float]] = {}
    for group in list(groups(folder, size))[::every]:
        try:
            scored = Scored(collection, [extract(file) for file in group.asked], ids_n)
        except ImageError as error:
            print(f"{group.asked}: {error}", file=sys.stderr)
            continue
        wanted, ignored = ([row_of[f] for f in files if f in row_of]
                           for files in (group.wanted, group.ignored))  # fmt: skip
        for rule, score_rn in rankings(scored).items():
            precision = []
            for score_n in score_rn:
                order_n = ids_n[np.argsort(-score_n, kind="stable")]
                ranks = find_ranks(order_n, wanted, ignored).ranks
                precision.append(average_precision(ranks, len(group.wanted)))
            found.setdefault(rule, []).append(float(np.mean(precision)))
    return {rule: (float(np.mean(values)), len(values)) for rule, values in found.items()}


def files_of(sets: Sequence[Path], distractors: Path | None) -> list[Path]:
    """Databases of the sets, and the folder of other photos."""
    files = [distractors] if distractors else []
    for folder in sets:
        database = json.loads((folder / "ground_truth.json").read_text())["database"]
        files += [folder / name for name in database]
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path, help="folders with ground_truth.json")
    parser.add_argument("--distractors", type=Path, help="folder of other photos")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3], help="images of a query")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--file", type=Path, help="collection of all, if it was made before")
    parser.add_argument("--every", type=int, default=1, help="take each N-th group")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    wanted = environment_for(1)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)
    files = files_of(args.sets, args.distractors)
    runs: dict[tuple[int, str], list[dict[str, tuple[float, int]]]] = {}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as temporary:
            target = args.file or Path(temporary) / "together.vlad"
            with Collection.create(target, seed=seed) as collection:
                if not len(collection):
                    collection.add(files)
                for size in args.sizes:
                    for folder in args.sets:
                        found = measure(collection, folder, size, args.every)
                        if found:
                            runs.setdefault((size, folder.name), []).append(found)
                            print(size, folder.name, json.dumps(found), file=sys.stderr, flush=True)
    tables = {}
    for size in args.sizes:
        by_set = {name: run for (n, name), run in runs.items() if n == size}
        if not by_set:
            continue
        counts = {name: next(iter(run[0].values()))[1] for name, run in by_set.items()}
        rules = next(iter(by_set.values()))[0]
        rows = []
        for rule in rules:
            each = [float(np.mean([found[rule][0] for found in run])) for run in by_set.values()]
            rows.append([rule, *(f"{value:.3f}" for value in [*each, float(np.mean(each))])])
        rows.insert(0, ["groups", *map(str, counts.values()), ""])
        columns = ["mAP", *counts, "mean"]
        tables[f"{size} images"] = {"columns": columns, "rows": rows}
        print(*(f"| {' | '.join(row)} |" for row in [columns, *rows]), "", sep="\n")
    if args.json:
        run = {"provenance": provenance("benchmarks/together.py --json"), "tables": tables}
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
