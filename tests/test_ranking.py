"""Exact search: scores against the plain product. (`best` and `widen`: test_collection.py.)"""

from __future__ import annotations

import numpy as np
import pytest

from vladkit.collection.ranking import score_all


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("n_queries", [1, 3, 4, 8, 9])  # up to 8 go piece by piece
@pytest.mark.parametrize("size", [1, 37, 256, 2**16 + 5])
def test_scores_are_the_plain_product(dtype, n_queries, size):
    rng = np.random.default_rng(size)
    query_qD = rng.normal(size=(n_queries, size)).astype(np.float32)
    query_qD /= np.linalg.norm(query_qD, axis=1, keepdims=True)
    sizes = [3, 0, 1, 2 * 2**16 // size + 7]  # the last is more than one piece
    id_n = rng.permutation(sum(sizes)) + 10**12
    vector_nD = rng.normal(size=(len(id_n), size)).astype(dtype)
    parts = np.cumsum(sizes)[:-1]
    blocks = zip(np.split(id_n, parts), np.split(vector_nD, parts), strict=True)
    found_n, score_qn = score_all(query_qD, blocks)
    np.testing.assert_array_equal(found_n, id_n)
    assert score_qn.dtype == np.float32
    plain_qn = query_qD.astype(np.float64) @ vector_nD.astype(np.float64).T
    np.testing.assert_allclose(score_qn, plain_qn, atol=1e-5)


@pytest.mark.parametrize("n_queries", [1, 4, 9])
def test_subnormal_zero_and_largest_values_score_exactly(n_queries):
    """One value at a time, so that nothing is rounded."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    value_n = every[np.isfinite(every)]
    query_qD = np.zeros((n_queries, 3), np.float32)
    query_qD[:, 1] = 2.0 ** -np.arange(n_queries)
    vector_nD = np.zeros((len(value_n), 3), np.float16)
    vector_nD[:, 1] = value_n
    _, score_qn = score_all(query_qD, [(np.arange(len(value_n)), vector_nD)])
    np.testing.assert_array_equal(score_qn, query_qD[:, 1:2] * value_n.astype("f4"))


def test_no_blocks_have_no_scores():
    id_n, score_qn = score_all(np.ones((2, 5), np.float32), [])
    assert id_n.shape == (0,)
    assert score_qn.shape == (2, 0)
