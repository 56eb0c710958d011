"""Matching of descriptors: against a plain double loop, and by hand."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vladkit.errors import InputError, NonFiniteError, ParameterError, ShapeError
from vladkit.features import Sift
from vladkit.geometry import matching
from vladkit.geometry.matching import Matcher, match


def oracle(query_lf, other_lf, ratio, mutual):
    """(query row, other row, ratio) of every match, by a distance at a time in float64."""
    d = [[math.dist(a, b) for b in other_lf] for a in query_lf.astype(float)]
    found = {}
    for i, row in enumerate(d):
        j = min(range(len(row)), key=row.__getitem__)
        second = min((v for k, v in enumerate(row) if k != j), default=math.inf)
        value = row[j] / second if second else 1.0
        if value >= ratio or (mutual and any(other[j] < row[j] for other in d)):
            continue
        if j not in found or value < found[j][2]:
            found[j] = (i, j, value)
    return sorted(found.values(), key=lambda each: each[2])


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("ratio", [0.7, 0.95, 1.0])
@pytest.mark.parametrize(("n_query", "n_other"), [(60, 45), (7, 80), (90, 1), (1, 5)])
def test_equals_the_double_loop(n_query, n_other, ratio, mutual):
    rng = np.random.default_rng(n_query + n_other)
    other_lf = rng.normal(size=(n_other, 12)).astype(np.float32)
    query_lf = rng.normal(size=(n_query, 12)).astype(np.float32)
    pick_l = rng.integers(n_other, size=n_query // 2)  # several near the same one
    query_lf[: n_query // 2] = other_lf[pick_l] + 0.3 * query_lf[: n_query // 2]
    found = match(query_lf, other_lf, ratio=ratio, mutual=mutual)
    wanted = oracle(query_lf, other_lf, ratio, mutual)
    assert [tuple(p) for p in zip(found.query_m, found.other_m, strict=True)] == [
        (i, j) for i, j, _ in wanted
    ]
    np.testing.assert_allclose(found.ratio_m, [r for *_, r in wanted], atol=2e-3)


def test_by_hand():
    query_lf = np.array([[0, 0], [3, 0], [3.2, 0]], np.float32)
    other_lf = np.array([[3.05, 0], [0, 1], [0, -1.1]], np.float32)
    both = match(query_lf, other_lf, ratio=0.9)
    # row 0: 1 / 1.1 > .9 fails; row 2 is nearest to other row 0, which is nearer to row 1
    assert (both.query_m.tolist(), both.other_m.tolist()) == ([1], [0])
    assert both.ratio_m[0] == pytest.approx(0.05 / math.hypot(3, 1), rel=1e-3)
    one_way = match(query_lf, other_lf, ratio=0.95, mutual=False)
    assert (one_way.query_m.tolist(), one_way.other_m.tolist()) == ([1, 0], [0, 1])


def test_blocks_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    query_lf, other_lf = (rng.random((n, 128), np.float32) for n in (333, 217))
    whole = match(query_lf, other_lf, ratio=1.0)
    monkeypatch.setattr(matching, "_BLOCK_BYTES", 1)  # the least: 16 rows
    blocks = match(query_lf, other_lf, ratio=1.0)
    assert len(whole) > 50
    np.testing.assert_array_equal(whole.query_m, blocks.query_m)
    np.testing.assert_array_equal(whole.other_m, blocks.other_m)


def test_rows_of_zeros_and_of_other_lengths():
    """The order is by L2 distance also where descriptors are not of unit length."""
    other_lf = np.array([[10, 0], [1, 0], [0, 0]], np.float32)
    found = match(np.array([[1.2, 0], [0, 0.1], [9, 0]], np.float32), other_lf, ratio=1.0)
    pairs = dict(zip(found.query_m.tolist(), found.other_m.tolist(), strict=True))
    assert pairs == {0: 1, 1: 2, 2: 0}


@pytest.mark.parametrize(("n_query", "n_other"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(n_query, n_other):
    found = match(np.zeros((n_query, 8), np.float32), np.zeros((n_other, 8), np.float32))
    assert len(found) == 0
    assert found.ratio_m.shape == (0,)


def test_a_tie_is_no_match():
    twice_lf = np.array([[1, 0], [1, 0]], np.float32)
    assert len(match(np.array([[1, 0], [0.5, 0]], np.float32), twice_lf, ratio=1.0)) == 0


def test_many_images_equal_their_singles():
    rng = np.random.default_rng(1)
    stored = [rng.integers(0, 256, (n, 128), dtype=np.uint8) for n in (50, 0, 1, 70, 33, 20)]
    metric = Sift().metric
    matcher = Matcher(stored[0], metric, ratio=1.0)
    with ThreadPoolExecutor(3) as pool:
        on_three = list(pool.map(matcher.match, stored))
    for other_lf, three in zip(stored, on_three, strict=True):
        single = match(metric(stored[0]), metric(other_lf), ratio=1.0)
        for each in (three, matcher.match(other_lf)):
            np.testing.assert_array_equal(each.query_m, single.query_m)
            np.testing.assert_array_equal(each.other_m, single.other_m)
    assert sorted(on_three[0].query_m) == list(range(50))


def test_refusals():
    some_lf = np.zeros((2, 8), np.float32)
    with pytest.raises(ShapeError, match=r"one extractor"):
        match(some_lf, some_lf[:, :4])
    with pytest.raises(ShapeError):
        match(some_lf[0], some_lf)
    for ratio in (0.0, 1.5, math.nan):
        with pytest.raises(ParameterError, match="ratio"):
            match(some_lf, some_lf, ratio=ratio)
        with pytest.raises(ParameterError, match="ratio"):
            Matcher(some_lf, Sift().metric, ratio=ratio)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ratio", "0.9"), ("ratio", True), ("ratio", float("nan")), ("min_cosine", False),
     ("min_cosine", "x"), ("min_cosine", None), ("mutual", 1), ("mutual", "no")],
)  # fmt: skip
def test_options_of_other_types(name, value):
    one = np.eye(3, dtype=np.float32)
    with pytest.raises(ParameterError, match=f"{name}=.*: wanted"):
        match(one, one, **{name: value})
    with pytest.raises(ParameterError, match=f"{name}=.*: wanted"):
        Matcher(one, np.asarray, **{name: value})


@pytest.mark.parametrize("dtype", ["complex64", "bool", "object", "S1", "M8[s]", "f4,i4"])
def test_descriptors_that_are_no_numbers(dtype):
    with pytest.raises(InputError, match="wanted real numbers"):
        match(np.eye(3), np.zeros((3, 3), dtype))
    with pytest.raises(NonFiniteError, match="hold NaN or infinity"):
        match(np.full((3, 3), np.nan), np.eye(3))


def test_a_matcher_of_another_extractor():
    matcher = Matcher(np.eye(4, dtype=np.float32), np.asarray)
    with pytest.raises(ShapeError, match="have 3 dimensions, those of the query 4"):
        matcher.match(np.eye(3, dtype=np.float32))


def test_loads_nothing_heavy():
    import subprocess

    code = (
        "import sys, numpy as np\nfrom vladkit.geometry.matching import match\n"
        "import vladkit.geometry.verification\n"
        "match(np.eye(3, dtype='f4'), np.eye(3, dtype='f4'))\n"
        "print([n for n in ('numba', 'scipy', 'faiss', 'cv2', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_least_cosine():
    query_lf = np.eye(3, dtype=np.float32)
    other_lf = np.array([[1, 0, 0], [0, 0.8, 0.6], [0.6, 0, 0.8]], np.float32)
    assert match(query_lf, other_lf).query_m.tolist() == [0, 1, 2]
    assert match(query_lf, other_lf, min_cosine=0.79).query_m.tolist() == [0, 1, 2]
    assert match(query_lf, other_lf, min_cosine=0.81).query_m.tolist() == [0]
    found = Matcher(query_lf, lambda lf: lf, min_cosine=0.81).match(other_lf)
    assert found.query_m.tolist() == [0]
    with pytest.raises(ParameterError, match="min_cosine=2"):
        match(query_lf, other_lf, min_cosine=2)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f2", ">f4", "f8"])
def test_any_numbers_without_overflow(dtype):
    rng = np.random.default_rng(0)
    query_lf, other_lf = (rng.integers(0, 256, (30, 16)).astype(dtype) for _ in range(2))
    other_lf[:20] = query_lf[5:25]
    wanted = match(query_lf.astype(np.float32), other_lf.astype(np.float32))
    assert len(wanted) >= 20
    for got in (match(query_lf, other_lf), match(query_lf.tolist(), other_lf.tolist())):
        np.testing.assert_array_equal(got.query_m, wanted.query_m)
        np.testing.assert_array_equal(got.other_m, wanted.other_m)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("f4", 1e-30), ("f4", 1e15), ("f8", 1e-300), ("f8", 1e-30), ("f8", 1e300)],
)
def test_numbers_of_any_size(dtype, size):
    rng = np.random.default_rng(0)
    query_lf, other_lf = (rng.normal(size=(30, 16)).astype(dtype) for _ in range(2))
    other_lf[:20] = query_lf[5:25] + rng.normal(size=(20, 16)).astype(dtype) / 4
    wanted = match(query_lf, other_lf)
    got = match((query_lf * size).astype(dtype), (other_lf * size).astype(dtype))
    assert len(wanted) >= 20
    np.testing.assert_array_equal(got.query_m, wanted.query_m)
    np.testing.assert_array_equal(got.other_m, wanted.other_m)
    np.testing.assert_allclose(got.ratio_m, wanted.ratio_m, rtol=1e-3)


def test_tensors_lose_their_gradient():
    torch = pytest.importorskip("torch")
    one = torch.eye(3, requires_grad=True)
    assert match(one, np.eye(3)).query_m.tolist() == [0, 1, 2]
