"""Matches that agree, roughly, on how two images lie on each other.

Axes: ``m`` matches, ``h`` hypotheses, ``2`` is x, y. The first of two steps, see
`vladkit.geometry.verification`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array, IntArray
from vladkit.features import Features

__all__ = ["MAX_SCALE", "SIDE", "Frame", "most_agreed", "most_agreed_by_place", "states_regions"]

Complex128Array: TypeAlias = npt.NDArray[np.complex128]

SIDE: Final = 640.0
"""Longest side, in px, that images are thought of as having: lengths below are in such px."""

MAX_SCALE: Final = 16.0
"""By so much one image may show a thing larger than the other."""

# A match alone says how one image lies on the other: its two features have places, directions
# and sizes. The other matches that agree with it, roughly, are kept; the rest are dropped.
_ROUGHLY: Final = 40.0
_SIZE_FACTOR: Final = 2.0
_ANGLE: Final = 45.0
_HYPOTHESES: Final = 150
_REFINEMENTS: Final = 2

# Networks state no directions and sizes; then two matches together say how an image lies.
_CLEAREST: Final = 32
_APART: Final = 20.0


class Frame:
    """Features of an image as if its longest side were 640 px, the origin at its centre."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._unit = max(features.width, features.height, 1) / SIDE
        self._centre_2 = np.array([features.width - 1, features.height - 1], np.float64) / 2
        region = features.region
        self._corner_2 = np.array([region.left, region.top] if region else [0, 0], np.float64)

    def xy(self, row_m: IntArray) -> npt.NDArray[np.float64]:
        """Places (m, 2) of some features."""
        return np.asarray((self._features.xy_l2[row_m] - self._centre_2) / self._unit, np.float64)

    def in_image(self, row_m: IntArray) -> Float32Array:
        """Where they are in the whole image, in its px."""
        return np.asarray(self._features.xy_l2[row_m] + self._corner_2, np.float32)

    def region(self, row_m: IntArray) -> Complex128Array:
        """Size and direction as one complex number each."""
        size_m = np.maximum(self._features.size_l[row_m].astype(np.float64) / self._unit, 1e-3)
        radian_m = np.deg2rad(self._features.angle_l[row_m].astype(np.float64))
        return np.asarray(size_m * np.exp(1j * radian_m))

    def from_pixels_33(self) -> npt.NDArray[np.float64]:
        """What takes px of the whole image to places here."""
        x, y = self._centre_2 + self._corner_2
        return np.array([[1, 0, -x], [0, 1, -y], [0, 0, self._unit]]) / self._unit


def most_agreed(
    query: Frame, other: Frame, query_m: IntArray, other_m: IntArray
) -> tuple[npt.NDArray[np.bool_], float]:
    """Which matches agree with the match that most agree with, and the scale it states."""
    if not len(query_m):
        return np.zeros(0, bool), 1.0
    a_m2, b_m2 = query.xy(query_m), other.xy(other_m)
    with np.errstate(invalid="ignore", over="ignore"):
        turn_m = other.region(other_m) / query.region(query_m)
    turn_m[~np.isfinite(turn_m) | (turn_m == 0)] = 1  # a feature without a size or direction
    turn_h = turn_m[:_HYPOTHESES]
    a_m, b_m = a_m2.view(np.complex128)[:, 0], b_m2.view(np.complex128)[:, 0]
    shift_h = b_m[: len(turn_h)] - turn_h * a_m[: len(turn_h)]
    error_hm = _squared_error(turn_h, shift_h, a_m, b_m)
    scale_m = np.abs(turn_m)
    scale_h = scale_m[: len(turn_h)]
    agree_hm = error_hm < (_ROUGHLY * np.minimum(scale_h, 1)[:, None]) ** 2
    direction_m = turn_m / scale_m
    cosine_hm = _product(
        [direction_m[: len(turn_h)].real, direction_m[: len(turn_h)].imag],
        np.stack([direction_m.real, direction_m.imag]).astype(np.float32),
    )
    agree_hm &= cosine_hm > math.cos(math.radians(_ANGLE))
    log_m = np.log(scale_m).astype(np.float32)
    agree_hm &= np.abs(log_m[: len(turn_h), None] - log_m) < math.log(_SIZE_FACTOR)
    agree_m = agree_hm[int(agree_hm.sum(axis=1).argmax())]

    def alike(turn: complex) -> npt.NDArray[np.bool_]:
        least = abs(turn) * math.cos(math.radians(_ANGLE))
        alike_m: npt.NDArray[np.bool_] = (direction_m * np.conj(turn)).real > least
        alike_m &= np.abs(log_m - math.log(abs(turn))) < math.log(_SIZE_FACTOR)
        return alike_m

    # One feature's direction and size are noisy, all of those that agree say it better.
    return _settled(a_m, b_m, agree_m, alike)


