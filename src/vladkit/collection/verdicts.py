"""Verdicts of people: images that look like one shot, and are not.

A verdict names two files by size and SHA-256, so that it holds wherever they are, and ends when one
of them changes.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, TypeAlias

from vladkit.core.files import time_of_change
from vladkit.core.remote import is_url
from vladkit.errors import FileFormatError, ParameterError
from vladkit.images import read_bytes
from vladkit.store.lance.state import retried
from vladkit.store.paths import find_image
from vladkit.store.protocol import CollectionStore
from vladkit.store.rows import ImageRow

__all__ = ["apart_of", "digest_of", "merge_verdicts", "read_row", "tell_apart"]

_NAME: Final = "told_apart"
"""Name of the value about a collection that holds the verdicts."""

_Content: TypeAlias = tuple[int, str]
"""Size of a file, and its SHA-256 in hexadecimal."""


def tell_apart(store: CollectionStore, images: Sequence[str | os.PathLike[str]]) -> int:
    """Keep that no two of these images are one shot; see `Collection.tell_apart`."""
    if len(images) < 2:
        raise ParameterError("give two images or more that are not the same")
    contents: dict[_Content, str | os.PathLike[str]] = {}
    for name in images:
        row = find_image(store, name)
        if row is None:
            raise ParameterError(f"{name} is not in {store.path}")
        digest = digest_of(row)
        if digest is None:
            raise ParameterError(
                f"{name} cannot be read, or has changed since it was indexed: index it again"
            )
        other = contents.setdefault((row.n_bytes, digest.hex()), name)
        if other is not name:
            raise ParameterError(f"{other} and {name} have the same bytes")
    new = set(combinations(sorted(contents), 2))

    def keep() -> int:
        with store.writing():
            known = set(_verdicts(store))
            store.set_about(**{_NAME: sorted(known | new)})
        return len(new - known)

    return retried(keep)


def apart_of(
    store: CollectionStore, rows: Mapping[int, ImageRow], within: Sequence[str] | None
) -> dict[int, set[int]]:
    """Ids, by that of another image, of images that people have told apart from it."""
    verdicts = _verdicts(store)
    sizes = {n_bytes for pair in verdicts for n_bytes, _ in pair}
    ids_of = defaultdict(set)
    for image_id, row in rows.items():
        if row.n_bytes in sizes:  # others need not be read
            digest = digest_of(row, within)
            if digest is not None:
                ids_of[row.n_bytes, digest.hex()].add(image_id)
    apart: dict[int, set[int]] = defaultdict(set)
    for a, b in verdicts:
        for some, others in ((ids_of[a], ids_of[b]), (ids_of[b], ids_of[a])):
            for image_id in some:
                apart[image_id] |= others
    return dict(apart)


def merge_verdicts(out: CollectionStore, stores: Sequence[CollectionStore]) -> None:
    """Keep the verdicts of several collections in one, within its transaction."""
    verdicts = {pair for store in stores for pair in _verdicts(store)}
    if verdicts:
        out.set_about(**{_NAME: sorted(verdicts)})


def read_row(row: ImageRow, within: Sequence[str] | None = None) -> bytes:
    """The file of an image; of URLs only those below some, that this user gave."""
    return read_bytes(row.file, within=within if is_url(row.file) else None)


def digest_of(row: ImageRow, within: Sequence[str] | None = None) -> bytes | None:
    """SHA-256 of a file; None if it cannot be read or is not the one that was indexed."""
    try:
        if not is_url(row.file):
            status = os.stat(row.file)
            if (status.st_size, time_of_change(status)) != (row.n_bytes, row.mtime_ns):
                return None
        data = read_row(row, within)
    except (OSError, ValueError):  # an ImageError is one; ValueError: a null byte in the name
        return None
    # a server need not say how long its images are, or says how long they are when compressed
    is_known = row.n_bytes > 0 or not is_url(row.file)
    return hashlib.sha256(data).digest() if len(data) == row.n_bytes or not is_known else None


def _verdicts(store: CollectionStore) -> list[tuple[_Content, _Content]]:
    found = []
    for pair in store.about().get(_NAME, []):
        match pair:
            case [[int() as n, str() as a], [int() as m, str() as b]]:
                found.append(((n, a), (m, b)))
            case _:
                raise FileFormatError(f"{store.path} is damaged: value {_NAME!r}")
    return found
