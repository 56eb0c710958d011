"""Records of images: all that a collection keeps of them, made of their features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from vladkit.aggregation.encode import fastest
from vladkit.collection.describer import Describer
from vladkit.collection.kept_features import pack_features
from vladkit.core.arrays import AnyArray, Float32Array
from vladkit.errors import ImageError
from vladkit.features import Features
from vladkit.features.pool import Result
from vladkit.store.rows import ImageRow, Record

__all__ = ["BATCH", "make_records"]

BATCH: Final = 32
"""Images encoded and committed together: 32 MB of float32 descriptors at 2,000 each."""

_Sums: TypeAlias = tuple[AnyArray, AnyArray]

_Described: TypeAlias = tuple[Float32Array, _Sums | None, AnyArray | None]
"""Vector of an image, its sums and counts, and the whole vector beside a short one."""


def make_records(
    describer: Describer,
    batch: Sequence[tuple[ImageRow, Result]],
    method: str | None = None,
    *,
    n_jobs: int | None,
) -> list[Record]:
    """Records of images, in their order: vectors, codes, kept features; or why there are none.

    `method` is that of `vladkit.encode`; None is the fastest, whose code may have to be loaded.
    """
    recipe = describer.recipe
    usable = [f for _, f in batch if isinstance(f, Features)]
    coded = describer.codes(usable, n_jobs=n_jobs) if usable else []
    described = zip(_described(describer, usable, method or fastest(), n_jobs), coded, strict=True)
    records = []
    for row, features in batch:
        if isinstance(features, ImageError):
            row = replace(row, skipped=features.reason, transient=features.transient)
            records.append(Record(row))
            continue
        width, height = features.width or None, features.height or None
        if not features.has_size:
            width = height = None
        row = replace(row, width=width, height=height, n_local=len(features))
        kept = None
        if recipe.keep_features:
            strongest = features.strongest(recipe.keep_features)
            kept = pack_features(strongest, describer.quantizer)
        (vector_D, sums, whole_D), codes = next(described)
        vector_D = describer.stored_vector(row.path, vector_D)
        described_by = sums, features.lifted, codes, features.photo, whole_D
        records.append(Record(row, vector_D, kept, *described_by))
    return records


def _described(
    describer: Describer, features: list[Features], method: str, n_jobs: int | None
) -> Iterator[_Described]:
    """Vector of each image, and what is kept beside it."""
    if not features:
        return
    if describer.keeps_whole:
        whole_tD = describer.whole_vectors(features, method, n_jobs=n_jobs)
        kept_tD = whole_tD.astype(describer.recipe.dtype)
        for short_d, whole_D in zip(describer.shortened(whole_tD), kept_tD, strict=True):
            yield short_d, None, whole_D
        return
    if not describer.recipe.keep_sums:
        vector_tD = describer.vectors(features, method, n_jobs=n_jobs)
        yield from ((vector_D, None, None) for vector_D in vector_tD)
        return
    sums = describer.aggregates(features, method, n_jobs=n_jobs)
    vector_tD = describer.vectors_of(sums)
    for vector_D, residual_kf, count_k in zip(
        vector_tD, sums.residual_tkf, sums.count_tk, strict=True
    ):
        yield vector_D, (residual_kf, count_k), None
