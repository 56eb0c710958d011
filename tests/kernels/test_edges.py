"""Numbers at the edges: any size that the dtype holds, far from 0, ties, and what is no number."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from compare import ORACLE, SOFT_WAYS, WAYS
from vladkit import VLAD, Ragged, encode, segment_sum
from vladkit.aggregation.encode import aggregate, aggregate_unit
from vladkit.core.ragged import as_ragged
from vladkit.errors import InputError, NonFiniteError, ParameterError, ShapeError

SIZES = [("f4", -123), ("f4", -75), ("f4", 70), ("f4", 115), ("f8", -1000), ("f8", 990)]
"""Dtype, and the power of 2 that all numbers are times."""


def problem(dtype):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 60, 12)).astype(dtype), rng.normal(size=(9, 12)).astype(dtype)


def needs_normal_numbers(method, power):
    """JAX has no subnormal numbers, which products of the smallest are; it says so."""
    return method == "jax" and power == -123


@pytest.mark.parametrize(("dtype", "power"), SIZES)
@pytest.mark.parametrize("method", [ORACLE, *WAYS])
class TestSizes:
    """A power of 2 changes no digit: the labels stay, and the sums are as many times larger."""

    def test_labels(self, method, dtype, power):
        local_tlf, centroid_kf = problem(dtype)
        wanted, wanted_count = aggregate(as_ragged(local_tlf), centroid_kf, method=method)
        sized = as_ragged(np.ldexp(local_tlf, power))
        if needs_normal_numbers(method, power):
            with pytest.raises(NonFiniteError, match="too small"):
                aggregate(sized, np.ldexp(centroid_kf, power), method=method)
            return
        got, count = aggregate(sized, np.ldexp(centroid_kf, power), method=method)
        np.testing.assert_array_equal(count, wanted_count)
        np.testing.assert_allclose(
            np.ldexp(got, -power), wanted, rtol=0, atol=1e-3 * (dtype == "f4")
        )


@pytest.mark.parametrize(("dtype", "power"), [("f4", -60), ("f4", 30), ("f8", -400), ("f8", 400)])
@pytest.mark.parametrize("method", SOFT_WAYS)
def test_soft_weights_of_any_size(method, dtype, power):
    local_tlf, centroid_kf = problem(dtype)
    soft = {"method": method, "assign": "soft"}
    wanted, mass = aggregate(as_ragged(local_tlf), centroid_kf, alpha=0.4, **soft)
    sized = as_ragged(np.ldexp(local_tlf, power)), np.ldexp(centroid_kf, power)
    got, got_mass = aggregate(*sized, alpha=float(np.ldexp(0.4, -2 * power)), **soft)
    np.testing.assert_allclose(got_mass, mass, rtol=1e-5)
    np.testing.assert_allclose(np.ldexp(got, -power), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", SOFT_WAYS)
def test_soft_weights_far_from_0(method):
    local_tlf, centroid_kf = (1e4 + x for x in problem("f4"))
    soft = {"assign": "soft", "alpha": 0.5}
    wanted, mass = aggregate(as_ragged(local_tlf), centroid_kf, method=ORACLE, **soft)
    got, got_mass = aggregate(as_ragged(local_tlf), centroid_kf, method=method, **soft)
    np.testing.assert_allclose(got_mass, mass, rtol=0, atol=1e-4)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [ORACLE, *WAYS])
def test_hard_is_what_soft_becomes_at_the_largest_numbers(method):
    """Squares of these overflow; the third is nearer to the second centroid."""
    local_lf = np.array([[2e38, 0], [1e38, 1e38], [-3e38, 1e38]], np.float32)
    centroid_kf = np.array([[1e38, 0], [-1e38, 0]], np.float32)
    _, count = aggregate(as_ragged([local_lf]), centroid_kf, method=method)
    assert count.tolist() == [[2, 1]]
    if method in ("fused", "torch", "jax", ORACLE):
        _, mass = aggregate(
            as_ragged([local_lf]), centroid_kf, method=method, assign="soft", alpha=1e-70
        )
        assert mass.tolist() == [[2, 1]]


@pytest.mark.parametrize("soft", [{}, {"assign": "soft", "alpha": 1.0}])
@pytest.mark.parametrize("method", ["fused", "reduceat", "torch", ORACLE])
def test_sums_that_overflow_are_refused(method, soft):
    if soft and method == "reduceat":
        return
    images = [np.zeros((4, 2), np.float32), np.full((3, 2), 2e38, np.float32)]
    for local in (images, np.stack([images[1], images[1] / 8]), [np.repeat(images[1], 90_000, 0)]):
        if method == ORACLE and len(local[0]) > 9:
            continue
        with pytest.raises(NonFiniteError, match="overflow float32"):
            encode(local, [[0.0, 0.0]], method=method, **soft)
    with pytest.raises(NonFiniteError, match="overflow float32"):
        aggregate_unit(as_ragged(images), [[-3e38, 0]], [[-3e38, 0]])


class TestTies:
    def batch(self, seed):
        """SIFT's bytes from few values: a tie in most images."""
        rng = np.random.default_rng(seed)
        centroid_kf = rng.integers(0, 4, (37, 11)) * 80
        return (rng.integers(0, 4, (3, 50, 11)) * 80).astype(np.uint8), centroid_kf

    @pytest.mark.parametrize("method", WAYS)
    def test_every_way_takes_the_lowest(self, method):
        n_ties = 0
        for seed in range(8):
            local_tlf, centroid_kf = self.batch(seed)
            square_tlk = ((local_tlf[:, :, None] - centroid_kf.astype(int)) ** 2).sum(axis=3)
            n_ties += int(((square_tlk == square_tlk.min(2, keepdims=True)).sum(2) > 1).sum())
            label_tl = square_tlk.argmin(axis=2)
            wanted = [np.bincount(label_l, minlength=37) for label_l in label_tl]
            _, count = aggregate(as_ragged(local_tlf), centroid_kf, method=method)
            np.testing.assert_array_equal(count, wanted)
        assert n_ties > 100, "there is no tie: then what is tested?"

    def test_halves_as_means_of_two(self):
        local_tlf, centroid_kf = self.batch(1)
        wanted = encode(local_tlf, centroid_kf + 0.5, method=ORACLE)
        for method in ("fused", "reduceat"):
            got = encode(local_tlf, centroid_kf + 0.5, method=method)
            np.testing.assert_array_equal(got, wanted)


