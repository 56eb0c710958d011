"""`WordSearch`: the nearest words of descriptors in a large codebook, cell by cell."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.kernels.nearest import centered_codebook, check_overflow

__all__ = ["WordSearch"]

_SCORES: Final = 2**20
"""Scores of all words that exist at a time: 4 MB of float32."""

_ROWS: Final = 2**12
"""Descriptors that look into their cells together."""


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
    In NumPy, by products of the descriptors that look into a cell with the words in it. Time
    O(l f (c + n_probes k / c)).
    """

    def __init__(self, centroid_kf: FloatArray, cell_cf: FloatArray, cell_k: AnyArray) -> None:
        self._centroid_kf, self._cell_cf = centroid_kf, cell_cf
        self._order_k = np.argsort(cell_k, kind="stable")
        self._fence_C = np.searchsorted(cell_k[self._order_k], np.arange(len(cell_cf) + 1))
        self._laid_out: dict[tuple[Any, bool], tuple[AnyArray, ...]] = {}

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
            Nearest first; -1 where the cells have no more words. Ties go to the lowest word of a
            cell, and to the nearer cell.

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
        n, n_probes = cell_np.shape
        # a row for each descriptor and cell, sorted by cell
        order_N = np.argsort(cell_np.ravel(), kind="stable")
        row_N, cell_N = order_N // n_probes, cell_np.ravel()[order_N]
        fence_C = np.searchsorted(cell_N, np.arange(len(self._fence_C)))
        score_Na = np.full((len(order_N), n_assign), -np.inf, word_kf.dtype)
        word_Na = np.zeros((len(order_N), n_assign), np.int64)
        for cell in np.flatnonzero(np.diff(fence_C)):
            some = slice(fence_C[cell], fence_C[cell + 1])
            words = slice(self._fence_C[cell], self._fence_C[cell + 1])
            score_nw = local_nf[row_N[some]] @ word_kf[words].T
            score_nw += bias_k[words]
            most = min(n_assign, score_nw.shape[1])
            score_Na[some, :most], word_Na[some, :most] = _best(score_nw, most)
        word_Na = self._order_k[word_Na + self._fence_C[cell_N, None]]
        place_N = np.empty_like(order_N)
        place_N[order_N] = np.arange(len(order_N))
        score_nA, word_nA = score_Na[place_N].reshape(n, -1), word_Na[place_N].reshape(n, -1)
        score_na, chosen_na = _best(score_nA, n_assign)
        return score_na, np.where(score_na > -np.inf, word_nA[np.arange(n)[:, None], chosen_na], -1)

    def _layout(self, dtype: np.dtype[Any], is_exact: bool) -> tuple[AnyArray, ...]:
        """Directions and biases of words, in the order of cells unless exact, and of cells."""
        key = dtype, is_exact
        if key not in self._laid_out:
            some_kf = self._centroid_kf[:: max(1, len(self._centroid_kf) // 256)].astype(np.float64)
            origin_f, _, _, unit_2 = centered_codebook(np, some_kf, some_kf)
            shared = origin_f.astype(dtype), [dtype.type(unit) for unit in unit_2]
            is_sorted = is_exact or bool((np.diff(self._order_k) == 1).all())
            word_kf = self._centroid_kf if is_sorted else self._centroid_kf[self._order_k]
            self._laid_out[key] = *_scored(word_kf, *shared), *_scored(self._cell_cf, *shared)
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
