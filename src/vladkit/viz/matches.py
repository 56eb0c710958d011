"""`draw_matches`: two images side by side, with the outline of one in the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import FloatArray
from vladkit.core.params import Interval
from vladkit.errors import ParameterError
from vladkit.geometry.verification import MIN_INLIERS, Verification
from vladkit.images.region import Region, RegionLike, as_region
from vladkit.viz.figure_file import require_matplotlib
from vladkit.viz.shown_image import ShownImage, Source, load_image

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2D

__all__ = ["draw_matches", "verdict"]

Points: TypeAlias = npt.NDArray[np.float64]

_MAX_SIDE: Final = 1000
"""Longer side of an image in px: a little more than its 5 inches have at 150 dpi."""

_GAP: Final = 0.02
"""Gap between the images, as a share of their height."""


@overload
def draw_matches(
    query: Source,
    match: Source,
    verification: Verification,
    *,
    ax: None = None,
    region: RegionLike = None,
    outline: bool = True,
    max_lines: int = 200,
) -> Figure: ...
@overload
def draw_matches(
    query: Source,
    match: Source,
    verification: Verification,
    *,
    ax: Axes,
    region: RegionLike = None,
    outline: bool = True,
    max_lines: int = 200,
) -> Axes: ...
def draw_matches(
    query: Source,
    match: Source,
    verification: Verification,
    *,
    ax: Axes | None = None,
    region: RegionLike = None,
    outline: bool = True,
    max_lines: int = 200,
) -> Figure | Axes:
    """Draw two images side by side, with lines between the points that match.

    A line has the colour of its height in the query, so that neighbours can be followed to where
    they are in the other image.

    Parameters
    ----------
    query, match : path, Image, or uint8 array (height, width, 3)
        The images that were matched, in their original size: coordinates are px of it. Put
        reduced pixels into a `vladkit.images.Image`, which knows the original size.
    verification : Verification
        Matches that fit one geometry, from `vladkit.verify`, `Collection.verify` or
        ``hit.verification``.
    ax : matplotlib Axes or None
        Where to draw; None makes a figure.
    region : Region, (left, top, width, height) or None
        The part of the query that was used for the search: framed, and outlined in the match.
        None is all of it.
    outline : bool, default=True
        With a homography, draw the outline of the query in the match; a dot marks its top left
        corner.
    max_lines : int, default=200
        Number of lines, for the clearest matches; points are drawn for all.

    Returns
    -------
    Figure or Axes
        A new figure, which a notebook shows, or `ax` if that was given.

    Raises
    ------
    ImageError
        A file cannot be used as an image.
    ParameterError
        The points do not lie in the images, the region lies outside of the query, or a parameter
        is of the wrong kind.
    ShapeError
        An array is not uint8 pixels.
    MissingDependencyError
        matplotlib is not installed.

    Notes
    -----
    Both images have the same height. The axes' data coordinates are px of the query; the second
    of ``ax.images`` has a transform that maps px of the match to them:
    ``ax.plot(x, y, transform=ax.images[1].get_transform())``. No setting of matplotlib is changed.

    Examples
    --------
    >>> import numpy as np
    >>> from vladkit import Verification
    >>> large, small = np.zeros((80, 120, 3), np.uint8), np.full((40, 60, 3), 99, np.uint8)
    >>> xy_m2 = np.array([[10, 10], [100, 20], [90, 70], [30, 60]], np.float32)
    >>> found = Verification(4, np.diag([0.5, 0.5, 1]), xy_m2, xy_m2 / 2, "homography")
    >>> figure = draw_matches(large, small, found)
    >>> figure.axes[0].get_title(loc="left")
    '4 inliers: no match (8 are needed)'
    """
    require_matplotlib("draw_matches")
    from vladkit.viz.axes import add_caption, axes_for, draw_image, figure_of, set_title

    _check(verification, max_lines)
    left, right = load_image(query, "query", _MAX_SIDE), load_image(match, "match", _MAX_SIDE)
    left.check_inside(verification.query_xy_m2, "query")
    right.check_inside(verification.match_xy_m2, "match")
    region = as_region(region)
    part = left.part if region is None else left.cut(region)

    gap = _GAP * left.part.height
    beside = _beside(left, right, gap)
    start, end, bottom, top = left.extent
    ((last, _),) = _moved(beside, [[right.extent[1], right.extent[2]]])
    drawn = axes_for(ax, start, last, bottom, top)
    draw_image(drawn, left)
    draw_image(drawn, right, beside)
    match_xy_m2 = _moved(beside, verification.match_xy_m2)
    _draw_points(drawn, verification.query_xy_m2, match_xy_m2, max_lines, (top, bottom))
    outline_42 = verification.outline_42(part) if outline else None
    if region is not None:
        _draw_outline(drawn, _corners(part), (start, end, bottom, top), gap, outline_42 is not None)
    if outline_42 is not None:
        window = end + gap, last, bottom, top
        _draw_outline(drawn, _moved(beside, outline_42), window, gap, dot=True)
    few = f"; lines for the {max_lines} clearest" if verification.n_inliers > max_lines else ""
    set_title(drawn, verdict(verification) + few)
    add_caption(drawn, left, start, end)
    add_caption(drawn, right, end + gap, last)
    return drawn if ax is not None else figure_of(drawn)


def verdict(verification: Verification) -> str:
    """Number of matches that fit one geometry, and whether that is a match, in words.

    Examples
    --------
    >>> import numpy as np
    >>> none_m2 = np.empty((0, 2), np.float32)
    >>> verdict(Verification(0, None, none_m2, none_m2, "homography"))
    '0 inliers: no match (8 are needed)'
    """
    n = verification.n_inliers
    model = " of one epipolar geometry" if verification.model == "fundamental" else ""
    inliers = f"{n} {'inlier' if n == 1 else 'inliers'}{model}"
    return inliers + (": a match" if n >= MIN_INLIERS else f": no match ({MIN_INLIERS} are needed)")


def _check(verification: Verification, max_lines: int) -> None:
    if not isinstance(verification, Verification):
        raise ParameterError(
            f"verification is {verification!r:.80}: give what vladkit.verify returns, or the "
            "verification of a Hit, which it has after search(..., rerank=N)"
        )
    if max_lines not in Interval(int, 0):
        raise ParameterError(f"max_lines={max_lines!r}: give a number of lines, 0 or more")


def _beside(query: ShownImage, match: ShownImage, gap: float) -> Affine2D:
    """Map px of the match to px of the query, with the match to its right and equally tall."""
    from matplotlib.transforms import Affine2D

    _, end, _, top = query.extent
    match_start, _, _, match_top = match.extent
    scale = query.part.height / match.part.height
    return Affine2D().translate(-match_start, -match_top).scale(scale).translate(end + gap, top)


def _moved(transform: Affine2D, xy_m2: Any) -> Points:
    points_m2 = np.asarray(xy_m2, np.float64).reshape(-1, 2)
    return np.asarray(transform.transform(points_m2), np.float64).reshape(-1, 2)


def _corners(part: Region) -> Points:
    left, top = part.left - 0.5, part.top - 0.5
    right, bottom = left + part.width, top + part.height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _draw_points(
    ax: Axes,
    query_xy_m2: FloatArray,
    match_xy_m2: Points,
    max_lines: int,
    rows: tuple[float, float],
) -> None:
    """Draw lines for the first matches and points for all, the clearest on top."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    n = len(query_xy_m2)
    if not n:
        return
    height_m = (query_xy_m2[:, 1] - rows[0]) / (rows[1] - rows[0])
    # without the ends of the map, which are too dark on photographs
    color_m4 = colormaps["turbo"](0.08 + 0.84 * height_m)
    line_m22 = list(np.stack([query_xy_m2, match_xy_m2], axis=1)[:max_lines][::-1])
    n_lines = len(line_m22)
    # Three hundred thin lines can be read as well as ten thick ones.
    width = float(np.clip(1.7 - 0.004 * n_lines, 0.7, 1.6))
    alpha = float(np.clip(80 / max(n_lines, 1), 0.45, 0.95))
    ax.add_collection(
        LineCollection(line_m22, colors="black", linewidths=width + 0.9, alpha=0.35 * alpha),
        autolim=False,
    )
    ax.add_collection(
        LineCollection(line_m22, colors=color_m4[:max_lines][::-1], linewidths=width, alpha=alpha),
        autolim=False,
    )
    for xy_m2 in (query_xy_m2, match_xy_m2):
        ax.scatter(
            xy_m2[::-1, 0],
            xy_m2[::-1, 1],
            s=8 if n > 50 else 16,
            c=color_m4[::-1],
            edgecolors="black",
            linewidths=0.4,
            zorder=3,
        )


def _draw_outline(
    ax: Axes,
    corner_42: Points,
    window: tuple[float, float, float, float],
    gap: float,
    dot: bool,
) -> None:
    """Draw a thin line with a halo, visible on black and on white, within its own image."""
    from matplotlib.patches import Polygon
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox, TransformedBbox

    left, right, bottom, top = window
    room = 0.4 * gap  # shows a line along the image's edge in full width
    # The smaller number first, though y goes down: SVG draws nothing in a box of negative height.
    box = Bbox([[left - room, top - room], [right + room, bottom + room]])
    line = Polygon(corner_42, closed=True, fill=False, edgecolor="white", linewidth=1.4, zorder=4)
    line.set_path_effects([withStroke(linewidth=3.2, foreground="black", alpha=0.75)])
    artists: list[Artist] = [ax.add_patch(line)]
    if dot:
        x, y = corner_42[0]
        artists += ax.plot(x, y, "o", color="white", ms=7, mec="black", mew=1.2, zorder=5)
    for each in artists:
        each.set_clip_box(TransformedBbox(box, ax.transData))
        each.set_in_layout(False)  # corners far outside do not shrink the axes
