"""`Store`: rows in and out of a collection file. Knows SQLite, not pictures or codebooks."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from vladkit.axes import AnyArray, Int64Array
from vladkit.collection.schema import check_file, create_tables
from vladkit.errors import FileFormatError, StorageError

__all__ = ["PictureRow", "Source", "Store"]

_BUSY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that indexed paths are relative to.

    ``root`` is absolute, where it is found now; ``name`` as it was given.
    """

    source_id: int
    root: str
    name: str


@dataclass(frozen=True, slots=True)
class PictureRow:
    """What the collection keeps of one picture, besides its vector.

    ``n_bytes`` and ``mtime_ns`` of the file when it was read tell whether it has changed;
    ``width`` and ``height`` are px after EXIF orientation. ``skipped`` is the reason why it
    has no vector, or None; ``transient`` that the reason may pass. ``picture_id`` is 0 for a
    row that is not stored yet.
    """

    source_id: int
    path: str
    n_bytes: int
    mtime_ns: int
    width: int | None = None
    height: int | None = None
    n_local: int | None = None
    skipped: str | None = None
    transient: bool | int = False  # SQLite has no other bool than 0 and 1
    picture_id: int = 0


class Store:
    """An open collection file.

    Use `create` or `open`; then as a context manager, or `close` it. One Store belongs to
    one thread; any number of processes may hold stores of the same file, of which one writes
    at a time (others wait up to 30 s for their turn).
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._connection = connection

    @classmethod
    def create(cls, path: str | os.PathLike[str], **about: Any) -> Self:
        """Make the file with these values in `about`, or open the one that is there.

        Raises
        ------
        FileFormatError
            If there is something else at `path`.
        StorageError
            If it cannot be written.
        """
        where = Path(path).absolute()
        with _translated(where, "create"):
            check_file(where)
            with _connected(where, "rwc") as connection:
                # Asked of SQLite and not of the file's bytes: a kill while the tables were being
                # written leaves a journal, and reading anything rolls the file back to nothing.
                if not _version(connection):
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
        where = Path(path).absolute()
        missing = f"{where} does not exist or is empty: make it with vladkit index SOURCE -o {path}"
        if not check_file(where):
            raise FileFormatError(missing)
        with _translated(where, "open"):
            if read_only:
                return cls(where, _open_reading(where), read_only=True)
            connection = _connect(where, "rw")
            if not _version(connection):
                connection.close()
                raise FileFormatError(missing)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            return cls(where, connection, read_only=False)

    def close(self) -> None:
        """Close the file; the last one to close leaves it whole, without -wal and -shm beside."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: all of the block's changes are kept, or none."""
        with _translated(self.path, "write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with _translated(self.path, "read"):
            return self._connection.execute(sql, values).fetchall()

    # -- about, arrays ----------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Everything that is kept about the collection as a whole, by name."""
        try:
            return {name: json.loads(value) for name, value in self._rows("SELECT * FROM about")}
        except ValueError as error:
            raise FileFormatError(f"{self.path} is damaged: {error}") from error

    def set_about(self, **values: Any) -> None:
        """Keep JSON-able values by name; within `writing`."""
        self._connection.executemany(
            "INSERT INTO about VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [(name, json.dumps(value)) for name, value in values.items()],
        )

    def arrays(self) -> dict[str, AnyArray]:
        """The arrays of the codebook, by name."""
        found: dict[str, AnyArray] = {}
        for name, dtype, shape, data in self._rows("SELECT name, dtype, shape, data FROM array"):
            try:
                found[name] = np.frombuffer(data, np.dtype(dtype)).reshape(json.loads(shape))
            except (TypeError, ValueError) as error:
                raise FileFormatError(f"{self.path}: array {name!r} is damaged: {error}") from error
        return found

    def set_arrays(self, arrays: dict[str, AnyArray]) -> None:
        """Keep arrays by name; within `writing`."""
        for name, array in arrays.items():
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            row = (name, little.dtype.str, json.dumps(array.shape), little.tobytes())
            self._connection.execute("INSERT OR REPLACE INTO array VALUES (?, ?, ?, ?)", row)

    # -- sources ----------------------------------------------------------------------

    def sources(self) -> list[Source]:
        """All sources, each where it is found now.

        That is where it was when indexed; if nothing is there any more, where it would be had
        it moved together with the collection file.
        """
        found = []
        for source_id, root, relative, name in self._rows(
            "SELECT source_id, root, relative, name FROM source ORDER BY source_id"
        ):
            if not os.path.isdir(root) and relative is not None:
                moved = os.path.normpath(self.path.parent / relative)
                if os.path.isdir(moved):
                    root = moved
            found.append(Source(source_id, root, name))
        return found

    def add_source(self, root: str, name: str) -> Source:
        """The source of that absolute root, added if it is new; within `writing`."""
        for source in self.sources():
            if source.root == root:
                return source
        try:
            relative: str | None = os.path.relpath(root, self.path.parent)
        except ValueError:  # another drive
            relative = None
        cursor = self._connection.execute(
            "INSERT INTO source (root, relative, name) VALUES (?, ?, ?)", (root, relative, name)
        )
        return Source(int(cursor.lastrowid or 0), root, name)

    # -- pictures ---------------------------------------------------------------------

    def pictures(self, where: str = "1", *values: object) -> Iterator[PictureRow]:
        """Rows of the pictures that a SQL condition chooses, ordered by source and path."""
        names = ", ".join(field.name for field in fields(PictureRow))
        sql = f"SELECT {names} FROM picture WHERE {where} ORDER BY source_id, path"
        with _translated(self.path, "read"):
            cursor: Iterable[list[Any]] = self._connection.execute(sql, values)
            for row in cursor:
                yield PictureRow(*row)

    def pictures_by_id(self, picture_ids: Sequence[int]) -> dict[int, PictureRow]:
        """The rows of some pictures."""
        found: dict[int, PictureRow] = {}
        for begin in range(0, len(picture_ids), 500):  # SQLite takes 999 values at least
            some = [int(i) for i in picture_ids[begin : begin + 500]]
            marks = ",".join("?" * len(some))
            found |= {r.picture_id: r for r in self.pictures(f"picture_id IN ({marks})", *some)}
        return found

    def put(self, row: PictureRow, vector_D: AnyArray | None) -> None:
        """Add a picture, or replace what is kept of it; within `writing`."""
        cursor = self._connection.execute(
            """INSERT INTO picture (source_id, path, n_bytes, mtime_ns, width, height, n_local,
                                    skipped, transient) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (source_id, path) DO UPDATE SET
                   n_bytes = excluded.n_bytes, mtime_ns = excluded.mtime_ns,
                   width = excluded.width, height = excluded.height, n_local = excluded.n_local,
                   skipped = excluded.skipped, transient = excluded.transient
               RETURNING picture_id""",
            (
                row.source_id, row.path, row.n_bytes, row.mtime_ns, row.width, row.height,
                row.n_local, row.skipped, row.transient,
            ),
        )  # fmt: skip
        (picture_id,) = cursor.fetchone()
        if vector_D is None:
            self._connection.execute("DELETE FROM vector WHERE picture_id = ?", (picture_id,))
        else:
            data = vector_D.astype(vector_D.dtype.newbyteorder("<"), copy=False).tobytes()
            self._connection.execute(
                "INSERT OR REPLACE INTO vector VALUES (?, ?)", (picture_id, data)
            )

    def delete(self, picture_ids: Iterable[int]) -> None:
        """Forget pictures and their vectors; within `writing`."""
        self._connection.executemany(
            "DELETE FROM picture WHERE picture_id = ?", [(int(i),) for i in picture_ids]
        )

    def count(self) -> tuple[int, int]:
        """(pictures with a vector, pictures skipped)."""
        ((indexed, skipped),) = self._rows(
            "SELECT count(*) - count(skipped), count(skipped) FROM picture"
        )
        return int(indexed), int(skipped)

    # -- vectors ----------------------------------------------------------------------

    def vector_blocks(
        self, dtype: np.dtype[Any], n_dimensions: int, block_bytes: int = 2**21
    ) -> Iterator[tuple[Int64Array, AnyArray]]:
        """All vectors in blocks of about `block_bytes`: (picture_id_n, vector_nD), by id.

        Blocks of 2 MB stay in cache while they are turned to float32 and multiplied: 1,224
        vectors of 64 KB took 115 ms, in blocks of 32 MB 163.

        Raises
        ------
        FileFormatError
            If a vector has not the size that the collection says.
        """
        row_bytes = dtype.itemsize * n_dimensions
        step = max(1, block_bytes // row_bytes)
        with _translated(self.path, "read"):
            cursor = self._connection.execute(
                "SELECT picture_id, data FROM vector ORDER BY picture_id"
            )
            while rows := cursor.fetchmany(step):
                vector_nD = np.empty((len(rows), n_dimensions), dtype.newbyteorder("<"))
                for vector_D, (picture_id, data) in zip(vector_nD, rows, strict=True):
                    if len(data) != row_bytes:
                        raise FileFormatError(
                            f"{self.path}: the vector of picture {picture_id} has {len(data)} "
                            f"bytes, wanted {row_bytes}: index that picture again"
                        )
                    vector_D[:] = np.frombuffer(data, vector_nD.dtype)
                yield np.array([i for i, _ in rows], np.int64), vector_nD


def _version(connection: sqlite3.Connection) -> int:
    """The format version; 0 for an empty database."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )
    connection.execute("PRAGMA mmap_size = 1073741824")  # vectors are read without a copy more
    return connection


@contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    connection = _connect(path, mode)
    try:
        yield connection
    finally:
        connection.close()


def _open_reading(path: Path) -> sqlite3.Connection:
    """A read-only connection, also where the folder may not be written.

    A reader of a WAL database has to make the -shm file beside it. Where it may not, and no
    -wal says that a writer is at work or was killed, the file alone is whole, and SQLite
    reads it if promised that nobody changes it.
    """
    connection = _connect(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM about").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        wal = Path(f"{path}-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        connection = _connect(path, "ro&immutable=1")
        connection.execute("SELECT count(*) FROM about").fetchone()
    return connection


@contextmanager
def _translated(path: Path, verb: str) -> Iterator[None]:
    """SQLite's errors as ours, with the file's name and what to do."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise StorageError(
            f"cannot {verb} {path}: a collection is used by the thread that opened it, until it "
            f"is closed ({error}); open it once more for another thread"
        ) from error
    except sqlite3.OperationalError as error:
        text = str(error)
        hint = next((h for key, h in _HINTS.items() if key in text), text)
        raise StorageError(f"cannot {verb} {path}: {hint}") from error
    except sqlite3.DatabaseError as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error


_HINTS: Final = {
    "disk is full": "the disk is full; what was committed before is safe",
    "readonly database": "the file or its folder may not be written",
    "unable to open": "its folder does not exist or may not be written",
    "locked": f"another process has been writing to it for {_BUSY_SECONDS:.0f} s; try again later",
    "disk I/O error": "the disk reports an error (full, gone, or damaged)",
}
