"""Triton: rows added into segments on the device, each read once.

Rows are converted to the dtype of the sums in registers, and added by atomics of the second-level
cache. GROUP rows of one segment in a row are added up before: sorted segments, and few, would
otherwise wait for each other at one address. Few segments have several copies of the sums, for
the same reason. Many wide rows are put into the order of their segments first: these atomics take
longer than a sort of the segments and reading rows here and there. The order of the additions is
left to the device: float64 sums may differ in the last bit from one call to the next, those of
float32 rows hardly ever after rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vladkit.kernels.triton import jit, on_device_of, tl, triton

__all__ = ["fits", "sums"]

_BLOCK_VALUES = 4096
"""Values of a program: 32 of each thread."""

_GROUP = 16
"""Rows that are added up first, if they are of one segment."""

_COPIES_VALUES = 2**17
"""Sums in all copies: 1 MB, which stays in the cache."""

_MOST_COPIES = 64

_MANY_VALUES, _MANY_DIMS = 2**24, 16
"""Values and dimensions from which on rows are put into the order of their segments first."""


def fits(value_Nf: Tensor) -> bool:
    """Tell whether `sums` can take these rows: real ones, on a GPU of compute capability 8 or up.

    Not where the same bits are asked for (`torch.use_deterministic_algorithms`), nor gradients.
    """
    if triton is None or value_Nf.requires_grad or value_Nf.dtype == torch.uint64:
        return False
    if torch.are_deterministic_algorithms_enabled():
        return False
    if value_Nf.is_cuda:
        return torch.cuda.get_device_capability(value_Nf.device) >= (8, 0)
    return _EMULATED


def sums(value_Nf: Tensor, segment_N: Tensor, n_segments: int, wide: torch.dtype) -> Tensor:
    """Sums (s, f) of rows in the dtype `wide`, float64 or int64.

    A segment (N,), int64, that does not exist ends the process's use of the device by an
    assertion there, as in ``index_add_``.
    """
    n, f = value_Nf.shape
    is_wide = f >= _MANY_DIMS and n * f >= _MANY_VALUES
    if is_wide and 2 * n_segments <= n and n_segments < 2**31:
        with on_device_of(value_Nf):
            return _sums_in_order(value_Nf.contiguous(), segment_N, n_segments, wide)
    n_values = max(1, n_segments * f)
    copies = max(1, min(_MOST_COPIES, _COPIES_VALUES // n_values, n // max(1, n_segments)))
    total_csf = value_Nf.new_zeros((copies, n_segments, f), dtype=wide)
    if n == 0 or f == 0:
        return total_csf[0]
    dims = min(128, triton.next_power_of_2(f))
    rows = max(_GROUP, _BLOCK_VALUES // dims)
    grid = (triton.cdiv(n, rows) * triton.cdiv(f, dims),)
    with on_device_of(value_Nf):
        _add[grid](
            value_Nf.contiguous(), segment_N.contiguous(), total_csf, n, n_segments, copies,
            f=f, ROWS=rows, DIMS=dims, GROUP=_GROUP, debug=True, sanitize_overflow=False,
        )  # fmt: skip
    return total_csf[0] if copies == 1 else total_csf.sum(dim=0)


def _sums_in_order(
    value_Nf: Tensor, segment_N: Tensor, n_segments: int, wide: torch.dtype
) -> Tensor:
    """Sums of rows that are read in the order of their segments: an addition for each run of rows.

    The sort takes short keys, and wide rows are read at the rate of memory in any order. Blocks by
    measurement on an H200: 4,194,304 x 64 into 4,096 in 0.50 ms, 1.74 in the rows' own order.
    """
    n, f = value_Nf.shape
    key_N = torch.empty_like(segment_N, dtype=torch.int16 if n_segments < 2**15 else torch.int32)
    _write_keys[(triton.cdiv(n, 1024),)](
        segment_N.contiguous(), key_N, n, n_segments, BLOCK=1024, debug=True
    )
    key_N, order_N = torch.sort(key_N, stable=True)
    total_sf = value_Nf.new_zeros((n_segments, f), dtype=wide)
    dims = min(128, triton.next_power_of_2(f))
    values, warps = (4096, 2) if n >= 64 * n_segments else (2048, 1)
    rows = values // dims
    grid = (triton.cdiv(n, rows) * triton.cdiv(f, dims),)
    _add_runs[grid](
        value_Nf, key_N, order_N, total_sf, n, f=f, ROWS=rows, DIMS=dims, num_warps=warps
    )
    return total_sf


@jit
def _write_keys(
    segment_N: tl.tensor, key_N: tl.tensor, n: tl.tensor, n_segments: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Write segments in fewer bits."""
    row_j = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    segment_j = tl.load(segment_N + row_j, mask=row_j < n, other=0)
    exists_j = (segment_j >= 0) & (segment_j < n_segments)
    tl.device_assert(exists_j, "a segment is not from 0 to n_segments - 1", mask=row_j < n)
    tl.store(key_N + row_j, segment_j.to(key_N.dtype.element_ty), mask=row_j < n)


