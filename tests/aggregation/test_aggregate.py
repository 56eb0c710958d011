"""Sums that add up and move: `Aggregate`, and what `VLAD` makes of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vladkit import VLAD, Aggregate
from vladkit.errors import InputError, NonFiniteError, NotFittedError, ParameterError, ShapeError


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 6)).astype(np.float32) for n in (60, 0, 90, 40, 1)]


def sums(n=2, dtype=np.float64):
    residual_tkf = np.arange(n * 6, dtype=dtype).reshape(n, 2, 3)
    return Aggregate(residual_tkf, np.array([[1, 2]] * n), np.ones((2, 3), dtype))


class TestAggregate:
    def test_by_hand(self):
        # descriptors 3 and 5 in the cell of 1: S = 8, n = 2, residual 6
        one = Aggregate(np.array([[[6.0]]]), np.array([[2]]), np.array([[1.0]]))
        assert one.residual([[4.0]]).tolist() == [[[0.0]]]
        assert one.residual([[0.0]]).tolist() == [[[8.0]]]
        assert one.residual([[1.0]]).tolist() == [[[6.0]]]
        assert one.residual_tkf.tolist() == [[[6.0]]]

    @pytest.mark.parametrize(
        ("dtype", "kept"), [("i8", "f8"), ("u1", "f4"), ("f2", "f4"), (">f4", "f4"), ("f8", "f8")]
    )
    def test_dtypes(self, dtype, kept):
        one = Aggregate(np.array([[[6]]], dtype), np.array([[200]], "u1"), np.array([[1]], dtype))
        assert one.residual_tkf.dtype == np.dtype(kept)
        assert one.residual([[0.5]]).tolist() == [[[106.0]]]
        assert (one + one).residual([[0.5]]).tolist() == [[[212.0]]]

    def test_lists(self):
        one = Aggregate([[[6]]], [[2]], [[1]])
        assert one.residual([[0.5]]).tolist() == [[[7.0]]]
        assert len(one) == 1

    def test_what_is_no_number(self):
        for i, name in enumerate(("residual_tkf", "count_tk", "centroid_kf")):
            given = [np.ones((1, 2, 3)), np.ones((1, 2)), np.ones((2, 3))]
            given[i] = given[i] > 0
            with pytest.raises(InputError, match=f"{name} is bool, wanted real numbers"):
                Aggregate(*given)

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            sums().count_tk = None

    def test_empty_cells_stay_zero_wherever_centroids_go(self):
        one = Aggregate(np.zeros((1, 2, 2)), np.array([[0, 0]]), np.ones((2, 2)))
        assert not one.residual(np.full((2, 2), 1e6)).any()

    def test_adds_up(self):
        both = sums() + sums()
        np.testing.assert_array_equal(both.residual_tkf, 2 * sums().residual_tkf)
        np.testing.assert_array_equal(both.count_tk, [[2, 4], [2, 4]])
        assert len(both) == 2

    def test_what_does_not_add_up(self):
        with pytest.raises(ShapeError, match="2 and of 3 images"):
            sums(2) + sums(3)
        moved = dataclasses.replace(sums(), centroid_kf=np.zeros((2, 3)))
        with pytest.raises(ParameterError, match="different centroids"):
            sums() + moved
        with pytest.raises(TypeError):
            sums() + 1

    def test_shapes_are_checked(self):
        with pytest.raises(ShapeError, match="wanted"):
            Aggregate(np.zeros((1, 2, 3)), np.zeros((1, 3)), np.zeros((2, 3)))
        with pytest.raises(ShapeError, match="wanted"):
            Aggregate(np.zeros((1, 2, 3)), np.zeros((1, 2)), np.zeros((2, 2)))
        with pytest.raises(ShapeError, match="got 1 centroids"):
            sums().residual(np.ones((1, 3)))
        with pytest.raises(ShapeError, match="2 dimensions"):
            sums().residual(np.ones((2, 2)))
        with pytest.raises(NonFiniteError):
            sums().residual(np.full((2, 3), np.nan))

    def test_keeps_digits_far_from_zero(self):
        """What S - n c would lose: descriptors around 10,000, spread 1, in float32."""
        rng = np.random.default_rng(0)
        near_lf = rng.normal(size=(500, 4))
        exact_kf = near_lf[:1] + 0.5
        far = (near_lf + 1e4).astype(np.float32)
        vlad = VLAD.from_centroids((near_lf[:1] + 1e4).astype(np.float32), norm="none")
        got = vlad.aggregate([far]).residual(exact_kf + 1e4)
        wanted = (far.astype(float) - (exact_kf + 1e4)).sum(axis=0)
        np.testing.assert_allclose(got[0, 0], wanted, atol=0.05)
        naive = far.sum(axis=0) - np.float32(500) * (exact_kf[0] + 1e4).astype(np.float32)
        assert np.abs(naive - wanted).max() > 0.2


class TestInVlad:
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"rotation": 4, "norm": "ssr,intra,l2"},
            {"rotation": "cell", "norm": "power:0.2,l2"},
            {"metric": "cosine", "norm": "anyloc"},
            {"assign": "soft", "alpha": 2.0, "norm": "mass,l2"},
        ],
    )
    def test_vectors_follow_from_sums(self, images, parameters):
        vlad = VLAD(4, **parameters).fit(images)
        got = vlad.transform_aggregate(vlad.aggregate(images))
        np.testing.assert_allclose(got, vlad.transform(images), atol=1e-6)
        other = VLAD(4, random_state=1, **parameters).fit(images)
        adapted = vlad.adapt(vlad.aggregate(images[:2]))
        assert not np.allclose(adapted.transform(images), vlad.transform(images), atol=1e-3)
        got = adapted.transform_aggregate(vlad.aggregate(images))
        np.testing.assert_allclose(got, adapted.transform(images), atol=1e-6)
        np.testing.assert_array_equal(
            adapted.aggregate(images).count_tk, vlad.aggregate(images).count_tk
        )
        with pytest.raises(ParameterError, match="other centroids"):
            vlad.transform_aggregate(other.aggregate(images))
        for use in (vlad.transform_aggregate, vlad.adapt, lambda x: vlad.adapt([x])):
            with pytest.raises(InputError, match="an object of type ndarray, wanted sums"):
                use(vlad.transform(images))

    def test_an_adapted_copy_keeps_its_container(self, images):
        pd = pytest.importorskip("pandas")
        vlad = VLAD(4).fit(images).set_output(transform="pandas")
        adapted = vlad.adapt(vlad.aggregate(images))
        assert isinstance(adapted.transform(images), pd.DataFrame)
        vlad.set_output(transform="default")
        assert isinstance(adapted.transform(images), pd.DataFrame)

    def test_sums_are_not_used_up(self, images):
        vlad = VLAD(4).fit(images)
        kept = vlad.aggregate(images)
        first = vlad.transform_aggregate(kept).copy()
        np.testing.assert_array_equal(vlad.transform_aggregate(kept), first)

    def test_parts_of_images_add_up(self, images):
        vlad = VLAD(4).fit(images)
        halves = [i[::2] for i in images], [i[1::2] for i in images]
        both = vlad.aggregate(halves[0]) + vlad.aggregate(halves[1])
        np.testing.assert_allclose(
            vlad.transform_aggregate(both), vlad.transform(images), atol=1e-6
        )

    def test_adapted_centroids_by_hand(self):
        vlad = VLAD.from_centroids([[0.0], [10.0], [100.0]], norm="none")
        batches = [[np.array([[1.0], [2.0]]), np.array([[9.0]])], [np.array([[3.0], [11.0]])]]
        adapted = vlad.adapt(vlad.aggregate(b) for b in batches)
        # means of 1, 2, 3 and of 9, 11; nothing near 100
        assert adapted.centroids_.ravel().tolist() == [2, 10, 100]
        assert vlad.centroids_.ravel().tolist() == [0, 10, 100]
        # 5.5 is nearer to 2's old centroid 10 than to 0: labels are those of before
        assert adapted.transform([np.array([[5.5]])]).tolist() == [[0, -4.5, 0]]
        assert adapted.transform([np.array([[5.9]])]).tolist() == [[0, pytest.approx(-4.1), 0]]

    def test_labels_are_those_of_before(self):
        vlad = VLAD.from_centroids([[0.0], [10.0]], norm="none")
        adapted = vlad.adapt(vlad.aggregate([np.array([[4.0], [10.0]])]))
        assert adapted.centroids_.ravel().tolist() == [4, 10]
        # 6 is nearest to 10, of 0 and 10; of 4 and 10 it would be 4
        assert adapted.transform([np.array([[6.0]])]).tolist() == [[0, -4]]

    def test_cosine_adapts_among_unit_descriptors(self):
        vlad = VLAD.from_centroids([[1.0, 0], [0, 3]], metric="cosine", norm="none")
        adapted = vlad.adapt(vlad.aggregate([np.array([[3.0, 4.0], [5, 0], [0, 7]])]))
        # (.6, .8) goes to (0, 1); the unit descriptors of a cell are averaged
        np.testing.assert_allclose(adapted.centroids_, [[1, 0], [0.3, 0.9]])
        np.testing.assert_allclose(adapted.transform([np.array([[0, 2.0]])]), [[0, 0, -0.3, 0.1]])

    def test_adapting_twice_to_the_same_changes_nothing(self, images):
        vlad = VLAD(4).fit(images)
        once = vlad.adapt(vlad.aggregate(images))
        twice = once.adapt(once.aggregate(images))
        np.testing.assert_allclose(twice.centroids_, once.centroids_, atol=1e-6)
        assert twice.label_centroids_ is vlad.centroids_

    def test_an_adapted_one_is_kept_whole(self, images, tmp_path):
        vlad = VLAD(4, rotation=3).fit(images)
        adapted = vlad.adapt(vlad.aggregate(images[:1]))
        adapted.save(tmp_path / "a")
        twin = VLAD.load(tmp_path / "a")
        np.testing.assert_array_equal(twin.transform(images), adapted.transform(images))
        assert VLAD(4).fit(images).label_centroids_ is None
        # fitting again forgets what it was adapted to
        assert adapted.fit(images).label_centroids_ is None

    def test_refusals(self, images):
        vlad = VLAD(4).fit(images)
        with pytest.raises(ParameterError, match="no aggregate"):
            vlad.adapt([])
        with pytest.raises(NotFittedError):
            VLAD(4).aggregate(images)
        unit = VLAD(4, residual="unit").fit(images)
        for use in (
            lambda: unit.aggregate(images),
            lambda: unit.adapt([]),
            lambda: unit.transform_aggregate(vlad.aggregate(images)),
        ):
            with pytest.raises(ParameterError, match="residual='plain'"):
                use()
