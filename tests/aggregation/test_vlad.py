"""VLAD against scikit-learn's contract, and what a codebook must survive."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import sklearn.exceptions
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from vladkit import VLAD, MultiVLAD, Ragged, Whitening, encode
from vladkit.aggregation.codebook import Reservoir, train_centroids, train_rotation
from vladkit.aggregation.encode import aggregate
from vladkit.errors import (
    FileFormatError,
    InputError,
    NonFiniteError,
    NotFittedError,
    ParameterError,
    ShapeError,
    StorageError,
)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 12)).astype(np.float32) for n in (60, 0, 90, 40, 1)]


class TestContract:
    def test_params_and_clone(self, images):
        vlad = VLAD(5, norm="vlfeat", rotation=4, random_state=3)
        assert vlad.get_params()["n_clusters"] == 5
        twin = clone(vlad.fit(images))
        assert twin.get_params() == vlad.get_params()
        assert not hasattr(twin, "centroids_")
        assert twin.set_params(n_clusters=7) is twin
        assert twin.n_clusters == 7
        with pytest.raises(ParameterError, match="n_cluster"):
            twin.set_params(n_cluster=7)
        assert repr(vlad) == "VLAD(n_clusters=5, norm='vlfeat', rotation=4, random_state=3)"
        assert repr(VLAD(norm=np.array(["ssr", "l2"]))) == "VLAD()"
        assert repr(VLAD(norm=np.array(["l2"]))).startswith("VLAD(norm=array(['l2']")

    def test_init_checks_nothing_and_fit_everything(self, images):
        for bad in (
            {"n_clusters": 0},
            {"n_clusters": 2.5},
            {"norm": "typo"},
            {"rotation": 0},
            {"rotation": 13},
            {"sample_size": 0},
            {"n_iter": 0},
            {"n_iter": 2**31},
            {"n_jobs": True},
            {"random_state": -1},
            {"random_state": 1.5},
            {"random_state": np.random.default_rng(0)},
        ):
            vlad = VLAD(**({"n_clusters": 4} | bad))
            with pytest.raises(ParameterError):
                vlad.fit(images)

    def test_pipeline(self, images):
        half = FunctionTransformer(lambda X: [x * 0.5 for x in X])
        pipeline = make_pipeline(half, VLAD(4))
        got = pipeline.fit_transform(images)
        assert got.shape == (5, 48)
        np.testing.assert_array_equal(got, pipeline.transform(images))
        check_is_fitted(pipeline[-1])
        assert repr(pipeline)

    def test_method_and_threads_of_one_call(self, images, monkeypatch):
        """What a collection asks for by call changes no parameter."""
        vlad = VLAD(4, method="reduceat", n_jobs=1).fit(images)
        several = MultiVLAD.from_vlads([vlad, VLAD(3).fit(images)])
        asked = []

        def spy(batch, centroids, *, method, n_jobs, **rest):
            asked.append((method, n_jobs))
            return aggregate(batch, centroids, method=method, n_jobs=n_jobs, **rest)

        monkeypatch.setattr("vladkit.aggregation.vlad.aggregate", spy)
        before = vlad.get_params()
        got = [vlad._encode(images, method="loop", n_jobs=2), vlad._encode(images)]
        np.testing.assert_allclose(*got, atol=1e-6)
        vlad._aggregate(images, method="loop", n_jobs=3)
        assert asked == [("loop", 2), ("reduceat", 1), ("loop", 3)]
        asked.clear()
        several._encode(images, method="cumsum", n_jobs=2)
        several.transform(images)
        assert asked == [("cumsum", 2), ("cumsum", 2), ("reduceat", 1), ("auto", None)]
        assert vlad.get_params() == before

    def test_not_fitted(self, images):
        vlad = VLAD(4)
        with pytest.raises(NotFittedError):
            vlad.transform(images)
        with pytest.raises(sklearn.exceptions.NotFittedError):
            check_is_fitted(vlad)
        with pytest.raises(sklearn.exceptions.NotFittedError) as caught:
            vlad.transform(images)
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is NotFittedError
        assert again.args == caught.value.args
        with pytest.raises(NotFittedError):
            vlad.save("never")
        with pytest.raises(AttributeError):
            _ = vlad.centroids_

    def test_names_and_output(self, images):
        pandas = pytest.importorskip("pandas")
        vlad = VLAD(2).fit(images)
        names = vlad.get_feature_names_out()
        assert names.tolist() == [f"vlad{i}" for i in range(24)]
        frame = vlad.set_output(transform="pandas").transform(images)
        assert isinstance(frame, pandas.DataFrame)
        assert frame.columns.tolist() == names.tolist()
        assert isinstance(vlad.set_output(transform="default").transform(images), np.ndarray)
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(VLAD(2).fit(images).transform(images), pandas.DataFrame)

    @pytest.mark.parametrize(
        "estimator", [VLAD(2, n_jobs=1), MultiVLAD(VLAD(2, n_jobs=1))], ids=["one", "several"]
    )
    def test_a_frame_has_the_index_of_its_input(self, images, estimator):
        pandas = pytest.importorskip("pandas")
        column = pandas.Series(images, index=list("edcba"))
        frame = estimator.set_output(transform="pandas").fit_transform(column)
        assert frame.index.tolist() == list("edcba")
        assert estimator.transform(images).index.tolist() == [0, 1, 2, 3, 4]
        short = make_pipeline(estimator, Whitening(2)).set_output(transform="pandas")
        assert short.fit_transform(column).index.tolist() == list("edcba")
        only_one = estimator.transform(column["c":"c"])
        assert only_one.index.tolist() == ["c"]

    @pytest.mark.parametrize("kind", ["fit", "partial_fit"])
    def test_no_random_state(self, images, kind):
        """Another codebook each time, but for NumPy's global seed, as in scikit-learn."""

        def trained(estimator, seed):
            np.random.seed(seed)  # noqa: NPY002
            return getattr(estimator, kind)(images).transform(images)

        few = VLAD(2, random_state=None, n_iter=1, n_jobs=1)
        for some in (few, MultiVLAD(few)):
            first, again, other = (trained(clone(some), seed) for seed in (0, 0, 1))
            np.testing.assert_array_equal(first, again)
            assert not np.array_equal(first, other)
        one, two = clone(some).fit(images).vlads_
        assert not np.array_equal(one.centroids_, two.centroids_)

    def test_large_seeds_are_not_one(self, images):
        """Their lowest 31 bits are those of 0, or of 1."""
        seeds = 0, 1, 2**31, 2**32, 2**40, 2**70, 2**31 + 1
        few = [VLAD(4, random_state=seed, n_iter=1, n_jobs=1).fit(images) for seed in seeds]
        assert len({each.centroids_.tobytes() for each in few}) == len(seeds)

    def test_no_random_state_in_a_file(self, images, tmp_path):
        VLAD(4, random_state=None).fit(images).save(tmp_path / "v.npz")
        assert VLAD.load(tmp_path / "v.npz").random_state is None

    def test_pickle(self, images):
        vlad = VLAD(4).fit(images)
        twin = pickle.loads(pickle.dumps(vlad))
        np.testing.assert_array_equal(twin.transform(images), vlad.transform(images))

    def test_n_features_in(self, images):
        vlad = VLAD(4).fit(images)
        assert vlad.n_features_in_ == 12
        with pytest.raises(ShapeError, match="12 dimensions, descriptors 5"):
            vlad.transform([np.ones((3, 5))])


