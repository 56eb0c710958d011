"""JAX: one jitted step for CPU, GPU and TPU, and few compilations for any number of descriptors.

A ragged batch is cut into chunks of images that are padded to one of a few lengths, powers of 2
from 128 to 8,192; larger images are cut, and their parts added. A chunk always has the same
number of rows, so there are at most seven shapes for given f, k and dtype, whatever the data.

NaN is not looked for in arrays of JAX's own. A descriptor that holds one, or infinity, or
overflows on the way, makes sums of its image NaN; so do centroids that differ by less than 1e-35
(in float32), as JAX takes numbers below 1e-38 as 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.backends import to_numpy
from vladkit.core.ragged import Ragged, as_centroids, checked_shape
from vladkit.errors import InputError, NonFiniteError, ShapeError
from vladkit.kernels.jax_segments import segment_reduce_of, segment_sum, sum_residuals, sum_rows
from vladkit.kernels.nearest import centered_codebook, check_overflow
from vladkit.kernels.reduce import narrow

__all__ = [
    "aggregate",
    "aggregate_soft",
    "encode",
    "residual_sums",
    "segment_reduce_of",
    "segment_sum",
]

_SHORTEST, _LONGEST = 128, 8192

_PIECE = 1024
"""Most rows of an image in one product, whose sums are float32; those of pieces are float64."""

_MANY_WORDS = 256
"""Centroids from which on a scatter beats a product on a GPU; on a CPU it always does."""

_MOST_SCORES = 2**27
"""Scores, or residuals, that exist at a time in one step: half a GB in float32."""


def residual_sums(
    local_tlf: Array,
    centroid_kf: Array,
    length_t: Array | None = None,
    alpha: float | Array | None = None,
) -> tuple[Array, Array]:
    """Residual sums as a pure function: it can sit inside ``jax.jit``, ``vmap`` and ``grad``.

    Parameters
    ----------
    local_tlf : (t, l, f), float
        Sums over an image are float64 inside, also where JAX has that off.
    centroid_kf : (k, f)
    length_t : (t,), integer, optional
        How many of each image's l rows count; the others may hold anything finite.
    alpha : float, optional
        Soft assignment, ``softmax_k(-alpha |x - c_k|^2)``: differentiable in `local_tlf`,
        `centroid_kf` and `alpha`. Without it labels are hard, and gradients are those of the
        sums with the labels held.

    Returns
    -------
    residual_tkf : (t, k, f), weight_tk : (t, k)
        In float32 (float64 for float64, where JAX has it enabled). The weights are masses with
        `alpha`, else counts.
    """
    return _sums(local_tlf, centroid_kf, length_t, None if alpha is None else jnp.sqrt(2 * alpha))


def _sums(
    local_tlf: Array, centroid_kf: Array, length_t: Any, root: float | Array | None
) -> tuple[Array, Array]:
    """`residual_sums` by the root of ``2 * alpha``, for which float32 is large enough."""
    dtype = jnp.promote_types(local_tlf.dtype, jnp.float32)
    local_tlf = local_tlf.astype(dtype)
    centroid_kf = jnp.asarray(centroid_kf, dtype)
    t, l, f = local_tlf.shape
    k = len(centroid_kf)
    counts_tl1 = jnp.ones((t, l, 1), dtype)
    if length_t is not None:
        counts_tl1 = (jnp.arange(l) < length_t[:, None])[..., None].astype(dtype)
    held_kf = jax.lax.stop_gradient(centroid_kf)
    origin_f, direction_kf, _, unit_2 = centered_codebook(jnp, centroid_kf, held_kf)
    # XLA would divide by the product of the two, which overflows
    barrier: Any = jax.lax.optimization_barrier
    scaled_kf = barrier(direction_kf / unit_2[0]) / unit_2[1]
    exact = partial(jnp.einsum, precision="highest")  # the default is bfloat16 on a TPU
    shifted_tlf = local_tlf - origin_f
    if root is not None:  # weights need each digit of a distance, labels do not
        bias_k = -0.5 * (scaled_kf * direction_kf).sum(axis=1)
        score_tlk = exact("tlf,kf->tlk", shifted_tlf, scaled_kf) + bias_k
        score_tlk -= jax.lax.stop_gradient(score_tlk.max(axis=-1, keepdims=True))
        logit_tlk = (score_tlk * unit_2[1] * root) * (unit_2[0] * root)
        weight_tlk = jax.nn.softmax(logit_tlk, axis=-1) * counts_tl1
    else:
        bias_k = -(scaled_kf * (0.5 * direction_kf + origin_f)).sum(axis=1)
        score_tlk = exact("tlf,kf->tlk", local_tlf, scaled_kf) + bias_k
        label_tl = jnp.argmax(score_tlk, axis=-1)
        # NaN where there is no label, as the sums must not look as if there were one
        is_there = jnp.isfinite(score_tlk.max(axis=-1, keepdims=True)) & (unit_2[0] > _least(dtype))
        counts_tl1 *= jnp.where(is_there, 1, jnp.nan)
        backend = jax.default_backend()
        if backend not in ("cpu", "tpu") and k >= _MANY_WORDS and dtype == jnp.float32:
            return _scattered(local_tlf, centroid_kf, label_tl, counts_tl1)
        if backend == "cpu":
            bucket_N = (jnp.arange(t)[:, None] * k + label_tl).reshape(-1)
            count_N1 = counts_tl1.reshape(-1, 1)
            arguments = count_N1, centroid_kf, label_tl.reshape(-1), bucket_N, t * k
            residual_bf = sum_residuals(local_tlf.reshape(t * l, f), *arguments)
            count_b1 = jax.ops.segment_sum(count_N1, bucket_N, t * k)
            return residual_bf.reshape(t, k, f), count_b1.reshape(t, k)
        weight_tlk = jax.nn.one_hot(label_tl, k, dtype=dtype) * counts_tl1
    weight_plk, shifted_plf = _pieces(weight_tlk), _pieces(shifted_tlf)
    weight_pk = weight_plk.sum(axis=1)
    residual_pkf = exact("plk,plf->pkf", weight_plk, shifted_plf)
    residual_pkf -= weight_pk[..., None] * direction_kf
    return _joined(residual_pkf, weight_pk, t)


def _scattered(
    local_tlf: Array, centroid_kf: Array, label_tl: Array, counts_tl1: Array
) -> tuple[Array, Array]:
    """Residual sums and counts by additions of float32 in any order, equal each time.

    A residual is cut into a high part of at most 13 bits, sums of which have no error, and the
    rest: 2^-13 of the error of a plain sum, which is 1e-5 for 1,024 equal rows.
    """
    t, l, f = local_tlf.shape
    k = len(centroid_kf)
    n = max(1, -(-l // _PIECE))
    piece_tl = jnp.arange(t)[:, None] * n + jnp.arange(l) // max(1, -(-l // n))
    bucket_N = (piece_tl * k + label_tl).reshape(-1)
    counts_N = counts_tl1.reshape(-1)
    count_b = jax.ops.segment_sum(counts_N, bucket_N, t * n * k)
    # What does not count would wait for one bucket: it goes to none.
    bucket_N = jnp.where(counts_N == 0, t * n * k, bucket_N)
    residual_tlf = (local_tlf - centroid_kf[label_tl]) * counts_tl1
    held_tlf = jax.lax.stop_gradient(residual_tlf)
    largest_t11 = jnp.abs(held_tlf).max(axis=(1, 2), keepdims=True, initial=0)
    _, power_t11 = jnp.frexp(largest_t11)
    step_t11 = jnp.ldexp(jnp.ones_like(largest_t11), jnp.maximum(power_t11, -112) - 13)
    high_tlf = jnp.round(held_tlf / step_t11) * step_t11

    def summed(part_tlf: Array) -> Array:
        return jax.ops.segment_sum(part_tlf.reshape(t * l, f), bucket_N, t * n * k)

    residual_bf = summed(high_tlf) + summed(residual_tlf - high_tlf)
    return _joined(residual_bf.reshape(t * n, k, f), count_b.reshape(t * n, k), t)


def _joined(residual_pkf: Array, weight_pk: Array, t: int) -> tuple[Array, Array]:
    """Sums of t images from those of their pieces."""
    p, k, f = residual_pkf.shape
    if p == t:
        return residual_pkf, weight_pk
    image_p = jnp.repeat(jnp.arange(t), p // t)
    residual_tD = sum_rows(residual_pkf.reshape(p, k * f), image_p, t)
    return residual_tD.reshape(t, k, f), sum_rows(weight_pk, image_p, t)


def _pieces(x_tlf: Array) -> Array:
    """Rows of images in pieces (p, l, f) of one size, filled up with zeros."""
    t, l, f = x_tlf.shape
    n = max(1, -(-l // _PIECE))
    piece = min(l, _PIECE)
    return jnp.pad(x_tlf, ((0, 0), (0, n * piece - l), (0, 0))).reshape(t * n, piece, f)


def _least(dtype: Any) -> float:
    """Spread of centroids below which products vanish: JAX has no subnormal numbers."""
    return float(np.finfo(dtype).tiny) * 2**10


_step = jax.jit(_sums)


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts of NumPy arrays, on JAX's default device."""
    residual_tkf, count_tk = _by_chunks(batch, centroid_kf, None)
    check_overflow(count_tk)
    return residual_tkf, count_tk.astype(np.int64)


