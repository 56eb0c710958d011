"""EXIF orientation, from each place where Pillow or OpenCV reads it: EXIF blocks, text, XMP."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.directory import Parts, read_directory
from vladkit.images.exif import EXIF_PREFIX, TIFF_MARKS

__all__ = ["Places", "exif_orientation", "xmp_orientation"]

_MOST_PLACES: Final = 16
"""Most blocks of a file that are looked at: each may take as long as the whole file."""
_MOST_TEXT: Final = 1 << 20
"""Bytes of text that are unpacked: 64 kB of EXIF take 130 kB of hexadecimal digits."""

_IN_XMP: Final = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\b""")
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"


class Places:
    """Places of a file that may state its orientation, each added as it is met."""

    def __init__(self) -> None:
        self._exif: list[bytes] = []
        self._profiles: list[bytes] = []
        self._xmp: list[bytes] = []

    def add_exif(self, block: bytes) -> None:
        """Add an EXIF block, with JPEG's prefix or without."""
        if len(self._exif) < _MOST_PLACES:
            self._exif.append(block)

    def add_xmp(self, text: bytes) -> None:
        """Add an XMP packet."""
        if len(self._xmp) < _MOST_PLACES:
            self._xmp.append(text)

    def add_app1(self, segment: bytes) -> None:
        """Add the content of a JPEG's APP1 segment, EXIF or XMP."""
        if segment.startswith(EXIF_PREFIX):
            self.add_exif(segment)
        elif segment.startswith(_XMP):
            self.add_xmp(segment)

    def add_text(self, kind: bytes, chunk: bytes) -> None:
        """Add a PNG's tEXt, zTXt or iTXt chunk: XMP, or EXIF as ImageMagick writes it."""
        key, _, text = chunk.partition(b"\0")
        is_xmp = key == b"XML:com.adobe.xmp"
        if not is_xmp and key not in (b"Raw profile type exif", b"Raw profile type APP1"):
            return
        if len(self._profiles) + len(self._xmp) >= _MOST_PLACES:
            return
        packed = kind == b"zTXt"
        if kind == b"iTXt":
            packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        elif packed:
            text = text[1:]
        if packed:
            try:
                text = zlib.decompressobj().decompress(text, _MOST_TEXT)
            except zlib.error:
                return
        if is_xmp:
            self._xmp.append(text)
        else:
            self._profiles.append(_from_digits(text))

    def orientation(self) -> int:
        """Orientation 1 .. 8 that the first place states; 1 where none does."""
        return next(filter(None, self._stated()), 1)

    def blocks(self) -> Iterator[bytes]:
        """EXIF blocks, in the order in which they count."""
        if self._exif:
            first, *more = self._exif
            # EXIF of more than 64 kB goes on in further segments of a JPEG
            rest = (block.removeprefix(EXIF_PREFIX) for block in more)
            yield b"".join([first, *(each for each in rest if each[:4] not in TIFF_MARKS)])
            yield from more
        yield from self._profiles

    def _stated(self) -> Iterator[int]:
        yield from map(exif_orientation, self.blocks())
        yield from map(xmp_orientation, self._xmp)


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 .. 8 from an EXIF block; 0 where it states none."""
    while exif.startswith(EXIF_PREFIX):  # some writers keep JPEG's prefix, or write it twice
        exif = exif[len(EXIF_PREFIX) :]
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (at,) = struct.unpack_from(order + "I", exif, 4)
        parts = Parts("EXIF", len(exif))
        tags, _ = read_directory(exif, order, at, parts, frozenset({274}), exif=True)
    except (KeyError, struct.error, ImageError):
        return 0
    orientation = tags.get(274, (0,))[0]
    return orientation if 1 <= orientation <= 8 else 0


def xmp_orientation(text: bytes) -> int:
    """Orientation 1 .. 8 from an XMP packet; 0 where it states none."""
    found = _IN_XMP.search(text)
    return int(found[1]) if found else 0


def _from_digits(text: bytes) -> bytes:
    """Bytes of a raw profile: lines of its name and length, then hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""
