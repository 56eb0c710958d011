"""Figures that notebooks show, and images in them in their own px.

The one module that imports matplotlib at once: import it where it is used. Nothing here touches
pyplot, a backend or rcParams.
"""

from __future__ import annotations

import io
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D

from vladkit.errors import ParameterError
from vladkit.viz.images import Shown, printable, shorten

__all__ = [
    "PLAIN",
    "NotebookFigure",
    "axes_for",
    "caption",
    "characters",
    "figure_of",
    "put",
    "title",
]

PLAIN: Final[dict[str, Any]] = {"parse_math": False, "usetex": False}
"""Of every text: names of files may hold $ and _."""

_WIDTH: Final = 10.0
_MOST_HEIGHT: Final = 8.0
_LEAST_WIDTH: Final = 4.5
_ROOM: Final = 0.6
"""Inches: of a figure with images, and for the lines of text above and below them."""

_CHARACTER: Final = 0.58
"""Width of a character in sizes of its font, in file names in DejaVu Sans."""


class NotebookFigure(Figure):
    """A figure that a notebook shows though no backend has been set up.

    IPython shows plain figures only after ``%matplotlib inline`` or the like (tried with IPython
    9.18 and matplotlib 3.11); then it shows this one in the same way, once.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def axes_for(
    ax: Axes | None, left: float, right: float, bottom: float, top: float, *, side: float = 0
) -> Axes:
    """The axes, or those of a new figure if None, without ticks, showing just this; y down.

    A new figure has `side` inches to the right of them.
    """
    if ax is None:
        aspect = (right - left) / (bottom - top)
        width, height = _WIDTH, _WIDTH / aspect
        if height > _MOST_HEIGHT:
            width, height = max(_MOST_HEIGHT * aspect, _LEAST_WIDTH), _MOST_HEIGHT
        figure = NotebookFigure(figsize=(width + side, height + _ROOM), layout="constrained")
        ax = figure.add_subplot()
    figure_of(ax)
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    return ax


def figure_of(ax: Axes) -> Figure:
    """The figure, and not the part of one, that axes are in."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ParameterError("ax belongs to no figure any more: give axes that are in one")
    return figure


def put(ax: Axes, shown: Shown, to_data: Affine2D | None = None) -> Any:
    """Draw an image in px of its original; `to_data` takes these to the axes' data."""
    limits = ax.get_xlim(), ax.get_ylim()  # imshow would set its own
    image = ax.imshow(
        shown.rgb_yx3,
        extent=shown.extent,
        origin="upper",
        aspect="equal",
        interpolation="auto",
        transform=ax.transData if to_data is None else to_data + ax.transData,
    )
    ax.set(xlim=limits[0], ylim=limits[1])
    return image


def title(ax: Axes, text: str) -> None:
    """A line above the axes."""
    ax.set_title(text, loc="left", fontsize=11, **PLAIN)


def characters(inches: float, size: float) -> int:
    """About how many characters of a font of `size` points fit."""
    return int(inches * 72 / (size * _CHARACTER))


def caption(ax: Axes, shown: Shown, left: float, right: float) -> None:
    """Name and size of an image below it, from `left` to `right` in data of the axes."""
    size = f"{shown.part.width} x {shown.part.height} px"
    low, high = ax.get_xlim()
    share = ax.get_position().width * (right - left) / (high - low)
    inches = figure_of(ax).get_figwidth() * share
    most = characters(inches, 9) - len(size) - 2
    text = f"{shorten(printable(shown.name), most)}, {size}" if shown.name else size
    ax.annotate(
        text,
        (left, ax.get_ylim()[0]),
        (0, -3),
        textcoords="offset points",
        va="top",
        fontsize=9,
        alpha=0.75,
        annotation_clip=False,
        **PLAIN,
    )
