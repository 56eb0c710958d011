"""Database-side augmentation of a collection: images found through those that look like them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.query_expansion import neighbor_weights
from vladkit.core.arrays import AnyArray, Float32Array, Int64Array
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import FileFormatError
from vladkit.store.protocol import CollectionStore
from vladkit.store.schema import AUGMENTATION

__all__ = ["Augmentation", "augment"]

_GATHERED_BYTES: Final = 2**27
"""Vectors compared with all others at a time: every pass reads the whole collection."""


@dataclass(frozen=True, slots=True, eq=False)
class Augmentation:
    """The other vectors that each vector of a collection is joined with.

    Scores are joined instead of vectors: nothing is stored twice, and the vectors stay as they
    are (`vladkit.aggregation.query_expansion.neighbor_weights`).

    Parameters
    ----------
    image_id_n : (n,) int64
        In the order in which vectors are read.
    place_nr, weight_nr : (n, r) int64, float32
        Places in that order, and the weights of the scores there.
    """

    image_id_n: Int64Array
    place_nr: Int64Array
    weight_nr: Float32Array

    @classmethod
    def make(cls, store: CollectionStore, *, n_neighbors: int, alpha: float) -> Self:
        """Compute it from the stored vectors; raises ParameterError as `neighbor_weights`."""
        ids = [image_id_n for image_id_n, _ in store.vector_blocks()]

        def blocks() -> Iterator[AnyArray]:
            held: list[AnyArray] = []
            for _, vector_nD in store.vector_blocks():
                held.append(vector_nD)
                if sum(each.nbytes for each in held) >= _GATHERED_BYTES:
                    yield np.concatenate(held)
                    held = []
            if held:
                yield np.concatenate(held)

        parts = list(neighbor_weights(blocks, n_neighbors=n_neighbors, alpha=alpha))
        places, weights = zip(*parts, strict=True)
        return cls(np.concatenate(ids), np.concatenate(places), np.concatenate(weights))

    def write(self, store: CollectionStore, about: dict[str, Any]) -> None:
        """Keep it for the state that the vectors are in; within `Store.writing`."""
        store.set_about(augmentation=about | {"stamp": store.stamp()})
        arrays: dict[str, AnyArray] = dict(
            zip(AUGMENTATION, (self.image_id_n, self.place_nr, self.weight_nr), strict=True)
        )
        store.set_arrays(arrays)

    @staticmethod
    def drop(store: CollectionStore) -> None:
        """Forget what `write` kept; within `Store.writing`."""
        store.forget("augmentation", "~augment.*")

    @classmethod
    def read(cls, store: CollectionStore) -> Self | None:
        """Read what `write` kept; None if there is none for the state that the vectors are in."""
        about = store.about().get("augmentation")
        if about is None or about.get("stamp") != store.stamp():
            return None
        kept = store.arrays("~augment.*")
        try:
            self = cls(*(kept[name] for name in AUGMENTATION))
        except KeyError as error:
            raise FileFormatError(
                f"{store.path}: array {error} is missing: augment again"
            ) from None
        if not self._fits():
            raise FileFormatError(f"{store.path}: its augmentation is damaged: augment again")
        return self

    def _fits(self) -> bool:
        place_nr, weight_nr = self.place_nr, self.weight_nr
        return (
            self.image_id_n.ndim == 1
            and place_nr.ndim == 2
            and place_nr.shape == weight_nr.shape
            and len(place_nr) == len(self.image_id_n)
            and place_nr.dtype.kind == "i"
            and not ((place_nr < 0) | (place_nr >= len(place_nr))).any()
            and bool(np.isfinite(weight_nr).all())
        )

    def scores(
        self, image_id_n: Int64Array, score_qn: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Similarity to augmented vectors, computed from the similarity to stored ones."""
        if not np.array_equal(image_id_n, self.image_id_n):
            return score_qn  # another process is writing: the scores as they are
        joined_qn = np.zeros_like(score_qn)
        for place_n, weight_n in zip(self.place_nr.T, self.weight_nr.T, strict=True):
            joined_qn += weight_n * score_qn[:, place_n]
        return joined_qn


def augment(store: CollectionStore, n_neighbors: int, alpha: float) -> None:
    """Make the augmentation of a collection, or drop it; see `vladkit.Collection.augment`."""
    n_neighbors = check_parameter("n_neighbors", n_neighbors, Interval(int, 0))
    alpha = check_parameter("alpha", alpha, Interval(float, 0))
    with store.writing():
        if n_neighbors == 0:
            Augmentation.drop(store)
            return
        made = Augmentation.make(store, n_neighbors=n_neighbors, alpha=alpha)
        made.write(store, {"n_neighbors": n_neighbors, "alpha": alpha})
