"""`vladkit bench --article`: sums by themselves, then encodings, on the article's sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from vladkit.bench.report import console_of_report, fisher, head, left_out, milliseconds, verdicts
from vladkit.bench.results import Report, SumsMeasured
from vladkit.bench.sum_ways import SUM_WAYS

__all__ = ["print_article", "sum_verdicts"]

_ENCODINGS: Final = {
    "fused": "vladkit's: labels and sums block by block, in cache",
    "jax": "vladkit's steps in JAX",
    "torch": "vladkit's steps in torch",
    "sparse": "labels by a product, sums by a sparse matrix",
    "reduceat": "labels by a product, rows sorted, np.add.reduceat",
    "cumsum": "labels by a product, rows sorted, differences of prefix sums",
    "scatter": "labels by a product, np.add.at",
    "mask": "a dense comparison with all centroids, then a sum",
    "loop": "a loop over images and centroids",
    "faiss + add.at": "labels by faiss, sums by np.add.at",
    "article loop": "the article's, labels by scikit-learn: a loop",
    "article mask": "the article's: all differences, times a mask",
    "article add.at": "the article's: np.add.at",
    "article sort+cumsum": "the article's fastest: sort, cumulative sum, differences",
    "X @ C.T": "the floor: only the product that finds the labels",
}


def print_article(report: Report, console: Console | None = None) -> None:
    """Print what the ways do and how long they take, for sums and for encodings."""
    console = console or console_of_report()

    def lines(some: Iterable[str]) -> None:
        console.print(*some, sep="\n", markup=False)

    lines((*head(report), ""))
    if report.sums:
        timed = {row.way for m in report.sums for row in m.rows}
        lines(["Rows summed into segments, median ms. Ways:", ""])
        lines(_explained({way.name: way.text for way in SUM_WAYS if way.name in timed}))
        lines(["", "Rows x columns into segments (labels at random, unless said):", ""])
        lines(_explained({letter: m.case.name for letter, m in _lettered(report.sums)}))
        console.print(_sums(report.sums))
        lines((*_failed(report.sums), *sum_verdicts(report.sums), ""))
    timed = {r.way for m in report.measured for r in m.rows if r.median_ms is not None}
    lines(["Batches encoded (images x descriptors x dimensions, k), median ms. Ways:", ""])
    lines(_explained({way: text for way, text in _ENCODINGS.items() if way in timed}))
    lines(["", "MB: peak of memory above the input. ~: on some of the images, and scaled."])
    console.print(_encodings(report))
    lines((*verdicts(report), *fisher(report), *left_out(report)))


def sum_verdicts(sums: Sequence[SumsMeasured]) -> Iterator[str]:
    """Sentences about the cases in which vladkit is the fastest way, and the others."""
    ratios = {m: m.over_fastest() for m in sums}
    fastest = sum(ratio <= 1 for ratio, _ in ratios.values())
    yield f"vladkit is the fastest in {fastest} of {len(sums)} cases."
    worst = max(ratios, key=lambda m: ratios[m][0])
    ratio, way = ratios[worst]
    if ratio > 1:
        yield f"At most it takes {ratio:.2f} times as long as {way}: {worst.case.name}."


def _explained(texts: dict[str, str]) -> Iterator[str]:
    width = max(map(len, texts)) + 2
    return (f"  {name:{width}}{text}" for name, text in texts.items())


def _lettered(sums: Sequence[SumsMeasured]) -> list[tuple[str, SumsMeasured]]:
    return [(chr(ord("A") + i), m) for i, m in enumerate(sums)]


def _sums(sums: Sequence[SumsMeasured]) -> Table:
    table = _table("way", [letter for letter, _ in _lettered(sums)])
    for way in (way.name for way in SUM_WAYS):
        cells = [milliseconds(m.ms(way)) for m in sums]
        if any(cells):
            table.add_row(way, *cells, style={"vladkit": "bold", "read": "dim"}.get(way))
    table.add_section()
    table.add_row("vladkit / fastest other", *(f"{m.over_fastest()[0]:.2f}" for m in sums))
    return table


def _failed(sums: Sequence[SumsMeasured]) -> Iterator[str]:
    for letter, m in _lettered(sums):
        yield from (f"  - {letter}: {r.way}: {r.skipped}" for r in m.rows if r.skipped)


def _encodings(report: Report) -> Table:
    cases = report.measured
    table = _table("way", [*(m.case.name for m in cases), "MB"])
    for way in (row.way for row in cases[0].by_time()):
        rows = [(m, m.row(way)) for m in cases]
        cells = [
            "" if r is None or r.median_ms is None
            else ("~" if m.is_scaled(r) else "") + milliseconds(r.median_ms)
            for m, r in rows
        ]  # fmt: skip
        memory = rows[0][1].memory_bytes if rows[0][1] is not None else None
        megabytes = "" if memory is None else f"{memory / 1e6:.1f}"
        if any(cells):
            style = {"fused": "bold", "X @ C.T": "dim"}.get(way)
            table.add_row(way, *cells, megabytes, style=style)
    return table


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
