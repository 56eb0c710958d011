"""Two images side by side with lines between matches, as SVG that uses the report's images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vladkit.geometry.verification import Verification
from vladkit.images import Region

if TYPE_CHECKING:
    import numpy.typing as npt
    from markupsafe import Markup

__all__ = ["Side", "alone", "matched"]

_HEIGHT: Final = 300.0
_WIDEST: Final = 600.0
"""Largest height and width of an image, in units of the drawing."""

_GAP: Final = 12.0
"""Distance between the two images, in units of the drawing."""

_MOST_LINES: Final = 60
"""Number of matches drawn, the clearest ones; more lines become a surface."""


@dataclass(frozen=True, slots=True)
class Side:
    """An image that the report holds under `key`; width and height in px of the original."""

    key: str
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Units of the drawing per px."""
        return min(_HEIGHT / self.height, _WIDEST / self.width)


def matched(
    query: Side, other: Side, verification: Verification, region: Region | None, label: str
) -> Markup:
    """Two images with their matches: an ``<svg>`` element that uses the symbols of their keys.

    Parameters
    ----------
    query, other : Side
    verification : Verification
        Verification of the two; points in px of the original images.
    region : Region or None
        The part of the query that was asked for.
    label : str
        Description of the drawing, for those who do not see it.
    """
    from markupsafe import Markup

    left = query.width * query.scale + _GAP
    width = left + other.width * other.scale
    height = max(query.height * query.scale, other.height * other.scale)
    a_m2 = (verification.query_xy_m2[:_MOST_LINES] + 0.5) * query.scale
    b_m2 = (verification.match_xy_m2[:_MOST_LINES] + 0.5) * other.scale
    path = " ".join(
        f"M{ax:.1f} {ay:.1f}L{bx + left:.1f} {by:.1f}"
        for (ax, ay), (bx, by) in zip(a_m2.tolist(), b_m2.tolist(), strict=True)
    )
    dots = " ".join(
        f"M{x:.1f} {y:.1f}h0"
        for x, y in [*a_m2.tolist(), *((x + left, y) for x, y in b_m2.tolist())]
    )
    shown = region or Region(0, 0, query.width, query.height)
    outline_42 = verification.outline_42(shown)
    parts = [_image(query, 0, _part(query, region)), _image(other, left, _poly(outline_42))]
    parts += [
        Markup('<path class="case" d="{0}"/><path class="line" d="{0}"/>').format(path),
        Markup('<path class="dot" d="{}"/>').format(dots),
    ]
    return Markup(
        '<svg class="matched marked" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(label, f"{width:.1f}", f"{height:.1f}", Markup("").join(parts))


def alone(query: Side, region: Region | None, label: str) -> Markup:
    """A query by itself, with the part of it that was asked for."""
    from markupsafe import Markup

    return Markup(
        '<svg class="image marked" role="img" aria-label="{}" viewBox="0 0 {} {}">'
        '<use href="#{}"/>{}</svg>'
    ).format(label, query.width, query.height, query.key, _part(query, region))


def _image(side: Side, x: float, over: Markup) -> Markup:
    """An image with shapes over it, in its own px and cut off at its edges."""
    from markupsafe import Markup

    return Markup(
        '<svg x="{}" y="0" width="{}" height="{}" viewBox="0 0 {} {}"><use href="#{}"/>{}</svg>'
    ).format(
        f"{x:.1f}",
        f"{side.width * side.scale:.1f}",
        f"{side.height * side.scale:.1f}",
        side.width,
        side.height,
        side.key,
        over,
    )


def _part(side: Side, region: Region | None) -> Markup:
    if region is None:
        return _poly(None)
    part = region.within(side.width, side.height)
    x, y = part.left - 0.5, part.top - 0.5
    right, bottom = x + part.width, y + part.height
    return _poly(np.array([[x, y], [right, y], [right, bottom], [x, bottom]]))


def _poly(corner_42: npt.NDArray[np.float64] | None) -> Markup:
    from markupsafe import Markup

    if corner_42 is None:
        return Markup("")
    points = " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in corner_42.tolist())
    return Markup(
        '<polygon class="case" points="{0}"/><polygon class="outline" points="{0}"/>'
    ).format(points)
