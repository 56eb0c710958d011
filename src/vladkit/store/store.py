"""`Store`: rows in and out of a collection file. Knows SQLite, not images or codebooks."""

from __future__ import annotations

import json
import operator
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.codes import Codes
from vladkit.core.files import as_collection, is_there_still
from vladkit.core.names import is_text, real, spellings
from vladkit.core.remote import is_url
from vladkit.errors import FileFormatError, StorageError
from vladkit.store import trust
from vladkit.store.ann import AnnIndex, AnnReport, ann_path, build_ann, open_ann
from vladkit.store.blocks import Blocks, Layout
from vladkit.store.database import (
    connect,
    connect_reading,
    connected,
    damaged,
    prepare_writing,
    row_crc,
    translated,
)
from vladkit.store.packing import (
    array_shape,
    number_type,
    pack_array,
    pack_codes,
    pack_kept,
    unpack_codes,
    unpack_kept,
    unpack_value,
)
from vladkit.store.rows import LONGEST_PATH, ImageRow, KeptFeatures, Record, Source
from vladkit.store.schema import check_format, create_tables, is_file_with_content, new_file
from vladkit.store.whole import name_of

__all__ = ["Store", "new_state"]


_COLUMNS: Final = (
    "source_id, path, n_bytes, mtime_ns, width, height, n_local, skipped, transient, picture_id"
)
"""Columns of an `ImageRow`, by the names that they had in format 1 of the file."""


