"""`segment_sum`: every way against the loop, and what NumPy users expect of a scatter-reduce."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import ORACLE, SEGMENT_CASES, WAYS
from vladkit import encode, segment_sum
from vladkit.errors import MemoryLimitError, ParameterError, ShapeError
from vladkit.kernels import mask


def assert_equal_sums(values, segment, n_segments, method):
    got = segment_sum(values, segment, n_segments, method=method)
    wanted = segment_sum(values, segment, n_segments, method=ORACLE)
    assert got.shape == wanted.shape == (n_segments, *values.shape[1:])
    assert got.dtype == wanted.dtype
    if got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, wanted)
        return
    # A sum of m terms rounds m times by half an eps of what has been summed so far.
    m = np.bincount(segment, minlength=1).max(initial=1)
    size = max(np.abs(values).max(initial=0), np.abs(wanted).max(initial=0))
    roundings = 2 * np.sqrt(m) + 4
    if method == "cumsum" and got.dtype == np.float64:  # of a prefix over 256 rows, not of a sum
        roundings += np.sqrt(256)
    atol = float(np.finfo(got.dtype).eps * roundings * size)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("method", [*WAYS, "auto"])
class TestEveryWay:
    @pytest.mark.parametrize(
        ("case", "n_segments"), SEGMENT_CASES, ids=lambda c: getattr(c, "name", str(c))
    )
    def test_equals_the_loop(self, method, case, n_segments):
        values, segment = case()
        assert_equal_sums(values, segment, n_segments, method)

    def test_layouts(self, method):
        values, segment = SEGMENT_CASES[0][0]()
        for view in (np.asfortranarray(values), values[:, ::2], values[::-1], values.astype(">f4")):
            assert_equal_sums(view, segment.astype(np.int16), 20, method)

    def test_nan_stays_in_its_segment(self, method):
        values = np.ones((6, 2))
        values[1, 0], values[4, 1] = np.nan, np.inf
        got = segment_sum(values, [0, 1, 2, 0, 3, 4], 6, method=method)
        assert np.isnan(got[1, 0])
        assert np.isposinf(got[3, 1])
        got[1, 0] = got[3, 1] = 1
        assert got.tolist() == [[2, 2], [1, 1], [1, 1], [1, 1], [1, 1], [0, 0]]

    @pytest.mark.parametrize("weight", ["f4", "f2", "i8"])
    def test_weights_are_multiplied_in_float64(self, method, weight):
        """(1 + e)^2 - 1 - 2e of float32 is e^2, and 2^24 + 1 no float32."""
        a = np.float32(1 + 2.0**-10 if weight == "f2" else 1 + 2.0**-23)
        weights = np.array([a, 1, -2.0 * float(a - 1)], weight)
        value = np.array([a, -1, 1], "f4")
        wanted = np.float32(float(a - 1) ** 2)
        if weight == "i8":
            value, weights = np.array([1, 1, 0.5], "f4"), np.array([2**24 + 1, -(2**24), 4])
            wanted = 3
        got = segment_sum(value, [0, 0, 0], 2, weights=weights, method=method)
        assert got.dtype == np.float32
        assert got.tolist() == [wanted, 0]

    def test_input_is_only_read(self, method):
        values, segment = SEGMENT_CASES[0][0]()
        values.flags.writeable = segment.flags.writeable = False
        assert_equal_sums(values, segment, 20, method)

    def test_no_segments(self, method):
        assert segment_sum(np.ones((0, 3)), [], 0, method=method).shape == (0, 3)

    def test_out_of_range(self, method):
        for bad in (-1, 4):
            with pytest.raises(ParameterError, match=rf"segment\[1\] is {bad}, wanted 0 to 3"):
                segment_sum(np.ones((3, 2)), [0, bad, 1], 4, method=method)


@pytest.mark.parametrize("method", WAYS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_rows(method, data):
    n, f, s = data.draw(st.tuples(st.integers(0, 60), st.integers(1, 6), st.integers(1, 25)))
    whole = st.integers(-1000, 1000)
    values = data.draw(hnp.arrays(np.float32, (n, f), elements=whole.map(float)))
    segment = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, s - 1)))
    got = segment_sum(values, segment, s, method=method)
    wanted = segment_sum(values, segment, s, method=ORACLE)
    np.testing.assert_array_equal(got, wanted)  # whole numbers: exact, in any order


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 7])
def test_threads_change_nothing(n_jobs):
    values, segment = SEGMENT_CASES[0][0]()
    one = segment_sum(values, segment, 20, method="fused", n_jobs=1)
    np.testing.assert_array_equal(
        segment_sum(values, segment, 20, method="fused", n_jobs=n_jobs), one
    )


class TestErrors:
    def test_shapes(self):
        with pytest.raises(ShapeError, match=r"segment has shape \(2,\).* each of 3 rows"):
            segment_sum(np.ones((3, 2)), [0, 1], 4)
        with pytest.raises(ShapeError, match="dtype float64, wanted one integer"):
            segment_sum(np.ones((3, 2)), [0.0, 1.0, 1.0], 4)
        with pytest.raises(ShapeError, match=r"shape \(\), wanted \(N, ...\)"):
            segment_sum(np.float32(3), [], 4)

    def test_number(self):
        with pytest.raises(ParameterError, match="n_segments=-1"):
            segment_sum(np.ones((0, 2)), [], -1)
        with pytest.raises(ParameterError, match="wanted an integer"):
            segment_sum(np.ones((1, 2)), [0], 2.5)

    def test_method(self):
        with pytest.raises(ParameterError, match="method='sort': wanted 'auto', 'loop'"):
            segment_sum(np.ones((1, 2)), [0], 1, method="sort")


class TestMaskRefuses:
    def test_names_bytes_and_a_way_that_fits(self):
        values = np.ones((2**15, 2**10), np.float32)
        with pytest.raises(MemoryLimitError, match=r"137,438,953,472 bytes.*2,147,483,648.*fused"):
            segment_sum(values, np.zeros(2**15, int), 2**10, method="mask")

    def test_in_encode(self):
        with pytest.raises(MemoryError, match="method='mask' would need 4,194,304,000 bytes"):
            encode(np.ones((10, 6400, 64), np.float32), np.ones((128, 64)), method="mask")

    def test_just_below(self, monkeypatch):
        values, segment = np.ones((10, 3)), np.arange(10) % 4
        monkeypatch.setattr(mask, "MOST_BYTES", 4 * 10 * 3 * 8)
        assert segment_sum(values, segment, 4, method="mask").sum() == 30
        monkeypatch.setattr(mask, "MOST_BYTES", 4 * 10 * 3 * 8 - 1)
        with pytest.raises(MemoryLimitError):
            segment_sum(values, segment, 4, method="mask")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prefix_sums_keep_their_digits(dtype):
    """2,000 images x 1,000 descriptors, all positive: one long prefix loses most digits here."""
    rng = np.random.default_rng(0)
    values = rng.random((2_000_000, 4)).astype(dtype) + 1
    segment = (np.arange(2_000_000) // 1000) * 16 + rng.integers(0, 16, 2_000_000)
    got = segment_sum(values, segment, 32_000, method="cumsum")
    wanted = np.stack(
        [np.bincount(segment, weights=values[:, j], minlength=32_000) for j in range(4)], axis=1
    )
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert error < (1e-6 if dtype == np.float32 else 1e-13)
    order = np.argsort(segment, kind="stable")
    prefix = np.concatenate([[0], np.cumsum(values[order, 0])])  # the article's
    end = np.concatenate([[0], np.cumsum(np.bincount(segment, minlength=32_000))])
    naive = np.abs(np.diff(prefix[end]) - wanted[:, 0]).max() / np.abs(wanted).max()
    assert naive > 10 * error, "the long prefix is as good: then why the blocks?"
