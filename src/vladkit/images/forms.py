"""Images in memory, in the forms that people have them: their bytes, as those of a file."""

from __future__ import annotations

import io
from typing import Any, TypeAlias

import numpy as np

from vladkit.core.arrays import AnyArray, as_array, is_made_by
from vladkit.errors import ImageError, ParameterError

__all__ = ["FORMS", "InMemory", "file_data", "is_in_memory"]

InMemory: TypeAlias = bytes | AnyArray | Any
"""Bytes of an image file, such a file opened for reading, pixels (uint8: gray (y, x) or RGB
(y, x, 3)), or an Image of Pillow."""

_DEEP = frozenset({"I", "F", "I;16B", "I;16L", "I;16N"})
_WITH_OPACITY = {"RGBa": "RGBA", "La": "LA", "PA": "RGBA"}
"""Modes of Pillow: of more than 8 bits, and with opacity, with the mode that says the same."""

FORMS = (
    "the bytes of an image file, a file opened with mode 'rb', an array of pixels (uint8: gray "
    "(y, x) or RGB (y, x, 3)), an Image of Pillow"
)
"""Forms of `InMemory`, in the words of a message."""


def is_in_memory(image: object) -> bool:
    """Tell whether that is one image in memory; an array of four axes is several."""
    if isinstance(image, np.ndarray):
        return image.ndim < 4
    is_bytes = isinstance(image, bytes | bytearray | memoryview)
    return is_bytes or hasattr(image, "read") or is_made_by("PIL.Image", "Image", image)


def file_data(image: InMemory) -> bytes | None:
    """Bytes of an image file, of an image in memory; None if it has none of the forms.

    Pixels become a PNG; Pillow's EXIF orientation is applied.

    Raises
    ------
    ImageError
        If the file or the image of Pillow cannot be read.
    ParameterError
        If an array does not hold such pixels, or the file was opened as text.
    InputError
        If pixels are masked.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _png_of_array(as_array(image))
    try:
        if is_made_by("PIL.Image", "Image", image):
            return _png_of_pillow(image)
        data = image.read() if hasattr(image, "read") else None
    except (OSError, ValueError, SyntaxError, SystemError) as error:  # Pillow raises many kinds
        raise ImageError(f"cannot read: {error}", transient=True) from error
    if isinstance(data, str):
        raise ParameterError("image is a file opened as text: open it with mode 'rb'")
    return data if data is None or isinstance(data, bytes) else None


def _png_of_array(pixels: AnyArray) -> bytes:
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    is_image &= pixels.size > 0 and max(pixels.shape) <= 1_000_000  # libpng's limit
    if pixels.dtype != np.uint8 or not is_image:
        raise ParameterError(
            f"image is a {pixels.dtype} array of shape {pixels.shape}: give uint8 pixels, gray "
            "(y, x) or RGB (y, x, 3), at most 1,000,000 a side"
        )
    import cv2

    bgr = np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[:, :, ::-1])
    # level 1: it is decoded again at once
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.tobytes()


def _png_of_pillow(image: Any) -> bytes:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    file = io.BytesIO()
    if upright.mode in _DEEP:  # PNG has no such samples; a TIFF's are read as those of any other
        upright.save(file, "TIFF")
        return file.getvalue()
    if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        upright = upright.convert(_WITH_OPACITY.get(upright.mode, "RGB"))
    upright.save(file, "PNG", compress_level=1)
    return file.getvalue()
