"""Writes the figures of docs/results/*.json into the pages, so that each has one source.

    python docs/figures.py            # rewrite the marked places of README.md and docs/**/*.md
    python docs/figures.py --check    # only name pages that differ from their source; then exit 1

A page marks two kinds of places, which GitHub shows without the marks:

- a table: ``<!-- table: NAME/TABLE -->``, its lines, ``<!-- end -->``;
- a value in a sentence: ``<!--= NAME/TABLE/ROW/COLUMN -->0.918<!--/-->``, with a format behind a
  bar if it is to be rounded: ``<!--= NAME/TABLE/ROW/COLUMN | .2f -->0.92<!--/-->``. Of a cell such
  as "0.918 (0.913 to 0.927)" the value is its first word.

NAME is a file of docs/results. Most hold ``tables``, with columns and rows as a page shows them;
``encode.json`` and ``segments.json`` are what benchmarks/encode.py and segments.py write with
`--json` and ``bench.json`` what `vladkit bench --json` writes, and their tables are made here.
``provenance`` states which script measured a file, at which commit, on which machine; add it by
hand where the script does not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
VALUE = re.compile(r"(<!--= (.+?) -->)(.*?)(<!--/-->)", re.DOTALL)

ARTICLE = ("256x128x64 k=16 float64", "256x128x64 k=16 float32")
WAYS = {
    "X @ C.T": "bare product `X @ C.T`",
    "faiss + add.at": "faiss + `add.at`",
    "article loop": "the article's loop",
    "article mask": "the article's mask",
    "article add.at": "the article's `add.at`",
    "article sort+cumsum": "the article's sort + cumsum",
    "loop": "`loop` (distances in float64, for each descriptor)",
}
"""Names of ways of `vladkit bench` in the table; the others are names of methods."""


def number(value: float) -> str:
    """Two digits, or all of those before the point."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def encode_tables(run: dict[str, Any]) -> dict[str, Any]:
    """Tables of `benchmarks/encode.py --json`: `cases`, on the most threads, and `summary`."""
    threads = max(row["threads"] for row in run["rows"])
    chosen = [row for row in run["rows"] if row["threads"] == threads]
    chosen.sort(key=lambda row: row["case"].startswith("256x128x64 k=16 float64"))
    rows = []
    for row in sorted(chosen, key=lambda row: row["loop_over_fused"] is None):
        sizes, k, dtype = row["case"].split()
        name = f"{sizes.replace('x', ' x ')}, {k.removeprefix('k=')}"
        name += "" if dtype == "float32" else f", {dtype}"
        times = [f"{number(row['ms'][way])} ms" for way in ("fused", "product")]
        loop = row["loop_over_fused"]
        loop = "" if loop is None else f"{loop:.0f} x slower"
        rows.append([name, *times, f"{row['over_product']:.2f}", loop])
    ratios = [row["over_product"] for row in chosen]
    columns = ["images x descriptors x dimensions, k", "`encode`", "`X @ C.T`", "ratio"]
    return {
        "cases": {"columns": [*columns, "the article's loop"], "rows": rows},
        "summary": {
            "columns": ["", "value"],
            "rows": [
                ["cases", str(len(ratios))],
                ["faster", str(sum(ratio < 1 for ratio in ratios))],
                ["least ratio", f"{min(ratios):.2f}"],
                ["greatest ratio", f"{max(ratios):.2f}"],
            ],
        },
    }


