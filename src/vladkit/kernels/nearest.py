"""Labels by matrix product: the first half of every kernel that is not fused."""

from __future__ import annotations

from typing import Any

import numpy as np

from vladkit.core.arrays import FloatArray, Int64Array
from vladkit.errors import NonFiniteError

__all__ = ["centered_codebook", "check_overflow", "nearest"]


def centered_codebook(xp: Any, centroid_kf: Any, held_kf: Any) -> tuple[Any, Any, Any, Any]:
    """Directions that turn the nearest centroid into an arg-max of inner products.

    ``argmin_k |x - c_k|^2 = argmax_k (x . c_k - |c_k|^2 / 2)`` holds for every origin.
    With an origin o near the centroids' mean and c' = c - o, the score is
    ``x . c'_k - (|c'_k|^2 / 2 + o . c'_k)``: descriptors that lie far from 0 and close
    together then keep their digits, though x itself is never shifted. (Descriptors
    around 10,000 with spread 1: the plain form is off by 6 f in float32, more than the
    distances themselves; this one by 0.01.)

    In each dimension the origin is a multiple of a power of 2 that is not above the spread of the
    centroids. So whole numbers stay whole (or halves), their scores are exact in whatever order
    they are added, and equal distances are ties in every way.

    Scores are taken in a unit of about the spread ^ 1.5: those of descriptors of that size are its
    root, whose exponent is half as far from 0, so that they neither overflow nor vanish.

    Parameters
    ----------
    xp : module
        numpy, torch or jax.numpy, whose array the centroids are.
    centroid_kf : (k, f)
    held_kf : (k, f)
        The same without gradient: what origin and unit follow from.

    Returns
    -------
    origin_f : (f,)
    direction_kf : (k, f)
        Centroids less the origin, c'.
    scaled_kf : (k, f)
        Directions in the unit of the scores.
    unit_2 : pair of numbers
        Powers of 2 whose product is the unit, and might overflow.
    """
    mean_f = xp.mean(held_kf, 0)
    peak_f = xp.amax(xp.abs(held_kf - mean_f), 0)
    step_f = _power_of_2(xp, peak_f)
    origin_f = xp.where(peak_f > 0, xp.round(mean_f / step_f) * step_f, held_kf[0])
    # its reciprocal, which XLA takes, is no subnormal number
    size = xp.clip(_power_of_2(xp, xp.amax(peak_f, 0)), 0, 1 / float(xp.finfo(mean_f.dtype).tiny))
    unit_2 = size, _power_of_2(xp, xp.sqrt(size))
    direction_kf = centroid_kf - origin_f
    return origin_f, direction_kf, direction_kf / unit_2[0] / unit_2[1], unit_2


def _power_of_2(xp: Any, value: Any) -> Any:
    """Largest power of 2 that is not above each value; 1 for 0."""
    mantissa, _ = xp.frexp(value)  # from 0.5 to 1: an exact division, which exp2 is not everywhere
    return xp.where(value > 0, value / xp.where(value > 0, 2 * mantissa, 1), 1)


def nearest(local_Nf: FloatArray, centroid_kf: FloatArray) -> Int64Array:
    """Label of each descriptor: its nearest centroid by L2, ties to the lowest index.

    The scores exist for a block of rows at a time (about 4 MB), never whole; NonFiniteError is
    raised where they overflow.
    """
    n = len(local_Nf)
    k = len(centroid_kf)
    dtype = centroid_kf.dtype
    exact_kf = centroid_kf.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        origin_f, direction_kf, scaled_kf, _ = centered_codebook(np, exact_kf, exact_kf)
        bias_k = -np.einsum("kf,kf->k", scaled_kf, 0.5 * direction_kf + origin_f).astype(dtype)
        scaled_fk = scaled_kf.astype(dtype).T
    label_N = np.empty(n, np.int64)
    step = max(16, 2**20 // k)
    for begin in range(0, n, step):
        with np.errstate(over="ignore", invalid="ignore"):
            score_Nk = local_Nf[begin : begin + step] @ scaled_fk
            score_Nk += bias_k
        label = np.argmax(score_Nk, axis=1, out=label_N[begin : begin + step])
        check_overflow(score_Nk[np.arange(len(label)), label])
    return label_N


def check_overflow(value: FloatArray) -> None:
    """Raise NonFiniteError if a number computed from finite descriptors is not finite."""
    if not np.isfinite(value).all():
        raise NonFiniteError(
            f"sums or products of descriptors and centroids overflow {value.dtype}, or are too "
            "small for it: scale the descriptors, or pass float64"
        )
