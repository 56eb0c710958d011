"""Whole vectors, which are kept beside short ones while a collection is small.

The axes of short vectors (PCA) are those of the images that were there. An image that comes later
has little in common with them, and brought to unit length more with every query than the others.
So as long as a collection is small its axes are learned again as it grows, from these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError
from vladkit.store.protocol import CollectionStore

__all__ = ["WHOLE", "copy_whole", "forget_whole", "keep_whole", "name_of", "whole_vectors"]

WHOLE: Final = "whole"
"""Name of the value about a collection that says that they are kept."""

_BEGIN: Final = "~whole."


def name_of(image_id: int) -> str:
    """Name of the array that has the whole vector of an image."""
    return f"{_BEGIN}{image_id}"


def keep_whole(store: CollectionStore, vectors: Mapping[int, AnyArray]) -> None:
    """Keep whole vectors (D,) by image; within `writing`."""
    store.set_arrays({name_of(i): vector_D for i, vector_D in vectors.items()})
    store.set_about(**{WHOLE: True})


def copy_whole(store: CollectionStore, out: CollectionStore, new_ids: Mapping[int, int]) -> None:
    """Keep those of a collection in another one, by new ids; within its `writing`."""
    kept = store.arrays(f"{_BEGIN}*")
    keep_whole(out, {new: kept[name_of(i)] for i, new in new_ids.items() if name_of(i) in kept})


def forget_whole(store: CollectionStore) -> None:
    """Drop them all; within `writing`."""
    store.forget(WHOLE, f"{_BEGIN}*")


def whole_vectors(
    store: CollectionStore, image_ids: Iterable[int], n_dimensions: int
) -> dict[int, AnyArray] | None:
    """Whole vectors (D,) of images; None if one is missing, or of another length.

    Raises
    ------
    FileFormatError
        If one is not as it was written.
    """
    try:
        kept = store.arrays(f"{_BEGIN}*")
    except FileFormatError as error:
        raise FileFormatError(
            f"{store.path} is damaged: whole vectors, from which short ones are learned: run "
            f"vladkit check {quoted(store.path)} --repair"
        ) from error
    found = {i: kept.get(name_of(i)) for i in image_ids}
    fit = {i: v for i, v in found.items() if v is not None and v.shape == (n_dimensions,)}
    is_whole = len(fit) == len(found) and all(np.isfinite(v).all() for v in fit.values())
    return fit if is_whole else None