def _not_real():
    """Arrays (2, 3, 4) that are no real numbers, of NumPy, torch and JAX."""
    made = {
        "complex": np.ones((2, 3, 4), np.complex64),
        "bool": np.ones((2, 3, 4), bool),
        "object": np.ones((2, 3, 4), object),
        "text": np.full((2, 3, 4), "1"),
        "bytes": np.full((2, 3, 4), b"1"),
        "date": np.zeros((2, 3, 4), "M8[s]"),
        "duration": np.zeros((2, 3, 4), "m8[s]"),
        "record": np.zeros((2, 3, 4), [("x", "f4")]),
    }
    for kind in ("torch", "jax"):
        for name in ("complex", "bool") if find_spec(kind) else ():
            made[f"{kind} {name}"] = (kind, made[name])
    return made


def made(array):
    if isinstance(array, tuple):
        kind, array = array
        library = pytest.importorskip(kind)
        array = library.tensor(array) if kind == "torch" else library.numpy.asarray(array)
    return array


@pytest.mark.parametrize("name", _not_real())
class TestNotReal:
    def test_descriptors(self, name):
        wrong = made(_not_real()[name])
        for local in (wrong, [wrong[0], wrong[1]]):
            for soft in ({}, {"assign": "soft", "alpha": 1.0}):
                with pytest.raises(InputError, match="wanted real numbers"):
                    encode(local, np.ones((2, 4)), **soft)
            with pytest.raises(InputError, match="wanted real numbers"):
                VLAD.from_centroids(np.ones((2, 4))).transform(local)
        with pytest.raises(InputError, match="wanted real numbers"):
            Ragged(np.asarray(wrong).reshape(6, 4), [0, 6])

    def test_in_a_list_after_real_ones(self, name):
        wrong = made(_not_real()[name])
        right = made((name.split()[0], np.ones((5, 4), "f4"))) if " " in name else np.ones((5, 4))
        with pytest.raises(InputError, match="wanted real numbers"):
            encode([right, wrong[0]], np.ones((2, 4)))

    def test_centroids(self, name):
        wrong = made(_not_real()[name])[0]
        for local in (np.ones((1, 2, 4), "f4"), *_own()):
            with pytest.raises(InputError, match=r"centroids are .*, wanted real numbers"):
                encode(local, wrong)
        with pytest.raises(InputError, match="wanted real numbers"):
            VLAD.from_centroids(np.ones((3, 4)), rotation=np.asarray(wrong).T)

    def test_sums(self, name):
        wrong = made(_not_real()[name])[0]
        if "bool" in name:  # which are counted, as numpy.sum does
            assert segment_sum(wrong, [1, 1, 0], 2).tolist() == [[1] * 4, [2] * 4]
            return
        for way in ({}, {"method": "reduceat"}):
            with pytest.raises(InputError, match=r"values are .*, wanted real numbers"):
                segment_sum(wrong, [1, 1, 0], 2, **way)

    def test_segments(self, name):
        wrong = made(_not_real()[name])[0, :, 0]
        for values in (np.ones((3, 2)), *(x[0, :, :2] for x in _own(3))):
            with pytest.raises(ShapeError, match="wanted one integer for each of 3 rows"):
                segment_sum(values, wrong if _same(values, wrong) else np.asarray(wrong), 2)

    def test_weights(self, name):
        wrong = made(_not_real()[name])[0, :, 0]
        if "bool" in str(wrong.dtype):  # 0 or 1
            return
        for values in (np.ones((3, 2)), *(x[0, :, :2] for x in _own(3))):
            weights = wrong if _same(values, wrong) else np.asarray(wrong)
            with pytest.raises(InputError, match=r"weights are .*, wanted real numbers"):
                segment_sum(values, [0, 1, 1], 2, weights=weights)


