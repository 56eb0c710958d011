"""Codes of one image: the residual sum of each word, as bits or as numbers, and its direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array, as_array
from vladkit.core.backends import on_host
from vladkit.core.linalg import on_grid, unit_rows
from vladkit.core.ragged import Ragged
from vladkit.errors import InputError, NonFiniteError, ShapeError
from vladkit.kernels import reduce
from vladkit.kernels.nearest import check_overflow

__all__ = ["as_angles", "bytes_of", "numbers", "packed", "random_rotation", "sums_of_words"]


def sums_of_words(
    local_lf: FloatArray, angle_l: AnyArray | None, word_la: Int64Array, centroid_kf: FloatArray
) -> tuple[Int64Array, FloatArray, npt.NDArray[np.uint8] | None]:
    """Sum the residuals of the descriptors of each word of one image.

    Parameters
    ----------
    local_lf : (l, f) floating
    angle_l : (l,) or None
        Degrees.
    word_la : (l, a) int64
        Words of each descriptor; -1 is none.
    centroid_kf : (k, f) floating

    Returns
    -------
    word_s : (s,)
        Words in use, rising.
    residual_sf : (s, f)
        Sums of (descriptor - centroid).
    angle_s : (s,) uint8 or None
        Direction of the sum of the features' unit vectors, in 256ths of a turn; 0 where that is 0.

    Notes
    -----
    The segments are the words in use: a dense array of 16,384 sums would be 20 times as large.
    """
    row_N, column_N = np.nonzero(word_la >= 0)
    word_s, segment_N = _distinct(word_la[row_N, column_N])
    with np.errstate(over="ignore", invalid="ignore"):
        residual_Nf = local_lf[row_N] - centroid_kf[word_la[row_N, column_N]]
        # one thread: images are shared out among threads already
        residual_sf = reduce.sums(residual_Nf, segment_N, len(word_s), residual_Nf.dtype, n_jobs=1)
    check_overflow(residual_sf)
    if angle_l is None:
        return word_s, residual_sf, None
    radian_N = np.deg2rad(angle_l.astype(np.float64))[row_N]
    unit_N2 = np.stack([np.cos(radian_N), np.sin(radian_N)], axis=1)
    x_s, y_s = reduce.sums(unit_N2, segment_N, len(word_s), unit_N2.dtype, n_jobs=1).T
    turn_s = np.rint(np.arctan2(y_s, x_s) * (128 / np.pi)).astype(np.int64)
    return word_s, residual_sf, (turn_s % 256).astype(np.uint8)


def _distinct(word_N: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Words in use, rising, and which of them each is.

    As ``np.unique``, which would import masked arrays, 14 ms of a search by the command.
    """
    order_N = np.argsort(word_N, kind="stable")
    is_first_N = np.diff(word_N[order_N], prepend=-1) > 0
    segment_N = np.empty(len(word_N), np.int64)
    segment_N[order_N] = np.cumsum(is_first_N) - 1
    return word_N[order_N][is_first_N], segment_N


def packed(residual_sf: FloatArray, rotation_fd: FloatArray | None) -> npt.NDArray[np.uint8]:
    """Signs of rotated residuals as bits: 1 above 0; zeros fill up to a multiple of 64."""
    rotated_sd = unit_rows(residual_sf)
    if rotation_fd is not None:
        rotated_sd = rotated_sd @ rotation_fd.astype(rotated_sd.dtype, copy=False)
    bits_sb = np.packbits(rotated_sd > 0, axis=1)
    code_sb = np.zeros((len(bits_sb), bytes_of(rotated_sd.shape[1])), np.uint8)
    code_sb[:, : bits_sb.shape[1]] = bits_sb
    return code_sb


def bytes_of(n_bits: int) -> int:
    """Bytes of a code, a multiple of 8."""
    return 8 * -(-n_bits // 64)


def numbers(residual_sf: FloatArray, dtype: str) -> FloatArray:
    """Residuals of unit length in `dtype`, on a grid where their products are exact."""
    code_sf: FloatArray = on_grid(unit_rows(residual_sf)).astype(dtype)
    return code_sf


def random_rotation(f: int, n_bits: int, seed: int) -> FloatArray:
    """Draw a random rotation (f, n_bits); orthonormal columns, or rows if there are more bits."""
    size = max(f, n_bits)
    gauss = np.random.default_rng(seed).normal(size=(size, size))
    rotation, upper = np.linalg.qr(gauss)
    rotation *= np.sign(np.diagonal(upper))  # without it the distribution is not uniform
    rotation_fd: FloatArray = rotation[:f, :n_bits].astype(np.float32)
    return np.ascontiguousarray(rotation_fd)


def as_angles(angle: Any, batch: Ragged) -> FloatArray | None:
    """Check directions of features in degrees, (N,), against their descriptors.

    Parameters
    ----------
    angle : (N,) or (t, l) array, list of (l_i,) arrays, or None
        None in a list is an image without features.

    Raises
    ------
    ShapeError
        If there is not one for each descriptor.
    InputError
        If they are not real numbers; NonFiniteError if one is NaN or infinite.
    """
    if angle is None:
        return None
    length_t = np.diff(batch.start_T)
    if isinstance(angle, (list, tuple)) and not all(np.ndim(on_host(a)) == 0 for a in angle):
        parts = [np.zeros(0) if a is None else as_array(on_host(a)) for a in angle]
        got = [part.shape for part in parts]
        for i, (shape, length) in enumerate(zip(got, length_t, strict=False)):
            if shape != (length,):
                raise ShapeError(
                    f"angles of image {i} have shape {shape}, its descriptors are {length}: "
                    "give one angle for each"
                )
        if len(parts) != len(batch):
            raise ShapeError(f"got angles of {len(parts)} images, descriptors of {len(batch)}")
        angle_N = np.concatenate(parts)
    else:
        angle_N = as_array(on_host(angle))
        is_even = angle_N.ndim == 2 and len(angle_N) == len(batch)
        if is_even and (length_t == angle_N.shape[1]).all():
            angle_N = angle_N.reshape(-1)
        if angle_N.shape != (batch.n_local,):
            raise ShapeError(
                f"angles have shape {angle_N.shape}, the descriptors are {batch.n_local}: give one "
                "angle for each"
            )
    if angle_N.dtype.kind not in "fiu":
        raise InputError(f"angles are {angle_N.dtype}, wanted degrees")
    if not np.isfinite(angle_N).all():
        row = int(np.argmin(np.isfinite(angle_N)))
        i = int(np.searchsorted(batch.start_T, row, side="right")) - 1
        raise NonFiniteError(
            f"angle {row - batch.start_T[i]} of image {i} is {angle_N[row]}, wanted degrees"
        )
    return angle_N
