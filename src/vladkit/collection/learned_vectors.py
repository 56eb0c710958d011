"""Images that the axes of short vectors were learned from, until their vectors are shrunk.

As long as there are no others, their vectors are best as they are. Once others come, these others
would rank first (`vladkit.aggregation.shrinkage`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from vladkit.aggregation.shrinkage import shrunk
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.store.database import damaged
from vladkit.store.protocol import CollectionStore

__all__ = ["LearnedVectors"]

_NAME: Final = "shrinkage"
_ARRAY: Final = "~shrinkage"


@dataclass(frozen=True, slots=True, eq=False)
class LearnedVectors:
    """Those whose id is at most `last`, without those that were indexed again since."""

    last: int
    others: frozenset[int]
    shrinkage_d: FloatArray

    @classmethod
    def read(cls, store: CollectionStore) -> Self | None:
        """Those of a collection, None if there are none; FileFormatError for damaged ones."""
        given: Any = store.about().get(_NAME)
        if given is None:
            return None
        with damaged(store.path, f"value {_NAME!r}"):
            last, others = given["last"], given["others"]
            if type(last) is not int or not all(type(i) is int for i in others):
                raise ValueError("it is not as vladkit wrote it")
            shrinkage_d = store.arrays(_ARRAY)[_ARRAY]
            if not (np.isfinite(shrinkage_d).all() and (shrinkage_d >= 0).all()):
                raise ValueError("it is not as vladkit wrote it")
        return cls(last, frozenset(others), shrinkage_d)

    @classmethod
    def write(cls, store: CollectionStore, last: int, shrinkage_d: FloatArray) -> None:
        """Note that axes were learned from all images; within `writing`."""
        store.set_arrays({_ARRAY: shrinkage_d})
        store.set_about(**{_NAME: {"last": last, "others": []}})

    @classmethod
    def drop(cls, store: CollectionStore) -> None:
        """Forget them; within `writing`."""
        store.forget(_NAME, _ARRAY)

    @classmethod
    def forget(cls, store: CollectionStore, image_ids: Iterable[int]) -> None:
        """Note that images were indexed again; within `writing`."""
        learned = cls.read(store)
        if learned and (again := {i for i in image_ids if i <= learned.last}):
            others = sorted(learned.others | again)
            store.set_about(**{_NAME: {"last": learned.last, "others": others}})

    def shrunk(self, image_id_n: Int64Array, short_nd: AnyArray, power: float) -> AnyArray:
        """Vectors of some images, with those of them shrunk that are among these."""
        own_n = (image_id_n <= self.last) & ~np.isin(image_id_n, sorted(self.others))
        out_nd = short_nd.copy()
        out_nd[own_n] = shrunk(short_nd[own_n].astype(np.float32), self.shrinkage_d, power)
        return out_nd
