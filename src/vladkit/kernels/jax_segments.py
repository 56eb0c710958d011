"""JAX: rows reduced within segments, also inside ``jax.jit``, ``vmap`` and ``grad``.

Floats are summed in float64, integers in 64 bits, also where JAX has these off. Only values go
through such code: JAX transposes a derivative where 64 bits are off again, and would mix the two.
So the rule of derivatives, `_tangent`, keeps to dtypes that the caller has; a gradient needs no
sums but those of coefficients, which are results themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vladkit.core.arrays import AnyArray, Int64Array, as_array
from vladkit.errors import ParameterError
from vladkit.kernels.operations import check_fill, check_rows, result_dtype, worst

__all__ = ["segment_reduce_of", "segment_sum", "sum_residuals", "sum_rows"]

_BLOCK_VALUES = 2**17
"""Values that are in work at a time on a CPU, so that they stay in cache: 100,000 x 64 float32 in
7 ms instead of 41."""

_COPIES_VALUES, _MOST_COPIES = 2**21, 64
"""Sums in all copies on a device, 16 MB that stay in its cache; and copies."""

_MANY_VALUES, _MANY_DIMS, _ROWS_OF_SEGMENT = 2**25, 16, 16
"""Values, dimensions, and mean number of rows of a segment, from which on a device adds rows in the
order of their segments: an H200 takes 1.2 ms in place of 2.8 for 4,000,000 x 64 into 4,096, and of
5.5 if they are sorted already."""

_GROUP = 16
"""Rows of a group that is added up before; XLA reads 32 in 4 ms, as it does not fuse them."""


def segment_reduce_of(
    values: Array,
    segment: Any,
    n_segments: int | None,
    op: str,
    weights: Any = None,
    fill_value: Any = None,
) -> Array:
    """Rows (N, ...) reduced within segments, see `vladkit.segment_reduce`.

    float16 and bfloat16 come back as they are. What is float64 for NumPy's integers is so where
    JAX has that on, else float32. Rows whose segment does not exist are dropped; a softmax of them
    is 0.
    """
    if segment is not None and not isinstance(segment, Array):
        segment = as_array(segment)
    if weights is not None and not isinstance(weights, Array):
        weights = as_array(weights)
    check_rows(values, segment, n_segments, weights, is_real=_is_real, is_whole=_is_whole)
    if n_segments is None:
        n_segments = _highest(segment) + 1
    n = int(n_segments)
    if not isinstance(segment, Array):  # JAX would cut their numbers to 32 bits
        segment = np.where((segment < 0) | (segment >= n), n, segment).astype(int)
    if weights is not None:
        weights = jnp.asarray(weights)
    shape = values.shape[1:]
    value_Nf = values.reshape(len(values), math.prod(shape))
    segment = jnp.asarray(segment)
    result: Array = _reduce(value_Nf, weights, segment, n, op)
    if fill_value is not None:
        dtype = result.dtype if np.dtype(result.dtype).kind != "V" else np.dtype(np.float32)
        fill = check_fill(op, fill_value, dtype)
        with _all_bits() if result.dtype.itemsize == 8 else nullcontext():
            result = _filled(result, segment, fill.astype(result.dtype))
    return result if op == "count" else result.reshape(len(result), *shape)


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows of a NumPy array into segments.

    Sizes are padded to powers of 4, so that they share compiled code: with rows whose segment
    does not exist, which are dropped.
    """
    n, f = values_Nf.shape
    n_rows, n_out = _power_of_4(n), _power_of_4(n_segments)
    padded_Nf = np.zeros((n_rows, f), values_Nf.dtype)
    padded_Nf[:n] = values_Nf
    padded_N = np.full(n_rows, n_out, np.int64)
    padded_N[:n] = segment_N
    with _all_bits():
        return np.array(_plain(padded_Nf, None, padded_N, n_out, "sum")[:n_segments])


