"""Thumbnails: images as small JPEG files, for people to look at."""

from __future__ import annotations

from typing import Final

from vladkit.errors import ImageError
from vladkit.images.image import Image

__all__ = ["as_jpeg"]

_QUALITY: Final = 82
"""Quality of JPEG: 320 px take 15 to 25 kB, and no blocks are seen."""


def as_jpeg(image: Image, *, quality: int = _QUALITY) -> bytes:
    """Encode an image as a JPEG file, in colour.

    Parameters
    ----------
    image : Image
    quality : int
        1 to 100.

    Returns
    -------
    bytes

    Raises
    ------
    ImageError
        OpenCV cannot encode it: a side has more than 65,500 px.

    Examples
    --------
    >>> import numpy as np
    >>> gray = Image(np.full((30, 40), 128, np.uint8), width=40, height=30)
    >>> as_jpeg(gray)[:3].hex()
    'ffd8ff'
    """
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    try:
        done, data = cv2.imencode(".jpg", image.rgb_yx3[:, :, ::-1], options)
    except cv2.error as error:
        raise ImageError(f"cannot be encoded as JPEG: {error}") from error
    if not done:
        raise ImageError("cannot be encoded as JPEG")
    return data.tobytes()
