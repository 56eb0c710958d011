"""Step one of geometric verification: the matches that agree with the best hypothesis.

A match, or a pair of matches, proposes a similarity that lays one image on the other; the one that
most matches agree with wins. Step two fits the model: `vladkit.geometry.verification`.

Axes: ``m`` matches, ``h`` hypotheses, ``2`` is x, y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array, IntArray
from vladkit.features import Features

__all__ = ["FRAME_SIDE", "MAX_SCALE", "Frame", "consistent_matches"]

BoolArray: TypeAlias = npt.NDArray[np.bool_]
Complex128Array: TypeAlias = npt.NDArray[np.complex128]

FRAME_SIDE: Final = 640.0
"""Longest side, in px, that every image has in a `Frame`: lengths below are in such px."""

MAX_SCALE: Final = 16.0
"""Factor by which one image may show a thing larger than the other."""

# A match of features that have a direction and a size is a hypothesis by itself. Others agree with
# it where all three are alike; roughly, as the two images need not be of a plane and one feature's
# direction and size are noisy.
_AGREEING_PX: Final = 40.0
_AGREEING_SIZES: Final = 2.0  # ratio of the two scales
_AGREEING_DEGREES: Final = 45.0
_HYPOTHESES: Final = 150  # the clearest matches; the time goes with their number
_REFINEMENTS: Final = 2

# Networks state no directions and sizes; then two matches together are a hypothesis. 32 matches
# make 496 pairs. Two points that are near each other say little about scale and direction.
_PAIRED_MATCHES: Final = 32
_MIN_APART_PX: Final = 20.0


class Frame:
    """Features of an image as if its longest side were 640 px, the origin at its centre."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._unit = max(features.width, features.height, 1) / FRAME_SIDE
        self._centre_2 = np.array([features.width - 1, features.height - 1], np.float64) / 2
        region = features.region
        self._corner_2 = np.array([region.left, region.top] if region else [0, 0], np.float64)

    def xy(self, row_m: IntArray) -> npt.NDArray[np.float64]:
        """Positions (m, 2) of some features, in px of the frame."""
        return np.asarray((self._features.xy_l2[row_m] - self._centre_2) / self._unit, np.float64)

    def xy_in_image(self, row_m: IntArray) -> Float32Array:
        """Positions (m, 2) of some features, in px of the whole original image."""
        return np.asarray(self._features.xy_l2[row_m] + self._corner_2, np.float32)

    def size_and_direction(self, row_m: IntArray) -> Complex128Array:
        """Size (modulus, px of the frame) and direction (argument) of some features."""
        size_m = np.maximum(self._features.size_l[row_m].astype(np.float64) / self._unit, 1e-3)
        radian_m = np.deg2rad(self._features.angle_l[row_m].astype(np.float64))
        return np.asarray(size_m * np.exp(1j * radian_m))

    def states_regions(self) -> bool:
        """Whether the features have directions or sizes: not all the same."""
        columns = self._features.size_l, self._features.angle_l
        return bool(any(len(each_l) and (each_l != each_l[0]).any() for each_l in columns))

    def from_pixels_33(self) -> npt.NDArray[np.float64]:
        """Matrix that takes px of the whole original image to px of the frame."""
        x, y = self._centre_2 + self._corner_2
        return np.array([[1, 0, -x], [0, 1, -y], [0, 0, self._unit]]) / self._unit


def consistent_matches(
    query: Frame, other: Frame, query_m: IntArray, other_m: IntArray
) -> tuple[BoolArray, float]:
    """Find the matches that agree, roughly, on one similarity from query to other.

    Parameters
    ----------
    query, other : Frame
    query_m, other_m : int array (m,)
        Rows of the features that match, the clearest match first.

    Returns
    -------
    agree_m : bool array (m,)
        The matches that agree; none where no hypothesis is possible.
    scale : float
        Size of a thing in the other frame over its size in the query's; 1 where none agree.

    Notes
    -----
    Single matches are the hypotheses where both images state directions or sizes of features;
    pairs of matches otherwise.
    """
    if not len(query_m):
        return np.zeros(0, bool), 1.0
    a_m = query.xy(query_m).view(np.complex128)[:, 0]
    b_m = other.xy(other_m).view(np.complex128)[:, 0]
    if not (query.states_regions() and other.states_regions()):
        return _consistent_with_a_pair(a_m, b_m)
    with np.errstate(invalid="ignore", over="ignore"):
        turn_m = other.size_and_direction(other_m) / query.size_and_direction(query_m)
    return _consistent_with_a_match(a_m, b_m, turn_m)