class TestFit:
    def test_transform_is_encode_rotated_and_normalised(self, images):
        vlad = VLAD(6, rotation=5, norm="none").fit(images)
        wanted = encode(images, vlad.centroids_) @ vlad.rotation_
        np.testing.assert_allclose(vlad.transform(images), wanted.reshape(5, 30), atol=1e-5)
        assert vlad.rotation_.shape == (12, 5)

    def test_full_rotation_keeps_angles_between_vectors(self, images):
        plain = VLAD(6, norm="l2").fit(images).transform(images)
        rotated = VLAD(6, norm="l2", rotation=12).fit(images).transform(images)
        np.testing.assert_allclose(plain @ plain.T, rotated @ rotated.T, atol=1e-5)

    def test_repeatable_and_seeded(self, images):
        a, b = VLAD(6).fit(images), VLAD(6).fit(images)
        np.testing.assert_array_equal(a.centroids_, b.centroids_)
        assert not np.array_equal(a.centroids_, VLAD(6, random_state=1).fit(images).centroids_)

    def test_partial_fit_is_fit(self, images):
        whole = VLAD(6, sample_size=100).fit(images)
        parts = VLAD(6, sample_size=100)
        for image in images:
            parts.partial_fit([image])
        np.testing.assert_array_equal(parts.centroids_, whole.centroids_)
        parts.partial_fit(images)
        assert not np.array_equal(parts.centroids_, whole.centroids_)
        with pytest.raises(ShapeError, match="batches before"):
            parts.partial_fit([np.ones((3, 5))])

    def test_fit_forgets_what_was_before(self, images):
        vlad = VLAD(4).fit([np.random.default_rng(0).normal(size=(50, 3))])
        np.testing.assert_array_equal(vlad.fit(images).centroids_, VLAD(4).fit(images).centroids_)
        assert vlad.n_features_in_ == 12

    def test_finds_the_clusters(self):
        rng = np.random.default_rng(0)
        center_kf = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
        local_lf = center_kf[rng.integers(0, 4, 400)] + rng.normal(size=(400, 2)) * 0.1
        vlad = VLAD(4).fit([local_lf])
        found = sorted(vlad.centroids_.round().tolist())
        assert found == sorted(center_kf.astype(float).tolist())
        assert 0.01 < vlad.inertia_ < 0.03  # 2 dimensions of variance 0.01

    def test_too_few_descriptors(self):
        with pytest.raises(InputError, match="got 3 descriptors for 4 clusters"):
            VLAD(4).fit([np.ones((3, 2))])
        with pytest.raises(InputError, match="no descriptors"):
            VLAD(1).fit([np.ones((0, 2))])

    def test_as_many_descriptors_as_clusters(self):
        local_lf = np.eye(4)
        assert VLAD(4).fit([local_lf]).inertia_ == 0
        np.testing.assert_allclose(VLAD(4).fit_transform([local_lf]), np.zeros((1, 16)), atol=1e-7)

    def test_identical_descriptors(self):
        got = VLAD(3, rotation=2).fit_transform([np.full((20, 2), 7.0)])
        assert np.isfinite(got).all()

    def test_dtype(self, images):
        assert VLAD(3).fit_transform(images).dtype == np.float32
        assert VLAD(3).fit_transform([i.astype(float) for i in images]).dtype == np.float64
        small = [(i * 20 + 100).astype(np.uint8) for i in images]
        assert VLAD(3).fit_transform(small).dtype == np.float32

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("power", [-115, 110, -700, 700])
    @pytest.mark.parametrize("rotation", [None, "cell"])
    def test_any_size_has_the_same_codebook(self, dtype, power, rotation):
        """A power of 2 changes no digit, though faiss and the rotations square in float32."""
        if dtype == np.float32 and abs(power) > 126:
            return
        local_lf = np.random.default_rng(0).normal(size=(50, 4)).astype(dtype)
        sized_lf = np.ldexp(local_lf, power)
        usual, sized = (VLAD(3, rotation=rotation).fit([x]) for x in (local_lf, sized_lf))
        np.testing.assert_allclose(np.ldexp(sized.centroids_, -power), usual.centroids_, rtol=1e-6)
        np.testing.assert_allclose(
            sized.transform([sized_lf]), usual.transform([local_lf]), atol=1e-3
        )

    def test_differences_that_overflow_are_an_error_not_an_abort(self):
        local_lf = np.array([[3e38, 0], [-3e38, 0], [3e38, 1]], np.float32)
        with pytest.raises(NonFiniteError, match="differences of descriptors overflow float32"):
            VLAD(2).fit([np.repeat(local_lf, 3, axis=0)])

    def test_far_from_zero_is_clustered_as_well(self):
        local_lf = np.random.default_rng(0).normal(size=(400, 4))
        near, far = VLAD(5).fit([local_lf]), VLAD(5).fit([local_lf + 1e7])
        assert far.inertia_ == pytest.approx(near.inertia_, rel=1e-6)
        np.testing.assert_allclose(far.centroids_ - 1e7, near.centroids_, atol=1e-5)

    def test_numpy_numbers_and_large_seeds(self, images, tmp_path):
        vlad = VLAD(np.int64(4), random_state=2**32 - 1, n_iter=np.int32(3), n_jobs=np.int64(1))
        vlad.fit(images).save(tmp_path / "a")
        assert VLAD.load(tmp_path / "a").n_clusters == 4

    @pytest.mark.parametrize(
        "bad", [{"norm": None}, {"norm": [1]}, {"method": "bogus"}, {"n_jobs": 1.5}]
    )
    def test_bad_kinds_of_parameters(self, images, bad):
        with pytest.raises(ParameterError):
            VLAD(4, **bad).fit(images)

    def test_very_many_threads(self, images):
        many, one = (VLAD(4, n_jobs=n, method="fused").fit(images) for n in (10**6, 1))
        np.testing.assert_array_equal(many.transform(images), one.transform(images))

    def test_from_centroids(self, images):
        centroid_kf = np.random.default_rng(0).normal(size=(3, 12))
        got = VLAD.from_centroids(centroid_kf, norm="none").transform(images)
        np.testing.assert_array_equal(got.reshape(5, 3, 12), encode(images, centroid_kf))
        with pytest.raises(ShapeError):
            VLAD.from_centroids(centroid_kf[0])
        with pytest.raises(ShapeError):
            VLAD.from_centroids(centroid_kf, rotation=np.eye(5))


