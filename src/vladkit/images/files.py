"""Image files: which names are images, and their bytes, read within limits."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Final

from vladkit.core.files import is_open_database, is_special_file
from vladkit.core.remote import is_below, is_url, local_path, read_file
from vladkit.errors import ImageError, MissingDependencyError, StorageError
from vladkit.images.heic import HEIC_HINT, has_heic
from vladkit.images.jxl import JXL_HINT, has_jxl

__all__ = [
    "MAX_BYTES",
    "check_size",
    "hints",
    "is_image_name",
    "open_file",
    "read_bytes",
]

MAX_BYTES: Final = 1 << 30
"""Size of the largest file that is read, 1 GiB: an uncompressed RGB TIFF of 200 million px (the
limit of `vladkit.images.decode_image`) has 0.6 GB."""

_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".dib"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".mpo"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".pef", ".raf", ".rw2"}
)
_HEIC_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})
_JXL_SUFFIXES: Final = frozenset({".jxl"})

_NOT_SHOWN: Final = "not in a folder that was indexed here: it is not shown"

# These stay as they are until somebody renames or replaces the file; any other failure may pass.
_LASTING_ERRNOS: Final = frozenset({errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is worth reading as an image.

    Parameters
    ----------
    path : str or path
        Nothing is looked up on disk.

    Returns
    -------
    bool
        True for the suffixes of formats that `read_image` reads here, in any case (HEIC needs the
        extra ``heic``, JPEG XL ``jxl``); False for hidden names such as the ``._IMG_1.jpg`` that
        macOS leaves on shared disks.

    Examples
    --------
    >>> [is_image_name(name) for name in ("a/B.JPG", "notes.txt", "._B.jpg", ".jpg")]
    [True, False, False, False]
    """
    name = os.path.basename(os.fspath(path))
    suffix = os.path.splitext(name)[1].lower()
    is_known = (
        suffix in _SUFFIXES
        or (suffix in _HEIC_SUFFIXES and has_heic())
        or (suffix in _JXL_SUFFIXES and has_jxl())
    )
    return is_known and not name.startswith(".")


def hints(suffixes: Iterable[str]) -> str:
    """Commands that install what reads files with these suffixes, which are no images here."""
    found, suffixes = [], set(suffixes)
    if suffixes & _HEIC_SUFFIXES:
        found.append(f"to read HEIC: {HEIC_HINT}")
    if suffixes & _JXL_SUFFIXES:
        found.append(f"to read JPEG XL: {JXL_HINT}")
    return "; ".join(found)


def read_bytes(
    path: str | os.PathLike[str],
    most: int = -1,
    *,
    within: Sequence[str] | None = None,
    n_bytes: int | None = None,
) -> bytes:
    """Read a regular file, or its first bytes.

    Parameters
    ----------
    path, within
        See `open_file`.
    most : int, default=-1
        Number of bytes to read; -1 reads the whole file.
    n_bytes : int or None
        Size of a file elsewhere, where it is known: one request less.

    Raises
    ------
    ImageError
        As `open_file`; or the file cannot be read.
    """
    try:
        with open_file(path, within=within, n_bytes=n_bytes) as file:
            return file.read(most)
    except ImageError:
        raise
    except OSError as error:
        raise _unreadable(error) from error


def open_file(
    path: str | os.PathLike[str],
    *,
    within: Sequence[str] | None = None,
    n_bytes: int | None = None,
) -> BinaryIO:
    """Open a regular file to read it, without waiting for a FIFO or a device.

    A file elsewhere, named by its URL, is read into memory.

    Parameters
    ----------
    path : str or path
    within : sequence of str or None
        Folders, without links in their paths, in one of which the file has to be, wherever links
        lead; None allows any. Redirects of a web server are followed with None only.
    n_bytes : int or None
        See `read_bytes`.

    Raises
    ------
    ImageError
        The file cannot be opened (``transient=True`` unless its name or kind is to blame), is no
        regular file, is larger than `MAX_BYTES`, or is outside.
    """
    if is_url(path):
        return io.BytesIO(_read_url(str(path), within, n_bytes))
    path = local_path(os.fsdecode(path))

    def open_without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO blocks otherwise

    if is_open_database(path):
        raise ImageError("a collection that is open here, no image")
    try:
        file = open(path, "rb", opener=open_without_waiting)  # noqa: SIM115
        try:
            _check_opened(path, os.fstat(file.fileno()), within)
        except BaseException:
            file.close()
            raise
    except ImageError:
        raise
    except OSError as error:
        if is_special_file(path):  # a socket cannot be opened at all
            raise ImageError("not a regular file") from error
        raise _unreadable(error) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"not a file name: {error}") from error
    return file


def check_size(n_bytes: int) -> None:
    """Raise ImageError if a file of that size is not read."""
    if n_bytes > MAX_BYTES:
        raise ImageError(
            f"file too large: {n_bytes / 1e6:,.0f} MB, at most {MAX_BYTES / 1e6:,.0f} MB"
        )


def _read_url(url: str, within: Sequence[str] | None, n_bytes: int | None) -> bytes:
    if within is not None and not is_below(url, within):
        raise ImageError(_NOT_SHOWN)
    try:
        return read_file(url, check_size, n_bytes=n_bytes, redirects=within is None)
    except (StorageError, MissingDependencyError) as error:
        if within is None and isinstance(error, MissingDependencyError):
            raise
        raise ImageError(str(error), transient=True) from None


def _unreadable(error: OSError) -> ImageError:
    reason = (error.strerror or str(error)).lower()
    return ImageError(reason, transient=error.errno not in _LASTING_ERRNOS)


def _check_opened(
    path: str | os.PathLike[str], opened: os.stat_result, within: Sequence[str] | None
) -> None:
    """Raise ImageError unless the file that was opened at a path may be read."""
    if not stat.S_ISREG(opened.st_mode):
        raise ImageError("not a regular file")
    check_size(opened.st_size)
    if within is None:
        return
    real = os.path.realpath(path)
    inside = any(real.startswith(os.path.join(folder, "")) for folder in within)
    # Of the same file: a link may have been put in its place after it was opened, or before.
    if not inside or not os.path.samestat(os.stat(real), opened):
        raise ImageError(_NOT_SHOWN)
