"""Expansion and augmentation by hand, and in blocks as at once."""

from __future__ import annotations

import numpy as np
import pytest

from vladkit import alpha_query_expansion, augment_database, average_query_expansion
from vladkit.aggregation.query_expansion import neighbor_weights
from vladkit.errors import InputError, ParameterError, ShapeError


def unit(rows):
    rows = np.asarray(rows, float)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def database():
    database_nD = unit(np.random.default_rng(0).normal(size=(23, 8))).astype(np.float32)
    database_nD[5] = 0
    return database_nD


class TestQueryExpansion:
    def test_by_hand(self):
        query_qD = np.array([[1.0, 0], [0, 1]])
        neighbor_qrD = np.array([[[0.6, 0.8], [0, 1]], [[0.6, 0.8], [-1, 0]]])
        average = average_query_expansion(query_qD, neighbor_qrD)
        np.testing.assert_allclose(average, unit([[1.6, 1.8], [-0.4, 1.8]]), atol=1e-6)
        assert average.dtype == np.float32
        # similarities .6, 0 and .8, 0
        weighted = alpha_query_expansion(query_qD, neighbor_qrD, alpha=3)
        wanted = [[1 + 0.216 * 0.6, 0.216 * 0.8], [0.512 * 0.6, 1 + 0.512 * 0.8]]
        np.testing.assert_allclose(weighted, unit(wanted), atol=1e-6)

    def test_unlike_neighbours_have_no_weight(self):
        got = alpha_query_expansion(np.array([[1.0, 0]]), np.array([[[-0.6, 0.8]]]), alpha=1)
        assert got.tolist() == [[1, 0]]

    def test_large_alpha_is_the_query(self, database):
        got = alpha_query_expansion(database[:4], database[None, 6:9].repeat(4, 0), alpha=500)
        np.testing.assert_allclose(got, database[:4], atol=1e-6)

    @pytest.mark.parametrize("dtype", [complex, bool, object, "U1"])
    def test_not_real(self, dtype):
        wrong = np.ones((2, 3)).astype(dtype)
        with pytest.raises(InputError, match="wanted real numbers"):
            average_query_expansion(np.ones((2, 3)), wrong[:, None])
        with pytest.raises(InputError, match="wanted real numbers"):
            average_query_expansion(wrong, np.ones((2, 1, 3)))
        with pytest.raises(InputError, match="wanted real numbers"):
            list(augment_database(lambda: [wrong]))

    def test_zero_stays_zero(self, database):
        got = average_query_expansion(database[5:6], database[None, :3])
        assert not got.any()

    def test_no_neighbours(self, database):
        got = average_query_expansion(database[:3], np.empty((3, 0, 8)))
        np.testing.assert_allclose(got, database[:3], atol=1e-6)

    def test_input_is_left_alone(self, database):
        query_qD = database[:2].copy()
        average_query_expansion(query_qD, database[None, :3].repeat(2, 0))
        np.testing.assert_array_equal(query_qD, database[:2])

    def test_refusals(self, database):
        for query, neighbor in ((database[:2], database[None, :3]), (database[0], database[:3])):
            with pytest.raises(ShapeError, match=r"\(q, r, D\)"):
                average_query_expansion(query, neighbor)
        for alpha in (-1, float("nan"), "3"):
            with pytest.raises(ParameterError, match="alpha"):
                alpha_query_expansion(database[:1], database[None, :3], alpha=alpha)