class TestReservoir:
    def test_bounded_uniform_and_repeatable(self):
        rows = np.arange(100_000, dtype=np.float64)[:, None]
        reservoir = Reservoir(5_000, seed=1)
        for part in np.array_split(rows, 37):
            reservoir.add(Ragged.from_list([part[:11], part[11:]]))
            assert sum(map(len, reservoir._row)) <= 10_000 + 100_000 // 37 + 1
        got = reservoir.rows()[:, 0]
        assert len(got) == len(np.unique(got)) == 5_000
        # Mean of a uniform sample: 50,000 +- 28,868 / sqrt(5,000) = 408; five of these allowed.
        assert abs(got.mean() - 50_000) < 2_041
        assert abs((got < 10_000).sum() - 500) < 5 * 21
        whole = Reservoir(5_000, seed=1)
        whole.add(Ragged(rows, [0, len(rows)]))
        np.testing.assert_array_equal(whole.rows()[:, 0], got)

    def test_everything_if_it_fits(self):
        reservoir = Reservoir(10, seed=0)
        reservoir.add(Ragged(np.arange(6.0)[:, None], [0, 2, 6]))
        assert reservoir.rows().ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_rotation_is_principal_axes():
    rng = np.random.default_rng(0)
    axis_ff = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    local_Nf = rng.normal(size=(20_000, 6)) * [6, 5, 4, 3, 2, 1] @ axis_ff.T + 100
    rotation_fd = train_rotation(local_Nf, 6)
    np.testing.assert_allclose(rotation_fd.T @ rotation_fd, np.eye(6), atol=1e-12)
    np.testing.assert_allclose((local_Nf @ rotation_fd).std(axis=0), [6, 5, 4, 3, 2, 1], rtol=0.03)


