"""Figure of sums by themselves: a line of points for each case, the fastest on the left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from vladkit.bench.plot import RC, check_target
from vladkit.bench.results import SumsMeasured
from vladkit.bench.sum_ways import READ, SUM_WAYS
from vladkit.viz.figure_file import write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_sums", "write_sums_plot"]

_OURS, _GREY = "#D55E00", "#7F8C99"

_STYLES: Final = {
    "add.at": ("#0072B2", "X"), "bincount": ("#0072B2", "s"), "reduceat": ("#0072B2", "v"),
    "scipy.sparse": ("#009E73", "D"), "Numba loop": ("#CC79A7", "P"),
    "numpy-groupies": (_GREY, "^"), "numbagg": (_GREY, "s"), "pandas": ("#E69F00", "s"),
    "polars": ("#E69F00", "D"), "torch": ("#009E73", "^"), "JAX": ("#009E73", "v"),
    "awkward": (_GREY, "X"), READ: ("#000000", "|"), "vladkit": (_OURS, "o"),
}  # fmt: skip
"""Colours of `vladkit.bench.plot`, one for each kind of library; markers tell its ways apart."""


def write_sums_plot(sums: Sequence[SumsMeasured], about: str, path: str | os.PathLike[str]) -> None:
    """Draw sums into a PNG, SVG or PDF file.

    Raises
    ------
    ParameterError, MissingDependencyError, StorageError
        As `vladkit.bench.plot.check_target`.
    """
    check_target(path)
    import matplotlib

    with matplotlib.rc_context(RC):
        write_figure(draw_sums(sums, about), path)


def draw_sums(sums: Sequence[SumsMeasured], about: str) -> Figure:
    """Draw nanoseconds for each value, by way (points) and case (lines)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.0 + 0.42 * len(sums)), layout="constrained")
    ax = figure.subplots()
    for way in [*(w.name for w in SUM_WAYS if w.name != "vladkit"), "vladkit"]:
        color, marker = _STYLES[way]
        known = [
            (1e6 * ms / (m.case.n * m.case.f), y)
            for y, m in enumerate(sums)
            if (ms := m.ms(way)) is not None
        ]
        if known:
            x, y = zip(*known, strict=True)
            size, z = (90, 4) if way == "vladkit" else (34, 3)
            ax.scatter(x, y, s=size, color=color, marker=marker, label=way, zorder=z)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_yticks(range(len(sums)), [m.case.name for m in sums])
    ax.set_ylim(len(sums) - 0.4, -0.6)
    ax.grid(axis="y", color="#E4E4E4", linewidth=6, zorder=0)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.7, zorder=0)
    ax.set_xlabel("median time for each value, nanoseconds")
    ax.set_title(f"Rows summed into segments: {about}")
    figure.legend(loc="outside lower center", ncols=7, frameon=False)
    return figure
