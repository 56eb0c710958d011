"""NumPy: a dense mask that says which row is in which bucket. How the article begins.

All rows are compared with all buckets, and all but one value in k of the array in the middle is
0. It is here to be compared with, and refuses to take more memory than is reasonable.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.errors import MemoryLimitError
from vladkit.kernels.nearest import nearest
from vladkit.kernels.reduce import narrow

__all__ = ["MOST_BYTES", "aggregate", "segment_sum"]

MOST_BYTES = 2 * 2**30
"""Most bytes of the arrays in between, together; beyond it the method refuses."""


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts. `n_jobs` is not used.

    Images are padded to the size of the largest; the label of the padding is -1.
    """
    k, f = centroid_kf.shape
    t = len(batch)
    length_t = np.diff(batch.start_T)
    l = int(length_t.max(initial=0))
    _check_memory(2 * t * l * k * f, batch.float_dtype)
    local_Nf = batch.floats(0, t)
    is_there_tl = np.arange(l) < length_t[:, None]
    local_tlf = np.zeros((t, l, f), batch.float_dtype)
    local_tlf[is_there_tl] = local_Nf
    label_tl = np.full((t, l), -1)
    label_tl[is_there_tl] = nearest(local_Nf, centroid_kf)
    mask_tlk = label_tl[..., None] == np.arange(k)
    delta_tlkf = local_tlf[:, :, None, :] - centroid_kf
    residual_tkf = np.where(mask_tlk[..., None], delta_tlkf, 0).sum(axis=1, dtype=np.float64)
    return narrow(residual_tkf, local_Nf.dtype), mask_tlk.sum(axis=1)


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments: every row for every segment, 0 where it is in another."""
    n, f = values_Nf.shape
    _check_memory(n_segments * n * f, values_Nf.dtype)
    mask_sN = segment_N == np.arange(n_segments)[:, None]
    chosen_sNf = np.where(mask_sN[..., None], values_Nf, np.zeros((), values_Nf.dtype))
    wide = np.float64 if values_Nf.dtype.kind == "f" else values_Nf.dtype
    return narrow(chosen_sNf.sum(axis=1, dtype=wide), values_Nf.dtype)


def _check_memory(n_values: int, dtype: np.dtype[Any]) -> None:
    wanted = n_values * dtype.itemsize
    if wanted > MOST_BYTES:
        raise MemoryLimitError(
            f"method='mask' would need {wanted:,} bytes, its limit is {MOST_BYTES:,}: "
            "use method='fused', which needs a few MB, or smaller batches"
        )
