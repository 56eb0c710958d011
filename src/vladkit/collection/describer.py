"""`Describer`: the local features of an image become its one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit.aggregation.aggregate import Aggregate
from vladkit.aggregation.multi import MultiVLAD
from vladkit.aggregation.vlad import VLAD
from vladkit.aggregation.whitening import Whitening
from vladkit.collection.descriptor_quantizer import DescriptorQuantizer
from vladkit.collection.recipe import Recipe
from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.errors import NothingToIndexError, ParameterError
from vladkit.features import Extractor, Features
from vladkit.store.blocks import Layout

__all__ = ["Codebook", "Describer"]

Codebook: TypeAlias = VLAD | MultiVLAD

_WHITENING: Final = "whitening."  # before the names of its arrays
_KEPT: Final = "kept.pieces"


class Describer:
    """A recipe and what was learned for it.

    Parameters
    ----------
    recipe : Recipe
    name : str
        The collection's file, for messages.
    extractor : Extractor or None
        The recipe's, where it was made already.

    Attributes
    ----------
    vlad : VLAD, MultiVLAD or None
        The fitted codebook; None before there is one.
    whitening : Whitening or None
        Brings vectors to fewer dimensions, where that was asked for.
    quantizer : DescriptorQuantizer or None
        Makes and reads codes of kept descriptors, where it was learned.
    """

    def __init__(self, recipe: Recipe, name: str, extractor: Extractor | None = None) -> None:
        self.recipe = recipe
        self.extractor = extractor or recipe.extractor()
        self.name = name
        self.vlad: Codebook | None = None
        self.whitening: Whitening | None = None
        self.quantizer: DescriptorQuantizer | None = None

    # -- keeping ----------------------------------------------------------------------

    def restore(self, about: dict[str, Any], arrays: dict[str, AnyArray]) -> None:
        """Take over the values and arrays that the three methods below give.

        Raises
        ------
        FileFormatError
            If it does not fit together.
        """
        own = {n: a for n, a in arrays.items() if n.startswith(_WHITENING)}
        rest = {n: a for n, a in arrays.items() if n not in own and n != _KEPT}
        if _KEPT in arrays:
            self.quantizer = DescriptorQuantizer(arrays[_KEPT], self.extractor)
        if "codebook" in about:
            kind = MultiVLAD if "vlads" in about["codebook"] else VLAD
            self.vlad = kind.from_state(about["codebook"], rest)
        if "whitening" in about:
            own = {n.removeprefix(_WHITENING): a for n, a in own.items()}
            self.whitening = Whitening.from_state(about["whitening"], own)

    @staticmethod
    def codebook_state(codebook: Codebook) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """A codebook as values for `Store.set_about` and arrays by name."""
        about, arrays = codebook.to_state()
        return {"codebook": about}, arrays

    @staticmethod
    def whitening_state(whitening: Whitening) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """A whitening as values for `Store.set_about` and arrays by name."""
        about, arrays = whitening.to_state()
        return {"whitening": about}, {_WHITENING + n: a for n, a in arrays.items()}

    def quantizer_arrays(self, local_Nf: FloatArray) -> dict[str, AnyArray]:
        """Learn a quantizer of kept descriptors from a sample, and give its arrays by name.

        None where the recipe wants none, the sample is too small, or there is one: what it has
        encoded is read with it for ever.
        """
        recipe, extractor = self.recipe, self.extractor
        if self.quantizer is not None or not (recipe.keep_bytes and recipe.keep_features):
            return {}
        metric_Nf = local_Nf[:, : extractor.n_dimensions]  # without direction and place
        found = DescriptorQuantizer.fit(metric_Nf, recipe.keep_bytes, extractor, seed=recipe.seed)
        return {} if found is None else {_KEPT: found.piece_bkp}

    # -- use --------------------------------------------------------------------------

    def trained(self) -> Codebook:
        """The codebook.

        Raises
        ------
        NothingToIndexError
            If there is none yet.
        """
        if self.vlad is None:
            raise NothingToIndexError(f"{self.name} holds no images yet")
        return self.vlad

    @property
    def n_clusters(self) -> int:
        """Number of clusters of one codebook, k."""
        codebook = self.trained()
        vlad = codebook.vlads_[0] if isinstance(codebook, MultiVLAD) else codebook
        return len(vlad.centroids_)

    @property
    def n_dimensions(self) -> int:
        """Number of dimensions of a stored vector, D."""
        if self.whitening is not None:
            return len(self.whitening.components_)
        return self.trained().n_features_out

    @property
    def layout(self) -> Layout:
        """Form of stored vectors."""
        d = 0 if self.vlad is None else self.n_dimensions
        return Layout(np.dtype(self.recipe.dtype), d)

    def vectors(
        self, features: Sequence[Features], method: str = "auto", *, n_jobs: int | None = 1
    ) -> Float32Array:
        """Vectors (t, D) of images, before they are rounded to the dtype that is stored."""
        vector_tD = self.trained()._encode(self._batch(features), method=method, n_jobs=n_jobs)
        return self._whitened(vector_tD)

    def words(self, features: Features, vocabulary: int = 0) -> Int64Array:
        """Visual words (l,) of features, by one of the codebooks.

        Raises
        ------
        ParameterError
            If there is no such codebook.
        """
        codebook = self.trained()
        vlads = codebook.vlads_ if isinstance(codebook, MultiVLAD) else [codebook]
        if not 0 <= vocabulary < len(vlads):
            raise ParameterError(
                f"vocabulary={vocabulary}, but {self.name} has {len(vlads)}: count from 0"
            )
        return vlads[vocabulary].words(self.recipe.local(self.extractor, features))

    def aggregates(
        self, features: Sequence[Features], method: str = "auto", *, n_jobs: int | None = 1
    ) -> Aggregate:
        """Sums and counts of images, from which `vectors_of` makes their vectors."""
        return self._single()._aggregate(self._batch(features), method=method, n_jobs=n_jobs)

    def vectors_of(self, aggregate: Aggregate) -> Float32Array:
        """Vectors (t, D), as `vectors` gives them, of sums and counts."""
        return self._whitened(self._single().transform_aggregate(aggregate))

    def _whitened(self, vector_tD: Float32Array) -> Float32Array:
        if self.whitening is None:
            return vector_tD
        short_td: Float32Array = self.whitening.transform(vector_tD)
        return short_td

    def sums_to(self) -> FloatArray:
        """Centroids (k, f) that kept sums are residuals to, whatever has been adapted."""
        vlad = self._single()
        return vlad.centroids_ if vlad.label_centroids_ is None else vlad.label_centroids_

    def _single(self) -> VLAD:
        codebook = self.trained()
        assert isinstance(codebook, VLAD), "sums are kept with one vocabulary only"
        return codebook

    def query_vectors(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (q, v, D) of query images: upright and, where that matters, rotated.

        v is 4, for quarter turns (of the features: nothing is extracted again), or 1 where an
        image and the image rotated have the same vector anyway.
        """
        turns = range(4 if self.recipe.is_directional else 1)
        local = Ragged.from_list([self._local(f, i) for i in turns for f in features])
        vector_tD = self.trained()._encode(local, method="auto", n_jobs=1)
        view_vqD = vector_tD.reshape(len(turns), len(features), -1)
        query_qvD: Float32Array = np.ascontiguousarray(view_vqD.swapaxes(0, 1))
        if self.whitening is not None:
            query_qvD = self.whitening.transform_views(query_qvD)
        return query_qvD

    def _local(self, features: Features, turns: int = 0) -> FloatArray:
        return self.recipe.local(self.extractor, features, turns)

    def _batch(self, features: Sequence[Features]) -> Ragged:
        return Ragged.from_list([self._local(f) for f in features])
