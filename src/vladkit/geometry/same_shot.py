"""Near-duplicates: whether two images are copies of one shot, or two photos of one scene.

Axes: ``m`` matches, ``2`` is x, y. Coordinates are px of the original images, the origin at the
centre of the top-left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import FloatArray
from vladkit.errors import ParameterError
from vladkit.features import Extractor, Features, check_features, match_rule
from vladkit.geometry.hypotheses import FRAME_SIDE
from vladkit.geometry.matching import match
from vladkit.geometry.verification import verify

__all__ = ["Difference", "mirroring", "same_shot"]

# A copy is a plane: its matches fit one affinity to a fraction of a pixel, wherever they lie, and
# nearly always a similarity. A second photo of a scene has depth, perspective and distortion.
# Measured (benchmarks/duplicates.py): 810 pairs of altered copies have residuals of 0.11 (median)
# to 0.35 and are stretched by at most 1.002; 600 pairs of photos taken of one scene, by people who
# stood at nearly the same place, 0.52 to 1.1 and 1.003 to 1.16. Two images that share only text
# written over them match in less than 0.09 of their features. Lengths are px of `FRAME_SIDE`.
_CLOSE: Final = 1.5  # largest error of a match that fits
_MIN_CLOSE: Final = 16  # matches that fit; an affinity goes through any three
_MIN_CLOSE_SHARE: Final = 0.85  # of the inliers of a homography, which depth leaves behind
_MAX_RESIDUAL: Final = 0.42  # between the 0.35 of copies and the 0.52 of second photos
_MAX_RESIDUAL_STRETCHED: Final = 0.2  # one facade, 0.26, passed at 0.3
_SIMILAR: Final = 1.004  # stretch up to which an affinity counts as a similarity
_MIN_MATCHED: Final = 0.1  # share of the features in the common part
_MAX_STRETCH: Final = 1.5  # of the affinity; nobody stretches a copy more
_FIRST_CLOSE: Final = 8.0  # error of the first fit, as in `verify`; halved from fit to fit
_FITS: Final = 5  # 8, 4, 2, 1.5 and once more

# Images that share only a caption or a frame match perfectly, but not all over: an image is divided
# into 5 x 5 cells, and most of those that have features need a match.
_CELLS: Final = 5
_FULL_CELL: Final = 8  # features from which a cell counts
_MIN_SPREAD: Final = 0.6  # share of these cells with a match

# Differences that are named; below them they are errors of the fit.
_MIN_ROTATION: Final = 1.0  # degrees
_MIN_RESIZE: Final = 0.01  # of a scale of 1
_MAX_OVERLAP: Final = 0.96  # share of the smaller content from which nothing counts as cropped


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Difference between two copies of one shot.

    Parameters
    ----------
    kinds : tuple of str
        One or more of "identical", "flipped", "rotated", "resized", "cropped"; "altered" where the
        geometry is the same but features are not: re-compressed, retouched, brightened, written
        over.
    affine_23 : float64 array (2, 3)
        Takes points of the first image (flipped, if ``"flipped"`` is among the kinds) to the
        second's, in px of the originals.
    n_close : int
        Number of matches with an error of at most 1.5 px, in images of 640 px.
    residual : float
        Median error of those matches, in px of images of 640 px.
    overlap : float
        Share of the smaller content that both show, 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> half_23 = np.array([[0.5, 0, 0], [0, 0.5, 0]])
    >>> found = Difference(("resized",), half_23, n_close=90, residual=0.2, overlap=1.0)
    >>> (found.affine_23 @ [100, 40, 1]).tolist()  # of a point in the first image
    [50.0, 20.0]
    """

    kinds: tuple[str, ...]
    affine_23: npt.NDArray[np.float64]
    n_close: int
    residual: float
    overlap: float


