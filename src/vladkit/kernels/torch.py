"""PyTorch: tensors on any device. Labels by blocked products, then one ``index_add_``.

On a CUDA device hard assignment runs through a Triton kernel that reads each descriptor once
(`vladkit.kernels.triton`), where Triton is installed and no gradient is asked for.

NaN is not looked for (that would wait for the device). A descriptor that holds one, or infinity,
or overflows on the way, makes sums of its image NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vladkit.core.arrays import FloatArray, Int64Array
from vladkit.core.ragged import Ragged, as_centroids, checked_shape, element_error
from vladkit.errors import InputError, ShapeError
from vladkit.kernels.nearest import centered_codebook, check_overflow
from vladkit.kernels.torch_segments import (
    as_tensor,
    row_blocks,
    segment_reduce_of,
    segment_sum,
    wide_float,
)

__all__ = [
    "aggregate",
    "aggregate_soft",
    "encode",
    "residual_sums",
    "segment_reduce_of",
    "segment_sum",
]

_BLOCK_SCORES = 2**24
"""Scores that exist at a time: 64 MB in float32, large enough to fill any device."""

_PIECE = 1024
"""Most rows of an image in one product, whose sums are float32; those of pieces are float64."""


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts of NumPy arrays, on the host with torch's own threads."""
    residual_tkf, count_tk = residual_sums(*_tensors(batch, centroid_kf))
    check_overflow(count_tk.numpy())
    return residual_tkf.numpy(), count_tk.numpy().astype(np.int64)


def aggregate_soft(
    batch: Ragged, centroid_kf: FloatArray, alpha: float, n_jobs: int
) -> tuple[FloatArray, FloatArray]:
    """Weighted residual sums and masses of NumPy arrays."""
    residual_tkf, mass_tk = residual_sums(*_tensors(batch, centroid_kf), alpha=alpha)
    check_overflow(mass_tk.numpy())
    return residual_tkf.numpy(), mass_tk.numpy()


def encode(local: Any, centroids: Any, alpha: float | None) -> Tensor:
    """Residual sums (t, k, f) of a (t, l, f) tensor or a list of (l_i, f), on their device.

    In their dtype if that is floating, else in float32 (float64 for 32- and 64-bit integers).
    """
    local_Nf, start_T = _stacked(local)
    f = local_Nf.shape[1]
    if not isinstance(centroids, Tensor):
        wide = np.float64 if _sum_dtype(local_Nf) == torch.float64 else np.float32
        centroids = torch.from_numpy(as_centroids(centroids, f, np.dtype(wide)))
    _check_real("centroids", centroids)
    centroid_kf = centroids.to(local_Nf.device)
    if centroid_kf.ndim != 2 or centroid_kf.shape[1] != f or len(centroid_kf) == 0:
        raise ShapeError(
            f"centroids have shape {tuple(centroid_kf.shape)}, wanted (k, f) with f = {f}: "
            "use one extractor for both"
        )
    residual_tkf, _ = residual_sums(local_Nf, start_T, centroid_kf, alpha=alpha)
    return residual_tkf.to(local_Nf.dtype) if local_Nf.is_floating_point() else residual_tkf


def _stacked(local: Any) -> tuple[Tensor, Int64Array]:
    if isinstance(local, Tensor):
        t, l, f = checked_shape(local.shape)
        part = [local.reshape(t * l, f)]
        length_t = np.full(t, l)
    else:
        for i, x in enumerate(local):
            if x is not None and x.numel() and x.ndim != 2:
                raise element_error(i, x.shape)
        known = [x for x in local if x is not None and x.ndim == 2 and x.shape[1] > 0]
        if not known:
            raise ShapeError("no tensor of the list is (l, f) with f >= 1")
        empty = known[0].new_empty((0, known[0].shape[1]))
        part = [empty if x is None or x.numel() == 0 else x for x in local]
        for i, x in enumerate(part):
            if x.shape[1] != empty.shape[1]:
                raise ShapeError(
                    f"image {i} has shape {tuple(x.shape)}, wanted (l, f) with f = "
                    f"{empty.shape[1]} as the first"
                )
            if x.device != empty.device:
                raise InputError(f"image {i} is on {x.device}, the first on {empty.device}")
        length_t = np.array([len(x) for x in part])
    for x in part:
        _check_real("descriptors", x)
    start_T = np.zeros(len(length_t) + 1, np.int64)
    np.cumsum(length_t, out=start_T[1:])
    return (part[0] if len(part) == 1 else torch.cat(part)), start_T


def _check_real(what: str, numbers: Tensor) -> None:
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise InputError(f"{what} are {numbers.dtype}, wanted real numbers")


def residual_sums(
    local_Nf: Tensor, start_T: Int64Array, centroid_kf: Tensor, *, alpha: float | None = None
) -> tuple[Tensor, Tensor]:
    """Residual sums of stacked images, on the tensors' own device.

    Parameters
    ----------
    local_Nf : (N, f), float tensor
        Sums over an image are float64 where the device has it.
    start_T : (t + 1,), int64, on the host
        Where each image starts in `local_Nf`.
    centroid_kf : (k, f), on the same device
    alpha : float, optional
        Soft assignment; differentiable in `local_Nf` and `centroid_kf`.

    Returns
    -------
    residual_tkf, weight_tk
        In float32, or float64 for float64. The weights are counts without `alpha`, which may
        be float64.
    """
    centroid_kf = centroid_kf.to(_sum_dtype(local_Nf))
    if alpha is not None:
        return _soft(local_Nf, start_T, centroid_kf, alpha)
    if local_Nf.is_cuda and not (local_Nf.requires_grad or centroid_kf.requires_grad):
        import vladkit.kernels.triton as triton

        if triton.fits(local_Nf, centroid_kf):
            return triton.residual_sums(local_Nf, start_T, centroid_kf)
    return _hard(local_Nf, start_T, centroid_kf)