def _consistent_with_a_match(
    a_m: Complex128Array, b_m: Complex128Array, turn_m: Complex128Array
) -> tuple[BoolArray, float]:
    """Matches consistent with the best single one, whose features state ``turn`` and a position."""
    turn_m[~np.isfinite(turn_m) | (turn_m == 0)] = 1  # a feature without a size or direction
    turn_h = turn_m[:_HYPOTHESES]
    agree_hm = _near(turn_h, b_m[: len(turn_h)] - turn_h * a_m[: len(turn_h)], a_m, b_m)
    scale_m = np.abs(turn_m)
    direction_m = turn_m / scale_m
    cosine_hm = _product(
        [direction_m[: len(turn_h)].real, direction_m[: len(turn_h)].imag],
        np.stack([direction_m.real, direction_m.imag]).astype(np.float32),
    )
    agree_hm &= cosine_hm > math.cos(math.radians(_AGREEING_DEGREES))
    log_m = np.log(scale_m).astype(np.float32)
    agree_hm &= np.abs(log_m[: len(turn_h), None] - log_m) < math.log(_AGREEING_SIZES)

    def alike(turn: complex) -> BoolArray:
        least = abs(turn) * math.cos(math.radians(_AGREEING_DEGREES))
        alike_m: BoolArray = (direction_m * np.conj(turn)).real > least
        alike_m &= np.abs(log_m - math.log(abs(turn))) < math.log(_AGREEING_SIZES)
        return alike_m

    # One feature's direction and size are noisy, all of those that agree state it better.
    return _refined(a_m, b_m, agree_hm[int(agree_hm.sum(axis=1).argmax())], alike)


def _consistent_with_a_pair(a_m: Complex128Array, b_m: Complex128Array) -> tuple[BoolArray, float]:
    """Matches consistent with the best pair of them, by position alone."""
    first_h, second_h = np.triu_indices(min(len(a_m), _PAIRED_MATCHES), 1)
    a_h, b_h = a_m[first_h] - a_m[second_h], b_m[first_h] - b_m[second_h]
    apart_h = (np.abs(a_h) > _MIN_APART_PX) & (np.abs(b_h) > _MIN_APART_PX)
    apart_h &= (np.abs(b_h) < MAX_SCALE * np.abs(a_h)) & (np.abs(a_h) < MAX_SCALE * np.abs(b_h))
    if not apart_h.any():
        return np.zeros(len(a_m), bool), 1.0
    turn_h = b_h[apart_h] / a_h[apart_h]
    shift_h = b_m[first_h[apart_h]] - turn_h * a_m[first_h[apart_h]]
    agree_hm = _near(turn_h, shift_h, a_m, b_m)
    return _refined(a_m, b_m, agree_hm[int(agree_hm.sum(axis=1).argmax())])


def _refined(
    a_m: Complex128Array,
    b_m: Complex128Array,
    agree_m: BoolArray,
    alike: Callable[[complex], BoolArray] | None = None,
) -> tuple[BoolArray, float]:
    """Refit to the matches that agree, twice; the matches that agree then, and the scale.

    ``alike`` tells, for a similarity, which matches are of its direction and size.
    """
    scale = 1.0
    for _ in range(_REFINEMENTS):
        predicted_m, turn = _fitted(a_m, b_m, agree_m)
        scale = abs(turn)
        if not 1 / MAX_SCALE < scale < MAX_SCALE:
            return np.zeros(len(a_m), bool), 1.0
        agree_m = np.abs(predicted_m - b_m) < _AGREEING_PX * min(scale, 1)
        if alike is not None:
            agree_m &= alike(turn)
        if not agree_m.any():
            return agree_m, 1.0
    return agree_m, scale


def _near(
    turn_h: Complex128Array, shift_h: Complex128Array, a_m: Complex128Array, b_m: Complex128Array
) -> BoolArray:
    """(h, m): whether ``turn a + shift`` is near b, in px of the image that shows it larger.

    Squared errors in x and in y are products of (h, 4) by (4, m).
    """
    one_h, one_m = np.ones(len(turn_h)), np.ones(len(a_m))
    points_4m = np.stack([a_m.real, a_m.imag, one_m, -b_m.real]).astype(np.float32)
    error_hm = _product([turn_h.real, -turn_h.imag, shift_h.real, one_h], points_4m) ** 2
    points_4m[3] = -b_m.imag
    error_hm += _product([turn_h.imag, turn_h.real, shift_h.imag, one_h], points_4m) ** 2
    near_hm: BoolArray = error_hm < (_AGREEING_PX * np.minimum(np.abs(turn_h), 1)[:, None]) ** 2
    return near_hm


def _fitted(
    a_m: Complex128Array, b_m: Complex128Array, agree_m: BoolArray
) -> tuple[Complex128Array, complex]:
    """Positions predicted by least squares over the matches that agree, and the similarity in it.

    From six points on by an affinity, ``b = turn a + skew conj(a) + shift``.
    """
    column_m3 = np.stack([a_m, np.ones_like(a_m), np.conj(a_m)], axis=1)
    column_mc = column_m3 if agree_m.sum() >= 6 else column_m3[:, :2]
    solution_c = np.linalg.lstsq(column_mc[agree_m], b_m[agree_m], rcond=None)[0]
    return column_mc @ solution_c, complex(solution_c[0])


def _product(columns: list[Any], points_cm: Float32Array) -> Float32Array:
    return np.asarray(np.stack(columns, axis=1).astype(np.float32) @ points_cm, np.float32)