class Store:
    """An open collection file.

    Use `create` or `open`; then as a context manager, or `close` it. One Store belongs to
    one thread; any number of processes may hold stores of the same file, of which one writes
    at a time (others wait up to 30 s for their turn).

    ``layout`` is the form of the vectors, ``local_dimensions`` the dimension of kept descriptors
    (0: any): whoever reads the recipe and the codebook from the file sets them.
    ``connection``, ``blocks`` and ``changed`` (whether the open transaction has changed a vector)
    are for the modules of this folder.
    """

    learns_again = True
    batch_images = 32

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = self.beside = path
        self.read_only = read_only
        self.connection = connection
        self.blocks = Blocks(connection, path)
        self.layout = Layout(np.dtype(np.float16), 0)
        self.local_dimensions = 0
        self.changed = False

    @classmethod
    def create(cls, path: str | os.PathLike[str], **about: Any) -> Self:
        """Make the file with some values for `about`, or open the one that is there.

        Raises
        ------
        FileFormatError
            If there is something else at `path`.
        StorageError
            If it cannot be written.
        """
        where = as_collection(path)
        with translated(where, "create"):
            is_file_with_content(where)  # or raises
            with connected(where, "rwc") as connection:
                # Asked of SQLite and not of the file's size: a kill while the tables were being
                # written leaves a journal, and reading anything rolls the file back to nothing.
                if not check_format(connection, where):
                    create_tables(connection, about)
        return cls.open(where)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open an existing collection.

        Raises
        ------
        FileFormatError
            If there is none, or it is of another version.
        StorageError
            If it cannot be read, or not written without `read_only`.
        """
        where = as_collection(path)
        if os.path.islink(where):  # images that moved with the file are found by its own folder
            where = where.resolve()
        missing = f"{where} does not exist or is empty: make it with vladkit index SOURCE -o {path}"
        if not is_file_with_content(where):
            raise FileFormatError(missing)
        with translated(where, "open"):
            connection = connect_reading(where) if read_only else connect(where, "rw")
            try:
                if not check_format(connection, where):
                    raise FileFormatError(missing)
                if not read_only:
                    prepare_writing(connection, where)
            except BaseException:
                connection.close()
                raise
            return cls(where, connection, read_only=read_only)

    def close(self) -> None:
        """Close the file; the last one to close leaves it whole, without -wal and -shm beside."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def n_bytes(self) -> int:
        """Size of the file; StorageError if it is gone."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error

    def check_can(self, what: str) -> None:
        """Nothing: a file can all that a collection does; see `vladkit.store.protocol`."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Transaction: all of the block's changes are kept, or none.

        One that changes vectors gives the collection another `revision`, by which caches notice
        that they are out of date. It is drawn, not counted: a copy that is put back, and grows by
        other images, would come to the same number.

        Raises
        ------
        StorageError
            If it cannot be written, or another file, or none, is at its place by now.
        """
        with translated(self.path, "write"):
            self.connection.execute("BEGIN IMMEDIATE")
            self.changed = False
            try:
                self._check_place()
                yield
                if self.changed:
                    self.set_about(revision=int.from_bytes(os.urandom(6)))
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite may have ended it: a full disk
                    self.connection.execute("ROLLBACK")
                raise

    def _check_place(self) -> None:
        """Raise StorageError if the file was moved, replaced or removed.

        SQLite would go on writing into the -wal at the old place, where nobody finds it.
        """
        if is_there_still(self.connection, self.path):
            return
        wal = f"{self.path.name}-wal"
        if os.path.exists(self.path):
            raise StorageError(
                f"another file was put at {self.path} while that was open: before anything opens "
                f"it, remove {wal} and {self.path.name}-shm beside it, which are not its own and "
                "would damage it"
            )
        raise StorageError(
            f"{self.path} was moved or removed while it was open: put it back where it was, beside "
            f"{wal}, which may hold what was written last, and run again"
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Snapshot: all reads within the block see one state, whoever writes meanwhile."""
        with translated(self.path, "read"):
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with translated(self.path, "read"):
            return self.connection.execute(sql, values).fetchall()

    # -- about, arrays ----------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Values that are kept about the collection as a whole, by name.

        Raises
        ------
        FileFormatError
            If one is not as it was written.
        """
        found = {}
        for name, value, crc in self._rows("SELECT name, value, crc FROM about"):
            self._check_crc(f"value {name!r}", crc, name, value)
            with damaged(self.path, f"value {name!r}"):
                found[name] = unpack_value(name, value)
        return found

    def _check_crc(self, what: str, crc: int, *values: object) -> None:
        if crc != row_crc(*values):
            raise FileFormatError(
                f"{self.path} is damaged: {what} has changed since it was written: take a copy of "
                "the file, or index again into another one"
            )

    def set_about(self, **values: Any) -> None:
        """Keep JSON-able values by name; within `writing`."""
        self.connection.executemany(
            "INSERT INTO about VALUES (?1, ?2, row_crc(?1, ?2)) "
            "ON CONFLICT DO UPDATE SET value = excluded.value, crc = excluded.crc",
            [(name, json.dumps(value)) for name, value in values.items()],
        )

    def stamp(self) -> str:
        """Name of the state that the vectors are in: caches with another stamp are stale."""
        rows = dict(self._rows("SELECT name, value FROM about WHERE name IN ('id', 'revision')"))
        with damaged(self.path, "its name, and its revision"):  # an index finds them
            return f"{json.loads(rows['id'])}:{rows['revision']}"

    def state(self) -> tuple[object, ...]:
        """Another value whenever any row may have changed since, by whomever."""
        ((version,),) = self._rows("PRAGMA data_version")  # of other connections
        return version, self.connection.total_changes

    def learned(self) -> dict[str, Any]:
        """State that what was learned is in: ``id``, another one after each change, and ``images``.

        ``images`` is how many there were when the codebook was learned. Empty in older files, and
        before anything is learned.
        """
        found: dict[str, Any] = self.about().get("learned", {})
        return found

    def arrays(self, pattern: str = "[^~]*") -> dict[str, AnyArray]:
        """Arrays whose name fits a pattern (SQLite's GLOB); by default without those in ``~``.

        Those are large and derived from the vectors; they are read when they are needed.
        """
        found: dict[str, AnyArray] = {}
        sql = "SELECT rowid, name, dtype, shape, length(data), crc FROM array WHERE name GLOB ?"
        for row_id, name, dtype, shape, size, crc in self._rows(sql, pattern):
            what = f"array {name!r}"
            with damaged(self.path, what):  # measured before it is read
                dims = array_shape(dtype, shape, size)
            # by the row: the names are found by an index, which may be damaged
            ((data,),) = self._rows("SELECT data FROM array WHERE rowid = ?", row_id)
            self._check_crc(what, crc, name, dtype, shape, data)
            found[name] = np.frombuffer(data, number_type(dtype)).reshape(dims)
        return found

    def forget(self, name: str, pattern: str) -> None:
        """Drop a value that `set_about` keeps and arrays by pattern (GLOB); within `writing`."""
        self.connection.execute("DELETE FROM about WHERE name = ?", (name,))
        self.connection.execute("DELETE FROM array WHERE name GLOB ?", (pattern,))

    def set_arrays(self, arrays: dict[str, AnyArray]) -> None:
        """Keep arrays by name; within `writing`."""
        for name, array in arrays.items():
            self.connection.execute(
                "INSERT OR REPLACE INTO array VALUES (?1, ?2, ?3, ?4, row_crc(?1, ?2, ?3, ?4))",
                (name, *pack_array(array)),
            )

    # -- sources ----------------------------------------------------------------------

    def sources(self) -> dict[int, Source]:
        """All sources by their id, each where it is found now.

        That is where it was when indexed; if nothing is there any more, the place that it has if
        it was moved together with the collection file.
        """
        found = {}
        images = self._image_folders()
        for source_id, root, relative, name, own in self._rows(
            "SELECT source_id, root, relative, name, mark FROM source ORDER BY source_id"
        ):
            now, folder = self._where_now(root, relative), None
            with damaged(self.path, "the folders of images"):
                if str(source_id) in images:
                    moved, moved_relative, own = images[str(source_id)]
                    folder = self._where_now(moved, moved_relative)
                is_own = trust.is_own("folder", folder or now, own)
            found[source_id] = Source(source_id, now, name, folder, is_own)
        return found

    def _image_folders(self) -> dict[str, list[Any]]:
        """Folder of the images, the same relative to the file's, and mark, by a source's id."""
        images: dict[str, list[Any]] = self.about().get("images", {})
        for source_id, given in images.items():
            match given:
                case [str(), str() | None]:  # converted from format 2
                    images[source_id] = [*given, ""]
                case [str(), str() | None, str()]:
                    pass
                case _:
                    raise FileFormatError(f"{self.path} is damaged: the folders of images")
        return images

    def _where_now(self, root: str, relative: str | None) -> str:
        if len(root) > LONGEST_PATH:
            raise FileFormatError(
                f"{self.path} is damaged: a folder's path has {len(root)} letters"
            )
        if "\0" in root:
            raise FileFormatError(f"{self.path} is damaged: a folder's path has a zero byte")
        if relative is not None and not is_url(root) and not os.path.exists(root):
            moved = os.path.normpath(self.path.parent / relative)
            if os.path.exists(moved):
                return os.path.realpath(moved)  # folders are kept without links
        return root

    def _relative(self, root: str) -> str | None:
        if is_url(root):
            return None
        try:
            return os.path.relpath(root, self.path.parent)
        except ValueError:  # another drive
            return None

    def set_images(self, source_id: int, folder: str, own: str | None = None) -> None:
        """Remember the folder of the images of a source of features; within `writing`.

        `own` is its mark, by default that of this user.
        """
        own = trust.mark("folder", folder) if own is None else own
        images = self._image_folders()
        images[str(source_id)] = [folder, self._relative(folder), own]
        self.set_about(images=images)

    def add_source(self, root: str, name: str, own: str | None = None) -> Source:
        """Get the source of an absolute root, added if it is new; within `writing`.

        `own` is its mark, by default that of this user, who gave it.
        """
        own = trust.mark("folder", root) if own is None else own
        for source in self.sources().values():
            if source.root == root:
                if not source.is_own and own:
                    sql = "mark = ?1, crc = row_crc(root, relative, name, ?1) WHERE source_id = ?2"
                    self.connection.execute(f"UPDATE source SET {sql}", (own, source.source_id))
                return source
        cursor = self.connection.execute(
            "INSERT INTO source (root, relative, name, mark, crc) "
            "VALUES (?1, ?2, ?3, ?4, row_crc(?1, ?2, ?3, ?4))",
            (root, self._relative(root), name, own),
        )
        return Source(int(cursor.lastrowid or 0), root, name)

    def folders(self) -> list[tuple[int, str]]:
        """Ids of sources, and their folders as they were when indexed.

        The folder of the images, where features were given.
        """
        images = self._image_folders()
        rows = self._rows("SELECT source_id, root FROM source ORDER BY source_id")
        return [(i, images[str(i)][0] if str(i) in images else root) for i, root in rows]

    def move_source(self, source_id: int, folder: str) -> int:
        """Say where the images of a source are now; within `writing`.

        If that is the folder of another source, the images of both are the other's, and one that
        both have stays as the other has it. Returns the number of these.
        """
        if str(source_id) in self._image_folders():
            self.set_images(source_id, folder)
            return 0
        sql = "SELECT source_id FROM source WHERE root = ? AND source_id != ?"
        other = self._rows(sql, folder, source_id)
        if not other:
            self.connection.execute(
                "UPDATE source SET root = ?1, relative = ?2, name = ?1, mark = ?3, "
                "crc = row_crc(?1, ?2, ?1, ?3) WHERE source_id = ?4",
                (folder, self._relative(folder), trust.mark("folder", folder), source_id),
            )
            return 0
        ((other_id,),) = other
        both = self._rows(
            "SELECT old.picture_id FROM picture AS old JOIN picture AS new USING (path) "
            "WHERE old.source_id = ? AND new.source_id = ?",
            source_id,
            other_id,
        )
        self.delete(image_id for (image_id,) in both)
        self.connection.execute(
            "UPDATE picture SET source_id = ?1, crc = row_crc("
            "?1, path, n_bytes, mtime_ns, width, height, n_local, skipped, transient) "
            "WHERE source_id = ?2",
            (other_id, source_id),
        )
        self.connection.execute("DELETE FROM source WHERE source_id = ?", (source_id,))
        return len(both)

    def own_folders(self) -> list[str]:
        """Folders of images that this user gave, links resolved."""
        sources = self.sources().values()
        return [real(each.folder) for each in sources if each.is_own]

    # -- images ---------------------------------------------------------------------

    def images(self) -> Iterator[ImageRow]:
        """All images, by source and path."""
        return self._images("1")

    def indexed(self) -> Iterator[ImageRow]:
        """Images that have a vector, by source and path."""
        return self._images("skipped IS NULL")

    def skipped(self) -> Iterator[ImageRow]:
        """Images without a vector, each with the reason, by source and path."""
        return self._images("skipped IS NOT NULL")

    def by_path(
        self,
        path: str,
        source_id: int | None = None,
        *,
        spelled: Callable[[str], str] | None = None,
    ) -> list[ImageRow]:
        """Images that have a vector and this path, of one source or of all.

        With `spelled` those whose path gives the same result of that function.
        """
        if not is_text(path):
            return []
        where = "skipped IS NULL"
        if source_id is not None:
            where += f" AND source_id = {source_id:d}"
        if spelled is None:
            return list(self._images(f"{where} AND path = ?", path))
        self.connection.create_function("spelled", 1, spelled, deterministic=True)
        return list(self._images(f"{where} AND spelled(path) = ?", spelled(path)))

    def ids_in(self, source_id: int, folder: str) -> set[int]:
        """Ids of the images of a source that are at a path or below it; "" is all of them."""
        sql, paths = "SELECT picture_id FROM picture WHERE source_id = ?", tuple[str, ...]()
        if folder:
            sql += " AND (path = ? OR path >= ? AND path < ?)"
            paths = folder, f"{folder}/", f"{folder}0"  # 0 is the letter behind /
        return {int(i) for (i,) in self._rows(sql, source_id, *paths)}

    def rename(self, image_id: int, path: str) -> None:
        """Change the path of an image whose file goes by another name; within `writing`."""
        self.connection.execute(
            "UPDATE picture SET path = ?1, crc = row_crc(source_id, ?1, n_bytes, mtime_ns, width, "
            "height, n_local, skipped, transient) WHERE picture_id = ?2",
            (path, image_id),
        )

    def images_by_id(self, image_ids: Sequence[int]) -> dict[int, ImageRow]:
        """Rows of some images by image id; unknown ones are left out."""
        sql = f"SELECT {_COLUMNS} FROM picture WHERE picture_id IN ({{}})"
        return {row.image_id: row for row in self._as_rows(self._in_chunks(sql, image_ids))}

    def page(
        self, offset: int, limit: int, contains: str, *, skipped: bool
    ) -> tuple[int, list[ImageRow]]:
        """Number of paths that contain a text (ASCII letters of either case), and some of them."""
        if "\0" in contains:  # where a pattern would end
            return 0, []
        for special in "!%_":
            contains = contains.replace(special, f"!{special}")
        patterns = [f"%{each}%" for each in spellings(contains)]
        some = " OR ".join("path LIKE ? ESCAPE '!'" for _ in patterns)
        where = f"skipped IS {'NOT ' * skipped}NULL AND ({some})"
        ((total,),) = self._rows(f"SELECT count(*) FROM picture WHERE {where}", *patterns)
        order = f"{where} ORDER BY source_id, path LIMIT ? OFFSET ?"
        rows = self._rows(f"SELECT {_COLUMNS} FROM picture WHERE {order}", *patterns, limit, offset)
        return int(total), list(self._as_rows(rows))

    def _images(self, where: str, *values: object) -> Iterator[ImageRow]:
        sql = f"SELECT {_COLUMNS} FROM picture WHERE {where} ORDER BY source_id, path"
        with translated(self.path, "read"):
            yield from self._as_rows(self.connection.execute(sql, values))

    def _as_rows(self, rows: Iterable[Any]) -> Iterator[ImageRow]:
        folders = {i: source.folder for i, source in self.sources().items()}
        return (ImageRow(*(*row, folders.get(row[0], ""))) for row in rows)

    def put(self, records: Sequence[Record]) -> list[int]:
        """Add images, or replace what is kept of them, and give their ids; within `writing`."""
        new: list[tuple[int, AnyArray]] = []
        changed: dict[int, tuple[int, AnyArray]] = {}
        gone: dict[int, int] = {}
        lifted: dict[int, bool] = {}
        free = self._free_id()
        for record in records:
            row, vector_D = record.row, record.vector_D
            image_id, block_id = self.connection.execute(
                _PUT,
                (
                    row.source_id, row.path, row.n_bytes, row.mtime_ns, row.width, row.height,
                    row.n_local, row.skipped, row.transient, free,
                ),
            ).fetchone()  # fmt: skip
            if image_id == free:
                free = None  # from here on SQLite finds them
            lifted[image_id] = record.lifted
            if vector_D is None:
                if block_id is not None:
                    gone[image_id] = block_id
            elif block_id is None:
                new.append((image_id, vector_D))
            else:
                changed[image_id] = block_id, vector_D
            if vector_D is not None or block_id is not None:  # else nothing is kept, nor was
                self._drop_whole([image_id])
                if record.whole_D is not None:
                    self.set_arrays({name_of(image_id): record.whole_D})
                self._put_features(image_id, record.features)
                self._put_sums(image_id, record.sums)
                self.put_codes(image_id, record.codes)
        if new:
            ids = [i for i, _ in new]
            block_ids = self.blocks.append(ids, np.stack([v for _, v in new]))
            self._set_blocks(zip(block_ids, ids, strict=True))
        blocks = {i: block_id for i, (block_id, _) in changed.items()}
        self.blocks.replace(blocks, {i: vector_D for i, (_, vector_D) in changed.items()})
        self.blocks.remove(gone)
        self._set_blocks((None, i) for i in gone)
        self._set_lifted(lifted)
        self.changed |= bool(new or changed or gone)
        return list(lifted)

    def lifted(self) -> set[int]:
        """Images whose features are those of a second try, see `vladkit.features.Sift`."""
        with damaged(self.path, "value 'lifted'"):
            return {operator.index(i) for i in self.about().get("lifted", ())}

    def _set_lifted(self, image_ids: Mapping[int, bool]) -> None:
        before = self.lifted()
        now = before - image_ids.keys() | {i for i, is_lifted in image_ids.items() if is_lifted}
        if now != before:
            self.set_about(lifted=sorted(now))

    def _set_blocks(self, pairs: Iterable[tuple[int | None, int]]) -> None:
        self.connection.executemany(
            "UPDATE picture SET block_id = ? WHERE picture_id = ?", list(pairs)
        )

    def delete(self, image_ids: Iterable[int]) -> None:
        """Forget images, their vectors and features; within `writing`."""
        ids = [int(i) for i in image_ids]
        if (last := self._last_id()) in ids:
            self.set_about(last_id=last)
        self.blocks.remove(self._blocks_of(ids))
        self.connection.executemany("DELETE FROM picture WHERE picture_id = ?", [(i,) for i in ids])
        self._drop_whole(ids)
        self._set_lifted(dict.fromkeys(ids, False))
        self.changed |= bool(ids)

    def _last_id(self) -> int:
        ((last,),) = self._rows("SELECT ifnull(max(picture_id), 0) FROM picture")
        return int(last)

    def _free_id(self) -> int | None:
        """Id of the next new image where SQLite would give that of one that was removed."""
        removed: int = self.about().get("last_id", 0)
        return removed + 1 if removed > self._last_id() else None

    def drop_vector(self, image_id: int, reason: str) -> None:
        """Skip an image that has a vector, until it is indexed again; within `writing`."""
        self.blocks.remove(self._blocks_of([image_id]))
        self.connection.execute(
            "UPDATE picture SET block_id = NULL, skipped = ?1, transient = 1, crc = row_crc("
            "source_id, path, n_bytes, mtime_ns, width, height, n_local, ?1, 1) "
            "WHERE picture_id = ?2",
            (reason, image_id),
        )
        self.connection.execute("DELETE FROM feature WHERE picture_id = ?", (image_id,))
        self.connection.execute("DELETE FROM aggregate WHERE picture_id = ?", (image_id,))
        self.connection.execute("DELETE FROM code WHERE picture_id = ?", (image_id,))
        self._drop_whole([image_id])
        self._set_lifted({image_id: False})
        self.changed = True

    def describe_again(self, where: str, *values: object) -> None:
        """Let the next `add` extract images again, which stay as they are; within `writing`."""
        columns = "source_id, path, n_bytes, mtime_ns, width, height, n_local, skipped, 1"
        self.connection.execute(
            f"UPDATE picture SET transient = 1, crc = row_crc({columns}) "
            f"WHERE block_id IS NOT NULL AND {where}",
            values,
        )

    def _drop_whole(self, image_ids: Iterable[int]) -> None:
        names = [(name_of(i),) for i in image_ids]
        self.connection.executemany("DELETE FROM array WHERE name = ?", names)

    def rewrite(
        self,
        change: Callable[[Int64Array, AnyArray], AnyArray],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Pass all vectors through ``change(image_id_n, vector_nD)``; within `writing`."""
        self.blocks.rewrite(self.layout, change, progress=progress)
        self.changed = True

    def compact(self) -> int:
        """Close the gaps that removed images left; returns how many bytes smaller the file became.

        Needs room on the disk for a second copy of the file while it runs. A kill or a full disk
        leaves the file as it was, or with the gaps closed.
        """
        checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"  # what was written goes into the file
        with translated(self.path, "compact"):
            self.connection.execute(checkpoint)
        self._check_place()
        before = self.n_bytes()
        with self.writing():
            self.changed |= self.blocks.pack(self.layout)
            self.connection.execute(
                "DELETE FROM source WHERE source_id NOT IN (SELECT source_id FROM picture)"
            )
        with translated(self.path, "compact"):
            self.connection.execute("VACUUM")
            self.connection.execute(checkpoint)
        return before - self.n_bytes()

    def copy(self, target: str | os.PathLike[str]) -> None:
        """Write the collection as it is now to another file, whole or not at all.

        Raises
        ------
        StorageError
            If there is something at `target`, or it cannot be written.
        """
        where = as_collection(target)
        with (
            new_file(where) as name,
            translated(where, "write"),
            closing(sqlite3.connect(f"{Path(name).as_uri()}?nolock=1", uri=True)) as copy,
        ):
            self.connection.backup(copy)

    def _blocks_of(self, image_ids: Sequence[int]) -> dict[int, int]:
        rows = self._in_chunks(
            "SELECT picture_id, block_id FROM picture WHERE block_id IS NOT NULL "
            "AND picture_id IN ({})",
            image_ids,
        )
        return dict(rows)

    def _in_chunks(self, sql: str, values: Sequence[int]) -> Iterator[Any]:
        """Rows of a query with ``IN ({})`` for any number of values."""
        for begin in range(0, len(values), 500):  # SQLite takes 999 at least
            some = [int(i) for i in values[begin : begin + 500]]
            yield from self._rows(sql.format(",".join("?" * len(some))), *some)

    def count(self) -> tuple[int, int]:
        """Numbers of images with a vector and of skipped images."""
        ((indexed, skipped),) = self._rows(
            "SELECT count(*) - count(skipped), count(skipped) FROM picture"
        )
        return int(indexed), int(skipped)

    def count_local(self) -> int:
        """Number of local features of all images that have a vector."""
        ((n_local,),) = self._rows("SELECT total(n_local) FROM picture WHERE skipped IS NULL")
        return int(n_local)

    def count_by_source(self) -> dict[int, tuple[int, int]]:
        """(images with a vector, images skipped) of each source that has any."""
        sql = "SELECT source_id, count(*) - count(skipped), count(skipped) FROM picture GROUP BY 1"
        return {source_id: (indexed, skipped) for source_id, indexed, skipped in self._rows(sql)}

    # -- vectors ----------------------------------------------------------------------

    def vector_blocks(self) -> Iterator[tuple[Int64Array, AnyArray]]:
        """All vectors, in blocks of about 256 KB: (image_id_n, vector_nD), read-only.

        Raises
        ------
        FileFormatError
            If a block's size does not fit `layout`.
        """
        with translated(self.path, "read"):
            yield from self.blocks.read(self.layout)

    def all_vectors(self) -> tuple[Int64Array, AnyArray]:
        """All vectors in memory: (image_id_n, vector_nD)."""
        with self.reading():
            blocks = list(self.vector_blocks())
        layout = self.layout
        image_id_n = np.concatenate([np.empty(0, np.int64), *(i for i, _ in blocks)])
        vector_nD = np.empty((len(image_id_n), layout.n_dimensions), layout.dtype)
        np.concatenate([vector_nD[:0], *(v for _, v in blocks)], out=vector_nD)
        return image_id_n, vector_nD

    def vectors(self, image_ids: Sequence[int]) -> dict[int, AnyArray]:
        """Vectors (D,) of some images by image id; unknown ones are left out."""
        with translated(self.path, "read"):
            return self.blocks.some(self._blocks_of(image_ids), self.layout)

    def ann(self) -> AnnIndex | None:
        """Approximate index beside the file, if there is one and it is up to date."""
        return open_ann(ann_path(self.path), self.stamp())

    def build_ann(self, n_dimensions: int, seed: int) -> AnnReport:
        """Make the approximate index; see `vladkit.store.ann.build_ann`."""
        target = ann_path(self.path)
        with self.reading():
            vectors = self.vector_blocks, self.count()[0], n_dimensions
            return build_ann(*vectors, target, stamp=self.stamp(), seed=seed)

    def freshen(self, n_dimensions: int, seed: int) -> None:
        """Nothing: an index is for the vectors of one state, and is made by `build_ann`."""

    # -- features ---------------------------------------------------------------------

    def _put_features(self, image_id: int, features: KeptFeatures | None) -> None:
        if features is None:
            self.connection.execute("DELETE FROM feature WHERE picture_id = ?", (image_id,))
            return
        self.connection.execute(
            "INSERT OR REPLACE INTO feature VALUES (?1, ?2, ?3, ?4, ?5, row_crc(?2, ?3, ?4, ?5))",
            (image_id, *pack_kept(features)),
        )

    def features(self, image_ids: Sequence[int]) -> dict[int, KeptFeatures]:
        """Kept features of some images by image id; those that have none are left out.

        Raises
        ------
        FileFormatError
            If their sizes do not fit.
        """
        found = {}
        sql = (
            "SELECT picture_id, n, dtype, descriptor, geometry, "
            "ifnull(width, 0), ifnull(height, 0) "
            "FROM feature LEFT JOIN picture USING (picture_id) WHERE feature.picture_id IN ({})"
        )
        rows = self._in_chunks(sql, image_ids)
        wanted = {"n_dimensions": self.local_dimensions, "code_bytes": self._code_bytes()}
        for image_id, *packed, width, height in rows:
            with damaged(self.path, f"the features of image {image_id}", repair=True):
                found[int(image_id)] = unpack_kept(packed, width, height, **wanted)
        return found

    def _code_bytes(self) -> int:
        """Bytes of the code of a kept descriptor; -1 if there is nothing to read codes with."""
        rows = self._rows("SELECT shape FROM array WHERE name = 'kept.pieces'")
        return int(json.loads(rows[0][0])[0]) if rows else -1

    # -- codes ------------------------------------------------------------------------

    def put_codes(self, image_id: int, codes: Codes | None) -> None:
        """Keep the codes of one image in the place of those it has; within `writing`."""
        if codes is None:
            self.connection.execute("DELETE FROM code WHERE picture_id = ?", (image_id,))
            return
        self.connection.execute(
            "INSERT OR REPLACE INTO code VALUES (?1, ?2, ?3, ?4, row_crc(?2, ?3, ?4))",
            (image_id, *pack_codes(codes)),
        )

    def codes(self, image_ids: Sequence[int]) -> tuple[list[int], Codes | None]:
        """Codes of some images, and the ids of these in order; None if none have any.

        Raises
        ------
        FileFormatError
            If their sizes do not fit, or words do not rise.
        """
        sql = "SELECT picture_id, word, code, angle FROM code WHERE picture_id IN ({})"
        rows = list(self._in_chunks(sql, image_ids))
        if not rows:
            return [], None
        with damaged(self.path, "the codes of some images", repair=True):
            codes = unpack_codes(row[1:] for row in rows)
        return [int(row[0]) for row in rows], codes

    # -- sums -------------------------------------------------------------------------

    def _put_sums(self, image_id: int, sums: tuple[AnyArray, AnyArray] | None) -> None:
        if sums is None:
            self.connection.execute("DELETE FROM aggregate WHERE picture_id = ?", (image_id,))
            return
        residual_kf, count_k = sums
        row = image_id, residual_kf.astype("<f4").tobytes(), count_k.astype("<i4").tobytes()
        self.connection.execute(
            "INSERT OR REPLACE INTO aggregate VALUES (?1, ?2, ?3, row_crc(?2, ?3))", row
        )

    def sums(self, image_ids: Sequence[int]) -> dict[int, tuple[AnyArray, AnyArray]]:
        """Sums and counts (residual_kf float32, count_k int32) of some images, by id.

        Images that have none are left out.

        Raises
        ------
        FileFormatError
            If their sizes do not fit.
        """
        found = {}
        rows = self._in_chunks(
            "SELECT picture_id, residual, count FROM aggregate WHERE picture_id IN ({})", image_ids
        )
        for image_id, residual, count in rows:
            with damaged(self.path, f"the sums of image {image_id}", repair=True):
                count_k = np.frombuffer(count, "<i4")
                residual_kf = np.frombuffer(residual, "<f4").reshape(len(count_k), -1)
            found[int(image_id)] = residual_kf, count_k
        return found


def new_state(**state: Any) -> dict[str, Any]:
    """Value for `Store.set_about` of ``learned``: as before, with another id."""
    return state | {"id": uuid.uuid4().hex}


_PUT: Final = """
INSERT INTO picture
    (picture_id,
     source_id, path, n_bytes, mtime_ns, width, height, n_local, skipped, transient, crc)
VALUES (?10, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, row_crc(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))
ON CONFLICT (source_id, path) DO UPDATE SET
    n_bytes = excluded.n_bytes, mtime_ns = excluded.mtime_ns, width = excluded.width,
    height = excluded.height, n_local = excluded.n_local, skipped = excluded.skipped,
    transient = excluded.transient, crc = excluded.crc
RETURNING picture_id, block_id"""
