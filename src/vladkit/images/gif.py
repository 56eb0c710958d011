"""GIF: where its first frame lies on the canvas."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError
from vladkit.images.directory import Parts

__all__ = ["GifFrame", "first_frame"]

_EXTENSION, _FRAME = 0x21, 0x2C
_HEADER: Final = 13


@dataclass(frozen=True, slots=True)
class GifFrame:
    """First frame of a GIF; what it leaves of the canvas is transparent, as viewers have it.

    Parameters
    ----------
    data : bytes
        The file, with a canvas that holds the frame.
    canvas : (int, int)
        Width and height of the canvas in px.
    left, top, width, height : int
        Place and size of the frame in px.
    """

    data: bytes
    canvas: tuple[int, int]
    left: int
    top: int
    width: int
    height: int

    @property
    def is_whole(self) -> bool:
        """Whether the frame covers the canvas."""
        return (self.width, self.height) == self.canvas

    def unpack(self, decode: Callable[[bytes], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Samples (h, w, 4): blue, green, red and opacity; `decode` gives those of a canvas."""
        sample_yxc = decode(self.data)
        h, w, c = sample_yxc.shape
        out_yx4 = np.zeros((h, w, 4), sample_yxc.dtype)
        frame = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        out_yx4[*frame, 3] = 255
        out_yx4[*frame, :c] = sample_yxc[frame]
        return out_yx4


def first_frame(data: bytes) -> GifFrame:
    """Walk the blocks of a GIF up to its first frame; a canvas that is too small grows.

    Raises
    ------
    ImageError
        There is no frame.
    IndexError, struct.error
        The file ends before one.
    """
    at, parts = _HEADER, Parts("GIF", len(data))
    if data[10] & 0x80:  # colours for all frames
        at += 3 << (data[10] & 7) + 1
    while data[at] == _EXTENSION:
        at += 2
        while n_bytes := data[at]:
            parts.add(n_bytes)
            at += 1 + n_bytes
        parts.add(1)
        at += 1
    if data[at] != _FRAME:
        raise ImageError("damaged GIF: no image in it")
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, w, h = struct.unpack_from("<HHHH", data, at + 1)
    canvas = max(width, left + w), max(height, top + h)
    if canvas != (width, height):
        if max(canvas) > 0xFFFF:
            raise ImageError(f"damaged GIF: its first frame ends at {max(canvas)} px")
        data = data[:6] + struct.pack("<HH", *canvas) + data[10:]
    return GifFrame(data, canvas, left, top, w, h)
