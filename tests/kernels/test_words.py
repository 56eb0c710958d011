"""Nearest words cell by cell: a plain sort, and the same by compiled code and by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
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


def _family(seed):
    """Descriptors and words in cells: numbers of all kinds, and words that are nearly one."""
    rng = np.random.default_rng(seed)
    dtype, kind = ("float32", "float64")[seed % 2], seed // 2 % 6
    f, c, l = (int(rng.integers(1, most)) for most in (40, 9, 300))
    k = int(rng.integers(1, 300))
    local_lf, centroid_kf = rng.normal(size=(l, f)), rng.normal(size=(k, f))
    if kind == 1:
        local_lf, centroid_kf = np.rint(local_lf), np.rint(centroid_kf)
    elif kind == 2:
        near_kf = centroid_kf[rng.integers(0, min(k, 5), k)]
        centroid_kf = near_kf + 1e-6 * rng.normal(size=(k, f))
    elif kind == 3:
        local_lf, centroid_kf = 1e18 * local_lf, 1e18 * centroid_kf
    elif kind == 4:
        local_lf, centroid_kf = local_lf + 1000, centroid_kf + 1000
    elif kind == 5:  # two and two, in one lane of a register if they are in one cell
        centroid_kf[16:] = centroid_kf[:-16] + 1e-7 * rng.normal(size=centroid_kf[16:].shape)
        c = 2
    local_lf, centroid_kf = local_lf.astype(dtype), centroid_kf.astype(dtype)
    cell_k = rng.integers(0, 1 if kind == 5 else c, k)  # some cells are without words
    cell_cf = np.stack([centroid_kf[rng.integers(0, k, 3)].mean(axis=0) for _ in range(c)])
    return local_lf, centroid_kf, cell_cf.astype(dtype), cell_k, int(rng.integers(1, c + 1))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5]))
@example(1507609, 2)  # more cells are wanted than have words: none of them twice
def test_the_same_words_before_and_after_compiled_code_is_loaded(seed, n_assign):
    local_lf, centroid_kf, cell_cf, cell_k, n_probes = _family(seed)
    code = words._code(str(local_lf.dtype))
    code._load()
    search = WordSearch(centroid_kf, cell_cf, cell_k)
    found = []
    for code._is_ready in (False, True):
        found.append(search.nearest(local_lf, min(n_assign, len(centroid_kf)), n_probes))
    np.testing.assert_array_equal(*found)


def test_of_equal_words_the_lowest_of_the_lowest_cell(way):
    rng = np.random.default_rng(0)
    centroid_kf = np.repeat(rng.normal(size=(1, 128)), 40, axis=0).astype(np.float32)
    cell_k = rng.permutation(np.arange(40) % 4)
    local_lf = rng.normal(size=(30, 128)).astype(np.float32)
    search = WordSearch(centroid_kf, np.repeat(centroid_kf[:1], 4, axis=0), cell_k)
    wanted = np.flatnonzero(cell_k == 0)[:5].tolist()
    assert search.nearest(local_lf, 5, 3).tolist() == [wanted] * 30


def test_a_word_whose_score_is_closest_by_a_hair(way):
    """In float32 the scores of 60 words are the same, or in any order."""
    rng = np.random.default_rng(0)
    base_f = rng.normal(size=128).astype(np.float32)
    centroid_kf = np.repeat(base_f[None], 60, axis=0)
    centroid_kf[np.arange(60), np.arange(60)] += np.float32(1e-6) * np.sign(base_f[:60])
    local_lf = np.stack([base_f] * 60)
    local_lf[np.arange(60), np.arange(60)] *= 40
    search = WordSearch(centroid_kf, centroid_kf[:2].copy(), np.arange(60) % 2)
    word_kf, bias_k, _, _ = search._layout(np.dtype(np.float32), False)
    exact_lk = local_lf.astype(np.float64) @ word_kf.T.astype(np.float64) + bias_k
    best_l = search._order_k[exact_lk.argmax(axis=1)]
    np.testing.assert_array_equal(search.nearest(local_lf, 1, 2)[:, 0], best_l)


def test_cells_without_words_are_not_looked_into(way):
    rng = np.random.default_rng(1)
    local_lf, centroid_kf = (rng.normal(size=(n, 8)).astype(np.float32) for n in (50, 60))
    cell_k = np.repeat([1, 3], 30)
    cell_cf = np.stack([local_lf.mean(axis=0)] * 5)  # all as near, the first without words
    search = WordSearch(centroid_kf, cell_cf, cell_k)
    wanted = plain(local_lf, centroid_kf, cell_cf[[1, 3]], cell_k // 2, 2, 2)
    np.testing.assert_array_equal(search.nearest(local_lf, 2, 2), wanted)


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
    for keep in words._keep_best, words._compiled("best_words").keep_best:
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
