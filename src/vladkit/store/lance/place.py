"""Places of Lance's collections: folders, and prefixes of object stores; and Lance's errors."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from vladkit.core.files import as_local
from vladkit.core.panics import is_panic
from vladkit.core.remote import check_no_name
from vladkit.errors import FileFormatError, MissingDependencyError, StorageError, VladkitError

__all__ = ["Address", "beside", "imported", "is_lance", "is_remote", "place_of", "translated"]

SUFFIX: Final = ".lance"

_ABOUT: Final = f"about{SUFFIX}"

_SCHEMES: Final = ("s3", "gs", "az")
"""Those that Lance's object stores are tried with here: s3; the others are named alike."""


class Address(type(Path())):  # type: ignore[misc]
    """Address of an object store: ``s3://bucket/photos.lance``, as a path that is no file."""

    def __str__(self) -> str:
        return str(super().__str__()).replace(":/", "://", 1)

    def __fspath__(self) -> str:
        return str(self)

    def absolute(self) -> Address:
        """Address as it is."""
        return self


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether it is the address of an object store, and no path."""
    return os.fspath(path).partition("://")[0] in _SCHEMES


def is_lance(path: str | os.PathLike[str]) -> bool:
    """Whether a collection there is, or is to be made, one of Lance."""
    name = os.fspath(path).rstrip("/")
    if is_remote(name) or name.endswith(SUFFIX):
        return name.endswith(SUFFIX)
    return os.path.isdir(os.path.join(name, _ABOUT))


def place_of(path: str | os.PathLike[str]) -> Path:
    """The place of a collection, absolute.

    Raises
    ------
    ParameterError
        If it is a URL of another kind, or holds a user's name or password.
    """
    if is_remote(path):
        check_no_name(os.fspath(path))
    return Address(os.fspath(path)) if is_remote(path) else Path(as_local(path)).absolute()


def beside(place: Path) -> Path:
    """Path of this machine that files of a run are named after: the collection's, if it is here."""
    if not isinstance(place, Address):
        return place
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"vladkit-{digest}-{PurePosixPath(place).name}"


def imported() -> Any:
    """The library; MissingDependencyError without it."""
    try:
        import lance
    except ImportError as error:
        raise MissingDependencyError(
            "a .lance collection needs Lance: pip install 'vladkit[lance]'"
        ) from error
    return lance


@contextmanager
def translated(place: Path, verb: str) -> Iterator[None]:
    """Raise Lance's errors as ours, with the place and what to do."""
    try:
        yield
    except VladkitError:
        raise
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
        text = _SOURCE.sub("", str(error))
        if any(word in text.lower() for word in _CONFLICTS):
            raise StorageError(
                f"cannot {verb} {place}: others have been writing to it all the time; try again"
            ) from error
        line = text.partition("\n")[0][:300]
        hint = next((h for key, h in _HINTS.items() if key in text), "")
        if not hint and any(word in text for word in _DAMAGED):
            raise FileFormatError(f"{place} is damaged: {line}") from error
        raise StorageError(f"cannot {verb} {place}: {hint or line}") from error
    except BaseException as error:
        if not is_panic(error):
            raise
        line = str(error).partition("\n")[0][:300]
        raise FileFormatError(f"{place} is damaged, Lance gave up on it: {line}") from error


_SOURCE: Final = re.compile(r",? \S*/rust/\S+:\d+:\d+")
_CONFLICTS: Final = ("too many concurrent", "contention", "conflict")
_DAMAGED: Final = ("corrupt", "Corrupt", "failed to decode", "not found:", "Not found:")
_HINTS: Final = {
    "No space left": "the disk is full; what was committed before is safe",
    "Permission denied": "the folder may not be written",
    "Read-only file system": "the folder may not be written",
    "NoSuchBucket": "there is no such bucket: make it first",
    "AccessDenied": "the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) may not do that",
    "InvalidAccessKeyId": "the store does not know the keys (AWS_ACCESS_KEY_ID)",
    "SignatureDoesNotMatch": "the keys are wrong (AWS_SECRET_ACCESS_KEY)",
    "error sending request": "the store does not answer (AWS_ENDPOINT): try again later",
    "HTTP error: builder error": "AWS_ENDPOINT_URL is http://: set AWS_ALLOW_HTTP=true as well",
    "CredentialsNotLoaded": "there are no keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
}
"""Meanings of Lance's messages, by a part of them."""