def test_kmeans_uses_every_row():
    # faiss alone would take 256 rows of each centroid, and warn below 39 of them.
    rng = np.random.default_rng(0)
    local_Nf = np.concatenate([rng.normal(size=(3000, 2)), rng.normal(size=(1, 2)) + 1000])
    centroid_kf, _ = train_centroids(local_Nf, 2, seed=0, n_iter=20)
    assert centroid_kf.max() > 900


class TestSaving:
    def test_round_trip(self, images, tmp_path):
        vlad = VLAD(4, rotation=3, norm="ssr,intra,l2", random_state=5).fit(images)
        path = tmp_path / "code book.bin"
        vlad.save(path)
        twin = VLAD.load(path)
        np.testing.assert_array_equal(twin.transform(images), vlad.transform(images))
        assert twin.inertia_ == vlad.inertia_
        assert twin.norm == ("ssr", "intra", "l2")
        assert [p.name for p in tmp_path.iterdir()] == ["code book.bin"]

    def test_what_was_learned_is_saved_whatever_is_set_later(self, images, tmp_path):
        vlad = VLAD(4, rotation=3).fit(images)
        vlad.set_params(n_clusters=9, rotation=None).save(tmp_path / "a")
        assert VLAD.load(tmp_path / "a").get_params()["n_clusters"] == 4

    def test_others_may_read_it(self, images, tmp_path):
        (tmp_path / "plain").touch()
        VLAD(4).fit(images).save(tmp_path / "a")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_no_pickle_inside(self, images, tmp_path):
        VLAD(4).fit(images).save(tmp_path / "a")
        with np.load(tmp_path / "a", allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)

    def test_other_files_are_refused_by_name(self, images, tmp_path):
        (tmp_path / "text").write_text("hello")
        np.savez(tmp_path / "other.npz", a=np.ones(3))
        (tmp_path / "empty").touch()
        VLAD(4).fit(images).save(tmp_path / "good")
        whole = (tmp_path / "good").read_bytes()
        (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
        np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
        for name in ("text", "other.npz", "empty", "cut", "pickled.npy"):
            with pytest.raises(FileFormatError, match=name) as caught:
                VLAD.load(tmp_path / name)
            assert "pickle" not in str(caught.value).replace("pickled.npy", "")
        with pytest.raises(StorageError, match="nothing"):
            VLAD.load(tmp_path / "nothing")

    @pytest.mark.parametrize(
        ("change", "message"),
        [({"version": 2}, "version 2"), ({"format": "x"}, "'x'")],
    )
    def test_other_versions(self, images, tmp_path, change, message):
        self.rewrite(images, tmp_path / "a", lambda header: header | change)
        with pytest.raises(FileFormatError, match=message):
            VLAD.load(tmp_path / "a")

    @pytest.mark.parametrize(
        "about", [{"n_clusters": 5}, {"rotation": 3}, {"norm": ["typo"]}, {"surprise": 1}]
    )
    def test_header_and_arrays_must_fit(self, images, tmp_path, about):
        self.rewrite(images, tmp_path / "a", lambda h: h | {"about": h["about"] | about})
        with pytest.raises(FileFormatError, match="damaged"):
            VLAD.load(tmp_path / "a")

    def rewrite(self, images, path, change):
        VLAD(4).fit(images).save(path)
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        header = change(json.loads(str(arrays.pop("header")[()])))
        with open(path, "wb") as out:
            np.savez(out, header=np.array(json.dumps(header)), **arrays)

    def test_a_failed_save_leaves_the_old_file(self, images, tmp_path, monkeypatch):
        path = tmp_path / "a"
        VLAD(4).fit(images).save(path)
        before = path.read_bytes()

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(StorageError, match="No space left"):
            VLAD(5).fit(images).save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
