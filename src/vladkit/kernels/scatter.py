"""NumPy: ``ufunc.at``, the article's first cure: each row is added where it belongs."""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.kernels.reduce import narrow, row_blocks

__all__ = ["segment_sum"]


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments, row after row, floats in float64.

    Both arrays have one dtype: since NumPy 1.25 ``add.at`` then takes a fast path, and falls
    off it, by a factor of 4, when it has to convert (docs/explanation/scatter-reduce.md).
    """
    f = values_Nf.shape[1]
    wide = np.dtype(np.float64) if values_Nf.dtype.kind == "f" else values_Nf.dtype
    total_sf = np.zeros((n_segments, f), wide)
    for some in row_blocks(*values_Nf.shape):
        np.add.at(total_sf, segment_N[some], values_Nf[some].astype(wide, copy=False))
    return narrow(total_sf, values_Nf.dtype)
