"""Directories of TIFF files and EXIF blocks, and the limit of a walk over the parts of a file."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Final

from vladkit.errors import ImageError

__all__ = ["LETTERS", "NATIVE", "Parts", "Tags", "one", "read_directory", "with_directory"]

Tags = dict[int, "tuple[int, ...] | bytes"]

NATIVE: Final = "<" if sys.byteorder == "little" else ">"
"""Byte order of this machine."""

_MOST_PARTS: Final = 200_000
"""Most segments, chunks or directory entries of a file: a PNG of 1 GiB in pieces of 8 kB has
131,072, a TIFF of 10,000 pages some 150,000."""

LETTERS: Final = {
    1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I",
    16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
"""Types of whole numbers and texts, in the letters of `struct`."""
_SIGNED: Final = frozenset({6, 8, 9, 17})
_FRACTIONS: Final = {5: "I", 10: "i"}
"""Without and with a sign."""
_MOST_FACT: Final = 1024
"""Most letters, or numbers, of a fact about a photograph that are read."""


class Parts:
    """Limit of a walk over the parts of a file: parts that do not overlap fit in it."""

    def __init__(self, kind: str, n_bytes: int) -> None:
        self._kind = kind
        self._n_bytes = n_bytes
        self._n_parts = 0

    def add(self, n_bytes: int, n_parts: int = 1) -> None:
        """Add parts before they are read; ImageError if the file cannot hold them."""
        self._n_bytes -= n_bytes
        self._n_parts += n_parts
        if self._n_bytes < 0:
            raise ImageError(f"damaged {self._kind}: its parts overlap")
        if self._n_parts > _MOST_PARTS:
            raise ImageError(f"damaged {self._kind}: more than {_MOST_PARTS:,} parts")


def read_directory(
    data: bytes,
    order: str,
    at: int,
    parts: Parts,
    wanted: frozenset[int],
    *,
    big: bool = False,
    exif: bool = False,
) -> tuple[Tags, int]:
    """Wanted tags of one directory, whole numbers and texts, and where it ends.

    `big`: of a BigTIFF.

    A tag that is there twice, with two values, is refused: decoders differ in which they take.
    With `exif` also fractions, two numbers each, and at most the first `_MOST_FACT` of all; a tag
    that is damaged or there twice is left out, and the others count.

    Raises
    ------
    ImageError
        A tag is there twice or below zero, or there are more values than the file holds.
    struct.error
        The directory or a value lies past the end.
    """
    tags: Tags = {}
    twice = set()
    size, head, word = (20, "Q", "Q") if big else (12, "H", "I")
    (n_entries,) = struct.unpack_from(order + head, data, at)
    at += struct.calcsize(head)
    if exif:
        n_entries = min(n_entries, max(0, len(data) - at) // size)
    parts.add(2 + size * n_entries, 1 + n_entries)
    for entry in range(at, at + size * n_entries, size):
        tag, code, count = struct.unpack_from(order + "HH" + word, data, entry)
        letter = LETTERS.get(code)
        if exif and code in _FRACTIONS:
            letter, count = _FRACTIONS[code], 2 * count
        if not (tag in wanted and letter and count):
            continue
        n_bytes, where = count * struct.calcsize("=" + letter), entry + size - struct.calcsize(word)
        if n_bytes > struct.calcsize(word):
            (where,) = struct.unpack_from(order + word, data, where)
        if exif:
            if where + n_bytes > len(data):
                continue
            count = min(count, _MOST_FACT)
        if n_bytes > struct.calcsize(word):
            parts.add(count * struct.calcsize("=" + letter))
        found: tuple[int, ...] | bytes
        if letter == "B":  # no million numbers of a long text
            (found,) = struct.unpack_from(f"{count}s", data, where)
        else:
            found = struct.unpack_from(f"{order}{count}{letter}", data, where)
        if code in _SIGNED and min(found) < 0:
            if exif:
                continue
            raise ImageError(f"damaged TIFF: tag {tag} is below zero")
        if tags.setdefault(tag, found) != found:
            twice.add(tag)
    if twice and not exif:
        raise ImageError(f"damaged TIFF: tag {min(twice)} is there twice")
    for tag in twice:
        del tags[tag]
    return tags, at + size * n_entries


def one(page: Tags, tag: int, default: int) -> int:
    """First number of a tag; the default where it is missing."""
    return page.get(tag, (default,))[0]


def with_directory(data: bytes, tags: dict[int, Sequence[int]]) -> bytes:
    """A TIFF of the same pixels, with a directory of its own behind them."""
    at = len(data) + len(data) % 2
    n_bytes = 2 + 12 * len(tags) + 4
    entries, arrays = b"", b""
    for tag, value in sorted(tags.items()):
        try:
            packed = struct.pack(f"{NATIVE}{len(value)}I", *value).ljust(4, b"\0")
        except struct.error as error:
            raise ImageError(f"damaged TIFF: tag {tag} is too large") from error
        if len(value) > 1:
            where = struct.pack(NATIVE + "I", at + n_bytes + len(arrays))
            arrays, packed = arrays + packed, where
        entries += struct.pack(NATIVE + "HHI", tag, 4, len(value)) + packed
    mark = (b"II*\0" if NATIVE == "<" else b"MM\0*") + struct.pack(NATIVE + "I", at)
    head = struct.pack(NATIVE + "H", len(tags)) + entries + bytes(4)
    return b"".join([mark, memoryview(data)[8:], bytes(len(data) % 2), head, arrays])
