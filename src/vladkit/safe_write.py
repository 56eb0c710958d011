"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vladkit.errors import StorageError, VladkitError

__all__ = ["replace_file", "replace_path"]


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` only when all went well.

    Raises
    ------
    StorageError
        If it cannot be written; what was at `path` is then untouched.
    """
    with replace_path(path) as name, open(name, "w+b") as file:  # others may read it back
        yield file


@contextmanager
def replace_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """As `replace_file`, for those who open the file themselves: the path of an empty one."""
    target = Path(os.path.realpath(path))  # through a link, not in place of it
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        try:
            yield name
            with open(name, "rb+") as file:
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)  # mkstemp's are for one user alone
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        if isinstance(error, VladkitError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
