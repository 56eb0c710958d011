"""Labels first, then one sum into buckets, as in the article's vectorised programs.

Each (image, centroid) pair is a bucket, and the residuals of all images are summed into their
buckets at once. `scatter`, `cumsum`, `reduceat` and `sparse` differ in that sum alone.
"""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import FloatArray, Int64Array
from vladkit.core.linalg import unit_rows
from vladkit.core.ragged import Ragged
from vladkit.kernels.kernel import SegmentSum
from vladkit.kernels.nearest import nearest
from vladkit.kernels.reduceat import segment_sum as sum_runs

__all__ = ["aggregate_by", "aggregate_unit"]

_BLOCK_VALUES = 2**20
"""Values of descriptors (and of images' sums) in work at a time, to bound memory: 4 to 8 MB."""


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


def aggregate_unit(
    batch: Ragged, label_kf: FloatArray, centroid_kf: FloatArray
) -> tuple[FloatArray, Int64Array]:
    """Sums of residuals that are each brought to unit length, and counts.

    Labels are found with `label_kf`, residuals taken to `centroid_kf`. A block of rows at a time:
    some images together, or a part of a long one.
    """
    k, f = centroid_kf.shape
    t = len(batch)
    residual_tkf = np.zeros((t, k, f), batch.float_dtype)
    count_tk = np.zeros((t, k), np.int64)
    most_rows = max(1, _BLOCK_VALUES // f)
    most_images = max(1, _BLOCK_VALUES // (k * f))
    begin = 0
    while begin < t:
        last_row = batch.start_T[begin] + most_rows
        end = int(np.searchsorted(batch.start_T, last_row, side="right")) - 1
        end = min(max(end, begin + 1), begin + most_images, t)
        n = int(batch.start_T[end] - batch.start_T[begin])
        size_t = np.diff(batch.start_T[begin : end + 1])
        image_N = np.repeat(np.arange(end - begin) * k, size_t)
        wide_bf = np.zeros(((end - begin) * k, f))
        for row in range(0, n, most_rows):  # more than one only for a long image
            stop = min(n, row + most_rows)
            one = end == begin + 1
            local_Nf = batch.floats(begin, end, row, stop) if one else batch.floats(begin, end)
            label_N = nearest(local_Nf, label_kf)
            bucket_N = image_N[row:stop] + label_N
            unit_Nf = unit_rows(local_Nf - centroid_kf[label_N])
            wide_bf += sum_runs(unit_Nf, bucket_N, len(wide_bf), 1)
            count_b = np.bincount(bucket_N, minlength=len(wide_bf))
            count_tk[begin:end] += count_b.reshape(-1, k)
        residual_tkf[begin:end] = wide_bf.reshape(-1, k, f)
        begin = end
    return residual_tkf, count_tk
