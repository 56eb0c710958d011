"""SciPy: a sparse matrix with a single 1 in each row, its segment's, transposed, times the rows."""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.kernels.reduce import narrow

__all__ = ["segment_sum"]


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments as a product: CSR holds the segments as they come, unsorted.

    Floats are summed in float64, which SciPy converts them to where the ones are float64.
    """
    from scipy.sparse import csr_array  # 0.1 s to import

    n = len(values_Nf)
    one_N = np.ones(n, np.float64 if values_Nf.dtype.kind == "f" else values_Nf.dtype)
    member_Ns = csr_array((one_N, segment_N, np.arange(n + 1)), shape=(n, n_segments))
    return narrow(member_Ns.T @ values_Nf, values_Nf.dtype)