def aggregate_soft(
    batch: Ragged, centroid_kf: FloatArray, alpha: float, n_jobs: int
) -> tuple[FloatArray, FloatArray]:
    """Weighted residual sums and masses of NumPy arrays, on JAX's default device."""
    residual_tkf, mass_tk = _by_chunks(batch, centroid_kf, alpha)
    check_overflow(mass_tk)
    return residual_tkf, mass_tk.astype(batch.float_dtype)


def _by_chunks(
    batch: Ragged, centroid_kf: FloatArray, alpha: float | None
) -> tuple[FloatArray, FloatArray]:
    k, f = centroid_kf.shape
    if (np.abs(centroid_kf) < _least(centroid_kf.dtype)).all() and centroid_kf.any():
        raise NonFiniteError(
            f"centroids are up to {np.abs(centroid_kf).max():.3g}, too small for JAX, which takes "
            "numbers close to that as 0: scale the descriptors, or use another method"
        )
    root = None if alpha is None else float(np.sqrt(2 * alpha))
    is_cut = np.diff(batch.start_T).max(initial=0) > _LONGEST
    residual_tkf = np.zeros((len(batch), k, f), np.float64 if is_cut else batch.float_dtype)
    weight_tk = np.zeros((len(batch), k))
    with _wide(batch.float_dtype):
        centroid = jnp.asarray(centroid_kf)
        pending: list[tuple[list[int], tuple[Array, Array]]] = []

        def collect(at_most: int) -> None:
            while len(pending) > at_most:
                images, (residual_gkf, weight_gk) = pending.pop(0)
                # one image can have several parts in a chunk: += would add only the last
                np.add.at(residual_tkf, images, np.asarray(residual_gkf)[: len(images)])
                np.add.at(weight_tk, images, np.asarray(weight_gk)[: len(images)])

        for images, local_glf, length_g in _chunks(batch):
            pending.append((images, _step(local_glf, centroid, length_g, root)))
            collect(2)  # the device computes while the next chunk is padded
        collect(0)
    return narrow(residual_tkf, batch.float_dtype), weight_tk


