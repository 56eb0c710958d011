"""TIFF files: pages and sizes, and samples that OpenCV does not read.

OpenCV reads TIFF of 8 bits, and of some other kinds. All else that is compressed without loss goes
through OpenCV too, which unpacks it as rows of numbers of 16 bits, by a directory written here;
what the numbers mean is settled here: depth, byte order, sign, channels, and differences between
neighbours.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError
from vladkit.images.directory import LETTERS, Parts, Tags, one, read_directory, with_directory
from vladkit.images.levels import SampleForm
from vladkit.images.orientation import xmp_orientation
from vladkit.images.pieces import DEFLATE, LOSSLESS, Pieces

__all__ = ["PackedSamples", "Tiff", "read_tiff"]

_WANTED: Final = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320}
    | {322, 323, 324, 325, 338, 339, 530, 700, 42113}
)
_READ: Final = LOSSLESS | {2, 3, 4, 6, 7, 32771, 32809, 34676, 34677}
"""Compressions that OpenCV reads in some build; others it gives as black, without an error."""
_OLD_JPEG, _JPEG = 6, 7
_LACKED: Final = {
    _OLD_JPEG: "old JPEG", _JPEG: "JPEG", 32809: "ThunderScan", 34676: "SGI Log", 34677: "SGI Log",
    34925: "LZMA", 50000: "Zstandard",
}  # fmt: skip
"""Compressions that OpenCV lacks in some build."""
_UNREAD: Final = {
    9: "JBIG", 10: "JBIG", 34661: "JBIG", 34887: "LERC", 34892: "JPEG of DNG",
    33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
    50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip
_PALETTE: Final = 3
"""Photometric interpretation."""
_KINDS: Final = {1: "u", 2: "i", 3: "f"}


@dataclass(frozen=True, slots=True)
class PackedSamples:
    """Samples of a page that OpenCV unpacks but does not read.

    Parameters
    ----------
    data : bytes
        The file.
    page : dict
        Directory of the page.
    order : str
        Byte order of the file, "<" or ">".
    form : SampleForm
        Meaning of the channels.
    """

    data: bytes
    page: Tags
    order: str
    form: SampleForm

    @property
    def n_bytes(self) -> int:
        """Bytes of a pixel once unpacked."""
        bits = one(self.page, 258, 1)
        n_colors = 4 if one(self.page, 262, 1) == _PALETTE else 0
        return one(self.page, 277, 1) * (2 if bits % 8 else bits // 8) + n_colors

    @property
    def in_bytes(self) -> bool:
        """Whether OpenCV unpacks them as numbers of 8 bits: rows have an odd number of bytes."""
        return self._row % 2 == 1

    @property
    def _row(self) -> int:
        """Bytes of a row of a strip or tile."""
        page = self.page
        n = one(page, 277, 1) if one(page, 284, 1) == 1 else 1
        return -(-max(1, one(page, 322, one(page, 256, 1))) * n * one(page, 258, 1) // 8)

    def unpack(self, decode: Callable[[bytes], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Samples (h, w, c); `decode` gives the numbers (h, w) of a gray TIFF."""
        page = self.page
        w, h, n_channels = (one(page, tag, 1) for tag in (256, 257, 277))
        tile_w, tile_h = max(1, one(page, 322, w)), max(1, one(page, 323, h))
        across = -(-w // tile_w)
        if one(page, 284, 1) == 1:
            planes = [slice(None)]
        else:  # a channel after the other
            tall = tile_h if 324 in page else min(h, one(page, 278, h))
            n = across * -(-h // max(1, tall))
            last = min(max(*self.form.colors, self.form.alpha or 0), n_channels - 1)
            planes = [slice(i * n, (i + 1) * n) for i in range(last + 1)]
            n_channels = 1
        parts = []
        for plane in planes:
            row, unit = self._row, 1 if self.in_bytes else 2
            tags: dict[int, Sequence[int]] = {
                256: [row // unit * across],
                257: [h],
                258: [8 * unit],
                262: [1],
                277: [1],
            }
            if 324 in page:
                tags |= {322: [row // unit], 323: [tile_h]}
            tags |= {tag: page[tag] for tag in (259, 266, 278) if tag in page}
            tags |= {tag: page[tag][plane] for tag in (273, 279, 324, 325) if tag in page}
            number_yx = decode(with_directory(self.data, tags))
            if number_yx.shape != (h, row // unit * across):
                raise ImageError("damaged TIFF: its pixels are not those that it states")
            byte_yx = np.ascontiguousarray(number_yx).view(np.uint8)
            sample_yxc = self._samples(byte_yx.reshape(h, across, row), tile_w, n_channels)
            parts.append(sample_yxc.reshape(h, across * tile_w, n_channels)[:, :w])
        if one(page, 262, 1) == _PALETTE:
            return self._colors(parts[0])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _colors(self, index_yx1: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Colours of a palette, and opacity if one of them is none."""
        color_3n = np.array(list(self.page[320]), np.uint64).reshape(3, -1)
        if color_3n.max() > 255:  # some writers have 8 bits of them
            color_3n = np.minimum(color_3n * 255 // 65535, 255)
        color_nc = color_3n.T.astype(np.uint8)
        nothing = _nothing(self.page)
        if nothing is not None:
            opacity_n = np.where(np.arange(len(color_nc)) == nothing, 0, 255)
            color_nc = np.column_stack([color_nc, opacity_n.astype(np.uint8)])
        color_yxc: npt.NDArray[np.uint8] = color_nc[index_yx1[:, :, 0]]
        return color_yxc

    def _samples(
        self, byte_yxb: npt.NDArray[np.uint8], tile_w: int, n_channels: int
    ) -> npt.NDArray[Any]:
        """Samples (h, across, tile_w, c) of rows of bytes."""
        h, across, _ = byte_yxb.shape
        bits, predictor = one(self.page, 258, 1), _predictor(self.page)
        shape = h, across, tile_w, n_channels
        if bits % 8:
            return _unpack_bits(byte_yxb, bits, tile_w * n_channels).reshape(shape)
        size, kind = bits // 8, _KINDS[one(self.page, 339, 1)]
        if predictor == 3:  # bytes of floats, the highest of all first, as differences
            step_yxbc = byte_yxb.reshape(h, across, -1, n_channels)
            np.cumsum(step_yxbc, axis=2, dtype=np.uint8, out=step_yxbc)
            byte_yxb = step_yxbc.reshape(h, across, size, -1).swapaxes(2, 3)
            number = np.ascontiguousarray(byte_yxb).view(f">u{size}")
        else:
            number = byte_yxb.view(f"{self.order}u{size}")
        number = number.astype(f"u{size}", copy=False).reshape(shape)
        if predictor == 2:  # differences to the neighbour
            np.cumsum(number, axis=2, dtype=number.dtype, out=number)
        return number.view(f"{kind}{size}")


@dataclass(frozen=True, slots=True)
class Tiff:
    """Header of a TIFF: its first page of full resolution.

    Parameters
    ----------
    width, height : int
        px as stored.
    data : bytes
        A file whose first page is that one.
    orientation : int
        EXIF orientation; the data say that there is none.
    largest_tile : int
        Number of pixels of a tile, which is decoded whole.
    packed : PackedSamples or None
        Samples that OpenCV does not read.
    form : SampleForm or None
        Meaning of the samples, packed or as OpenCV gives them all; None: its gray levels and
        colours are right.
    pieces : Pieces or None
        Strips or tiles whose damage OpenCV passes over.
    variant : str
        Compression that OpenCV may lack; empty for others.
    """

    width: int
    height: int
    data: bytes
    orientation: int
    largest_tile: int
    packed: PackedSamples | None
    form: SampleForm | None
    pieces: Pieces | None
    variant: str


def read_tiff(data: bytes) -> Tiff:
    """Walk all pages: their directories and pixels must lie within the file."""
    order, big = ">" if data[:2] == b"MM" else "<", data[2:4] in (b"+\0", b"\0+")
    word, where = ("Q", 8) if big else ("I", 4)
    (at,) = struct.unpack_from(order + word, data, where)
    start, chosen, chosen_at = at, None, 0
    parts, seen = Parts("TIFF", len(data)), set[int]()
    while at and at not in seen:
        seen.add(at)
        try:
            page, end = read_directory(data, order, at, parts, _WANTED, big=big)
            (following,) = struct.unpack_from(order + word, data, end)
        except struct.error as error:
            raise ImageError("truncated TIFF: a directory lies past the end") from error
        for starts, lengths in ((273, 279), (324, 325)):  # of strips, of tiles
            for begin, length in zip(page.get(starts, ()), page.get(lengths, ()), strict=False):
                if begin + length > len(data):
                    raise ImageError("truncated TIFF: pixels lie past the end")
        if chosen is None or (_is_reduced(chosen) and not _is_reduced(page)):
            chosen, chosen_at = page, at
        at = following
    if chosen is None:
        raise ImageError("damaged TIFF: no image in it")
    if chosen_at != start:
        data = _replaced(data, where, struct.pack(order + word, chosen_at))
    compression = one(chosen, 259, 1)
    if compression not in _READ:
        name = f", {_UNREAD[compression]}" if compression in _UNREAD else ""
        raise ImageError(f"TIFF of compression {compression} is not supported{name}")
    form = _packed_form(chosen)
    packed = PackedSamples(data, chosen, order, form) if form else None
    if compression == _JPEG and _is_transparent(chosen):
        form = SampleForm(premultiplied=True)  # as libtiff gives them, whatever they were
    elif compression in (_OLD_JPEG, _JPEG) and {1, 2} & set(chosen.get(338, ())):
        # libtiff gives the gray levels alone, which may be anything where they are not seen
        raise ImageError("TIFF of JPEG with opacity is supported for three colours alone")
    pieces = Pieces(data, chosen)
    if pieces.is_sparse and compression != _OLD_JPEG:  # which has other places, too
        raise ImageError("TIFF without all of its strips or tiles (sparse) is not supported")
    is_tried = not packed or packed.in_bytes or compression in DEFLATE
    orientation = one(chosen, 274, 0)
    if 1 <= orientation <= 8:
        data = _set_upright(data, order, chosen_at, big)
    else:
        orientation = xmp_orientation(_bytes(chosen, 700)) or 1
    width, height, tile_w, tile_h = (one(chosen, tag, 0) for tag in (256, 257, 322, 323))
    lacked = f"{_LACKED[compression]} compression" if compression in _LACKED else ""
    tried = pieces if is_tried else None
    return Tiff(width, height, data, orientation, tile_w * tile_h, packed, form, tried, lacked)


def _set_upright(data: bytes, order: str, at: int, big: bool) -> bytes:
    """The file with orientation 1: OpenCV rotates each tile by itself."""
    head, size, word = ("Q", 20, 8) if big else ("H", 12, 4)
    (n_entries,) = struct.unpack_from(order + head, data, at)
    at += struct.calcsize(head)
    for entry in range(at, at + size * n_entries, size):
        tag, code = struct.unpack_from(order + "HH", data, entry)
        if tag == 274:
            upright = struct.pack(order + LETTERS.get(code, "I"), 1)
            where = entry + size - word
            return data if data.startswith(upright, where) else _replaced(data, where, upright)
    return data


def _replaced(data: bytes, at: int, part: bytes) -> bytes:
    return b"".join([memoryview(data)[:at], part, memoryview(data)[at + len(part) :]])


def _is_reduced(page: Tags) -> bool:
    """Whether a page is a smaller copy of another, or a mask."""
    return bool(one(page, 254, 0) & 5) or one(page, 255, 1) == 2


def _is_transparent(page: Tags) -> bool:
    """Whether samples of 8 bits are three colours and opacity."""
    extra = page.get(338, ())
    return one(page, 277, 1) == 4 and len(extra) == 1 and extra[0] in (1, 2)


def _packed_form(page: Tags) -> SampleForm | None:
    """Meaning of samples that OpenCV does not read, or misreads; None where it does well."""
    n_channels, photometric = one(page, 277, 1), one(page, 262, 1)
    bits, kind = set(page.get(258, (1,))), set(page.get(339, (1,)))
    extra = page.get(338, ())
    n_before = n_channels - len(extra)
    alpha, kind_of_alpha = next(
        ((n_before + i, each) for i, each in enumerate(extra) if each in (1, 2)), (None, 0)
    )
    if len(bits) > 1 or len(kind) > 1 or not kind <= _KINDS.keys():
        return None
    (depth,) = bits
    nothing = _nothing(page)
    # OpenCV refuses some sizes of tiles as they are
    usual = nothing is None and kind == {1} and not (322 in page and one(page, 259, 1) == 1)
    if depth % 8:
        possible = 1 <= depth <= 15 and kind == {1} and _predictor(page) == 1
    else:
        possible = depth in (16, 32, 64) or (depth == 8 and 3 not in kind)
    possible = possible and one(page, 259, 1) in LOSSLESS
    if photometric == _PALETTE:
        possible = possible and n_channels == 1 and kind == {1}
        if (usual and depth in (1, 4, 8)) or not possible or len(page.get(320, ())) != 3 * 2**depth:
            return None
        return SampleForm((2, 1, 0), None if nothing is None else 3)
    usual = usual and depth in (1, 8) and alpha is None and n_channels in (1, 3, 4)
    if depth == 8 and n_channels > 1 and photometric <= 1:
        usual = False  # OpenCV takes one band of several gray ones
    if usual or not possible or n_channels < 1 or photometric > 2:
        return None
    colored = n_channels >= 3 and (alpha is None or alpha >= 3)
    return SampleForm(
        (2, 1, 0) if colored else (0,),
        alpha if alpha is None or 0 < alpha < n_channels else None,
        premultiplied=kind_of_alpha == 1,
        white_is_zero=photometric == 0,
        most=2**depth - 1 if depth % 8 else 0,
        transparent=nothing,
    )


def _predictor(page: Tags) -> int:
    """Which differences samples are; 1: none, also where libtiff passes over the tag."""
    return 1 if one(page, 259, 1) in (1, 32773) else one(page, 317, 1)


def _nothing(page: Tags) -> float | None:
    """Number of samples that are none, as GDAL writes it."""
    text = _bytes(page, 42113).split(b"\0")[0].strip()
    try:
        number = float(text)
    except ValueError:
        return None
    if math.isnan(number):  # which is none anyway
        return None
    return int(text) if text.lstrip(b"+-").isdigit() else number


def _bytes(page: Tags, tag: int) -> bytes:
    """Bytes of a text; empty where it is missing, or is none."""
    value = page.get(tag, b"")
    return value if isinstance(value, bytes) else b""


def _unpack_bits(byte_yxb: npt.NDArray[np.uint8], bits: int, n: int) -> npt.NDArray[np.uint16]:
    """Whole numbers of few bits (h, across, n), the highest bit first."""
    h, across, row = byte_yxb.shape
    out = np.zeros((h, across, n), np.uint16)
    weight_b = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    n_rows = max(1, (1 << 18) // (across * row))
    for top in range(0, h, n_rows):
        bit = np.unpackbits(byte_yxb[top : top + n_rows], axis=2)[:, :, : n * bits]
        out[top : top + n_rows] = bit.reshape(*bit.shape[:2], n, bits) @ weight_b
    return out
