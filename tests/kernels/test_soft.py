"""Soft assignment: every way that has it against the loop, its limits, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest

from compare import CASES, ORACLE, SOFT_WAYS, tolerance
from vladkit import VLAD, encode
from vladkit.aggregation.encode import aggregate
from vladkit.core.ragged import as_ragged
from vladkit.errors import NonFiniteError, ParameterError
from vladkit.kernels import METHODS, SOFT_METHODS


def spread(local):
    """Mean squared distance of descriptors to their mean: what alpha is in units of."""
    rows = np.concatenate([np.asarray(x, float).reshape(-1, x.shape[-1]) for x in local if x.size])
    return max(float(((rows - rows.mean(0)) ** 2).sum(1).mean()), 1.0)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("method", SOFT_WAYS)
def test_equals_the_loop(method, case):
    local, centroids = case()
    if not any(np.asarray(x).size for x in local):
        alpha = 1.0
    else:
        alpha = 4 / spread([np.asarray(x) for x in local])
    batch = as_ragged(local)
    soft = {"assign": "soft", "alpha": alpha}
    got, mass = aggregate(batch, centroids, method=method, **soft)
    wanted, wanted_mass = aggregate(batch, centroids, method=ORACLE, **soft)
    assert got.dtype == wanted.dtype == batch.float_dtype
    # A weight is exp of a difference of scores, each off by some eps of its terms x.c'; it
    # moves by as much, relatively. Scores of centred centroids are of the size |x| |c'|.
    centred = centroids - centroids.mean(0)
    rows = max((np.abs(np.asarray(x, float)).max(initial=0) for x in local), default=0)
    score = rows * np.abs(centred).max() * np.sqrt(batch.n_features)
    eps = np.finfo(got.dtype).eps
    loose = 1 + 8 * alpha * score
    np.testing.assert_allclose(
        got, wanted, rtol=0, atol=loose * tolerance(local, centroids, wanted)
    )
    l = int(np.diff(batch.start_T).max(initial=0))
    np.testing.assert_allclose(mass, wanted_mass, rtol=0, atol=eps * loose * (4 + l))
    np.testing.assert_allclose(mass.sum(axis=1), np.diff(batch.start_T), rtol=1e-4)


@pytest.mark.parametrize("method", [ORACLE, *SOFT_WAYS])
class TestEveryWay:
    def test_by_hand(self, method):
        # |x - c|^2 is 1 and 4: weights are 1 and exp(-alpha 3), over their sum
        weight = 1 / (1 + np.exp(-0.5 * 3))
        got = encode([np.array([[1.0]])], [[0.0], [3.0]], method=method, assign="soft", alpha=0.5)
        np.testing.assert_allclose(got.ravel(), [weight * 1, (1 - weight) * -2], rtol=1e-12)

    def test_hard_is_the_limit(self, method):
        rng = np.random.default_rng(5)
        images = [rng.normal(size=(n, 6)) for n in (30, 0, 11)]
        centroids = rng.normal(size=(5, 6))
        hard = encode(images, centroids, method=ORACLE)
        error = [
            np.abs(encode(images, centroids, method=method, assign="soft", alpha=a) - hard).max()
            for a in (1, 10, 100, 1e4)
        ]
        assert sorted(error, reverse=True) == error, "it does not come closer"
        assert error[-1] < 1e-9
        assert error[0] > 0.1

    def test_small_alpha_shares_equally(self, method):
        rng = np.random.default_rng(6)
        image, centroids = rng.normal(size=(30, 6)), rng.normal(size=(5, 6))
        got = encode([image], centroids, method=method, assign="soft", alpha=1e-12)[0]
        np.testing.assert_allclose(got, (image[:, None] - centroids).sum(0) / 5, atol=1e-9)

    def test_a_batch_equals_its_singles(self, method):
        rng = np.random.default_rng(7)
        images = [rng.normal(size=(n, 6)).astype(np.float32) for n in (3, 0, 200, 1)]
        centroids = rng.normal(size=(5, 6))
        soft = {"method": method, "assign": "soft", "alpha": 0.7}
        whole = encode(images, centroids, **soft)
        alone = np.concatenate([encode([x], centroids, **soft) for x in images if len(x)])
        np.testing.assert_allclose(whole[[0, 2, 3]], alone, atol=1e-4)
        assert not whole[1].any()

    def test_nan_and_overflow(self, method):
        with pytest.raises(NonFiniteError, match="descriptor 1 of image 0 holds nan"):
            encode([np.array([[0.0], [np.nan]])], [[0.0]], method=method, assign="soft", alpha=1)
        if method != ORACLE:  # which computes in float64
            with pytest.raises(NonFiniteError, match="overflow float32"):
                encode(np.full((1, 2, 3), 3e38, np.float32), np.diag([3e38, 1, 2]),
                       method=method, assign="soft", alpha=1)  # fmt: skip


class TestDoor:
    def test_what_does_not_fit(self):
        local, centroids = np.ones((1, 2, 3)), np.ones((2, 3))
        with pytest.raises(ParameterError, match=r"needs alpha.*inertia_"):
            encode(local, centroids, assign="soft")
        with pytest.raises(ParameterError, match="alpha=2 is for soft assignment only"):
            encode(local, centroids, alpha=2)
        with pytest.raises(ParameterError, match="assign='fuzzy': wanted 'hard' or 'soft'"):
            encode(local, centroids, assign="fuzzy", alpha=2)
        for alpha in (0, -1, np.nan, np.inf, "1"):
            with pytest.raises(ParameterError, match="wanted a number above 0"):
                encode(local, centroids, assign="soft", alpha=alpha)

    @pytest.mark.parametrize("method", sorted(set(METHODS) - set(SOFT_METHODS)))
    def test_ways_without_it_say_so(self, method):
        with pytest.raises(ParameterError, match=f"'{method}' has no soft.*loop, fused"):
            encode(np.ones((1, 2, 3)), np.ones((2, 3)), method=method, assign="soft", alpha=1)

    def test_without_a_compiler(self, monkeypatch):
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        got = encode(np.ones((1, 2, 3)), np.zeros((1, 3)), assign="soft", alpha=1)
        assert got.tolist() == [[[2, 2, 2]]]


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_threads_change_nothing(n_jobs):
    rng = np.random.default_rng(8)
    images = [rng.normal(size=(n, 12)).astype(np.float32) for n in (3000, 0, 90_000, 1, 700)]
    centroids = rng.normal(size=(40, 12))
    soft = {"method": "fused", "assign": "soft", "alpha": 0.2}
    one = encode(images, centroids, n_jobs=1, **soft)
    np.testing.assert_array_equal(encode(images, centroids, n_jobs=n_jobs, **soft), one)


class TestEstimator:
    def images(self):
        rng = np.random.default_rng(9)
        return [rng.normal(size=(n, 8)) for n in (60, 0, 90)]

    def test_transform(self):
        images = self.images()
        vlad = VLAD(5, norm="none", assign="soft", alpha=0.3).fit(images)
        wanted = encode(images, vlad.centroids_, assign="soft", alpha=0.3, method=ORACLE)
        np.testing.assert_allclose(vlad.transform(images), wanted.reshape(3, -1), atol=1e-10)

    def test_mass_step_divides_by_masses(self):
        images = self.images()
        vlad = VLAD(5, norm=("mass",), assign="soft", alpha=0.3).fit(images)
        residual, mass = aggregate(
            as_ragged(images), vlad.centroids_, assign="soft", alpha=0.3, method=ORACLE
        )
        wanted = residual[2] / mass[2][:, None]
        np.testing.assert_allclose(vlad.transform(images)[2].reshape(5, 8), wanted, atol=1e-10)
        assert not vlad.transform(images)[1].any()

    def test_save_and_load(self, tmp_path):
        images = self.images()
        vlad = VLAD(5, assign="soft", alpha=0.3).fit(images)
        vlad.save(tmp_path / "v.npz")
        again = VLAD.load(tmp_path / "v.npz")
        assert (again.assign, again.alpha) == ("soft", 0.3)
        np.testing.assert_array_equal(again.transform(images), vlad.transform(images))

    def test_parameters(self):
        with pytest.raises(ParameterError, match="needs alpha"):
            VLAD(2, assign="soft").fit(self.images())
        with pytest.raises(ParameterError, match="method='reduceat' has no soft assignment"):
            VLAD(2, assign="soft", alpha=1.0, method="reduceat").fit(self.images())


class TestGradients:
    def problem(self):
        rng = np.random.default_rng(10)
        return rng.normal(size=(2, 9, 4)), rng.normal(size=(3, 4))

    def test_torch(self):
        torch = pytest.importorskip("torch")
        local, centroids = (torch.tensor(x, requires_grad=True) for x in self.problem())

        def whole(local, centroids):
            return encode(local, centroids, assign="soft", alpha=0.4)

        def ragged(local, centroids):
            return encode([local[0, :4], local[1]], centroids, assign="soft", alpha=0.4)

        for way in (whole, ragged):
            assert torch.autograd.gradcheck(way, (local, centroids))

    def test_torch_hard_with_labels_held(self):
        torch = pytest.importorskip("torch")
        local, centroids = (torch.tensor(x, requires_grad=True) for x in self.problem())
        encode(local, centroids).sum().backward()
        assert (local.grad == 1).all()
        np.testing.assert_allclose(centroids.grad.sum(), -2 * 9 * 4)

    def test_jax(self):
        jax = pytest.importorskip("jax")
        from jax.test_util import check_grads

        with jax.enable_x64(True):
            local, centroids = map(jax.numpy.asarray, self.problem())

            def way(local, centroids, alpha):
                from vladkit.kernels.jax import residual_sums

                return residual_sums(local, centroids, alpha=alpha)

            step = jax.jit(way)
            check_grads(step, (local, centroids, 0.4), order=1, modes=["rev"])
            got = jax.jit(lambda x, c: encode(x, c, assign="soft", alpha=0.4))(local, centroids)
            np.testing.assert_allclose(got, step(local, centroids, 0.4)[0], atol=1e-12)


@pytest.mark.parametrize("method", [ORACLE, *SOFT_WAYS])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_weights_that_vanish_are_no_error(method, dtype):
    """Also where a person has asked NumPy to raise errors."""
    local = [np.array([[0, 0], [1, 1], [60, 60]], dtype)]
    centroids = np.array([[0, 1], [100, 60]], dtype)
    with np.errstate(all="raise"):
        got = encode(local, centroids, method=method, assign="soft", alpha=1.0)
    np.testing.assert_allclose(got, [[[1, -1], [-40, 0]]], atol=1e-4)