def _sum_dtype(local_Nf: Tensor) -> torch.dtype:
    wide = local_Nf.dtype in (torch.int32, torch.int64)
    return torch.float64 if wide else torch.promote_types(local_Nf.dtype, torch.float32)


def _hard(local_Nf: Tensor, start_T: Int64Array, centroid_kf: Tensor) -> tuple[Tensor, Tensor]:
    k, f = centroid_kf.shape
    t = len(start_T) - 1
    exact_kf = _exact(centroid_kf.detach())
    origin_f, direction_kf, scaled_kf, _ = centered_codebook(torch, exact_kf, exact_kf)
    bias_k = -(scaled_kf * (0.5 * direction_kf + origin_f)).sum(dim=1).to(centroid_kf.dtype)
    scaled_fk = scaled_kf.T.to(centroid_kf.dtype)
    residual_bf = centroid_kf.new_zeros((t * k, f), dtype=wide_float(local_Nf.device))
    count_b = residual_bf.new_zeros(t * k)
    length_t = torch.as_tensor(np.diff(start_T), device=local_Nf.device)
    first_N = torch.repeat_interleave(torch.arange(t, device=local_Nf.device) * k, length_t)
    for some in row_blocks(len(local_Nf), max(k, f), local_Nf.device, _BLOCK_SCORES):
        local = local_Nf[some].to(centroid_kf.dtype)
        top, label = torch.addmm(bias_k, local.detach(), scaled_fk).max(dim=1)
        bucket = first_N[some] + label
        residual = (local - centroid_kf[label]).to(residual_bf.dtype)
        residual_bf = residual_bf.index_add_(0, bucket, residual)
        one = torch.where(torch.isfinite(top), 1.0, torch.nan).to(count_b.dtype)
        count_b.index_add_(0, bucket, one)
    # NaN, infinity or an overflow: there is no label, and the sums must not look as if
    residual_bf = residual_bf + 0 * count_b[:, None]
    return residual_bf.view(t, k, f).to(centroid_kf.dtype), count_b.view(t, k)


def _soft(
    local_Nf: Tensor, start_T: Int64Array, centroid_kf: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """Images of one size go together, the others one by one: each is a product of its own.

    ``sum_l w_lk (x_l - c_k) = W' (X - o) - mass (c_k - o)``, and weights are of X - o, too: they
    need each digit of a distance, labels do not.
    """
    k, f = centroid_kf.shape
    t = len(start_T) - 1
    dtype = centroid_kf.dtype
    exact_kf = _exact(centroid_kf)
    codebook = centered_codebook(torch, exact_kf, exact_kf.detach())
    origin_f, direction_kf, scaled_kf, unit_2 = codebook
    bias_k = (-0.5 * scaled_kf * direction_kf).sum(dim=1).to(dtype)
    origin_f, direction_kf, scaled_fk = (x.to(dtype) for x in (origin_f, direction_kf, scaled_kf.T))
    scale = (2 * alpha * unit_2[0] * unit_2[1]).clamp(max=torch.finfo(dtype).max).to(dtype)
    length_t = np.diff(start_T).tolist()
    group = max(1, _BLOCK_SCORES // max(1, length_t[0] * k)) if len(set(length_t)) == 1 else 1
    residual, mass = [], []
    for i in range(0, t, group):
        end = min(t, i + group)
        rows = local_Nf[int(start_T[i]) : int(start_T[end])]
        rows_glf = rows.reshape(end - i, length_t[i], f)
        parts, masses = [], []
        for begin in range(0, max(1, length_t[i]), _PIECE):
            part_glf = rows_glf[:, begin : begin + _PIECE].to(dtype) - origin_f
            score_glk = part_glf @ scaled_fk + bias_k
            score_glk = score_glk - score_glk.detach().amax(dim=2, keepdim=True)
            weight_glk = torch.softmax(scale * score_glk, dim=2)
            mass_gk = weight_glk.sum(dim=1)
            moved_gkf = mass_gk[..., None] * direction_kf
            parts.append(weight_glk.transpose(1, 2) @ part_glf - moved_gkf)
            masses.append(mass_gk)
        residual.append(_total(parts))
        mass.append(_total(masses))
    if not residual:
        return centroid_kf.new_zeros((0, k, f)), centroid_kf.new_zeros((0, k))
    return torch.cat(residual), torch.cat(mass)


def _total(parts: list[Tensor]) -> Tensor:
    """Sum of parts of an image, in float64 where the device has it."""
    if len(parts) == 1:
        return parts[0]
    return torch.stack(parts).sum(0, dtype=wide_float(parts[0].device)).to(parts[0].dtype)


def _exact(centroid_kf: Tensor) -> Tensor:
    """Centroids in float64, where the device has it."""
    return centroid_kf.to(wide_float(centroid_kf.device))


def _tensors(batch: Ragged, centroid_kf: FloatArray) -> tuple[Tensor, Int64Array, Tensor]:
    return as_tensor(batch.floats(0, len(batch))), batch.start_T, as_tensor(centroid_kf)
