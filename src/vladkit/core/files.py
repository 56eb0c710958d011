"""Writing a file whole or not at all, and keeping off files that SQLite has open."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from vladkit.errors import ParameterError, StorageError, VladkitError

__all__ = [
    "as_paths",
    "check_writable",
    "forget_databases",
    "is_open_database",
    "note_database",
    "replace_file",
    "replace_path",
]

_DATABASES: Final = weakref.WeakKeyDictionary[object, tuple[int, int]]()
"""Device and inode of each database that a connection of this process has open."""
_databases_lock = threading.Lock()


def as_paths(given: object) -> list[str]:
    """One path, or several, as a list of text.

    Raises
    ------
    ParameterError
        If it is something else.

    Examples
    --------
    >>> as_paths("photos"), as_paths([Path("a"), b"b"])
    (['photos'], ['a', 'b'])
    """
    paths: Any = [given] if isinstance(given, str | bytes | os.PathLike) else given
    try:
        return [os.fsdecode(path) for path in paths]
    except TypeError as error:
        raise ParameterError(f"give one path or several: {error}") from error


def note_database(connection: object, path: str | os.PathLike[str]) -> None:
    """Remember, as long as `connection` lives, that it has the database at `path` open."""
    status = os.stat(path)
    with _databases_lock:
        _DATABASES[connection] = status.st_dev, status.st_ino


def forget_databases() -> list[object]:
    """Forget all connections, and give them: those of the parent, in a process that is forked."""
    global _databases_lock
    _databases_lock = threading.Lock()  # a thread that the child does not have may hold it
    connections = list(_DATABASES)
    _DATABASES.clear()
    return connections


def is_open_database(path: str | os.PathLike[str]) -> bool:
    """Tell whether a database of this process is at `path`, by whatever name.

    Such a file must not be opened: its locks are POSIX locks, and when a process closes a file, it
    loses all of its locks on it (SQLite, "How To Corrupt An SQLite Database File", section 2.2).
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return False
    with _databases_lock:
        return (status.st_dev, status.st_ino) in _DATABASES.values()


def check_writable(
    path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Refuse, before the work, a target that could not be written after it.

    Parameters
    ----------
    path : path
    inputs : iterable of path
        Files that the work reads, and must not replace.

    Raises
    ------
    ParameterError
        If the target is one of `inputs`.
    StorageError
        If the target is a folder, or nothing can be written in its folder.
    """
    target = Path(path)
    real = os.path.realpath(target)
    if real in map(os.path.realpath, inputs):
        raise ParameterError(f"{target} is read here: give another file to write to")
    if target.is_dir():
        raise StorageError(f"cannot write {target}: it is a folder")
    try:
        tempfile.TemporaryFile(dir=os.path.dirname(real)).close()
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` only when all went well.

    Raises
    ------
    StorageError
        If it cannot be written; a file at `path` is then untouched.
    """
    with replace_path(path) as name, open(name, "w+b") as file:  # others may read it back
        yield file


@contextmanager
def replace_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Path of an empty file that replaces `path` only when all went well; see `replace_file`."""
    target = Path(os.path.realpath(path))  # through a link, not in place of it
    try:
        # Not mkstemp, whose files are for one user alone: to ask for the umask is to change it, for
        # the files of other threads, too.
        name = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}"))
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield name
            with open(name, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        if isinstance(error, VladkitError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