def sum_rows(value_Nf: Array, segment_N: Array, n_segments: int) -> Array:
    """Sums (s, f) in the dtype of the values, taken in float64."""
    return _differentiable(value_Nf, None, segment_N, n_segments, "sum")


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def sum_residuals(
    local_Nf: Array,
    count_N1: Array,
    centroid_kf: Array,
    label_N: Array,
    bucket_N: Array,
    n_buckets: int,
) -> Array:
    """Sums (b, f) of ``count (x - c)``, with the label's c, taken in float64.

    Residuals exist for a block at a time: 64 x 500 x 128 and k = 64 in 19 ms; 24 if all do, 41
    without blocks, 16 in float32.
    """

    def rows(part: Callable[[Array], Array]) -> Array:
        return (part(local_Nf) - centroid_kf[part(label_N)]) * part(count_N1)

    with _all_bits():
        total_bf = jnp.zeros((n_buckets, local_Nf.shape[1]), np.float64)
        return _added(total_bf, bucket_N, rows).astype(local_Nf.dtype)


@sum_residuals.defjvp
def _residuals_tangent(n_buckets: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    _, count_N1, _, label_N, bucket_N = primals
    change_Nf = (tangents[0] - tangents[2][label_N]) * count_N1
    change_bf = jax.ops.segment_sum(change_Nf, bucket_N, n_buckets)
    return sum_residuals(*primals, n_buckets), change_bf


def _power_of_4(n: int) -> int:
    return int(4 ** np.ceil(np.log(max(n, 64)) / np.log(4)))


def _all_bits() -> AbstractContextManager[Any]:
    """Context in which JAX keeps 64 bits; by default it does not."""
    wide: AbstractContextManager[Any] = jax.enable_x64(True)
    return wide


def _is_real(x: Any) -> bool:
    kinds = jnp.floating, jnp.integer, jnp.bool_
    is_duration = np.dtype(x.dtype).kind == "m"  # to NumPy they are integers
    return not is_duration and any(jnp.issubdtype(x.dtype, kind) for kind in kinds)


def _is_whole(x: Any) -> bool:
    return np.dtype(x.dtype).kind in "iu"


def _highest(segment: Any) -> int:
    if isinstance(segment, jax.core.Tracer):
        raise ParameterError(
            "n_segments=None: the segments are not known inside jax.jit, where shapes are: "
            "pass the number of segments"
        )
    return max(-1, int(segment.max())) if len(segment) else -1


def _wide(dtype: Any) -> np.dtype[Any]:
    """float64, int64 or uint64."""
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if jnp.issubdtype(dtype, jnp.unsignedinteger) else np.int64)


def _named(dtype: Any) -> np.dtype[Any]:
    """Dtype of NumPy's: itself, or a wide one of those that NumPy lacks (bfloat16, int4)."""
    own = np.dtype(dtype)
    return own if own.kind in "fiub" else _wide(dtype)


def _result_dtype(op: str, value: Any, weight: Any) -> Any:
    if op in ("min", "max"):
        return value
    if op.startswith("arg"):
        return np.dtype(np.int64)
    if jnp.issubdtype(value, jnp.floating) and op != "count":
        return value if weight is None else jnp.promote_types(value, weight)
    dtype: Any = result_dtype(op, _named(value), None if weight is None else _named(weight))
    return jnp.result_type(float) if dtype.kind == "f" else dtype


@partial(jax.jit, static_argnums=(3, 4))
def _reduce(
    value_Nf: Array, weight_N: Array | None, segment_N: Array, n_segments: int, op: str
) -> Array:
    weight = None if weight_N is None else weight_N.dtype
    if jnp.issubdtype(_result_dtype(op, value_Nf.dtype, weight), jnp.floating):
        return _differentiable(value_Nf, weight_N, segment_N, n_segments, op)
    held = jax.lax.stop_gradient((value_Nf, weight_N))
    result: Array = _plain(*held, segment_N, n_segments, op)
    return result


