"""Estimators that learn from Dask's arrays and bags, and transform them."""

from __future__ import annotations

import numpy as np
import pytest

from vladkit import ASMK, VLAD, Fisher, Whitening
from vladkit.errors import (
    InputError,
    NonFiniteError,
    NotFittedError,
    ParameterError,
    ShapeError,
)

dask = pytest.importorskip("dask", reason="the test extra has it")
da = pytest.importorskip("dask.array", reason="the test extra has it")
db = pytest.importorskip("dask.bag", reason="the test extra has it")


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def images(t=40, f=8, seed=0):
    """Images of 20 to 59 descriptors about 6 centres."""
    rng = np.random.default_rng(seed)
    center_kf = rng.normal(size=(6, f)) * 4
    return [
        (center_kf[rng.integers(6, size=20 + t)] + rng.normal(size=(20 + t, f))).astype(np.float32)
        for t in range(t)
    ]


def bag(images, n):
    return db.from_sequence(images, npartitions=n)


def square_distance(images, centroid_kf):
    row_Nf = np.concatenate(images).astype(np.float64)
    return np.square(row_Nf[:, None] - centroid_kf).sum(axis=2).min(axis=1).mean()


class TestVlad:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_does_not_depend_on_partitions_or_their_order(self, metric):
        given = images()
        parameters = {"rotation": 4, "metric": metric, "sample_size": 200, "n_iter": 4}
        one = VLAD(6, **parameters).fit(bag(given, 1))
        for several in (bag(given, 7), bag(given[::-1], 40)):
            vlad = VLAD(6, **parameters).fit(several)
            np.testing.assert_allclose(vlad.centroids_, one.centroids_, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(vlad.rotation_, one.rotation_, rtol=1e-5, atol=1e-6)
            assert vlad.inertia_ == pytest.approx(one.inertia_, rel=1e-6)

    def test_centroids_are_means_of_all_descriptors(self):
        given = images()
        vlad = VLAD(6, sample_size=30, n_iter=40).fit(bag(given, 5))
        label_N = np.concatenate([vlad.words(each) for each in given])
        row_Nf = np.concatenate(given)
        mean_kf = [row_Nf[label_N == i].mean(axis=0) for i in range(6)]
        np.testing.assert_allclose(vlad.centroids_, mean_kf, atol=1e-4)
        inertia = square_distance(given, vlad.centroids_)
        assert vlad.inertia_ == pytest.approx(inertia, rel=1e-3)

    def test_transform(self):
        given = images()
        vlad = VLAD(6, rotation=4).fit(given)
        array = da.from_array(np.stack([each[:20] for each in given]), chunks=(7, 5, -1))
        vector_tD = vlad.transform(array)
        assert (vector_tD.shape, vector_tD.dtype) == ((40, 24), np.float32)
        expected_tD = vlad.transform(array.compute())
        np.testing.assert_array_equal(vector_tD.compute(), expected_tD)
        ragged = vlad.transform(bag(given, 6).filter(lambda each: len(each) > 30))
        expected_tD = vlad.transform([each for each in given if len(each) > 30])
        np.testing.assert_array_equal(ragged.compute(), expected_tD)
        np.testing.assert_array_equal(
            VLAD(6).fit_transform(array).compute(), VLAD(6).fit(array).transform(array.compute())
        )

    def test_refused(self):
        given = bag(images(), 3)
        with pytest.raises(InputError, match="got 1580 descriptors for 3000"):
            VLAD(3000).fit(given)
        with pytest.raises(InputError, match="got 0 descriptors"):
            VLAD(3).fit(given.filter(lambda each: False))
        with pytest.raises(ParameterError, match="rotation='cell'"):
            VLAD(6, rotation="cell").fit(given)
        with pytest.raises(ParameterError, match="partial_fit keeps a sample here: give arrays"):
            VLAD(6).partial_fit(given)
        with pytest.raises((ShapeError, ValueError)):
            VLAD(6).fit(bag([*images(3, 8), *images(3, 4)], 2))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_images_without_descriptors_in_a_partition(n):
    given = [*images(3), None]
    vlad = VLAD(6).fit(bag(given, n))
    np.testing.assert_allclose(vlad.centroids_, VLAD(6).fit(bag(images(3), 1)).centroids_, 1e-6)
    vector_tD = vlad.transform(bag(given, n)).compute()
    np.testing.assert_array_equal(vector_tD, vlad.transform(given))
    with pytest.raises(InputError, match="got 0 descriptors for 6 clusters"):
        VLAD(6).fit(bag([None, np.zeros((0, 8)), []], 3))


@pytest.mark.parametrize("X", ["bag", "array"])
def test_errors_say_which_partition(X):
    given = images(12)
    for each in given:
        each[9:] = 1
    given[10][7, 3] = np.nan
    X = bag(given, 3) if X == "bag" else da.from_array(np.stack([g[:20] for g in given]), (4, 5, 8))
    where = "partition 2: descriptor 7 of image 2 holds nan in dimension 3"
    with pytest.raises(NonFiniteError, match=where):
        VLAD(6).fit(X)
    with pytest.raises(NonFiniteError, match=where):
        VLAD(6).fit(images()).transform(X).compute()
    vector_nD = np.ones((9, 4), np.float32)
    vector_nD[7, 0] = np.inf
    with pytest.raises(NonFiniteError, match="partition 2: vector 1 holds NaN"):
        Whitening(2).fit(da.from_array(vector_nD, (3, 4)))
    with pytest.raises(NonFiniteError, match="partition 1: vector 1 of block 0 holds NaN"):
        Whitening(2).fit(bag(np.split(vector_nD, 3), 2))
    with pytest.raises(NonFiniteError, match="vector 1 of block 2 holds NaN"):
        Whitening(2).fit(np.split(vector_nD, 3))


def test_an_error_between_two_steps_leaves_no_codebook(monkeypatch):
    def fail(*_, **__):
        raise OSError("a worker is gone")

    monkeypatch.setattr("vladkit.aggregation.trained.lloyd_steps", fail)
    vlad = VLAD(6)
    with pytest.raises(OSError, match="a worker is gone"):
        vlad.fit(bag(images(), 3))
    with pytest.raises(NotFittedError):
        vlad.transform(images())


@pytest.mark.parametrize("dimensions", [(8, 7), (8, 1)])
@pytest.mark.parametrize("make", [lambda: VLAD(2), lambda: ASMK(2), lambda: Whitening(1)])
def test_partitions_of_unlike_dimensions(make, dimensions):
    """Refused by name, and no mean is broadcast."""
    rng = np.random.default_rng(0)
    some = [rng.normal(size=(30, f)) for f in dimensions for _ in range(3)]
    with pytest.raises(ShapeError, match=r"rows of \d and of \d dimensions: use one extractor"):
        make().fit(db.from_sequence(some, npartitions=2))


def test_fisher_is_named():
    with pytest.raises(ParameterError, match="Fisher learns its mixture from descriptors in mem"):
        Fisher(2).fit(bag(images(), 3))


def test_asmk():
    given = images()
    one, several = (ASMK(12, sample_size=200).fit(bag(given, n)) for n in (1, 9))
    np.testing.assert_allclose(several.centroids_, one.centroids_, rtol=1e-5, atol=1e-5)
    assert several.add(given).search(given[3:4], 1)[0].tolist() == [[3]]
    with pytest.raises(ParameterError, match="idf=True"):
        ASMK(12, idf=True).fit(bag(given, 2))


def test_whitening():
    rng = np.random.default_rng(0)
    vector_nD = (rng.normal(size=(90, 12)) * np.arange(1, 13)).astype(np.float32)
    vector_nD[5] = 0
    expected = Whitening(5).fit(vector_nD)
    blocks = db.from_sequence(np.split(vector_nD, 9), npartitions=4)
    for X in (da.from_array(vector_nD, chunks=(20, 5)), blocks):
        whitening = Whitening(5).fit(X)
        np.testing.assert_allclose(whitening.mean_, expected.mean_, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            whitening.components_, expected.components_, rtol=1e-4, atol=1e-5
        )
        assert whitening.n_samples_ == 89
    short_nd = expected.transform(da.from_array(vector_nD, chunks=(20, 5)))
    np.testing.assert_allclose(short_nd.compute(), expected.transform(vector_nD), atol=1e-6)
