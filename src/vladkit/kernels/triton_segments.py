"""Triton: rows added into segments on the device, each read once.

Rows are converted to the dtype of the sums in registers, and added by atomics of the second-level
cache. GROUP rows of one segment in a row are added up before: sorted segments, and few, would
otherwise wait for each other at one address. Few segments have several copies of the sums, for
the same reason. The order of the additions is left to the device: float64 sums may differ in the
last bit from one call to the next, those of float32 rows hardly ever after rounding.
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