def bench_tables(run: dict[str, Any]) -> dict[str, Any]:
    """The article's case of `vladkit bench --json`, the fastest way first."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for case in ARTICLE:
        for row in run["rows"]:
            if row["case"] == case and row["median_ms"] is not None:
                rows.setdefault(row["way"], []).append(row)
    both = {way: found for way, found in rows.items() if len(found) == len(ARTICLE)}
    table = []
    for way, (double, single) in sorted(both.items(), key=lambda item: item[1][0]["median_ms"]):
        memory = double["memory_bytes"]
        memory = "" if memory is None else f"{memory / 1e6:.0f}"
        times = [f"{row['median_ms']:.3g}" for row in (double, single)]
        table.append([WAYS.get(way, f"`{way}`"), *times, memory])
    columns = ["way", "float64 ms", "float32 ms", "float64 MB"]
    return {"article": {"columns": columns, "rows": table}}


SUM_WAYS = (
    "vladkit", "add.at", "bincount", "reduceat", "scipy.sparse", "Numba loop", "numpy-groupies",
    "numbagg", "pandas", "polars", "torch", "JAX", "awkward", "read",
)  # fmt: skip


def segments_tables(run: dict[str, Any]) -> dict[str, Any]:
    """Tables of benchmarks/segments.py: `sums`, `others`, `accuracy`, `fresh` and `summary`."""

    def times(rows: list[dict[str, Any]], named: Any) -> dict[str, Any]:
        cells = []
        timed = {way["way"] for row in rows for way in row["rows"]}
        ways = [way for way in SUM_WAYS if way in timed]
        for row in rows:
            ms = {way["way"]: way["median_ms"] for way in row["rows"]}
            least = min(t for way, t in ms.items() if way != "read" and t is not None)
            shown = [
                "" if ms.get(way) is None
                else f"**{number(ms[way])}**" if ms[way] == least else number(ms[way])
                for way in ways
            ]  # fmt: skip
            cells.append([named(row), *shown, f"{row['over_fastest']:.2f}"])
        return {"columns": ["ms", *ways, "vladkit / fastest other"], "rows": cells}

    ratios = [row["over_fastest"] for row in run["sums"]]
    kinds = run["accuracy"]
    errors = [
        [
            way,
            *(
                "" if way not in of else f"{of[way]:.0e}" if of[way] else "0"
                for of in kinds.values()
            ),
        ]
        for way in dict.fromkeys(way for of in kinds.values() for way in of)
    ]
    fresh = [
        [row["case"], *(number(row[key]) for key in ("first_ms", "timeit_ms", "final_ms")),
         str(round(row["calls"])), number(row["until_final_s"]), "yes" if row["numba"] else "no"]
        for row in run["fresh"]
    ]  # fmt: skip
    return {
        "sums": times(run["sums"], lambda row: row["name"]),
        "others": times(run["others"], lambda row: f"{row['case']['op']}, {row['name']}"),
        "accuracy": {"columns": ["way", *kinds], "rows": errors},
        "fresh": {
            "columns": ["a fresh process", "first call, ms", "best of 5, ms", "final, ms",
                        "calls until then", "seconds until then", "Numba is loaded after one"],
            "rows": fresh,
        },
        "summary": {
            "columns": ["", "value"],
            "rows": [
                ["run", "short" if run["quick"] else "quiet"],
                ["cases", str(len(ratios))],
                ["fastest", str(sum(ratio <= 1 for ratio in ratios))],
                ["greatest ratio", f"{max(ratios):.2f}"],
            ],
        },
    }  # fmt: skip


@cache
def tables(name: str) -> dict[str, Any]:
    """The tables of docs/results/NAME.json."""
    run = json.loads((RESULTS / f"{name}.json").read_text())
    makers = {"encode": encode_tables, "bench": bench_tables, "segments": segments_tables}
    made = makers.get(name)
    return made(run) if made else run["tables"]


def markdown(path: str) -> str:
    """The lines of the table NAME/TABLE."""
    name, _, key = path.partition("/")
    table = tables(name)[key]
    head, *rows = ("| " + " | ".join(line) + " |\n" for line in (table["columns"], *table["rows"]))
    rule = "|---" * len(table["columns"]) + "|\n"
    return "".join((head, rule, *rows)).replace("|  ", "| ")


def value(where: str) -> str:
    """The value NAME/TABLE/ROW/COLUMN, rounded if a format is behind a bar."""
    path, _, form = (part.strip() for part in where.partition("|"))
    name, key, row, column = path.split("/")
    table = tables(name)[key]
    (cells,) = (cells for cells in table["rows"] if cells[0] == row)
    first: str = cells[table["columns"].index(column)].split()[0]
    return format(float(first), form) if form else first


def filled(text: str) -> str:
    """A page with its marked places as their sources have them."""
    begins = re.search(r"^ *<!--(= | -->).*$", text, re.MULTILINE)
    if begins:
        raise SystemExit(f"{begins[0]}: a line that begins with a mark is shown as HTML: move it")
    text = TABLE.sub(lambda found: found[1] + markdown(found[2]) + found[4], text)
    return VALUE.sub(lambda found: found[1] + value(found[2]) + found[4], text)


def pages() -> Iterator[Path]:
    """All that may have marked places."""
    yield DOCS.parent / "README.md"
    yield from sorted(DOCS.glob("**/*.md"))


def main() -> int:
    """Write, or check."""
    different = []
    for page in pages():
        text = page.read_text()
        wanted = filled(text)
        if wanted != text:
            different.append(page)
            if "--check" not in sys.argv[1:]:
                page.write_text(wanted)
    for page in different:
        sys.stdout.write(f"{page.relative_to(DOCS.parent)}\n")
    return 1 if different and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
