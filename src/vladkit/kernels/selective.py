"""Sums of selectivity over the words that a query and images share: the scores of ASMK.

Compiled loops (`vladkit.kernels.hamming`) and NumPy's, for a process that has not loaded Numba,
give the same bits: both take the rows of an image in their order, in float64. An image's sum is the
same whichever other images are scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.codes import Codes, rows_of
from vladkit.kernels.loading import Code

__all__ = [
    "N_BINS",
    "Lists",
    "Selectivity",
    "best_turn",
    "fence_of_blocks",
    "lists_for",
    "sums_of_common",
]

N_BINS: Final = 16
"""Bins of the difference of two angles: those of a quarter turn are 4 further on."""

_BLOCK_ROWS: Final = 2**16
"""Rows that NumPy takes at a time: 1 MB of codes of 128 bits."""

_SHARED_ROWS: Final = 2**18
"""Rows for a thread: 1 ms."""

_MANY_QUERIES: Final = 16
"""Queries of the same images after which their rows are listed by word. For 2,000 images that takes
as long as some 5 of them, and another 50 MB."""

_NO_ANGLES: Final = np.zeros(0, np.uint8)
_NO_ANGLES.flags.writeable = False

_BITS_SET: Final = np.array([i.bit_count() for i in range(2**16)], np.uint8)


@dataclass(frozen=True, slots=True)
class Selectivity:
    """Worth of a pair of codes of similarity u: ``u ^ alpha`` from `tau` on, 0 below.

    Parameters
    ----------
    alpha, tau : float from 0
    n_bits : int
        B of binary codes, where u = 1 - 2 h / B with the Hamming distance h.
    """

    alpha: float
    tau: float
    n_bits: int

    def values(self, u_H: FloatArray) -> FloatArray:
        """Worth of each similarity."""
        value_H = np.zeros(len(u_H))
        is_kept_H = u_H >= self.tau
        value_H[is_kept_H] = u_H[is_kept_H] ** self.alpha
        return value_H

    def table(self, n_bytes: int) -> FloatArray:
        """Worth of each Hamming distance that codes of `n_bytes` can have."""
        return self.values(1 - 2 * np.arange(8 * n_bytes + 1) / self.n_bits)


@dataclass(frozen=True, slots=True)
class Lists:
    """Rows of binary codes, word after word.

    Parameters
    ----------
    start_K : (k + 1,) int64
        Where each word's rows start.
    image_N : (N,) int32
        Image of each row, rising within a word.
    code_Nb : (N, b) uint64
    angle_N : (N,) uint8, or none of them
    """

    start_K: Int64Array
    image_N: npt.NDArray[np.int32]
    code_Nb: AnyArray
    angle_N: npt.NDArray[np.uint8]


def lists_for(codes: Codes, n_queries: int) -> Lists | None:
    """Lists of binary codes that so far, with these, have been compared with many queries."""
    if codes.code_Nb.dtype != np.uint8 or not _code(True).is_ready():
        return None
    if codes._lists is None:
        codes._n_queries += n_queries
        if codes._n_queries >= _MANY_QUERIES:
            codes._lists = _listed(codes)
    lists: Lists | None = codes._lists
    return lists


def _listed(codes: Codes) -> Lists:
    from vladkit.kernels.segment import sort

    start_K, order_N = np.zeros(codes.n_words + 1, np.int64), np.empty(len(codes.word_N), np.int64)
    sort(codes.word_N.astype(np.int64), start_K, order_N)
    image_N = np.repeat(np.arange(len(codes), dtype=np.int32), np.diff(codes.start_T))[order_N]
    angle_N = _NO_ANGLES if codes.angle_N is None else codes.angle_N[order_N]
    lists = Lists(start_K, image_N, _as_words(codes.code_Nb)[order_N], angle_N)
    for array in (lists.code_Nb, lists.angle_N):
        array.flags.writeable = False
    return lists


def sums_of_common(
    query: Codes,
    codes: Codes,
    image_M: Int64Array,
    weight_k: FloatArray,
    selectivity: Selectivity,
    lists: Lists | None = None,
) -> FloatArray:
    """Sum the worth of the words that one query shares with each of some images.

    Parameters
    ----------
    query : Codes of one image
    codes : Codes of its kind
    image_M : (m,)
        Images that are scored.
    weight_k : (k,) float64
        Factor of each word; k is above all words of both.
    selectivity : Selectivity
    lists : Lists or None
        Lists of `codes`, if all images are scored: 10 times as fast where few words are shared.

    Returns
    -------
    total_MB : (m, 1) float64, or (m, 16) with angles
        A bin for each difference of angles, (image's - query's) / 22.5 degrees, rounded.
    """
    slot_k = np.full(len(weight_k), -1, np.int32)
    slot_k[query.word_N] = np.arange(len(query.word_N), dtype=np.int32)
    weight_S = weight_k[query.word_N]
    total_MB = np.zeros((len(image_M), 1 if codes.angle_N is None else N_BINS))
    is_binary = codes.code_Nb.dtype == np.uint8
    code = _code(is_binary)
    begin = perf_counter()
    is_compiled = code.is_ready()
    if lists is not None:
        angle_S = _NO_ANGLES if query.angle_N is None else query.angle_N
        _loops().add_listed(
            lists.start_K, lists.image_N, lists.code_Nb, lists.angle_N, query.word_N,
            _as_words(query.code_Nb), angle_S, weight_S,
            selectivity.table(codes.code_Nb.shape[1]), total_MB,
        )  # fmt: skip
        return total_MB
    if is_binary and is_compiled:
        angle_N, angle_S = (_NO_ANGLES if c.angle_N is None else c.angle_N for c in (codes, query))
        _loops().add_binary(
            image_M, codes.start_T, codes.word_N, _as_words(codes.code_Nb), angle_N, slot_k,
            _as_words(query.code_Nb), angle_S, weight_S,
            selectivity.table(codes.code_Nb.shape[1]), total_MB,
        )  # fmt: skip
        return total_MB
    for block in _blocks(codes.start_T, image_M):
        row_H, slot_H, image_H = _common(codes, image_M[block], slot_k, is_compiled)
        if is_binary:
            value_H = selectivity.table(codes.code_Nb.shape[1])[
                _distances(codes.code_Nb, query.code_Nb, row_H, slot_H)
            ]
        else:
            value_H = selectivity.values(
                _products(codes.code_Nb, query.code_Nb, row_H, slot_H, is_compiled)
            )
        value_H *= weight_S[slot_H]
        bin_H = image_H
        if codes.angle_N is not None and query.angle_N is not None:
            turn_H = codes.angle_N[row_H] - query.angle_N[slot_H] + np.uint8(8)  # modulo 256
            bin_H = image_H * N_BINS + (turn_H >> 4)
        part_MB = total_MB[block]
        part_MB += np.bincount(bin_H, value_H, part_MB.size).reshape(part_MB.shape)
    if not is_compiled:
        code.note(perf_counter() - begin)
    return total_MB


def best_turn(total_MB: FloatArray, *, rotated: bool, weight: float = 1.0) -> FloatArray:
    """Sum the bins of each image, weighed by their angle: exp(cos(angle) - 1).

    With `rotated` the best sum of the four quarter turns of the query, of which all but the upright
    one count `weight` times.
    """
    m, n_bins = total_MB.shape
    if n_bins == 1:
        return total_MB[:, 0]
    weight_B = np.exp(np.cos(2 * np.pi * np.arange(n_bins) / n_bins) - 1)
    best_M = np.zeros(m)
    for quarter in range(4 if rotated else 1):
        total_M = np.zeros(m)
        for i in range(n_bins):  # not a product: its bits depend on how many images there are
            total_M += weight_B[i] * total_MB[:, (i + 4 * quarter) % n_bins]
        best_M = np.maximum(best_M, total_M * weight if quarter else total_M)
    return best_M


def fence_of_blocks(
    start_T: Int64Array, image_M: Int64Array, most_rows: int | None = None
) -> Int64Array:
    """Where blocks of images begin that have about `most_rows` rows each; last the end."""
    end_M = np.cumsum(start_T[image_M + 1] - start_T[image_M])
    n_rows = int(end_M[-1]) if len(end_M) else 0
    step = most_rows or _SHARED_ROWS
    fence = np.searchsorted(end_M, np.arange(0, n_rows, step), side="right")
    edge = np.sort(np.append(fence, [0, len(image_M)]))
    return edge[np.diff(edge, prepend=-1) > 0]


def _blocks(start_T: Int64Array, image_M: Int64Array) -> Iterator[slice]:
    fence = fence_of_blocks(start_T, image_M, _BLOCK_ROWS)
    return (slice(begin, end) for begin, end in pairwise(fence))


def _common(
    codes: Codes, image_M: Int64Array, slot_k: npt.NDArray[np.int32], is_compiled: bool
) -> tuple[Int64Array, npt.NDArray[np.int32], Int64Array]:
    """Rows of some images whose word has a slot; their slots and images, 0 to m - 1."""
    m = len(image_M)
    if is_compiled:
        n = int((codes.start_T[image_M + 1] - codes.start_T[image_M]).sum())
        row_H, slot_H, end_M = np.empty(n, np.int64), np.empty(n, np.int32), np.empty(m, np.int64)
        arrays = image_M, codes.start_T, codes.word_N, codes.code_Nb.view(np.uint8)
        n = _loops().common_rows(*arrays, slot_k, row_H, slot_H, end_M)
        return row_H[:n], slot_H[:n], np.repeat(np.arange(m), np.diff(end_M, prepend=0))
    begin, end = codes.start_T[image_M[0]], codes.start_T[image_M[-1] + 1]
    if (np.diff(image_M) == 1).all():
        hit_H = np.flatnonzero(slot_k[codes.word_N[begin:end]] >= 0)
        row_H = hit_H + begin
    else:
        row_N, _ = rows_of(codes.start_T, image_M)
        hit_H = np.flatnonzero(slot_k[codes.word_N[row_N]] >= 0)
        row_H = row_N[hit_H]
    end_M = np.cumsum(codes.start_T[image_M + 1] - codes.start_T[image_M])
    n_hits_M = np.diff(np.searchsorted(hit_H, end_M), prepend=0)
    return row_H, slot_k[codes.word_N[row_H]], np.repeat(np.arange(m), n_hits_M)


def _distances(
    code_Nb: AnyArray, query_Sb: AnyArray, row_H: Int64Array, slot_H: AnyArray
) -> AnyArray:
    """Hamming distances of pairs."""
    differing_Hb = _as_words(code_Nb)[row_H]
    differing_Hb ^= _as_words(query_Sb)[slot_H]
    if hasattr(np, "bitwise_count"):  # NumPy 2
        count_Hb = np.bitwise_count(differing_Hb)
    else:
        count_Hb = _BITS_SET[differing_Hb.view(np.uint16)]
    distance_H = count_Hb[:, 0].astype(np.intp)
    for column_H in count_Hb.T[1:]:  # a sum over the short axis takes 5 times as long
        distance_H += column_H
    return distance_H


def _products(
    code_Nd: AnyArray, query_Sd: AnyArray, row_H: Int64Array, slot_H: AnyArray, is_compiled: bool
) -> FloatArray:
    """Inner products of pairs, in float64."""
    if not is_compiled:
        code_Hd, query_Hd = code_Nd[row_H].astype(np.float64), query_Sd[slot_H].astype(np.float64)
        cosine_H: FloatArray = np.einsum("Hd,Hd->H", code_Hd, query_Hd)
        return cosine_H
    cosine_H = np.empty(len(row_H))
    if code_Nd.dtype == np.float16:  # which Numba does not know
        code_Nd, row_H = code_Nd[row_H].astype(np.float32), np.arange(len(row_H))
        query_Sd = query_Sd.astype(np.float32)
    _loops().dot_products(code_Nd, query_Sd, row_H, slot_H, cosine_H)
    return cosine_H


def _as_words(code_Nb: AnyArray) -> AnyArray:
    words = np.require(code_Nb.view(np.uint64), requirements="A")
    words.flags.writeable = False  # also where it had to be copied: loops are compiled for that
    return words


@lru_cache(1)
def _loops() -> Any:
    from vladkit.kernels import hamming

    return hamming


@lru_cache
def _code(is_binary: bool) -> Code:
    """Compiled code for codes of bits, or of numbers."""

    def load() -> None:
        code = np.zeros((1, 8), np.uint8 if is_binary else np.float32)
        one = Codes([0, 1], [0], code)
        image_M, slot_k, number_H = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1)
        if is_binary:
            words = _as_words(one.code_Nb)
            _loops().add_binary(
                image_M, one.start_T, one.word_N, words, _NO_ANGLES, slot_k, words, _NO_ANGLES,
                number_H, np.zeros(65), np.zeros((1, 1)),
            )  # fmt: skip
            lists = _listed(one)
            _loops().add_listed(
                lists.start_K, lists.image_N, words, lists.angle_N, one.word_N, words, _NO_ANGLES,
                number_H, np.zeros(65), np.zeros((1, 1)),
            )  # fmt: skip
        else:
            row_H = np.zeros(1, np.int64)
            _common(one, image_M, slot_k, True)
            _loops().dot_products(one.code_Nb, one.code_Nb, row_H, slot_k, number_H)

    return Code(load)
