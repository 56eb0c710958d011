"""Triton: hard assignment and sums on the device, for GPUs like the H100 and H200.

A program owns an image, or a piece of a long one. It scores a block of rows against all
centroids, takes the labels, and adds ``onehot @ rows`` to sums that stay in registers: each
descriptor is read once, each sum written once. Where the sums or the codebook do not fit on
chip, `_labels` writes the labels first (4 bytes a row) and programs of `_sums` own slices of
the sums: each descriptor is then read twice.

All products run on the tensor cores, as exact as float32 (tf32 is not: of normal descriptors it
decides 3 labels in 10,000 otherwise). float32 is cut into three bfloat16 terms, ``x = hi + mid +
lo``: six products of terms make a score, what lies below 2^-24 left out, and three make a sum, as
onehot is one term. tf32x3 costs as much for a score and twice that for a sum. float16 and
bfloat16 rows are one term already, the codebook then two or three.

No atomics, and an image is cut where its size alone says: the same input gives the same bits.
NaN in some dimension of a descriptor makes that dimension NaN at every centroid of its image
(infinity: not finite), and nothing else; the descriptor is counted at some centroid.

In kernels, b are the rows of a block, p pieces of images, s the terms of a number; K and F are
k and f padded to whole blocks of WORDS and DIMS.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vladkit.core.arrays import Int64Array

__all__ = ["fits", "jit", "on_device_of", "residual_sums", "tl", "triton"]

triton: Any
tl: Any
try:
    triton = import_module("triton")
    tl = import_module("triton.language")
except ImportError:  # there are wheels for Linux only
    triton = tl = None

_HALF = {d: d for d in (torch.float16, torch.bfloat16)} | {torch.float32: torch.bfloat16}
"""Dtype of the terms, by the dtype of the rows."""

_MOST_WORDS = 4096
"""Each row is read (from L2) for every 128 centroids; above, `index_add_` may well be faster."""

_MOST_DIMS = 16384
"""Offsets into the codebook's terms are 32-bit."""

_PIECE = 1024
"""Most rows of a piece, whose sums are float32; those of pieces are float64. An image of 100,000
then fills a device."""


class _Blocks(NamedTuple):
    """Rows, centroids and dimensions at a time; warps of a program; buffers for its loads."""

    rows: int
    words: int
    dims: int
    warps: int
    stages: int


class _Plan(NamedTuple):
    """Blocks of the two kernels; where `_labels` has none, `_sums` finds the labels itself."""

    labels: _Blocks | None
    sums: _Blocks


def fits(local_Nf: Tensor, centroid_kf: Tensor) -> bool:
    """Tell whether `residual_sums` can take these arrays.

    float16, bfloat16 or float32; k to 4096, f to 16384; Triton installed; and a GPU of compute
    capability 9.0, whose registers and 227 KB of shared memory the blocks are made for.
    """
    k, f = centroid_kf.shape
    if triton is None or local_Nf.dtype not in _HALF or k > _MOST_WORDS or f > _MOST_DIMS:
        return False
    if local_Nf.is_cuda:
        return torch.cuda.get_device_capability(local_Nf.device) == (9, 0)
    return _EMULATED


