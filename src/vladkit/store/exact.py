"""Exact search: a blocked matrix product over all vectors, and the highest scores of it.

Scores are exact to the bit, so that equal vectors have equal scores, and no result depends on the
order in which a processor's BLAS sums (`score_all` says how). `estimate_all` is the fast product in
float32 with a bound of its error (`error_bound`): what it leaves in question is scored exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, Int64Array
from vladkit.core.linalg import on_grid

__all__ = ["best", "error_bound", "estimate_all", "score_all", "widen"]

Float64Array: TypeAlias = npt.NDArray[np.float64]
Int32Array: TypeAlias = npt.NDArray[np.int32]

_Float = TypeVar("_Float", np.float32, np.float64)


_FEW_QUERIES: Final = 8
"""Most queries for which blocks are widened and multiplied in pieces; for more they are whole.

A block of 2 MB, 4,096 x 256 float16, 1 and 4 and 8 queries: 0.27, 0.31, 0.48 ms in pieces, 11, 10,
1.2 ms whole, when others used the two cores. 64 queries: 3.2 ms in pieces, 1.8 ms whole.
"""

_PIECE_PRODUCTS: Final = 2**18
"""Multiplications in a piece: OpenBLAS then has a program for small matrices, on one thread and
without a copy of its own, 5 times as fast as its general one (143 ms instead of 24 for a million
rows by 4 queries); and the piece, 256 KB, is still in the core's own cache."""

_BIAS: Final = np.float32(2.0**112)
"""Factor between the exponents of float16 (bias 15) and float32 (127)."""


def score_all(
    query_qD: Float32Array, blocks: Iterable[tuple[Int64Array, AnyArray]]
) -> tuple[Int64Array, Float64Array]:
    """Inner products of queries with every stored vector: cosine similarity, both unit length.

    Parameters
    ----------
    query_qD : (q, D) float32
        Vectors of unit length, or at least without a value beyond 2^15.
    blocks : of (image_id_n, vector_nD)
        float16 or float32, C order, as `Store.vector_blocks` gives them. One at a time is held.

    Returns
    -------
    image_id_n : (n,) int64
    score_qn : (q, n) float64
        The same bits for the same vectors, in any block, on any processor.

    Notes
    -----
    The product is one of float64 whose terms are rounded beforehand, to 1 / 2^26, so that none of
    its sums has to be rounded: exact in whatever order BLAS adds. The rounding moves a score by
    about 1e-8. `estimate_all` takes 0.6 to 0.8 of the time (benchmarks/million.py).
    """
    return _products(on_grid(query_qD), blocks)


def estimate_all(
    query_qD: Float32Array, blocks: Iterable[tuple[Int64Array, AnyArray]]
) -> tuple[Int64Array, Float32Array]:
    """Scores of `score_all` in float32, by BLAS: off by at most `error_bound`.

    Notes
    -----
    A million float16 vectors of 256 dimensions, 512 MB, in SQLite: 133 ms for 1 query, 142 for 4,
    on one core, of which reading takes 27 to 47 and widening about 65. One or two helper threads
    that widen and multiply while this one reads took as long (149 ms, 139 and 149 in the same run,
    while others used the two cores).
    """
    return _products(query_qD, blocks)


def error_bound(n_dimensions: int) -> float:
    """Largest difference of a score of `estimate_all` from that of `score_all`, for unit length.

    ``(D + 2) u / (1 - (D + 2) u)``, u = 2^-24: for a sum of D products in any order (Higham,
    "Accuracy and stability of numerical algorithms", 2002, section 3.1), and two roundings more;
    1 % on top for lengths that are not quite 1.
    """
    share = (n_dimensions + 2) * 2.0**-24
    return 1.01 * share / (1 - share)


def _products(
    query_qD: npt.NDArray[_Float], blocks: Iterable[tuple[Int64Array, AnyArray]]
) -> tuple[Int64Array, npt.NDArray[_Float]]:
    """Products in the queries' dtype; for float64 other vectors than float16 go to the grid."""
    q, n_dimensions = query_qD.shape
    dtype = query_qD.dtype
    exact = dtype == np.float64
    # float16 is widened without its factor, which goes to the query: powers of 2 round nothing.
    scaled_qD = query_qD * dtype.type(_BIAS)
    scratch = np.empty(0, np.int32)
    wide = np.empty(0, np.float64)
    ids: list[Int64Array] = [np.empty(0, np.int64)]
    scores: list[npt.NDArray[_Float]] = [np.empty((q, 0), dtype)]
    for image_id_n, vector_nD in blocks:
        n = len(vector_nD)
        step = max(1, n)
        if q <= _FEW_QUERIES:
            # Two rows at least: one row of 32,768 at a time took 1.5 times as long.
            step = max(2, _PIECE_PRODUCTS // (max(q, 4) * n_dimensions))
        score_qn = np.empty((q, n), dtype)
        for begin in range(0, n, step):
            piece_nD = vector_nD[begin : begin + step]
            if piece_nD.dtype != np.float16:
                if exact:
                    piece_nD = on_grid(piece_nD)
                score_qn[:, begin : begin + step] = query_qD @ piece_nD.T
                continue
            if scratch.size < piece_nD.size:
                scratch = np.empty(piece_nD.size, np.int32)
                wide = np.empty(piece_nD.size if exact else 0, np.float64)
            shifted_nD = _shift(piece_nD, scratch[: piece_nD.size].reshape(piece_nD.shape))
            if exact:
                wide_nD = wide[: piece_nD.size].reshape(piece_nD.shape)
                np.copyto(wide_nD, shifted_nD)
                score_qn[:, begin : begin + step] = scaled_qD @ wide_nD.T
            else:
                score_qn[:, begin : begin + step] = scaled_qD @ shifted_nD.T
        ids.append(image_id_n)
        scores.append(score_qn)
    return np.concatenate(ids), np.concatenate(scores, axis=1)


def widen(vector_nD: AnyArray) -> Float32Array:
    """Finite float16 or float32 values as float32.

    float16 by shifting its bits into float32's places, and a factor of 2^112 for the different
    bias of the exponent (exact, also for subnormals): 15 ms for 1,216 x 32,768 values, which
    NumPy's astype takes 71 ms for.
    """
    if vector_nD.dtype != np.float16:
        return vector_nD.astype(np.float32)
    wide_nD = _shift(vector_nD, np.empty(vector_nD.shape, np.int32))
    wide_nD *= _BIAS
    return wide_nD


def _shift(vector_nD: AnyArray, bits_nD: Int32Array) -> Float32Array:
    """float16 values times 2^-112 as float32, in the memory of `bits_nD`."""
    np.copyto(bits_nD, vector_nD.view(np.int16))  # the sign fills the upper half
    np.left_shift(bits_nD, 13, out=bits_nD)
    # 0x8fffe000: sign, five bits of exponent, ten of mantissa
    np.bitwise_and(bits_nD, np.int32(-0x70002000), out=bits_nD)
    return bits_nD.view(np.float32)


def best(score_n: FloatArray, top: int) -> Int64Array:
    """Positions of the `top` highest scores and of all that tie with the last; 0 gives all.

    Highest first, ties in the order of the positions.
    """
    n = len(score_n)
    if 0 < top < n:
        limit = np.partition(score_n, n - top)[n - top]
        chosen = np.flatnonzero(score_n >= limit)
    else:
        chosen = np.arange(n)
    return chosen[np.argsort(-score_n[chosen], kind="stable")]
