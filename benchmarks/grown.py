"""Rankings in collections that came in steps, beside those that were indexed at once.

    python benchmarks/grown.py holidays kth museum corridor --others photos --n-others 200
    python benchmarks/grown.py ... --json docs/results/grown.json

A set is a folder with ground_truth.json (docs/how-to/evaluation.md). Its database, and as many
other photos as are asked for, are indexed in an order that is drawn; each way in a collection of
its own, by the command's defaults, each step by a run of its own. Then all queries are ranked: by
vectors, by vectors and codes, and matched (see benchmarks/mixed.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from mixed import figures, rankings
from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.bench.run import environment_for
from vladkit.core.threads import resolve_n_jobs
from vladkit.evaluation.benchmark import read_ground_truth

STAGES = {
    "vectors": "vectors alone",
    "and codes": "vectors and codes, s",
    "matched": "s (1 + log(1 + b)), first 100",
}
DEPTH = 100


def ways(n: int) -> dict[str, list[int]]:
    """Numbers of images that there are after each step, by way, of n in the end."""
    steps = {
        "at once": [],
        "one, then the others": [1],
        "20, then the others": [20],
        "half and one, then the others": [n // 2 + 1],
        "in six steps": [1, 3, 10, n // 4, n // 2 + 1],
    }
    return {way: sorted({n, *(k for k in some if 0 < k < n)}) for way, some in steps.items()}


def measure(folder: Path, others: list[Path], args: argparse.Namespace) -> dict[str, list[float]]:
    """Mean average precision of each stage, by way."""
    truth = folder / "ground_truth.json"
    benchmark = read_ground_truth(truth)
    files = sorted(Path(file) for file in benchmark.database or ()) + others
    random.Random(args.seed).shuffle(files)
    found = {}
    for way, steps in ways(len(files)).items():
        with (
            tempfile.TemporaryDirectory() as scratch,
            Collection.create(Path(scratch) / "grown.vlad", seed=args.seed) as collection,
        ):
            for before, now in zip([0, *steps], steps, strict=False):
                collection.add(files[before:now], n_jobs=args.n_jobs)
            by_stage = figures(rankings(collection, benchmark, DEPTH), [DEPTH])
        found[way] = [by_stage[key][0] for key in STAGES.values()]
        print(folder.name, len(files), way, np.round(found[way], 4).tolist(), flush=True)
    return found


def tables(by_n: dict[int, dict[str, dict[str, list[float]]]]) -> dict:
    made = {}
    for n, by_set in by_n.items():
        rows = []
        for way in next(iter(by_set.values())):
            each = np.array([found[way] for found in by_set.values()])
            cells = (" ".join(f"{v:.3f}" for v in row) for row in (*each, each.mean(axis=0)))
            rows.append([way, *cells])
        title = f"among {n} other photos" if n else "each set by itself"
        made[title] = {"columns": [", ".join(STAGES), *by_set, "mean"], "rows": rows}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path, help="folders with ground_truth.json")
    parser.add_argument("--others", type=Path, help="folder of photos of anything else")
    parser.add_argument("--n-others", type=int, nargs="+", default=[0], help="how many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-j", "--n-jobs", type=int, default=resolve_n_jobs(None))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    wanted = environment_for(1)  # threads are ours: each query has its own
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)
    photos = sorted(args.others.rglob("*.jpg")) if args.others else []
    if len(photos) < max(args.n_others):
        parser.error(f"{args.others} has {len(photos)} photos (.jpg)")
    made = tables(
        {n: {each.name: measure(each, photos[:n], args) for each in args.sets}
         for n in args.n_others}
    )  # fmt: skip
    for title, table in made.items():
        print(title, *(" | ".join(r) for r in (table["columns"], *table["rows"])), "", sep="\n")
    if args.json:
        run = {"provenance": provenance("benchmarks/grown.py --json"), "tables": made}
        Path(args.json).write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