def same_shot(
    a: Features, b: Features, extractor: Extractor, *, plain: bool = True, flips: bool = False
) -> Difference | None:
    """Tell whether two images are the same shot, and how they differ.

    Parameters
    ----------
    a, b : Features
        Features that ``extractor`` found; all, or the strongest 500 or more.
    extractor : Extractor
    plain, flips : bool
        Look for copies that are not mirrored, and for mirrored ones; both take twice the time for
        pairs that are no copies.

    Returns
    -------
    Difference or None
        None: not the same shot, or too little in common to tell.

    Raises
    ------
    ParameterError
        ``flips`` with an extractor that cannot mirror its features (has no ``mirrored``), or the
        arguments are other objects.

    Examples
    --------
    >>> import numpy as np
    >>> from vladkit.features import Sift
    >>> from vladkit.images import Image
    >>> noise_yx = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    >>> sift = Sift()
    >>> a = sift.extract(Image(noise_yx, width=160, height=120))
    >>> b = sift.extract(Image(np.rot90(noise_yx).copy(), width=120, height=160))
    >>> same_shot(a, b, sift).kinds
    ('rotated',)
    """
    check_features("a", a)
    check_features("b", b)
    if not hasattr(extractor, "metric"):
        raise ParameterError(
            f"extractor is a {type(extractor).__name__}: give the one that found the features"
        )
    found = _same_shot(a, b, extractor, flipped=False) if plain else None
    if found is not None or not flips:
        return found
    return _same_shot(mirroring(extractor)(a), b, extractor, flipped=True)


def mirroring(extractor: Extractor) -> Callable[[Features], Features]:
    """Function of an extractor that mirrors its features.

    Raises
    ------
    ParameterError
        The extractor cannot mirror its features.
    """
    mirrored: Callable[[Features], Features] | None = getattr(extractor, "mirrored", None)
    if mirrored is None:
        raise ParameterError(
            f"extractor {extractor.name!r} cannot mirror its features: leave flips out"
        )
    return mirrored


def _same_shot(
    a: Features, b: Features, extractor: Extractor, *, flipped: bool
) -> Difference | None:
    rule = match_rule(extractor)
    matches = match(
        extractor.metric(a.descriptor_lf),
        extractor.metric(b.descriptor_lf),
        ratio=rule.ratio,
        min_cosine=rule.min_cosine,
    )
    verified = verify(a, b, matches)
    if verified.n_inliers < _MIN_CLOSE:
        return None
    a_m2 = verified.query_xy_m2.astype(np.float64)
    b_m2 = verified.match_xy_m2.astype(np.float64)
    fitted = _affinity(a_m2, b_m2, a, b)
    if fitted is None:
        return None
    affine_23, error_m = fitted
    close_m = error_m < _CLOSE
    n_close = int(close_m.sum())
    residual = float(np.median(error_m[close_m])) if n_close else math.inf
    value_2 = np.linalg.svd(affine_23[:, :2], compute_uv=False)
    is_similar = value_2[0] < _SIMILAR * value_2[1]
    inside_a, inside_b, overlap_a, overlap_b = _common(a, b, affine_23)
    if (
        n_close < _MIN_CLOSE
        or n_close < _MIN_CLOSE_SHARE * verified.n_inliers
        or residual > (_MAX_RESIDUAL if is_similar else _MAX_RESIDUAL_STRETCHED)
        or n_close < _MIN_MATCHED * min(inside_a.sum(), inside_b.sum())
    ):
        return None
    sparse, inside_l, close_m2 = (
        (a, inside_a, a_m2) if inside_a.sum() <= inside_b.sum() else (b, inside_b, b_m2)
    )
    if _spread(sparse, inside_l, close_m2[close_m]) < _MIN_SPREAD:
        return None
    kinds = _kinds(a, b, affine_23, min(overlap_a, overlap_b), flipped=flipped)
    return Difference(kinds, affine_23, n_close, residual, max(overlap_a, overlap_b))


