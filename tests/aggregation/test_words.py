"""The visual word of each descriptor, of a codebook and of a collection."""

from __future__ import annotations

import numpy as np
import pytest

from vladkit import VLAD, Collection
from vladkit.errors import NothingToIndexError, ParameterError, ShapeError
from vladkit.images import Region


class TestVLAD:
    local_lf = np.random.default_rng(0).normal(size=(500, 6))

    @pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "f2"])
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_they_are_what_is_counted(self, dtype, metric, monkeypatch):
        local_lf = (self.local_lf * 20 + 100 * (dtype == "u1")).astype(dtype)
        vlad = VLAD(n_clusters=7, metric=metric).fit([local_lf])
        label_l = vlad.words(local_lf)
        assert label_l.dtype == np.int64
        (count_k,) = vlad.aggregate([local_lf]).count_tk
        np.testing.assert_array_equal(np.bincount(label_l, minlength=7), count_k)
        monkeypatch.setattr("vladkit.aggregation.vlad._BLOCK_VALUES", 6 * 33)
        np.testing.assert_array_equal(vlad.words(local_lf[::-1])[::-1], label_l)

    def test_by_cosine_length_is_nothing(self):
        local_lf = self.local_lf.astype(np.float32)
        vlad = VLAD(n_clusters=7, metric="cosine").fit([local_lf])
        # so short that rounding of the centroids' lengths would decide
        np.testing.assert_array_equal(vlad.words(local_lf * 2.0**-60), vlad.words(local_lf))

    def test_after_adapting_they_are_the_same(self):
        vlad = VLAD(n_clusters=7).fit([self.local_lf])
        adapted = vlad.adapt(vlad.aggregate([self.local_lf[:50] + 0.3]))
        assert not np.array_equal(adapted.centroids_, vlad.centroids_)
        np.testing.assert_array_equal(adapted.words(self.local_lf), vlad.words(self.local_lf))

    def test_none_and_what_is_refused(self):
        vlad = VLAD.from_centroids(np.eye(3, 6))
        assert vlad.words(np.empty((0, 6))).shape == (0,)
        for wrong in (np.zeros(6), np.zeros((2, 3, 6)), np.zeros((2, 5)), 3.0):
            with pytest.raises(ShapeError):
                vlad.words(wrong)
        with pytest.raises(ValueError, match="descriptor 1 of image 0"):
            vlad.words([[0.0] * 6, [np.nan] * 6])
        with pytest.raises(ValueError, match="not fitted"):
            VLAD().words(self.local_lf)


class TestCollection:
    def test_of_a_collection(self, collection, home):
        file = home / "photos" / "coffee.jpg"
        features, label_l = collection.words(file)
        assert len(features) == len(label_l)
        again, same_l = collection.words(features)
        assert again is features
        np.testing.assert_array_equal(same_l, label_l)
        np.testing.assert_array_equal(collection.words(file.read_bytes())[1], label_l)
        local_lf = collection.recipe.local(collection.extractor, features)
        (count_k,) = collection.vlad.vlads_[0].aggregate([local_lf]).count_tk
        np.testing.assert_array_equal(np.bincount(label_l, minlength=32), count_k)
        with pytest.raises(ParameterError, match=r"vocabulary=2, but .* has 2"):
            collection.words(file, vocabulary=2)
        with pytest.raises(ParameterError, match="features are given"):
            collection.words(features, region=Region(0, 0, 9, 9))

    def test_of_several_vocabularies(self, home, tmp_path):
        with Collection.create(tmp_path / "c", n_clusters=8, n_vocabularies=2) as two:
            two.add([home / "photos" / "moon.jpg", home / "photos" / "coffee.jpg"])
            features, first_l = two.words(home / "photos" / "moon.jpg")
            _, second_l = two.words(features, vocabulary=1)
            local_lf = two.recipe.local(two.extractor, features)
            for vlad, label_l in zip(two.vlad.vlads_, (first_l, second_l), strict=True):
                np.testing.assert_array_equal(vlad.words(local_lf), label_l)
        assert (first_l != second_l).any()

    def test_an_empty_collection_has_none(self, tmp_path, home):
        with (
            Collection.create(tmp_path / "c") as empty,
            pytest.raises(NothingToIndexError, match="holds no images"),
        ):
            empty.words(home / "photos" / "moon.jpg")
