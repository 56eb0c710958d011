"""Rows of several collection files into a new one, as one process would have written them.

All that is kept of an image is copied as it is, once its checksum is verified; vectors go into
blocks that are filled in the order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.names import quoted
from vladkit.core.remote import joined
from vladkit.errors import FileFormatError
from vladkit.store import trust
from vladkit.store.database import row_crc, translated
from vladkit.store.photos import has_photos
from vladkit.store.rows import Source
from vladkit.store.schema import CHECKED, new_file
from vladkit.store.store import Store

__all__ = ["choose_images", "chosen_ids", "copy_images", "copy_sources", "new_store"]

_BATCH: Final = 256
"""Images that are copied together, some 15 MB with their features."""

_SKIPPED: Final = CHECKED["picture"].split(", ").index("skipped") - 2
"""Place of the reason for skipping among the columns of an image behind source and path."""

_BESIDE: Final = ("feature", "code", "aggregate", "photo")
"""Tables with a row for an image, beside that of images; the last may be missing in a shard."""


@contextmanager
def new_store(path: Path) -> Iterator[Store]:
    """Make a file that is at `path` when all went well, and not before.

    Raises
    ------
    StorageError
        If there is something at `path`, or it cannot be written.
    """
    with new_file(path) as name, Store.create(name) as out:
        # Nobody else knows the file, and what is left of it after a failure is of no use.
        out.connection.execute("PRAGMA journal_mode = OFF")
        out.connection.execute("PRAGMA synchronous = OFF")
        yield out
        out.close()


def copy_sources(out: Store, shards: Sequence[Store]) -> list[dict[int, int]]:
    """Add the sources of all shards in their order, each folder once; the new ids, by shard.

    A folder is where it is found now: one that has moved together with one shard is the same for
    all. Its mark stays as it is: only who has made it knows it again. Within `writing`.
    """
    given: dict[str, tuple[str, str]] = {}
    folders: dict[str, tuple[str, str]] = {}
    rows: list[list[tuple[Source, str, str]]] = []
    for shard in shards:
        _check_rows(shard, "source")
        sql = "SELECT source_id, root, mark FROM source ORDER BY source_id"
        found, now = shard.connection.execute(sql).fetchall(), shard.sources()
        rows.append([(now[source_id], root, own) for source_id, root, own in found])
    moved = {root: source.root for some in rows for source, root, _ in some if source.root != root}
    for shard, some in zip(shards, rows, strict=True):
        for source, indexed_at, own in some:
            root = moved.get(indexed_at, indexed_at)
            if root not in given or (
                trust.is_own("folder", root, own)
                and not trust.is_own("folder", root, given[root][1])
            ):
                given[root] = given.get(root, (source.name,))[0], own
            if source.images:
                _, _, own = shard.about()["images"][str(source.source_id)]
                folders.setdefault(root, (source.images, own))
    new = {root: out.add_source(root, name, own).source_id for root, (name, own) in given.items()}
    for root, (folder, own) in folders.items():
        out.set_images(new[root], folder, own)
    return [
        {source.source_id: new[moved.get(root, root)] for source, root, _ in some} for some in rows
    ]


def choose_images(
    out: Store, shards: Sequence[Store], source_ids: Sequence[Mapping[int, int]]
) -> tuple[int, int]:
    """Note which images are to be copied, by source and path; each file once.

    Of a file that several shards have, the row of the latest change counts, before others one that
    has a vector, and the first of these. Returns the numbers of images that are chosen and that
    are left out. Noted on disk, in a table that goes with the connection.
    """
    out.connection.execute(
        "CREATE TEMP TABLE found (file TEXT, shard INT, image_id INT, source_id INT, path TEXT, "
        "mtime_ns INT, is_skipped INT)"
    )
    root_of = {i: source.root for i, source in out.sources().items()}
    for number, (shard, ids) in enumerate(zip(shards, source_ids, strict=True)):
        out.connection.executemany(
            "INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (joined(root_of[ids[s]], path), number, i, ids[s], path, *rest)
                for i, s, path, *rest in _found(shard)
            ),
        )
    out.connection.execute(
        "CREATE TEMP TABLE chosen AS SELECT shard, image_id, source_id FROM (SELECT *, "
        "row_number() OVER (PARTITION BY file ORDER BY mtime_ns DESC, is_skipped, shard) AS place "
        "FROM found) WHERE place = 1 ORDER BY source_id, path"
    )
    ((n_found,),) = out.connection.execute("SELECT count(*) FROM found")
    ((n_chosen,),) = out.connection.execute("SELECT count(*) FROM chosen")
    return n_chosen, n_found - n_chosen


def chosen_ids(out: Store, shard: int) -> dict[int, int]:
    """New ids, by those that they have there, of the images that `choose_images` takes of a shard.

    Shards are counted from 0.
    """
    sql = "SELECT image_id, rowid FROM chosen WHERE shard = ?"
    return dict(out.connection.execute(sql, [shard]))


def _found(shard: Store) -> Iterator[tuple[Any, ...]]:
    sql = "SELECT picture_id, source_id, path, mtime_ns, skipped IS NOT NULL FROM picture"
    with translated(shard.path, "read"):
        yield from shard.connection.execute(sql)


def copy_images(
    out: Store, shards: Sequence[Store], n: int, progress: Callable[[int, int], None] | None
) -> None:
    """Copy the `n` images that `choose_images` has noted; within `writing`.

    Raises
    ------
    FileFormatError
        If a row of a shard is not as it was written.
    """
    for shard in shards:
        _check_rows(shard, "block")
    lifted = [shard.lifted() for shard in shards]
    now_lifted: list[int] = []
    for begin in range(0, n, _BATCH):
        chosen = out.connection.execute(
            "SELECT rowid, shard, image_id, source_id FROM chosen WHERE rowid > ? AND rowid <= ?",
            (begin, begin + _BATCH),
        ).fetchall()
        by_shard: dict[int, dict[int, int]] = {}
        for new, number, image_id, _ in chosen:
            by_shard.setdefault(number, {})[image_id] = new
        row_of: dict[int, tuple[Any, ...]] = {}
        vector_of: dict[int, AnyArray] = {}
        for number, new_id in by_shard.items():
            shard = shards[number]
            for image_id, row in _rows(shard, "picture", list(new_id)):
                row_of[new_id[image_id]] = row
            for image_id, vector_D in shard.vectors(list(new_id)).items():
                vector_of[new_id[image_id]] = vector_D
            now_lifted += [new for image_id, new in new_id.items() if image_id in lifted[number]]
        ids = [new for new, *_ in chosen if new in vector_of]
        block_of: dict[int, int] = {}
        if ids:
            block_ids = out.blocks.append(ids, np.stack([vector_of[new] for new in ids]))
            block_of = dict(zip(ids, block_ids, strict=True))
        for new, number, _, source_id in chosen:
            _, path, *rest, _ = row_of[new]
            is_skipped = rest[_SKIPPED] is not None
            if is_skipped == (new in vector_of):
                what = f"{path} has {'a' if is_skipped else 'no'} vector"
                raise _damaged(shards[number], what)
            values = source_id, path, *rest
            out.connection.execute(
                f"INSERT INTO picture (picture_id, {CHECKED['picture']}, block_id, crc) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (new, *values, block_of.get(new), row_crc(*values)),
            )
        for number, new_id in by_shard.items():
            for table in _BESIDE if has_photos(shards[number]) else _BESIDE[:-1]:
                marks = ", ".join("?" * (2 + len(CHECKED[table].split(","))))
                rows = _rows(shards[number], table, list(new_id))
                out.connection.executemany(
                    f"INSERT INTO {table} VALUES ({marks})", ((new_id[i], *row) for i, row in rows)
                )
        if progress:
            progress(min(begin + _BATCH, n), n)
    if now_lifted:
        out.set_about(lifted=sorted(now_lifted))


def _rows(shard: Store, table: str, ids: Sequence[int]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Checked values and checksum of the rows of some images, by id; verified."""
    marks = ", ".join("?" * len(ids))
    sql = f"SELECT picture_id, {CHECKED[table]}, crc FROM {table} WHERE picture_id IN ({marks})"
    with translated(shard.path, "read"):
        for image_id, *row in shard.connection.execute(sql, ids):
            if row[-1] != row_crc(*row[:-1]):
                raise _damaged(shard, f"row {image_id} of table {table!r} has changed")
            yield image_id, tuple(row)


def _check_rows(shard: Store, table: str) -> None:
    """Raise FileFormatError if a row of a table is not as it was written."""
    key = f"{table}_id"
    sql = f"SELECT {key} FROM {table} WHERE crc != row_crc({CHECKED[table]}) LIMIT 1"
    with translated(shard.path, "read"):
        for (row_id,) in shard.connection.execute(sql):
            raise _damaged(shard, f"row {row_id} of table {table!r} has changed")


def _damaged(shard: Store, what: str) -> FileFormatError:
    return FileFormatError(
        f"{shard.path} is damaged: {what}: run vladkit check {quoted(shard.path)} "
        "--repair, and index again"
    )
