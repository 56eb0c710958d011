"""Files of arrays with a JSON header: .npz without pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any, BinaryIO, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.files import replace_file
from vladkit.core.remote import is_url, local_path, read_file
from vladkit.errors import FileFormatError, StorageError

__all__ = ["read_arrays", "write_arrays"]

_VERSION: Final = 1


def write_arrays(
    path: str | os.PathLike[str], kind: str, about: dict[str, Any], arrays: dict[str, AnyArray]
) -> None:
    """Write JSON-able values and arrays to one .npz file, whole or not at all.

    Parameters
    ----------
    path : path
    kind : str
        What the file is, for `read_arrays`.
    about : dict
    arrays : dict
        By name; "header" is taken.

    Raises
    ------
    StorageError
        If the file cannot be written; an older one is then untouched.
    """
    header = {"format": kind, "version": _VERSION, "about": about}
    with replace_file(path) as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]


def read_arrays(
    path: str | os.PathLike[str], kind: str, hint: str
) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Values and arrays of a file that `write_arrays` wrote; zip's checksums are verified.

    Parameters
    ----------
    path : path
    kind : str
    hint : str
        What to give instead of a file of another kind, for messages.

    Raises
    ------
    FileFormatError
        If it is another kind of file, is of another version, or is damaged.
    StorageError
        If it cannot be read.
    """
    where = os.fspath(path)
    try:
        # opened here: np.load leaves a damaged file open
        with _opened(path) as raw:
            if raw.read(2) != b"PK":  # NumPy would take it for a pickle
                raise FileFormatError(f"{where} is not a {kind}: {hint}")
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                if any(each.compress_type != zipfile.ZIP_STORED for each in file.zip.infolist()):
                    # a small one may fill the memory
                    raise FileFormatError(f"{where} is compressed: vladkit did not write it")
                header = json.loads(str(file["header"][()]))
                arrays = {name: file[name] for name in file.files if name != "header"}
        found, version, about = header["format"], header["version"], header["about"]
    except (FileFormatError, StorageError):
        raise
    except OSError as error:
        if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
            raise StorageError(f"cannot read {where}: {error.strerror}") from error
        raise FileFormatError(f"{where} is not a {kind}: {error}") from error
    except Exception as error:  # numpy and zipfile raise many kinds for damaged files
        raise FileFormatError(f"{where} is not a {kind}: {error}") from error
    if found != kind or version != _VERSION:
        raise FileFormatError(
            f"{where} is {found!r} version {version}, wanted {kind!r} version {_VERSION}: use the "
            "vladkit that wrote it, or train again"
        )
    return about, arrays


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    name = os.fspath(path)
    if not is_url(name):
        return open(local_path(name), "rb")
    try:
        return io.BytesIO(read_file(name, lambda n_bytes: None))
    except StorageError as error:
        raise StorageError(f"cannot read {name}: {error}") from None
