"""`Describer`: the local features of a picture become its one vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vladkit.axes import Float32Array
from vladkit.errors import NothingToIndexError
from vladkit.estimators import VLAD
from vladkit.features import Features
from vladkit.ragged import Ragged
from vladkit.recipe import Recipe

__all__ = ["Describer"]


class Describer:
    """A recipe and what was learned for it.

    Parameters
    ----------
    recipe : Recipe
    vlad : VLAD or None
        The fitted codebook; None before there is one.
    name : str
        Of the collection, for messages.
    """

    def __init__(self, recipe: Recipe, vlad: VLAD | None, name: str) -> None:
        self.recipe = recipe
        self.extractor = recipe.extractor()
        self.vlad = vlad
        self.name = name

    def trained(self) -> VLAD:
        """The codebook.

        Raises
        ------
        NothingToIndexError
            If there is none yet.
        """
        if self.vlad is None:
            raise NothingToIndexError(f"{self.name} holds no pictures yet")
        return self.vlad

    @property
    def n_dimensions(self) -> int:
        """D, of a vector."""
        vlad = self.trained()
        d = vlad.n_features_in_ if vlad.rotation_ is None else vlad.rotation_.shape[1]
        return len(vlad.centroids_) * d

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Of stored vectors."""
        return np.dtype(self.recipe.dtype)

    def vectors(
        self,
        features: Sequence[Features],
        method: str = "auto",
        *,
        turns: int = 0,
        n_jobs: int | None = 1,
    ) -> Float32Array:
        """Vectors (t, D) of pictures, as if turned clockwise by `turns` quarter turns."""
        vlad = self.trained()
        vlad.set_params(method=method, n_jobs=n_jobs)
        batch = Ragged.from_list([self.recipe.local(self.extractor, f, turns) for f in features])
        vector_tD: Float32Array = vlad.transform(batch)
        return vector_tD

    def query_vectors(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (q, v, D) of query pictures: upright and, where that matters, turned.

        v is 4, for quarter turns (of the features: nothing is extracted again), or 1 where a
        picture and the picture turned have the same vector anyway.
        """
        turns = range(4 if self.recipe.is_directional else 1)
        return np.stack([self.vectors(features, turns=i) for i in turns], axis=1)
