"""Reductions within segments of NumPy's arrays: both kinds of loops against a plain one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import WAYS
from vladkit import Ragged, segment_reduce, segment_sum
from vladkit.aggregation.segments import OPERATIONS
from vladkit.errors import InputError, MemoryLimitError, ParameterError, ShapeError
from vladkit.kernels import loading, reduce

FLOATS = ["float16", "float32", "float64", ">f4", ">f8", "longdouble"]
MANY = 2**46  # results in more bytes than processors have addresses
WHOLES = ["bool", "int8", "uint8", "int16", "int32", "int64", "uint64", ">i4"]


@pytest.fixture(params=["compiled", "numpy", "parts", "shares"])
def loops(request, monkeypatch):
    """Both kinds of loops, whatever this process has loaded; `parts` are compiled, of few rows.

    So are `shares`, those of five threads.
    """
    is_ready = request.param != "numpy"
    if request.param == "parts":
        monkeypatch.setattr(reduce, "_PART_VALUES", 6)
    if request.param == "shares":
        monkeypatch.setattr(reduce, "_SHARE_VALUES", 4)
        monkeypatch.setattr(reduce, "resolve_n_jobs", lambda n_jobs: 5)
    monkeypatch.setattr(loading.Code, "is_ready", lambda self: is_ready)
    monkeypatch.setattr("vladkit.aggregation.segments._FEW", 0)  # or bincount would do it
    return request.param


def of_no_rows(op, dtype):
    dtype = np.dtype(dtype)
    if op in ("min", "max"):
        if dtype.kind == "f":
            return math.inf if op == "min" else -math.inf
        if dtype.kind == "b":
            return op == "min"
        limits = np.iinfo(dtype)
        return limits.max if op == "min" else limits.min
    empty = {"sum": 0, "count": 0, "prod": 1, "mean": math.nan, "logsumexp": -math.inf}
    return empty.get(op, -1)


def plain(rows, op, dtype):
    """Reduction of some numbers by a loop in Python."""
    if not len(rows):
        return of_no_rows(op, dtype)
    numbers = rows.tolist()
    if op in ("sum", "mean"):
        total = sum(numbers)
        return total / len(numbers) if op == "mean" else total
    if op == "count":
        return len(numbers)
    if op == "prod":
        return math.prod(numbers)
    if op == "logsumexp":
        return math.log(sum(math.exp(x) for x in numbers))
    chosen = (min if op.endswith("min") else max)(numbers)
    return numbers.index(chosen) if op.startswith("arg") else chosen


def wanted(values, segment, n_segments, op):
    values, segment = np.asarray(values), np.asarray(segment)
    if op == "softmax":
        share = np.empty(values.shape)
        for row, column in np.ndindex(values.shape):
            among = values[segment == segment[row], column].astype(float)
            share[row, column] = math.exp(values[row, column]) / sum(map(math.exp, among))
        return share
    if op == "count":
        return np.array([plain(segment[segment == s], op, "int64") for s in range(n_segments)])
    result = np.empty((n_segments, values.shape[1]), object)
    for s in range(n_segments):
        row = np.flatnonzero(segment == s)
        for j in range(values.shape[1]):
            found = plain(values[row, j], op, values.dtype)
            result[s, j] = int(row[found]) if op.startswith("arg") and len(row) else found
    return result


def dtype_of(op, dtype):
    dtype = np.dtype(dtype)
    if op in ("count", "argmin", "argmax"):
        return np.dtype(np.int64)
    if op in ("min", "max"):
        return dtype.newbyteorder("=")
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize >= 8 else np.float32)
    if op in ("sum", "prod"):
        return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
    return np.dtype(np.float64)


def rows_of(dtype, n=40, f=3, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(n, f)).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 4, (n, f)).astype(dtype)


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("dtype", FLOATS + WHOLES)
def test_equals_the_plain_loop(loops, op, dtype):
    values = rows_of(dtype)
    segment = np.random.default_rng(1).integers(0, 9, 40)
    segment[segment == 4] = 8  # 4 and 9 have no rows
    got = segment_reduce(values, segment, 10, op)
    assert got.dtype == dtype_of(op, dtype)
    want = wanted(values, segment, 10, op)
    assert got.shape == want.shape
    if got.dtype.kind != "f" or op in ("min", "max"):
        assert got.tolist() == want.tolist()
    else:
        eps = np.finfo(got.dtype).eps
        np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=20 * eps, atol=eps)


SHAPES = [
    (5000, 1, 7), (5000, 1, 40000), (5000, 2, 7), (5000, 3, 20000), (300, 4, 50), (300, 5, 50),
    (5000, 8, 6000), (200, 64, 30), (200, 100, 700), (70, 130, 4), (1, 1, 1), (0, 3, 4), (4, 0, 3),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "float16"])
def test_both_loops_give_the_same_bits(monkeypatch, shape, dtype):
    n, f, n_segments = shape
    values = rows_of(dtype, n, f)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, n_segments, n)
    weights = rng.normal(size=n).astype(np.float32)
    monkeypatch.setattr(reduce, "_BLOCK_VALUES", 2500)
    monkeypatch.setattr(reduce, "_PART_VALUES", 3000)
    for segment in (labels, np.sort(labels), np.sort(labels).astype(np.int32)):
        results = []
        for is_ready in (True, False):
            monkeypatch.setattr(loading.Code, "is_ready", lambda self, ready=is_ready: ready)
            some = [segment_reduce(values, segment, n_segments, op) for op in OPERATIONS]
            some += [
                segment_reduce(values, segment, n_segments, op, weights=weights)
                for op in ("sum", "mean", "count")
            ]
            results.append([(x.shape, x.dtype, x.tobytes()) for x in some])
        assert results[0] == results[1]


class TestShares:
    """Threads that have some of the segments each: none of it is seen in a result."""

    @pytest.mark.parametrize("skew", ["none", "sorted", "one", "few", "last", "empty"])
    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint64"])
    def test_as_on_one_thread(self, monkeypatch, skew, dtype):
        rng = np.random.default_rng(7)
        n, f, s = 9_000, 6, 1_200  # three blocks
        values = (1000 * rows_of(dtype, n, f)).astype(dtype)
        segment = rng.integers(0, s, n)
        if skew == "sorted":
            segment.sort()
        elif skew != "none":
            of = {"one": [7], "few": [3, 4, 1_000], "last": [s - 1, s - 2], "empty": [0, s - 1]}
            segment = np.where(rng.random(n) < 0.99, rng.choice(of[skew], n), segment)
        if dtype.startswith("f"):
            row, column = rng.integers(0, n, 5), rng.integers(0, f, 5)
            values[row, column] = [np.nan, np.inf, -np.inf, 0, -0.0]
        monkeypatch.setattr(loading.Code, "is_ready", lambda self: True)
        one = {op: segment_reduce(values, segment, s, op) for op in ("sum", "mean", "min", "max")}
        monkeypatch.setattr(reduce, "_SHARE_VALUES", 64)
        for n_jobs in (2, 3, 7):
            monkeypatch.setattr(reduce, "resolve_n_jobs", lambda _, n_jobs=n_jobs: n_jobs)
            shares = reduce._shares_of(segment, f, n_jobs)
            assert skew != "none" or len(shares) == n_jobs
            assert sum(int(most) + 1 for _, most in shares) in (0, 2**64)
            for op, want in one.items():
                got = segment_reduce(values, segment, s, op)
                assert (got.dtype, got.tobytes()) == (want.dtype, want.tobytes()), op

    def test_of_few_and_of_numbers_there_are_none(self):
        segment = np.arange(2**20)
        assert not reduce._shares_of(segment, 1, 8)
        assert not reduce._shares_of(segment[: 2**17], 8, 8)
        assert not reduce._shares_of(segment, 8, 1)
        assert len(reduce._shares_of(segment, 4, 8)) == 4
        even = [int(most) + 1 for _, most in reduce._shares_of(segment, 8, 8)[:-1]]
        assert max(even) < 1.1 * min(even)


class TestParts:
    """Many rows, which threads share: shapes alone say how."""

    @pytest.mark.parametrize("shape", [(300_000, 1, 7), (99_991, 3, 50), (20_011, 64, 9)], ids=str)
    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool", ">f4"])
    def test_sums_are_those_of_parts_in_order(self, monkeypatch, shape, dtype):
        n, f, s = shape
        values = (1000 * rows_of(dtype, n, f)).astype(dtype)
        segment = np.random.default_rng(5).integers(0, s, n)
        parts = reduce._parts_of(n, f, s)
        assert len(parts) > 1
        assert [row for part in parts for row in range(n)[part]] == list(range(n))
        want_dtype = dtype_of("sum", dtype)
        want = np.zeros((s, f), np.float64 if want_dtype.kind == "f" else want_dtype)
        for part in parts:
            of_part = np.zeros_like(want)
            np.add.at(of_part, segment[part], values[part].astype(want.dtype))
            want += of_part
        for is_ready in (True, False):
            monkeypatch.setattr(loading.Code, "is_ready", lambda self, ready=is_ready: ready)
            for n_jobs in (1, 2, 5):
                got = segment_sum(values, segment, s, n_jobs=n_jobs)
                assert got.tobytes() == want.astype(want_dtype).tobytes()
        assert segment_sum(values, segment, s, method="fused").tobytes() == got.tobytes()

    def test_columns_by_themselves(self):
        """Numbers on one axis, too, are summed in their parts, and in no other order."""
        values = rows_of("float64", 300_000, 1)
        segment = np.zeros(300_000, np.int64)
        parts = reduce._parts_of(300_000, 1, 1)
        want = 0.0
        for part in parts:
            want += np.add.accumulate(values[part, 0])[-1]
        assert segment_sum(values[:, 0].copy(), segment, 1)[0] == want

    @pytest.mark.parametrize("n_parts", [1, 2, 4])
    def test_shapes_decide(self, n_parts):
        n = {1: 2**18 - 1, 2: 2**18, 4: 2**22}[n_parts]
        assert len(reduce._parts_of(n, 1, 10)) == n_parts
        assert len(reduce._parts_of(n // 64, 64, 10)) == n_parts

    def test_results_take_less_memory_than_rows(self):
        for n, f, s in [(2**20, 1, 2**18), (2**20, 8, 10**5), (10**5, 512, 300), (10**7, 1, 10**6)]:
            parts = len(reduce._parts_of(n, f, s))
            assert parts == 1 or parts * s <= (n if f == 1 else n / 16)

    def test_the_first_wrong_row_is_named(self, loops):
        values, segment = np.ones((300_000, 2)), np.zeros(300_000, np.int64)
        segment[[299_000, 120_000, 290_000]] = 9, -3, 7
        for op in ("sum", "mean", "min", "prod"):
            with pytest.raises(ParameterError, match=r"segment\[120000\] is -3, wanted 0 to 4"):
                segment_reduce(values, segment, 5, op)

    @pytest.mark.filterwarnings("error")
    def test_infinity_and_nan_of_any_part(self, loops):
        values, segment = np.ones((300_000, 1), np.float32), np.zeros(300_000, np.int64)
        segment[1::2] = 1
        values[[0, 299_998]] = [[np.inf], [-np.inf]]
        values[150_001] = -np.inf
        assert np.isnan(segment_sum(values, segment, 2)[0, 0])
        assert segment_sum(values, segment, 2)[1, 0] == -np.inf
        assert segment_reduce(values, segment, 2, "min")[:, 0].tolist() == [-np.inf, -np.inf]
        assert segment_reduce(values, segment, 2, "max")[:, 0].tolist() == [np.inf, 1]
        values[299_999] = np.nan
        for op in ("sum", "mean", "min", "max"):
            assert np.isnan(segment_reduce(values, segment, 2, op)[1, 0])

    def test_means_count_all_rows(self, loops):
        values = np.arange(300_000.0)[:, None]
        segment = np.arange(300_000) % 3
        mean = segment_reduce(values, segment, 3, "mean")[:, 0]
        assert mean.tolist() == [149998.5, 149999.5, 150000.5]


@pytest.mark.parametrize("n", [0, 90, 5000])
@pytest.mark.parametrize("op", ["sum", "mean", "min", "max"])
def test_numbers_are_a_column(loops, op, n):
    """The short way that numbers on one axis take gives the bits of the long one."""
    labels = np.random.default_rng(4).integers(0, 9, n)
    labels[labels == 4] = 8
    for dtype in ("float32", "float64", ">f4", ">f8", "int64", ">i8"):
        column = rows_of(dtype, n, 1)
        if dtype in ("float32", "float64") and n:
            column[3:9, 0] = np.nan, -np.inf, np.inf, -0.0, 0.0, np.nan
        numbers, fixed = column[:, 0].copy(), column[:, 0].copy()
        fixed.flags.writeable = False
        for values in (numbers, fixed, np.repeat(numbers, 2)[::2]):
            for segment in (labels, labels.astype(np.int32), labels.astype(">i8")):
                with np.errstate(invalid="ignore"):
                    want = segment_reduce(column, segment, 10, op)
                    got = segment_reduce(values, segment, 10, op)
                assert (got.dtype, got.shape) == (want.dtype, (10,))
                assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("weight", ["longdouble", "float16", "bool", "uint64"])
def test_weights_of_any_dtype(loops, weight):
    values, segment = rows_of("float64"), np.random.default_rng(1).integers(0, 9, 40)
    weights = np.random.default_rng(2).integers(0, 2, 40)
    for op in ("sum", "mean", "count", "logsumexp"):
        got = segment_reduce(values, segment, 9, op, weights=weights.astype(weight))
        want = segment_reduce(values, segment, 9, op, weights=weights.astype(np.float64))
        assert got.astype(np.float64).tobytes() == want.astype(np.float64).tobytes()


@pytest.mark.parametrize("weight", ["bool", "uint8", "int8", "uint32", "int64"])
@pytest.mark.parametrize("value", ["bool", "uint8", "int8", "uint32", "int64"])
def test_whole_numbers_stay_whole_with_weights(loops, value, weight):
    values, weights, segment = np.ones(3, value), np.ones(3, weight), [0, 1, 1]
    want = (values * weights).sum().dtype
    assert want.kind != "f"
    for got in (
        segment_reduce(values, segment, 2, weights=weights),
        segment_sum(values, segment, 2, weights=weights),
        segment_sum(values, segment, 2, weights=weights, method="reduceat"),
    ):
        assert (got.dtype, got.tolist()) == (want, [1, 2])
    count = segment_reduce(values, segment, 2, "count", weights=weights)
    assert (count.dtype, count.tolist()) == (np.dtype(np.int64), [1, 2])
    large = np.array([2**53, 1], "uint64" if want.kind == "u" else "int64")
    if value in ("bool", "uint8"):  # float64 would drop the 1
        total = segment_reduce(large, [0, 0], 1, weights=np.ones(2, value))
        assert total.tolist() == [2**53 + 1]


def test_extremes_of_longdouble_keep_its_digits(loops):
    one, more = np.longdouble(1), 1 + np.finfo(np.longdouble).eps
    values, segment = np.array([one, more, one, more]), [0, 0, 1, 1]
    assert segment_reduce(values, segment, 2, "max").tolist() == [more, more]
    assert segment_reduce(values, segment, 2, "argmax").tolist() == [1, 3]


@pytest.mark.parametrize("dtype", ["complex64", "object", "S3", "M8[s]", "f4,i4", "V4"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_what_is_no_real_number_is_refused(loops, op, dtype):
    with pytest.raises(InputError, match="wanted real numbers"):
        segment_reduce(np.zeros((3, 2), dtype), [0, 1, 0], 2, op)


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("column", [False, True])
def test_more_segments_than_memory_holds(loops, op, column):
    values, segment = rows_of("float64", 6, 2), np.array([0, 1, 2, 0, 1, 2])
    values = values[:, 0] if column else values
    with pytest.raises(MemoryLimitError, match=rf"n_segments={MANY}: a result .*unique"):
        segment_reduce(values, segment, MANY, op)
    far = np.where(segment == 2, 2**60, segment)
    with pytest.raises(MemoryLimitError, match=f"n_segments={2**60 + 1}: "):
        segment_reduce(values, far, None, op)
    with pytest.raises(ParameterError, match=rf"segment\[2\] is {2**60}, wanted 0 to 9"):
        segment_reduce(values, far, 10, op)
    with pytest.raises(ParameterError, match=f"n_segments={2**70}: wanted an integer from 0 to"):
        segment_reduce(values, segment, 2**70, op)


def test_rows_of_no_segments(loops):
    for segment, n_segments in (([0, 1, 2], 0), ([-1, -2, -1], None)):
        with pytest.raises(ParameterError, match="wanted no rows, as there are no segments"):
            segment_reduce(np.ones((3, 2)), segment, n_segments)


def test_far_segments_of_few_numbers():
    """Which bincount would allocate for."""
    values, segment = np.ones(3), np.array([0, 2**60, 1])
    with pytest.raises(ParameterError, match=rf"segment\[1\] is {2**60}, wanted 0 to 9"):
        segment_sum(values, segment, 10)
    for n_segments, error in ((MANY, MemoryLimitError), (2**70, ParameterError)):
        with pytest.raises(error, match=f"n_segments={n_segments}"):
            segment_sum(values, np.arange(3), n_segments)


@pytest.mark.parametrize("method", ["fused", "reduceat", "scatter", "cumsum", "sparse", "loop"])
def test_more_segments_than_memory_holds_in_every_way(method):
    with pytest.raises(MemoryLimitError, match=f"n_segments={MANY}"):
        segment_sum(np.ones((6, 2)), np.arange(6), MANY, method=method)


def test_out_that_does_not_fit():
    values, segment = np.ones((4, 2)), [0, 1, 0, 1]
    locked = np.zeros((2, 2))
    locked.flags.writeable = False
    for sums in (segment_sum, segment_reduce):
        with pytest.raises(ParameterError, match="out is read-only"):
            sums(values, segment, out=locked)
        for wrong in (np.zeros((2, 2), np.float32), np.zeros((3, 2)), np.zeros(4)):
            with pytest.raises(ShapeError, match="out has shape"):
                sums(values, segment, out=wrong)
        with pytest.raises(ParameterError, match="out is for results"):
            sums(values, segment, out=[[0.0, 0], [0, 0]])


@pytest.mark.parametrize("op", ["sum", "max", "softmax"])
def test_out_that_overlaps_the_input(loops, op):
    values, segment = rows_of("float64", 40, 3), np.arange(40) % 20
    want = segment_reduce(values, segment, 20, op)
    out = values[-len(want) :][::-1]
    assert segment_reduce(values, segment, 20, op, out=out) is out
    assert out.tolist() == want.tolist()


@pytest.mark.parametrize("op", ["min", "max"])
def test_zeros_of_either_sign_are_0(loops, op):
    for values in ([0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0]):
        for shape in ((2,), (2, 1)):
            got = segment_reduce(np.reshape(values, shape), np.zeros(2, int), 1, op)
            assert not np.signbit(got).any()


def test_few_numbers_are_refused_too():
    """Those that numpy.bincount sums."""
    for bad in (-1, 5, 2**62):
        with pytest.raises(ParameterError, match=rf"segment\[1\] is {bad}, wanted 0 to 4"):
            segment_sum(np.ones(3), np.array([0, bad, 1]), 5)


def test_a_segment_below_0_is_not_put_down_to_n_segments():
    for n_segments in (None, 4):
        with pytest.raises(ParameterError, match="wanted 0 to 3: number segments from 0"):
            segment_reduce(np.ones(3), np.array([0, -1, 3]), n_segments)
    with pytest.raises(ParameterError, match="wanted 0 to 3: n_segments is the number of buckets"):
        segment_reduce(np.ones(3), np.array([0, 4, 3]), 4)


@pytest.mark.parametrize("op", ["sum", "mean", "min"])
def test_refused_segments_of_numbers(loops, op):
    for n in (10, 5000):
        for row, bad in ((0, -1), (n // 2, 5), (n - 1, 2**62)):
            segment = np.zeros(n, np.int64)
            segment[row] = bad
            with pytest.raises(ParameterError, match=rf"segment\[{row}\] is {bad}, wanted 0 to 4"):
                segment_reduce(np.ones(n), segment, 5, op)
    for n_segments in (-1, 2.0, "5"):
        with pytest.raises(ParameterError, match="n_segments"):
            segment_reduce(np.ones(9000), np.zeros(9000, int), n_segments, op)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_sorted_first_or_not(monkeypatch, dtype):
    values, segment = rows_of(dtype, 500, 20), np.random.default_rng(3).integers(0, 300, 500)
    one = segment_sum(values, segment, 300, method="fused")
    monkeypatch.setattr(reduce, "_MANY", 0)
    assert reduce._is_scattered(500, 20, 300)
    for n_jobs in (1, 2, 5):
        many = segment_sum(values, segment, 300, method="fused", n_jobs=n_jobs)
        assert many.tobytes() == one.tobytes()
    with pytest.raises(ParameterError, match=r"segment\[499\] is 300, wanted 0 to 299"):
        segment_sum(values, np.append(segment[:-1], 300), 300, method="fused")


@pytest.mark.parametrize("n", [10, 5000, 20000])
@pytest.mark.parametrize("op", OPERATIONS)
def test_refused_segments(loops, op, n):
    for f in (1, 2, 3, 4, 6):
        values = np.ones((n, f))
        for row in (0, n // 2, n - 1):
            for bad in (-1, 5, 2**62):
                segment = np.zeros(n, np.int64)
                segment[row] = bad
                with pytest.raises(
                    ParameterError, match=rf"segment\[{row}\] is {bad}, wanted 0 to 4"
                ):
                    segment_reduce(values, segment, 5, op)


def test_refused_segments_of_other_dtypes(loops):
    values = np.ones(300_000, np.uint8)
    for dtype, bad in (("int8", -1), ("uint16", 60000), ("uint64", 2**64 - 1), ("int32", 7)):
        segment = np.zeros(300_000, dtype)
        segment[299_999] = bad
        with pytest.raises(ParameterError, match=rf"segment\[299999\] is {bad}, wanted"):
            segment_sum(values, segment, 5)


@pytest.mark.parametrize("op", OPERATIONS)
def test_nan_stays_in_its_segment(loops, op):
    values = np.array([1.0, np.nan, 2, np.nan, 0, 5], np.float32)
    segment = np.array([0, 0, 0, 1, 2, 2])
    got = segment_reduce(values, segment, 3, op)
    if op == "count":
        assert got.tolist() == [3, 1, 2]
    elif op.startswith("arg"):
        assert got.tolist() == [1, 3, 4 if op == "argmin" else 5]
    elif op == "softmax":
        assert np.isnan(got[:4]).all()
        np.testing.assert_allclose(got[4:], [0.006693, 0.993307], rtol=1e-4)
    else:
        assert np.isnan(got[:2]).all()
        assert np.isfinite(got[2])


def test_infinity(loops):
    values = np.array([np.inf, 1, -np.inf, -np.inf, 3, 3])
    segment = np.array([0, 0, 1, 1, 2, 2])
    assert segment_reduce(values, segment, op="min").tolist() == [1, -np.inf, 3]
    assert segment_reduce(values, segment, op="max").tolist() == [np.inf, -np.inf, 3]
    assert segment_reduce(values, segment, op="argmax").tolist() == [0, 2, 4]
    assert segment_reduce(values, segment, op="argmin").tolist() == [1, 2, 4]
    sums = segment_reduce(values, segment, op="logsumexp")
    assert sums.tolist() == [np.inf, -np.inf, 3 + math.log(2)]
    assert segment_reduce(-values, segment, op="argmin").tolist() == [0, 2, 4]


def test_extremes_of_infinity_have_rows(loops):
    assert segment_reduce(np.full(2, np.inf), [0, 0], op="argmin").tolist() == [0]
    assert segment_reduce(np.full(2, -np.inf), [0, 0], op="argmax").tolist() == [0]
    top = np.iinfo(np.int64).max
    assert segment_reduce(np.array([top, top]), [1, 1], op="argmin").tolist() == [-1, 0]


def test_no_overflow(loops):
    values = np.array([1000.0, 1000, -1000, -1001], np.float32)
    got = segment_reduce(values, [0, 0, 1, 1], op="logsumexp")
    np.testing.assert_allclose(got, [1000 + math.log(2), -1000 + math.log1p(math.exp(-1))])
    share = segment_reduce(values, [0, 0, 1, 1], op="softmax")
    np.testing.assert_allclose(share, [0.5, 0.5, 0.731059, 0.268941], rtol=1e-5)
    assert segment_sum(np.full(2, 3e38, np.float32), [0, 0]).tolist() == [np.inf]


def test_wraps_as_numpy():
    whole = np.array([2**62, 2**62, 2**62, 2**62])
    assert segment_sum(whole, [0, 0, 0, 1]).tolist() == [np.sum(whole[:3]), 2**62]
    assert segment_reduce(whole, [0, 0, 1, 1], op="mean").tolist() == [2.0**62, 2.0**62]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_weights(loops, dtype):
    values = rows_of(dtype)
    rng = np.random.default_rng(4)
    segment, weight = rng.integers(0, 6, 40), rng.random(40)
    one_hot = (segment == np.arange(6)[:, None]) * weight
    total = one_hot @ values.astype(float)
    got = segment_reduce(values, segment, 6, "sum", weights=weight)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, total, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(segment_sum(values, segment, 6, weights=weight), got)
    mass = one_hot.sum(axis=1)
    got = segment_reduce(values, segment, 6, "mean", weights=weight)
    np.testing.assert_allclose(got, total / mass[:, None], rtol=1e-12)
    np.testing.assert_allclose(segment_reduce(values, segment, 6, "count", weights=weight), mass)
    got = segment_reduce(values, segment, 6, "logsumexp", weights=weight)
    np.testing.assert_allclose(got, np.log(one_hot @ np.exp(values.astype(float))), rtol=1e-12)


@pytest.mark.parametrize("method", WAYS)
def test_weights_in_every_way(method):
    values, segment, weight = rows_of("float32"), np.arange(40) % 7, np.arange(40)
    got = segment_sum(values, segment, weights=weight, method=method)
    want = segment_sum(values * weight[:, None].astype(np.float32), segment)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_weights_keep_dtypes():
    half = np.ones(3, np.float32)
    assert segment_sum(np.ones(3, np.float32), [0, 0, 0], weights=half).dtype == np.float32
    assert segment_sum(np.ones(3, np.float32), [0, 0, 0], weights=np.arange(3)).dtype == np.float32
    assert segment_sum(np.ones(3, int), [0, 0, 0], weights=np.arange(3)).tolist() == [3]
    count = segment_reduce(np.ones(3), [0, 0, 1], op="count", weights=np.array([2, 3, 4]))
    assert count.dtype == np.int64
    assert count.tolist() == [5, 4]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_what_vanishes_is_no_error(loops, op, dtype):
    """Also where a person has asked NumPy to raise errors."""
    values, segment = np.array([1e-5] * 20 + [0, -100, -1000, 3], dtype), [0] * 20 + [1] * 4
    with np.errstate(all="raise"):
        got = segment_reduce(values, segment, 2, op)
        if op in ("sum", "mean", "logsumexp"):
            segment_reduce(values, segment, 2, op, weights=np.full(24, 1e-200))
    if op == "softmax":
        np.testing.assert_allclose(got[20:], [0.0474, 0, 0, 0.9526], rtol=1e-3, atol=1e-40)
    if op == "prod" and dtype != "f8":
        assert got[0] == 0


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_beside_infinity_all_is_nothing(dtype):
    """A softmax whose exponentials would overflow, in float32 or in float64."""
    values, segment = np.array([0, 89.5, np.inf, 720, -np.inf, 1, 1], dtype), [0] * 5 + [1, 1]
    got = segment_reduce(values, segment, 2, "softmax")
    np.testing.assert_array_equal(got, [0, 0, np.nan, 0, 0, 0.5, 0.5])
    assert segment_reduce(values, segment, 2, "logsumexp")[0] == np.inf


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op != "softmax"])
def test_fill_value(op):
    values = np.array([[1.0, 2], [3, 4]])
    got = segment_reduce(values, [0, 2], 4, op, fill_value=7)
    assert (got[[1, 3]] == 7).all()
    kept = segment_reduce(values, [0, 2], 4, op)[[0, 2]]
    np.testing.assert_array_equal(got[[0, 2]], kept)


def test_fill_value_that_does_not_fit():
    with pytest.raises(ParameterError, match="fill_value=nan is no int64"):
        segment_reduce(np.ones(2), [0, 0], 2, "count", fill_value=np.nan)
    with pytest.raises(ParameterError, match="fill_value=300 is no uint8"):
        segment_reduce(np.ones(2, np.uint8), [0, 0], 2, "max", fill_value=300)
    for dtype, fill in (("f4", 1e300), ("f2", -65520), ("f2", 2**40)):
        with pytest.raises(ParameterError, match=r"fill_value=.* is no float"):
            segment_reduce(np.ones(2, dtype), [0, 0], 2, "max", fill_value=fill)
    for fill in (math.inf, -math.inf, 0.1, np.longdouble(3e38)):
        got = segment_reduce(np.ones(2, "f4"), [0, 0], 2, "mean", fill_value=fill)
        assert got.tolist() == [1, np.float32(fill)]
    with pytest.raises(ParameterError, match="fill_value='x': wanted a number"):
        segment_reduce(np.ones(2), [0, 0], 2, "max", fill_value="x")
    with pytest.raises(ParameterError, match="op='softmax' has no segments to fill"):
        segment_reduce(np.ones(2), [0, 0], 2, "softmax", fill_value=0)
    assert np.isnan(segment_reduce(np.ones(1), [0], 2, "max", fill_value=np.nan)[1])


class TestOut:
    @pytest.mark.parametrize("op", OPERATIONS)
    def test_written_and_returned(self, op):
        values, segment = rows_of("float32"), np.arange(40) % 6
        want = segment_reduce(values, segment, 6, op)
        out = np.full_like(want, 3)
        assert segment_reduce(values, segment, 6, op, out=out) is out
        np.testing.assert_array_equal(out, want)

    def test_of_sums_in_any_way(self):
        out = np.empty((2, 3), np.float32)[:, ::-1]
        for method in ("auto", "fused", "sparse"):
            out[:] = 5
            values = np.arange(9, dtype=np.float32).reshape(3, 3)
            assert segment_sum(values, [0, 1, 0], 2, method=method, out=out) is out
            assert out.tolist() == [[6, 8, 10], [3, 4, 5]]

    def test_that_does_not_fit(self):
        for out in (np.empty(3), np.empty(2, np.float32)):
            with pytest.raises(ShapeError, match=r"out has shape .* the result \(2,\) and float64"):
                segment_sum(np.ones(2), [0, 1], 2, out=out)
        with pytest.raises(ParameterError, match="out is for results that are NumPy's arrays"):
            segment_sum(np.ones(2), [0, 1], 2, out=[0, 0])


class TestRagged:
    def test_segments_are_images(self):
        images = [np.array([[1.0, 2], [3, 4]]), None, np.array([[5.0, 6]])]
        for batch in (Ragged.from_list(images), Ragged(np.concatenate(images[::2]), [0, 2, 2, 3])):
            assert segment_sum(batch).tolist() == [[4, 6], [0, 0], [5, 6]]
            assert segment_sum(batch, method="sparse").tolist() == [[4, 6], [0, 0], [5, 6]]
            assert segment_reduce(batch, op="count").tolist() == [2, 0, 1]
            assert segment_reduce(batch, op="argmax").tolist() == [[1, 1], [-1, -1], [2, 2]]
            got = segment_reduce(batch, op="sum", weights=[1, 2, 3])
            assert got.tolist() == [[7, 10], [0, 0], [15, 18]]

    def test_refused(self):
        batch = Ragged.from_list([np.ones((2, 3))])
        with pytest.raises(ParameterError, match="the segments of a Ragged are its images"):
            segment_sum(batch, [0, 0])


def test_number_of_segments_is_inferred(loops):
    assert segment_reduce(np.ones((3, 2)), [1, 4, 1], op="count").tolist() == [0, 2, 0, 0, 1]
    assert segment_sum(np.ones((0, 2)), []).shape == (0, 2)
    assert segment_sum(np.ones(2), np.array([3, 3], np.uint8)).tolist() == [0, 0, 0, 2]
    for values in (np.ones(2), np.ones((9000, 2))):
        with pytest.raises(ParameterError, match=r"segment\[0\] is -2"):
            segment_sum(values, np.full(len(values), -2))


def test_any_axes(loops):
    values = np.arange(48.0).reshape(4, 3, 2, 2)
    for op in ("sum", "max", "argmin", "mean", "softmax"):
        got = segment_reduce(values, [1, 0, 1, 1], 2, op)
        flat = segment_reduce(values.reshape(4, 12), [1, 0, 1, 1], 2, op)
        assert got.shape == (4 if op == "softmax" else 2, 3, 2, 2)
        np.testing.assert_array_equal(got.reshape(flat.shape), flat)


def test_layouts(loops):
    values = rows_of("float32", 60, 6)
    segment = np.random.default_rng(5).integers(0, 8, 120)
    for op in ("sum", "min", "argmax", "prod"):
        for view in (np.asfortranarray(values), values[::-1], values[:, ::2], values[::2]):
            some = segment[::2][: len(view)]
            some.flags.writeable = False
            want = segment_reduce(np.ascontiguousarray(view), some.copy(), 8, op)
            np.testing.assert_array_equal(segment_reduce(view, some, 8, op), want)
    raw = np.zeros(4 * 60 * 6 + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(60, 6)
    unaligned[:] = values
    want = segment_sum(values, segment[:60], 8)
    np.testing.assert_array_equal(segment_sum(unaligned, segment[:60], 8), want)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_rows(data):
    n, f, s = data.draw(st.tuples(st.integers(0, 50), st.integers(1, 5), st.integers(1, 12)))
    dtype = data.draw(st.sampled_from(["float32", "float64", "int64", "uint8", "bool"]))
    op = data.draw(st.sampled_from(["sum", "count", "min", "max", "argmin", "argmax", "mean"]))
    elements = st.booleans() if dtype == "bool" else st.integers(0, 100)
    values = data.draw(hnp.arrays(dtype, (n, f), elements=elements))
    segment = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, s - 1)))
    got = segment_reduce(values, segment, s, op)
    want = wanted(values, segment, s, op)
    np.testing.assert_array_equal(got, want.astype(got.dtype))


class TestAccuracy:
    """float32, where sums in float32 would lose digits. The bound is 1e-6."""

    @pytest.mark.parametrize("method", [*WAYS, "auto"])
    def test_of_ones(self, method):
        n = 2**24 + 6
        got = segment_sum(np.ones(n, np.float32), np.zeros(n, np.int64), 1, method=method)
        assert got[0] == n

    @pytest.mark.parametrize("method", [*WAYS, "auto"])
    def test_of_one_number(self, method):
        values = np.full((3_000_000, 2), 1.1, np.float32)
        segment = np.zeros(3_000_000, np.int64)
        got = segment_sum(values, segment, 1, method=method)
        exact = 3_000_000 * float(np.float32(1.1))
        assert np.abs(got / exact - 1).max() < 1e-7

    @pytest.mark.parametrize("method", [*WAYS, "auto"])
    def test_of_signs_that_cancel(self, method):
        rng = np.random.default_rng(6)
        values = rng.random(1_000_000).astype(np.float32) + 1000
        values[1::2] *= -1
        segment = np.arange(1_000_000) // 500_000
        exact = values.astype(np.float64).reshape(2, -1).sum(axis=1)
        got = segment_sum(values, segment, 2, method=method)
        assert np.abs(got / exact - 1).max() < 1e-6

    @pytest.mark.parametrize("op", ["mean", "logsumexp", "softmax", "prod"])
    def test_of_operations(self, op):
        n = 2**24 + 6
        values, segment = np.ones(n, np.float32), np.zeros(n, np.int64)
        exact = {"mean": 1, "logsumexp": 1 + math.log(n), "softmax": 1 / n, "prod": 1}[op]
        got = segment_reduce(values, segment, 1, op)
        assert np.abs(got / exact - 1).max() < 1e-6
        if op == "prod":
            near = np.full(1_000_000, 1 + 2**-20, np.float32)
            got = segment_reduce(near, segment[: len(near)], 1, op)
            assert abs(got[0] / (1 + 2**-20) ** 1_000_000 - 1) < 1e-6


def test_threads_are_those_asked_for(monkeypatch):
    values, segment = rows_of("float32", 500, 20), np.arange(500) % 300
    monkeypatch.setattr(loading.Code, "is_ready", lambda self: True)
    monkeypatch.setattr(reduce, "_MANY", 0)
    seen = []
    monkeypatch.setattr(reduce, "for_each", lambda task, n, n_jobs: seen.append(n_jobs))
    for n_jobs in (1, 2):
        segment_sum(values, segment, 300, n_jobs=n_jobs)
    assert seen == [1, 2]
    for few in (values, values[:3, 0].copy()):
        with pytest.raises(ParameterError, match="n_jobs=0"):
            segment_sum(few, segment[: len(few)], 300, n_jobs=0)


class TestErrors:
    def test_of_operations(self):
        with pytest.raises(ParameterError, match="op='median': wanted 'sum', 'mean'"):
            segment_reduce(np.ones(2), [0, 0], op="median")
        for op in ("min", "argmax", "prod", "softmax"):
            with pytest.raises(ParameterError, match=f"op='{op}' takes no weights"):
                segment_reduce(np.ones(2), [0, 0], op=op, weights=[1, 2])

    def test_of_weights(self):
        with pytest.raises(
            ShapeError, match=r"weights have shape \(3,\), wanted one for each of 2"
        ):
            segment_sum(np.ones(2), [0, 0], weights=[1, 2, 3])
        with pytest.raises(InputError, match="weights are complex128"):
            segment_sum(np.ones(2), [0, 0], weights=[1j, 2])

    def test_of_segments(self):
        with pytest.raises(ParameterError, match="segment=None: wanted the segment of each row"):
            segment_reduce(np.ones(2))
        with pytest.raises(InputError, match="values are <U1"):
            segment_reduce(np.array(["a"]), [0])
        for bad in ([True, False], [0.0, 1.0]):
            with pytest.raises(ShapeError, match="wanted one integer for each of 2 rows"):
                segment_sum(np.ones(2), np.array(bad), 2)


class TestLoading:
    """Compiled code comes when it pays, and nothing else changes."""

    def test_of_few_loads_nothing(self):
        code = (
            "import sys, numpy as np; from vladkit import segment_reduce, segment_sum\n"
            "x, s = np.arange(1000.0), np.arange(1000) % 7\n"
            "segment_sum(x, s, 7), segment_sum(x.astype(int), s, 7)\n"
            "segment_reduce(x, s, 7, 'max')\n"
            "assert not {'numba', 'scipy', 'llvmlite'} & set(sys.modules), sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_after_some_calls_it_is_there(self):
        code = loading.Code(lambda: None)
        assert not code.is_ready()
        code.note(0.5)
        assert code._thread is None, "loaded for the only call"
        code = loading.Code(lambda: None)
        code.note(0.002)
        code.note(0.002)
        assert code._thread is None
        code.note(0.002)
        code._thread.join()
        assert code.is_ready()

    def test_while_another_thread_starts_to_load(self, monkeypatch):
        """What has not started cannot be waited for."""
        code = loading.Code(lambda: None)
        ready = []
        real = threading.Thread.start

        def start(thread):
            if thread.name == "vladkit":
                ready.append(code.is_ready())
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        for _ in range(4):
            code._n_gaining = 9
            code.note(0.01)
        assert ready == [False]

    def test_a_call_waits_when_patience_ends(self, monkeypatch):
        go = threading.Event()
        code = loading.Code(go.wait)
        for _ in range(4):
            assert not code.is_ready()
            code.note(0.01)
        monkeypatch.setattr(loading, "_LONGEST", 0)  # compiling takes longer than one waits
        assert not code.is_ready()
        code.note(0.01)
        assert not code.is_ready()
        monkeypatch.setattr(loading, "_LONGEST", 60)
        threading.Timer(0.05, go.set).start()
        for _ in range(3):
            code.note(0.01)
        assert code.is_ready()

    def test_switched_off(self, monkeypatch):
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        code = loading.Code(lambda: None)
        code.note(1.0)
        code.note(1.0)
        assert code._thread is None
        assert not code.is_ready()
        monkeypatch.setattr(reduce, "_code", lambda *_: code)
        assert segment_sum(np.ones((9000, 2)), np.zeros(9000, int), 1).tolist() == [[9000, 9000]]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_fork_waits_for_it(self):
        script = (
            "import os, time, numpy as np\n"
            "from vladkit import segment_sum\n"
            "x, s = np.ones((200_000, 8)), np.zeros(200_000, int)\n"
            "segment_sum(x, s, 1), segment_sum(x, s, 1)\n"
            "from vladkit.kernels.loading import Code\n"
            "assert Code._loading or 'numba' in __import__('sys').modules\n"
            "import logging\n"  # takes a lock before a fork, which importing Numba needs, too
            "pid = os.fork()\n"
            "assert segment_sum(x, s, 1, method='fused')[0, 0] == 200_000\n"
            "if pid: assert os.waitpid(pid, 0)[1] == 0\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=240)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.parametrize("imports", ["logging", "concurrent.futures.thread", "late"])
    def test_a_fork_holds_no_lock_that_it_needs(self, imports):
        """Modules that hold a lock from before a fork to its end, and are imported after us."""
        script = (
            "import os, sys, threading, time, types\n"
            "from vladkit.kernels import loading\n"
            "late = types.ModuleType('late')\n"
            "late.lock = threading.Lock()\n"
            "begun, go = threading.Event(), threading.Event()\n"
            "def load():\n"
            "    begun.set()\n"
            "    go.wait()\n"
            "    time.sleep(0.2)\n"
            "    import logging, concurrent.futures.thread as futures\n"
            "    with late.lock, futures._global_shutdown_lock:\n"
            "        logging.getLogger('any')\n"
            "code = loading.Code(load)\n"
            "code.note(1), code.note(1)\n"
            "begun.wait()\n"
            "if sys.argv[1] == 'late':\n"
            "    loading._LONGEST_WAIT = 0.5\n"
            "    release = late.lock.release\n"
            "    os.register_at_fork(before=late.lock.acquire, after_in_parent=release)\n"
            "else:\n"
            "    __import__(sys.argv[1])\n"
            "go.set()\n"
            "pid = os.fork()\n"
            "if not pid: os._exit(0)\n"
            "assert os.waitpid(pid, 0)[1] == 0\n"
            "assert code._is_ready or sys.argv[1] == 'late'\n"
            "code._thread.join()\n"
            "other = loading.Code(lambda: None)\n"
            "other.note(1), other.note(1)\n"
            "other._thread.join()\n"  # the lock is free again
        )
        subprocess.run([sys.executable, "-c", script, imports], check=True, timeout=30)


@pytest.mark.parametrize("op", ["sum", "mean"])
def test_weighted_rows_in_the_order_of_columns(op, monkeypatch):
    """As pandas has them; by compiled code, too."""
    rng = np.random.default_rng(0)
    x = np.asfortranarray(rng.normal(size=(200_000, 3)))
    segment, weights = rng.integers(0, 50, 200_000), rng.random(200_000)
    wanted = segment_reduce(np.ascontiguousarray(x), segment, 50, op, weights=weights)
    for is_ready in (False, True):
        monkeypatch.setattr(loading.Code, "is_ready", lambda self, ready=is_ready: ready)
        got = segment_reduce(x, segment, 50, op, weights=weights)
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_the_end_of_a_process_waits_for_what_is_being_loaded():
    """LLVM that compiles in a thread, while the process ends around it, may crash it."""
    code = (
        "import time\n"
        "from vladkit.kernels.loading import in_background\n"
        "in_background(lambda: (time.sleep(0.3), print('loaded')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded\n", "")
