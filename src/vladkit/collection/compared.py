"""Pairs of images that were compared for duplicates and are none, kept beside the collection.

Nearly all of the time of a search for duplicates goes into such pairs. The file is a cache: one
that is missing, damaged, or of another version costs time and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np

from vladkit.core.array_file import read_arrays, write_arrays
from vladkit.core.arrays import AnyArray
from vladkit.core.version import __version__
from vladkit.errors import FileFormatError, StorageError
from vladkit.store.protocol import CollectionStore
from vladkit.store.rows import ImageRow

__all__ = ["Compared", "compared_path"]

_KIND: Final = "vladkit compared images"

_Pair: TypeAlias = tuple[tuple[int, int], bool]
"""Ids of two images, the lower one first, and whether one was mirrored."""


def compared_path(path: Path) -> Path:
    """Path of the file beside a collection's."""
    return Path(f"{path}.compared")


class Compared:
    """Pairs that are no duplicates, as long as neither image changes.

    Attributes
    ----------
    different : set
        The pairs, each with whether one image of it was mirrored.
    """

    def __init__(self, path: Path, stamp: str, mark_of: Mapping[int, int]) -> None:
        self._path = path
        self._stamp = stamp
        self._mark_of = mark_of
        self.different: set[_Pair] = set()
        self._n_written = 0

    @classmethod
    def read(cls, store: CollectionStore, rows: Mapping[int, ImageRow]) -> Self:
        """Those of the file that still hold; none if there is no such file."""
        stamp = f"{store.about().get('id')} {__version__}"
        self = cls(compared_path(store.beside), stamp, {i: _mark(row) for i, row in rows.items()})
        with suppress(StorageError, FileFormatError, KeyError, ValueError, TypeError):
            about, arrays = read_arrays(self._path, _KIND, "delete it")
            if about == {"stamp": stamp}:
                self._take(arrays["pair_n2"], arrays["mirrored_n"], arrays["mark_n2"])
        self._n_written = len(self.different)
        return self

    @classmethod
    def none(cls) -> Self:
        """No pairs, which are not written either."""
        return cls(Path(), "", {})

    def _take(self, pair_n2: AnyArray, mirrored_n: AnyArray, mark_n2: AnyArray) -> None:
        """Remember the pairs whose images are what they were."""
        pairs = zip(pair_n2.tolist(), mirrored_n.tolist(), mark_n2.tolist(), strict=True)
        for (a, b), mirrored, marks in pairs:
            if [self._mark_of.get(a), self._mark_of.get(b)] == marks:
                self.different.add(((a, b), bool(mirrored)))

    def write(self, *, least: int = 1) -> None:
        """Write the file, where one can be written, if `least` pairs or more are new."""
        n = len(self.different)
        if not self._stamp or n - self._n_written < least:
            return
        pairs = sorted(self.different)
        pair_n2 = np.array([pair for pair, _ in pairs], np.int64).reshape(n, 2)
        mark_n2 = [[self._mark_of[i] for i in pair] for pair, _ in pairs]
        arrays = {
            "pair_n2": pair_n2,
            "mirrored_n": np.array([mirrored for _, mirrored in pairs], bool),
            "mark_n2": np.array(mark_n2, np.int64).reshape(n, 2),
        }
        with suppress(StorageError):  # a folder that is not this user's
            write_arrays(self._path, _KIND, {"stamp": self._stamp}, arrays)
            self._n_written = n


def _mark(row: ImageRow) -> int:
    """Number that another state of an image, or another image, does not have."""
    text = repr((row.source_id, row.path, row.n_bytes, row.mtime_ns, row.n_local)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
