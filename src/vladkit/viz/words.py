"""`draw_words`: the features of an image, coloured by visual word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.vlad import VLAD
from vladkit.collection.collection import Collection
from vladkit.core.arrays import AnyArray, Float32Array, Int64Array
from vladkit.core.params import Interval
from vladkit.errors import ParameterError, ShapeError
from vladkit.features import Features
from vladkit.images import Region
from vladkit.viz.figure_file import require_matplotlib
from vladkit.viz.palette import word_colors
from vladkit.viz.shown_image import ShownImage, Source, load_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_words"]

Labels: TypeAlias = npt.ArrayLike | VLAD | Collection

_MAX_SIDE: Final = 1200
"""Longer side of the image in px: its 10 inches at 120 dpi."""

_LISTED: Final = 12
"""Most words in the list beside the image: longer lists are not read."""

_LIST_WIDTH: Final = 1.2
"""Width of that list in inches."""

_DARK: Final = 0.55
"""Factor for the brightness of the image, so that coloured circles stand out from it."""

_OTHER_SCALE: Final = 50.0
"""Descriptors whose mean squared length is this many times that of the codebook's are refused.
Stored SIFT descriptors are 512 times as long as RootSIFT."""


@overload
def draw_words(
    image: Source,
    features: Features,
    labels: Labels,
    *,
    words: Sequence[int] | None = None,
    max_features: int = 500,
    ax: None = None,
) -> Figure: ...
@overload
def draw_words(
    image: Source,
    features: Features,
    labels: Labels,
    *,
    words: Sequence[int] | None = None,
    max_features: int = 500,
    ax: Axes,
) -> Axes: ...
def draw_words(
    image: Source,
    features: Features,
    labels: Labels,
    *,
    words: Sequence[int] | None = None,
    max_features: int = 500,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw the features of an image as circles, coloured by visual word.

    A circle has the size of its feature's region, and a line in it shows the direction. The list
    beside the image has the words with the most features, or those asked for, and the number of
    features of each.

    Parameters
    ----------
    image : path, Image, or uint8 array (height, width, 3)
        The image of the features, in its original size.
    features : Features
    labels : int array (l,), VLAD or Collection
        The word of each feature: as `Collection.words` or `VLAD.words` gives it; or the collection
        itself; or a fitted `VLAD` that was learned from descriptors as they are stored
        (``features.descriptor_lf``).
    words : sequence of int or None
        Only these words; people can tell a dozen colours apart, but not 256.
    max_features : int, default=500
        Number of features to draw, the strongest of those words.
    ax : matplotlib Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Figure or Axes
        A new figure, which a notebook shows, or `ax` if that was given. Data are px of the image.

    Raises
    ------
    ImageError
        The file cannot be used as an image.
    ShapeError
        There is not one label for each feature, or the codebook has another dimension.
    ParameterError
        The features are of another image, a word does not exist, or a parameter is of the wrong
        kind.
    MissingDependencyError
        matplotlib is not installed.

    Notes
    -----
    A word has the same colour in every image: it depends on the word's number alone, and repeats
    from 256 on. With `words` it depends on the place in that list, and the first dozen differ as
    much as colours can.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gray_yx = rng.integers(0, 256, (96, 128), dtype=np.uint8)
    >>> from vladkit.features import Sift
    >>> from vladkit.images import Image
    >>> features = Sift().extract(Image(gray_yx, width=128, height=96))
    >>> from vladkit import VLAD
    >>> vlad = VLAD(n_clusters=8).fit([features.descriptor_lf])
    >>> figure = draw_words(gray_yx, features, vlad, words=[2, 5])
    >>> figure.axes[0].get_legend().get_title().get_text()
    'word: features'
    """
    require_matplotlib("draw_words")
    from vladkit.viz.axes import add_caption, axes_for, draw_image, figure_of, set_title

    if max_features not in Interval(int, 0):
        raise ParameterError(f"max_features={max_features!r}: give a number, 0 or more")
    label_l, k = _labels(features, labels)
    wanted_l = _wanted(label_l, k, words)
    shown = _check_image(load_image(image, "image", _MAX_SIDE), features)

    row_m = np.flatnonzero(wanted_l)
    strongest = np.argsort(-features.score_l[row_m], kind="stable")[:max_features]
    row_m = row_m[strongest]
    left, right, bottom, top = shown.extent
    drawn = axes_for(ax, left, right, bottom, top, side=_LIST_WIDTH)
    draw_image(drawn, replace(shown, rgb_yx3=_darkened(shown.rgb_yx3)))
    place = None if words is None else {int(word): i for i, word in enumerate(words)}
    _draw_circles(drawn, features, row_m, _colors(label_l[row_m], place))
    _list_words(drawn, label_l[wanted_l], place)
    set_title(drawn, _heading(len(features), int(wanted_l.sum()), len(row_m), label_l[wanted_l], k))
    add_caption(drawn, shown, left, right)
    return drawn if ax is not None else figure_of(drawn)


