"""Images that the axes of short vectors were learned from.

As long as there are no others, their vectors are best as they are. Once others come, these others
would rank first, so theirs are shrunk (`vladkit.aggregation.shrinkage`): `LearnedVectors` are those
of a collection that learns from its own images, until others have come. `SampleOfAxes` are those of
axes that are learned once, from some of many images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from vladkit.aggregation.shrinkage import shrunk
from vladkit.aggregation.whitening import Whitening
from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, Int64Array
from vladkit.store.database import damaged
from vladkit.store.protocol import CollectionStore

__all__ = ["LearnedVectors", "SampleOfAxes"]

_NAME: Final = "shrinkage"
_ARRAY: Final = "~shrinkage"

_KEYS: Final = "whitening.sample_keys"
_SHRINKAGE: Final = "whitening.sample_shrinkage"


@dataclass(frozen=True, slots=True, eq=False)
class LearnedVectors:
    """Ids of such images, and what vectors lose along each axis that it was not learned from."""

    image_ids: frozenset[int]
    shrinkage_d: FloatArray

    @classmethod
    def read(cls, store: CollectionStore) -> Self | None:
        """Those of a collection, None if there are none; FileFormatError for damaged ones."""
        given: Any = store.about().get(_NAME)
        if given is None:
            return None
        with damaged(store.path, f"value {_NAME!r}"):
            ids, shrinkage_d = given["images"], store.arrays(_ARRAY)[_ARRAY]
            if not all(type(i) is int for i in ids) or not np.isfinite(shrinkage_d).all():
                raise ValueError("it is not as vladkit wrote it")
            return cls(frozenset(ids), shrinkage_d)

    @classmethod
    def write(
        cls, store: CollectionStore, image_ids: Collection[int], shrinkage_d: FloatArray
    ) -> None:
        """Note what axes were learned from; within `writing`."""
        store.set_arrays({_ARRAY: shrinkage_d})
        store.set_about(**{_NAME: {"images": sorted(image_ids)}})

    @classmethod
    def drop(cls, store: CollectionStore) -> None:
        """Forget them all; within `writing`."""
        store.forget(_NAME, _ARRAY)

    @classmethod
    def forget(cls, store: CollectionStore, image_ids: Iterable[int]) -> None:
        """Note that images were indexed again; within `writing`."""
        learned = cls.read(store)
        if learned and (left := learned.image_ids.difference(image_ids)) != learned.image_ids:
            cls.write(store, left, learned.shrinkage_d)

    @classmethod
    def merge(
        cls,
        out: CollectionStore,
        stores: Iterable[CollectionStore],
        new_ids: Callable[[int], Mapping[int, int]],
    ) -> None:
        """Note in `out` those of several collections that are merged; within `writing`.

        `new_ids` gives the ids of a collection's images there, by those that they have in it.
        """
        image_ids: list[int] = []
        for number, store in enumerate(stores):
            if learned := cls.read(store):
                new = new_ids(number)
                image_ids += [new[i] for i in learned.image_ids if i in new]
                cls.write(out, image_ids, learned.shrinkage_d)

    def shrunk(self, image_id_n: Int64Array, short_nd: AnyArray, power: float) -> AnyArray:
        """Vectors of some images, with those of them shrunk that are among these."""
        own_n = np.isin(image_id_n, sorted(self.image_ids))
        out_nd = short_nd.copy()
        out_nd[own_n] = shrunk(short_nd[own_n].astype(np.float32), self.shrinkage_d, power)
        return out_nd


@dataclass(frozen=True, slots=True, eq=False)
class SampleOfAxes:
    """Images that given axes were learned from, which others are beside from the start.

    Parameters
    ----------
    keys : frozenset of int
        Keys of their paths, see `vladkit.core.names.image_key`: for a shard, too, to know its own.
    shrinkage_d : (d,) float64
        Length along each axis of vectors that it was not learned from, as a share of theirs; see
        `vladkit.aggregation.shrinkage`.
    """

    keys: frozenset[int]
    shrinkage_d: FloatArray

    @classmethod
    def of(cls, arrays: dict[str, AnyArray], whitening: Whitening) -> Self | None:
        """That of stored arrays, if there is one; ValueError if it does not fit the whitening."""
        if _KEYS not in arrays:
            return None
        key_n, shrinkage_d = arrays[_KEYS], arrays[_SHRINKAGE]
        fits = shrinkage_d.shape == (len(whitening.components_),) and key_n.dtype == np.uint64
        if not fits or not ((shrinkage_d >= 0) & (shrinkage_d <= 1)).all():
            raise ValueError("the shrinkage of its sample is not as vladkit wrote it")
        return cls(frozenset(key_n.tolist()), shrinkage_d)

    def shrunk(self, vector_D: Float32Array, power: float) -> Float32Array:
        """Vector of one of them as it is stored."""
        return np.asarray(shrunk(vector_D[None], self.shrinkage_d, power)[0], np.float32)

    def arrays(self) -> dict[str, AnyArray]:
        """Arrays by name, as they are stored."""
        key_n = np.array(sorted(self.keys), np.uint64)
        return {_KEYS: key_n, _SHRINKAGE: self.shrinkage_d}
