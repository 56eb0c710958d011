"""Connections to a collection file, and SQLite's errors as ours.

Nothing but SQLite opens a collection file: a process that closes a file loses all of its locks on
it, those of every connection.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from vladkit.core.files import forget_database, forget_databases, note_database
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError, InputError, StorageError, VladkitError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "BUSY_SECONDS",
    "connect",
    "connect_reading",
    "connected",
    "damaged",
    "pragma",
    "prepare_writing",
    "row_crc",
    "translated",
]

BUSY_SECONDS: Final = 30.0
"""Longest time in s that a writer waits for another."""


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Value of a setting of the database that is a number, such as ``user_version``."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def row_crc(*values: object) -> int:
    """CRC-32 of a row's values, with a zero byte between them.

    Blobs as they are, texts in UTF-8, numbers in decimal, NULL as nothing. In SQL it is a function
    of that name, in every connection.

    Examples
    --------
    >>> row_crc("recipe", "{}"), row_crc(b"recipe", b"{}"), row_crc("recipe", None)
    (581374858, 581374858, 1785053747)
    """
    crc = 0
    for i, value in enumerate(values):
        if i:
            crc = zlib.crc32(b"\0", crc)
        if value is not None:
            crc = zlib.crc32(value if isinstance(value, bytes) else str(value).encode(), crc)
    return crc


class _Connection(sqlite3.Connection):
    """Connection of one process. A forked child must not use those of its parent (SQLite, "How To
    Corrupt An SQLite Database File", section 2.6), and not even close them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._process = os.getpid()
        self.path = Path()

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._check_process()
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:  # SQLite's message names what is damaged, as it is
            raise sqlite3.DatabaseError(error.object.decode(errors="replace")) from None

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._check_process()
        return super().executemany(*arguments)

    def blobopen(self, *arguments: Any, **options: Any) -> sqlite3.Blob:
        self._check_process()
        return super().blobopen(*arguments, **options)

    def backup(self, *arguments: Any, **options: Any) -> None:
        self._check_process()
        super().backup(*arguments, **options)

    def close(self) -> None:
        if self._process == os.getpid():
            super().close()
            forget_database(self)
        else:
            _INHERITED.append(self)

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise StorageError(
                f"{self.path} was opened before this process was forked: open it again in each "
                "process"
            )


_INHERITED: Final[list[object]] = []
"""Connections of the parent process, kept so that nothing closes them."""


def _after_fork() -> None:
    _INHERITED.extend(forget_databases())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect in SQLite's open mode "ro", "rw" or "rwc"; transactions are the caller's.

    Network drives and volumes of containers may lack what SQLite uses. Without memory maps that
    processes share there is no WAL mode: a file is taken out of it, and readers and a writer wait
    for each other. Without POSIX locks, too, a folder ``PATH.lock`` is the lock.
    """
    try:
        return _connect(path, mode, seconds=0)
    except sqlite3.OperationalError:
        lacking = _lacking(path.parent)
        if lacking == "locks":
            mode += "&vfs=unix-dotfile"
        return _connect(path, mode, seconds=BUSY_SECONDS, out_of_wal=bool(lacking))


def _connect(
    path: Path, mode: str, *, seconds: float, out_of_wal: bool = False
) -> sqlite3.Connection:
    """Connect, and read so that all that is wrong comes out; wait `seconds` for a writer."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=seconds,
        isolation_level=None,
        factory=_Connection,
    )
    connection.path = path
    try:
        note_database(connection, path)
        if out_of_wal:  # a process that is alone with the file needs no shared map to do it
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA locking_mode = NORMAL")
            with suppress(OSError):
                os.unlink(f"{path}-shm")  # of the first try
        connection.execute("PRAGMA schema_version").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}")
        # SQLite may be built to write zeros over what is deleted: removing needs as much disk then.
        connection.execute("PRAGMA secure_delete = OFF")
        # No memory map: a file that is cut while it is read would end the process (SIGBUS).
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.create_function("row_crc", -1, row_crc, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _lacking(folder: Path) -> str:
    """Name what a folder's file system lacks: POSIX "locks", shared "maps", or "" for nothing.

    Tried with a file of its own: closing a collection file would drop the locks of SQLite.
    """
    missing = ""
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(mmap.PAGESIZE)
        missing = "locks"
        if sys.platform != "win32":
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        missing = "maps"
        mmap.mmap(file.fileno(), mmap.PAGESIZE).close()
        missing = ""
    return missing


def prepare_writing(connection: sqlite3.Connection, path: Path) -> None:
    """Let readers work beside the writer (WAL mode) where the file system can; see `connect`."""
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    if journal == "wal" or not _lacking(path.parent):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


@contextmanager
def connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Connect as `connect` does, for the length of a block."""
    connection = connect(path, mode)
    try:
        yield connection
    finally:
        connection.close()


def connect_reading(path: Path) -> sqlite3.Connection:
    """Connect for reading only, also where the folder may not be written.

    A reader of a WAL database has to make the -shm file beside it. Where it may not, and no
    -wal says that a writer is at work or was killed, the file alone is whole, and SQLite
    reads it if promised that nobody changes it.
    """
    # Able to write but told not to: the last to close then takes -wal and -shm away again, which a
    # connection in mode "ro" leaves behind.
    try:
        connection = _connect_and_read(path, "rw")
    except sqlite3.OperationalError:  # it may not be written
        try:
            connection = _connect_and_read(path, "ro")
        except sqlite3.OperationalError:
            wal = Path(f"{path}-wal")
            if wal.exists() and wal.stat().st_size:
                raise
            connection = _connect_and_read(path, "ro&immutable=1")
    return connection


def _connect_and_read(path: Path, mode: str) -> sqlite3.Connection:
    connection = connect(path, mode)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def translated(path: Path, verb: str) -> Iterator[None]:
    """Raise SQLite's errors as ours, with the file's name and what to do."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise StorageError(
            f"cannot {verb} {path}: a collection is used by the thread that opened it, until it "
            f"is closed ({error}); open it once more for another thread"
        ) from error
    except sqlite3.OperationalError as error:
        text = str(error)
        if text.startswith("Could not decode"):  # a text that is no UTF-8
            raise FileFormatError(f"{path} is damaged: {text}") from error
        hint = next((h for key, h in _HINTS.items() if key in text), text)
        lock = f"{path}.lock"  # see `connect`
        if "locked" in text and os.path.isdir(lock):
            hint += f", or, if no program uses it, remove {lock}: one that was killed has left it"
        raise StorageError(f"cannot {verb} {path}: {hint}") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise FileFormatError(
                f"{path} is not a vladkit collection but another kind of file; it is left as it is"
            ) from None
        raise FileFormatError(f"{path} is damaged: {error}") from error


@contextmanager
def damaged(path: Path, what: str, *, repair: bool = False) -> Iterator[None]:
    """Raise what a part of a file that does not fit leads to as a FileFormatError.

    For code that reads what a collection holds, which may be anything.
    """
    try:
        yield
    except _MISFITS as error:
        if isinstance(error, VladkitError) and not isinstance(error, InputError):
            raise
        hint = f": run vladkit check {quoted(path)} --repair" if repair else ""
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise FileFormatError(f"{path} is damaged: {what} ({reason}){hint}") from error


_MISFITS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

_HINTS: Final = {
    "disk is full": "the disk is full; what was committed before is safe",
    "readonly database": "the file or its folder may not be written",
    "unable to open": "its folder does not exist or may not be written, or its name is too long",
    "locked": f"another process has been writing to it for {BUSY_SECONDS:.0f} s; try again later",
    "disk I/O error": "the disk reports an error (full, gone, or damaged)",
}