def _labels(features: Features, labels: Labels) -> tuple[Int64Array, int | None]:
    """The word of each feature, and the number of words if it is known."""
    if isinstance(labels, Collection):
        _, label_l = labels.words(features)
        return label_l, int(labels.info()["clusters"])
    if isinstance(labels, VLAD):
        label_l = labels.words(features.descriptor_lf)
        _check_scale(features, labels)
        return label_l, len(labels.centroids_)
    if hasattr(labels, "vlads_"):
        raise ParameterError("labels has several codebooks: give one of its vlads_")
    array = np.asarray(labels)
    if array.shape != (len(features),) or (array.size and array.dtype.kind not in "iu"):
        raise ShapeError(
            f"labels are {array.dtype} {array.shape}: give one integer for each of "
            f"{len(features)} features, or the codebook that finds them"
        )
    label_l = array.astype(np.int64)
    if label_l.size and label_l.min() < 0:
        raise ParameterError(f"labels go down to {label_l.min()}: words are counted from 0")
    return label_l, None


def _check_scale(features: Features, vlad: VLAD) -> None:
    """Refuse descriptors unlike those that the codebook was learned from: all words would be wrong.

    The mean squared length of the training descriptors is about that of the centroids plus the
    inertia.
    """
    if not len(features) or not np.isfinite(vlad.inertia_) or vlad.metric == "cosine":
        return
    mine = _mean_square(features.descriptor_lf)
    theirs = _mean_square(vlad.centroids_) + vlad.inertia_
    if mine > _OTHER_SCALE * theirs:
        raise ParameterError(
            f"the stored descriptors are {np.sqrt(mine / theirs):.0f} times as long as those that "
            "the codebook was learned from: give labels, "
            "vlad.words(extractor.metric(features.descriptor_lf))"
        )


def _mean_square(row_nf: AnyArray) -> float:
    # einsum converts in pieces: no copy of the whole
    return float(np.einsum("nf,nf->", row_nf, row_nf, dtype=np.float64)) / len(row_nf)


def _wanted(
    label_l: Int64Array, k: int | None, words: Sequence[int] | None
) -> npt.NDArray[np.bool_]:
    """Mask of the features of the words that are asked for."""
    if words is None:
        return np.ones(len(label_l), bool)
    chosen = np.asarray(words)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise ParameterError(f"words={words!r:.80}: give a list of numbers")
    outside = [w for w in chosen.tolist() if w < 0 or (k is not None and w >= k)]
    if outside:
        limit = "" if k is None else f" to {k - 1}"
        raise ParameterError(f"there is no word {outside[0]}: words are counted from 0{limit}")
    return np.isin(label_l, chosen)


def _check_image(shown: ShownImage, features: Features) -> ShownImage:
    """Raise ParameterError unless the features are of this image, or of a part of it."""
    part = features.region or Region(0, 0, features.width, features.height)
    whole = features.region is None
    size = shown.part.width, shown.part.height
    end = shown.part.left + size[0], shown.part.top + size[1]
    if (whole and shown.part != part) or (
        part.left < shown.part.left
        or part.top < shown.part.top
        or part.left + part.width > end[0]
        or part.top + part.height > end[1]
    ):
        raise ParameterError(
            f"the features are of {part}, the image shows {shown.part} (left, top, width, "
            "height): give the image that they were found in; of pixels that were reduced, an "
            "Image with the original's size"
        )
    return shown