def states_regions(features: Features) -> bool:
    """Whether the features have directions or sizes: not all the same."""
    columns = features.size_l, features.angle_l
    return bool(any(len(each_l) and (each_l != each_l[0]).any() for each_l in columns))


def most_agreed_by_place(
    query: Frame, other: Frame, query_m: IntArray, other_m: IntArray
) -> tuple[npt.NDArray[np.bool_], float]:
    """As `most_agreed`, of features that state neither direction nor size."""
    a_m = query.xy(query_m).view(np.complex128)[:, 0]
    b_m = other.xy(other_m).view(np.complex128)[:, 0]
    first_h, second_h = np.triu_indices(min(len(a_m), _CLEAREST), 1)
    a_h, b_h = a_m[first_h] - a_m[second_h], b_m[first_h] - b_m[second_h]
    apart_h = (np.abs(a_h) > _APART) & (np.abs(b_h) > _APART)
    apart_h &= (np.abs(b_h) < MAX_SCALE * np.abs(a_h)) & (np.abs(a_h) < MAX_SCALE * np.abs(b_h))
    if not apart_h.any():
        return np.zeros(len(a_m), bool), 1.0
    turn_h = b_h[apart_h] / a_h[apart_h]
    shift_h = b_m[first_h[apart_h]] - turn_h * a_m[first_h[apart_h]]
    error_hm = _squared_error(turn_h, shift_h, a_m, b_m)
    scale_h = np.abs(turn_h)
    agree_hm = error_hm < (_ROUGHLY * np.minimum(scale_h, 1)[:, None]) ** 2
    agree_m = agree_hm[int(agree_hm.sum(axis=1).argmax())]
    return _settled(a_m, b_m, agree_m)


def _settled(
    a_m: Complex128Array,
    b_m: Complex128Array,
    agree_m: npt.NDArray[np.bool_],
    also: Callable[[complex], npt.NDArray[np.bool_]] | None = None,
) -> tuple[npt.NDArray[np.bool_], float]:
    """What agrees with those that agree, and the scale; `also` says which may, for a similarity."""
    scale = 1.0
    for _ in range(_REFINEMENTS):
        predicted_m, turn = _refined(a_m, b_m, agree_m)
        scale = abs(turn)
        if not 1 / MAX_SCALE < scale < MAX_SCALE:
            return np.zeros(len(a_m), bool), 1.0
        agree_m = np.abs(predicted_m - b_m) < _ROUGHLY * min(scale, 1)
        if also is not None:
            agree_m &= also(turn)
        if not agree_m.any():
            return agree_m, 1.0
    return agree_m, scale


def _squared_error(
    turn_h: Complex128Array, shift_h: Complex128Array, a_m: Complex128Array, b_m: Complex128Array
) -> Float32Array:
    """(h, m): how far ``turn a + shift`` is from b, squared.

    As products of (h, 4) by (4, m): errors in x and in y.
    """
    one_h, one_m = np.ones(len(turn_h)), np.ones(len(a_m))
    points_4m = np.stack([a_m.real, a_m.imag, one_m, -b_m.real]).astype(np.float32)
    error_hm = _product([turn_h.real, -turn_h.imag, shift_h.real, one_h], points_4m) ** 2
    points_4m[3] = -b_m.imag
    error_hm += _product([turn_h.imag, turn_h.real, shift_h.imag, one_h], points_4m) ** 2
    return error_hm


def _refined(
    a_m: Complex128Array, b_m: Complex128Array, agree_m: npt.NDArray[np.bool_]
) -> tuple[Complex128Array, complex]:
    """Where points go by least squares over those that agree, and the similarity among it.

    By an affinity, ``b = turn a + skew conj(a) + shift``, from six points on.
    """
    column_m3 = np.stack([a_m, np.ones_like(a_m), np.conj(a_m)], axis=1)
    column_mc = column_m3 if agree_m.sum() >= 6 else column_m3[:, :2]
    solution_c = np.linalg.lstsq(column_mc[agree_m], b_m[agree_m], rcond=None)[0]
    return column_mc @ solution_c, complex(solution_c[0])


def _product(columns: list[Any], points_cm: Float32Array) -> Float32Array:
    return np.asarray(np.stack(columns, axis=1).astype(np.float32) @ points_cm, np.float32)
