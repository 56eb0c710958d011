"""Dates and positions of images that were indexed before such were kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from vladkit.collection.discover import SourceFile
from vladkit.errors import ImageError
from vladkit.images import read_bytes
from vladkit.images.exif import Photo
from vladkit.images.header import read_header
from vladkit.images.opencv import within_memory
from vladkit.store.photos import put_photos, unread
from vladkit.store.protocol import CollectionStore
from vladkit.store.rows import ImageRow

__all__ = ["fill_photos"]

_BATCH = 256
"""Images that are committed together."""


def fill_photos(
    store: CollectionStore,
    found: Iterable[SourceFile],
    known: Mapping[str, ImageRow],
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Read the EXIF of images whose file is found, and of which none was read; no pixels."""
    missing = unread(store)
    todo = [
        (known[each.file].image_id, each.file)
        for each in found
        if not each.reader and each.file in known and known[each.file].image_id in missing
    ]
    for begin in range(0, len(todo), _BATCH):
        some = [(i, _photo(file)) for i, file in todo[begin : begin + _BATCH]]
        with store.writing():
            still = unread(store)  # another process may have removed some
            put_photos(store, [(i, photo) for i, photo in some if photo and i in still])
        if progress:
            progress("dates", min(begin + _BATCH, len(todo)), len(todo))


def _photo(file: str) -> Photo | None:
    """Facts of a file; None if it cannot be read now."""
    try:
        with within_memory():
            return read_header(read_bytes(file)).photo
    except ImageError:
        return None
