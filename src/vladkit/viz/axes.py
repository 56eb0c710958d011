"""Figures and axes of matplotlib, with images in their own px.

The only module that imports matplotlib at its top: import it in functions. Nothing here touches
pyplot, a backend or rcParams.
"""

from __future__ import annotations

import io
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D

from vladkit.errors import ParameterError
from vladkit.viz.shown_image import ShownImage, printable, shorten

__all__ = [
    "PLAIN",
    "NotebookFigure",
    "add_caption",
    "axes_for",
    "draw_image",
    "figure_of",
    "fitting_characters",
    "set_title",
]

PLAIN: Final[dict[str, Any]] = {"parse_math": False, "usetex": False}
"""Options of every text: names of files may contain $ and _."""

_WIDTH: Final = 10.0
_MOST_HEIGHT: Final = 8.0
_LEAST_WIDTH: Final = 4.5
_ROOM: Final = 0.6
"""Inches: sizes of a figure with images, and room for the text above and below them."""

_CHARACTER: Final = 0.58
"""Mean width of a character over the size of its font, in file names in DejaVu Sans."""


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
    """The given axes, or those of a new figure, without ticks and limited to a box; y down.

    A new figure has `side` inches to the right of the axes.
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
    """The whole figure of some axes, not only a subfigure."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ParameterError("ax belongs to no figure any more: give axes of a figure")
    return figure


def draw_image(ax: Axes, shown: ShownImage, to_data: Affine2D | None = None) -> Any:
    """Draw an image in px of its original; `to_data` maps these to data of the axes."""
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


def set_title(ax: Axes, text: str) -> None:
    """Write a line above the axes."""
    ax.set_title(text, loc="left", fontsize=11, **PLAIN)


def fitting_characters(inches: float, size: float) -> int:
    """Approximate number of characters of a font of `size` points that fit."""
    return int(inches * 72 / (size * _CHARACTER))


def add_caption(ax: Axes, shown: ShownImage, left: float, right: float) -> None:
    """Write name and size of an image below it, from `left` to `right` in data of the axes."""
    size = f"{shown.part.width} x {shown.part.height} px"
    low, high = ax.get_xlim()
    share = ax.get_position().width * (right - left) / (high - low)
    inches = figure_of(ax).get_figwidth() * share
    most = fitting_characters(inches, 9) - len(size) - 2
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
