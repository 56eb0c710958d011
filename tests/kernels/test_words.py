"""Nearest words cell by cell: a plain sort, and the same by compiled code and by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vladkit.kernels import words
from vladkit.kernels.words import WordSearch


def plain(local_lf, centroid_kf, cell_cf, cell_k, n_assign, n_probes):
    """Words of the nearest cells, sorted by distance, cell and word."""
    rows = []
    for local_f in local_lf.astype(np.float64):
        far_c = ((cell_cf - local_f) ** 2).sum(axis=1)
        cells = np.lexsort((np.arange(len(cell_cf)), far_c))[:n_probes]
        word_w = np.flatnonzero(np.isin(cell_k, cells))
        far_w = ((centroid_kf[word_w] - local_f) ** 2).sum(axis=1)
        found = word_w[np.lexsort((word_w, cell_k[word_w], far_w))][:n_assign].tolist()
        rows.append(found + [-1] * (n_assign - len(found)))
    return np.array(rows)


@pytest.fixture(params=["numpy", "compiled"])
def way(request, monkeypatch):
    code = words._code("float32")
    if request.param == "compiled":
        code._load()
    monkeypatch.setattr(code, "_is_ready", request.param == "compiled")
    monkeypatch.setattr(code, "note", lambda seconds: None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5))
def test_ties_are_broken_in_one_way(seed, n_assign, n_probes):
    rng = np.random.default_rng(seed)
    c, k = 6, int(rng.integers(6, 90))
    sizes = (20, 3), (c, 3), (k, 3)
    local_lf, cell_cf, centroid_kf = (rng.integers(-1, 2, s).astype(np.float32) for s in sizes)
    cell_k = rng.permutation(np.append(np.arange(c), rng.integers(0, c, k - c)))
    search = WordSearch(centroid_kf, cell_cf, cell_k)
    code = words._code("float32")
    code._load()
    found = []
    for code._is_ready in (False, True):
        found.append(search.nearest(local_lf, min(n_assign, k), n_probes))
    np.testing.assert_array_equal(*found)


def test_many_words_of_a_cell(way):
    rng = np.random.default_rng(1)
    local_lf, cell_cf, centroid_kf = (
        rng.normal(size=(n, 8)).astype(np.float32) for n in (50, 3, 400)
    )
    cell_k = rng.integers(0, 3, 400)
    found = WordSearch(centroid_kf, cell_cf, cell_k).nearest(local_lf, 5, 2)
    np.testing.assert_array_equal(found, plain(local_lf, centroid_kf, cell_cf, cell_k, 5, 2))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 70))
def test_scores_that_are_equal_infinite_or_no_number(seed, n_assign, n_words):
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, 2, -1, np.inf, -np.inf, np.nan], 3 + int(rng.integers(5)))
    score_mw = rng.choice(values, (9, n_words)).astype(np.float32)
    if seed % 2:
        score_mw = np.nan_to_num(score_mw)
    bias_w = rng.choice([0.0, 1.0, -1.0], n_words).astype(np.float32)
    row_m = rng.permutation(12)[:9]
    kept = []
    for keep in words._keep_best, words._compiled().keep_best:
        score_na = np.full((12, n_assign), -np.inf, np.float32)
        score_na[::2, 0] = 0
        place_na = np.where(score_na == 0, 7, -1)
        with np.errstate(invalid="ignore"):
            keep(score_mw.copy(), bias_w, row_m, 100, score_na, place_na)
        kept.append((score_na, place_na))
    np.testing.assert_array_equal(kept[0][0][:, 0], kept[1][0][:, 0])
    known_n = ~np.isnan(kept[0][0]).any(axis=1)  # of several that are no numbers any place will do
    np.testing.assert_array_equal(kept[0][1][known_n], kept[1][1][known_n])
    np.testing.assert_array_equal(kept[0][0][known_n], kept[1][0][known_n])
