"""`auto` before and after Numba is loaded: the same bits, from NumPy and from compiled code."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import CASES
from vladkit import encode
from vladkit.aggregation.encode import aggregate, aggregate_unit
from vladkit.core.ragged import as_ragged
from vladkit.kernels import load, pieces, twin
from vladkit.kernels.compiled import pack
from vladkit.kernels.vector_code import width_for

pytestmark = pytest.mark.skipif(twin.rounds_once() is None, reason="compiles for another processor")


def assert_same_bits(local, centroids):
    batch = as_ragged(local)
    kernels = [load("twin").aggregate, load("fused").aggregate]
    centroid_kf = np.ascontiguousarray(centroids, batch.float_dtype)
    (residual, count), (wanted, wanted_count) = (a(batch, centroid_kf, 2) for a in kernels)
    assert residual.dtype == wanted.dtype
    np.testing.assert_array_equal(count, wanted_count)
    assert residual.tobytes() == (wanted + 0.0).tobytes()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_same_bits(case):
    assert_same_bits(*case())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("f", "k"), [(1, 2), (3, 5), (16, 40), (128, 64)])
def test_near_ties(dtype, f, k):
    """Descriptors between two centroids, some units in the last place to either side."""
    rng = np.random.default_rng(f)
    centroid_kf = rng.normal(size=(k, f)).astype(dtype)
    a, b = rng.integers(0, k, (2, 4000))
    local_Nf = (centroid_kf[a] / 2 + centroid_kf[b] / 2).astype(dtype)
    local_Nf *= (1 + rng.integers(-3, 4, (4000, f)) * np.finfo(dtype).eps).astype(dtype)
    assert_same_bits(local_Nf.reshape(4, 1000, f), centroid_kf)


def test_near_ties_do_occur():
    """Without the second look labels would differ: else the test above would not need it."""
    rng = np.random.default_rng(0)
    centroid_kf = rng.normal(size=(64, 128)).astype(np.float32)
    a, b = rng.integers(0, 64, (2, 4000))
    local_Nf = centroid_kf[a] / 2 + centroid_kf[b] / 2
    panel_kf, bias_k = twin._packed(centroid_kf)
    label_N = np.argmax(local_Nf @ panel_kf.T + bias_k, axis=1)
    assert (label_N != twin.nearest(local_Nf, centroid_kf)).sum() > 10


def test_equal_rows_that_tie_are_decided_once(monkeypatch):
    """Padding, or a blank part of an image: each row ties with every centroid."""
    decided = []
    decide = twin._decide
    monkeypatch.setattr(
        twin, "_decide", lambda x, *rest: decided.append(len(x)) or decide(x, *rest)
    )
    local_Nf = np.repeat([[1.0], [0], [-0.0], [2]], 1000, axis=0).repeat(64, axis=1)
    np.random.default_rng(0).shuffle(local_Nf)
    assert_same_bits(local_Nf.astype(np.float32).reshape(4, 1000, 64), np.eye(64))
    assert max(decided) == 3


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1, 1e6, 1e18])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sizes(scale, dtype):
    rng = np.random.default_rng(1)
    local_tlf = (rng.normal(size=(3, 200, 9)) * scale).astype(dtype)
    assert_same_bits(local_tlf, local_tlf[0, :7])
    assert_same_bits(local_tlf + dtype(scale * 100), local_tlf[0, :7] + dtype(scale * 100))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "f"), [(1, 1), (2, 1), (7, 3), (64, 128), (100, 17)])
def test_packed_as_compiled(dtype, k, f):
    rng = np.random.default_rng(2)
    for centroid_kf in (rng.normal(size=(k, f)), rng.integers(0, 9, (k, f)), np.ones((k, f))):
        given_kf = centroid_kf.astype(dtype)
        given_kf.flags.writeable = False  # as `fused` has it: else compiled once more
        width = width_for(given_kf.dtype)
        n_panels = -(-k // width)
        panel, bias = np.empty(n_panels * width * f, dtype), np.empty(n_panels * width, dtype)
        pack(given_kf, width, np.empty(f), panel, bias)
        place = np.arange(k)  # lane i of panel p is centroid i x panels + p
        lane, p = place // n_panels, place % n_panels
        panel_kf, bias_k = twin._packed(given_kf)
        compiled_kf = panel.reshape(n_panels, f, width)[p, :, lane]
        np.testing.assert_array_equal(panel_kf, compiled_kf)
        np.testing.assert_array_equal(bias_k, bias.reshape(n_panels, width)[p, lane])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_multiply_add_rounds_once(dtype, data):
    width = 32 if dtype == np.float32 else 64
    numbers = st.floats(-1e6, 1e6, width=width).filter(lambda x: x == 0 or abs(x) > 1e-6)
    a, b, c = (dtype(data.draw(numbers)) for _ in range(3))
    if data.draw(st.booleans()):  # nearly minus the product, whose rest then decides
        c = -dtype(a * b)
    got = twin._fused_multiply_add(*(np.array([x]) for x in (a, b, c)))
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert got.dtype == dtype
    assert got[0] == nearest_float(exact, dtype)


def nearest_float(exact, dtype):
    """Correctly rounded, ties to even."""
    if not exact:
        return dtype(0)
    digits = np.finfo(dtype).nmant + 1
    exponent = math.frexp(float(abs(exact)))[1]
    unit = Fraction(2) ** (exponent - digits)
    if abs(exact) / unit >= 2**digits:
        unit *= 2
    elif abs(exact) / unit < 2 ** (digits - 1):
        unit /= 2
    return dtype(float(round(exact / unit) * unit))


def test_long_images_are_cut_alike(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    monkeypatch.setattr(pieces, "_LONG", 1)  # parts of 1,024 rows
    rng = np.random.default_rng(3)
    images = [rng.normal(size=(n, 5)).astype(np.float32) for n in (3000, 0, 1024, 1025, 7)]
    assert_same_bits(images, images[0][:6])
    assert_same_bits([x.astype(np.float64) for x in images], images[0][:6])


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_in_any_process(dtype, tmp_path):
    """Before Numba is loaded, after, and on one thread or several."""
    script = (
        "import sys, numpy as np\n"
        "from vladkit import encode, segment_sum\n"
        "from vladkit.kernels import loading; loading._PRICE = np.inf\n"
        "x = (np.random.default_rng(4).normal(size=(60, 90, 24)) * 40 + 99).astype(sys.argv[1])\n"
        "first = encode(x, x[0, :20].astype(float))\n"
        "s = np.arange(5400) * 7919 % 500\n"
        "sums = segment_sum(x.reshape(-1, 24), s, 500)\n"
        "assert 'numba' not in sys.modules\n"
        "np.savez(sys.argv[2], first, sums)\n"
    )
    path = tmp_path / "first.npz"
    command = [sys.executable, "-c", script, dtype, str(path)]
    subprocess.run(command, check=True, timeout=60)
    with np.load(path) as saved:
        first, sums = saved["arr_0"], saved["arr_1"]
    x = (np.random.default_rng(4).normal(size=(60, 90, 24)) * 40 + 99).astype(dtype)
    centroids = x[0, :20].astype(float)
    for n_jobs in (1, 2, 5):
        later = encode(x, centroids, method="fused", n_jobs=n_jobs)
        assert later.tobytes() == first.tobytes()
    from vladkit import segment_sum

    again = segment_sum(x.reshape(-1, 24), np.arange(5400) * 7919 % 500, 500, method="fused")
    assert again.tobytes() == sums.tobytes()


class TestAccuracyOfSums:
    """float32, one image of many rows, where sums in float32 would lose digits."""

    @pytest.mark.parametrize("method", ["twin", "fused"])
    def test_of_one_number(self, method):
        local = np.full((1, 3_000_000, 1), 1.1, np.float32)
        got, _ = load(method).aggregate(as_ragged(local), np.zeros((1, 1), np.float32), 1)
        assert abs(got[0, 0, 0] / (3_000_000 * float(np.float32(1.1))) - 1) < 1e-7

    @pytest.mark.parametrize("method", ["auto", "fused", "sparse", "scatter", "reduceat", "cumsum"])
    def test_of_signs_that_cancel(self, method):
        rng = np.random.default_rng(5)
        local = (rng.random((2, 200_000, 2)) + 1000).astype(np.float32)
        local[:, 1::2] *= -1
        exact = local.astype(np.float64).sum(axis=1)
        got = encode(local, np.zeros((1, 2)), method=method)[:, 0]
        assert np.abs(got / exact - 1).max() < 1e-6

    def test_of_soft_assignment(self):
        n = 400_000
        local = np.full((1, n, 2), 1.1, np.float32)
        soft = {"method": "fused", "assign": "soft", "alpha": 1.0}
        got, mass = aggregate(as_ragged(local), np.zeros((2, 2)), **soft)
        assert np.abs(got / (n / 2 * float(np.float32(1.1))) - 1).max() < 1e-6
        assert np.abs(mass / (n / 2) - 1).max() < 1e-6

    def test_of_units(self):
        n = 3_000_000  # in several blocks
        local = np.ones((1, n, 2), np.float32)
        got, _ = aggregate_unit(as_ragged(local), np.zeros((1, 2)), np.zeros((1, 2)))
        assert np.abs(got / (n * np.sqrt(0.5)) - 1).max() < 1e-6


def test_one_large_image_in_any_block(monkeypatch):
    """Sums do not depend on where an image stands in a batch."""
    rng = np.random.default_rng(6)
    images = [rng.normal(size=(n, 8)).astype(np.float32) for n in (30, 5000, 1, 700, 90, 2000)]
    centroids = rng.normal(size=(5, 8))
    together = aggregate(as_ragged(images), centroids, method="fused")[0]
    for i, image in enumerate(images):
        alone = encode([image], centroids, method="fused")
        assert alone.tobytes() == together[i : i + 1].tobytes()
