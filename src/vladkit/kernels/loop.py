"""The article's loop, plain and obvious: the oracle that every other way is held to."""

from __future__ import annotations

import numpy as np

from vladkit.axes import FloatArray, Int64Array
from vladkit.ragged import Ragged

__all__ = ["CHECKS_FINITE", "aggregate"]

CHECKS_FINITE = False


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts, image by image and centroid by centroid.

    Distances and sums are taken in float64 whatever the input, so that what the other
    ways are compared with is right to the last digit of theirs. `n_jobs` is not used.
    """
    k, f = centroid_kf.shape
    centroid_kf = centroid_kf.astype(np.float64)
    residual_tkf = np.zeros((len(batch), k, f), batch.float_dtype)
    count_tk = np.zeros((len(batch), k), np.int64)
    for i in range(len(batch)):
        local_lf = batch.image(i).astype(np.float64)
        label_l = np.array([_nearest(local_f, centroid_kf) for local_f in local_lf], np.int64)
        for j in range(k):
            member_lf = local_lf[label_l == j]
            residual_tkf[i, j] = np.sum(member_lf - centroid_kf[j], axis=0)
            count_tk[i, j] = len(member_lf)
    return residual_tkf, count_tk


def _nearest(local_f: FloatArray, centroid_kf: FloatArray) -> int:
    distance_k = np.sum((centroid_kf - local_f) ** 2, axis=1)
    return int(np.argmin(distance_k))  # ties: the lowest index
