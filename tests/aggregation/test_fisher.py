"""Fisher vectors against a plain loop, scikit-image's, and scikit-learn's contract."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import sklearn.exceptions
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from vladkit import VLAD, Fisher, Ragged, Whitening
from vladkit.errors import (
    FileFormatError,
    InputError,
    MissingDependencyError,
    NonFiniteError,
    NotFittedError,
    ParameterError,
    ShapeError,
)
from vladkit.kernels import fused, loop
from vladkit.kernels.mixture import Mixture

PLAIN = {"norm": "none", "n_jobs": 1}


def made(k=5, f=7, seed=0, far=0.0, spread=1.0):
    """A mixture as (weights, means, covariances)."""
    rng = np.random.default_rng(seed)
    mean_kf = far + spread * rng.normal(size=(k, f))
    return rng.dirichlet(np.ones(k) * 3), mean_kf, spread**2 * rng.uniform(0.2, 2, size=(k, f))


def drawn(mixture, lengths=(60, 0, 1, 3, 300), dtype=np.float64, seed=1):
    """Images of descriptors drawn from a mixture."""
    rng, (weight_k, mean_kf, variance_kf) = np.random.default_rng(seed), mixture
    images = []
    for n in lengths:
        chosen = rng.choice(len(weight_k), n, p=weight_k)
        noise = rng.normal(size=(n, mean_kf.shape[1])) * np.sqrt(variance_kf[chosen])
        images.append((mean_kf[chosen] + noise).astype(dtype))
    return images


def by_loop(image_lf, weight_k, mean_kf, variance_kf):
    """Three parts of the plain vector, descriptor by descriptor, posteriors by log-sum-exp."""
    k, f = mean_kf.shape
    parts = np.zeros(k), np.zeros((k, f)), np.zeros((k, f))
    for x in image_lf.astype(np.float64):
        log_k = [
            np.log(w) - 0.5 * sum(np.log(2 * np.pi * v) + (x - m) ** 2 / v)
            for w, m, v in zip(weight_k, mean_kf, variance_kf, strict=True)
        ]
        for j, p in enumerate(np.exp(log_k - np.logaddexp.reduce(log_k))):
            y = (x - mean_kf[j]) / np.sqrt(variance_kf[j])
            parts[0][j] += (p - weight_k[j]) / np.sqrt(weight_k[j])
            parts[1][j] += p * y / np.sqrt(weight_k[j])
            parts[2][j] += p * (1 - y * y) / np.sqrt(2 * weight_k[j])
    return np.concatenate([part.ravel() for part in parts]) / max(len(image_lf), 1)


class TestValues:
    @pytest.mark.parametrize(
        ("k", "f", "far", "spread"),
        [(1, 1, 0, 1), (5, 7, 0, 1), (16, 8, 0, 1), (35, 13, 0, 1), (3, 50, 0, 1),
         (5, 7, 1e4, 1), (5, 7, 0, 1e-6), (5, 7, 1e3, 1e-3)],
    )  # fmt: skip
    def test_equals_the_loop(self, k, f, far, spread):
        mixture = made(k, f, far=far, spread=spread)
        images = drawn(mixture)
        fisher = Fisher.from_mixture(*mixture, **PLAIN)
        wanted = np.array([by_loop(image, *mixture) for image in images])
        size = np.abs(wanted).max()
        # the numbers themselves, and their squares, have lost far / spread
        lost = 1 + (far / spread) ** 2 * 1e-3
        np.testing.assert_allclose(fisher.transform(images), wanted, atol=1e-12 * size * lost)
        narrow = [image.astype(np.float32) for image in images]
        wanted = np.array([by_loop(image, *mixture) for image in narrow])
        got = fisher.transform(narrow)
        assert got.dtype == np.float32
        loose = 2e-5 if far < 1e4 * spread else 1e-1
        np.testing.assert_allclose(got, wanted, atol=loose * size)

    def test_by_hand(self):
        # far apart, so that posteriors are 0 and 1: y is 1 and -2 in the first, 3 in the second
        fisher = Fisher.from_mixture([0.5, 0.5], [[0.0], [100.0]], [[1.0], [4.0]], **PLAIN)
        got = fisher.transform([np.array([[1.0], [-2.0], [106.0]])])
        root = np.sqrt(0.5)
        weights = [(2 - 1.5) / 3 / root, (1 - 1.5) / 3 / root]
        means = [-1 / 3 / root, 3 / 3 / root]
        covariances = [(0 - 3) / 3 / 1, (1 - 9) / 3 / 1]
        np.testing.assert_allclose(got[0], [*weights, *means, *covariances], rtol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_equals_scikit_image(self, dtype):
        feature = pytest.importorskip("skimage.feature")
        images = drawn(made(12, 20), (300, 40, 700), dtype)
        gmm = feature.learn_gmm(
            images, n_modes=8, gm_args={"random_state": 0, "covariance_type": "diag"}
        )
        fisher = Fisher.from_mixture(gmm.weights_, gmm.means_, gmm.covariances_)
        # its own float32 is up to 2e-5 away from its float64
        for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
            setattr(gmm, name, getattr(gmm, name).astype(np.float64))
        for norm, options in (
            ("none", {}),
            (("ssr", "l2"), {"improved": True}),
            (("power:0.7", "l2"), {"improved": True, "alpha": 0.7}),
        ):
            got = fisher.set_params(norm=norm).transform(images)
            for got_D, image in zip(got, images, strict=True):
                wanted_D = feature.fisher_vector(image.astype(np.float64), gmm, **options)
                error = np.linalg.norm(got_D - wanted_D) / np.linalg.norm(wanted_D)
                assert error < (1e-12 if dtype == np.float64 else 2e-6)

    def test_tiny_variances_and_far_descriptors(self):
        """Densities that are 0 in floats: the nearest Gaussian takes all, whatever its distance."""
        mean_kf, variance_kf = np.array([[0.0, 0], [1, 0]]), np.array([[1e-12, 1], [1e-12, 1]])
        fisher = Fisher.from_mixture([0.5, 0.5], mean_kf, variance_kf, gradients="weights", **PLAIN)
        for dtype in (np.float32, np.float64):
            image = np.array([[0.4, 0], [0.6, 0], [50, 3], [1e4, 0]], dtype)
            got = fisher.transform([image])[0]
            np.testing.assert_allclose(got, np.array([-0.25, 0.25]) / np.sqrt(0.5), rtol=1e-6)

    def test_parts(self):
        mixture = made(3, 4)
        images = drawn(mixture)
        whole = Fisher.from_mixture(*mixture, **PLAIN).transform(images)
        for gradients, columns in (
            ("weights", slice(3)),
            ("means", slice(3, 15)),
            (["covariances"], slice(15, 27)),
            (("covariances", "means"), slice(3, 27)),
        ):
            fisher = Fisher.from_mixture(*mixture, gradients=gradients, **PLAIN)
            got = fisher.transform(images)
            assert got.shape[1] == fisher.n_features_out == len(fisher.get_feature_names_out())
            np.testing.assert_allclose(got, whole[:, columns], rtol=1e-12)

    def test_a_rotation_of_descriptors(self):
        mixture = made(4, 3)
        rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0][:, :3]
        images = [np.random.default_rng(n).normal(size=(n, 6)) for n in (30, 0, 9)]
        fisher = Fisher.from_mixture(*mixture, rotation=rotation)
        assert (fisher.rotation, fisher.n_features_in_, fisher.n_components) == (3, 6, 4)
        short = Fisher.from_mixture(*mixture).transform([image @ rotation for image in images])
        np.testing.assert_allclose(fisher.transform(images), short, atol=1e-12)
        np.testing.assert_array_equal(fisher.transform(images[:1])[0], fisher.transform(images)[0])

    def test_every_input_and_any_threads_give_the_same_bits(self):
        mixture = made(20, 9)
        images = drawn(mixture, (200, 0, 31, 9_000), np.float32)
        fisher = Fisher.from_mixture(*mixture, n_jobs=1)
        wanted = fisher.transform(images)
        assert not wanted[1].any()
        batch = Ragged(np.concatenate(images), [0, 200, 200, 231, 9_231])
        many = [*images, *images * 20]
        for n_jobs in (1, 2, 3):
            fisher.set_params(n_jobs=n_jobs)
            np.testing.assert_array_equal(fisher.transform(batch), wanted)
            np.testing.assert_array_equal(fisher.transform(many)[-4:], wanted)
        for i in range(4):
            np.testing.assert_array_equal(
                fisher.transform(images[i : i + 1] if i != 1 else batch[[1]])[0], wanted[i]
            )
        even = np.stack([images[0][:30], images[2][:30]])
        strided = np.asfortranarray(even)
        np.testing.assert_array_equal(fisher.transform(even), fisher.transform(strided))
        half = even.astype(np.float16)
        np.testing.assert_array_equal(fisher.transform(half), fisher.transform(half.astype("f4")))

    def test_a_very_long_image(self):
        """It is cut, and its parts are added up: as the mean of its halves."""
        mixture = made(4, 40)
        (image,) = drawn(mixture, (70_000,))
        fisher = Fisher.from_mixture(*mixture, norm="none")
        half = fisher.transform([image[:35_000], image[35_000:]]).mean(axis=0)
        np.testing.assert_allclose(fisher.transform([image])[0], half, atol=1e-13)

    def test_without_the_compiler(self, monkeypatch):
        mixture = made()
        images = drawn(mixture, (60, 0, 3))
        fisher = Fisher.from_mixture(*mixture)
        wanted = fisher.transform(images)
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        np.testing.assert_allclose(fisher.transform(images), wanted, atol=1e-13)


class TestTraining:
    def test_as_likely_as_scikit_learn(self):
        images = drawn(made(6, 5, seed=3), (500, 0, 900), seed=4)
        fisher = Fisher(6).fit(images)
        row = np.concatenate(images)
        gmm = GaussianMixture(6, covariance_type="diag", random_state=0).fit(row)
        assert fisher.log_likelihood_ == pytest.approx(gmm.lower_bound_, abs=0.02)
        theirs = GaussianMixture(6, covariance_type="diag")
        theirs.weights_, theirs.means_ = fisher.weights_, fisher.means_
        theirs.covariances_ = fisher.covariances_
        theirs.precisions_cholesky_ = 1 / np.sqrt(fisher.covariances_)
        assert theirs.score(row) == pytest.approx(fisher.log_likelihood_, abs=1e-2)

    def test_does_not_depend_on_the_unit(self):
        images = drawn(made(3, 4), (400,))
        one = Fisher(3, rotation=2).fit(images)
        other = Fisher(3, rotation=2).fit([image * 1024 for image in images])
        np.testing.assert_allclose(other.means_, one.means_ * 1024, rtol=1e-6)
        np.testing.assert_allclose(other.covariances_, one.covariances_ * 2.0**20, rtol=1e-6)
        np.testing.assert_allclose(other.log_likelihood_, one.log_likelihood_ - 2 * np.log(1024))

    @pytest.mark.parametrize("method", [fused, loop])
    def test_posteriors_that_vanish_are_no_error(self, method):
        """Also where a person has asked NumPy to raise errors."""
        mixture = Mixture(np.full(2, 0.5), np.array([[0.0], [90]]), np.ones((2, 1)))
        with np.errstate(all="raise"):
            _, mass_tk = method.aggregate_mixture(Ragged([[1.0], [88]], [0, 2]), mixture, 1)
        np.testing.assert_array_equal(mass_tk, [[1, 1]])

    def test_partial_batches_give_the_same(self):
        images = drawn(made(3, 4), (300, 0, 200, 90), np.float32)
        whole = Fisher(3, sample_size=250).fit(images)
        parts = Fisher(3, sample_size=250).partial_fit(images[:1]).partial_fit(images[1:])
        np.testing.assert_array_equal(parts.means_, whole.means_)
        np.testing.assert_array_equal(parts.transform(images), whole.transform(images))
        with pytest.raises(ShapeError, match="5 dimensions"):
            parts.partial_fit([np.ones((2, 4))]).partial_fit([np.ones((2, 5))])

    def test_a_constant_dimension(self):
        images = drawn(made(3, 4), (400,))
        images[0][:, 2] = 7
        fisher = Fisher(3).fit(images)
        assert fisher.covariances_.min() > 0
        assert np.isfinite(fisher.transform(images)).all()

    def test_needs_scikit_learn_to_fit_only(self, monkeypatch):
        fisher = Fisher.from_mixture(*made())
        monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
        fisher.transform(drawn(made()))
        with pytest.raises(MissingDependencyError, match=r"vladkit\[fisher\]"):
            Fisher(2).fit(drawn(made()))


class TestContract:
    @pytest.fixture
    def images(self):
        return drawn(made(4, 6), (60, 0, 90, 40, 1), np.float32)

    def test_params_and_clone(self, images):
        fisher = Fisher(4, norm="none", rotation=4, random_state=3)
        twin = clone(fisher.fit(images))
        assert twin.get_params() == fisher.get_params()
        assert not hasattr(twin, "means_")
        assert repr(fisher) == "Fisher(n_components=4, norm='none', rotation=4, random_state=3)"
        with pytest.raises(ParameterError, match="n_cluster"):
            fisher.set_params(n_clusters=7)

    def test_init_checks_nothing_and_fit_everything(self, images):
        for bad in (
            {"n_components": 0},
            {"norm": "typo"},
            {"norm": ("intra", "l2")},
            {"gradients": ()},
            {"gradients": "mean"},
            {"gradients": 3},
            {"gradients": None},
            {"gradients": [["means"]]},
            {"n_iter": 2**31},
            {"n_jobs": True},
            {"rotation": 0},
            {"rotation": 7},
            {"n_iter": 0},
            {"n_jobs": 0},
            {"random_state": -1},
        ):
            fisher = Fisher(**({"n_components": 3} | bad))
            with pytest.raises(ParameterError):
                fisher.fit(images)
        with pytest.raises(InputError, match="fewer"):
            Fisher(400).fit(images)
        with pytest.raises(InputError, match="got 1 descriptor, wanted at least 2"):
            Fisher(1).fit([np.ones((1, 4))])
        wide = [each.astype(np.float64) for each in images]
        for scale in (1e200, 1e-200):
            with pytest.raises(NonFiniteError, match="variances overflow float64, or vanish"):
                Fisher(2).fit([each * scale for each in wide])

    def test_constant_descriptors(self, images):
        """One place has no spread, and its Gaussians no gradient; nor has a constant dimension."""
        same = np.full((2, 20, 3), 0.7)
        fisher = Fisher(2, norm="none", gradients=("weights", "means")).fit(same)
        assert np.abs(fisher.transform(same)).max() < 1e-6
        assert np.abs(fisher.transform(same + 1e-9)).max() < 1e-6  # not a spread of 1e-16
        column = [np.hstack([each, np.ones((len(each), 1))]) for each in images]
        fisher = Fisher(2, norm="none", gradients="means").fit(column)
        vector_tkf = fisher.transform(column).reshape(len(images), 2, -1)
        assert np.abs(vector_tkf[:, :, -1]).max() < 1e-6 < np.abs(vector_tkf[:, :, 0]).max()

    def test_not_fitted(self, images):
        fisher = Fisher(4)
        for call in (lambda: fisher.transform(images), lambda: fisher.save("never")):
            with pytest.raises(NotFittedError):
                call()
        with pytest.raises(sklearn.exceptions.NotFittedError):
            check_is_fitted(fisher)
        with pytest.raises(AttributeError):
            _ = fisher.means_

    def test_names_output_and_pipeline(self, images):
        pandas = pytest.importorskip("pandas")
        fisher = Fisher(2, gradients="means").fit(images)
        frame = fisher.set_output(transform="pandas").transform(
            pandas.Series(images, list("abcde"))
        )
        assert frame.columns.tolist() == [f"fisher{i}" for i in range(12)]
        assert frame.index.tolist() == list("abcde")
        short = make_pipeline(Fisher(2, n_jobs=1), Whitening(2)).fit(images).transform(images)
        assert short.shape == (5, 2)

    def test_a_file(self, images, tmp_path):
        fisher = Fisher(3, rotation=4, gradients=["covariances", "means"], norm="ssr").fit(images)
        fisher.set_params(n_components=9)
        fisher.save(tmp_path / "mixture.npz")
        again = Fisher.load(tmp_path / "mixture.npz")
        assert again.get_params() == fisher.get_params() | {
            "n_components": 3, "gradients": ("means", "covariances"), "norm": ("ssr",),
        }  # fmt: skip
        assert again.log_likelihood_ == fisher.log_likelihood_
        np.testing.assert_array_equal(again.transform(images), fisher.transform(images))
        about, arrays = fisher.to_state()
        for damaged in (about | {"n_components": 4}, {}):
            with pytest.raises(FileFormatError, match="damaged vladkit mixture"):
                Fisher.from_state(damaged, arrays)
        VLAD.from_centroids(np.ones((2, 2))).save(tmp_path / "codebook.npz")
        with pytest.raises(FileFormatError, match="vladkit codebook"):
            Fisher.load(tmp_path / "codebook.npz")

    def test_bad_mixtures(self):
        weights, means, covariances = made()
        for bad, error, match in (
            ((weights[:4], means, covariances), ShapeError, r"weights \(4,\)"),
            ((weights, means[0], covariances), ShapeError, "means have shape"),
            ((weights, means, covariances[:, :3]), ShapeError, r"covariances \(5, 3\)"),
            ((weights * 2, means, covariances), ParameterError, "sum to 2"),
            (([1, 0, 0, 0, 0], means, covariances), ParameterError, "least is 0"),
            ((weights, means, covariances * 0), ParameterError, "covariances is 0"),
            ((weights, means * np.nan, covariances), NonFiniteError, "means hold NaN"),
            ((weights, means > 0, covariances), InputError, "means are bool"),
        ):
            with pytest.raises(error, match=match):
                Fisher.from_mixture(*bad)
        with pytest.raises(ShapeError, match=r"wanted \(f_in, 7\)"):
            Fisher.from_mixture(weights, means, covariances, rotation=np.eye(6))

    def test_bad_descriptors(self, images):
        fisher = Fisher.from_mixture(*made(4, 6))
        with pytest.raises(ShapeError, match="5 dimensions"):
            fisher.transform([np.ones((3, 5))])
        images[2][7, 1] = np.nan
        for rotation in (None, np.eye(6)):
            with pytest.raises(NonFiniteError, match="image 2"):
                Fisher.from_mixture(*made(4, 6), rotation=rotation).transform(images)
        with pytest.raises(NonFiniteError, match="overflow"):
            fisher.transform([np.full((2, 6), 1e30, np.float32)])
        rotated = Fisher.from_mixture(*made(4, 6), rotation=np.full((6, 6), 6**-0.5))
        with pytest.raises(NonFiniteError, match="overflow float32"):  # not: "holds inf"
            rotated.transform([np.full((2, 6), 3e38, np.float32)])