def residual_sums(
    local_Nf: Tensor, start_T: Int64Array, centroid_kf: Tensor
) -> tuple[Tensor, Tensor]:
    """Residual sums and counts of stacked images, as `vladkit.kernels.torch.residual_sums`.

    Parameters
    ----------
    local_Nf : (N, f), float16, bfloat16 or float32
    start_T : (t + 1,), int64, on the host
    centroid_kf : (k, f), float32, on the same device

    Returns
    -------
    residual_tkf, count_tk
        In float32 and float64.
    """
    t, (k, f) = len(start_T) - 1, centroid_kf.shape
    if len(local_Nf) == 0:
        return centroid_kf.new_zeros((t, k, f)), centroid_kf.new_zeros((t, k)).double()
    with on_device_of(local_Nf):
        return _residual_sums(local_Nf.contiguous(), start_T, centroid_kf)


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Context in which kernels start on the device of a tensor: Triton takes the current one."""
    context: AbstractContextManager[Any] = torch.cuda.device(tensor.get_device())
    return context  # of -1, which is no device, on the CPU


def _residual_sums(
    local_Nf: Tensor, start_T: Int64Array, centroid_kf: Tensor
) -> tuple[Tensor, Tensor]:
    t, (k, f) = len(start_T) - 1, centroid_kf.shape
    device, dtype = local_Nf.device, local_Nf.dtype
    plan = _plan(f, k, dtype)
    piece_p3, joint_p3 = _pieces(start_T, max(_PIECE, 16 * k))
    pieces, joint = (_on_device(x, device) for x in (piece_p3, joint_p3))
    n_words, n_dims = -(-k // plan.sums.words), -(-f // plan.sums.dims)
    K, F = n_words * plan.sums.words, n_dims * plan.sums.dims
    term_sKF, bias_K, origin_F, moved_KF = _codebook(centroid_kf, dtype, K, F)
    size = {"f": f, "K": K, "F": F, "TERMS": len(term_sKF), "SPLIT": dtype == torch.float32}
    size["EMULATED"] = _EMULATED
    residual_pkf = centroid_kf.new_empty((len(piece_p3), k, f))
    count_pk = centroid_kf.new_empty((len(piece_p3), k), dtype=torch.float64)
    label_N = local_Nf  # unused where it is found on the way
    if plan.labels is not None:
        label_N = torch.empty(len(local_Nf), dtype=torch.int32, device=device)
        _labels[(-(-len(local_Nf) // plan.labels.rows),)](
            local_Nf, label_N, term_sKF, bias_K, origin_F, len(local_Nf),
            **size, **_options(plan.labels),
        )  # fmt: skip
    _sums[(len(piece_p3) * n_dims * n_words,)](
        local_Nf, label_N, pieces, term_sKF, bias_K, origin_F, moved_KF, residual_pkf,
        count_pk, k=k, FUSED=plan.labels is None,
        **size, **_options(plan.sums),
    )  # fmt: skip
    if len(joint_p3) == 0:
        return residual_pkf, count_pk
    for total_pw, w in ((residual_pkf, k * f), (count_pk, k)):
        _join[(len(joint) * -(-w // 128),)](total_pw, joint, w=w, PIECES=32, WIDTH=128)
    return residual_pkf[:t].clone(), count_pk[:t].clone()


def _on_device(array: Int64Array, device: torch.device) -> Tensor:
    """A copy on the device, which the host does not wait for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _plan(f: int, k: int, dtype: torch.dtype) -> _Plan:
    """Blocks whose loops spill hardly a register, with 8 warps on a multiprocessor.

    By measurement on an H200 (benchmarks/accelerator.py --blocks). A table, not a search at run
    time: other blocks round otherwise, and the same input shall give the same bits.
    """
    wide = dtype == torch.float32
    words, dims = (max(16, 1 << (n - 1).bit_length()) for n in (k, f))
    warps = 8 if words >= 128 else 4  # 4 warps have one instruction for 64 words, 8 for 128
    if words <= 256 and dims <= (128 if wide else 256) and words * dims <= 16384:
        if wide and dims == 128 and words <= 32:
            warps = 8  # with 4, dozens of spills
        # A second buffer for rows would leave room for one such program where two can be.
        stages = 1 if wide and (words, dims) == (64, 128) else 2
        return _Plan(None, _Blocks(64, words, dims, warps, stages))
    words = min(words, 128)
    rows = 64 if words == 128 else 128
    labels = _Blocks(rows, words, 32, 4, 3) if wide else _Blocks(rows, words, 64, 4, 2)
    return _Plan(labels, _Blocks(64, words, 128, warps, 2))


def _options(blocks: _Blocks) -> dict[str, Any]:
    rows, words, dims, warps, stages = blocks
    # Triton 3.9 warns where fusing of multiply and add is left open
    tuned = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    return {"ROWS": rows, "WORDS": words, "DIMS": dims, **tuned}