@jit
def _add_runs(
    value_Nf: tl.tensor, key_N: tl.tensor, order_N: tl.tensor, total_sf: tl.tensor, n: tl.tensor,
    f: tl.constexpr, ROWS: tl.constexpr, DIMS: tl.constexpr,
) -> None:  # fmt: skip
    """Add j = ROWS rows, which are neighbours in order, in DIMS dimensions: one run at a time."""
    pid = tl.program_id(0)
    row_j = (pid // tl.cdiv(f, DIMS)).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    dim_f = pid % tl.cdiv(f, DIMS) * DIMS + tl.arange(0, DIMS)
    inside_j = row_j < n
    from_j = tl.load(order_N + row_j, mask=inside_j, other=0)
    inside_jf = inside_j[:, None] & (dim_f < f)[None, :]
    value_jf = tl.load(value_Nf + from_j[:, None] * f + dim_f[None, :], mask=inside_jf, other=0)
    segment_j = tl.load(key_N + row_j, mask=inside_j, other=-1).to(tl.int32)
    segment = tl.min(tl.where(inside_j, segment_j, 2147483647))
    last = tl.max(segment_j)
    while segment <= last:
        one_jf = tl.where((segment_j == segment)[:, None], value_jf, 0)
        total_f = tl.sum(one_jf.to(total_sf.dtype.element_ty), axis=0)
        at_f = total_sf + segment.to(tl.int64) * f + dim_f
        tl.atomic_add(at_f, total_f, mask=dim_f < f, sem="relaxed")
        segment = tl.min(tl.where(segment_j > segment, segment_j, 2147483647))


@jit
def _add(
    value_Nf: tl.tensor, segment_N: tl.tensor, total_csf: tl.tensor, n: tl.tensor,
    n_segments: tl.tensor, copies: tl.tensor, f: tl.constexpr,
    ROWS: tl.constexpr, DIMS: tl.constexpr, GROUP: tl.constexpr,
) -> None:  # fmt: skip
    """Add ROWS rows, in DIMS dimensions: g groups of j rows."""
    pid = tl.program_id(0)
    begin = (pid // tl.cdiv(f, DIMS)).to(tl.int64) * ROWS
    dim_f = pid % tl.cdiv(f, DIMS) * DIMS + tl.arange(0, DIMS)
    first_g = begin + tl.arange(0, ROWS // GROUP) * GROUP
    row_gj = first_g[:, None] + tl.arange(0, GROUP)[None, :]
    inside_gj = row_gj < n
    segment_gj = tl.load(segment_N + row_gj, mask=inside_gj, other=0)
    exists_gj = (segment_gj >= 0) & (segment_gj < n_segments)
    tl.device_assert(exists_gj, "a segment is not from 0 to n_segments - 1", mask=inside_gj)
    inside_gj = inside_gj & exists_gj
    # What is outside takes no part: it has a number below, and one above, all others.
    least_g = tl.min(tl.where(inside_gj, segment_gj, n_segments), axis=1)
    most_g = tl.max(tl.where(inside_gj, segment_gj, -1), axis=1)
    is_one_g = least_g == most_g
    inside_gjf = inside_gj[:, :, None] & (dim_f < f)[None, None, :]
    at_gjf = value_Nf + row_gj[:, :, None] * f + dim_f[None, None, :]
    value_gjf = tl.load(at_gjf, mask=inside_gjf, other=0).to(total_csf.dtype.element_ty)
    total_sf = total_csf + (pid % copies).to(tl.int64) * n_segments * f
    at_gf = total_sf + least_g[:, None] * f + dim_f[None, :]
    one_gf = is_one_g[:, None] & (dim_f < f)[None, :]
    tl.atomic_add(at_gf, tl.sum(value_gjf, axis=1), mask=one_gf, sem="relaxed")
    at_gjf = total_sf + segment_gj[:, :, None] * f + dim_f[None, None, :]
    each_gjf = inside_gjf & ~is_one_g[:, None, None]
    tl.atomic_add(at_gjf, value_gjf, mask=each_gjf, sem="relaxed")


_EMULATED = triton is not None and not isinstance(_add, triton.JITFunction)
"""Under TRITON_INTERPRET=1."""
