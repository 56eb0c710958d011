"""Loops over the codes of images that Numba compiles: which words a query has, and how near.

Each image is gone through twice: first for the rows whose word the query has, without a branch that
could not be predicted, then for the distances of those. Meanwhile the next image is being fetched:
8 ms instead of 13 for 2,000 images of 900 words and a query of 5,000. (As a merge of two sorted
lists of words: 45 ms.)

None calls anything outside this file but `prefetch`: Numba would not notice a change elsewhere (see
`vladkit.kernels.cached`).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from vladkit.kernels import vector_code
from vladkit.kernels.cached import compiled
from vladkit.kernels.vector_code import prefetch

__all__ = ["add_binary", "add_listed", "common_rows", "dot_products"]

_OPTIONS: Final = {"error_model": "numpy"}
_KEPT: Final[dict[str, Any]] = _OPTIONS | {"beside": (vector_code.__file__,)}


@intrinsic  # type: ignore[untyped-decorator]
def _popcount(typing_context: Any, bits: Any) -> Any:
    """``popcount(bits)``: how many of 64 bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@numba.njit(**_OPTIONS)
def _common(word_N, code_Nb, begin, end, ahead, slot_k, row_l, slot_l):  # type: ignore[no-untyped-def]
    """Write the rows from `begin` to `end` whose word has a slot, and their slots; their number.

    Rows from `ahead` on, as many, are fetched. A word beyond the slots has none.
    """
    k, b = np.uint32(len(slot_k)), code_Nb.shape[1]
    code_M = code_Nb.reshape(-1)
    n = np.uint64(0)
    for i in range(begin, end):
        word = np.uint32(word_N[np.uint64(i)])
        slot = slot_k[np.uint64(min(word, k - np.uint32(1)))]
        slot = slot if word < k else np.int32(-1)
        row_l[n] = i
        slot_l[n] = slot
        n += np.uint64(slot >= 0)
        prefetch(code_M, (ahead + i - begin) * b)
        if i % 16 == 0:
            prefetch(word_N, ahead + i - begin)
    return np.int64(n)


def _add_pairs_of(b: int) -> Any:
    """Values of pairs of codes of `b` times 64 bits, added up; 0 is any number of bits.

    A number that the compiler knows takes the loop over it away.
    """

    @numba.njit(**_OPTIONS)
    def add_pairs(n, row_l, slot_l, arrays, total_B):  # type: ignore[no-untyped-def]
        code_Nb, angle_N, query_Sb, angle_S, weight_S, value_H = arrays
        width = b if b else code_Nb.shape[1]
        has_angles = len(total_B) > 1
        for j in range(n):
            i, s = np.uint64(row_l[j]), np.uint64(slot_l[j])
            distance = np.uint64(0)
            for c in range(width):
                distance += _popcount(code_Nb[i, np.uint64(c)] ^ query_Sb[s, np.uint64(c)])
            value = value_H[distance] * weight_S[s]
            if has_angles:
                turn = np.uint64(angle_N[i]) - np.uint64(angle_S[s]) + np.uint64(8)
                total_B[(turn & np.uint64(255)) >> np.uint64(4)] += value
            else:
                total_B[0] += value

    return add_pairs


_add_pairs, _add_pairs_1, _add_pairs_2 = _add_pairs_of(0), _add_pairs_of(1), _add_pairs_of(2)


@compiled(**_KEPT)
def add_binary(  # type: ignore[no-untyped-def]
    image_M, start_T, word_N, code_Nb, angle_N, slot_k, query_Sb, angle_S, weight_S, value_H,
    total_MB,
):  # fmt: skip
    """Add the values of the words that a query shares with each of some images to its totals.

    A value is that of the Hamming distance, times the weight of the word in the query. Totals have
    one bin, or 16 for the difference of angles.
    """
    b = code_Nb.shape[1]
    arrays = code_Nb, angle_N, query_Sb, angle_S, weight_S, value_H
    longest = np.int64(0)
    for image in image_M:
        longest = max(longest, start_T[image + 1] - start_T[image])
    row_l, slot_l = np.empty(longest, np.int64), np.empty(longest, np.int32)
    for m in range(len(image_M)):
        begin, end = start_T[image_M[m]], start_T[image_M[m] + 1]
        ahead = start_T[image_M[min(m + 1, len(image_M) - 1)]]
        n = _common(word_N, code_Nb, begin, end, ahead, slot_k, row_l, slot_l)
        if b == 1:
            _add_pairs_1(n, row_l, slot_l, arrays, total_MB[m])
        elif b == 2:
            _add_pairs_2(n, row_l, slot_l, arrays, total_MB[m])
        else:
            _add_pairs(n, row_l, slot_l, arrays, total_MB[m])


