"""Date, position and camera of images, in a table that older files get when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError
from vladkit.images.exif import Photo
from vladkit.store.database import damaged, translated
from vladkit.store.protocol import CollectionStore
from vladkit.store.schema import CHECKED, OPTIONAL
from vladkit.store.store import Store

__all__ = [
    "IS_NO_PHOTO",
    "count_photos",
    "has_photos",
    "ids_between",
    "photos",
    "positions",
    "put_photos",
    "unread",
]


_LIMIT: Final = "limit a search to a time or a place"

IS_NO_PHOTO: Final = """(
    taken IS NOT NULL AND (typeof(taken) != 'text' OR length(taken) != 19)
    OR latitude IS NOT NULL AND (typeof(latitude) != 'real' OR abs(latitude) > 90)
    OR longitude IS NOT NULL AND (typeof(longitude) != 'real' OR abs(longitude) > 180)
    OR camera IS NOT NULL AND (typeof(camera) != 'text' OR length(camera) > 100)
)"""
"""SQL: whether a row of the table is none that `vladkit.images.exif` gives.

A file may be anybody's, and its rows of any type, whatever its tables say."""


def has_photos(store: CollectionStore) -> bool:
    """Whether there is the table: a file that was made before has none, nor has Lance."""
    if not isinstance(store, Store):
        return False
    sql = "SELECT 1 FROM sqlite_schema WHERE name = 'photo'"
    return bool(store.connection.execute(sql).fetchone())


def put_photos(store: CollectionStore, found: Iterable[tuple[int, Photo]]) -> None:
    """Keep the photos of images, by id, in the place of those they have; within `writing`."""
    if not isinstance(store, Store):
        return
    if not has_photos(store):
        store.connection.execute(OPTIONAL["photo"])
    store.connection.executemany(
        "INSERT OR REPLACE INTO photo VALUES (?1, ?2, ?3, ?4, ?5, row_crc(?2, ?3, ?4, ?5))",
        [(i, p.taken, p.latitude, p.longitude, p.camera) for i, p in found],
    )


def photos(store: CollectionStore, image_ids: Sequence[int]) -> dict[int, Photo]:
    """Photos of some images by id; those that were not read yet are left out.

    FileFormatError if one is not as it was written.
    """
    found = {}
    for begin in range(0, len(image_ids), 500):  # SQLite takes 999 at least
        some = [int(i) for i in image_ids[begin : begin + 500]]
        marks = ",".join("?" * len(some))
        columns = f"picture_id, {IS_NO_PHOTO}, {CHECKED['photo']}"
        sql = f"{columns} FROM photo WHERE picture_id IN ({marks})"
        for image_id, is_none, *facts in _rows(store, sql, *some):
            if is_none:
                raise FileFormatError(
                    f"{store.path} is damaged: the EXIF of image {image_id}: run vladkit check "
                    f"{quoted(store.path)} --repair"
                )
            found[int(image_id)] = Photo(*facts)
    return found


def unread(store: CollectionStore) -> set[int]:
    """Ids of the images that have a vector, and whose EXIF was not read yet."""
    if not isinstance(store, Store):
        return set()
    there = "AND picture_id NOT IN (SELECT picture_id FROM photo)" if has_photos(store) else ""
    sql = f"SELECT picture_id FROM picture WHERE skipped IS NULL {there}"
    with translated(store.path, "read"):
        return {int(i) for (i,) in store.connection.execute(sql)}


def count_photos(store: CollectionStore) -> tuple[int, int]:
    """Numbers of images with a vector whose date is known, and whose position is."""
    join = "FROM photo JOIN picture USING (picture_id) WHERE skipped IS NULL"
    for dates, places in _rows(store, f"count(taken), count(latitude) {join}"):
        return int(dates), int(places)
    return 0, 0


def ids_between(store: CollectionStore, after: str | None, before: str | None) -> Int64Array:
    """Ids of images taken from `after` on and before `before`, rising."""
    store.check_can(_LIMIT)
    rows = _rows(
        store,
        "picture_id FROM photo WHERE taken >= ? AND taken < ? ORDER BY picture_id",
        after or "",
        before or "~",  # behind every date
    )
    return np.fromiter((i for (i,) in rows), np.int64)


def positions(
    store: CollectionStore, south: float, north: float, ranges: Sequence[tuple[float, float]]
) -> tuple[Int64Array, AnyArray]:
    """Ids of the images between two latitudes and in ranges of longitude, and (n, 2) degrees."""
    store.check_can(_LIMIT)
    inside = " OR ".join("longitude BETWEEN ? AND ?" for _ in ranges)
    rows = list(
        _rows(
            store,
            f"picture_id, latitude, longitude FROM photo WHERE latitude BETWEEN ? AND ? "
            f"AND ({inside}) ORDER BY picture_id",
            south,
            north,
            *(each for pair in ranges for each in pair),
        )
    )
    with damaged(store.path, "the positions of some images", repair=True):
        position_n3 = np.array(rows, np.float64).reshape(-1, 3)
        return np.array([i for i, *_ in rows], np.int64), position_n3[:, 1:]


def _rows(store: CollectionStore, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
    """Rows of a query, none where the file has no table for it."""
    with translated(store.path, "read"):
        if isinstance(store, Store) and has_photos(store):
            yield from store.connection.execute(f"SELECT {sql}", values)
