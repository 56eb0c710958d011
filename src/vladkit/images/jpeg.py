"""JPEG: its segments, and whether its scans are whole.

libjpeg decodes whatever is there: where bits are missing or make no sense it fills up with gray,
and says so where Python cannot hear it. So what can be told without decoding is looked at here: the
markers among the pixels, of which only some can be there, and restart markers, of which the file
says how many there are. Other damage among the pixels is not seen.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.directory import Parts
from vladkit.images.orientation import Places

__all__ = ["JpegHeader", "read_jpeg"]

_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")
_RESTARTS: Final = [bytes([0xFF, marker]) for marker in range(0xD0, 0xD8)]
_IMAGE, _END, _SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_CONTENT: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_AMONG_SCANS: Final = frozenset({0x01, 0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
"""Tables, numbers of lines and of restarts, and what applications write."""
_VARIANTS: Final = {0xC3: "lossless coding", 0xC9: "arithmetic coding", 0xCA: "arithmetic coding"}
"""Kinds of a JPEG that a decoder may lack, by their start of frame."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Header of a JPEG.

    Parameters
    ----------
    width, height : int
        px as stored.
    n_channels : int
    sequential : bool
        Whether all pixels are in one scan, from top to bottom.
    n_scans : int
        Number of times that a decoder passes over all pixels.
    variant : str
        Coding that a decoder may lack; empty for others.
    places : Places
        EXIF and XMP.
    """

    width: int
    height: int
    n_channels: int
    sequential: bool
    n_scans: int
    variant: str
    places: Places


@dataclass(frozen=True, slots=True)
class _Frame:
    """Start of a frame; ``sampling_c``: samples across and down of each channel, in 4 bits each."""

    marker: int
    width: int
    height: int
    sampling_c: bytes

    @property
    def n_units(self) -> int:
        """Number of blocks, or groups of them, that a scan of all channels has."""
        across = down = 8
        if len(self.sampling_c) > 1:
            across *= max(1, *(each >> 4 for each in self.sampling_c))
            down *= max(1, *(each & 15 for each in self.sampling_c))
        return -(-self.width // across) * -(-self.height // down)


def read_jpeg(data: bytes) -> JpegHeader:
    """Walk the segments of a JPEG, and its scans, to the end marker.

    Bytes between segments that are no marker are passed over, as libjpeg does. What follows the end
    (a second image, a film) does not matter.

    Raises
    ------
    ImageError
        The file is truncated or damaged, or of a kind that no decoder here reads.
    struct.error, IndexError
        It ends within its header.
    """
    at, frame, interval = 2, _Frame(0, 0, 0, b""), 0
    parts, places = Parts("JPEG", len(data)), Places()
    while True:
        found = _MARKER.search(data, at)
        if not found:
            raise ImageError("truncated JPEG: ends within its header")
        at = found.start()
        marker = data[at + 1]
        if marker in _WITHOUT_CONTENT:
            parts.add(2)
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2 or marker in (_IMAGE, _END):
            raise ImageError("damaged JPEG: a marker in its header does not belong there")
        parts.add(length)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            n_bits, height, width, n_channels = struct.unpack_from(">BHHB", data, at + 4)
            _check_frame(marker, n_bits)
            frame = _Frame(marker, width, height, data[at + 11 : at + 10 + 3 * n_channels : 3])
        elif marker == 0xF7:
            raise ImageError(_unsupported("JPEG-LS"))
        elif marker == 0xE1:
            places.add_app1(data[at + 4 : at + 2 + length])
        elif marker == 0xDD:
            (interval,) = struct.unpack_from(">H", data, at + 4)
        elif marker == _SCAN:
            break
        at += 2 + length
    sequential = frame.marker in (0xC0, 0xC1) and data[at + 4] == len(frame.sampling_c)
    begin = at + 2 + length
    end, n_scans = _scans(data, begin, parts, sequential=sequential)
    if sequential:
        n_restarts = -(-frame.n_units // interval) - 1 if interval else 0
        _check_restarts(data, begin, end, n_restarts)
    variant = _VARIANTS.get(frame.marker, "")
    n_channels = len(frame.sampling_c) or 1
    return JpegHeader(frame.width, frame.height, n_channels, sequential, n_scans, variant, places)


def _scans(data: bytes, at: int, parts: Parts, *, sequential: bool) -> tuple[int, int]:
    """End of the first scan, and number of scans; `at` is where the pixels of the first begin.

    Within pixels FF is followed by 00 or a restart marker. An embedded thumbnail has an end marker
    of its own, and so only those behind the header count.
    """
    n_scans, first_end = 1, 0
    while True:
        found = _END_OF_SCAN.search(data, at)
        if not found:
            raise ImageError("truncated JPEG: no end-of-image marker")
        at = found.start()
        first_end = first_end or at
        marker = data[at + 1]
        if marker == _END:
            return first_end, n_scans
        is_scan = marker == _SCAN and not sequential
        if not is_scan and marker not in _AMONG_SCANS:
            raise ImageError("damaged JPEG: a marker among its pixels does not belong there")
        n_scans += is_scan
        length = 0
        if marker not in _WITHOUT_CONTENT:
            (length,) = struct.unpack_from(">H", data, at + 2)
        parts.add(length)
        at += 2 + length


def _check_restarts(data: bytes, begin: int, end: int, n: int) -> None:
    """Raise ImageError unless pixels have `n` restart markers, in order.

    Some cameras have one more, behind them.
    """
    has_last = data[max(begin, end - 2) : end] in _RESTARTS
    found = _RESTART.findall(data, begin, end - 2 * has_last)
    if len(found) != n or any(_RESTARTS[i % 8] != each for i, each in enumerate(found)):
        raise ImageError("damaged JPEG: restart markers among its pixels are missing, or too many")


def _check_frame(marker: int, n_bits: int) -> None:
    """Raise ImageError for a JPEG that no decoder here reads."""
    if n_bits != 8:
        raise ImageError(_unsupported(f"JPEG of {n_bits} bits"))
    if marker == 0xCB:
        raise ImageError(_unsupported("JPEG with lossless arithmetic coding"))
    if marker > 0xC3 and marker not in (0xC9, 0xCA):
        raise ImageError(_unsupported("hierarchical JPEG"))


def _unsupported(kind: str) -> str:
    return f"{kind} is not supported: convert it to JPEG or PNG"
