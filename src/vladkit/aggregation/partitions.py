"""Learning from the partitions of a Dask array or bag: sums and counts come back, not descriptors.

Axes: ``k`` centroids, ``f`` descriptor dimension, ``N`` descriptors of a partition.

Codebooks begin as k-means of a sample, and become the means of all descriptors in Lloyd steps. The
sample is of the rows with the lowest hashes of their bytes: which they are does not depend on order
or partitions, nor do sums, but for the order in which float64 adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.segments import segment_sum
from vladkit.core.arrays import AnyArray, FloatArray, as_array, is_made_by
from vladkit.core.backends import as_sets, on_host
from vladkit.core.linalg import unit_rows
from vladkit.errors import InputError, ParameterError, ShapeError

__all__ = [
    "Moments",
    "check_enough",
    "descriptors",
    "is_partitioned",
    "lloyd_steps",
    "moments_of",
    "refuse_partitions",
    "sample_of",
    "transformed",
]

_Part: TypeAlias = Any
"""Partition: a block of an array, or a list."""

_Rows: TypeAlias = Callable[[_Part], Iterator[AnyArray]]
"""Function that gives the rows (N, f) of a partition, some at a time."""

_FAN: Final = 8
"""Results that are merged at once, where they are: the client gets one."""


def is_partitioned(X: Any) -> bool:
    """Whether `X` is a Dask array or bag."""
    return is_made_by("dask.array", "Array", X) or is_made_by("dask.bag", "Bag", X)


@dataclass(slots=True, eq=False)
class Moments:
    """Number, mean (f,) and scatter (f, f) of rows."""

    n: int
    mean_f: FloatArray
    scatter_ff: FloatArray

    @classmethod
    def of(cls, row_Nf: AnyArray) -> Self:
        """Moments of rows, in float64."""
        wide_Nf = row_Nf.astype(np.float64)
        mean_f = wide_Nf.mean(axis=0)
        wide_Nf -= mean_f
        return cls(len(wide_Nf), mean_f, wide_Nf.T @ wide_Nf)

    def __add__(self, other: Moments) -> Moments:
        """Moments of the rows of both (Chan et al. 1979).

        Raises
        ------
        ShapeError
            If their rows are of other dimensions.
        """
        if self.mean_f.shape != other.mean_f.shape:
            raise ShapeError(
                f"partitions have rows of {len(self.mean_f)} and of {len(other.mean_f)} "
                "dimensions: use one extractor for all images"
            )
        n = self.n + other.n
        step_f = other.mean_f - self.mean_f
        scatter_ff = self.scatter_ff + other.scatter_ff
        scatter_ff += np.outer(step_f, step_f * (self.n * other.n / n))
        return Moments(n, self.mean_f + step_f * (other.n / n), scatter_ff)


def moments_of(X: Any, rows: _Rows) -> Moments | None:
    """Moments of all rows; None without any."""

    def of_part(part: _Part) -> Moments | None:
        total: Moments | None = _sum([Moments.of(row_Nf) for row_Nf in rows(part) if len(row_Nf)])
        return total

    found: Moments | None = _reduced(X, of_part, _sum)
    return found


def descriptors(part: _Part, *, cosine: bool = False) -> Iterator[FloatArray]:
    """Descriptors (N, f) of each image of a partition; for `cosine` of unit length, if not 0."""
    if _is_empty(part):
        return
    batch = as_sets(part)
    batch.check_finite()
    for i in range(len(batch)):
        row_Nf = batch.floats(i, i + 1)
        yield unit_rows(row_Nf[row_Nf.any(axis=1)]) if cosine else row_Nf


def sample_of(X: Any, n: int, size: int, seed: int) -> FloatArray:
    """Descriptors (s, f), s <= size, with the lowest keys of all `n`, by key."""
    most = np.uint64(min(2.0**64 - 2048, 2.0**64 * 2 * size / n))

    def lowest(several: Sequence[tuple[AnyArray, AnyArray]]) -> tuple[AnyArray, AnyArray]:
        key_N = np.concatenate([key for key, _ in several])
        row_Nf = np.concatenate([row for _, row in several])
        order_s = np.argsort(key_N, kind="stable")[:size]
        return key_N[order_s], row_Nf[order_s]

    def of_part(part: _Part) -> tuple[AnyArray, AnyArray] | None:
        found = []
        for row_Nf in descriptors(part):
            key_N = _keys(row_Nf, seed)
            chosen = key_N <= most
            found.append((key_N[chosen], row_Nf[chosen]))
        return lowest(found) if found else None

    found = _reduced(X, of_part, lowest)
    sample_sf: FloatArray = found[1]
    return sample_sf


def lloyd_steps(estimator: Any, X: Any, n_steps: int, *, cosine: bool) -> None:
    """Make centroids the means of their descriptors, some times.

    Parameters
    ----------
    estimator : estimator
        It has `centroids_`, `words`, and `_move`, which replaces centroids and inertia.
    X : Dask array or bag
    n_steps : int
    cosine : bool
        Whether descriptors are brought to unit length.
    """
    from dask import delayed

    for _ in range(n_steps):
        shared = delayed(estimator, traverse=False)
        sum_kf, count_k, square = _reduced(X, _cell_sums, _sum_each, shared, cosine)
        used_k = count_k > 0
        centroid_kf = estimator.centroids_.astype(np.float64)
        centroid_kf[used_k] = sum_kf[used_k] / count_k[used_k, None]
        kept = np.einsum("kf,kf->", sum_kf[used_k], centroid_kf[used_k])
        inertia = max(0.0, float(square - kept)) / int(count_k.sum())
        estimator._move(centroid_kf.astype(estimator.centroids_.dtype), inertia)


def _cell_sums(part: _Part, estimator: Any, cosine: bool) -> tuple[FloatArray, AnyArray, float]:
    """Sums and numbers of the descriptors of each cell, and the sum of their squares."""
    k, f = estimator.centroids_.shape
    sum_kf, count_k, square = np.zeros((k, f)), np.zeros(k, np.int64), 0.0
    for row_Nf in descriptors(part, cosine=cosine):
        if len(row_Nf):
            label_N, wide_Nf = estimator.words(row_Nf), row_Nf.astype(np.float64)
            sum_kf += segment_sum(wide_Nf, label_N, k)
            count_k += np.bincount(label_N, minlength=k)
            square += float(np.einsum("Nf,Nf->", wide_Nf, wide_Nf))
    return sum_kf, count_k, square


def transformed(estimator: Any, X: Any, dtype: npt.DTypeLike) -> Any:
    """Dask array (t, D) of what `estimator` makes of each partition."""
    import dask.array as da
    from dask import delayed

    D = estimator.n_features_out

    def transform(part: _Part, fitted: Any) -> AnyArray:
        if not len(part) or (fitted._accepts_3d and _is_empty(part)):
            return np.zeros((len(part), D), dtype)
        return np.asarray(fitted.transform(part)).astype(dtype, copy=False)

    shared, run = delayed(estimator, traverse=False), delayed(_in_partition)
    parts = _parts(X)
    lengths = X.chunks[0] if hasattr(X, "chunks") else [np.nan] * len(parts)
    blocks = [
        da.from_delayed(run(i, transform, part, shared), (n, D), dtype)
        for i, (n, part) in enumerate(zip(lengths, parts, strict=True))
    ]
    return da.concatenate(blocks, allow_unknown_chunksizes=True)


def _parts(X: Any) -> list[Any]:
    """Partitions as Dask's delayed values; those of an array are cut along the first axis."""
    if hasattr(X, "rechunk"):
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        return list(X.to_delayed().ravel())
    return list(X.to_delayed())


