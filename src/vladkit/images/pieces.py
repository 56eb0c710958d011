"""Strips and tiles of a TIFF, and whether each can be unpacked.

OpenCV reads 8 bits and fewer as libtiff shows them to people, and so a strip or tile that cannot be
unpacked is black, without an error. So they are tried: those that are packed without loss as rows
of numbers of 16 bits, for which OpenCV reports errors; deflated ones by zlib, which holds their
checksums against them. JPEGs are looked at as JPEG files are. Faxes are not tried: there is no
such way for bits.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.directory import Tags, one, with_directory
from vladkit.images.jpeg import read_jpeg

__all__ = ["DAMAGED", "DEFLATE", "LOSSLESS", "Pieces"]

DAMAGED: Final = "damaged TIFF: a strip or tile cannot be unpacked"
LOSSLESS: Final = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions of bytes, whatever they mean: none, LZW, deflate, PackBits, LZMA, Zstandard."""
DEFLATE: Final = frozenset({8, 32946})
_JPEG: Final = 7
_YCBCR: Final = 6
"""Compression, and photometric interpretation."""

_LONGEST_ROW: Final = 1 << 20
"""Most numbers of a row, and most rows, of an image that OpenCV reads."""
_MOST_BYTES: Final = 1 << 26
"""Bytes that are unpacked at a time, or more if a single piece has more."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Strips or tiles of a page.

    Parameters
    ----------
    data : bytes
        The file.
    page : dict
        Directory of the page.
    """

    data: bytes
    page: Tags

    @property
    def is_sparse(self) -> bool:
        """Whether a piece has no place in the file: GDAL leaves out blank ones if it may."""
        return 0 in self.page.get(324, self.page.get(273, ()))[: self._n]

    def files(self) -> Iterator[bytes]:
        """TIFF files; if each can be decoded, all pieces can be unpacked.

        Pieces without a place or a length are left to libtiff, which finds them, or reports them.

        Raises
        ------
        ImageError
            Pieces overlap, or are too short for pixels that are not packed; deflated bytes are
            damaged; or a JPEG has no end.
        """
        page, compression, n = self.page, one(self.page, 259, 1), self._n
        starts, lengths = (273, 279) if 324 not in page else (324, 325)
        if min(len(page.get(tag, ())) for tag in (starts, lengths)) < n:
            return
        length_n = page[lengths][:n]
        if not all(length_n):
            return
        # some writers keep equal pieces once
        found = list(dict.fromkeys(zip(page[starts], length_n, self._sizes(), strict=False)))
        if sum(length for _, length, _ in found) > 2 * len(self.data):
            raise ImageError("damaged TIFF: its strips or tiles overlap")
        if compression == 1:
            # libtiff believes neither the length of a single strip nor lengths of which the first
            # two differ
            is_believed = n > 1 and (n == 2 or length_n[0] == length_n[1])
            if is_believed and any(length < n_bytes for _, length, n_bytes in found):
                raise ImageError("truncated TIFF: a strip or tile is too short")
        elif compression == _JPEG:
            for at, length, _ in found:
                _check_jpeg(self.data[at : at + length])
        elif compression in DEFLATE and one(page, 266, 1) == 1:
            most = 2 * self._n_bytes(self._height)  # some writers fill the last strip up
            for at, length, n_bytes in found:
                _check_deflated(self.data[at : at + length], n_bytes, most)
        elif compression in LOSSLESS:
            for n_bytes, group in groupby(found, key=lambda each: each[2]):
                yield from self._numbers([each[:2] for each in group], n_bytes)

    @property
    def _n(self) -> int:
        """Number of pieces."""
        return self._n_planes * self._n_across * self._n_down

    @property
    def _n_planes(self) -> int:
        return 1 if one(self.page, 284, 1) == 1 else one(self.page, 277, 1)

    @property
    def _width(self) -> int:
        """Number of px of a row of a piece."""
        return max(1, one(self.page, 322 if 324 in self.page else 256, 1))

    @property
    def _height(self) -> int:
        """Rows of a piece; the last strip may have fewer."""
        h = one(self.page, 257, 1)
        if 324 in self.page:
            return max(1, one(self.page, 323, h))
        return max(1, min(h, one(self.page, 278, h)))

    @property
    def _n_across(self) -> int:
        return -(-one(self.page, 256, 1) // self._width)

    @property
    def _n_down(self) -> int:
        return -(-one(self.page, 257, 1) // self._height)

    def _sizes(self) -> list[int]:
        """Bytes of each piece once unpacked."""
        sizes = [self._n_bytes(self._height)] * (self._n_down * self._n_across)
        if 324 not in self.page:
            sizes[-1] = self._n_bytes(one(self.page, 257, 1) - self._height * (self._n_down - 1))
        return sizes * self._n_planes

    def _n_bytes(self, n_rows: int) -> int:
        n_channels = 1 if self._n_planes > 1 else one(self.page, 277, 1)
        n = self._width * n_channels
        if (
            one(self.page, 262, 1) == _YCBCR and n_channels == 3
        ):  # gray levels and colours of blocks
            across, down = (max(1, side) for side in (*self.page.get(530, ()), 2, 2)[:2])
            n = -(-self._width // across) * (across * down + 2)
            n_rows = -(-n_rows // down)
        return -(-n * one(self.page, 258, 1) // 8) * n_rows

    def _numbers(self, places: list[tuple[int, int]], n_bytes: int) -> Iterator[bytes]:
        """TIFFs of 16 bits, of all bytes but perhaps the last ones of each piece."""
        n_rows = max(1, -(-n_bytes // (2 * _LONGEST_ROW)))
        n_columns = n_bytes // (2 * n_rows)
        if not n_columns:
            return
        step = max(1, min(_MOST_BYTES // n_bytes, _LONGEST_ROW // n_rows))
        for i in range(0, len(places), step):
            bodies = [memoryview(self.data)[at : at + n] for at, n in places[i : i + step]]
            lengths = [len(body) for body in bodies]
            tags: dict[int, Sequence[int]] = {
                256: [n_columns],
                257: [n_rows * len(bodies)],
                258: [16],
                262: [1],
                273: list(accumulate(lengths[:-1], initial=8)),
                277: [1],
                278: [n_rows],
                279: lengths,
            }
            tags |= {tag: self.page[tag] for tag in (259, 266) if tag in self.page}
            yield with_directory(b"".join([bytes(8), *bodies]), tags)


def _check_jpeg(body: bytes) -> None:
    """Raise ImageError if a JPEG has no end, or is damaged as far as that can be told."""
    if b"\xff\xd9" not in body:
        raise ImageError("truncated TIFF: a JPEG in it has no end-of-image marker")
    try:
        read_jpeg(body)
    except (ImageError, struct.error, IndexError) as error:
        raise ImageError(DAMAGED) from error


def _check_deflated(body: bytes, n_bytes: int, most: int) -> None:
    """Raise ImageError if a body has fewer bytes than that, or more and no end, or is damaged."""
    unpacker, n = zlib.decompressobj(), 0
    try:
        while body and n <= most:  # on to the checksum, which is behind the last byte
            n += len(unpacker.decompress(body, min(most + 1 - n, _MOST_BYTES)))
            body = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ImageError(DAMAGED) from error
    if n < n_bytes or (n > n_bytes and not unpacker.eof):
        raise ImageError(DAMAGED)
