"""Whether two images are the same shot, one an altered copy, or the same scene taken again.

Axes: ``m`` matches, ``2`` is x, y. Coordinates are px of the original images, the origin at the
centre of the top-left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import FloatArray
from vladkit.errors import ParameterError
from vladkit.features import Extractor, Features, match_rule
from vladkit.geometry.matching import match
from vladkit.geometry.verification import verify

__all__ = ["Difference", "group", "mirroring", "same_shot"]

_SIDE: Final = 640.0

# A copy is a plane: its matches fit one affinity to a fraction of a pixel, wherever they lie, and
# nearly always a similarity. A second photo of a scene has depth, perspective and distortion.
# Measured (benchmarks/duplicates.py): 810 pairs of altered copies have residuals of .11 (median) to
# .35 and are stretched by at most 1.002; 600 pairs of photos taken anew of one scene, by people who
# stood at nearly the same place, .52 to 1.1 and 1.003 to 1.16. Two images that share only text
# written over them match in less than .09 of their features. Lengths are px of 640.
_CLOSE: Final = 1.5
_MIN_CLOSE: Final = 16
_MIN_CLOSE_SHARE: Final = 0.85
_MAX_RESIDUAL: Final = 0.42
_MAX_RESIDUAL_STRETCHED: Final = 0.2  # one facade, .26, passed at .3
_SIMILAR: Final = 1.004
_MIN_MATCHED: Final = 0.1
_MAX_STRETCH: Final = 1.5

# Images that share only a caption or a frame match perfectly, but not all over.
_CELLS: Final = 5
_FULL_CELL: Final = 8
_MIN_SPREAD: Final = 0.6
_FITS: Final = 5

_TURNED: Final = 1.0
_RESIZED: Final = 0.01
_CROPPED: Final = 0.96

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How a copy differs from another.

    Parameters
    ----------
    kinds : tuple of str
        Of "identical", "flipped", "rotated", "resized", "cropped"; "altered" where the geometry is
        the same but features are not: re-compressed, retouched, brightened, written over.
    affine_23 : float64 array (2, 3)
        Takes points of the first image (flipped, if ``"flipped"`` is among the kinds) to the
        second's.
    n_close : int
        Matches within 1.5 px of 640 of it.
    residual : float
        Their median distance from it, px of 640.
    overlap : float
        Share of the smaller content that both show, 0 to 1.
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
        Of ``extractor``; all, or the strongest some 500 or more.
    extractor : Extractor
    plain, flips : bool
        Look for copies that are not mirrored, and for such as are; both take twice the time for
        pairs that are none.

    Returns
    -------
    Difference or None
        None: not the same shot, or too little in common to tell.

    Raises
    ------
    ParameterError
        ``flips`` with an extractor that cannot mirror its features (has no ``mirrored``).

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
    found = _same_shot(a, b, extractor, flipped=False) if plain else None
    if found is not None or not flips:
        return found
    return _same_shot(mirroring(extractor)(a), b, extractor, flipped=True)


def mirroring(extractor: Extractor) -> Callable[[Features], Features]:
    """What an extractor makes mirrored features by.

    Raises
    ------
    ParameterError
        If it has nothing of the kind.
    """
    mirrored: Callable[[Features], Features] | None = getattr(extractor, "mirrored", None)
    if mirrored is None:
        raise ParameterError(
            f"extractor {extractor.name!r} cannot mirror its features: leave flips out"
        )
    return mirrored


def group(pairs: Iterable[tuple[Key, Key]]) -> list[list[Key]]:
    """Join pairs into groups: what is paired with one is grouped with all that one is.

    Parameters
    ----------
    pairs : iterable of (key, key)

    Returns
    -------
    list of lists
        Of two and more, in the order in which keys first occurred.

    Examples
    --------
    >>> group([("a", "b"), ("x", "y"), ("c", "b")])
    [['a', 'b', 'c'], ['x', 'y']]
    """
    parent: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for first, second in pairs:
        parent[root(second)] = root(first)
    groups: dict[Key, list[Key]] = {}
    for key in parent:
        groups.setdefault(root(key), []).append(key)
    return [members for members in groups.values() if len(members) > 1]


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
    """An affinity by least squares over those it is close to, and errors in px of 640.

    Errors count in the image that shows the content larger, as in `verify`.
    """
    column_m3 = np.c_[a_m2, np.ones(len(a_m2))]
    unit_a, unit_b = (max(f.width, f.height, 1) / _SIDE for f in (a, b))
    keep_m = np.ones(len(a_m2), bool)
    limit = 8.0
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
    """Which features of each lie within the other, and the share of each image's area that is."""
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
    turn = math.degrees(math.atan2(affine_23[1, 0], affine_23[0, 0]))
    kinds = ["flipped"] if flipped else []
    if abs(turn) > _TURNED:
        kinds.append("rotated")
    if np.any(np.abs(value_2 - 1) > _RESIZED):
        kinds.append("resized")
    if overlap < _CROPPED:
        kinds.append("cropped")
    if not kinds:
        same = np.array_equal(a.descriptor_lf, b.descriptor_lf) and np.array_equal(a.xy_l2, b.xy_l2)
        kinds = ["identical" if same else "altered"]
    return tuple(kinds)
