"""Tables of a run, for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from vladkit.bench.cases import AXIS_TITLES, SWEEP_AXES
from vladkit.bench.results import Measured, Report, Row

__all__ = [
    "console_of_report",
    "fisher",
    "head",
    "left_out",
    "milliseconds",
    "print_report",
    "verdicts",
]

_BUSY: Final = 0.1
"""Number of cores used by other processes above which the report says so."""


def print_report(report: Report, *, details: bool = False, console: Console | None = None) -> None:
    """Print tables: all figures of single cases, medians of sweeps (with `details` all figures)."""
    console = console or console_of_report()
    console.print(*head(report), *left_out(report), "", sep="\n", markup=False)
    for m in report.measured:
        if details or not m.case.sweeps:
            floor = f"floor {milliseconds(m.floor_ms)} ms"
            parts = f"X @ C.T {milliseconds(m.product_ms)}, bytes {milliseconds(m.bytes_ms)}"
            console.print(f"{m.case.name}; {floor} ({parts})", markup=False)
            console.print(_whole(m))
            _print_notes(console, _skips(m))
    if not details:
        for axis in SWEEP_AXES:
            points = report.sweep(axis)
            if points:
                base = points[0].case
                others = (f"{a.upper()} = {getattr(base, a)}" for a in SWEEP_AXES if a != axis)
                title = f"Median ms over {AXIS_TITLES[axis]}; {', '.join(others)}; {base.dtype}"
                console.print(title, markup=False)
                console.print(_medians(points, axis))
                notes = (
                    f"{axis.upper()} = {getattr(m.case, axis)}: {note}"
                    for m in points
                    for note in _skips(m)
                )
                _print_notes(console, notes)
    console.print(*_legend(report), *verdicts(report), *fisher(report), sep="\n", markup=False)


def console_of_report() -> Console:
    """Console on stdout: as wide as the terminal, 100 letters if it is none."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    return console


def head(report: Report) -> Iterator[str]:
    """Lines about the machine and the run."""
    known, machine = report.versions, report.machine
    cores = f"{machine['cores_allowed']} of {machine['cores']} cores"
    yield f"{machine['cpu']}, {machine['architecture']}, {cores}; {machine['system']}"
    yield f"{report.threads} threads; copies {report.copy_bytes_per_s / 1e9:.1f} GB/s"
    yield ", ".join(f"{name} {v}" for name, v in known.items() if v is not None)
    if report.other_cores is not None and report.other_cores > _BUSY:
        yield (
            f"busy: other processes used {report.other_cores:.1f} cores meanwhile; "
            "times are longer, and ratios different, than on an idle machine"
        )


def left_out(report: Report) -> Iterator[str]:
    """A line for each reason why ways are left out."""
    by_reason: dict[str, list[str]] = {}
    for out in report.left_out:
        by_reason.setdefault(out.reason, []).append(out.way)
    return (f"left out: {', '.join(ways)}: {reason}" for reason, ways in by_reason.items())


def _whole(m: Measured) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("way", no_wrap=True)
    for name in ("ms", "10-90 %", "calls", "MB", "error", "x loop", "/ X@C.T", "/ floor"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in m.by_time():
        if row.median_ms is None:
            continue
        about = "~" if m.is_scaled(row) else ""
        table.add_row(
            row.way,
            about + milliseconds(row.median_ms),
            f"{milliseconds(row.p10_ms)}-{milliseconds(row.p90_ms)}" if row.calls > 1 else "",
            str(row.calls),
            "" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:.1f}",
            "" if row.error is None else f"{row.error:.0e}" if row.error else "0",
            _ratio(row.loop_over_way),
            _ratio(row.way_over_product),
            _ratio(row.way_over_floor),
            style=_style(row),
        )
    return table


def _medians(points: list[Measured], axis: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{axis.upper()} =", no_wrap=True)
    for m in points:
        table.add_column(str(getattr(m.case, axis)), justify="right", no_wrap=True)
    for row in points[-1].by_time():
        same = [(m, m.row(row.way)) for m in points]
        cells = [
            "-"
            if r is None or r.median_ms is None
            else ("~" if m.is_scaled(r) else "") + milliseconds(r.median_ms)
            for m, r in same
        ]
        if any(cell != "-" for cell in cells):
            table.add_row(row.way, *cells, style=_style(row))
    fused = [m.row("fused") for m in points]
    if all(r is not None for r in fused):
        table.add_section()
        rows = [r for r in fused if r is not None]
        table.add_row("fused / X @ C.T", *(_ratio(r.way_over_product) for r in rows))
        table.add_row("fused / floor", *(_ratio(r.way_over_floor) for r in rows))
        table.add_row("fused x loop", *(_ratio(r.loop_over_way) for r in rows))
        megabytes = [r.memory_bytes for r in rows]
        table.add_row("fused MB", *("" if b is None else f"{b / 1e6:.1f}" for b in megabytes))
    return table


def _skips(m: Measured) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for row in m.rows:
        if row.skipped is not None:
            by_reason.setdefault(row.skipped, []).append(row.way)
    return (f"{', '.join(ways)}: {reason}" for reason, ways in by_reason.items())


def _print_notes(console: Console, notes: Iterable[str]) -> None:
    lines = [f"  - {note}" for note in notes]
    if lines:
        console.print(*lines, "", sep="\n", markup=False)


def _legend(report: Report) -> Iterator[str]:
    yield textwrap.fill(
        f"x loop: times faster than {report.baseline}. / X@C.T: times slower than the bare "
        "product. / floor: times slower than the bare product or a copy of input and result, "
        "whichever is longer. MB: peak memory above the input. error: largest error of the first "
        "images over the largest sum. ~: measured on some of the images, and scaled. -: skipped.",
        width=98,
    )


def verdicts(report: Report) -> list[str]:
    """Sentences about the cases in which `fused` is the fastest way, and the others."""
    slower = []
    n = 0
    for m in report.measured:
        fused = m.row("fused")
        timed = [r for r in m.rows if r.kind != "floor" and r.median_ms is not None]
        if fused is None or fused.median_ms is None or len(timed) < 2:
            continue
        n += 1
        best = min(timed, key=lambda r: r.median_ms or 0.0)
        if best.way != "fused" and best.median_ms:
            times = fused.median_ms / best.median_ms
            slower.append(f"{m.case.name} ({best.way} is {times:.2f} times faster)")
    if not n:
        return []
    lines = [f"fused is the fastest in {n - len(slower)} of {n} cases."]
    return lines + [f"Not in {case}." for case in slower]


def fisher(report: Report) -> Iterator[str]:
    """A line about Fisher vectors, if they were measured."""
    m = report.fisher
    if m is None:
        return
    ours, theirs = m.ms["vladkit"], m.ms.get("scikit-image")
    line = f"Fisher vectors of {m.case}: {milliseconds(ours)} ms, the products that they need "
    line += f"{milliseconds(m.ms['products'])}"
    if theirs is not None:
        line += f", scikit-image {milliseconds(theirs)} ({_ratio(theirs / ours)} times as long)"
    yield line + "."


def _style(row: Row) -> str | None:
    return {"fused": "bold", "X @ C.T": "dim"}.get(row.way)


def milliseconds(value: float | None) -> str:
    """A time with three digits, or two below 0.1, or without decimals from 100; "" for None."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return (f"{value:#.3g}" if value >= 0.1 else f"{value:#.2g}").rstrip(".")


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"
