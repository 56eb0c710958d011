"""vladkit and its peers on the same images: what is found, time, bytes, memory.

    make compare                                        # photographs that scikit-image ships
    make compare DATA="SET SET --distractors FOLDER"    # sets with ground_truth.json
    python benchmarks/compare.py SET ... --peers vladkit COLMAP --json docs/results/compare.json

The databases of all sets and the distractors make one collection for each program, which runs in
a process of its own with its own defaults, on all cores; docs/how-to/evaluation.md has the form of
a set.
mAP and R@1 are means over the sets. Bytes are those of the index on disk, features included where
a program keeps them. A query is read from its file. A peer that is not installed, or whose weights
cannot be had, is named with its reason. Then
`vladkit bench --article` times encoding and sums into buckets beside other libraries.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vladkit.bench.machine import provenance
from vladkit.evaluation.benchmark import Query, read_ground_truth
from vladkit.evaluation.metrics import QueryRanks, mean, recall

PEERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vladkit": ("ours", "Ours", {}),
    "vladkit, not matched": ("ours", "Ours", {"rerank": 0}),
    "COLMAP": ("colmap", "Colmap", {}),
    "COLMAP, verified": ("colmap", "Colmap", {"verified": 30}),
    "faiss, AnyLoc's recipe": ("aggregated", "AnyLoc", {}),
    "scikit-image, Fisher": ("aggregated", "Fisher", {}),
    "imagededup, PHash": ("dedup", "Hash", {}),
    "imagededup, CNN": ("dedup", "Network", {}),
}
ABOUT = {
    "vladkit": "`vladkit index`, `vladkit search`",
    "vladkit, not matched": "`vladkit search --rerank 0`",
    "COLMAP": "vocabulary tree, pycolmap",
    "COLMAP, verified": "its first 30 ranked again by geometry",
    "faiss, AnyLoc's recipe": "VLAD of 32 clusters of our SIFT",
    "scikit-image, Fisher": "16 Gaussians of our SIFT",
    "imagededup, PHash": "64 bits",
    "imagededup, CNN": "MobileNetV3",
}
COLUMNS = ["", "how", "mAP", "R@1", "index an image, ms", "CPU, ms", "a query, ms", "KB an image",
           "memory, MB"]  # fmt: skip


def images_of(folder: Path) -> list[str]:
    """Images below a folder."""
    kinds = {".jpg", ".jpeg", ".png"}
    return sorted(str(f) for f in folder.rglob("*") if f.suffix.lower() in kinds)


def read_sets(folders: list[str], distractors: list[str]) -> dict[str, Any]:
    """Files to index, and the queries of each set."""
    files: set[str] = set()
    sets: dict[str, list[Query]] = {}
    for folder in map(Path, folders):
        benchmark = read_ground_truth(folder / "ground_truth.json")
        sets[folder.name] = [q for q in benchmark.queries if q.relevance[""].relevant]
        files |= benchmark.database or {
            f for q in sets[folder.name] for f in q.relevance[""].relevant
        }
    for folder in map(Path, distractors):
        files |= set(images_of(folder.resolve()))
    return {"files": sorted(files), "sets": sets}


def ranks(ranking: list[str], query: Query) -> QueryRanks:
    """Ranks of what is to be found."""
    wanted = query.relevance[""]
    counted = [file for file in ranking if file not in wanted.ignored]
    found = [i for i, file in enumerate(counted, 1) if file in wanted.relevant]
    return QueryRanks(tuple(found), len(wanted.relevant))


def used() -> float:
    """CPU seconds of this process and of those that it has started and that have ended."""
    of = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in of)


def run(name: str, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Index and ask by one program."""
    module, kind, options = PEERS[name]
    peer = getattr(importlib.import_module(f"peers.{module}"), kind)(**options)
    files, sets = given["files"], given["sets"]
    cpu, begin = used(), time.perf_counter()
    peer.index(files, folder)
    wall, cpu = time.perf_counter() - begin, used() - cpu
    n_bytes = peer.n_bytes()
    queries = [query for each in sets.values() for query in each]
    if hasattr(peer, "ask"):
        begin = time.perf_counter()
        rankings = peer.ask([query.file for query in queries])
    else:
        peer.rank(queries[0].file)  # what is loaded once
        begin = time.perf_counter()
        rankings = [peer.rank(query.file) for query in queries]
    asked = (time.perf_counter() - begin) / len(queries)
    found = dict(zip((q.file for q in queries), rankings, strict=True))
    by_set = {name: [ranks(found[q.file], q) for q in each] for name, each in sets.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "peer": name,
        "sets": {
            name: {"mAP": mean([r.average_precision for r in each]), "R@1": recall(each, 1)}
            for name, each in by_set.items()
        },
        "index_ms": 1e3 * wall / len(files),
        "index_cpu_ms": 1e3 * cpu / len(files),
        "query_ms": 1e3 * asked,
        "bytes": n_bytes / len(files),
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
    }


