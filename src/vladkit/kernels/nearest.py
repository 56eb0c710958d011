"""Labels by matrix product: the first half of every kernel that is not fused."""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import FloatArray, Int64Array
from vladkit.errors import NonFiniteError

__all__ = ["centered_codebook", "check_overflow", "nearest"]


def centered_codebook(centroid_kf: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Directions and biases that turn the nearest centroid into an arg-max of inner products.

    ``argmin_k |x - c_k|^2 = argmax_k (x . c_k - |c_k|^2 / 2)`` holds for every origin.
    With the centroids' mean m as origin and c' = c - m, the score is
    ``x . c'_k - (|c'_k|^2 / 2 + m . c'_k)``: descriptors that lie far from 0 and close
    together then keep their digits, though x itself is never shifted. (Descriptors
    around 10,000 with spread 1: the plain form is off by 6 f in float32, more than the
    distances themselves; this one by 0.01.)

    Returns
    -------
    direction_kf : (k, f), dtype of the centroids
        Centroids less their mean, c'.
    bias_k : (k,), same dtype
        ``-(|c'_k|^2 / 2 + m . c'_k)``. Both are computed in float64, then rounded.
    """
    exact_kf = centroid_kf.astype(np.float64)
    mean_f = np.add.reduce(exact_kf, axis=0) / len(exact_kf)
    direction_kf = exact_kf - mean_f
    bias_k = np.einsum("kf,kf->k", direction_kf, -0.5 * direction_kf - mean_f)
    dtype = centroid_kf.dtype
    with np.errstate(over="ignore"):  # infinite scores are found where they matter
        return direction_kf.astype(dtype), bias_k.astype(dtype)


def nearest(local_Nf: FloatArray, centroid_kf: FloatArray) -> Int64Array:
    """Label of each descriptor: its nearest centroid by L2, ties to the lowest index.

    The scores exist for a block of rows at a time (about 4 MB), never whole; NonFiniteError is
    raised where they overflow.
    """
    n = len(local_Nf)
    k = len(centroid_kf)
    direction_kf, bias_k = centered_codebook(centroid_kf)
    label_N = np.empty(n, np.int64)
    step = max(16, 2**20 // k)
    for begin in range(0, n, step):
        with np.errstate(over="ignore", invalid="ignore"):
            score_Nk = local_Nf[begin : begin + step] @ direction_kf.T
            score_Nk += bias_k
        label = np.argmax(score_Nk, axis=1, out=label_N[begin : begin + step])
        check_overflow(score_Nk[np.arange(len(label)), label])
    return label_N


def check_overflow(value: FloatArray) -> None:
    """Raise NonFiniteError if a number computed from finite descriptors is not finite."""
    if not np.isfinite(value).all():
        raise NonFiniteError(
            f"products of descriptors and centroids overflow {value.dtype}: "
            "scale the descriptors, or pass float64"
        )
