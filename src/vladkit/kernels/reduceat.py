"""NumPy: sort by bucket, then ``np.add.reduceat`` over the runs. No compiler, no import."""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array

__all__ = ["segment_sum"]


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments: sorted, each segment is a run.

    For an empty run ``reduceat`` gives an element, not 0: only segments in use take part.
    """
    total_sf = np.zeros((n_segments, values_Nf.shape[1]), values_Nf.dtype)
    count_s = np.bincount(segment_N, minlength=n_segments)
    used = np.flatnonzero(count_s)
    if len(used):
        order_N = np.argsort(segment_N, kind="stable")
        first = np.cumsum(count_s[used]) - count_s[used]
        wide = np.float64 if values_Nf.dtype.kind == "f" else values_Nf.dtype
        total_sf[used] = np.add.reduceat(values_Nf[order_N], first, axis=0, dtype=wide)
    return total_sf
