"""Headers of image files: kind, size, orientation, and whether the file is complete.

Read from the bytes alone; no decoder is asked. A file says how many parts it has and where they
are, so every walk over them has a limit (`_Parts`): time and memory grow with the size of the file,
and not with what it says.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vladkit.errors import ImageError

__all__ = ["Header", "image_kind", "read_header"]


@dataclass(frozen=True, slots=True)
class Header:
    """Kind and size of an image file, and the bytes to decode.

    Parameters
    ----------
    kind : str
        Name of the format, such as "JPEG".
    width, height : int
        px as stored, before rotating by ``orientation``.
    data : bytes
        The file without what a decoder should not see (optional chunks of a PNG).
    orientation : int
        EXIF orientation, 1 to 8; 1 is upright.
    sequential : bool
        False for a JPEG that the decoder holds whole, as coefficients: a progressive one, or one
        with a scan for each channel.
    n_scans : int
        Number of times that a JPEG's decoder passes over all pixels.
    largest_tile : int
        Number of pixels of a TIFF's tile, which is decoded whole.
    """

    kind: str
    width: int
    height: int
    data: bytes
    orientation: int = 1
    sequential: bool = True
    n_scans: int = 1
    largest_tile: int = 0


_MOST_PARTS: Final = 200_000
"""Most segments, chunks or directory entries of a file: a PNG of 1 GiB in pieces of 8 kB has
131,072, a TIFF of 10,000 pages some 150,000."""


class _Parts:
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


def image_kind(start: bytes) -> str | None:
    """Name of the format that the first bytes of a file, 64 or more, have; None for no image."""
    return next((kind for pattern, kind, _ in _KINDS if pattern.match(start)), None)


def read_header(data: bytes) -> Header:
    """Recognise and measure an image file, and check that it is complete.

    Raises
    ------
    ImageError
        The data are empty, no image, truncated or damaged, or of a kind that is not supported.
    """
    if not data:
        raise ImageError("empty file")
    for pattern, kind, parse in _KINDS:
        if not pattern.match(data):
            continue
        if parse is None:
            raise ImageError(f"{kind} is not supported: convert it to JPEG or PNG")
        try:
            header = parse(data)
        except (struct.error, IndexError) as error:  # the header itself is truncated
            raise ImageError(f"truncated {kind}: ends within its header") from error
        if header.width < 1 or header.height < 1:
            raise ImageError(f"damaged {kind}: size {header.width}x{header.height}")
        return header
    raise ImageError("not an image that can be decoded")


def _jpeg(data: bytes) -> Header:
    """Walk the segments up to the pixels, then look for the end marker behind them."""
    at, width, height, orientation, sequential, n_channels = 2, 0, 0, 1, True, 1
    parts = _Parts("JPEG", len(data))
    while True:
        filling = _FILLING.match(data, at)
        if not filling:
            if at >= len(data):
                raise ImageError("truncated JPEG: ends within its header")
            raise ImageError("damaged JPEG: a segment does not start where the last one ends")
        at = filling.end() - 1
        marker = data[at + 1]
        (length,) = struct.unpack_from(">H", data, at + 2)
        parts.add(length)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width, n_channels = struct.unpack_from(">HHB", data, at + 5)
            sequential = marker in (0xC0, 0xC1)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:  # start of scan
            sequential = sequential and data[at + 4] == n_channels
            break
        at += 2 + length
    # Only from here on: an embedded thumbnail has an end marker of its own. Within pixels FF is
    # followed by 00 or D0 .. D7, and no valid table between scans holds FF D9. What follows the
    # end (a second image, a film) does not matter.
    if data.find(b"\xff\xd9", at) < 0:
        raise ImageError("truncated JPEG: no end-of-image marker")
    n_scans = 1 if sequential else data.count(b"\xff\xda", at)
    return Header("JPEG", width, height, data, orientation, sequential, n_scans)


def _png(data: bytes) -> Header:
    """Walk all chunks; keep the critical ones, whose checksums must hold.

    Optional chunks are left out of what is decoded: a wrong colour profile makes libpng write to
    stderr, and a gamma chunk must not change the gray of otherwise equal pixels.
    """
    view = memoryview(data)
    kept, begin, at, orientation, kind = [], 0, 8, 1, b""  # begin: of what is kept and not in kept
    width, height = struct.unpack_from(">II", data, 16)
    parts = _Parts("PNG", len(data))
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ImageError("truncated PNG: no IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ImageError("truncated PNG: no IEND chunk")
        parts.add(end - at)
        if kind[:1].isupper():
            if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise ImageError(f"damaged PNG: checksum of {kind.decode('latin1')} differs")
        else:
            kept.append(view[begin:at])
            begin = end
            if kind == b"eXIf":
                orientation = _exif_orientation(data[at + 8 : end - 4])
        at = end
    return Header("PNG", width, height, b"".join([*kept, view[begin:at]]), orientation)


def _webp(data: bytes) -> Header:
    """Read the canvas from the first chunk, then look for an EXIF chunk."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise ImageError(f"truncated WebP: {len(data)} of {size + 8} bytes")
    first = data[12:16]
    if first == b"VP8X":  # 24 bits each, less one
        flags_w, w_h, h = struct.unpack_from("<xxxxHHH", data, 20)
        width, height = (flags_w | (w_h & 0xFF) << 16) + 1, ((w_h >> 8) | h << 8) + 1
    elif first == b"VP8L":  # 14 bits each, less one
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    at, orientation = 12, 1
    parts = _Parts("WebP", len(data))
    while at + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        parts.add(8)
        if kind == b"EXIF":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return Header("WebP", width, height, data, orientation)


