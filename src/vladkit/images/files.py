"""Image files: which names are images, and their bytes, read within limits."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO, Final

from vladkit.core.files import is_open_database
from vladkit.errors import ImageError
from vladkit.images.heic import has_heic

__all__ = ["HEIC_SUFFIXES", "MAX_BYTES", "is_image_name", "open_file", "read_bytes"]

MAX_BYTES: Final = 1 << 30
"""Size of the largest file that is read, 1 GiB: an uncompressed RGB TIFF of 200 million px (the
limit of `vladkit.images.decode_image`) has 0.6 GB."""

_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".dib"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".mpo"}
    | {".dng", ".cr2", ".nef", ".arw", ".pef", ".raf"}
)
HEIC_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})
"""Suffixes of images where the extra ``heic`` is installed."""

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
        extra ``heic``); False for hidden names such as the ``._IMG_1.jpg`` that macOS leaves on
        shared disks.

    Examples
    --------
    >>> [is_image_name(name) for name in ("a/B.JPG", "notes.txt", "._B.jpg", ".jpg")]
    [True, False, False, False]
    """
    name = os.path.basename(os.fspath(path))
    suffix = os.path.splitext(name)[1].lower()
    is_known = suffix in _SUFFIXES or (suffix in HEIC_SUFFIXES and has_heic())
    return is_known and not name.startswith(".")


def read_bytes(
    path: str | os.PathLike[str], most: int = -1, *, within: Sequence[str] | None = None
) -> bytes:
    """Read a regular file, or its first bytes.

    Parameters
    ----------
    path, within
        See `open_file`.
    most : int, default=-1
        Number of bytes to read; -1 reads the whole file.

    Raises
    ------
    ImageError
        As `open_file`; or the file cannot be read.
    """
    try:
        with open_file(path, within=within) as file:
            return file.read(most)
    except ImageError:
        raise
    except OSError as error:
        raise _unreadable(error) from error


def open_file(path: str | os.PathLike[str], *, within: Sequence[str] | None = None) -> BinaryIO:
    """Open a regular file to read it, without waiting for a FIFO or a device.

    Parameters
    ----------
    path : str or path
    within : sequence of str or None
        Folders, without links in their paths, in one of which the file has to be, wherever links
        lead; None allows any.

    Raises
    ------
    ImageError
        The file cannot be opened (``transient=True`` unless its name or kind is to blame), is no
        regular file, is larger than `MAX_BYTES`, or is outside.
    """

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
        raise _unreadable(error) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"not a file name: {error}") from error
    return file


def _unreadable(error: OSError) -> ImageError:
    reason = (error.strerror or str(error)).lower()
    return ImageError(reason, transient=error.errno not in _LASTING_ERRNOS)


def _check_opened(
    path: str | os.PathLike[str], opened: os.stat_result, within: Sequence[str] | None
) -> None:
    """Raise ImageError unless the file that was opened at a path may be read."""
    if not stat.S_ISREG(opened.st_mode):
        raise ImageError("not a regular file")
    if opened.st_size > MAX_BYTES:
        raise ImageError(
            f"file too large: {opened.st_size / 1e6:,.0f} MB, at most {MAX_BYTES / 1e6:,.0f} MB"
        )
    if within is None:
        return
    real = os.path.realpath(path)
    inside = any(real.startswith(os.path.join(folder, "")) for folder in within)
    # Of the same file: a link may have been put in its place after it was opened, or before.
    if not inside or not os.path.samestat(os.stat(real), opened):
        raise ImageError("not in a folder that was indexed here: it is not shown")
