"""Training: codebook, words and quantizer, from a sample of descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit.collection.describer import Describer
from vladkit.collection.recipe import ROWS_PER_WORD, Recipe
from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.ragged import Ragged
from vladkit.core.threads import for_each, resolve_n_jobs

__all__ = ["IMAGES_PER_AXIS", "OTHERS_CAME", "sample_size", "short_length", "train"]

_PER_CLUSTER: Final = 256
"""Descriptors that k-means sees for each cluster."""

_SHORT_FROM: Final = 64
"""Fewest images from which the axes of short vectors are learned."""

IMAGES_PER_AXIS: Final = 3
"""Fewest images for each of them; docs/results/defaults.md has the figures."""

OTHERS_CAME: Final = 1.05
"""Share of the images that axes were learned from, up to which the vectors of these stay as they
are: with 5 in 100 others mAP is as with vectors that are shrunk (docs/results/defaults.md)."""

_Learned: TypeAlias = tuple[dict[str, Any], dict[str, AnyArray]]


def short_length(recipe: Recipe, n_images: int, n_dimensions: int) -> int:
    """Dimensions of vectors that are made short by axes of `n_images`; 0 if they stay whole."""
    if n_images < _SHORT_FROM or not 0 < recipe.n_components < n_dimensions:
        return 0
    return min(recipe.n_components, n_images // IMAGES_PER_AXIS)


def sample_size(recipe: Recipe) -> int:
    """Number of descriptors that `train` uses."""
    return max(_PER_CLUSTER * recipe.n_clusters, ROWS_PER_WORD * recipe.n_words)


def train(
    describer: Describer, local_Nf: FloatArray, n_jobs: int | None
) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Learn from a sample what makes vectors (not yet short), codes and kept descriptors.

    Words, codebook and kept descriptors are independent, and are learned on up to `n_jobs` threads:
    the same on any number.

    Returns
    -------
    about : dict
        Values for `Store.set_about`.
    arrays : dict
        Arrays by name, as they are stored. `Describer.restore` takes both.
    """
    recipe, extractor = describer.recipe, describer.extractor

    def words() -> _Learned:
        plain_Nf = np.ascontiguousarray(local_Nf[:, : extractor.n_dimensions or None])
        return describer.words_state(recipe.asmk(len(plain_Nf))._train_on(plain_Nf))

    def codebook() -> _Learned:
        row_Nf = _some(local_Nf, _PER_CLUSTER * recipe.n_clusters, recipe.seed)
        vlad = recipe.vlad(*row_Nf.shape).fit(Ragged(row_Nf, [0, len(row_Nf)]))
        return describer.codebook_state(vlad)

    parts: list[Callable[[], _Learned]] = [lambda: ({}, describer.quantizer_arrays(local_Nf))]
    if not describer.has_vectors:
        parts.insert(0, codebook)
    if recipe.n_words:
        parts.insert(0, words)
    made: dict[int, _Learned] = {}
    for_each(lambda i: made.update({i: parts[i]()}), len(parts), resolve_n_jobs(n_jobs))
    learned: dict[str, Any] = {}
    arrays: dict[str, AnyArray] = {}
    for i in range(len(parts)):
        learned |= made[i][0]
        arrays |= made[i][1]
    return learned, arrays


def _some(row_Nf: FloatArray, most: int, seed: int) -> FloatArray:
    """At most `most` of the rows, drawn at random."""
    if len(row_Nf) <= most:
        return row_Nf
    chosen = np.random.default_rng(seed).choice(len(row_Nf), most, replace=False)
    return row_Nf[np.sort(chosen)]
