"""Images whose files have changed since they were indexed, by size and time."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vladkit.collection.index import Index
from vladkit.core.files import time_of_change
from vladkit.core.remote import is_url
from vladkit.store.rows import ImageRow

__all__ = ["changed_images", "is_as_indexed"]


def changed_images(index: Index, rows: Iterable[ImageRow]) -> set[int]:
    """Ids of the images whose files are other ones than were indexed, by size and time.

    Nothing is looked up in folders that are not shown; rows of features that another program
    found have the size and time of its file, which tell nothing of the images.
    """
    sources = index.store.sources()
    known = {i for i, each in sources.items() if not each.images and (index.trust or each.is_own)}
    return {row.image_id for row in rows if row.source_id in known and not is_as_indexed(row)}


def is_as_indexed(row: ImageRow) -> bool:
    """Whether a file has the size and time that it was indexed with, or is elsewhere or gone."""
    try:
        status = None if is_url(row.file) else os.stat(row.file)
    except (OSError, ValueError):  # which is said where it is read
        return True
    return status is None or (status.st_size, time_of_change(status)) == (row.n_bytes, row.mtime_ns)