def _same(a, b):
    return type(a) is type(b)


def _own(l=2):
    """Real arrays (1, l, 4) of torch and JAX, where they are installed."""
    kinds = [kind for kind in ("torch", "jax") if find_spec(kind)]
    return [made((kind, np.ones((1, l, 4), np.float32))) for kind in kinds]


class TestWholeSums:
    """Integers are summed in 64 bits, as numpy.sum does, also where JAX has these off."""

    @pytest.mark.parametrize(
        ("dtype", "value"),
        [("int32", 2**31 - 1), ("int32", -(2**31)), ("uint32", 2**32 - 1), ("int8", -128),
         ("uint8", 255)],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", ["numpy", "torch", "jax"])
    def test_large(self, kind, dtype, value):
        array = np.full((5, 2), value, dtype)
        own = array if kind == "numpy" else made((kind, array))
        got = segment_sum(own, [0, 1, 1, 1, 1], 3)
        assert got.tolist() == [[value] * 2, [4 * value] * 2, [0, 0]]
        assert str(got.dtype).removeprefix("torch.") in ("int64", "uint64")

    def test_inside_jit(self):
        jax = pytest.importorskip("jax")
        values = jax.numpy.full(3, 2**30)
        assert jax.jit(lambda x: segment_sum(x, [0, 0, 0], 1))(values).tolist() == [3 * 2**30]

    def test_segments_beyond_32_bits_are_dropped(self):
        jax = pytest.importorskip("jax")
        for dtype in (np.float32, np.int32):
            values = jax.numpy.ones((5, 1), dtype)
            assert segment_sum(values, [0, 2**32, -(2**32), -1, 2], 2).tolist() == [[1], [0]]

    def test_64_unsigned_bits(self):
        torch = pytest.importorskip("torch")
        got = segment_sum(torch.tensor([2**63, 5], dtype=torch.uint64), [0, 0], 1)
        assert got.tolist() == [2**63 + 5]

    def test_number_of_segments(self):
        for values in (np.ones(1), *(x[0, 0, :1] for x in _own())):
            for wrong in (-1, 2.5, True):
                with pytest.raises(ParameterError, match="n_segments="):
                    segment_sum(values, [0], wrong)
            with pytest.raises(ShapeError, match="shape"):
                segment_sum(values[0], 0, 1)
