"""BMP whose pixels are words of 16 or 32 bits: masks say which bits are of which colour.

OpenCV reads masks behind some headers only, and makes white of 5 bits 248 of 255.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError
from vladkit.images.levels import SampleForm

__all__ = ["MaskedPixels", "masked_pixels"]

_MASKS: Final = 3
_MASKS_WITH_ALPHA: Final = 6
"""Kinds of a BMP."""
_DEFAULT: Final = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}
_BLOCK: Final = 1 << 18
"""Pixels that are worked on at a time: some MB."""


@dataclass(frozen=True, slots=True)
class MaskedPixels:
    """Pixels of a BMP that are words of bits.

    Parameters
    ----------
    data : bytes
        The file.
    start : int
        Place of the first row that is stored.
    width, height : int
        px; a height below 0 says that rows go from top to bottom.
    n_bits : int
        Bits of a pixel, 16 or 32.
    masks : tuple of int
        Bits of red, green, blue, and of opacity if there is one.
    """

    data: bytes
    start: int
    width: int
    height: int
    n_bits: int
    masks: tuple[int, ...]

    @property
    def form(self) -> SampleForm:
        """Meaning of the channels."""
        return SampleForm((2, 1, 0), 3 if len(self.masks) == 4 else None)

    def unpack(self, decode: Callable[[bytes], npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
        """Samples (h, w, c) of 8 bits; nothing is decoded for it.

        Raises
        ------
        ImageError
            Pixels lie past the end.
        """
        h, w = abs(self.height), self.width
        stride = (w * self.n_bits + 31) // 32 * 4
        if self.start + h * stride > len(self.data):
            raise ImageError("truncated BMP: pixels lie past the end")
        byte_yb = np.frombuffer(self.data, np.uint8, h * stride, self.start).reshape(h, stride)
        if self.height > 0:
            byte_yb = byte_yb[::-1]
        sample_yxc = np.zeros((h, w, len(self.masks)), np.uint8)
        n_rows = max(1, _BLOCK // w)
        for top in range(0, h, n_rows):
            row_yb = np.ascontiguousarray(byte_yb[top : top + n_rows])
            word_yx = row_yb.view(f"<u{self.n_bits // 8}")[:, :w].astype(np.int64)
            for channel, mask in enumerate(self.masks):
                if mask:
                    unit = mask & -mask
                    most = mask // unit
                    level_yx = ((word_yx & mask) // unit * 255 + most // 2) // most
                    sample_yxc[top : top + n_rows, :, channel] = level_yx
        if self.form.alpha and not sample_yxc[:, :, 3].any():
            sample_yxc[:, :, 3] = 255  # nobody wrote an opacity
        return sample_yxc


def masked_pixels(data: bytes) -> MaskedPixels | None:
    """Pixels of a BMP that OpenCV does not read, or misreads; None where it does well.

    Raises
    ------
    ImageError
        The bits of a mask do not lie side by side, or there are none.
    """
    start, header_size = struct.unpack_from("<II", data, 10)
    if header_size < 40:
        return None
    width, height, _, n_bits, kind = struct.unpack_from("<iiHHI", data, 18)
    if n_bits not in _DEFAULT or kind not in (0, _MASKS, _MASKS_WITH_ALPHA):
        return None
    masks = _DEFAULT[n_bits]
    if kind:  # the same place within a header and behind it
        masks = struct.unpack_from("<III", data, 54)
        if header_size >= 56 or kind == _MASKS_WITH_ALPHA:
            masks += tuple(filter(None, struct.unpack_from("<I", data, 66)))
    if n_bits == 32 and kind != _MASKS_WITH_ALPHA and masks[:3] == _DEFAULT[32]:
        return None
    tops = [mask // (mask & -mask) + 1 for mask in masks if mask]
    if not any(masks[:3]) or any(top & (top - 1) for top in tops):
        raise ImageError("damaged BMP: its masks are none")
    return MaskedPixels(data, start, width, height, n_bits, masks)
