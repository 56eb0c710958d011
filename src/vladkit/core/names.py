"""Names of files: several may lead to one file, by links or by how letters are spelled; keys."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from typing import Final

from vladkit.core.remote import is_url, local_path

__all__ = [
    "absolute", "composed", "identity", "image_key", "is_text", "on_disk", "one_line", "quoted",
    "real", "spellings",
]  # fmt: skip

_UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\U000e0001-\U000e007f]"
)
"""Characters that steer a terminal, change the direction of writing, or are not seen at all; those
that join letters or keep them apart (U+200C, U+200D) belong to words, and to emojis."""


def identity(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """Identity of a file, equal for all of its names: device, inode, size and time of change.

    None if there is no file, or its file system gives no numbers. (Where numbers are made up, two
    files may share one, but not size and time as well.)
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
    found = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return found if status.st_ino else None


def absolute(path: str | os.PathLike[str]) -> str:
    """Absolute path of a file or folder, or its URL."""
    name = local_path(os.fspath(path))
    return name.rstrip("/") if is_url(name) else os.path.abspath(name)


def real(path: str | os.PathLike[str]) -> str:
    """Absolute path of a file or folder with its links resolved, or its URL."""
    name = absolute(path)
    # nothing is at a path with a null byte, and to follow it is a ValueError
    return name if is_url(name) or "\0" in name else os.path.realpath(name)


def is_text(name: str) -> bool:
    r"""Whether a name is text; names on Unix may be any bytes, and no store keeps those.

    Examples
    --------
    >>> is_text("a.jpg"), is_text(b"\xff.jpg".decode(errors="surrogateescape"))
    (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as a shell takes it, for the commands that messages give.

    Examples
    --------
    >>> quoted("photos.vlad"), quoted("my photos.vlad")
    ('photos.vlad', "'my photos.vlad'")
    """
    import shlex

    return shlex.quote(os.fspath(path))


def composed(name: str) -> str:
    r"""A name with composed letters (NFC), by which two spellings of one name are compared.

    File systems of macOS have decomposed ones: two characters for an e with an accent.

    Examples
    --------
    >>> len("Cafe\u0301"), len(composed("Cafe\u0301"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)


def spellings(name: str) -> tuple[str, ...]:
    r"""A name as it is, and with composed and with decomposed letters; see `composed`.

    Examples
    --------
    >>> [len(each) for each in spellings("Cafe\u0301")]
    [5, 4]
    """
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    return tuple(dict.fromkeys([name, *forms]))


def on_disk(path: str) -> str:
    """A path, spelled as on disk where only another spelling of its letters is there."""
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    folder = on_disk(folder) if folder != path else folder
    spelled = (os.path.join(folder, unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))
    return next(filter(os.path.lexists, spelled), path)


def one_line(text: str) -> str:
    r"""A text with control characters escaped: names of files may hold line ends, and more.

    Examples
    --------
    >>> print(one_line("a\nb\u202egpj.exe"))
    a\nb\u202egpj.exe
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def image_key(path: str, seed: int) -> int:
    """Key of an image, 64 bits: BLAKE2b of the seed and the path, its letters composed (NFC).

    Examples
    --------
    >>> image_key("holiday/1.jpg", 0), image_key("holiday/1.jpg", 1)
    (582502454454267757, 12409558755089727090)
    """
    text = f"{seed}\0{composed(path)}".encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
