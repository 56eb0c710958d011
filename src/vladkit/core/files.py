"""Writing a file whole or not at all, and keeping off files that SQLite has open."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from vladkit.core.remote import (
    check_target,
    in_64_bits,
    is_url,
    local_path,
    without_query,
    write_file,
)
from vladkit.errors import ParameterError, StorageError, VladkitError

__all__ = [
    "as_collection",
    "as_local",
    "as_paths",
    "check_writable",
    "forget_database",
    "forget_databases",
    "is_open_database",
    "is_special_file",
    "is_there_still",
    "note_database",
    "refuse_url",
    "replace_file",
    "replace_path",
    "time_of_change",
]

_DATABASES: Final = weakref.WeakKeyDictionary[object, tuple[int, int]]()
"""Device and inode of each database that a connection of this process has open."""
_databases_lock = threading.Lock()


def as_paths(given: object) -> list[str]:
    """One path, or several, as a list of text; ``file://`` URLs become paths.

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
        return [local_path(os.fsdecode(path)) for path in paths]
    except TypeError as error:
        raise ParameterError(f"give one path or several: {error}") from error


def time_of_change(status: os.stat_result) -> int:
    """Time of a file's last change, in ns, as it is stored."""
    return in_64_bits(status.st_mtime_ns)


def as_collection(path: str | os.PathLike[str]) -> Path:
    """Absolute path of a collection file, also by a ``file://`` URL.

    Raises
    ------
    ParameterError
        If it is elsewhere: SQLite locks and changes a file in place.
    """
    name = os.fspath(path)
    if is_url(name):
        raise ParameterError(
            f"{without_query(name)}: a collection is a file on a disk of this machine: write it "
            "here and copy it there when it is done, or copy it here to search it; one whose name "
            "ends in .lance may be there"
        )
    return Path(as_local(name)).absolute()


def as_local(path: str | os.PathLike[str]) -> str:
    """Path of a file or folder of this machine, also by a ``file://`` URL.

    Raises
    ------
    ParameterError
        If it is a URL of a kind that is not known: no folder is made of it.
    """
    name = local_path(os.fspath(path))
    if found := re.match(r"[A-Za-z][\w+.-]*://", name):
        raise ParameterError(  # without what follows, which may be a password
            f"{found[0]} is no kind of place that vladkit knows here: give a path, or for a "
            "collection whose name ends in .lance s3://, gs:// or az://"
        )
    return name


def note_database(connection: object, path: str | os.PathLike[str]) -> None:
    """Remember that a connection has the database at `path` open; see `forget_database`."""
    status = os.stat(path)
    with _databases_lock:
        _DATABASES[connection] = status.st_dev, status.st_ino


def forget_database(connection: object) -> None:
    """Forget a connection that was closed: what it had open may go, and be another file's then.

    (File systems give the number of a removed file to the next one.)
    """
    with _databases_lock:
        _DATABASES.pop(connection, None)


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


def refuse_url(path: str | os.PathLike[str]) -> None:
    """Raise ParameterError if that is the URL of a database, which may hold a password."""
    if any(part in ("postgresql:", "postgres:") for part in Path(path).parts):
        raise ParameterError(
            "the URL of a database is given where a file is wanted: only search, info and export "
            "take one"
        )


def is_there_still(connection: object, path: str | os.PathLike[str]) -> bool:
    """Tell whether what a connection has open is still at `path`, and no other file."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    with _databases_lock:
        return _DATABASES.get(connection) == (status.st_dev, status.st_ino)


def is_special_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a FIFO, a socket or a device is at `path`, or where its links lead.

    To open one may wait for ever, to read it may not end, and to replace it is to lose it. A path
    that a user names may be one; what lies beside it, or in it, has to be a file.
    """
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


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
        If the target is a folder or a device, or nothing can be written in its folder; or if it
        is elsewhere, and there is no such bucket.
    """
    name, read = os.fspath(path), [os.fspath(each) for each in inputs]
    if name in read or os.path.realpath(name) in map(os.path.realpath, read):
        raise ParameterError(f"{path} is read here: give another file to write to")
    if is_url(name):
        check_target(name)
        return
    try:
        tempfile.TemporaryFile(dir=_target(path).parent).close()
    except OSError as error:
        if isinstance(error, VladkitError):
            raise
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` only when all went well.

    Raises
    ------
    StorageError
        If it cannot be written, or there is something other than a file; it is then untouched.
    """
    with replace_path(path) as name, open(name, "w+b") as file:  # others may read it back
        yield file


@contextmanager
def replace_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Path of an empty file that replaces `path` only when all went well; see `replace_file`.

    One that replaces a URL is copied there at the end.
    """
    if is_url(path):
        with _uploaded(os.fspath(path)) as name:
            yield name
        return
    target = _target(path)
    is_there = os.path.exists(target)
    try:
        # Not mkstemp, whose files are for one user alone: to ask for the umask is to change it, for
        # the files of other threads, too.
        name = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}"))
        mode = 0o600 if is_there else 0o666
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        try:
            yield name
            with open(name, "rb+") as file:
                os.fsync(file.fileno())
            if is_there:
                with suppress(OSError):  # a file system that has no modes
                    shutil.copymode(target, name)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        if isinstance(error, VladkitError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


@contextmanager
def _uploaded(url: str) -> Iterator[str]:
    try:
        with tempfile.TemporaryDirectory(prefix="vladkit-") as folder:
            file = Path(folder, f"whole{Path(url).suffix}")
            file.touch()
            yield str(file)
            write_file(str(file), url)
    except OSError as error:
        if isinstance(error, VladkitError) and not isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write {url}: {error.strerror or error}") from None


def _target(path: str | os.PathLike[str]) -> Path:
    """Path of the file to replace: where links lead, not they."""
    refuse_url(path)
    target = Path(os.path.realpath(local_path(os.fspath(path))))
    if os.path.isdir(target):
        raise StorageError(f"cannot write {path}: it is a folder")
    if is_special_file(target):
        raise StorageError(f"cannot write {path}: it is no regular file")
    return target
