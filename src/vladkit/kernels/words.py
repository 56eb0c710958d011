"""`WordSearch`: the nearest words of descriptors in a large codebook, cell by cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib import import_module
from time import perf_counter
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.kernels.loading import Code
from vladkit.kernels.nearest import centered_codebook, check_overflow

__all__ = ["WordSearch"]

_SCORES: Final = 2**20
"""Scores of all words that exist at a time: 4 MB of float32."""

_ROWS: Final = 2**12
"""Descriptors that look into their cells together."""

_MORE: Final = 2
"""Words that are found beyond those that are wanted: mostly the last is clearly not among these."""

_LAID_OUT: Final = 256
"""Words that are laid out at a time."""


class WordSearch:
    """Words in cells: only those in the cells nearest to a descriptor are compared with it.

    Parameters
    ----------
    centroid_kf : (k, f) floating
        Words.
    cell_cf : (c, f) floating
        Centres of the cells.
    cell_k : (k,) integers
        Cell of each word.

    Notes
    -----
    By products of the descriptors that look into a cell with the words in it, or by compiled code
    (`vladkit.kernels.cell_words`), once it is loaded. Where two scores are closer than rounding may
    decide, they are computed once more, in float64 and one order: so the words are the same whether
    that is loaded or not. Time O(l f (c + n_probes k / c)).
    """

    def __init__(self, centroid_kf: FloatArray, cell_cf: FloatArray, cell_k: AnyArray) -> None:
        self._centroid_kf, self._cell_cf = centroid_kf, cell_cf
        self._order_k = np.argsort(cell_k, kind="stable")
        self._fence_C = np.searchsorted(cell_k[self._order_k], np.arange(len(cell_cf) + 1))
        self._laid_out: dict[tuple[Any, bool], tuple[AnyArray, ...]] = {}
        self._panels: dict[Any, Any] = {}
        self._sizes: dict[Any, tuple[float, float]] = {}

    @cached_property
    def digest(self) -> bytes:
        """Hash of the words, to tell two codebooks apart."""
        return hashlib.blake2b(
            np.ascontiguousarray(self._centroid_kf).data, digest_size=16
        ).digest()

    def nearest(
        self, local_lf: FloatArray, n_assign: int = 1, n_probes: int | None = None
    ) -> Int64Array:
        """Find the nearest words of each descriptor.

        Parameters
        ----------
        local_lf : (l, f) float32 or float64, finite
        n_assign : int
            Words for each descriptor, at most k.
        n_probes : int or None
            Cells that are looked into; None is all words.

        Returns
        -------
        word_la : (l, n_assign) int64
            Nearest first; -1 where the cells have no more words. Ties go to the lowest cell, and
            to the lowest word of it.

        Raises
        ------
        NonFiniteError
            If scores overflow.
        """
        l, c, k = len(local_lf), len(self._cell_cf), len(self._centroid_kf)
        is_exact = n_probes is None or n_probes >= c
        word_kf, bias_k, cell_cf, bias_c = self._layout(local_lf.dtype, is_exact)
        word_la, score_l = np.empty((l, n_assign), np.int64), np.empty(l, local_lf.dtype)
        step = max(16, _SCORES // k) if is_exact else _ROWS
        for begin in range(0, l, step):
            some = slice(begin, begin + step)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
                if n_probes is None or is_exact:
                    score_na, word_la[some] = _best(local_lf[some] @ word_kf.T + bias_k, n_assign)
                else:
                    _, cell_np = _best(local_lf[some] @ cell_cf.T + bias_c, n_probes)
                    score_na, word_la[some] = self._in_cells(
                        local_lf[some], cell_np, word_kf, bias_k, n_assign
                    )
            score_l[some] = score_na[:, 0]
        check_overflow(score_l)
        return word_la

    def _in_cells(
        self,
        local_nf: FloatArray,
        cell_np: Int64Array,
        word_kf: FloatArray,
        bias_k: FloatArray,
        n_assign: int,
    ) -> tuple[FloatArray, Int64Array]:
        """Best words of descriptors, and their scores, among those of some cells for each."""
        by_cell = self._by_cell(cell_np)
        doubt_n = _doubt(local_nf, *self._size(word_kf, bias_k))
        code = _code(str(word_kf.dtype))
        is_compiled = code.is_ready()
        if is_compiled and n_assign == 1 and np.isfinite(doubt_n).all():
            panels = self._in_panels(word_kf, bias_k)
            place_nA, score_nA = _compiled("cell_words").best_three(local_nf, *by_cell, panels)
        else:
            begin = perf_counter()
            keep = _compiled("best_words").keep_best if is_compiled else _keep_best
            score_nA = np.full((len(local_nf), n_assign + _MORE), -np.inf, word_kf.dtype)
            place_nA = np.full(score_nA.shape, -1)
            for row_m, words in self._cells(*by_cell):
                score_mw = local_nf[row_m] @ word_kf[words].T
                keep(score_mw, bias_k[words], row_m, words.start, score_nA, place_nA)
            if not is_compiled:
                code.note(perf_counter() - begin)
        with np.errstate(invalid="ignore"):
            gap_na = -np.diff(score_nA[:, : n_assign + 1], axis=1)
            row_r = np.flatnonzero((gap_na <= doubt_n[:, None]).any(axis=1))
            limit_r = score_nA[row_r, n_assign - 1] - 1.001 * doubt_n[row_r]
        place_na = place_nA[:, :n_assign]
        if len(row_r):
            found = place_nA[row_r], score_nA[row_r]
            place_na[row_r] = self._decide(
                local_nf[row_r], cell_np[row_r], limit_r, *found, word_kf, bias_k, n_assign
            )
        return score_nA[:, :n_assign], np.where(place_na < 0, -1, self._order_k[place_na])

    def _by_cell(self, cell_np: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Rows that look into each cell, those of the first cell first, and where a cell begins."""
        n_probes = cell_np.shape[1]
        # a row for each descriptor and cell, sorted by cell: bytes in a tenth of the time of int64
        cell_N = cell_np.ravel().astype(np.min_scalar_type(len(self._cell_cf)))
        order_N = np.argsort(cell_N, kind="stable")
        return order_N // n_probes, np.searchsorted(cell_N[order_N], np.arange(len(self._fence_C)))

    def _cells(self, row_N: Int64Array, fence_C: Int64Array) -> Iterator[tuple[Int64Array, slice]]:
        """Rows that look into a cell, and its words in the order of cells."""
        for cell in np.flatnonzero(np.diff(fence_C) * np.diff(self._fence_C)):
            words = slice(self._fence_C[cell], self._fence_C[cell + 1])
            yield row_N[fence_C[cell] : fence_C[cell + 1]], words

    def _decide(
        self,
        local_rf: FloatArray,
        cell_rp: Int64Array,
        limit_r: FloatArray,
        place_rA: Int64Array,
        score_rA: FloatArray,
        word_kf: FloatArray,
        bias_k: FloatArray,
        n_assign: int,
    ) -> Int64Array:
        """Places of the best words by scores in float64, among those not below a limit.

        These are among the best that were found, unless the last of these, too, is not below it, or
        one whose place is not known.
        """
        is_open_r = score_rA[:, -1] >= limit_r
        is_open_r |= ((place_rA < 0) & (score_rA >= limit_r[:, None])).any(axis=1)
        open_o = np.flatnonzero(is_open_r)
        row, column = np.nonzero((score_rA >= limit_r[:, None]) & ~is_open_r[:, None])
        rows, places = [row], [place_rA[row, column]]
        for row_m, words in self._cells(*self._by_cell(cell_rp[open_o])):
            row_m = open_o[row_m]
            score_mw = local_rf[row_m] @ word_kf[words].T + bias_k[words]
            m, w = np.nonzero(score_mw >= limit_r[row_m, None])
            rows.append(row_m[m])
            places.append(w + words.start)
        row_P, place_P = np.concatenate(rows), np.concatenate(places)
        score_P = np.empty(len(row_P))
        for begin in range(0, len(row_P), _ROWS):
            some = slice(begin, begin + _ROWS)
            word_nf = word_kf[place_P[some]].astype(np.float64)
            term_nF = np.column_stack([bias_k[place_P[some]], word_nf * local_rf[row_P[some]]])
            score_P[some] = np.add.accumulate(term_nF, axis=1)[:, -1]  # in order, as no sum is
        best_P = np.lexsort((place_P, -score_P, row_P))
        row_P = row_P[best_P]
        rank_P = np.arange(len(row_P)) - np.searchsorted(row_P, row_P)
        is_best_P = rank_P < n_assign
        place_ra = np.full((len(local_rf), n_assign), -1)
        place_ra[row_P[is_best_P], rank_P[is_best_P]] = place_P[best_P][is_best_P]
        return place_ra

    def _size(self, word_kf: FloatArray, bias_k: FloatArray) -> tuple[float, float]:
        """Longest word and largest bias."""
        if word_kf.dtype not in self._sizes:
            square_k = np.einsum("kf,kf->k", word_kf, word_kf, dtype=np.float64)
            longest = float(np.sqrt(square_k.max())), float(np.abs(bias_k).max())
            self._sizes[word_kf.dtype] = longest
        return self._sizes[word_kf.dtype]

    def _in_panels(self, word_kf: FloatArray, bias_k: FloatArray) -> Any:
        """Words as compiled code reads them."""
        if word_kf.dtype not in self._panels:
            panels = _compiled("cell_words").CellPanels(word_kf, bias_k, self._fence_C)
            self._panels[word_kf.dtype] = panels
        return self._panels[word_kf.dtype]

    def _layout(self, dtype: np.dtype[Any], is_exact: bool) -> tuple[AnyArray, ...]:
        """Directions and biases of words, in the order of cells unless exact, and of cells."""
        key = dtype, is_exact
        if key not in self._laid_out:
            some_kf = self._centroid_kf[:: max(1, len(self._centroid_kf) // 256)].astype(np.float64)
            origin_f, _, _, unit_2 = centered_codebook(np, some_kf, some_kf)
            shared = origin_f.astype(dtype), [dtype.type(unit) for unit in unit_2]
            is_sorted = is_exact or bool((np.diff(self._order_k) == 1).all())
            word_kf = self._centroid_kf if is_sorted else self._centroid_kf[self._order_k]
            cell_cf, bias_c = _scored(self._cell_cf, *shared)
            # one without words comes last; not -inf, by which `_best` marks those that are taken
            bias_c[np.diff(self._fence_C) == 0] = np.finfo(dtype).min / 2
            self._laid_out[key] = *_scored(word_kf, *shared), cell_cf, bias_c
        return self._laid_out[key]


def _scored(
    centroid_kf: FloatArray, origin_f: FloatArray, units: list[Any]
) -> tuple[FloatArray, FloatArray]:
    """Directions and biases of `vladkit.kernels.nearest.centered_codebook`, in the origin's dtype.

    Sums are in float64. A block of rows at a time, which stays in cache: 16,384 x 128 take a third
    of the time.
    """
    dtype = origin_f.dtype
    scaled_kf, bias_k = np.empty(centroid_kf.shape, dtype), np.empty(len(centroid_kf), dtype)
    for begin in range(0, len(centroid_kf), _LAID_OUT):
        some = slice(begin, begin + _LAID_OUT)
        direction_bf = centroid_kf[some].astype(dtype, copy=False) - origin_f
        scaled_bf = np.divide(direction_bf, units[0], out=scaled_kf[some])
        bias_b = -0.5 * np.einsum("bf,bf->b", scaled_bf, direction_bf, dtype=np.float64)
        if origin_f.any():
            bias_b -= np.einsum("bf,f->b", scaled_bf, origin_f, dtype=np.float64)
        scaled_bf /= units[1]
        bias_k[some] = bias_b / units[1]
    return scaled_kf, bias_k


def _best(score_nk: FloatArray, most: int) -> tuple[FloatArray, Int64Array]:
    """Highest scores of each row and their columns, the first of equals; `score_nk` is lost."""
    n, k = score_nk.shape
    score_na, best_na = np.empty((n, most), score_nk.dtype), np.empty((n, most), np.int64)
    score_M, begin_n = score_nk.reshape(-1), np.arange(0, n * k, k)
    for i in range(most):
        best_na[:, i] = best_n = score_nk.argmax(axis=1)
        best_n += begin_n
        score_na[:, i] = score_M[best_n]
        if i + 1 < most:
            score_M[best_n] = -np.inf
    return score_na, best_na


def _keep_best(
    score_mw: FloatArray,
    bias_w: FloatArray,
    row_m: Int64Array,
    first: int,
    score_na: FloatArray,
    place_na: Int64Array,
) -> None:
    """Keep the best of what rows have and of scores with a bias, sorted; of equals what is there.

    The oracle of `vladkit.kernels.best_words.keep_best`; `score_mw` is lost.
    """
    score_mw += bias_w
    new_ma, column_ma = _best(score_mw, min(score_na.shape[1], score_mw.shape[1]))
    both_mA = np.hstack([score_na[row_m], new_ma])
    place_mA = np.hstack([place_na[row_m], column_ma + first])
    best_ma, chosen_ma = _best(both_mA, score_na.shape[1])
    place_ma = np.take_along_axis(place_mA, chosen_ma, axis=1)
    score_na[row_m] = best_ma
    place_na[row_m] = np.where(best_ma > -np.inf, place_ma, -1)


def _doubt(local_nf: FloatArray, longest: float, largest_bias: float) -> FloatArray:
    """Differences of scores up to which rounding may decide: both have f products and sums.

    Infinite where scores might overflow.
    """
    f, limits = local_nf.shape[1], np.finfo(local_nf.dtype)
    norm_n = np.sqrt(np.einsum("nf,nf->n", local_nf, local_nf, dtype=np.float64))
    most_n = norm_n * longest + largest_bias
    doubt_n: FloatArray = (f + 3) * limits.eps * most_n + f * limits.tiny
    doubt_n[~(most_n < limits.max / 2)] = np.inf
    return doubt_n


def _compiled(name: str) -> Any:
    return import_module(f"vladkit.kernels.{name}")


@lru_cache
def _code(dtype: str) -> Code:
    """Compiled code for descriptors of a dtype."""

    def load() -> None:
        score_11, row_1 = np.zeros((1, 1), dtype), np.zeros(1, np.int64)
        kept = score_11.copy(), row_1[None].copy()
        _compiled("best_words").keep_best(score_11, score_11[0], row_1, 0, *kept)
        cell_words = _compiled("cell_words")
        panels = cell_words.CellPanels(score_11, score_11[0], np.array([0, 1]))
        cell_words.best_three(score_11, row_1, np.array([0, 1]), panels)

    return Code(load)
