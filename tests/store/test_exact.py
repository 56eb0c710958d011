"""Exact search: scores against exact arithmetic, on any processor's BLAS."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vladkit.store.exact import best, error_bound, estimate_all, score_all, widen


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("n_queries", [1, 3, 4, 8, 9])  # up to 8 go piece by piece
@pytest.mark.parametrize("size", [1, 37, 256, 2**16 + 5])
def test_scores_are_the_plain_product(dtype, n_queries, size):
    rng = np.random.default_rng(size)
    query_qD = rng.normal(size=(n_queries, size)).astype(np.float32)
    query_qD /= np.linalg.norm(query_qD, axis=1, keepdims=True)
    sizes = [3, 0, 1, 2 * 2**16 // size + 7]  # the last is more than one piece
    id_n = rng.permutation(sum(sizes)) + 10**12
    vector_nD = unit_rows_of(rng.normal(size=(len(id_n), size))).astype(dtype)
    parts = np.cumsum(sizes)[:-1]
    blocks = list(zip(np.split(id_n, parts), np.split(vector_nD, parts), strict=True))
    found_n, score_qn = score_all(query_qD, blocks)
    np.testing.assert_array_equal(found_n, id_n)
    assert score_qn.dtype == np.float64
    plain_qn = query_qD.astype(np.float64) @ vector_nD.astype(np.float64).T
    np.testing.assert_allclose(score_qn, plain_qn, atol=2e-7)
    also_n, estimate_qn = estimate_all(query_qD, blocks)
    np.testing.assert_array_equal(also_n, id_n)
    assert estimate_qn.dtype == np.float32
    assert np.abs(estimate_qn - score_qn).max() <= error_bound(size)


@pytest.mark.parametrize("n_queries", [1, 4, 9])
def test_subnormal_zero_and_largest_values_score_exactly(n_queries):
    """One value at a time, so that nothing is rounded."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    value_n = every[np.isfinite(every)]
    query_qD = np.zeros((n_queries, 3), np.float32)
    query_qD[:, 1] = 2.0 ** -np.arange(n_queries)
    vector_nD = np.zeros((len(value_n), 3), np.float16)
    vector_nD[:, 1] = value_n
    _, score_qn = score_all(query_qD, [(np.arange(len(value_n)), vector_nD)])
    np.testing.assert_array_equal(score_qn, query_qD[:, 1:2] * value_n.astype("f4"))


def unit_rows_of(values_nD):
    length_n = np.linalg.norm(values_nD.astype(np.float64), axis=1, keepdims=True)
    return (values_nD / np.maximum(length_n, 1e-30)).astype(values_nD.dtype)


@settings(max_examples=50, deadline=None)
@given(
    values_nD=hnp.arrays(
        np.float32, (5, 40), elements=st.floats(-1, 1, width=32, allow_subnormal=True)
    ),
    dtype=st.sampled_from(["f2", "f4"]),
    order=st.permutations(range(40)),
)
def test_scores_are_exact_in_any_order_of_summation(values_nD, dtype, order):
    vector_nD = unit_rows_of(values_nD)
    query_qD, vector_nD = vector_nD[:2], vector_nD.astype(dtype)
    _, score_qn = score_all(query_qD, [(np.arange(5), vector_nD)])
    _, shuffled_qn = score_all(query_qD[:, order], [(np.arange(5), vector_nD[:, order])])
    np.testing.assert_array_equal(score_qn, shuffled_qn)
    grid = 2**26
    for query_D, score_n in zip(query_qD, score_qn, strict=True):
        for vector_D, score in zip(vector_nD, score_n, strict=True):
            on_grid = [[round(Fraction(float(x)) * grid) for x in v] for v in (query_D, vector_D)]
            exact = Fraction(sum(a * b for a, b in zip(*on_grid, strict=True)), grid**2)
            assert Fraction(float(score)) == exact


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_equal_vectors_have_equal_scores_wherever_they_stand(dtype):
    rng = np.random.default_rng(0)
    vector_nD = unit_rows_of(rng.normal(size=(4000, 333)).astype(np.float32)).astype(dtype)
    place_n = rng.choice(4000, 100, replace=False)
    vector_nD[place_n] = vector_nD[place_n[0]]
    query_qD = unit_rows_of(rng.normal(size=(20, 333)).astype(np.float32))
    blocks = [(np.arange(a, b), vector_nD[a:b]) for a, b in ((0, 7), (7, 1000), (1000, 4000))]
    for n_queries in (1, 4, 20):
        _, score_qn = score_all(query_qD[:n_queries], blocks)
        assert (np.ptp(score_qn[:, place_n], axis=1) == 0).all()


BLAS = """
import hashlib, numpy as np
from vladkit.store.exact import score_all
rng = np.random.default_rng(0)
for dtype in ("f2", "f4"):
    for size in (33, 4096):
        vector_nD = rng.integers(-100, 100, (3000 if size == 33 else 300, size)).astype("f4")
        vector_nD /= np.float32(100 * np.sqrt(size))
        for q in (1, 4, 30):
            block = np.arange(len(vector_nD)), vector_nD.astype(dtype)
            score_qn = score_all(vector_nD[:q], [block])[1]
            print(hashlib.sha256(score_qn.tobytes()).hexdigest())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86-64")
def test_scores_do_not_depend_on_the_processors_blas():
    flags = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    kernels = ["Prescott", "Nehalem", *["Haswell", "Zen"] * ("avx2" in flags)]
    kernels += ["SkylakeX"] * ("avx512vl" in flags)
    printed = {
        kernel: subprocess.run(
            [sys.executable, "-c", BLAS],
            env=os.environ | ({"OPENBLAS_CORETYPE": kernel} if kernel else {}),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for kernel in ["", *kernels]
    }
    assert len(printed[""].split()) == 12
    assert len(set(printed.values())) == 1, printed


def test_no_blocks_have_no_scores():
    id_n, score_qn = score_all(np.ones((2, 5), np.float32), [])
    assert id_n.shape == (0,)
    assert score_qn.shape == (2, 0)


def test_best():
    score_n = np.array([0.5, 0.9, 0.5, 0.1, 0.5], np.float32)
    assert best(score_n, 1).tolist() == [1]
    assert best(score_n, 2).tolist() == [1, 0, 2, 4]  # all that tie with the last
    assert best(score_n, 0).tolist() == [1, 0, 2, 4, 3]
    assert best(score_n, 9).tolist() == [1, 0, 2, 4, 3]
    assert best(np.empty(0, np.float32), 3).tolist() == []


def test_every_finite_float16_is_widened_exactly():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(2, -1)
    np.testing.assert_array_equal(widen(finite), finite.astype(np.float32))
    assert np.array_equal(np.signbit(widen(finite)), np.signbit(finite))
    np.testing.assert_array_equal(widen(finite.astype("f4")), finite.astype("f4"))
