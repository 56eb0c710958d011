"""`draw_ranking`: a query and its results, as a grid of images."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vladkit.collection.ranked import Hit
from vladkit.errors import ImageError, ParameterError
from vladkit.viz.figure_file import require_matplotlib
from vladkit.viz.shown_image import Source, printable, shorten, try_load_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_ranking"]

_MAX_SIDE: Final = 400
"""Longer side of an image in px: 2 inches at 200 dpi."""

_CELL: Final = 2.0
_MARGIN: Final = 0.13
_TEXT: Final = 0.42
"""Inches: side of the square that holds an image, its border, height of the text below it."""

_SIZE: Final = 8.0
"""Size of the text in points."""

_RIGHT, _WRONG, _NEUTRAL = "#009E73", "#D55E00", "#8A8A8A"
"""Green and red of Okabe and Ito, which colour-blind people can tell apart."""

Stroke: TypeAlias = tuple[tuple[float, float], ...]

_TICK: Final[Stroke] = ((-0.05, 0.0), (-0.015, 0.04), (0.055, -0.045))
_CROSS: Final[tuple[Stroke, Stroke]] = (
    ((-0.04, -0.04), (0.04, 0.04)),
    ((-0.04, 0.04), (0.04, -0.04)),
)
"""Strokes in inches around the middle of a badge, y down."""


def draw_ranking(
    query: Source,
    hits: Sequence[Hit],
    *,
    relevant: Iterable[str] | None = None,
    columns: int = 5,
) -> Figure:
    """Draw a query and its results, the best first.

    Parameters
    ----------
    query : path, Image, or uint8 array (height, width, 3)
    hits : sequence of Hit
        Results of `Collection.search`. All are drawn: give ``hits[:20]`` for fewer.
    relevant : iterable of str or None
        Paths of the images that are right, as ``hit.path`` or as ``hit.file`` has them
        (`vladkit.evaluation.benchmark.Relevance` does). They get a solid green frame and a tick,
        the others a dashed red one and a cross. None marks no image.
    columns : int, default=5
        Number of columns, besides that of the query.

    Returns
    -------
    Figure
        A new one, which a notebook shows; the query's axes first, then those of the hits in order.

    Raises
    ------
    ParameterError
        If `columns` is below 1, `relevant` is one path instead of several, or a hit is something
        else.
    MissingDependencyError
        matplotlib is not installed.

    Notes
    -----
    An image that cannot be read, or is gone, is a gray box with the reason. The figure holds
    images of at most 400 px, some 0.4 MB each.

    Examples
    --------
    >>> import numpy as np
    >>> query = np.full((60, 80, 3), 200, np.uint8)
    >>> hits = [
    ...     Hit(1, 0.5, 0.5, path="a.jpg", file="/nowhere/a.jpg"),
    ...     Hit(2, 0.2, 0.2, path="b.jpg", file="/nowhere/b.jpg"),
    ... ]
    >>> figure = draw_ranking(query, hits, relevant=["b.jpg"])
    >>> len(figure.axes)
    3
    """
    require_matplotlib("draw_ranking")
    from vladkit.viz.axes import NotebookFigure

    right = None if relevant is None else _paths(relevant)
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise ParameterError(f"columns={columns!r}: give a number of images, 1 or more")
    for hit in hits:
        if not isinstance(hit, Hit):
            raise ParameterError(f"{hit!r:.80} is among the hits: give results of a search")
    rows = max(1, math.ceil(len(hits) / columns))
    across = 1 + min(columns, max(1, len(hits)))
    figure = NotebookFigure(figsize=(across * _CELL, rows * (_CELL + _TEXT)))
    # cells are laid out in inches: matplotlib need not compute a layout
    grid = figure.add_gridspec(rows, across, left=0, right=1, bottom=0, top=1, wspace=0, hspace=0)
    cell = _Cell(figure.add_subplot(grid[0, 0]))
    cell.draw_image(query, "query")
    cell.frame(_NEUTRAL, "-", 1.0)
    cell.text("query" if hits else "query: no results", _name(query))
    for i, hit in enumerate(hits):
        cell = _Cell(figure.add_subplot(grid[i // columns, 1 + i % columns]))
        cell.draw_image(hit.file, "image")
        if right is None:
            cell.frame(_NEUTRAL, "-", 1.0)
        elif hit.path in right or hit.file in right:
            cell.frame(_RIGHT, "-", 2.6)
            cell.badge(_RIGHT, [_TICK])
        else:
            cell.frame(_WRONG, (0, (3, 1.2)), 2.6)
            cell.badge(_WRONG, _CROSS)
        inliers = "" if hit.inliers is None else f", {_counted(hit.inliers)}"
        score = f"{hit.score:{'.3f' if hit.score > 0.1 else '.2g'}}"
        cell.text(f"{i + 1}:  {score}{inliers}", os.path.basename(hit.path))
    return figure


class _Cell:
    """A cell of the grid, measured in inches from its top left."""

    def __init__(self, ax: Axes) -> None:
        ax.set_axis_off()
        ax.set(xlim=(0, _CELL), ylim=(_CELL + _TEXT, 0))
        self._ax = ax
        self._box = (0.0, 0.0, 0.0, 0.0)

    def draw_image(self, source: Source, what: str) -> None:
        """An image as large as fits, or why there is none."""
        room = _CELL - 2 * _MARGIN
        shown = try_load_image(source, what, _MAX_SIDE)
        if isinstance(shown, ImageError):
            self._place(room, 0.75 * room)
            self._missing(shown.reason)
            return
        scale = room / max(shown.part.width, shown.part.height)
        self._place(scale * shown.part.width, scale * shown.part.height)
        left, top, right, bottom = self._box
        self._ax.imshow(
            shown.rgb_yx3,
            extent=(left, right, bottom, top),
            origin="upper",
            aspect="auto",
            interpolation="auto",
        )
        self._ax.set(xlim=(0, _CELL), ylim=(_CELL + _TEXT, 0))

    def _place(self, width: float, height: float) -> None:
        left, bottom = (
            (_CELL - width) / 2,
            _CELL - _MARGIN,
        )  # a row stands on one line
        self._box = left, bottom - height, left + width, bottom

    def _missing(self, reason: str) -> None:
        from matplotlib.patches import Rectangle

        from vladkit.viz.axes import PLAIN

        left, top, right, bottom = self._box
        self._ax.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor="#E4E4E4"))
        lines = textwrap.wrap(printable(reason), 24)[:5]
        self._ax.text(
            _CELL / 2,
            (top + bottom) / 2,
            "\n".join(lines),
            ha="center",
            va="center",
            fontsize=8,
            color="#555555",
            **PLAIN,
        )

    def frame(self, color: str, style: Any, width: float) -> None:
        """Draw a line around the image, outside of it."""
        from matplotlib.patches import Rectangle

        left, top, right, bottom = self._box
        out = width / 2 / 72
        size = right - left + 2 * out, bottom - top + 2 * out
        self._ax.add_patch(
            Rectangle(
                (left - out, top - out), *size, fill=False, ec=color, lw=width, ls=style, zorder=3
            )
        )

    def badge(self, color: str, strokes: Sequence[Stroke]) -> None:
        """Draw a sign in the top left corner, from strokes: not every font has it."""
        left, top, _, _ = self._box
        x, y = left + 0.02, top + 0.02
        self._ax.plot(x, y, "o", color=color, ms=15, mec="white", mew=1.2, zorder=4)
        for stroke in strokes:
            across, down = zip(*stroke, strict=True)
            self._ax.plot(
                [x + each for each in across],
                [y + each for each in down],
                "-",
                marker="",
                color="white",
                linewidth=2,
                solid_capstyle="round",
                zorder=5,
            )

    def text(self, first: str, second: str) -> None:
        """Write two lines below the image."""
        from vladkit.viz.axes import PLAIN, fitting_characters

        _, _, _, bottom = self._box
        y = bottom + 0.08
        middle: dict[str, Any] = {"ha": "center", "va": "top"} | PLAIN
        most = fitting_characters(_CELL - 2 * _MARGIN, _SIZE)
        self._ax.text(_CELL / 2, y, first, fontsize=_SIZE, fontweight="bold", **middle)
        name = shorten(printable(second), most)
        self._ax.text(_CELL / 2, y + 0.16, name, fontsize=_SIZE, alpha=0.8, **middle)


def _paths(relevant: Iterable[str]) -> frozenset[str]:
    if isinstance(relevant, (str, os.PathLike)):
        raise ParameterError(f"relevant is one path, {relevant!r}: give a list of them")
    return frozenset(os.fspath(path) for path in relevant)


def _name(source: Source) -> str:
    return os.path.basename(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else ""


def _counted(n: int) -> str:
    return f"{n} {'inlier' if n == 1 else 'inliers'}"
