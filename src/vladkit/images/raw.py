"""Camera RAW in TIFF (DNG, CR2, NEF, ARW, PEF) and RAF: the largest JPEG that the camera put in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.directory import Parts, Tags, read_directory

__all__ = ["RawPreview", "raf_preview", "tiff_preview"]

_WANTED: Final = frozenset({259, 262, 273, 274, 279, 330, 513, 514, 50706})
_OF_SENSOR: Final = frozenset({32803, 34892})
"""Photometric interpretations of samples as a sensor gives them."""
_MOST_DIRECTORIES: Final = 64


@dataclass(frozen=True, slots=True)
class RawPreview:
    """JPEG file within a camera RAW, and its EXIF orientation; 0: the JPEG's own."""

    data: bytes
    orientation: int = 0


def tiff_preview(data: bytes) -> RawPreview | None:
    """Preview of a TIFF that is a camera RAW; None for any other TIFF.

    Raises
    ------
    ImageError
        The RAW holds no whole JPEG.
    """
    order = ">" if data[:2] == b"MM" else "<"
    parts = Parts("RAW", len(data))
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        if data[2:4] not in (b"*\0", b"\0*"):  # BigTIFF
            return None
        first, end = read_directory(data, order, at, parts, _WANTED)
        pages = [first, *_within(data, order, first, parts)]
        raw = any(page.get(262, (0,))[0] in _OF_SENSOR for page in pages)
        if not raw and 50706 not in first and data[8:10] != b"CR":
            return None
        while len(pages) < _MOST_DIRECTORIES:
            (at,) = struct.unpack_from(order + "I", data, end)
            if not at:
                break
            page, end = read_directory(data, order, at, parts, _WANTED)
            pages += [page, *_within(data, order, page, parts)]
    except (struct.error, ImageError):  # `read_tiff` says what is wrong
        return None
    previews = [data[b:e] for page in pages for b, e in _jpegs(page) if e <= len(data)]
    largest = max(previews, key=_n_pixels, default=b"")
    if not _n_pixels(largest):
        raise ImageError("camera RAW without a JPEG preview in it: convert it to JPEG")
    orientation = first.get(274, (0,))[0]
    return RawPreview(largest, orientation if 1 <= orientation <= 8 else 0)


def raf_preview(data: bytes) -> RawPreview:
    """Preview of a RAF; ImageError if it holds none."""
    begin, length = struct.unpack_from(">II", data, 84)
    if begin + length > len(data):
        raise ImageError("truncated RAF: its preview lies past the end")
    preview = data[begin : begin + length]
    if not _n_pixels(preview):
        raise ImageError("camera RAW without a JPEG preview in it: convert it to JPEG")
    return RawPreview(preview)


def _within(data: bytes, order: str, page: Tags, parts: Parts) -> Iterator[Tags]:
    """Directories that a directory points to."""
    for at in page.get(330, ())[:_MOST_DIRECTORIES]:
        yield read_directory(data, order, at, parts, _WANTED)[0]


def _jpegs(page: Tags) -> Iterator[tuple[int, int]]:
    """Begin and end of what may be a JPEG file."""
    for starts, lengths in ((513, 514), (273, 279)):
        begin, length = page.get(starts, ()), page.get(lengths, ())
        coded = starts == 513 or page.get(259, (1,))[0] in (6, 7)
        if coded and len(begin) == len(length) == 1:
            yield begin[0], begin[0] + length[0]


def _n_pixels(jpeg: bytes) -> int:
    """Number of px of a JPEG of 8 bits; 0 for anything else, such as lossless ones of a sensor."""
    at = 2
    while jpeg[:3] == b"\xff\xd8\xff" and at + 9 <= len(jpeg):
        marker, length = struct.unpack_from(">HH", jpeg, at)
        if 0xFFC0 <= marker <= 0xFFC2:
            depth, height, width = struct.unpack_from(">BHH", jpeg, at + 4)
            return width * height if depth == 8 else 0
        if not 0xFFC4 <= marker <= 0xFFFE or marker == 0xFFDA:
            break
        at += 2 + length
    return 0
