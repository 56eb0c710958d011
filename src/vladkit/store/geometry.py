"""Geometry of kept features as bytes: 8 of a feature where that is exact enough, else 20.

Axes: ``l`` features of one image, ``5`` is x, y, size, angle, score.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array

__all__ = ["pack_geometry", "unpack_geometry"]

_SHORT: Final = np.dtype(
    [("xy", "<u2", 2), ("size", "u1"), ("angle", "u1"), ("score", "<f2")], align=False
)
_STEPS: Final = 2.0**16  # of the width and of the height: 1/100 px of 640
_PER_OCTAVE: Final = 16  # sizes 4.4 % apart, from 1/8 px to 7,500 px; 0 is code 0
_LEAST_OCTAVE: Final = -3
_DEGREES: Final = 360 / 256


def pack_geometry(geometry_l5: AnyArray, width: int, height: int, *, short: bool) -> bytes:
    """Bytes of the geometry of one image's features.

    Parameters
    ----------
    geometry_l5 : float32 array (l, 5)
        x, y and size in px, angle in degrees, score.
    width, height : int
        Size of the image in px.
    short : bool
        Take 8 bytes for each feature, unless a value of the image does not fit: a place outside of
        the image, a size out of range, a score that float16 has not to 0.1 %, or no number.
    """
    exact = np.ascontiguousarray(geometry_l5, "<f4")
    if not short or not np.isfinite(exact).all():
        return exact.tobytes()
    wide_l5 = exact.astype(np.float64)
    xy_l2 = (wide_l5[:, :2] + 0.5) / [max(width, 1), max(height, 1)] * _STEPS
    size_l, score_l = wide_l5[:, 2], wide_l5[:, 4]
    octave_l = np.log2(size_l, out=np.full(len(size_l), -np.inf), where=size_l > 0)
    step_l = np.rint((octave_l - _LEAST_OCTAVE) * _PER_OCTAVE)
    fits = (xy_l2 >= 0).all() and (xy_l2 <= _STEPS).all()
    fits &= bool((((step_l >= 0) & (step_l < 255)) | (size_l == 0)).all())
    with np.errstate(over="ignore"):
        half_l = score_l.astype("<f2")
    if not fits or not np.allclose(half_l, score_l, rtol=1e-3, atol=1e-7):
        return exact.tobytes()
    row_l = np.empty(len(exact), _SHORT)
    row_l["xy"] = np.minimum(xy_l2, _STEPS - 1)
    row_l["size"] = np.where(size_l == 0, 0, step_l + 1)
    row_l["angle"] = np.rint(wide_l5[:, 3] / _DEGREES) % 256
    row_l["score"] = half_l
    return row_l.tobytes()


def unpack_geometry(data: bytes, n: int, width: int, height: int) -> Float32Array:
    """Geometry (n, 5) from what `pack_geometry` made; ValueError if the size does not fit."""
    if len(data) != n * _SHORT.itemsize:
        return np.frombuffer(data, "<f4").reshape(n, 5)
    row_n = np.frombuffer(data, _SHORT)
    geometry_n5 = np.empty((n, 5), np.float32)
    geometry_n5[:, :2] = (row_n["xy"] + 0.5) * ([max(width, 1) / _STEPS, max(height, 1) / _STEPS])
    geometry_n5[:, :2] -= 0.5
    geometry_n5[:, 2] = _SIZES[row_n["size"]]
    geometry_n5[:, 3] = row_n["angle"] * _DEGREES
    geometry_n5[:, 4] = row_n["score"]
    return geometry_n5


_SIZES: Final = np.append(0, 2 ** (np.arange(255) / _PER_OCTAVE + _LEAST_OCTAVE)).astype("f4")
