"""Mirror images: whether they are found, and what looking for them costs other queries.

    python benchmarks/mirrored.py holidays kth museum corridor --distractors other-photos
    python benchmarks/mirrored.py ... --json docs/results/mirrored.json

A set is a folder with ground_truth.json (see docs/how-to/evaluation.md). All databases and the
distractors are indexed together, by the command's defaults.
Each query is asked as it is, and flipped left to right, both
without and with ``mirrored``: mAP, and in brackets the share of queries of which a wrong image is
verified.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from together import files_of
from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.bench.run import environment_for
from vladkit.errors import ImageError
from vladkit.evaluation.benchmark import read_ground_truth
from vladkit.evaluation.metrics import average_precision, find_ranks
from vladkit.images import read_image

RULES = {
    "as it is": (False, False),
    "as it is, `--mirrored`": (False, True),
    "flipped": (True, False),
    "flipped, `--mirrored`": (True, True),
}


def measure(collection: Collection, folder: Path, every: int) -> dict[str, list[list[float]]]:
    """Average precision, and whether a wrong image is verified, of each query by rule."""
    id_of = {os.path.realpath(row.file): row.image_id for row in collection.images()}
    found: dict[str, list[list[float]]] = {rule: [] for rule in RULES}
    for query in read_ground_truth(folder / "ground_truth.json").queries[::every]:
        ((_, relevance),) = query.relevance.items()
        missing = max(id_of.values()) + 1  # and those after it: images that are not indexed
        files = [os.path.realpath(f) for f in relevance.relevant]
        wanted = [id_of.get(f, missing + i) for i, f in enumerate(files)]
        ignored = {os.path.realpath(f) for f in (*relevance.ignored, query.file)}
        ignored = [id_of[f] for f in ignored if f in id_of]
        if not wanted:
            continue
        pixels = read_image(query.file, color=True).rgb_yx3
        for rule, (flip, mirrored) in RULES.items():
            try:
                hits = collection.search(pixels[:, ::-1] if flip else pixels, 0, mirrored=mirrored)
            except ImageError as error:
                print(f"{query.file}: {error}", file=sys.stderr)
                break
            ranks = find_ranks([hit.image_id for hit in hits], wanted, ignored)
            right = {*wanted, *ignored}
            wrong = any(hit.verified and hit.image_id not in right for hit in hits)
            found[rule].append([average_precision(ranks.ranks, ranks.n_relevant), wrong])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path, help="folders with ground_truth.json")
    parser.add_argument("--distractors", type=Path, help="folder of other photos")
    parser.add_argument("--file", type=Path, help="collection of all, if it was made before")
    parser.add_argument("--every", type=int, default=1, help="take each N-th query")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    wanted = environment_for(1)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)
    files = files_of(args.sets, args.distractors)
    with (
        tempfile.TemporaryDirectory() as temporary,
        Collection.create(args.file or Path(temporary) / "mirrored.vlad") as collection,
    ):
        if not len(collection):
            collection.add(files)
        by_set = {folder.name: measure(collection, folder, args.every) for folder in args.sets}
    rows = []
    for rule in RULES:
        each = [np.mean(found[rule], axis=0) for found in by_set.values()]
        cells = [*each, np.mean(each, axis=0)]
        rows.append([rule, *(f"{ap:.3f} ({wrong:.2f})" for ap, wrong in cells)])
    rows.insert(0, ["queries", *(str(len(found["flipped"])) for found in by_set.values()), ""])
    columns = ["mAP (wrong ones verified)", *by_set, "mean"]
    print(*(f"| {' | '.join(row)} |" for row in [columns, *rows]), sep="\n")
    if args.json:
        made = {"columns": columns, "rows": rows}
        run = {"provenance": provenance("benchmarks/mirrored.py"), "tables": {"rankings": made}}
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
