"""Image files: which names are images, and their bytes, read within limits."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from vladkit.core.files import is_open_database
from vladkit.errors import ImageError

__all__ = ["MAX_BYTES", "is_image_name", "read_bytes"]

MAX_BYTES: Final = 1 << 30
"""Size of the largest file that is read, 1 GiB: an uncompressed RGB TIFF of 200 million px (the
limit of `vladkit.images.decode_image`) has 0.6 GB."""

_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".dib"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)

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
        True for the suffixes of formats that `read_image` reads, in any case; False for hidden
        names such as the ``._IMG_1.jpg`` that macOS leaves on shared disks.

    Examples
    --------
    >>> [is_image_name(name) for name in ("a/B.JPG", "notes.txt", "._B.jpg", ".jpg")]
    [True, False, False, False]
    """
    name = os.path.basename(os.fspath(path))
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _SUFFIXES


def read_bytes(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """Read a regular file, or its first bytes, without waiting for a FIFO or a device.

    Parameters
    ----------
    path : str or path
    most : int, default=-1
        Number of bytes to read; -1 reads the whole file.

    Returns
    -------
    bytes

    Raises
    ------
    ImageError
        The file cannot be read (``transient=True`` unless its name or kind is to blame), is no
        regular file, or is larger than `MAX_BYTES`.
    """

    def open_without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO blocks otherwise

    if is_open_database(path):
        raise ImageError("a collection that is open here, no image")
    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise ImageError(
                    f"file too large: {status.st_size / 1e6:,.0f} MB, "
                    f"at most {MAX_BYTES / 1e6:,.0f} MB"
                )
            return file.read(most)
    except ImageError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ImageError(reason, transient=error.errno not in _LASTING_ERRNOS) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"not a file name: {error}") from error
