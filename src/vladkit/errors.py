"""Errors that vladkit raises on purpose.

The tree::

    VladkitError
    ├── InputError (ValueError)           arrays that cannot be encoded
    │   ├── ShapeError                    wrong number of axes, dimension or offsets
    │   └── NonFiniteError                NaN, infinity, or an overflow on the way
    ├── MemoryLimitError (MemoryError)    a method that would need more memory than is reasonable
    ├── ParameterError (ValueError)       an option that does not exist or does not fit
    ├── NotFittedError (ValueError, AttributeError)   used before fit
    ├── ImageError (OSError)              an image that cannot be used: recorded, then skipped
    ├── ModelError (OSError)              a network that is missing, or does not fit its description
    ├── FileFormatError (OSError)         a file of another kind or version, or damaged
    ├── RecipeMismatchError (ValueError)  a file made with other settings than asked for
    ├── NothingToIndexError (ValueError)  no usable image at all
    ├── StorageError (OSError)            a file that cannot be read or written
    ├── WorkerError (RuntimeError)        processes that are to do the work, and do not
    └── MissingDependencyError (ImportError)          an extra that is not installed

    DamageWarning (UserWarning)           part of a file is damaged; the rest is used

A message says what was got, what is wanted and how to fix it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "DamageWarning",
    "FileFormatError",
    "ImageError",
    "InputError",
    "MemoryLimitError",
    "MissingDependencyError",
    "ModelError",
    "NonFiniteError",
    "NotFittedError",
    "NothingToIndexError",
    "ParameterError",
    "RecipeMismatchError",
    "ShapeError",
    "StorageError",
    "VladkitError",
    "WorkerError",
]


# one slash, too: what is taken for a path loses the other
_PASSWORD: Final = re.compile(r"(:/+[^\s/?#@:]*):[^\s/?#]*@")
# but the token of `serve`, which is for whoever sees it, and what hides one already
_QUERY: Final = re.compile(r"(https?:/+[^\s?]*)\?(?!token=|\.\.\.)[^\s'\"]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text without the passwords of URLs in it, and without what may be a signature.

    Examples
    --------
    >>> without_secrets("no s3a://me:word@bucket/a.jpg, nor https://host/a.jpg?signature=1")
    'no s3a://me:***@bucket/a.jpg, nor https://host/a.jpg?...'
    """
    return _QUERY.sub(r"\1?...", _PASSWORD.sub(r"\1:***@", text))


class VladkitError(Exception):
    """Root of the tree: ``except VladkitError`` catches what vladkit itself refuses.

    Its text shows no password, whatever URL it repeats.
    """

    def __str__(self) -> str:
        return without_secrets(super().__str__())


class InputError(VladkitError, ValueError):
    """Arrays that cannot be encoded."""


class ShapeError(InputError):
    """Wrong number of axes, a dimension that does not fit, or broken offsets."""


class NonFiniteError(InputError):
    """NaN or infinity among the values, or values so large that products overflow."""


class MemoryLimitError(VladkitError, MemoryError):
    """A method would need more memory than it allows itself; nothing was allocated."""


class ParameterError(VladkitError, ValueError):
    """An option that does not exist, is out of range, or does not fit the others."""


class NotFittedError(VladkitError, ValueError, AttributeError):
    """An estimator was used before ``fit``; bases as in scikit-learn's error of that name."""


class ImageError(VladkitError, OSError):
    """An image that cannot be used.

    Parameters
    ----------
    reason : str
        Reason in words for the person who owns the image; without its path.
    transient : bool
        Whether a later try may succeed though the file has not changed
        (permission denied, vanished, read error).
    """

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_image_error, (self.reason, self.transient)


def _rebuild_image_error(reason: str, transient: bool) -> ImageError:
    return ImageError(reason, transient=transient)


class ModelError(VladkitError, OSError):
    """A network whose file or description is missing, is another one, or does not fit."""


class FileFormatError(VladkitError, OSError):
    """A file that vladkit did not write, of another format version, or damaged."""


class RecipeMismatchError(VladkitError, ValueError):
    """A file was made with other settings (features, codebook, ...) than those asked for."""


class NothingToIndexError(VladkitError, ValueError):
    """No image was found, or none of those found can be used."""


class StorageError(VladkitError, OSError):
    """A file could not be read or written: rights, a full disk, a lock held too long."""


class WorkerError(VladkitError, RuntimeError):
    """Processes, of this machine or of a cluster, that are to do the work and cannot."""


class MissingDependencyError(VladkitError, ImportError):
    """An optional library is not installed; the message holds the ``pip install`` line."""


class DamageWarning(UserWarning):
    """Part of a file is damaged, and was left out; `vladkit check` names it."""
