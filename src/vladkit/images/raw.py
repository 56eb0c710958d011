"""Camera RAW: the largest JPEG that the camera put in.

Of RAW in TIFF (DNG, CR2, NEF, ARW, PEF), RW2, RAF, and CR3, which is boxes (ISO 14496-12) with EXIF
in several TIFFs. What is not documented by its makers is as Laurent Clévy describes CR3
(github.com/lclevy/canon_cr3) and ExifTool's tables list tags of RW2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.boxes import walk_boxes
from vladkit.images.directory import Parts, Tags, read_directory

__all__ = ["RawPreview", "cr3_preview", "raf_preview", "rw2_preview", "tiff_preview"]

_WANTED: Final = frozenset({259, 262, 273, 274, 279, 330, 513, 514, 50706})
_OF_SENSOR: Final = frozenset({32803, 34892})
"""Photometric interpretations of samples as a sensor gives them."""
_MOST_DIRECTORIES: Final = 64

_ORIENTATION: Final = 274
_JPEG_OF_RW2: Final = 46

_OF_CANON: Final = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_PREVIEW: Final = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
"""Kinds of a "uuid" box: Canon's facts within the "moov" of a CR3, and the preview behind it."""
_TO_SAMPLES: Final = (b"mdia", b"minf", b"stbl")
_NO_PREVIEW: Final = "camera RAW without a JPEG preview in it: convert it to JPEG"


@dataclass(frozen=True, slots=True)
class RawPreview:
    """JPEG file within a camera RAW, its EXIF orientation and blocks.

    0 and no blocks are the JPEG's own. ``position`` is a TIFF whose first directory is that of the
    place.
    """

    data: bytes
    orientation: int = 0
    exif: tuple[bytes, ...] = ()
    position: bytes = b""


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
        raise ImageError(_NO_PREVIEW)
    return RawPreview(largest, _orientation(first), (data,))


def rw2_preview(data: bytes) -> RawPreview:
    """Preview of a RW2; ImageError if it holds none, or is damaged."""
    try:
        (at,) = struct.unpack_from("<I", data, 4)
        wanted = frozenset({_JPEG_OF_RW2, _ORIENTATION})
        tags, _ = read_directory(data, "<", at, Parts("RW2", len(data)), wanted)
    except struct.error as error:
        raise ImageError("truncated RW2: its directory lies past the end") from error
    preview = tags.get(_JPEG_OF_RW2, b"")
    if not isinstance(preview, bytes) or not _n_pixels(preview):
        raise ImageError(_NO_PREVIEW)
    return RawPreview(preview, _orientation(tags))


def cr3_preview(data: bytes) -> RawPreview:
    """Preview of a CR3; ImageError if it holds none, or is truncated or damaged."""
    parts = Parts("CR3", 8 * len(data))  # boxes lie within boxes
    found: list[memoryview] = []  # those of the sensor are large, and not copied
    of_canon: dict[bytes, bytes] = {}

    def boxes(at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        return walk_boxes("CR3", data, at, end, parts)

    try:
        for name, begin, end in boxes(0, len(data)):
            if name == b"uuid" and data[begin : begin + 16] == _PREVIEW:
                for inner, b, e in boxes(begin + 24, end):
                    if inner == b"PRVW":
                        (length,) = struct.unpack_from(">I", data, b + 12)
                        found.append(memoryview(data)[b + 16 : min(b + 16 + length, e)])
            for inner, b, e in boxes(begin, end) if name == b"moov" else ():
                if inner == b"uuid" and data[b : b + 16] == _OF_CANON:
                    of_canon |= {kind: data[i:j] for kind, i, j in boxes(b + 16, e)}
                elif inner == b"trak":
                    found += _sample(data, boxes, b, e)
    except struct.error as error:
        raise ImageError("truncated CR3: a box ends too early") from error
    largest = max(found, key=_n_pixels, default=memoryview(b""))
    if not _n_pixels(largest):
        raise ImageError(_NO_PREVIEW)
    facts = of_canon.get(b"CMT1", b"")
    exif = of_canon.get(b"CMT2", b""), facts
    return RawPreview(bytes(largest), _first_orientation(facts), exif, of_canon.get(b"CMT4", b""))


_Walk = Callable[[int, int], Iterator[tuple[bytes, int, int]]]


def _sample(data: bytes, boxes: _Walk, begin: int, end: int) -> list[memoryview]:
    """Bytes of the one sample of a track of a CR3."""
    places = [(begin, end)]
    for wanted in _TO_SAMPLES:
        places = [(b, e) for at in places for name, b, e in boxes(*at) if name == wanted]
    samples = []
    for at in places:
        tables = {name: (b, e) for name, b, e in boxes(*at)}
        if b"stsz" in tables and b"co64" in tables:
            size, count = struct.unpack_from(">II", data, tables[b"stsz"][0] + 4)
            (where,) = struct.unpack_from(">8xQ", data, tables[b"co64"][0])
            if count == 1 and where + size <= len(data):
                samples.append(memoryview(data)[where : where + size])
    return samples


def _first_orientation(facts: bytes) -> int:
    """Orientation that a TIFF's first directory states, or 0."""
    order = ">" if facts[:2] == b"MM" else "<"
    try:
        (at,) = struct.unpack_from(order + "I", facts, 4)
        parts = Parts("CR3", len(facts))
        return _orientation(read_directory(facts, order, at, parts, frozenset({_ORIENTATION}))[0])
    except (struct.error, ImageError):
        return 0


def _orientation(tags: Tags) -> int:
    orientation = tags.get(_ORIENTATION, (0,))[0]
    return orientation if 1 <= orientation <= 8 else 0


def raf_preview(data: bytes) -> RawPreview:
    """Preview of a RAF; ImageError if it holds none."""
    begin, length = struct.unpack_from(">II", data, 84)
    if begin + length > len(data):
        raise ImageError("truncated RAF: its preview lies past the end")
    preview = data[begin : begin + length]
    if not _n_pixels(preview):
        raise ImageError(_NO_PREVIEW)
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


def _n_pixels(jpeg: bytes | memoryview) -> int:
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
