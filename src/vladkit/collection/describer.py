"""`Describer`: the features of an image become its one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit.aggregation.aggregate import Aggregate
from vladkit.aggregation.asmk import ASMK
from vladkit.aggregation.multi import MultiVLAD
from vladkit.aggregation.normalize import normalize
from vladkit.aggregation.vlad import VLAD
from vladkit.aggregation.whitening import Whitening
from vladkit.collection.descriptor_quantizer import DescriptorQuantizer
from vladkit.collection.learned_vectors import SampleOfAxes
from vladkit.collection.recipe import Recipe
from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, Int64Array
from vladkit.core.codes import Codes
from vladkit.core.names import image_key
from vladkit.core.ragged import Ragged
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.errors import NothingToIndexError, ParameterError
from vladkit.features import Extractor, Features, has_local, vector_dimensions
from vladkit.images import Region
from vladkit.kernels.loading import as_one_call
from vladkit.store.blocks import Layout
from vladkit.store.whole import WHOLE

__all__ = ["Codebook", "Describer", "Query"]

Codebook: TypeAlias = VLAD | MultiVLAD

_WHITENING: Final = "whitening."  # before the names of its arrays
_WORDS: Final = "words."
_KEPT: Final = "kept.pieces"
_OTHERS: Final = (_WHITENING, _WORDS, _KEPT)

_FLOATS: Final = ("centroids", "cells")
_UNIT: Final = 2.0
_LARGEST: Final = 1.001  # value of a rotation: its columns are of unit length
_ROWS: Final = 32  # axes of a whitening that a thread converts at a time, 20 ms of 256 on one
"""Arrays that are stored in float16 where no number is larger: of descriptors of length 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Image to search by.

    Parameters
    ----------
    vector_vD : (v, D)
        Vectors: upright and, where that matters, rotated.
    features : Features or None
        None if they are not known.
    codes : Codes or None
        Match codes of the image, with several words for a descriptor; None without features, or
        in a collection that has none.
    own : float
        Similarity of the codes to those that the same image has in a collection.
    mirrored : Region or None
        If all this is of the mirror image: the part of the image itself that was flipped.
    of_kept : bool
        Whether the codes are of features that a collection has kept, see
        `vladkit.collection.recoded`.
    """

    vector_vD: Float32Array
    features: Features | None = None
    codes: Codes | None = None
    own: float = 1.0
    mirrored: Region | None = None
    of_kept: bool = False


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
    learned : dict
        State that codebook, words and whitening are in, see `vladkit.store.store.Store.learned`.
    has_vectors : bool
        Whether the extractor gives each image's vector: then no codebook makes it.
    vlad : VLAD, MultiVLAD or None
        The fitted codebook; None before there is one, and where there is none.
    asmk : ASMK or None
        Makes match codes; None where the recipe has no words, or before there are any.
    whitening : Whitening or None
        Brings vectors to fewer dimensions, where that was asked for.
    quantizer : DescriptorQuantizer or None
        Makes and reads codes of kept descriptors, where it was learned.
    sample : SampleOfAxes or None
        Images that the axes of a given whitening were learned from, where others are beside them.
    """

    def __init__(self, recipe: Recipe, name: str, extractor: Extractor | None = None) -> None:
        self.recipe = recipe
        self.extractor = extractor or recipe.extractor()
        self.name = name
        self.has_vectors = vector_dimensions(self.extractor) > 0
        self.learned: dict[str, Any] = {}
        self.vlad: Codebook | None = None
        self.asmk: ASMK | None = None
        self.whitening: Whitening | None = None
        self.keeps_whole = False
        self.quantizer: DescriptorQuantizer | None = None
        self.sample: SampleOfAxes | None = None

    # -- keeping ----------------------------------------------------------------------

    def restore(self, about: dict[str, Any], arrays: dict[str, AnyArray]) -> None:
        """Take over the values and arrays that the three methods below give.

        Raises
        ------
        FileFormatError
            If it does not fit together.
        """
        words = _below(_WORDS, arrays)
        rest = {n: a for n, a in arrays.items() if not n.startswith(_OTHERS)}
        for name, array in arrays.items():
            # of one that is not, vectors are not finite
            if name.endswith("rotation") and not np.abs(array).max() <= _LARGEST:
                raise ValueError(f"{name} is no rotation")
        self.learned = about.get("learned", {})
        self.vlad = self.asmk = self.whitening = self.sample = None
        if "words" in about:
            words |= {n: words[n].astype(np.float32) for n in _FLOATS}
            self.asmk = ASMK.from_state(about["words"], words)
        if _KEPT in arrays:
            self.quantizer = DescriptorQuantizer(arrays[_KEPT], self.extractor)
        if "codebook" in about:
            kind = MultiVLAD if "vlads" in about["codebook"] else VLAD
            self.vlad = kind.from_state(about["codebook"], rest)
        if "whitening" in about:
            self.whitening = self.whitening_of(about, arrays)
            self.sample = SampleOfAxes.of(arrays, self.whitening)
        self.keeps_whole = self.whitening is not None and bool(about.get(WHOLE))

    @staticmethod
    def codebook_state(codebook: Codebook) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """A codebook as values for `Store.set_about` and arrays by name."""
        about, arrays = codebook.to_state()
        return {"codebook": about}, arrays

    @staticmethod
    def words_state(asmk: ASMK) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Words as values for `Store.set_about` and arrays by name: float16 if that is enough."""
        about, arrays = asmk.to_state()
        if np.abs(arrays["centroids"]).max() <= _UNIT:
            arrays |= {n: arrays[n].astype(np.float16) for n in _FLOATS}
        return {"words": about}, {_WORDS + n: a for n, a in arrays.items()}

    @staticmethod
    def whitening_state(whitening: Whitening) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """A whitening as values for `Store.set_about` and arrays by name, its axes in float16."""
        about, arrays = whitening.to_state()
        arrays |= {"components": arrays["components"].astype(np.float16)}
        return {"whitening": about}, {_WHITENING + n: a for n, a in arrays.items()}

    @staticmethod
    def whitening_of(about: dict[str, Any], arrays: dict[str, AnyArray]) -> Whitening:
        """Make the whitening of `whitening_state`."""
        own = _below(_WHITENING, arrays)
        stored_dD = own["components"]
        component_dD = np.empty(stored_dD.shape, np.float32)

        def convert(i: int) -> None:
            rows = slice(i * _ROWS, (i + 1) * _ROWS)
            component_dD[rows] = stored_dD[rows]

        for_each(convert, -(-len(stored_dD) // _ROWS), resolve_n_jobs(None))
        own |= {"components": component_dD}
        return Whitening.from_state(about["whitening"], own)

    def quantizer_arrays(self, local_Nf: FloatArray) -> dict[str, AnyArray]:
        """Arrays by name of a quantizer of kept descriptors: the package's, or learned.

        None where the recipe wants none, the sample is too small, or there is one: what it has
        encoded is read with it for ever.
        """
        recipe, extractor = self.recipe, self.extractor
        if self.quantizer is not None or not (recipe.keep_bytes and recipe.keep_features):
            return {}
        n_bytes = recipe.keep_bytes
        found = DescriptorQuantizer.shipped(n_bytes, extractor)
        if found is None:
            metric_Nf = local_Nf[:, : extractor.n_dimensions]  # without direction and place
            found = DescriptorQuantizer.fit(metric_Nf, n_bytes, extractor, seed=recipe.seed)
        return {} if found is None else {_KEPT: found.piece_bkp}

    # -- use --------------------------------------------------------------------------

    def trained(self) -> Codebook:
        """The codebook.

        Raises
        ------
        NothingToIndexError
            If there is none yet.
        ParameterError
            If the collection has none, because its vectors are given.
        """
        if self.has_vectors:
            raise ParameterError(
                f"{self.name} has no codebook: its vectors are those of {self.recipe.vectors_from}"
            )
        if self.vlad is None:
            raise NothingToIndexError(f"{self.name} holds no images yet")
        return self.vlad

    @property
    def learns(self) -> bool:
        """Whether something is to be learned from images before one can be added."""
        recipe = self.recipe
        if not self.has_vectors:
            return True
        keeps_codes = recipe.keep_bytes and recipe.keep_features
        return bool(has_local(self.extractor) and (recipe.n_words or keeps_codes))

    @property
    def is_ready(self) -> bool:
        """Whether what makes vectors and codes is there."""
        if not self.has_vectors:
            return self.vlad is not None
        return bool(self.learned) or not self.learns

    def check_ready(self) -> None:
        """Raise NothingToIndexError if nothing has been learned yet."""
        if not self.is_ready:
            raise NothingToIndexError(f"{self.name} holds no images yet")

    @property
    def is_given(self) -> bool:
        """Whether codebook and whitening are learned once, or those of a codebook file."""
        return bool(self.learned.get("given"))

    @property
    def is_of_file(self) -> bool:
        """Whether they are those of a codebook file, which someone chose."""
        return self.is_given and not self.learned.get("own")

    @property
    def n_clusters(self) -> int:
        """Number of clusters of one codebook, k; 0 where vectors are given."""
        if self.has_vectors:
            return 0
        codebook = self.trained()
        vlad = codebook.vlads_[0] if isinstance(codebook, MultiVLAD) else codebook
        return len(vlad.centroids_)

    @property
    def n_dimensions(self) -> int:
        """Number of dimensions of a stored vector, D."""
        if self.whitening is not None:
            return len(self.whitening.components_)
        return self.n_whole_dimensions

    @property
    def n_whole_dimensions(self) -> int:
        """Number of dimensions of a vector before it is made short."""
        if self.has_vectors:
            return vector_dimensions(self.extractor)
        return self.trained().n_features_out

    @property
    def layout(self) -> Layout:
        """Form of stored vectors."""
        d = self.n_dimensions if self.has_vectors or self.is_ready else 0
        return Layout(np.dtype(self.recipe.dtype), d)

    def vectors(
        self, features: Sequence[Features], method: str = "auto", *, n_jobs: int | None = 1
    ) -> Float32Array:
        """Vectors (t, D) of images, before they are rounded to the dtype that is stored."""
        return self.shortened(self.whole_vectors(features, method, n_jobs=n_jobs))

    def whole_vectors(
        self, features: Sequence[Features], method: str = "auto", *, n_jobs: int | None = 1
    ) -> Float32Array:
        """Vectors (t, D) of images, before they are made short."""
        if self.has_vectors:
            return self._given(features)
        return self.trained()._encode(self._batch(features), method=method, n_jobs=n_jobs)

    def _given(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (t, D) that the extractor gave, normalised."""
        vectors = [each.vector_D for each in features if each.vector_D is not None]
        if len(vectors) < len(features):
            raise ParameterError(
                f"{self.name} compares the vectors of {self.recipe.vectors_from}, which these "
                "features lack: give the image"
            )
        vector_t1D = np.stack(vectors).astype(np.float32)[:, None]
        one_t1 = np.ones(vector_t1D.shape[:2], np.int64)
        return np.asarray(normalize(vector_t1D, one_t1, self.recipe.norm), np.float32)

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

    def query(self, features: Features, stored_D: AnyArray | None = None) -> Query:
        """Query by an image's features; upright with its stored vector, if that is given."""
        with as_one_call():
            if stored_D is not None and self.has_vectors:
                query_vD = stored_D[None].astype(np.float32)
            else:
                query_vD = self.query_vectors([features])[0]
                if stored_D is not None:
                    query_vD[0] = stored_D
            if self.asmk is None:
                return Query(query_vD, features)
            many, one = self.asmk._query(*self._local_and_angle(features))
            (own,) = self.asmk._similarity(many, one, n_jobs=1)[0].tolist()
        return Query(query_vD, features, many, own)

    def codes(
        self, features: Sequence[Features], *, n_jobs: int | None = 1
    ) -> list[Codes] | list[None]:
        """Match codes of each image; None each where the recipe has none."""
        asmk = self.asmk
        if asmk is None:
            return [None] * len(features)
        codes: dict[int, Codes] = {}

        def run(i: int) -> None:
            local_lf, angle_l = self._local_and_angle(features[i])
            codes[i] = asmk.transform([local_lf], None if angle_l is None else [angle_l])

        for_each(run, len(features), resolve_n_jobs(n_jobs))
        return [codes[i] for i in range(len(features))]

    def _local_and_angle(self, features: Features) -> tuple[FloatArray, AnyArray | None]:
        """Descriptors without place and direction, which a code has beside it."""
        local_lf = self.extractor.metric(features.descriptor_lf)
        return local_lf, features.angle_l if self.recipe.orientation else None

    def aggregates(
        self, features: Sequence[Features], method: str = "auto", *, n_jobs: int | None = 1
    ) -> Aggregate:
        """Sums and counts of images, from which `vectors_of` makes their vectors."""
        return self._single()._aggregate(self._batch(features), method=method, n_jobs=n_jobs)

    def vectors_of(self, aggregate: Aggregate) -> Float32Array:
        """Vectors (t, D), as `vectors` gives them, of sums and counts."""
        return self.shortened(self._single().transform_aggregate(aggregate))

    def shortened(self, vector_tD: Float32Array) -> Float32Array:
        """Whole vectors as they are stored: short, if the collection's are."""
        if self.whitening is None:
            return vector_tD
        return self.whitening._transform_alone(vector_tD)

    def stored_vector(self, path: str, vector_D: Float32Array) -> AnyArray:
        """An image's vector as it is stored: shrunk, if the axes were learned from that image."""
        if self.sample is not None and image_key(path, self.recipe.seed) in self.sample.keys:
            assert self.whitening is not None, "a sample is that of its axes"
            vector_D = self.sample.shrunk(vector_D, self.whitening.power)
        return vector_D.astype(self.recipe.dtype)

    def sums_to(self) -> FloatArray:
        """Centroids (k, f) that kept sums are residuals to, whatever has been adapted."""
        return self._single()._own_label_centroids()

    def _single(self) -> VLAD:
        codebook = self.trained()
        assert isinstance(codebook, VLAD), "sums are kept with one vocabulary only"
        return codebook

    def query_vectors(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (q, v, D) of query images: upright and, where that matters, rotated.

        v is 4, for quarter turns (of the features: nothing is extracted again), or 1 where an
        image and the image rotated have the same vector anyway, or vectors are given.
        """
        if self.has_vectors:  # of the image as it is: nothing is known of it rotated
            return self.vectors(features)[:, None]
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


def _below(prefix: str, arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """Arrays whose name begins with a prefix, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
