"""Whitening against scikit-learn's PCA, by hand, and on each of its three ways of training."""

from __future__ import annotations

import json
import pickle
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from vladkit import VLAD, Whitening
from vladkit.errors import (
    FileFormatError,
    InputError,
    NonFiniteError,
    NotFittedError,
    ParameterError,
    ShapeError,
)


def vectors(n, D, seed=0):
    """Of unit length, with a mean and axes of unlike strength, float32."""
    rng = np.random.default_rng(seed)
    vector_nD = rng.normal(size=(n, D)) * np.linspace(3, 0.5, D) + 0.4
    return (vector_nD / np.linalg.norm(vector_nD, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vector_nD, axis_dD, mean_D, variance_d, exponent, power):
    y_nd = (vector_nD.astype(float) - mean_D) @ axis_dD.T / variance_d ** (exponent / 2)
    z_nd = np.sign(y_nd) * np.abs(y_nd) ** power
    return z_nd / np.linalg.norm(z_nd, axis=1, keepdims=True)


# fewer vectors than dimensions; more; more than the sample, but as long as it at most
ROUTES = [(40, 300, 4096), (400, 30, 4096), (400, 30, 30)]


@pytest.mark.parametrize("size", [1e-22, 1e20, 1e30])
def test_vectors_of_any_size(size):
    vector_nD = vectors(40, 30)
    sized_nD = (vector_nD * size).astype(np.float32)
    usual, sized = Whitening(6).fit(vector_nD), Whitening(6).fit(sized_nD)
    for view in (lambda w, x: w.transform(x), lambda w, x: w.transform_views(x.reshape(20, 2, 30))):
        np.testing.assert_allclose(view(sized, sized_nD), view(usual, vector_nD), atol=1e-4)


def test_vectors_that_float32_does_not_hold():
    vector_nD = vectors(40, 30).astype(np.float64)
    whitening = Whitening(6).fit(vector_nD)
    vector_nD[5] = 0
    vector_nD[7] *= 1e-60
    for use in (
        whitening.transform,
        Whitening(6).fit,
        lambda x: whitening.transform_views(x[None]),
    ):
        with pytest.raises(InputError, match="vector 7 is 0 in float32"):
            use(vector_nD)
    vector_nD[7] = 1e-30
    assert np.linalg.norm(whitening.transform(vector_nD)[[5, 7]], axis=1).round(6).tolist() == [
        0,
        1,
    ]


class TestFit:
    @pytest.mark.parametrize(("n", "D", "sample_size"), ROUTES)
    @pytest.mark.parametrize("exponent", [0, 0.3, 1])
    @pytest.mark.parametrize("power", [1, 0.5])
    def test_is_sklearns_pca_scaled(self, n, D, sample_size, exponent, power):
        vector_nD = vectors(n, D)
        pca = PCA(12, svd_solver="full").fit(vector_nD.astype(float))
        got = Whitening(12, exponent=exponent, power=power, sample_size=sample_size).fit(vector_nD)
        np.testing.assert_allclose(got.mean_, pca.mean_, atol=1e-6)
        variance_d = pca.explained_variance_
        np.testing.assert_allclose(got.explained_variance_, variance_d, rtol=1e-6)
        cosine_d = np.einsum("dD,dD->d", got.components_, pca.components_)
        np.testing.assert_allclose(np.abs(cosine_d), 1, atol=1e-5)
        axis_dD = pca.components_ * np.sign(cosine_d)[:, None]
        wanted = by_hand(vector_nD, axis_dD, pca.mean_, variance_d, exponent, power)
        short_nd = got.transform(vector_nD)
        assert short_nd.dtype == np.float32
        np.testing.assert_allclose(short_nd, wanted, atol=2e-4 if power < 1 else 1e-5)

    def test_defaults_are_pca_and_a_power(self):
        vector_nD = vectors(50, 80)
        plain = Whitening(5).fit(vector_nD).transform(vector_nD)
        named = Whitening(5, exponent=0, power=0.8).fit(vector_nD).transform(vector_nD)
        np.testing.assert_array_equal(plain, named)

    @pytest.mark.parametrize(("n", "D", "sample_size"), [*ROUTES, (400, 100, 60)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_blocks_are_the_array(self, n, D, sample_size, dtype):
        vector_nD = vectors(n, D).astype(dtype)
        whole = Whitening(6, sample_size=sample_size).fit(vector_nD)
        for sizes in ([n], [1, 0, 7, n // 3]):
            blocks = np.split(np.asfortranarray(vector_nD), np.cumsum(sizes))
            parts = Whitening(6, sample_size=sample_size).fit(block for block in blocks)
            np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-4)
            np.testing.assert_allclose(
                parts.explained_variance_, whole.explained_variance_, rtol=1e-5
            )

    @pytest.mark.parametrize(("n", "D", "sample_size"), [*ROUTES, (400, 30, 29)])
    @pytest.mark.parametrize("first", ["f2", "f4", "u1"])
    def test_blocks_of_unlike_dtypes(self, n, D, sample_size, first):
        """The first of small whole numbers, which every dtype holds; the others of float64."""
        vector_nD = vectors(n, D).astype(float) * 1e5
        vector_nD[:5] = np.arange(5 * D).reshape(5, D) % 7
        blocks = [vector_nD[:5].astype(first), vector_nD[5:20], vector_nD[20:]]
        mixed, wide = (Whitening(3, sample_size=sample_size).fit(b) for b in (blocks, vector_nD))
        np.testing.assert_allclose(mixed.explained_variance_, wide.explained_variance_, rtol=1e-9)
        np.testing.assert_allclose(mixed.components_, wide.components_, atol=1e-6)
        np.testing.assert_array_equal(mixed.mean_, wide.mean_)

    def test_sample_is_of_all_and_seeded(self):
        # 90 vectors along each of 6 axes, in turn: a sample of 60 holds all axes
        vector_nD = np.repeat(np.eye(6, 100, dtype=np.float32), 90, axis=0)
        vector_nD += vectors(540, 100) * np.float32(0.01)
        some = Whitening(5, sample_size=60).fit(vector_nD)
        assert some.n_samples_ == 540
        energy_n = np.linalg.norm((vector_nD - some.mean_) @ some.components_.T, axis=1)
        assert energy_n.min() > 0.8
        again = Whitening(5, sample_size=60).fit(vector_nD)
        np.testing.assert_array_equal(some.components_, again.components_)
        other = Whitening(5, sample_size=60, random_state=1).fit(vector_nD)
        assert not np.array_equal(some.components_, other.components_)
        with pytest.raises(ParameterError, match="60 vectors of 100 dimensions have 59 axes"):
            Whitening(60, sample_size=60).fit(vector_nD)

    @pytest.mark.parametrize(("n", "D", "sample_size"), [*ROUTES, (400, 100, 60)])
    def test_zero_rows_take_no_part(self, n, D, sample_size):
        vector_nD = vectors(n, D)
        holed = np.insert(vector_nD, [0, 3, n], 0, axis=0)
        with_zeros = Whitening(6, sample_size=sample_size).fit(holed)
        without = Whitening(6, sample_size=sample_size).fit(vector_nD)
        assert with_zeros.n_samples_ == n
        np.testing.assert_allclose(with_zeros.components_, without.components_, atol=1e-5)
        short_nd = with_zeros.transform(holed)
        assert (short_nd[[0, 4, n + 2]] == 0).all()
        assert np.linalg.norm(short_nd, axis=1).round(5).sum() == n

    def test_far_from_zero(self):
        vector_nD = np.random.default_rng(0).normal(size=(300, 20))
        near = Whitening(5, sample_size=200).fit(vector_nD)
        far = Whitening(5, sample_size=200).fit(vector_nD + 1e4)
        np.testing.assert_allclose(far.explained_variance_, near.explained_variance_, rtol=1e-9)

    def test_as_many_as_there_are(self):
        assert Whitening().fit(vectors(20, 50)).components_.shape == (19, 50)
        assert Whitening().fit(vectors(50, 20)).components_.shape == (20, 20)
        twice = np.concatenate([vectors(20, 50)] * 2)
        assert Whitening().fit(twice).components_.shape == (19, 50)

    def test_refuses_more_axes_than_there_are(self):
        with pytest.raises(ParameterError, match="20 vectors of 50 dimensions have 19 axes"):
            Whitening(20).fit(vectors(20, 50))
        with pytest.raises(ParameterError, match="have 20 axes"):
            Whitening(21).fit(vectors(50, 20))
        holed = np.insert(vectors(20, 50), 0, 0, axis=0)
        with pytest.raises(ParameterError, match="have 19 axes"):
            Whitening(20).fit(holed)

    @pytest.mark.parametrize("exponent", [0, 1])
    def test_duplicates_leave_axes_of_zeros(self, exponent):
        once = vectors(20, 50)
        more = Whitening(25, exponent=exponent).fit(np.concatenate([once, once]))
        short_nd = more.transform(once)
        assert short_nd.shape == (20, 25)
        assert not short_nd[:, 19:].any()
        wanted = Whitening(19, exponent=exponent).fit(once).transform(once)
        np.testing.assert_allclose(short_nd[:, :19], wanted, atol=2e-3)
        Whitening.from_state(*more.to_state())

    def test_nothing_to_learn_from(self):
        for X in (np.zeros((5, 4)), np.ones((1, 4)), iter([]), np.ones((5, 4))):
            with pytest.raises(InputError):
                Whitening(2).fit(X)
        for n in (2, 7, 40, 300):  # whose mean is rounded
            for D in (4, 4097):  # moments, then a sample
                equal = np.tile(np.random.default_rng(n).normal(size=D), (n, 1))
                with pytest.raises(InputError, match=f"all {n} vectors are the same"):
                    Whitening().fit(equal)
        with pytest.raises(InputError, match="int"):
            Whitening(2).fit(7)
        with pytest.raises(ShapeError, match="3 dimensions, those before it 4"):
            Whitening(1).fit([np.ones((2, 4)), np.ones((2, 3))])
        with pytest.raises(ShapeError):
            Whitening(1).fit([[1.0, 2.0], [3.0, 4.0]])
        for bad in (np.nan, np.inf, 1e39):
            vector_nD = vectors(9, 4).astype(float)
            vector_nD[7, 1] = bad
            with pytest.raises(NonFiniteError, match="vector 7"):
                Whitening(1).fit(vector_nD)

    @pytest.mark.parametrize(
        "bad",
        [
            {"n_components": 0},
            {"n_components": 2.0},
            {"exponent": -0.1},
            {"exponent": 1.5},
            {"exponent": "1"},
            {"exponent": float("nan")},
            {"power": 0},
            {"power": 1.1},
            {"power": None},
            {"sample_size": 1},
            {"random_state": -1},
        ],
    )
    def test_bad_parameters(self, bad):
        with pytest.raises(ParameterError):
            Whitening(**bad).fit(vectors(9, 4))

    def test_long_vectors_need_no_square_matrix(self):
        vector_nD = vectors(60, 32768)  # 32768 x 32768 would be 4 GB in float32
        tracemalloc.start()
        Whitening(16).fit(vector_nD)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # 4096 rows of the sample are reserved, 512 MB, of which 60 are written to
        assert peak - 4096 * 32768 * 4 < 100e6

    def test_memory_is_the_samples(self):
        tracemalloc.start()
        Whitening(16, sample_size=64).fit(vectors(500, 2000, seed=i) for i in range(40))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 60e6  # all vectors are 160 MB


class TestTransform:
    @pytest.fixture
    def by_state(self):
        about = {"n_components": 2, "exponent": 1, "power": 0.5, "n_samples": 9}
        arrays = {
            "mean": np.array([1, 0, 0]),
            "components": np.eye(3)[:2],
            "explained_variance": np.array([4.0, 1.0]),
        }
        return Whitening.from_state(about, arrays)

    def test_hand_computed(self, by_state):
        short_nd = by_state.transform(np.array([[5, 9, 7], [-31, -4, 1], [0, 0, 0]]))
        # (4, 9) / (2, 1) = (2, 9); (-32, -4) / (2, 1) = (-16, -4), roots (-4, -2)
        wanted = [[(2 / 11) ** 0.5, (9 / 11) ** 0.5], [-2 / 5**0.5, -1 / 5**0.5], [0, 0]]
        np.testing.assert_allclose(short_nd, wanted, atol=1e-6)

    def test_views_by_hand(self, by_state):
        # along the axes (3, 4), (6, 8), nothing, and a view of zeros: lengths 5, 10, 0, 0
        view_qvD = np.array([[[4, 4, 1], [7, 8, 5], [1, 0, 3], [0, 0, 0]]], np.float32)
        got = by_state.transform_views(view_qvD)
        np.testing.assert_allclose(np.linalg.norm(got, axis=2), [[0.5, 1, 0, 0]], atol=1e-6)
        direction = by_state.transform(view_qvD[0])
        np.testing.assert_allclose(got[0, 1], direction[1], atol=1e-6)
        np.testing.assert_allclose(got[0, 0], direction[0] / 2, atol=1e-6)

    def test_one_view_is_transform(self):
        vector_nD = vectors(30, 50)
        whitening = Whitening(8).fit(vector_nD)
        got = whitening.transform_views(vector_nD[:, None])
        np.testing.assert_allclose(got[:, 0], whitening.transform(vector_nD), atol=1e-6)
        assert whitening.transform_views(np.empty((0, 4, 50))).shape == (0, 4, 8)

    def test_turned_views_do_not_outshout(self):
        """Views unlike all that was indexed score lower than a view that is indexed."""
        rng = np.random.default_rng(0)
        vector_nD = rng.normal(size=(40, 2000)).astype(np.float32)
        view_qvD = np.stack([vector_nD, rng.normal(size=(40, 2000)).astype(np.float32)], axis=1)
        whitening = Whitening(30).fit(vector_nD)
        score_qvn = whitening.transform_views(view_qvD) @ whitening.transform(vector_nD).T
        assert score_qvn[:, 1].max() < 0.5 * score_qvn[:, 0].max(axis=1).min()

    def test_refusals(self, by_state):
        with pytest.raises(ShapeError, match="4 dimensions, the whitening was fitted on 3"):
            by_state.transform(np.ones((2, 4)))
        with pytest.raises(ShapeError):
            by_state.transform(np.ones(3))
        with pytest.raises(ShapeError):
            by_state.transform_views(np.ones((2, 3)))
        with pytest.raises(NonFiniteError):
            by_state.transform(np.array([[1, np.nan, 0]]))
        for use in (Whitening().transform, Whitening().transform_views):
            with pytest.raises(NotFittedError):
                use(np.ones((2, 2, 2)) if use.__name__ == "transform_views" else np.ones((2, 2)))
        with pytest.raises(ParameterError):
            by_state.set_params(exponent=2).transform(np.ones((1, 3)))

    def test_products_that_overflow(self):
        """As numbers, they were NaN, with a warning of NumPy."""
        whitening = Whitening(2).fit(vectors(9, 4))
        vector_nD = np.ones((3, 4), np.float32)
        vector_nD[1] = np.copysign(3e38, whitening.components_[0])
        for use in (
            whitening.transform,
            whitening._transform_alone,
            lambda X: whitening.transform_views(X[:, None]),
        ):
            with pytest.raises(NonFiniteError, match=r"vector 1 .* overflow float32"):
                use(vector_nD)

    def test_no_rows(self, by_state):
        assert by_state.transform(np.empty((0, 3))).shape == (0, 2)


class TestContract:
    def test_params_clone_pickle_pandas(self):
        pandas = pytest.importorskip("pandas")
        vector_nD = vectors(30, 50)
        whitening = Whitening(4, power=1).fit(vector_nD)
        assert repr(whitening) == "Whitening(n_components=4, power=1)"
        twin = clone(whitening)
        assert twin.get_params() == whitening.get_params()
        assert not hasattr(twin, "components_")
        back = pickle.loads(pickle.dumps(whitening))
        np.testing.assert_array_equal(back.transform(vector_nD), whitening.transform(vector_nD))
        frame = whitening.set_output(transform="pandas").transform(vector_nD)
        assert isinstance(frame, pandas.DataFrame)
        named = pandas.DataFrame(vector_nD, index=[f"{i}.jpg" for i in range(len(vector_nD))])
        assert whitening.transform(named).index.equals(named.index)
        assert whitening.fit(named).transform(named[3:5]).index.tolist() == ["3.jpg", "4.jpg"]
        assert frame.columns.tolist() == [f"whitening{i}" for i in range(4)]
        assert Whitening(2).fit(frame).n_features_in_ == 4

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_names_of_columns(self, library, tmp_path):
        frames = pytest.importorskip(library)
        vector_nD = vectors(30, 4)
        frame = frames.DataFrame({f"x{i}": vector_nD[:, i] for i in range(4)})
        whitening = Whitening(2).fit(frame)
        assert whitening.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
        assert whitening.feature_names_in_.dtype == object
        whitening.save(tmp_path / "w")
        for each in (whitening, Whitening.load(tmp_path / "w")):
            assert each.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
            np.testing.assert_array_equal(each.transform(frame), each.transform(vector_nD))
            with pytest.raises(InputError, match="column 1 of X is 'x2', that of fit was 'x1'"):
                each.transform(frame[["x0", "x2", "x1", "x3"]])
        with pytest.raises(ShapeError, match="X has 3 dimensions"):
            whitening.transform(frame[["x0", "x1", "x2"]])
        assert not hasattr(whitening.fit(vector_nD), "feature_names_in_")
        whitening.transform(frame)

    def test_names_that_are_no_text(self):
        pandas = pytest.importorskip("pandas")
        whitening = Whitening(2).fit(pandas.DataFrame(vectors(30, 4)))
        assert not hasattr(whitening, "feature_names_in_")

    def test_clones_keep_their_container(self):
        pandas = pytest.importorskip("pandas")
        twin = clone(Whitening(2).set_output(transform="pandas"))
        assert isinstance(twin.fit_transform(vectors(30, 4)), pandas.DataFrame)
        assert twin.__sklearn_tags__().transformer_tags.preserves_dtype == ["float32"]

    def test_behind_vlad(self):
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(n, 12)).astype(np.float32) for n in (60, 0, 90, 40, 20)]
        pipeline = make_pipeline(VLAD(3), Whitening(2))
        got = pipeline.fit_transform(images)
        assert got.shape == (5, 2)
        assert (got[1] == 0).all()
        np.testing.assert_array_equal(got, pipeline.transform(images))

    def test_round_trip(self, tmp_path):
        vector_nD = vectors(30, 50)
        whitening = Whitening(4, exponent=np.float64(0.25)).fit(vector_nD)
        whitening.save(tmp_path / "w")
        twin = Whitening.load(tmp_path / "w")
        np.testing.assert_array_equal(twin.transform(vector_nD), whitening.transform(vector_nD))
        assert twin.get_params() == whitening.get_params()
        assert twin.n_samples_ == 30
        about, _ = whitening.to_state()
        assert json.loads(json.dumps(about)) == about

    def test_other_files_are_refused(self, tmp_path):
        VLAD.from_centroids(np.eye(2)).save(tmp_path / "codebook")
        with pytest.raises(FileFormatError, match="'vladkit codebook' version 1, wanted"):
            Whitening.load(tmp_path / "codebook")
        about, arrays = Whitening(3).fit(vectors(9, 5)).to_state()
        for name in arrays:
            broken = {n: a[..., :-1] if n == name else a for n, a in arrays.items()}
            with pytest.raises(FileFormatError, match="damaged"):
                Whitening.from_state(about, broken)
            with pytest.raises(FileFormatError, match="damaged"):
                Whitening.from_state(about, {n: a * np.nan for n, a in arrays.items()})
            with pytest.raises(FileFormatError, match="damaged"):
                Whitening.from_state(about, {n: a for n, a in arrays.items() if n != name})
        with pytest.raises(FileFormatError, match="damaged"):
            Whitening.from_state({**about, "power": 7}, arrays)


def test_a_vector_alone_is_transformed_as_among_others():
    """To the last bit, which no product of BLAS promises; axes as a collection keeps them."""
    vector_nD = vectors(60, 3000)
    whitening = Whitening(25).fit(vector_nD)
    whitening.components_ = whitening.components_.astype(np.float16).astype(np.float32)
    short_nd = whitening._transform_alone(vector_nD)
    np.testing.assert_allclose(short_nd, whitening.transform(vector_nD), atol=2e-6)
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 16, 31):
        some = rng.permutation(60)[:n]
        np.testing.assert_array_equal(whitening._transform_alone(vector_nD[some]), short_nd[some])
