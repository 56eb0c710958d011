"""Loop that keeps the best scores of rows, compiled by Numba: see `vladkit.kernels.words`.

It calls nothing outside this file: Numba would not notice a change there.
"""

from __future__ import annotations

from typing import Final

from vladkit.kernels.cached import compiled

__all__ = ["keep_best"]

_OPTIONS: Final = {"error_model": "numpy"}

_CHUNK: Final = 32


@compiled(**_OPTIONS)
def keep_best(score_mw, bias_w, row_m, first, score_na, place_na):  # type: ignore[no-untyped-def]
    """Keep the best of what rows have and of scores with a bias, sorted; of equals what is there.

    NaN goes before any number, as NumPy's argmax has it.
    """
    a, n_words = score_na.shape[1], score_mw.shape[1]
    for i in range(len(row_m)):
        row = row_m[i]
        for begin in range(0, n_words, _CHUNK):
            end = min(begin + _CHUNK, n_words)
            limit = score_na[row, a - 1]
            n_better = 0
            for j in range(begin, end):  # without a branch
                n_better += not score_mw[i, j] + bias_w[j] <= limit
            for j in range(begin, end if n_better else begin):
                score = score_mw[i, j] + bias_w[j]
                at = a
                while at > 0:
                    kept = score_na[row, at - 1]
                    if score <= kept or kept != kept:  # nothing goes before NaN
                        break
                    at -= 1
                if at == a:
                    continue
                for later in range(a - 1, at, -1):
                    score_na[row, later] = score_na[row, later - 1]
                    place_na[row, later] = place_na[row, later - 1]
                score_na[row, at] = score
                place_na[row, at] = first + j