def _is_empty(part: _Part) -> bool:
    """Whether a partition has no image, or none with descriptors, from which f would be known."""
    if not isinstance(part, (list, tuple)):
        return not len(part)
    return all(each is None or not as_array(on_host(each)).size for each in part)


def _in_partition(i: int, work: Callable[..., Any], part: _Part, *arguments: Any) -> Any:
    """Result of a partition; its errors have its number, as images are counted in it."""
    try:
        return work(part, *arguments)
    except InputError as error:
        raise type(error)(f"partition {i}: {error}") from error


def _reduced(
    X: Any,
    of_part: Callable[..., Any],
    merge: Callable[[Sequence[Any]], Any],
    *arguments: Any,
) -> Any:
    """Results of all partitions, merged in their order; of those that are not None."""
    from dask import delayed

    def merged(several: Sequence[Any]) -> Any:
        found = [each for each in several if each is not None]
        return merge(found) if found else None

    run = delayed(_in_partition)
    results = [run(i, of_part, part, *arguments) for i, part in enumerate(_parts(X))]
    while len(results) > 1:
        groups = [results[i : i + _FAN] for i in range(0, len(results), _FAN)]
        results = [delayed(merged)(group) for group in groups]
    return results[0].compute()


def _sum(several: Sequence[Any]) -> Any:
    total = several[0] if several else None
    for each in several[1:]:
        total = total + each
    return total


def _sum_each(several: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(_sum(column) for column in zip(*several, strict=True))


def _keys(row_Nf: FloatArray, seed: int) -> npt.NDArray[np.uint64]:
    """Keys (N,) of rows by their bytes: a sum of their words times random odd numbers, mixed."""
    word_Nw = np.ascontiguousarray(row_Nf).view(np.uint32).astype(np.uint64)
    odd_w = np.random.default_rng(seed).integers(2**63, size=word_Nw.shape[1], dtype=np.uint64)
    key_N: npt.NDArray[np.uint64] = (word_Nw * (2 * odd_w + np.uint64(1))).sum(axis=1)
    key_N ^= key_N >> np.uint64(33)
    key_N *= np.uint64(0xFF51AFD7ED558CCD)
    key_N ^= key_N >> np.uint64(33)
    return key_N


def check_enough(moments: Moments | None, n_clusters: int) -> Moments:
    """Moments of descriptors; InputError if there are fewer of them than clusters."""
    if moments is None or moments.n < n_clusters:
        n = 0 if moments is None else moments.n
        raise InputError(
            f"got {n} descriptors for {n_clusters} clusters, wanted at least one for each: "
            "give more images, or ask for fewer clusters"
        )
    return moments


def refuse_partitions(X: Any, what: str) -> None:
    """Raise ParameterError where `X` is a Dask array or bag, and cannot be used as such."""
    if is_partitioned(X):
        raise ParameterError(f"{what}: give arrays, such as X.compute()")