def _affinity(
    a_m2: FloatArray, b_m2: FloatArray, a: Features, b: Features
) -> tuple[npt.NDArray[np.float64], FloatArray] | None:
    """Fit an affinity by least squares, again and again to the matches that are close to it.

    Returns it and the errors of all matches, in px of `FRAME_SIDE` of the image that shows the
    content larger, as in `verify`; None if it is stretched too much or fits too few.
    """
    column_m3 = np.c_[a_m2, np.ones(len(a_m2))]
    unit_a, unit_b = (max(f.width, f.height, 1) / FRAME_SIDE for f in (a, b))
    keep_m = np.ones(len(a_m2), bool)
    limit = _FIRST_CLOSE
    for _ in range(_FITS):
        affine_32 = np.linalg.lstsq(column_m3[keep_m], b_m2[keep_m], rcond=None)[0]
        value_2 = np.linalg.svd(affine_32[:2], compute_uv=False)
        if value_2[1] <= 0 or value_2[0] > _MAX_STRETCH * value_2[1]:
            return None
        scale = math.sqrt(value_2[0] * value_2[1])
        unit = unit_b * min(1.0, scale * unit_a / unit_b)
        error_m = np.hypot(*(column_m3 @ affine_32 - b_m2).T) / unit
        limit = max(limit / 2, _CLOSE)
        keep_m = error_m < limit
        if keep_m.sum() < _MIN_CLOSE:
            return None
    return np.asarray(affine_32.T, np.float64), error_m


def _common(
    a: Features, b: Features, affine_23: npt.NDArray[np.float64]
) -> tuple[Any, Any, float, float]:
    """Features (bool) of each image that lie within the other, and the shares of their areas."""
    square_33 = np.vstack([affine_23, [0, 0, 1]])
    back_23 = np.linalg.inv(square_33)[:2]
    inside, shares = [], []
    for here, there, map_23 in ((a, b, affine_23), (b, a, back_23)):
        inside.append(_inside(here.xy_l2, there, map_23))
        x, y = np.meshgrid(np.linspace(0, here.width - 1, 40), np.linspace(0, here.height - 1, 40))
        shares.append(float(_inside(np.c_[x.ravel(), y.ravel()], there, map_23).mean()))
    return inside[0], inside[1], shares[0], shares[1]


def _spread(features: Features, inside_l: Any, close_m2: FloatArray) -> float:
    """Share of the image's cells with features in the common part that have a close match."""
    size_2 = np.array([features.width, features.height])

    def count(xy_m2: FloatArray) -> Any:
        cell_m2 = np.clip(xy_m2 * _CELLS / size_2, 0, _CELLS - 1).astype(int)
        return np.bincount(cell_m2 @ (1, _CELLS), minlength=_CELLS**2)

    full = count(features.xy_l2[inside_l]) >= _FULL_CELL
    return float((count(close_m2)[full] > 0).mean()) if full.any() else 1.0


def _inside(xy_m2: FloatArray, there: Features, map_23: npt.NDArray[np.float64]) -> Any:
    mapped_m2 = xy_m2 @ map_23[:, :2].T + map_23[:, 2]
    slack = 0.005 * max(there.width, there.height)
    limit_2 = np.array([there.width - 1, there.height - 1]) + slack
    return np.all((mapped_m2 >= -slack) & (mapped_m2 <= limit_2), axis=1)


def _kinds(
    a: Features,
    b: Features,
    affine_23: npt.NDArray[np.float64],
    overlap: float,
    *,
    flipped: bool,
) -> tuple[str, ...]:
    value_2 = np.linalg.svd(affine_23[:, :2], compute_uv=False)
    rotation = math.degrees(math.atan2(affine_23[1, 0], affine_23[0, 0]))
    kinds = ["flipped"] if flipped else []
    if abs(rotation) > _MIN_ROTATION:
        kinds.append("rotated")
    if np.any(np.abs(value_2 - 1) > _MIN_RESIZE):
        kinds.append("resized")
    if overlap < _MAX_OVERLAP:
        kinds.append("cropped")
    if not kinds:
        same = np.array_equal(a.descriptor_lf, b.descriptor_lf) and np.array_equal(a.xy_l2, b.xy_l2)
        kinds = ["identical" if same else "altered"]
    return tuple(kinds)