def _chunks(batch: Ragged) -> Iterator[tuple[list[int], FloatArray, AnyArray]]:
    """Images (or parts of large ones), padded to (rows / length, length, f), and their lengths."""
    rows = _LONGEST if jax.default_backend() == "cpu" else 8 * _LONGEST
    waiting: dict[int, list[tuple[int, FloatArray]]] = {}
    for i in range(len(batch)):
        local_lf = batch.floats(i, i + 1)
        for begin in range(0, len(local_lf), _LONGEST):
            part_lf = local_lf[begin : begin + _LONGEST]
            padded = max(_SHORTEST, 1 << (len(part_lf) - 1).bit_length())
            group = waiting.setdefault(padded, [])
            group.append((i, part_lf))
            if len(group) == rows // padded:
                yield _padded(group, rows, padded)
                group.clear()
    for padded, group in waiting.items():
        if group:
            yield _padded(group, rows, padded)


def _padded(
    group: list[tuple[int, FloatArray]], rows: int, padded: int
) -> tuple[list[int], FloatArray, AnyArray]:
    first_lf = group[0][1]
    local_glf = np.zeros((rows // padded, padded, first_lf.shape[1]), first_lf.dtype)
    length_g = np.zeros(rows // padded, np.int32)
    for i, (_, part_lf) in enumerate(group):
        local_glf[i, : len(part_lf)] = part_lf
        length_g[i] = len(part_lf)
    return [image for image, _ in group], local_glf, length_g


def encode(local: Any, centroids: Any, alpha: float | None) -> Array:
    """Residual sums (t, k, f) of a (t, l, f) array, also inside ``jax.jit``, or of a list.

    In their dtype if that is floating, else in float32. A list of (l_i, f) goes through the
    host, where its images are padded: the sizes would otherwise each be compiled for.
    """
    if not isinstance(local, Array):
        list_of_lf = [None if x is None else to_numpy(x, "jax") for x in local]
        batch = Ragged.from_list(list_of_lf)
        centroid_kf = as_centroids(np.asarray(centroids), batch.n_features, batch.float_dtype)
        residual_tkf = jnp.asarray(_by_chunks(batch, centroid_kf, alpha)[0])
        dtypes = [jnp.asarray(x).dtype for x in local if x is not None]
        dtype = jnp.result_type(*dtypes)  # as NumPy's lists and torch's
    else:
        _, _, f = checked_shape(local.shape)
        _check_real("descriptors", local)
        if isinstance(centroids, Array):
            _check_real("centroids", centroids)
        else:
            wide = jnp.promote_types(local.dtype, jnp.float32)
            centroids = as_centroids(centroids, f, np.dtype(wide))
        if centroids.ndim != 2 or centroids.shape[1] != f or len(centroids) == 0:
            raise ShapeError(
                f"centroids have shape {centroids.shape}, wanted (k, f) with f = {f}: "
                "use one extractor for both"
            )
        residual_tkf = _in_groups(local, centroids, alpha)
        dtype = local.dtype
    is_float = jnp.issubdtype(dtype, jnp.floating)
    return residual_tkf.astype(dtype) if is_float else residual_tkf


def _check_real(what: str, numbers: Array) -> None:
    kinds = jnp.floating, jnp.integer
    if not any(jnp.issubdtype(numbers.dtype, kind) for kind in kinds):
        raise InputError(f"{what} are {numbers.dtype}, wanted real numbers")


@jax.jit
def _in_groups(local_tlf: Array, centroid_kf: Array, alpha: float | None) -> Array:
    """Groups of images one after the other, where all scores at once would take much memory."""
    t, l, _ = local_tlf.shape
    group = max(1, _MOST_SCORES // max(1, l * max(centroid_kf.shape)))
    if group >= t:
        return residual_sums(local_tlf, centroid_kf, None, alpha)[0]

    def one(local_lf: Array) -> Array:
        return residual_sums(local_lf[None], centroid_kf, None, alpha)[0][0]

    residual_tkf: Array = jax.lax.map(one, local_tlf, batch_size=group)
    return residual_tkf


def _wide(dtype: np.dtype[Any]) -> AbstractContextManager[Any]:
    """Context in which JAX keeps 64 bits, where the dtype has them; by default it does not."""
    if dtype.itemsize < 8:
        return nullcontext()
    wide: AbstractContextManager[Any] = jax.enable_x64(True)
    return wide