@partial(jax.jit, static_argnums=(3, 4))
def _plain(
    value_Nf: Array, weight_N: Array | None, segment_N: Array, n_segments: int, op: str
) -> Array:
    """Results, of 64 bits where they say so. Weights of `softmax` are those of the sum only."""
    dtype = _result_dtype(op, value_Nf.dtype, None if weight_N is None else weight_N.dtype)
    with _all_bits():
        segment_N = _inside(segment_N, n_segments)
        wide = _wide(dtype)
        weighted = None if weight_N is None else weight_N.astype(wide)
        arguments = segment_N, n_segments, wide, weighted
        if op in ("min", "max"):
            result = _extremes(value_Nf, segment_N, n_segments, op == "min")
        elif op in ("argmin", "argmax"):
            result = _rows_of_extremes(value_Nf, segment_N, n_segments, op == "argmin")
        elif op == "count":
            one_N1 = jnp.ones((len(segment_N), 1), np.int8)
            result = _sums(one_N1, *arguments)[:, 0]
        elif op in ("prod", "others"):
            result = _products(value_Nf.astype(wide), segment_N, n_segments, op == "others")
        elif op in ("sum", "mean"):
            result = _sums(value_Nf, *arguments)
            if op == "mean":
                result /= _sums(jnp.ones((len(segment_N), 1), np.int8), *arguments)
        else:
            x_Nf = value_Nf.astype(wide)
            top_sf = _extremes(x_Nf, segment_N, n_segments, least=False)
            # no exponential overflows, and beside infinity all others are 0
            top_sf = jnp.minimum(top_sf, np.finfo(wide).max)
            top_sf = jnp.where(jnp.isfinite(top_sf), top_sf, 0)
            exp_Nf = jnp.exp(x_Nf - _of_rows(top_sf, segment_N, np.inf))
            result = _sums(exp_Nf, *arguments)
            if op == "logsumexp":
                result = jnp.log(result) + top_sf
            else:
                result = exp_Nf / _of_rows(result, segment_N, np.inf)
        return result.astype(dtype)


def _inside(segment_N: Array, n_segments: int) -> Array:
    """Segments, `n_segments` where they do not exist: JAX counts those below 0 from the end."""
    segment_N = segment_N.astype(int)
    return jnp.where((segment_N >= 0) & (segment_N < n_segments), segment_N, n_segments)


def _of_rows(x_sf: Array, segment_N: Array, without: float) -> Array:
    """Values of the rows' segments; `without` for rows whose segment does not exist."""
    return x_sf.at[segment_N].get(mode="fill", fill_value=without)


def _sums(
    value_Nf: Array,
    segment_N: Array,
    n_segments: int,
    wide: np.dtype[Any],
    weight_N: Array | None,
) -> Array:
    def rows(part: Callable[[Array], Array]) -> Array:
        if weight_N is None:
            return part(value_Nf)
        return part(value_Nf).astype(wide) * part(weight_N)[:, None]

    total_sf = jnp.zeros((n_segments, value_Nf.shape[1]), wide)
    return _added(total_sf, segment_N, rows)


def _added(
    total_sf: Array, segment_N: Array, rows: Callable[[Callable[[Array], Array]], Array]
) -> Array:
    """Sums of rows, which `rows` makes of the same part of each array."""
    n, (s, f) = len(segment_N), total_sf.shape
    if jax.default_backend() == "cpu":
        return _added_in_blocks(total_sf, segment_N, rows)
    value_Nf = rows(lambda x: x)
    is_large = n * f >= _MANY_VALUES and f >= _MANY_DIMS and n >= _ROWS_OF_SEGMENT * s
    if is_large and n < 2**31:
        return _added_in_order(total_sf, segment_N, value_Nf)
    return _added_to_copies(total_sf, segment_N, value_Nf)


