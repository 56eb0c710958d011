"""The way of the article's vectorised programs: labels first, then one sum into buckets.

Each (image, centroid) pair is a bucket, and the residuals of all images are summed into their
buckets at once. What `scatter`, `cumsum`, `reduceat` and `sparse` differ in is that sum.
"""

from __future__ import annotations

import numpy as np

from vladkit.axes import FloatArray, Int64Array
from vladkit.kernels import SegmentSum
from vladkit.kernels.nearest import nearest
from vladkit.ragged import Ragged

__all__ = ["aggregate_by"]


def aggregate_by(
    segment_sum: SegmentSum, batch: Ragged, centroid_kf: FloatArray, n_jobs: int
) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts, with `segment_sum` for the sums.

    Residuals are formed before they are summed: sums of descriptors minus counts times
    centroids are one pass less, but lose digits where descriptors lie far from 0.
    """
    k, f = centroid_kf.shape
    t = len(batch)
    local_Nf = batch.floats(0, t)
    label_N = nearest(local_Nf, centroid_kf)
    residual_Nf = local_Nf - centroid_kf[label_N]
    bucket_N = np.repeat(np.arange(t) * k, np.diff(batch.start_T)) + label_N
    residual_bf: FloatArray = segment_sum(residual_Nf, bucket_N, t * k, n_jobs)
    count_b = np.bincount(bucket_N, minlength=t * k).astype(np.int64)
    return residual_bf.reshape(t, k, f), count_b.reshape(t, k)
