"""Rows of arrays brought to unit length, and on a grid where their products are exact."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array

__all__ = [
    "EPSILON",
    "on_grid",
    "root_sift",
    "row_lengths",
    "to_unit_length",
    "unit_for",
    "unit_rows",
]

EPSILON: Final = 1e-12
"""Lengths of rows of unit size below this are taken as this, so that zeros stay zeros."""

_LEAST, _MOST = EPSILON, 1e18
"""Lengths whose square, and those of components that matter, have all their digits in float32."""


_GRID: Final = 2.0**26

_Float = TypeVar("_Float", bound=np.floating[Any])


def on_grid(value_nD: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Values of rows of unit length, rounded so that products of such rows are exact in float64.

    They become multiples of 1 / 2^26 (float16's are multiples of 1 / 2^24 already). Products are
    then multiples of 1 / 2^52, and no sum of some of them exceeds the product of the lengths: below
    2, 53 bits in all, which float64 has. So it does not matter in which order BLAS adds.

    Examples
    --------
    >>> import numpy as np
    >>> row_nD = unit_rows(np.random.default_rng(0).normal(size=(2, 500)))
    >>> a_D, b_D = on_grid(row_nD)
    >>> bool(a_D @ b_D == a_D[::-1] @ b_D[::-1])
    True
    """
    grid_nD: npt.NDArray[np.float64] = np.rint(value_nD.astype(np.float64) * _GRID) / _GRID
    return grid_nD


def unit_for(peak: float) -> float:
    """Power of 2 in which float32 holds the squares of numbers up to `peak`; 1 for usual sizes.

    Examples
    --------
    >>> unit_for(100), unit_for(1e30) == 2.0**99
    (1.0, True)
    """
    is_usual = peak == 0 or 1e-12 < peak < 1e12
    return 1.0 if is_usual else float(np.ldexp(0.5, np.frexp(peak)[1]))


def unit_rows(row_nf: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """A copy with each row brought to unit length; rows of zeros stay zero.

    Rows are scaled by their largest value first: the square of a float32 below 1e-19 is 0.
    """
    out_nf: npt.NDArray[_Float] = row_nf / _peaks(row_nf)
    wide = np.promote_types(row_nf.dtype, np.float32)
    length_n = np.sqrt(np.einsum("nf,nf->n", out_nf, out_nf, dtype=wide))
    out_nf /= np.maximum(length_n, EPSILON)[:, None]
    return out_nf


def to_unit_length(row_nf: npt.NDArray[Any], *, per: int = 1) -> None:
    """Bring each row to unit length, in place; `unit_rows` where most rows are of usual size.

    Of `per` rows that belong together those stay short that are shorter than `EPSILON` of the
    longest: in float64 that is what rounding leaves of a sum that should be zero.
    """
    length_n, odd_n = _lengths(row_nf)
    share_n = _shares(row_nf, length_n, odd_n, per) if per > 1 else None
    row_nf[odd_n] = unit_rows(row_nf[odd_n])
    length_n[odd_n | (length_n == 0)] = 1
    row_nf /= length_n[:, None]
    if share_n is not None and (share_n < EPSILON).any():
        row_nf *= np.minimum(share_n / EPSILON, 1)[:, None].astype(row_nf.dtype)


def _shares(
    row_nf: npt.NDArray[Any], length_n: npt.NDArray[Any], odd_n: npt.NDArray[np.bool_], per: int
) -> npt.NDArray[np.float64]:
    """Length of each row as a share of the longest of the `per` rows that belong together."""
    true_n = length_n.astype(np.float64)
    true_n[odd_n] = row_lengths(row_nf[odd_n].astype(np.float64))
    longest_g = true_n.reshape(-1, per).max(axis=1)
    longest_g[longest_g == 0] = 1
    share_n: npt.NDArray[np.float64] = true_n / np.repeat(longest_g, per)
    return share_n


def row_lengths(row_nf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """L2 norm of each row, (n,), of any size."""
    length_n, odd_n = _lengths(row_nf)
    peak_n1 = _peaks(row_nf[odd_n])
    length_n[odd_n] = peak_n1[:, 0] * np.linalg.norm(row_nf[odd_n] / peak_n1, axis=1)
    return length_n


def _peaks(row_nf: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """Largest size of a value of each row, (n, 1); 1 for rows of zeros."""
    peak_n1: npt.NDArray[_Float] = np.abs(row_nf).max(axis=1, keepdims=True, initial=0)
    peak_n1[peak_n1 == 0] = 1
    return peak_n1


def _lengths(row_nf: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Lengths as they come, and which rows, not all zeros, have squares that overflow or vanish."""
    wide = np.promote_types(row_nf.dtype, np.float32)
    with np.errstate(over="ignore"):
        length_n = np.linalg.norm(row_nf.astype(wide, copy=False), axis=1)
    odd_n = ~((length_n > _LEAST) & (length_n < _MOST))
    odd_n[odd_n] = row_nf[odd_n].any(axis=1)
    return length_n, odd_n


def root_sift(descriptor_lf: npt.NDArray[Any]) -> Float32Array:
    """Square root of each value's share of the sum of its row; rows of zeros stay zero.

    Rows then have unit length, and the squared L2 distance of two is ``2 - 2 * sum(sqrt(x * y))``
    of their shares x, y: the Hellinger kernel.

    References
    ----------
    Arandjelović, Zisserman, "Three things everyone should know to improve object retrieval",
    CVPR 2012, section 3.
    """
    share_lf = descriptor_lf.astype(np.float32)
    sum_l1 = share_lf.sum(axis=1, keepdims=True)
    share_lf /= np.maximum(sum_l1, np.finfo(np.float32).tiny)
    root_lf: Float32Array = np.sqrt(share_lf, out=share_lf)
    return root_lf