def _darkened(rgb_yx3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A gray and darker copy."""
    gray_yx = rgb_yx3 @ np.array([0.299, 0.587, 0.114], np.float32) * np.float32(_DARK)
    return np.repeat(gray_yx.astype(np.uint8)[:, :, None], 3, axis=2)


def _colors(label_m: Int64Array, place: dict[int, int] | None) -> Float32Array:
    """RGB (m, 3) of words, by their number or by their place among those asked for."""
    if place is not None:
        label_m = np.array([place[word] for word in label_m.tolist()], np.int64)
    return word_colors(label_m)


def _draw_circles(ax: Axes, features: Features, row_m: Int64Array, color_m3: Float32Array) -> None:
    """Draw the size of each feature as a circle, its direction as a line from the middle."""
    from matplotlib.collections import EllipseCollection, LineCollection

    if not len(row_m):
        return
    order = np.argsort(-features.size_l[row_m], kind="stable")  # small ones on top
    row_m, color_m3 = row_m[order], color_m3[order]
    corner = (features.region.left, features.region.top) if features.region else (0, 0)
    xy_m2 = features.xy_l2[row_m].astype(np.float64) + corner
    size_m = features.size_l[row_m].astype(np.float64)
    radian_m = np.deg2rad(features.angle_l[row_m].astype(np.float64))
    rim_m2 = np.stack([np.cos(radian_m), np.sin(radian_m)], axis=1) * size_m[:, None] / 2
    line_m22 = list(np.stack([xy_m2, xy_m2 + rim_m2], axis=1))
    strokes: list[tuple[float, Any]] = [(2.4, (0.0, 0.0, 0.0, 0.45)), (1.2, color_m3)]
    for width, color in strokes:
        circles = EllipseCollection(
            size_m, size_m, np.zeros(len(size_m)), units="xy", offsets=xy_m2,
            offset_transform=ax.transData, facecolors="none", edgecolors=color, linewidths=width,
        )  # fmt: skip
        ax.add_collection(circles, autolim=False)
        ax.add_collection(LineCollection(line_m22, colors=color, linewidths=width), autolim=False)
    # most circles are only a few px wide: their middle is visible at any size
    ax.scatter(xy_m2[:, 0], xy_m2[:, 1], s=9, c=color_m3, edgecolors="black", linewidths=0.3)


def _list_words(ax: Axes, label_l: Int64Array, place: dict[int, int] | None) -> None:
    """List beside the image the words with the most features, or those asked for, in order."""
    from matplotlib.lines import Line2D

    word_w, count_w = np.unique(label_l, return_counts=True)
    of_word = dict(zip(word_w.tolist(), count_w.tolist(), strict=True))
    listed = list(place) if place else sorted(of_word, key=lambda word: -of_word[word])
    if not listed:
        return
    entries = [
        Line2D(
            [], [], linestyle="none", marker="o", markersize=8, markerfacecolor=tuple(color),
            markeredgecolor="black", markeredgewidth=0.6, label=f"{word}: {of_word.get(word, 0)}",
        )
        for word, color in zip(
            listed[:_LISTED], _colors(np.array(listed[:_LISTED]), place).tolist(), strict=True
        )
    ]  # fmt: skip
    if len(listed) > _LISTED:
        rest = len(listed) - _LISTED
        entries.append(Line2D([], [], linestyle="none", label=f"and {rest} more"))
    ax.legend(
        handles=entries, title="word: features", loc="upper left", bbox_to_anchor=(1.0, 1.0),
        frameon=False, fontsize=9, title_fontsize=9, borderaxespad=0.2, handletextpad=0.3,
    )  # fmt: skip


def _heading(n_all: int, n_wanted: int, n_drawn: int, label_l: Int64Array, k: int | None) -> str:
    n_words = len(np.unique(label_l))
    of = "" if k is None else f" of {k}"
    some = f"{n_all}" if n_wanted == n_all else f"{n_wanted} of {n_all}"
    strongest = f"; the strongest {n_drawn} drawn" if n_drawn < n_wanted else ""
    return f"{some} features, {n_words}{of} words{strongest}"
