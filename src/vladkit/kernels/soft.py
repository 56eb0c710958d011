"""Loops of soft assignment that Numba compiles: scores, and weighted sums.

Each calls nothing outside this file: Numba would not notice a change there (see
`vladkit.kernels.compiled`).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from vladkit.kernels.cached import compiled

__all__ = ["soft_scores", "soft_sums"]

# "contract": a product and a sum may become one instruction; nothing is reordered
_OPTIONS: Final[dict[str, Any]] = {"fastmath": {"contract"}, "error_model": "numpy"}

_SUMMED: Final = 256
"""Rows that are summed in their own dtype, a multiple of 4; their sums are added in float64."""


@compiled(**_OPTIONS)
def soft_scores(local_Nf, direction_fk, bias_k, scale, score_Nk):  # type: ignore[no-untyped-def]
    """Write ``scale * (x . direction + bias)`` less its maximum over k, for each row x."""
    n, f = local_Nf.shape
    k = bias_k.shape[0]
    for begin in range(0, n, 4):
        rows = min(4, n - begin)
        for i in range(rows):
            for c in range(k):
                score_Nk[begin + i, c] = bias_k[c]
        if rows == 4:
            for j in range(f):
                x0, x1 = local_Nf[begin, j], local_Nf[begin + 1, j]
                x2, x3 = local_Nf[begin + 2, j], local_Nf[begin + 3, j]
                for c in range(k):
                    direction = direction_fk[j, c]
                    score_Nk[begin, c] += x0 * direction
                    score_Nk[begin + 1, c] += x1 * direction
                    score_Nk[begin + 2, c] += x2 * direction
                    score_Nk[begin + 3, c] += x3 * direction
        else:
            for i in range(rows):
                for j in range(f):
                    for c in range(k):
                        score_Nk[begin + i, c] += local_Nf[begin + i, j] * direction_fk[j, c]
        for i in range(begin, begin + rows):
            top = score_Nk[i, 0]
            for c in range(1, k):
                top = max(top, score_Nk[i, c])
            for c in range(k):
                score_Nk[i, c] = scale * (score_Nk[i, c] - top)


@compiled(**_OPTIONS)
def soft_sums(  # type: ignore[no-untyped-def]
    shifted_Nf, start_T, weight_Nk, direction_kf, residual_tkf, mass_tk
):
    """Write ``sum_l w_lk (x_l - c_k)`` and ``sum_l w_lk``; a row of weights is first made to
    sum to 1. Rows and centroids are given from one origin: x - o, c - o.
    """
    t, k, f = residual_tkf.shape
    row = np.empty((4, f), shifted_Nf.dtype)
    wide_kf, wide_k = np.empty((k, f), np.float64), np.empty(k, np.float64)
    for image in range(t):
        residual_kf, mass_k = residual_tkf[image], mass_tk[image]
        wide_kf[:] = 0
        wide_k[:] = 0
        end = start_T[image + 1]
        for first in range(start_T[image], end, _SUMMED):
            residual_kf[:] = 0
            mass_k[:] = 0
            for begin in range(first, min(first + _SUMMED, end), 4):
                _add_four(shifted_Nf, begin, end, weight_Nk, row, residual_kf, mass_k)
            wide_kf += residual_kf
            wide_k += mass_k
        for c in range(k):
            mass_k[c] = wide_k[c]
            for j in range(f):
                residual_kf[c, j] = wide_kf[c, j] - wide_k[c] * direction_kf[c, j]


@numba.njit(**_OPTIONS)
def _add_four(  # type: ignore[no-untyped-def]
    shifted_Nf, begin, end, weight_Nk, row, residual_kf, mass_k
):
    """Add four rows, or those before `end`, to the sums of all centroids, in registers."""
    k, f = residual_kf.shape
    rows = min(4, end - begin)
    for i in range(4):
        if i >= rows:
            row[i] = 0
            continue
        total = shifted_Nf.dtype.type(0)
        for c in range(k):
            total += weight_Nk[begin + i, c]
        for c in range(k):
            weight_Nk[begin + i, c] /= total
            mass_k[c] += weight_Nk[begin + i, c]
        for j in range(f):
            row[i, j] = shifted_Nf[begin + i, j]
    b, d, e = min(begin + 1, end - 1), min(begin + 2, end - 1), min(begin + 3, end - 1)
    for c in range(k):  # rows past the end are 0
        w0, w1 = weight_Nk[begin, c], weight_Nk[b, c]
        w2, w3 = weight_Nk[d, c], weight_Nk[e, c]
        for j in range(f):
            residual_kf[c, j] += (w0 * row[0, j] + w1 * row[1, j]) + (
                w2 * row[2, j] + w3 * row[3, j]
            )
