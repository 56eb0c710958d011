"""Scores of vectors that axes were learned from, beside those of others."""

from __future__ import annotations

import numpy as np
import pytest

from vladkit import Whitening
from vladkit.aggregation.shrinkage import score_shrinkage, shrunk


@pytest.fixture(scope="module")
def vectors():
    """900 vectors with five strong axes in noise of many dimensions, of unit length."""
    random = np.random.default_rng(0)
    strong_nD = random.normal(size=(900, 5)) @ random.normal(size=(5, 2000))
    vector_nD = strong_nD * [[1.0]] + 2 * random.normal(size=(900, 2000))
    return (vector_nD / np.linalg.norm(vector_nD, axis=1)[:, None]).astype(np.float32)


def gram(vector_nD):
    return vector_nD.astype(np.float64) @ vector_nD.T


def true_share(vector_nD, n, n_axes):
    """Length of the vectors behind the first `n`, of which axes are, as a share of theirs."""
    whitening = Whitening(n_axes).fit(vector_nD[:n])
    score_nd = (vector_nD - whitening.mean_) @ whitening.components_.T
    square_nd = score_nd**2
    return np.sqrt(square_nd[n:].mean(axis=0) / square_nd[:n].mean(axis=0))


def test_it_is_what_others_lose(vectors):
    found_d = score_shrinkage(gram(vectors[:500]), 60)
    wanted_d = true_share(vectors, 500, 60)
    assert wanted_d[0] > 0.95
    assert wanted_d[-1] < 0.55
    np.testing.assert_allclose(found_d, wanted_d, atol=0.13)
    assert np.abs(found_d - wanted_d).mean() < 0.05


def test_it_is_that_of_a_pca_of_four_fifths(vectors):
    vector_nD = vectors[:200]
    is_held_n = np.random.default_rng(7).random(200) < 0.2
    whitening = Whitening(20).fit(vector_nD[~is_held_n])
    square_nd = ((vector_nD - whitening.mean_) @ whitening.components_.T) ** 2
    wanted_d = np.sqrt(square_nd[is_held_n].mean(axis=0) / square_nd[~is_held_n].mean(axis=0))
    found_d = score_shrinkage(gram(vector_nD), 20, random_state=7)
    np.testing.assert_allclose(found_d, np.minimum(wanted_d, 1), atol=1e-5)


def test_it_does_not_depend_on_the_origin(vectors):
    np.testing.assert_allclose(
        score_shrinkage(gram(vectors[:200]), 20),
        score_shrinkage(gram(vectors[:200] - vectors[:200].mean(axis=0)), 20),
        atol=1e-6,
    )


def test_shrunk_vectors_are_like_others(vectors):
    """Their similarities with the others are of one size then."""
    whitening = Whitening(60).fit(vectors[:500])
    short_nd = whitening.transform(vectors)
    query_nd, other_nd, own_nd = short_nd[800:], short_nd[500:800], short_nd[:500]
    share_d = score_shrinkage(gram(vectors[:500]), 60)

    def size(row_nd):
        return np.abs(row_nd @ query_nd.T).mean()

    assert size(own_nd) < 0.9 * size(other_nd)
    shrunk_nd = shrunk(own_nd, share_d, whitening.power)
    assert size(shrunk_nd) == pytest.approx(size(other_nd), rel=0.04)
    np.testing.assert_allclose(np.linalg.norm(shrunk_nd, axis=1), 1, atol=1e-6)


def test_afterwards_is_as_before_the_power(vectors):
    whitening = Whitening(20, power=0.5).fit(vectors[:100])
    share_d = np.linspace(1, 0.2, 20)
    score_nd = ((vectors[:100] - whitening.mean_) @ whitening.components_.T) * share_d
    wanted_nd = np.sign(score_nd) * np.abs(score_nd) ** 0.5
    wanted_nd /= np.linalg.norm(wanted_nd, axis=1)[:, None]
    found_nd = shrunk(whitening.transform(vectors[:100]), share_d, 0.5)
    np.testing.assert_allclose(found_nd, wanted_nd, atol=1e-5)


def test_rows_of_zeros_stay(vectors):
    assert not shrunk(np.zeros((2, 3), np.float32), np.ones(3), 0.8).any()


@pytest.mark.parametrize("n", [0, 1, 39])
def test_of_few_nothing_is_known(vectors, n):
    assert score_shrinkage(gram(vectors[:n]), 5) is None


def test_as_many_axes_as_there_can_be(vectors):
    share_d = score_shrinkage(gram(vectors[:60]), 59)
    assert share_d.shape == (59,)
    assert ((share_d > 0) & (share_d <= 1)).all()


def test_equal_vectors_lose_nothing(vectors):
    share_d = score_shrinkage(gram(np.repeat(vectors[:2], 30, axis=0)), 5)
    np.testing.assert_allclose(share_d, 1, atol=0.2)