def _added_in_blocks(
    total_sf: Array, segment_N: Array, rows: Callable[[Callable[[Array], Array]], Array]
) -> Array:
    """Sums of rows on a CPU: of a block at a time, which stays in cache."""
    n, f = len(segment_N), total_sf.shape[1]
    step = min(n, max(256, _BLOCK_VALUES // max(f, 1)))
    n_blocks = n // max(step, 1)

    def add(begin: Any, size: int, total_sf: Array) -> Array:
        def part(x: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, begin, size)

        value_nf = rows(part).astype(total_sf.dtype)
        return total_sf.at[part(segment_N)].add(value_nf, mode="drop")

    if n_blocks > 1:
        total_sf = jax.lax.fori_loop(0, n_blocks, lambda i, x: add(i * step, step, x), total_sf)
    done = n_blocks * step if n_blocks > 1 else 0
    return add(done, n - done, total_sf)


def _added_in_order(total_sf: Array, segment_N: Array, value_Nf: Array) -> Array:
    """Sums of many wide rows on a device, which reads them in the order of their segments.

    Of each group of j neighbours in order, those of the first segment are added up before they go
    to memory, and those of the last. What lies between is added one by one, if there is any: where
    a segment has fewer rows than a group.
    """
    n, s = len(segment_N), len(total_sf)
    row_N = jax.lax.iota(np.int32, n)
    ordered_N, row_N = jax.lax.sort((segment_N.astype(np.int32), row_N), num_keys=1)
    missing = -n % _GROUP
    segment_gj = jnp.pad(ordered_N, (0, missing), constant_values=s).reshape(-1, _GROUP)
    row_gj = jnp.pad(row_N, (0, missing)).reshape(-1, _GROUP)
    value_gjf = value_Nf[row_gj].astype(total_sf.dtype)
    first_g, last_g = segment_gj[:, 0], segment_gj[:, -1]
    is_first_gj = segment_gj == first_g[:, None]
    is_last_gj = (segment_gj == last_g[:, None]) & ~is_first_gj
    between_gj = ~(is_first_gj | is_last_gj)
    for segment_g, is_one_gj in ((first_g, is_first_gj), (last_g, is_last_gj)):
        one_gf = jnp.where(is_one_gj[:, :, None], value_gjf, 0).sum(axis=1)
        total_sf = _added_to_copies(total_sf, segment_g, one_gf)

    def add_between(total_sf: Array) -> Array:
        between_N = jnp.where(between_gj, segment_gj, s).reshape(-1)
        return _added_to_copies(total_sf, between_N, value_Nf[row_gj.reshape(-1)])

    added: Array = jax.lax.cond(between_gj.any(), add_between, lambda x: x, total_sf)
    return added


def _added_to_copies(total_sf: Array, segment_N: Array, value_Nf: Array) -> Array:
    """Sums of rows on a device, which adds at one address after the other.

    Few segments have several copies of the sums, so that neighbours in line go to different ones.
    """
    n, (s, f) = len(segment_N), total_sf.shape
    copies = max(1, min(_MOST_COPIES, _COPIES_VALUES // max(1, s * f), n // max(1, 16 * s)))
    copy_N = jnp.arange(n) % copies
    bucket_N = jnp.where(segment_N < s, copy_N * s + segment_N, copies * s)
    total_bf = jnp.zeros((copies * s, f), total_sf.dtype)
    total_bf = total_bf.at[bucket_N].add(value_Nf.astype(total_sf.dtype), mode="drop")
    return total_sf + total_bf.reshape(copies, s, f).sum(axis=0)


def _extremes(value_Nf: Array, segment_N: Array, n_segments: int, least: bool) -> Array:
    dtype = value_Nf.dtype
    is_float = jnp.issubdtype(dtype, jnp.floating)
    first = worst(np.dtype(np.float32) if is_float else np.dtype(dtype), least)
    ordered = np.uint8 if jnp.issubdtype(dtype, jnp.bool_) else dtype
    start_sf = jnp.full((n_segments, value_Nf.shape[1]), first, ordered)
    update = start_sf.at[segment_N]
    best_sf = (update.min if least else update.max)(value_Nf.astype(start_sf.dtype), mode="drop")
    if is_float:  # -0.0 and 0.0 are equal: either gives 0.0
        best_sf = jnp.where(best_sf == 0, 0, best_sf)
    return best_sf.astype(dtype)


def _rows_of_extremes(value_Nf: Array, segment_N: Array, n_segments: int, least: bool) -> Array:
    """Number (s, f) of the first row that is the extreme, or NaN; -1 without rows."""
    n, f = value_Nf.shape
    best_sf = _extremes(value_Nf, segment_N, n_segments, least)
    best_Nf = best_sf.at[segment_N].get(mode="clip")
    is_best_Nf = (value_Nf == best_Nf) | ((value_Nf != value_Nf) & (best_Nf != best_Nf))
    row_Nf = jnp.where(is_best_Nf, jnp.arange(n)[:, None], n)
    first_sf = jnp.full((n_segments, f), n).at[segment_N].min(row_Nf, mode="drop")
    return jnp.where(first_sf < n, first_sf, -1)


def _products(value_Nf: Array, segment_N: Array, n_segments: int, others: bool) -> Array:
    """Products (s, f), or for each row (N, f) that of the others."""
    one_sf = jnp.ones((n_segments, value_Nf.shape[1]), value_Nf.dtype)
    if not others:
        return one_sf.at[segment_N].multiply(value_Nf, mode="drop")
    is_zero_Nf = value_Nf == 0
    nonzero_Nf = jnp.where(is_zero_Nf, 1, value_Nf)
    product_sf = one_sf.at[segment_N].multiply(nonzero_Nf, mode="drop")
    n_zeros_sf = jnp.zeros(one_sf.shape, int).at[segment_N].add(is_zero_Nf, mode="drop")
    n_zeros_Nf = _of_rows(n_zeros_sf, segment_N, 0) - is_zero_Nf
    product_Nf = _of_rows(product_sf, segment_N, 0) / nonzero_Nf
    return jnp.where(n_zeros_Nf == 0, product_Nf, 0)


@jax.jit
def _filled(result: Array, segment_N: Array, fill: Any) -> Array:
    """Results with `fill` for segments without rows."""
    segment_N = _inside(segment_N, len(result))
    is_empty_s = jnp.ones(len(result), bool).at[segment_N].set(False, mode="drop")
    return jnp.where(is_empty_s.reshape(-1, *[1] * (result.ndim - 1)), fill, result)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _differentiable(
    value_Nf: Array, weight_N: Array | None, segment_N: Array, n_segments: int, op: str
) -> Array:
    result: Array = _plain(value_Nf, weight_N, segment_N, n_segments, op)
    return result


@_differentiable.defjvp
def _tangent(n_segments: int, op: str, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Results and their derivative, ``sum(a dx + b dw)`` over the rows of each segment."""
    value_Nf, weight_N, segment_N = primals
    result = _differentiable(*primals, n_segments, op)
    dtype = jax.dtypes.canonicalize_dtype(jnp.promote_types(result.dtype, jnp.float32))
    segment_N = _inside(segment_N, n_segments)
    x_Nf = value_Nf.astype(dtype)
    w_N1 = 1 if weight_N is None else weight_N.astype(dtype)[:, None]
    b_Nf: Any = 0

    def of_rows(x_sf: Array) -> Array:
        return _of_rows(x_sf.astype(dtype), segment_N, 0)

    def reduced(x_Nf: Array, op: str) -> Array:
        return _differentiable(x_Nf, weight_N, segment_N, n_segments, op).astype(dtype)

    def total(a_Nf: Any) -> Any:
        dx_Nf, dw_N, _ = tangents
        change_Nf: Any = 0.0
        if jnp.issubdtype(value_Nf.dtype, jnp.floating):
            change_Nf += a_Nf * dx_Nf.astype(dtype)
        if weight_N is not None and jnp.issubdtype(weight_N.dtype, jnp.floating):
            change_Nf += b_Nf * dw_N.astype(dtype)[:, None]
        return jax.ops.segment_sum(change_Nf, segment_N, n_segments)

    if op == "sum":
        b_Nf = x_Nf
        change = total(w_N1)
    elif op == "count":
        b_Nf = 1
        change = total(0)[:, 0]
    elif op == "mean":
        size_N1 = of_rows(reduced(jnp.ones((len(x_Nf), 1), dtype), "sum"))
        b_Nf = (x_Nf - of_rows(result)) / size_N1
        change = total(w_N1 / size_N1)
    elif op in ("min", "max"):  # equal rows have a share
        is_best_Nf = (x_Nf == of_rows(result)).astype(dtype)
        change = total(is_best_Nf / of_rows(reduced(is_best_Nf, "sum")))
    elif op == "prod":
        change = total(_differentiable(x_Nf, None, segment_N, n_segments, "others"))
    elif op == "others":
        raise ParameterError("op='prod' has no second derivative")
    else:
        share_Nf = reduced(x_Nf, "softmax")
        b_Nf = share_Nf
        if op == "logsumexp":
            b_Nf = jnp.where(of_rows(result) == -jnp.inf, 0, share_Nf)
            change = total(w_N1 * b_Nf)
        else:
            change = share_Nf * (tangents[0].astype(dtype) - of_rows(total(w_N1 * share_Nf)))
    with _all_bits():  # float64 can exist where JAX has it off
        return result, change.astype(result.dtype)
