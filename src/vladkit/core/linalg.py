"""Rows of arrays brought to unit length."""

from __future__ import annotations

from typing import Final

import numpy as np

from vladkit.core.arrays import FloatArray

__all__ = ["unit_rows"]

_EPSILON: Final = 1e-12
"""Lengths below this are taken as this (VLFeat's epsilon)."""


def unit_rows(row_nf: FloatArray) -> FloatArray:
    """A copy with each row brought to unit length; rows of zeros stay zero.

    Rows are scaled by their largest value first: the square of a float32 below 1e-19 is 0.
    """
    peak_n = np.abs(row_nf).max(axis=1, keepdims=True, initial=0)
    peak_n[peak_n == 0] = 1
    out_nf: FloatArray = row_nf / peak_n
    length_n = np.sqrt(np.einsum("nf,nf->n", out_nf, out_nf))
    out_nf /= np.maximum(length_n, _EPSILON)[:, None]
    return out_nf