def _add_list_of(b: int) -> Any:
    """Values of one code and those of a list, of `b` times 64 bits, added to totals of images."""

    @numba.njit(**_OPTIONS)
    def add_list(begin, end, s, image_N, arrays, total_MB):  # type: ignore[no-untyped-def]
        code_Nb, angle_N, query_Sb, angle_S, weight_S, value_H = arrays
        width = b if b else code_Nb.shape[1]
        has_angles = total_MB.shape[1] > 1
        s = np.uint64(s)
        for row in range(begin, end):
            i = np.uint64(row)
            distance = np.uint64(0)
            for c in range(width):
                distance += _popcount(code_Nb[i, np.uint64(c)] ^ query_Sb[s, np.uint64(c)])
            turn = np.uint64(0)
            if has_angles:
                turn = np.uint64(angle_N[i]) - np.uint64(angle_S[s]) + np.uint64(8)
            turn = (turn & np.uint64(255)) >> np.uint64(4)
            total_MB[np.uint64(image_N[i]), turn] += value_H[distance] * weight_S[s]

    return add_list


_add_list, _add_list_2 = _add_list_of(0), _add_list_of(2)


@compiled(**_KEPT)
def add_listed(  # type: ignore[no-untyped-def]
    start_K, image_N, code_Nb, angle_N, word_S, query_Sb, angle_S, weight_S, value_H, total_MB
):
    """`add_binary` for all images, from lists of the rows of each word."""
    arrays = code_Nb, angle_N, query_Sb, angle_S, weight_S, value_H
    for s in range(len(word_S)):
        word = np.int64(word_S[s])
        if word + 1 >= len(start_K):
            continue
        begin, end = start_K[word], start_K[word + 1]
        if code_Nb.shape[1] == 2:
            _add_list_2(begin, end, s, image_N, arrays, total_MB)
        else:
            _add_list(begin, end, s, image_N, arrays, total_MB)


@compiled(**_KEPT)
def common_rows(  # type: ignore[no-untyped-def]
    image_M, start_T, word_N, code_Nd, slot_k, row_H, slot_H, end_M
):
    """Write the rows of some images whose word has a slot, their slots, and where each image ends.

    The outputs have room for all rows of the images. Returns the number of rows.
    """
    n = 0
    for m in range(len(image_M)):
        begin, end = start_T[image_M[m]], start_T[image_M[m] + 1]
        n += _common(word_N, code_Nd, begin, end, begin, slot_k, row_H[n:], slot_H[n:])
        end_M[m] = n
    return n


@compiled(**_KEPT, fastmath={"reassoc", "contract"})
def dot_products(code_Nd, query_Sd, row_H, slot_H, cosine_H):  # type: ignore[no-untyped-def]
    """Write the products of pairs of codes, in float64.

    In whatever order: of codes on the grid of `vladkit.core.linalg.on_grid` all sums are exact.
    """
    n, d = len(row_H), code_Nd.shape[1]
    code_M = code_Nd.reshape(-1)
    for j in range(n):
        ahead = row_H[min(j + 8, n - 1)] * d
        for c in range(ahead, ahead + d, 16):
            prefetch(code_M, c)
        code_d, query_d = code_Nd[row_H[j]], query_Sd[slot_H[j]]
        total = 0.0
        for c in range(d):
            total += np.float64(code_d[c]) * np.float64(query_d[c])
        cosine_H[j] = total
