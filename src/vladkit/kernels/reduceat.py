"""Sort by (image, label), then ``np.add.reduceat`` over the runs. NumPy alone.

What `auto` takes for a picture or two: nothing to import, nothing to compile.
"""

from __future__ import annotations

import numpy as np

from vladkit.axes import FloatArray, Int64Array
from vladkit.kernels.nearest import nearest
from vladkit.ragged import Ragged

__all__ = ["CHECKS_FINITE", "aggregate"]

CHECKS_FINITE = False


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts; `n_jobs` is not used (BLAS takes its own threads)."""
    k, f = centroid_kf.shape
    t = len(batch)
    local_Nf = batch.floats(0, t)
    label_N = nearest(local_Nf, centroid_kf)
    residual_Nf = local_Nf - centroid_kf[label_N]
    bucket_N = label_N + np.repeat(np.arange(t) * k, np.diff(batch.start_T))
    count_b = np.bincount(bucket_N, minlength=t * k)
    residual_bf = np.zeros((t * k, f), batch.float_dtype)
    # reduceat gives an element, not 0, for an empty run: only the buckets in use take part
    used = np.flatnonzero(count_b)
    if len(used):
        order_N = np.argsort(bucket_N, kind="stable")
        first = np.cumsum(count_b[used]) - count_b[used]
        residual_bf[used] = np.add.reduceat(residual_Nf[order_N], first, axis=0)
    return residual_bf.reshape(t, k, f), count_b.reshape(t, k).astype(np.int64)