def by_process(name: str, arguments: list[str]) -> dict[str, Any]:
    """`run` in a process of its own; the reason where it cannot."""
    command = [sys.executable, __file__, *arguments, "--peers", name, "--step"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"peer": name, "error": lines[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def row(result: dict[str, Any]) -> list[str]:
    """A row of the table."""
    name = result["peer"]
    if "error" in result:
        return [name, f"{ABOUT[name]}: {result['error']}", *[""] * (len(COLUMNS) - 2)]
    figures = result["sets"].values()
    means = [f"{mean([each[key] for each in figures]):.3f}" for key in ("mAP", "R@1")]
    times = [f"{result[key]:.3g}" for key in ("index_ms", "index_cpu_ms", "query_ms")]
    return [name, ABOUT[name], *means, *times, f"{result['bytes'] / 1e3:.3g}",
            f"{result['peak_mb']:.0f}"]  # fmt: skip


def set_rows(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Table of mAP, a column for each set."""
    good = [result for result in results if "sets" in result]
    names = list(good[0]["sets"]) if good else []
    rows = [[r["peer"], *(f"{r['sets'][n]['mAP']:.3f}" for n in names)] for r in good]
    return {"columns": ["mAP", *names], "rows": rows}


def tables_of(results: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    """Tables as the page shows them."""
    asked = sum(map(len, given["sets"].values()))
    size = [["images", str(len(given["files"]))], ["queries", str(asked)]]
    return {
        "peers": {"columns": COLUMNS, "rows": [row(each) for each in results]},
        "sets": set_rows(results),
        "size": {"columns": ["", "value"], "rows": size},
    }


def print_table(table: dict[str, Any]) -> None:
    """Print a table as Markdown."""
    print("\n| " + " | ".join(table["columns"]) + " |\n" + "|---" * len(table["columns"]) + "|")
    for cells in table["rows"]:
        print("| " + " | ".join(cells) + " |")


def plot(results: list[dict[str, Any]], path: str) -> None:
    """What is found against the time of a query, with bytes an image as size."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    good = [result for result in results if "error" not in result]
    means = [mean([each["mAP"] for each in result["sets"].values()]) for result in good]
    by_mean = sorted(zip(means, good, strict=True), key=lambda pair: pair[0])
    for i, (found, result) in enumerate(by_mean):  # names above and below in turn
        ours = result["peer"].startswith("vladkit")
        area = 12 + result["bytes"] / 1e3
        beside = (area / np.pi) ** 0.5 + 4
        axes.scatter(
            result["query_ms"],
            found,
            s=area,
            color="#2a6fb0" if ours else "#b0b4b9",
            edgecolor="#333333",
        )
        axes.annotate(
            result["peer"],
            (result["query_ms"], found),
            xytext=(0, -beside if i % 2 else beside),
            textcoords="offset points",
            ha="center",
            va="top" if i % 2 else "bottom",
            fontsize=8,
        )
    axes.set(xscale="log", xlabel="a query, ms", ylabel="mAP", ylim=(0, 1))
    axes.set_title("Area: bytes an image", loc="left", fontsize=9)
    axes.margins(x=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)


def made(folder: Path) -> str:
    """A set of the photographs that scikit-image ships, by examples/report.py."""
    script = Path(__file__).resolve().parents[1] / "examples" / "report.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    truth = json.loads((folder / "truth.json").read_text())
    database = [f"photos/{each.name}" for each in sorted((folder / "photos").iterdir())]
    (folder / "ground_truth.json").write_text(json.dumps(truth | {"database": database}))
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", help="folders with ground_truth.json")
    parser.add_argument("--distractors", nargs="*", default=[], help="folders of other photos")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--no-bench", action="store_true", help="leave `vladkit bench` out")
    parser.add_argument("--json", type=Path, help="file to write tables to")
    parser.add_argument("--plot", help="image to draw")
    parser.add_argument("--step", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        sets = args.sets or [made(Path(home) / "photographs")]
        if args.step:
            given = read_sets(sets, args.distractors)
            print(json.dumps(run(args.peers[0], given, Path(home))))
            return
        arguments = [*map(os.path.abspath, sets)]
        if args.distractors:
            arguments += ["--distractors", *map(os.path.abspath, args.distractors)]
        given = read_sets(sets, args.distractors)
        results = []
        for name in args.peers:
            results.append(by_process(name, arguments))
            print("| " + " | ".join(row(results[-1])) + " |", flush=True)
            tables = tables_of(results, given)
            if args.json:
                about = {"provenance": provenance("benchmarks/compare.py"), "tables": tables}
                args.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")
    n, asked = (cells[1] for cells in tables["size"]["rows"])
    print(f"\n{n} images, {asked} queries of {len(given['sets'])} sets")
    for name in ("peers", "sets"):
        print_table(tables[name])
    if args.plot:
        plot(results, args.plot)
    if not args.no_bench:
        subprocess.run([sys.executable, "-m", "vladkit", "bench", "--article"], check=True)


if __name__ == "__main__":
    main()
