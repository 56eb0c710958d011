"""Figure of a run: bars for the article's case, lines for the sweeps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from vladkit.bench.cases import AXIS_TITLES, SWEEP_AXES
from vladkit.bench.report import milliseconds
from vladkit.bench.results import Measured, Report, Row
from vladkit.viz.figure_file import check_figure_file, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["RC", "check_target", "draw", "write_plot"]

_FORMATS: Final = (".png", ".svg", ".pdf")

_FUSED, _JAX, _TORCH, _ARTICLE, _FAISS, _OURS, _FLOOR = (
    "#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#7F8C99", "#000000",
)  # fmt: skip
"""Colours of Okabe and Ito, which colour-blind people can tell apart; markers tell ways apart."""

_STYLES: Final = {
    "fused": (_FUSED, "o"),
    "jax": (_JAX, "s"),
    "torch": (_TORCH, "^"),
    "sparse": (_OURS, "P"),
    "reduceat": (_OURS, "D"),
    "cumsum": (_OURS, "v"),
    "scatter": (_OURS, "X"),
    "mask": (_OURS, "s"),
    "loop": (_OURS, "o"),
    "faiss + add.at": (_FAISS, "D"),
    "article loop": (_ARTICLE, "o"),
    "article sort+cumsum": (_ARTICLE, "v"),
    "article add.at": (_ARTICLE, "X"),
    "article mask": (_ARTICLE, "s"),
}

RC: Final = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "vladkit",
}

_MOST_BARS: Final = 4


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse a figure file that could not be written, before anything is measured.

    Raises
    ------
    ParameterError
        If the file's name does not end in .png, .svg or .pdf.
    MissingDependencyError
        If matplotlib is not installed.
    StorageError
        If no file can be written there.
    """
    check_figure_file(path, "--plot", _FORMATS)


def write_plot(report: Report, path: str | os.PathLike[str]) -> None:
    """Draw a run into a PNG, SVG or PDF file.

    Raises
    ------
    ParameterError, MissingDependencyError, StorageError
        As `check_target`.
    """
    check_target(path)
    import matplotlib

    with matplotlib.rc_context(RC):
        write_figure(draw(report), path)


def draw(report: Report) -> Figure:
    """Draw bars of up to four cases outside of the sweeps, then a panel for each sweep.

    The figure is 12 inches wide; its text is legible at 1200 px.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    alone = [m for m in report.measured if not m.case.sweeps][:_MOST_BARS]
    sweeps = {axis: points for axis in SWEEP_AXES if len(points := report.sweep(axis)) > 1}
    bars = -(-len(alone) // 2) * (1.0 + 0.27 * max(len(m.rows) for m in report.measured))
    lines = 3.9 * -(-len(sweeps) // 2) + 1.2
    heights = ([bars] if alone else []) + ([lines] if sweeps else [])
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(12, sum(heights) + 0.6), layout=layout)
    about = report.machine, report.versions
    figure.suptitle(
        f"Time to encode a batch on {report.threads} threads: {about[0]['cpu']}, "
        f"vladkit {about[1]['vladkit']}, NumPy {about[1]['numpy']}",
        x=0.01,
        ha="left",
    )
    rooms = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if alone:
        room = rooms.pop(0)
        for i, m in enumerate(alone):
            _bars(room.add_subplot(-(-len(alone) // 2), min(2, len(alone)), i + 1), m)
    if sweeps:
        room = rooms.pop(0)
        for i, (axis, points) in enumerate(sweeps.items()):
            _lines(room.add_subplot(-(-len(sweeps) // 2), 2, i + 1), points, axis)
        _legend(room)
    return figure


def _bars(ax: Axes, m: Measured) -> None:
    rows = [r for r in m.by_time() if r.median_ms is not None and r.kind != "floor"]
    times = [r.median_ms or 0.0 for r in rows]
    ax.barh(range(len(rows)), times, color=[_style(r.way)[0] for r in rows], height=0.72, zorder=2)
    ax.set_xscale("log")
    ax.set_xlim(min(*times, m.floor_ms) / 2.5, max(*times, m.floor_ms) * 4)
    ax.set_ylim(len(rows) + 0.3, -0.7)
    ax.set_yticks(range(len(rows)), [r.way for r in rows])
    ax.axvline(m.floor_ms, color=_FLOOR, linestyle="--", linewidth=1.2, zorder=3)
    floor = f"floor {milliseconds(m.floor_ms)}"
    ax.text(m.floor_ms, len(rows) - 0.4, f" {floor}", va="top", fontsize=10)
    for i, (row, label) in enumerate(zip(rows, ax.get_yticklabels(), strict=True)):
        weight = "bold" if row.way == "fused" else "normal"
        label.set_fontweight(weight)
        text = ("~" if m.is_scaled(row) else "") + milliseconds(row.median_ms)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.annotate(
            text, (times[i], i), (5, 0), textcoords="offset points", va="center",
            fontsize=10, fontweight=weight, bbox=white, zorder=4,
        )  # fmt: skip
    ax.set_title(f"{m.case.t} images x {m.case.l} x {m.case.f}, K = {m.case.k}, {m.case.dtype}")
    ax.set_xlabel("median time, ms (~ scaled from fewer images)")
    ax.xaxis.set_major_formatter(_plain)


def _lines(ax: Axes, points: list[Measured], axis: str) -> None:
    x = [getattr(m.case, axis) for m in points]
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    for way in _STYLES:
        _line(ax, [(m, m.row(way)) for m in points], x, way)
    ax.plot(x, [m.floor_ms for m in points], color=_FLOOR, linestyle="--", lw=1.2, zorder=3)
    ax.set_xticks(x, [str(v) for v in x])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(_plain)
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    case = points[0].case
    others = (f"{a.upper()} = {getattr(case, a)}" for a in SWEEP_AXES if a != axis)
    ax.set_title(f"over {axis.upper()}; {', '.join(others)}, {case.dtype}")
    ax.set_xlabel(AXIS_TITLES[axis])
    ax.set_ylabel("median time, ms")


def _line(ax: Axes, rows: list[tuple[Measured, Row | None]], x: list[int], way: str) -> None:
    color, marker = _style(way)
    known = [
        (value, r.median_ms, "white" if m.is_scaled(r) else color)
        for value, (m, r) in zip(x, rows, strict=True)
        if r is not None and r.median_ms is not None
    ]
    if not known:
        return
    value, ms, fill = zip(*known, strict=True)
    fused = way == "fused"
    ax.plot(value, ms, color=color, linewidth=3 if fused else 1.2, zorder=5 if fused else 2)
    ax.scatter(
        value, ms, s=45 if fused else 24, marker=marker, c=fill, edgecolors=color,
        zorder=6 if fused else 4,
    )  # fmt: skip


def _legend(figure: SubFigure) -> None:
    from matplotlib.lines import Line2D

    def entry(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **style)

    entries = [
        entry(way, color=c, marker=m, markersize=5, linewidth=3 if way == "fused" else 1.2)
        for way, (c, m) in _STYLES.items()
    ]
    entries.append(entry("floor: X @ C.T, or a copy", color=_FLOOR, linestyle="--", linewidth=1.2))
    hollow = {"marker": "o", "color": "none", "markeredgecolor": _FLOOR, "markersize": 5}
    entries.append(entry("hollow: scaled from fewer images", **hollow))
    figure.legend(handles=entries, loc="outside lower center", ncols=4, frameon=False)


def _style(way: str) -> tuple[str, str]:
    return _STYLES.get(way, (_OURS, "o"))


def _plain(value: float, _: float) -> str:
    return f"{value:g}"
