"""Images that were described again by their kept features, as the collection learned again.

Codes of an image's strongest features, and of descriptors that were rounded, agree less with those
of a query than codes of all that was found in the image: with its own by a third or a half. Images
that came later would rank before them. So the agreement of such an image with a query of all
features counts as a share of the agreement that it can have; and that of others with a query of
kept features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from vladkit.store.database import damaged
from vladkit.store.protocol import CollectionStore

__all__ = ["Recoded"]

_NAME: Final = "recoded"
"""Name of the value about a collection."""

_LEAST: Final = 0.1
"""Least agreement that is believed: one of few images may be anything."""


@dataclass(frozen=True, slots=True)
class Recoded:
    """Ids of such images, and the agreement of their codes with those of all their features."""

    image_ids: frozenset[int] = field(default_factory=frozenset)
    agreement: float = 1.0

    @classmethod
    def read(cls, store: CollectionStore) -> Self:
        """Those of a collection; FileFormatError if the value is not as it was written."""
        given: Any = store.about().get(_NAME)
        if given is None:
            return cls()
        with damaged(store.path, f"value {_NAME!r}"):
            ids, agreement = given["images"], given["agreement"]
            if not all(type(i) is int for i in ids) or not _LEAST <= agreement <= 1:
                raise ValueError("it is not as vladkit wrote it")
            return cls(frozenset(ids), float(agreement))

    @classmethod
    def write(
        cls, store: CollectionStore, image_ids: Collection[int], agreements: Collection[float]
    ) -> None:
        """Note that some images were described again by kept features; within `writing`.

        `agreements` are measured on images whose codes were those of all their features; without
        any what was measured before stays.
        """
        agreement = cls.read(store).agreement
        if agreements:
            agreement = min(1.0, max(_LEAST, sum(agreements) / len(agreements)))
        value = {"images": sorted(image_ids), "agreement": round(agreement, 4)}
        store.set_about(**{_NAME: value})

    @classmethod
    def forget(cls, store: CollectionStore, image_ids: Iterable[int]) -> None:
        """Note that images were indexed again, from all their features; within `writing`."""
        known = cls.read(store)
        if left := known.image_ids & set(image_ids):
            cls.write(store, known.image_ids - left, [known.agreement])

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
        image_ids, agreements = [], []
        for number, store in enumerate(stores):
            known = cls.read(store)
            if known.image_ids:
                new = new_ids(number)
                image_ids += [new[i] for i in known.image_ids if i in new]
                agreements.append(known.agreement)
        if image_ids:
            cls.write(out, image_ids, agreements)

    def corrected(self, image_id: int, agreement: float, *, of_kept: bool) -> float:
        """Agreement of an image with a query as a share of what it can have, at most 1.

        `of_kept` is whether the query's codes are of kept features: those of two that are lose
        nothing.
        """
        if (image_id in self.image_ids) == of_kept:
            return agreement
        return min(1.0, agreement / self.agreement)
