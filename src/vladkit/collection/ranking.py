"""Exact search: a blocked matrix product over all vectors, and who comes first."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vladkit.axes import AnyArray, Float32Array, Int64Array

__all__ = ["best", "score_all"]


def score_all(
    query_qD: Float32Array, blocks: Iterable[tuple[Int64Array, AnyArray]]
) -> tuple[Int64Array, Float32Array]:
    """Inner products of queries with every stored vector: cosine similarity, both unit length.

    Parameters
    ----------
    query_qD : (q, D) float32
    blocks : of (picture_id_n, vector_nD)
        As `Store.vector_blocks` gives them; a block at a time is turned to float32.

    Returns
    -------
    picture_id_n : (n,) int64
    score_qn : (q, n) float32
    """
    ids: list[Int64Array] = [np.empty(0, np.int64)]
    scores: list[Float32Array] = [np.empty((len(query_qD), 0), np.float32)]
    for picture_id_n, vector_nD in blocks:
        ids.append(picture_id_n)
        scores.append(query_qD @ vector_nD.astype(np.float32).T)
    return np.concatenate(ids), np.concatenate(scores, axis=1)


def best(score_n: Float32Array, top: int) -> Int64Array:
    """Positions of the `top` highest scores and of all that tie with the last; 0 is all.

    Highest first, ties in the order of the positions.
    """
    n = len(score_n)
    if 0 < top < n:
        limit = np.partition(score_n, n - top)[n - top]
        chosen = np.flatnonzero(score_n >= limit)
    else:
        chosen = np.arange(n)
    return chosen[np.argsort(-score_n[chosen], kind="stable")]
