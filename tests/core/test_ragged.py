"""`Ragged` as a sequence of images: indexing, and scikit-learn's cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

from vladkit import VLAD, Ragged
from vladkit.errors import NonFiniteError

LENGTHS = [3, 0, 2, 5, 1]


@pytest.fixture(params=["stacked", "list"])
def batch(request):
    start_T = np.cumsum([0, *LENGTHS])
    local_Nf = np.arange(start_T[-1] * 4, dtype=np.float32).reshape(-1, 4)
    stacked = Ragged(local_Nf, start_T)
    return stacked if request.param == "stacked" else Ragged.from_list(list(stacked))


class TestIndexing:
    @pytest.mark.parametrize("i", [0, 1, 4, -1, np.int64(3)])
    def test_int_gives_one_image(self, batch, i):
        np.testing.assert_array_equal(batch[i], list(batch)[i])
        np.testing.assert_array_equal(batch.image(i), list(batch)[i])

    @pytest.mark.parametrize("i", [5, -6, -12])
    def test_an_image_that_does_not_exist(self, batch, i):
        with pytest.raises(IndexError):
            batch.image(i)

    @pytest.mark.parametrize(
        ("key", "wanted"),
        [
            (slice(1, 4), [1, 2, 3]),
            (slice(None), [0, 1, 2, 3, 4]),
            (slice(None, None, -2), [4, 2, 0]),
            (slice(3, 3), []),
            ([4, 0, 0], [4, 0, 0]),
            (np.array([2, 3]), [2, 3]),
            (np.array([True, False, False, True, False]), [0, 3]),
            ((np.array([3, 1]), ...), [3, 1]),
            (np.array([], int), []),
        ],
    )
    def test_several_give_a_batch(self, batch, key, wanted):
        some = batch[key]
        assert isinstance(some, Ragged)
        assert some.shape == (len(wanted),)
        assert some.dtype == batch.dtype
        assert some.n_features == 4
        for image, i in zip(some, wanted, strict=True):
            np.testing.assert_array_equal(image, batch[i])

    def test_neighbours_of_a_stack_are_views(self, batch):
        some = batch[1:4]
        assert np.shares_memory(some[1], batch[2])
        if batch._part is None:
            assert some.is_ready()
            assert np.shares_memory(some.local_Nf, batch.local_Nf)

    @pytest.mark.parametrize("key", [5, -6, [0, 9], np.zeros((2, 2), int), "a", np.ones(3, bool)])
    def test_what_does_not_exist(self, batch, key):
        with pytest.raises(IndexError):
            batch[key]

    def test_messages_count_in_the_part(self, batch):
        local_Nf = batch.local_Nf.copy()
        local_Nf[4] = np.nan
        some = Ragged(local_Nf, batch.start_T)[2:]
        with pytest.raises(NonFiniteError, match="descriptor 1 of image 0 "):
            some.check_finite()


class TestCrossValidation:
    @pytest.fixture
    def data(self):
        rng = np.random.default_rng(0)
        y = np.arange(24) % 2
        images = [rng.normal(i, 1, size=(rng.integers(5, 20), 6)) for i in 2 * y]
        return Ragged.from_list(images), y

    def test_grid_search(self, data):
        X, y = data
        pipeline = make_pipeline(VLAD(3), LogisticRegression())
        search = GridSearchCV(pipeline, {"vlad__n_clusters": [2, 4]}, cv=3, error_score="raise")
        got = search.fit(X, y).cv_results_["mean_test_score"]
        wanted = search.fit(list(X), y).cv_results_["mean_test_score"]
        np.testing.assert_array_equal(got, wanted)
        assert search.predict(X).shape == (24,)

    def test_scores_are_those_of_a_list(self, data):
        X, y = data
        pipeline = make_pipeline(VLAD(3), LogisticRegression())
        got = cross_val_score(pipeline, X, y, cv=3, error_score="raise")
        np.testing.assert_array_equal(got, cross_val_score(pipeline, list(X), y, cv=3))

    def test_split(self, data):
        train, test, y_train, _ = train_test_split(*data, random_state=0)
        assert isinstance(train, Ragged)
        assert (len(train), len(test)) == (18, 6)
        assert len(y_train) == 18
