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

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.params import Interval, check_parameter
from vladkit.core.ragged import Ragged, as_centroids, checked_shape, element_error
from vladkit.errors import InputError, ParameterError, ShapeError
from vladkit.kernels.nearest import centered_codebook, check_overflow

__all__ = [
    "aggregate",
    "aggregate_soft",
    "encode",
    "residual_sums",
    "segment_sum",
    "segment_sum_of",
]

_BLOCK_SCORES = 2**24
"""Scores that exist at a time: 64 MB in float32, large enough to fill any device."""


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


def segment_sum_of(values: Tensor, segment: Any, n_segments: int) -> Tensor:
    """Rows (N, ...) of any dtype summed into segments; integers become int64, as in torch.sum.

    float16 and bfloat16 are summed in float32.
    """
    if values.dtype != torch.bool:  # which are counted
        _check_real("values", values)
    check_parameter("n_segments", n_segments, Interval(int, 0))
    if not isinstance(segment, Tensor):
        array = np.asarray(segment)
        segment = torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "iu" else array
    if values.ndim == 0:
        raise ShapeError("values have shape (), wanted (N, ...)")
    is_whole = isinstance(segment, Tensor) and not (
        segment.is_floating_point() or segment.is_complex() or segment.dtype == torch.bool
    )
    if segment.shape != values.shape[:1] or not (is_whole or len(values) == 0):
        raise ShapeError(
            f"segment has shape {tuple(segment.shape)} and dtype {segment.dtype}, wanted one "
            f"integer for each of {len(values)} rows"
        )
    segment_N = torch.as_tensor(segment, device=values.device)
    if not values.is_cuda and len(segment_N):
        low, high = int(segment_N.min()), int(segment_N.max())
        if low < 0 or high >= n_segments:
            raise ParameterError(
                f"segments run from {low} to {high}, wanted 0 to {n_segments - 1}: "
                "n_segments is the number of buckets"
            )
    wide = torch.promote_types(values.dtype, torch.float32)
    if not values.is_floating_point():
        wide = torch.int64
    total = values.new_zeros((n_segments, *values.shape[1:]), dtype=wide)
    total = total.index_add(0, segment_N.long(), values.to(wide))
    if values.dtype == torch.uint64:  # torch adds no unsigned integers; the bits are the same
        return total.view(torch.uint64)
    return total.to(values.dtype) if values.is_floating_point() else total


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows of a NumPy array into segments by ``index_add``."""
    dtype = values_Nf.dtype
    if dtype.kind == "u":  # torch adds no unsigned integers; the bits are the same
        values_Nf = values_Nf.view(np.int64)
    total_sf: AnyArray = segment_sum_of(_tensor(values_Nf), _tensor(segment_N), n_segments).numpy()
    return total_sf.view(dtype)


def residual_sums(
    local_Nf: Tensor, start_T: Int64Array, centroid_kf: Tensor, *, alpha: float | None = None
) -> tuple[Tensor, Tensor]:
    """Residual sums of stacked images, on the tensors' own device.

    Parameters
    ----------
    local_Nf : (N, f), float tensor
        float16 and bfloat16 are summed in float32.
    start_T : (t + 1,), int64, on the host
        Where each image starts in `local_Nf`.
    centroid_kf : (k, f), on the same device
    alpha : float, optional
        Soft assignment; differentiable in `local_Nf` and `centroid_kf`.

    Returns
    -------
    residual_tkf, weight_tk
        In float32, or float64 for float64. The weights are counts without `alpha`.
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
    residual_bf = centroid_kf.new_zeros((t * k, f))
    count_b = centroid_kf.new_zeros(t * k)
    length_t = torch.as_tensor(np.diff(start_T), device=local_Nf.device)
    first_N = torch.repeat_interleave(torch.arange(t, device=local_Nf.device) * k, length_t)
    step = max(1024, _BLOCK_SCORES // max(k, f))
    for begin in range(0, len(local_Nf), step):
        local = local_Nf[begin : begin + step].to(centroid_kf.dtype)
        top, label = torch.addmm(bias_k, local.detach(), scaled_fk).max(dim=1)
        bucket = first_N[begin : begin + step] + label
        residual_bf = residual_bf.index_add_(0, bucket, local - centroid_kf[label])
        one = torch.where(torch.isfinite(top), 1.0, torch.nan).to(count_b.dtype)
        count_b.index_add_(0, bucket, one)
    # NaN, infinity or an overflow: there is no label, and the sums must not look as if
    return (residual_bf + 0 * count_b[:, None]).view(t, k, f), count_b.view(t, k)


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
    length_t = np.diff(start_T)
    same = t > 0 and bool((length_t == length_t[0]).all())
    group = max(1, _BLOCK_SCORES // max(1, int(length_t.max(initial=1)) * k)) if same else 1
    residual, mass = [], []
    for i in range(0, t, group):
        end = min(t, i + group)
        rows = local_Nf[int(start_T[i]) : int(start_T[end])].to(centroid_kf.dtype)
        rows = rows - origin_f
        local_glf = rows.view(end - i, -1, f) if len(rows) else rows.view(end - i, 0, f)
        score_glk = local_glf @ scaled_fk + bias_k
        score_glk = score_glk - score_glk.detach().amax(dim=2, keepdim=True)
        weight_glk = torch.softmax(scale * score_glk, dim=2)
        mass_gk = weight_glk.sum(dim=1)
        mass.append(mass_gk)
        moved_gkf = mass_gk[..., None] * direction_kf
        residual.append(weight_glk.transpose(1, 2) @ local_glf - moved_gkf)
    if not residual:
        return centroid_kf.new_zeros((0, k, f)), centroid_kf.new_zeros((0, k))
    return torch.cat(residual), torch.cat(mass)


def _exact(centroid_kf: Tensor) -> Tensor:
    """Centroids in float64, where the device has it."""
    return centroid_kf if centroid_kf.device.type == "mps" else centroid_kf.double()


def _tensors(batch: Ragged, centroid_kf: FloatArray) -> tuple[Tensor, Int64Array, Tensor]:
    return _tensor(batch.floats(0, len(batch))), batch.start_T, _tensor(centroid_kf)


def _tensor(array: AnyArray) -> Tensor:
    """A tensor over the array's own memory; it is only read."""
    if not array.flags.writeable:  # torch warns, and would write to it
        array = array.copy()
    return torch.from_numpy(np.ascontiguousarray(array))
