"""JPEG XL by pillow-jxl-plugin (extra ``jxl``): sizes by us from the header, samples by libjxl."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.panics import is_panic
from vladkit.errors import ImageError
from vladkit.images.directory import Parts
from vladkit.images.levels import SampleForm

__all__ = ["JXL_HINT", "JxlHeader", "decode_jxl", "has_jxl", "read_jxl"]

JXL_HINT: Final = "pip install 'vladkit[jxl]'"
"""Command that installs what reads JPEG XL."""

_HEADER: Final = 64
"""Bytes that hold what is read of a codestream's header."""

_RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height, where the header names one."""

_FORMS: Final = {
    "L": SampleForm((0,)),
    "LA": SampleForm((0,), 1),
    "RGB": SampleForm((2, 1, 0)),
    "RGBA": SampleForm((2, 1, 0), 3),
    "I": SampleForm((0,)),
    "F": SampleForm((0,)),
}
"""Meaning of samples, by what the decoder calls them before ``;``."""


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """Header of a JPEG XL file.

    Parameters
    ----------
    width, height : int
        px as stored.
    n_bits : int
        Bits of a sample.
    orientation : int
        EXIF orientation of what `decode_jxl` gives: that of a JPEG; of others libjxl rotates.
    exif : bytes
        Block of EXIF, if there is one that is not compressed.
    """

    width: int
    height: int
    n_bits: int
    orientation: int
    exif: bytes


class _Bits:
    """Numbers of a header, the lowest bit first (ISO 18181-1, 9.2)."""

    def __init__(self, data: bytes) -> None:
        self.number, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, n: int) -> int:
        self.left -= n
        if self.left < 0:
            raise ImageError("truncated JPEG XL: ends within its header")
        value = self.number & ((1 << n) - 1)
        self.number >>= n
        return value

    def one_of(self, *ways: tuple[int, int]) -> int:
        """Number coded in one of four ways, each a least number and the bits that are added."""
        least, n = ways[self.take(2)]
        return least + self.take(n)

    def size(self) -> tuple[int, int]:
        """Width and height of an image."""
        is_small = self.take(1)

        def side() -> int:
            if is_small:
                return 8 * (self.take(5) + 1)
            return self.one_of((1, 9), (1, 13), (1, 18), (1, 30))

        height = side()
        if ratio := self.take(3):
            across, down = _RATIOS[ratio - 1]
            return height * across // down, height
        return side(), height

    def skip_preview(self) -> None:
        """Pass over the size of a preview."""
        small = (16, 0), (32, 0), (1, 5), (33, 9)
        ways = small if self.take(1) else ((1, 6), (65, 8), (321, 10), (1345, 12))
        self.one_of(*ways)
        if not self.take(3):
            self.one_of(*ways)


@cache
def has_jxl() -> bool:
    """Whether pillow-jxl-plugin is installed; it is not imported."""
    return find_spec("pillow_jxl") is not None


def read_jxl(data: bytes) -> JxlHeader:
    """Read the header of a codestream, alone or in boxes (ISO 18181-1 and -2).

    Raises
    ------
    ImageError
        The file is truncated or damaged, moves, or has more channels than colours and opacity:
        libjxl decodes them all.
    """
    stream, exif, is_jpeg = (data, b"", False) if data[:2] == b"\xff\x0a" else _boxed(data)
    if stream[:2] != b"\xff\x0a":
        raise ImageError("damaged JPEG XL: no image in it")
    bits = _Bits(stream[2:_HEADER])
    width, height = bits.size()
    orientation, n_bits, n_extra = 1, 8, 0
    if not bits.take(1):  # not all is as by default
        if bits.take(1):
            orientation = bits.take(3) + 1
            if bits.take(1):
                bits.size()  # at which it is to be shown
            if bits.take(1):
                bits.skip_preview()
            if bits.take(1):
                raise ImageError("animated JPEG XL is not supported: convert it to JPEG or PNG")
        if bits.take(1):  # floats
            n_bits = bits.one_of((32, 0), (16, 0), (24, 0), (1, 6))
            bits.take(4)
        else:
            n_bits = bits.one_of((8, 0), (10, 0), (12, 0), (1, 6))
        bits.take(1)
        n_extra = bits.one_of((0, 0), (1, 0), (2, 4), (1, 12))
    if n_extra > 1:
        raise ImageError(f"JPEG XL of {n_extra} channels beside its colours is not supported")
    return JxlHeader(width, height, n_bits, orientation if is_jpeg else 1, exif)


def _boxed(data: bytes) -> tuple[bytes, bytes, bool]:
    """First bytes of the codestream, EXIF, and whether the file was made from a JPEG."""
    parts = Parts("JPEG XL", len(data))
    stream, exif, is_jpeg, at = b"", b"", False, 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        end = at + size if size else len(data)
        if end < begin or end > len(data):
            raise ImageError(f"truncated JPEG XL: {len(data)} of {end} bytes")
        parts.add(end - at)
        if kind == b"jxlc" and not stream:
            stream = data[begin : min(end, begin + _HEADER)]
        elif kind == b"jxlp" and len(stream) < _HEADER:  # in parts, each after its number
            stream += data[begin + 4 : min(end, begin + 4 + _HEADER)]
        elif kind == b"Exif" and not exif:
            block = data[begin:end]  # some writers leave out where it begins
            is_bare = block[:4] in (b"MM\0*", b"II*\0")
            exif = block if is_bare else block[4 + int.from_bytes(block[:4]) :]
        is_jpeg |= kind == b"jbrd"
        at = end
    return stream, exif, is_jpeg


def decode_jxl(data: bytes) -> bytes | tuple[npt.NDArray[Any], SampleForm]:
    """Samples (h, w, c) of the first frame, and what they mean; the JPEG if it was made from one.

    Raises
    ------
    ImageError
        pillow-jxl-plugin is not installed, or cannot read the file.
    """
    try:
        from pillow_jxl import Decoder
    except ImportError as error:
        raise ImageError(f"JPEG XL needs pillow-jxl-plugin: {JXL_HINT}", transient=True) from error
    try:
        is_jpeg, about, content, *_ = Decoder(num_threads=0)(data)
    except MemoryError as error:
        raise ImageError("not enough memory to decode it", transient=True) from error
    except BaseException as error:  # RuntimeError of many lines, or a panic of Rust's
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if "ut of memory" in str(error):
            raise ImageError("not enough memory to decode it", transient=True) from error
        raise ImageError("JPEG XL cannot be decoded: cut short or damaged") from error
    if is_jpeg:
        return bytes(content)
    if read_jxl(data).orientation != 1:  # libjxl has rotated what it was not to decode
        raise ImageError("damaged JPEG XL: the JPEG in it cannot be put together")
    kind = about.mode.partition(";")[0]
    form = _FORMS.get(kind, SampleForm())
    shape = about.height, about.width, len(form.colors) + (form.alpha is not None)
    n_bytes, rest = divmod(len(content), max(1, shape[0] * shape[1] * shape[2]))
    if not form.colors or rest or n_bytes not in ((2, 4) if kind == "F" else (1, 2)):
        raise ImageError(f"JPEG XL of kind {about.mode!r} is not supported: convert it to PNG")
    dtype = f"{'f' if kind == 'F' else 'u'}{n_bytes}"
    return np.frombuffer(content, dtype).reshape(shape), form
