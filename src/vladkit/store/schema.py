"""Tables of a collection file, and how to tell that a file is one.

A collection is a SQLite database in WAL mode. Byte 68 of the file holds the application id
``VLAD`` and byte 60 the format version (both big-endian, as SQLite puts them), so that other
programs can tell what a file is from its first 100 bytes. Here SQLite is asked.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import stat
import uuid
from collections.abc import Container, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from vladkit.core.files import is_special_file, refuse_url, replace_path
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError, StorageError
from vladkit.store.database import connect_reading, pragma, translated

__all__ = [
    "AUGMENTATION",
    "CHECKED",
    "FORMAT_VERSION",
    "OPTIONAL",
    "TABLES",
    "check_file",
    "check_format",
    "create_tables",
    "is_file_with_content",
    "new_file",
    "tables_of",
]

FORMAT_VERSION: Final = 4
_BESIDE: Final = "-journal", "-wal", "-shm"
"""Ends of the names of files that SQLite has beside a database."""

_APPLICATION_ID: Final = int.from_bytes(b"VLAD", "big")

# 64 MB of vectors took 38 ms to read with pages of 16 KB, 66 ms with 4 KB.
_PAGE_SIZE: Final = 16384

TABLES: Final = {
    "about": """CREATE TABLE about (  -- JSON values: recipe, codebook, versions
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    crc INTEGER NOT NULL        -- here and below: of the columns in CHECKED, see `row_crc`
) STRICT""",
    "array": """CREATE TABLE array (  -- the codebook's arrays, little-endian, C order
    name TEXT PRIMARY KEY,
    dtype TEXT NOT NULL,
    shape TEXT NOT NULL,        -- JSON list
    data BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT""",
    "source": """CREATE TABLE source (  -- what was given to be indexed
    source_id INTEGER PRIMARY KEY,
    root TEXT NOT NULL UNIQUE,  -- absolute folder that paths are relative to
    relative TEXT,              -- the same, relative to the collection's folder
    name TEXT NOT NULL,         -- as it was given
    mark TEXT NOT NULL,         -- by which the machine that indexed it knows it
    crc INTEGER NOT NULL
) STRICT""",
    "picture": """CREATE TABLE picture (
    picture_id INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL REFERENCES source,
    path TEXT NOT NULL,         -- relative to the source's root, with forward slashes
    n_bytes INTEGER NOT NULL,   -- of the file when it was read
    mtime_ns INTEGER NOT NULL,
    width INTEGER,              -- px, after EXIF orientation
    height INTEGER,
    n_local INTEGER,            -- descriptors found
    skipped TEXT,               -- why the image has no vector; NULL: it has one
    transient INTEGER NOT NULL, -- 1: skipped for a reason that may pass, try again
    block_id INTEGER,           -- where its vector is
    crc INTEGER NOT NULL,
    UNIQUE (source_id, path)
) STRICT""",
    "block": """CREATE TABLE block (  -- the vectors of some images, about 256 KB of them
    block_id INTEGER PRIMARY KEY,
    picture_ids BLOB NOT NULL,  -- n int64, little-endian
    data BLOB NOT NULL,         -- (n, D) of the recipe's dtype, little-endian, unit length
    crc INTEGER NOT NULL
) STRICT""",
    "feature": """CREATE TABLE feature (  -- an image's strongest local features, for re-ranking
    picture_id INTEGER PRIMARY KEY REFERENCES picture ON DELETE CASCADE,
    n INTEGER NOT NULL,
    dtype TEXT NOT NULL,        -- of the descriptors
    descriptor BLOB NOT NULL,   -- (n, f), strongest first
    geometry BLOB NOT NULL,     -- (n, 5) little-endian float32: x, y, size (px), angle, score
    crc INTEGER NOT NULL
) STRICT""",
    "code": """CREATE TABLE code (  -- an image's words, with a code each: see vladkit.Codes
    picture_id INTEGER PRIMARY KEY REFERENCES picture ON DELETE CASCADE,
    word BLOB NOT NULL,         -- n uint16, little-endian, rising
    code BLOB NOT NULL,         -- (n, b) bytes of bits
    angle BLOB NOT NULL,        -- n uint8, 256ths of a turn; empty: features have no direction
    crc INTEGER NOT NULL
) STRICT""",
    "aggregate": """CREATE TABLE aggregate (  -- an image's sums, for adapting the codebook
    picture_id INTEGER PRIMARY KEY REFERENCES picture ON DELETE CASCADE,
    residual BLOB NOT NULL,     -- (k, f) little-endian float32
    count BLOB NOT NULL,        -- (k,) little-endian int32
    crc INTEGER NOT NULL
) STRICT""",
}
"""The tables of a collection. No others are in one, and no views, triggers or indexes."""

OPTIONAL: Final = {
    "photo": """CREATE TABLE photo (  -- an image whose EXIF was read: NULL is not stated
    picture_id INTEGER PRIMARY KEY REFERENCES picture ON DELETE CASCADE,
    taken TEXT,                 -- YYYY-MM-DD HH:MM:SS, on the camera's clock
    latitude REAL,              -- degrees, north positive
    longitude REAL,             -- degrees, east positive
    camera TEXT,                -- maker and model
    crc INTEGER NOT NULL
) STRICT""",
}
"""Tables that files of this format may lack, which were made before there were such."""

CHECKED: Final = {
    "about": "name, value",
    "array": "name, dtype, shape, data",
    "source": "root, relative, name, mark",
    "picture": "source_id, path, n_bytes, mtime_ns, width, height, n_local, skipped, transient",
    "block": "picture_ids, data",
    "feature": "n, dtype, descriptor, geometry",
    "code": "word, code, angle",
    "aggregate": "residual, count",
    "photo": "taken, latitude, longitude, camera",
}
"""Columns that the ``crc`` of a row is of: all but ids, which other rows have to agree with."""


AUGMENTATION: Final = "~augment.picture_ids", "~augment.places", "~augment.weights"
"""Names of the arrays of an augmentation."""


def create_tables(connection: sqlite3.Connection, about: dict[str, Any]) -> None:
    """Make an empty database a collection, with what it is about, in one transaction.

    A kill leaves an empty file or a whole one. If another process was first, nothing is done.
    """
    connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
    connection.execute("BEGIN IMMEDIATE")
    if pragma(connection, "user_version") == 0:
        for statement in (TABLES | OPTIONAL).values():
            connection.execute(statement)
        about = about | {"id": uuid.uuid4().hex, "revision": 0}
        rows = [(name, json.dumps(value)) for name, value in about.items()]
        connection.executemany("INSERT INTO about VALUES (?1, ?2, row_crc(?1, ?2))", rows)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def is_file_with_content(path: Path) -> bool:
    """Tell whether there is a file with anything in it, without opening it.

    Raises
    ------
    ParameterError
        If it is the URL of a database.
    FileFormatError
        If there is a folder, a device, or whatever else is no regular file, or beside it.
    StorageError
        If it cannot be read.
    """
    refuse_url(path)
    for beside in (f"{path}{end}" for end in _BESIDE):
        if is_special_file(beside):  # SQLite would open it
            raise FileFormatError(f"{beside} is no regular file: remove it")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileFormatError(f"{path} is a folder, wanted a collection file")
    if not stat.S_ISREG(status.st_mode):
        raise FileFormatError(f"{path} is no regular file, wanted a collection file")
    if status.st_size and not os.access(path, os.R_OK):
        raise StorageError(f"cannot read {path}: {os.strerror(errno.EACCES)}")
    return status.st_size > 0


def check_file(path: Path, accept: Container[int] = (FORMAT_VERSION,)) -> int:
    """Format version of the collection at `path`; 0 if there is nothing, or an empty file.

    Changes nothing in the file, beyond what every reader does: SQLite rolls back what a killed
    writer left undone.

    Raises
    ------
    FileFormatError
        If it is something else, or of a format version that is not among those in `accept`.
    StorageError
        If it cannot be read.
    """
    if not is_file_with_content(path):
        return 0
    with translated(path, "read"), closing(connect_reading(path)) as connection:
        return check_format(connection, path, accept)


def check_format(
    connection: sqlite3.Connection, path: Path, accept: Container[int] = (FORMAT_VERSION,)
) -> int:
    """Format version of the collection that `connection` has open; 0 for an empty database.

    Raises
    ------
    FileFormatError
        As `check_file`.
    """
    if not pragma(connection, "page_count"):
        return 0
    if pragma(connection, "application_id") != _APPLICATION_ID:
        raise FileFormatError(
            f"{path} is not a vladkit collection but a SQLite database of another program; it is "
            "left as it is"
        )
    found = pragma(connection, "user_version")
    if found not in accept:
        fix = "use the version that wrote it, or index the images again"
        if found < FORMAT_VERSION:
            fix = f"convert it with vladkit migrate {quoted(path)}"
        raise FileFormatError(
            f"{path} is a vladkit collection of format {found}, this vladkit reads format "
            f"{FORMAT_VERSION}: {fix}; it is left as it is"
        )
    if found == FORMAT_VERSION:
        _check_tables(connection, path)
    return found


def tables_of(
    connection: sqlite3.Connection, path: Path, names: Container[str] = TABLES
) -> dict[str, str]:
    """Statements that made the tables of a file, by name.

    Raises
    ------
    FileFormatError
        If there is anything but tables of these names. A file may be anybody's: a view or a trigger
        in the place of a table could run for ever, or change other rows.
    """
    rows = connection.execute(
        "SELECT type, name, substr(sql, 1, 10000) FROM sqlite_schema "
        "WHERE NOT (type = 'index' AND sql IS NULL)"
    )
    found = {}
    for kind, name, statement in rows:
        if kind != "table" or (name not in names and name not in _OF_SQLITE):
            raise FileFormatError(
                f"{path} has a {kind} {name!r} that vladkit did not make: drop it with sqlite3, or "
                "get the file again from where it came from; it is left as it is"
            )
        found[name] = str(statement)
    return found


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raise FileFormatError unless the tables are those of `TABLES`, to the word."""
    found = tables_of(connection, path, TABLES | OPTIONAL)
    optional = {name: statement for name, statement in OPTIONAL.items() if name in found}
    for name, statement in (TABLES | optional).items():
        if _bare(found.get(name, "")) != _bare(statement):
            raise FileFormatError(
                f"{path} is damaged, or was changed by another program: its table {name!r} is "
                f"{'not as vladkit made it' if name in found else 'missing'}"
            )


_OF_SQLITE: Final = ("sqlite_sequence", "sqlite_stat1", "sqlite_stat4")


def _bare(statement: str) -> str:
    """A statement without comments, quotes and white space."""
    return re.sub(r"--[^\n]*|[\s\"]+", "", statement)


@contextmanager
def new_file(path: Path) -> Iterator[str]:
    """Path of an empty file that is at `path`, where nothing is, when all went well.

    SQLite would read what it left beside a file that was removed there as that of the new one, and
    so damage it: this is removed.

    Raises
    ------
    StorageError
        If there is something at `path`, or it cannot be written.
    """
    if os.path.lexists(path):
        raise StorageError(f"{path} is there already: give another name, or remove it first")
    with replace_path(path) as name:
        yield name
        for end in _BESIDE:
            with suppress(FileNotFoundError):
                os.unlink(f"{path}{end}")