def _tiff(data: bytes) -> Header:
    """Walk all pages: their directories and pixels must lie within the file."""
    order = ">" if data[:2] == b"MM" else "<"
    (at,) = struct.unpack_from(order + "I", data, 4)
    first: dict[int, tuple[int, ...]] | None = None
    parts, seen = _Parts("TIFF", len(data)), set[int]()
    while at and at not in seen:
        seen.add(at)
        try:
            page, end = _directory(data, order, at, parts, _OF_TIFF)
            (at,) = struct.unpack_from(order + "I", data, end)
        except struct.error as error:
            raise ImageError("truncated TIFF: a directory lies past the end") from error
        for starts, lengths in ((273, 279), (324, 325)):  # of strips, of tiles
            for start, length in zip(page.get(starts, ()), page.get(lengths, ()), strict=False):
                if start + length > len(data):
                    raise ImageError("truncated TIFF: pixels lie past the end")
        if first is None:
            first = page
    if first is None:
        raise ImageError("damaged TIFF: no image in it")
    width, height, tile_width, tile_height = (
        first.get(tag, (0,))[0] for tag in (256, 257, 322, 323)
    )
    return Header("TIFF", width, height, data, largest_tile=tile_width * tile_height)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", width, height, data)


def _bmp(data: bytes) -> Header:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return Header("BMP", width, abs(height), data)  # height < 0: rows from top to bottom


def _pnm(data: bytes) -> Header:
    gap = rb"(?:\s|#[^\n]*\n)+"
    size = re.compile(rb"P[456]" + gap + rb"(\d{1,9})" + gap + rb"(\d{1,9})\s")
    found = size.match(data, 0, _MOST_PNM_HEADER)
    if not found:
        raise ImageError(f"damaged PNM: no size in its first {_MOST_PNM_HEADER:,} bytes")
    return Header("PNM", int(found[1]), int(found[2]), data)


def _exif_orientation(exif: bytes) -> int:
    """Orientation 1 .. 8 from an EXIF block; 1 where it states none."""
    exif = exif.removeprefix(b"Exif\0\0")  # some WebP writers keep JPEG's prefix
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (at,) = struct.unpack_from(order + "I", exif, 4)
        parts = _Parts("EXIF", len(exif))
        orientation = _directory(exif, order, at, parts, (274,))[0].get(274, (1,))[0]
    except (KeyError, struct.error, ImageError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _directory(
    data: bytes,
    order: str,
    at: int,
    parts: _Parts,
    wanted: tuple[int, ...],
) -> tuple[dict[int, tuple[int, ...]], int]:
    """Wanted whole-number tags of one TIFF directory, and where it ends.

    A tag that is there twice is refused: decoders differ in which of the two they take.
    """
    tags: dict[int, tuple[int, ...]] = {}
    (n_entries,) = struct.unpack_from(order + "H", data, at)
    parts.add(2 + 12 * n_entries, 1 + n_entries)
    for entry in range(at + 2, at + 2 + 12 * n_entries, 12):
        tag, code, count = struct.unpack_from(order + "HHI", data, entry)
        letter = {1: "B", 3: "H", 4: "I"}.get(code)
        if tag in wanted and letter and count:
            if tag in tags:
                raise ImageError(f"damaged TIFF: tag {tag} is there twice")
            values, where = f"{order}{count}{letter}", entry + 8
            if struct.calcsize(values) > 4:
                parts.add(struct.calcsize(values))
                (where,) = struct.unpack_from(order + "I", data, where)
            tags[tag] = struct.unpack_from(values, data, where)
    return tags, at + 2 + 12 * n_entries


_FILLING: Final = re.compile(rb"\xff++")
_MOST_PNM_HEADER: Final = 65536
_OF_TIFF: Final = (256, 257, 273, 279, 322, 323, 324, 325)

# How a file of each kind starts, and what reads its header; None: recognised only to say so.
# AVIF is left out although OpenCV 5 reads it: OpenCV does not set it upright. Plain-text PNM is
# left out because a file that ends within its last number cannot be recognised.
_KINDS: Final[tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], Header] | None], ...]] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _webp),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF", _tiff),
    (re.compile(rb"GIF8[79]a"), "GIF", _gif),
    (re.compile(rb"BM.{12}[\x0c(48@l|]\0\0\0", re.DOTALL), "BMP", _bmp),  # sizes of its header
    (re.compile(rb"P[456][\s#]"), "PNM", _pnm),
    (re.compile(rb"P[123][\s#]"), "plain-text PNM", None),
    (re.compile(rb"II\+\0|MM\0\+"), "BigTIFF", None),
    (re.compile(rb"\0\0\0\x0cjP  "), "JPEG 2000", None),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF", None),
    (re.compile(rb"....ftyp(?:hei[cx]|hevc|mif1|msf1)", re.DOTALL), "HEIC", None),
)