def _codebook(
    centroid_kf: Tensor, dtype: torch.dtype, K: int, F: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded: the terms of c' = c - o with the origin o, each centroid's bias, what the kernel
    takes off each row, and what off each sum for each row in it.

    Scores as in `vladkit.kernels.nearest`, in two kernels: of torch's own operations there would
    be forty, and to start these takes longer than the sums of a thousand images. From float32 rows
    o is taken off first, so that their terms hold the digits that differ; half-precision rows stay
    the one term that they are.
    """
    k, f = centroid_kf.shape
    centroid_kf = centroid_kf.contiguous()
    n_terms = 2 if dtype == torch.float16 else 3
    exact = centroid_kf.new_empty(2, F, dtype=torch.float64)
    moved_KF, bias_K, origin_F = (centroid_kf.new_empty(n) for n in (K * F, K, F))
    term_sKF = centroid_kf.new_empty((n_terms, K, F), dtype=_HALF[dtype])
    dims = min(F, 64)
    split = dtype == torch.float32
    _center[(F // dims,)](centroid_kf, exact, origin_F, k, f=f, F=F, DIMS=dims, SPLIT=split)
    _write_terms[(K // 16,)](
        centroid_kf, exact, origin_F, term_sKF, bias_K, moved_KF, k, f=f, K=K, F=F, DIMS=dims,
        TERMS=n_terms, SPLIT=split,
    )  # fmt: skip
    return term_sKF, bias_K, origin_F, moved_KF


def _pieces(start_T: Int64Array, most_rows: int) -> tuple[Int64Array, Int64Array]:
    """Cut long images.

    Returns
    -------
    piece_p3 : (p, 3)
        First row, end row, slot. An image's first piece has the image's number as its slot, the
        others have those behind the last image.
    joint_p3 : (images in several pieces, 3)
        Image, first slot of its other pieces, end of those.
    """
    t = len(start_T) - 1
    length_t = np.diff(start_T)
    if length_t.max(initial=0) <= most_rows:
        return np.stack([start_T[:-1], start_T[1:], np.arange(t)], axis=1), np.empty((0, 3), int)
    n_pieces_t = np.maximum(-(-length_t // most_rows), 1)
    rows_t = -(-length_t // n_pieces_t)
    image_p = np.repeat(np.arange(t), n_pieces_t)
    number_p = np.arange(len(image_p)) - np.repeat(np.cumsum(n_pieces_t) - n_pieces_t, n_pieces_t)
    begin_p = start_T[image_p] + number_p * rows_t[image_p]
    end_p = np.minimum(begin_p + rows_t[image_p], start_T[image_p + 1])
    slot_p = np.where(number_p == 0, image_p, t + np.cumsum(number_p > 0) - 1)
    piece_p3 = np.stack([np.minimum(begin_p, end_p), end_p, slot_p], axis=1)
    end_t = t + np.cumsum(n_pieces_t - 1)
    joint_p3 = np.stack([np.arange(t), end_t - n_pieces_t + 1, end_t], axis=1)[n_pieces_t > 1]
    return piece_p3, joint_p3


def jit(kernel: Any) -> Any:
    """Decorator for a kernel; where Triton is not installed it stays a function."""
    return kernel if triton is None else triton.jit(kernel)


@jit
def _power_of_2(x: tl.tensor) -> tl.tensor:
    """Largest power of 2 that is not above each float64; 1 for 0."""
    power = (x.to(tl.int64, bitcast=True) & 0x7FF0000000000000).to(tl.float64, bitcast=True)
    return tl.where(x > 0, power, 1.0)


@jit
def _center(
    centroid_kf: tl.tensor, exact_2F: tl.tensor, origin_F: tl.tensor, k: tl.tensor,
    f: tl.constexpr, F: tl.constexpr, DIMS: tl.constexpr, SPLIT: tl.constexpr,
) -> None:  # fmt: skip
    """Write the origin of some dimensions, as in `centered_codebook`, and their spread."""
    dim_f = tl.program_id(0) * DIMS + tl.arange(0, DIMS)
    first_f = tl.load(centroid_kf + dim_f, mask=dim_f < f, other=0.0).to(tl.float64)
    total_f = tl.zeros([DIMS], tl.float64)
    for first in range(0, k, 16):
        word_k = first + tl.arange(0, 16)
        inside_kf = (word_k < k)[:, None] & (dim_f < f)[None, :]
        at_kf = centroid_kf + word_k[:, None] * f + dim_f[None, :]
        total_f += tl.sum(tl.load(at_kf, mask=inside_kf, other=0.0).to(tl.float64), axis=0)
    mean_f = total_f / k
    peak_f = tl.zeros([DIMS], tl.float64)
    for first in range(0, k, 16):
        word_k = first + tl.arange(0, 16)
        inside_kf = (word_k < k)[:, None] & (dim_f < f)[None, :]
        at_kf = centroid_kf + word_k[:, None] * f + dim_f[None, :]
        off_kf = tl.abs(tl.load(at_kf, mask=inside_kf, other=0.0).to(tl.float64) - mean_f[None, :])
        peak_f = tl.maximum(peak_f, tl.max(tl.where(inside_kf, off_kf, 0.0), axis=0))
    step_f = _power_of_2(peak_f)
    steps_f = mean_f / step_f
    whole_f = steps_f + 6755399441055744.0 - 6755399441055744.0  # 1.5 * 2^52: rounds to even
    steps_f = tl.where(tl.abs(steps_f) < 2251799813685248.0, whole_f, steps_f)
    middle_f = tl.where(peak_f > 0, steps_f * step_f, first_f)
    tl.store(exact_2F + dim_f, middle_f)
    tl.store(exact_2F + F + dim_f, peak_f)
    tl.store(origin_F + dim_f, middle_f.to(tl.float32) if SPLIT else tl.zeros([DIMS], tl.float32))


@jit
def _write_terms(
    centroid_kf: tl.tensor, exact_2F: tl.tensor, origin_F: tl.tensor, term_sKF: tl.tensor,
    bias_K: tl.tensor, moved_KF: tl.tensor, k: tl.tensor, f: tl.constexpr, K: tl.constexpr,
    F: tl.constexpr, DIMS: tl.constexpr, TERMS: tl.constexpr, SPLIT: tl.constexpr,
) -> None:  # fmt: skip
    """Write what `_codebook` returns of 16 centroids."""
    word_k = tl.program_id(0) * 16 + tl.arange(0, 16)
    peak = tl.max(tl.zeros([DIMS], tl.float64), axis=0)
    for first in range(0, F, DIMS):
        peak = tl.maximum(peak, tl.max(tl.load(exact_2F + F + first + tl.arange(0, DIMS)), axis=0))
    size = _power_of_2(peak)
    root = _power_of_2(tl.sqrt(size))
    if TERMS == 2:  # float16: its range is short, the largest is below 2^13
        root = root * 0.0 + 0.00048828125
    bias_k = tl.zeros([16], tl.float64)
    for first in range(0, F, DIMS):
        dim_f = first + tl.arange(0, DIMS)
        inside_kf = (word_k < k)[:, None] & (dim_f < f)[None, :]
        at_kf = centroid_kf + word_k[:, None] * f + dim_f[None, :]
        centroid = tl.load(at_kf, mask=inside_kf, other=0.0).to(tl.float64)
        middle_f = tl.load(exact_2F + dim_f)
        origin_f = tl.load(origin_F + dim_f).to(tl.float64)
        direction = tl.where(inside_kf, centroid - middle_f[None, :], 0.0)
        scaled = direction / size / root
        bias_k -= tl.sum(scaled * (0.5 * direction + (middle_f - origin_f)[None, :]), axis=1)
        at_kf = word_k[:, None] * F + dim_f[None, :]
        tl.store(moved_KF + at_kf, tl.where(inside_kf, centroid - origin_f[None, :], 0.0))
        for s in tl.static_range(TERMS):
            term = scaled.to(tl.float32).to(term_sKF.dtype.element_ty)
            tl.store(term_sKF + s * K * F + at_kf, term)
            scaled -= term.to(tl.float32).to(tl.float64)
    tl.store(bias_K + word_k, tl.where(word_k < k, bias_k, float("-inf")).to(tl.float32))


@jit
def _dot(a: tl.tensor, b: tl.tensor, c: tl.tensor, EMULATED: tl.constexpr) -> tl.tensor:
    """``a @ b + c``; the interpreter would multiply the bits of bfloat16."""
    if EMULATED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, c)


@jit
def _head(x: tl.tensor) -> tl.tensor:
    """The 8 leading bits. Cut off: a conversion that rounds takes eight times as long."""
    return (x.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True)


@jit
def _row_terms(local_bf: tl.tensor, origin_f: tl.tensor, SPLIT: tl.constexpr) -> tl.tensor:
    """``local - origin`` as three terms, or the rows as they are."""
    hi_bf, mid_bf, lo_bf = local_bf, local_bf, local_bf
    if SPLIT:
        lo_bf = local_bf - origin_f[None, :]
        hi_bf = _head(lo_bf)
        lo_bf -= hi_bf
        mid_bf = _head(lo_bf)
        lo_bf -= mid_bf
        hi_bf, mid_bf, lo_bf = hi_bf.to(tl.bfloat16), mid_bf.to(tl.bfloat16), lo_bf.to(tl.bfloat16)
    return hi_bf, mid_bf, lo_bf


@jit
def _word_terms(
    term_sKF: tl.tensor, word_k: tl.tensor, dim_f: tl.tensor,
    K: tl.constexpr, F: tl.constexpr, TERMS: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Some centroids' terms in some dimensions; the second twice if there are but two."""
    at_kf = term_sKF + word_k[:, None] * F + dim_f[None, :]
    return tl.load(at_kf), tl.load(at_kf + K * F), tl.load(at_kf + (TERMS - 1) * K * F)


@jit
def _scores(
    hi_bf: tl.tensor, mid_bf: tl.tensor, lo_bf: tl.tensor, hi_kf: tl.tensor, mid_kf: tl.tensor,
    lo_kf: tl.tensor, TERMS: tl.constexpr, SPLIT: tl.constexpr, EMULATED: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """``centroids @ rows'``, small products first: the tensor cores round towards zero."""
    score_kb = tl.zeros([hi_kf.shape[0], hi_bf.shape[0]], tl.float32)
    if TERMS == 3:
        score_kb = _dot(lo_kf, tl.trans(hi_bf), score_kb, EMULATED)
    if SPLIT:
        score_kb = _dot(hi_kf, tl.trans(lo_bf), score_kb, EMULATED)
        score_kb = _dot(mid_kf, tl.trans(mid_bf), score_kb, EMULATED)
        score_kb = _dot(hi_kf, tl.trans(mid_bf), score_kb, EMULATED)
    score_kb = _dot(mid_kf, tl.trans(hi_bf), score_kb, EMULATED)
    return _dot(hi_kf, tl.trans(hi_bf), score_kb, EMULATED)


@jit
def _first_best(score_kb: tl.tensor, word_k: tl.tensor, NONE: tl.constexpr) -> tl.tensor:
    """The best score of each row and the lowest centroid that has it; NONE where it is NaN."""
    best_b = tl.max(score_kb, axis=0)
    return best_b, tl.min(tl.where(score_kb == best_b[None, :], word_k[:, None], NONE), axis=0)


@jit
def _labels(
    local_Nf: tl.tensor, label_N: tl.tensor, term_sKF: tl.tensor, bias_K: tl.tensor,
    origin_F: tl.tensor, n: tl.tensor, f: tl.constexpr, K: tl.constexpr, F: tl.constexpr,
    ROWS: tl.constexpr, WORDS: tl.constexpr, DIMS: tl.constexpr,
    TERMS: tl.constexpr, SPLIT: tl.constexpr, EMULATED: tl.constexpr,
) -> None:  # fmt: skip
    """Write the label of each row. A program has ROWS of them."""
    row_b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    best_b = tl.full([ROWS], float("-inf"), tl.float32)
    label_b = tl.zeros([ROWS], tl.int32)
    for first_word in range(0, K, WORDS):
        word_k = first_word + tl.arange(0, WORDS)
        score_kb = tl.zeros([WORDS, ROWS], tl.float32)
        for first_dim in range(0, F, DIMS):
            dim_f = first_dim + tl.arange(0, DIMS)
            inside_bf = (row_b < n)[:, None] & (dim_f < f)[None, :]
            at_bf = local_Nf + row_b[:, None] * f + dim_f[None, :]
            local_bf = tl.load(at_bf, mask=inside_bf, other=0.0)
            hi_bf, mid_bf, lo_bf = _row_terms(local_bf, tl.load(origin_F + dim_f), SPLIT)
            hi_kf, mid_kf, lo_kf = _word_terms(term_sKF, word_k, dim_f, K, F, TERMS)
            score_kb += _scores(hi_bf, mid_bf, lo_bf, hi_kf, mid_kf, lo_kf, TERMS, SPLIT, EMULATED)
        top_b, first_b = _first_best(score_kb + tl.load(bias_K + word_k)[:, None], word_k, K)
        label_b = tl.where(top_b > best_b, first_b, label_b)
        best_b = tl.maximum(best_b, top_b)
    tl.store(label_N + row_b, label_b, mask=row_b < n)


@jit
def _sums(
    local_Nf: tl.tensor, label_N: tl.tensor, piece_p3: tl.tensor, term_sKF: tl.tensor,
    bias_K: tl.tensor, origin_F: tl.tensor, moved_KF: tl.tensor, residual_pkf: tl.tensor,
    count_pk: tl.tensor, k: tl.constexpr, f: tl.constexpr, K: tl.constexpr, F: tl.constexpr,
    ROWS: tl.constexpr, WORDS: tl.constexpr, DIMS: tl.constexpr,
    TERMS: tl.constexpr, SPLIT: tl.constexpr, FUSED: tl.constexpr, EMULATED: tl.constexpr,
) -> None:  # fmt: skip
    """Write a (WORDS, DIMS) slice of a piece's sums, from labels found here (FUSED) or read.

    Slices of one piece are neighbours in the grid: they read the same rows, at about one time.
    """
    pid = tl.program_id(0)
    word_k = pid % (K // WORDS) * WORDS + tl.arange(0, WORDS)
    pid = pid // (K // WORDS)
    dim_f = pid % (F // DIMS) * DIMS + tl.arange(0, DIMS)
    piece = piece_p3 + pid // (F // DIMS) * 3
    stop = tl.load(piece + 1)
    origin_f = tl.load(origin_F + dim_f)
    residual_kf = tl.zeros([WORDS, DIMS], tl.float32)
    count_kj = tl.zeros([WORDS, 16], tl.float32)  # 16 times the same: a product is at least so wide
    if FUSED:
        # Loaded inside the loop they would be copied to shared memory again for each block.
        hi_kf, mid_kf, lo_kf = _word_terms(term_sKF, word_k, dim_f, K, F, TERMS)
        bias_k = tl.load(bias_K + word_k)
    for first in range(tl.load(piece), stop, ROWS):
        row_b = first + tl.arange(0, ROWS)
        inside_b = row_b < stop
        at_bf = local_Nf + row_b[:, None] * f + dim_f[None, :]
        local_bf = tl.load(at_bf, mask=inside_b[:, None] & (dim_f < f)[None, :], other=0.0)
        hi_bf, mid_bf, lo_bf = _row_terms(local_bf, origin_f, SPLIT)
        if FUSED:
            score_kb = _scores(hi_bf, mid_bf, lo_bf, hi_kf, mid_kf, lo_kf, TERMS, SPLIT, EMULATED)
            _, label_b = _first_best(score_kb + bias_k[:, None], word_k, K)
            label_b = tl.where(label_b < k, label_b, 0)
            label_b = tl.where(inside_b, label_b, -1)
        else:
            label_b = tl.load(label_N + row_b, mask=inside_b, other=-1)
        hit_kb = tl.where(word_k[:, None] == label_b[None, :], 1.0, 0.0).to(hi_bf.dtype)
        count_kj = _dot(hit_kb, tl.full([ROWS, 16], 1.0, hi_bf.dtype), count_kj, EMULATED)
        if SPLIT:  # a block's sums start at 0, and are added to the total with correct rounding
            part_kf = tl.zeros([WORDS, DIMS], tl.float32)
            part_kf = _dot(hit_kb, lo_bf, part_kf, EMULATED)
            part_kf = _dot(hit_kb, mid_bf, part_kf, EMULATED)
            residual_kf += _dot(hit_kb, hi_bf, part_kf, EMULATED)
        else:  # which half precision does not need, and the registers let loads run ahead
            residual_kf = _dot(hit_kb, hi_bf, residual_kf, EMULATED)
    count_k = tl.max(count_kj, axis=1)
    residual_kf -= count_k[:, None] * tl.load(moved_KF + word_k[:, None] * F + dim_f[None, :])
    at_k = tl.load(piece + 2) * k + word_k
    inside_kf = (word_k < k)[:, None] & (dim_f < f)[None, :]
    tl.store(residual_pkf + at_k[:, None] * f + dim_f[None, :], residual_kf, mask=inside_kf)
    tl.store(count_pk + at_k, count_k, mask=word_k < k)


@jit
def _join(
    total_pw: tl.tensor, joint_p3: tl.tensor, w: tl.constexpr,
    PIECES: tl.constexpr, WIDTH: tl.constexpr,
) -> None:  # fmt: skip
    """Add the further pieces of an image to its first."""
    pid = tl.program_id(0)
    joint = joint_p3 + pid // tl.cdiv(w, WIDTH) * 3
    at_w = pid % tl.cdiv(w, WIDTH) * WIDTH + tl.arange(0, WIDTH)
    image_w = total_pw + tl.load(joint) * w + at_w
    total_w = tl.load(image_w, mask=at_w < w, other=0.0).to(tl.float64)
    stop = tl.load(joint + 2)
    for first in range(tl.load(joint + 1), stop, PIECES):
        piece_p = first + tl.arange(0, PIECES)
        inside_pw = (piece_p < stop)[:, None] & (at_w < w)[None, :]
        at_pw = total_pw + piece_p[:, None] * w + at_w[None, :]
        total_w += tl.sum(tl.load(at_pw, mask=inside_pw, other=0.0).to(tl.float64), axis=0)
    tl.store(image_w, total_w, mask=at_w < w)


_EMULATED = triton is not None and not isinstance(_sums, triton.JITFunction)
"""Under TRITON_INTERPRET=1."""