class TestAugmentDatabase:
    def oracle(self, database_nD, r, alpha):
        out = []
        database_nD = database_nD.astype(float)
        for i, own in enumerate(database_nD):
            others = [(float(own @ x), x) for j, x in enumerate(database_nD) if j != i]
            nearest = sorted(others, key=lambda pair: -pair[0])[:r]
            total = own + sum(max(s, 0) ** alpha * x for s, x in nearest)
            out.append(total / np.linalg.norm(total) if own.any() else own)
        return np.array(out)

    @pytest.mark.parametrize("size", [1, 4, 23, 100])
    @pytest.mark.parametrize(("r", "alpha"), [(1, 0), (3, 3), (5, 0.5), (40, 1)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_in_blocks_as_the_loop(self, database, size, r, alpha, dtype):
        database = database.astype(dtype)

        def blocks():
            return (database[i : i + size] for i in range(0, len(database), size))

        got = list(augment_database(blocks, n_neighbors=r, alpha=alpha))
        assert [len(b) for b in got] == [len(b) for b in blocks()]
        np.testing.assert_allclose(np.concatenate(got), self.oracle(database, r, alpha), atol=1e-5)

    def test_alone_and_empty(self):
        (alone,) = augment_database(lambda: [np.array([[0.6, 0.8]])])
        np.testing.assert_allclose(alone, [[0.6, 0.8]], atol=1e-6)
        assert list(augment_database(list)) == []

    def test_more_neighbors_than_vectors(self):
        """All others, in no more memory than these need."""
        database = np.array([[1.0, 0], [0.8, 0.6], [0, 1]])
        for n_neighbors in (3, 2**40, 2**70):
            many = {"n_neighbors": n_neighbors}
            ((place_nr, weight_nr),) = neighbor_weights(lambda: [database], **many)
            assert place_nr.tolist() == [[0, 1, 2, 0], [1, 0, 2, 1], [2, 1, 0, 2]]
            assert weight_nr[:, 3].tolist() == [0, 0, 0]
            (augmented,) = augment_database(lambda: [database], **many)
            (wanted,) = augment_database(lambda: [database], n_neighbors=2)
            assert augmented.tolist() == wanted.tolist()

    @pytest.mark.parametrize("alpha", [0, 1])
    def test_weights_of_zeros_are_zeros(self, alpha):
        """As the augmented vector is, whatever a neighbour without similarity counts."""
        database = np.array([[1.0, 0], [0, 0], [0, 1]])
        ((place_nr, weight_nr),) = neighbor_weights(lambda: [database], n_neighbors=2, alpha=alpha)
        (augmented,) = augment_database(lambda: [database], n_neighbors=2, alpha=alpha)
        assert augmented[1].tolist() == [0, 0]
        assert weight_nr[1].tolist() == [0, 0, 0]
        query = np.array([0.6, 0.8])
        joined_n = (weight_nr * (database @ query)[place_nr]).sum(axis=1)
        np.testing.assert_allclose(joined_n, augmented @ query, atol=1e-6)

    def test_refusals(self):
        for bad in ({"n_neighbors": 0}, {"n_neighbors": 2.5}, {"alpha": -1}):
            with pytest.raises(ParameterError):
                augment_database(list, **bad)
        with pytest.raises(InputError, match="wanted a function"):
            augment_database(np.eye(3))
        for blocks, wanted in (([np.eye(3), np.eye(2)], r"\(n, 3\) as those"), ([np.ones(3)], "D")):
            with pytest.raises(ShapeError, match=wanted):
                list(augment_database(lambda blocks=blocks: blocks))


def test_equal_vectors_are_equally_near_wherever_they_stand():
    """Ties go to the first, whatever the block: the similarity of equal vectors has equal bits."""
    rng = np.random.default_rng(0)
    vector_nD = rng.normal(size=(400, 257)).astype(np.float32)
    copies = [3, 90, 91, 222, 399]
    vector_nD[copies] = vector_nD[3]
    vector_nD = (vector_nD / np.linalg.norm(vector_nD, axis=1, keepdims=True)).astype(np.float16)
    found = []
    for cuts in ([], [100], [1, 7, 250]):
        parts = np.split(vector_nD, cuts)
        pieces = list(neighbor_weights(lambda parts=parts: parts, n_neighbors=7))
        found.append([np.concatenate(each) for each in zip(*pieces, strict=True)])
    for place_nr, weight_nr in found[1:]:
        np.testing.assert_array_equal(place_nr, found[0][0])
        np.testing.assert_allclose(weight_nr, found[0][1], rtol=1e-6)
    place_nr, _ = found[0]
    assert place_nr[90, 1:5].tolist() == [3, 91, 222, 399]
