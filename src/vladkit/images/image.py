"""`Image`: decoded pixels, gray or RGB, with the size of the image that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vladkit.errors import ShapeError
from vladkit.images.exif import UNKNOWN, Photo
from vladkit.images.region import Region

__all__ = ["Image"]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Pixels, gray or RGB, with the size of the image that they come from.

    Parameters
    ----------
    pixels : uint8 array (height, width) or (height, width, 3)
        The decoded image, upright; smaller than the original where that was asked for. Three
        channels are red, green and blue.
    width, height : int
        Size of the original image in px, upright (after EXIF orientation).
    scale_x, scale_y : float, default=1.0
        Original px per px of ``pixels``. A point ``x`` of ``pixels`` lies at
        ``(x + 0.5) * scale_x - 0.5`` in the original; both count from the centre of the top-left
        pixel.
    region : Region or None
        The part of a larger image that this is, if it is one; "the original" above then means
        that part.
    whole : (int, int) or None
        Width and height of that larger image.
    photo : Photo
        Date, position and camera, by EXIF.

    Raises
    ------
    ShapeError
        ``pixels`` is not uint8 of such a shape.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.zeros((480, 640), np.uint8), width=1280, height=960, scale_x=2, scale_y=2)
    >>> image
    Image(640x480 px, from 1280x960 px)
    >>> image.is_color, image.rgb_yx3.shape
    (False, (480, 640, 3))
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    region: Region | None = None
    whole: tuple[int, int] | None = None
    photo: Photo = UNKNOWN

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
            raise ShapeError(
                f"pixels is {self.pixels.dtype} {shape}: "
                "give uint8 of rows and columns (gray), or of rows, columns and 3 channels (RGB)"
            )

    def __repr__(self) -> str:
        h, w = self.pixels.shape[:2]
        return f"Image({w}x{h} px, from {self.width}x{self.height} px)"

    @property
    def is_color(self) -> bool:
        """Whether the pixels are RGB, also where all are gray."""
        return self.pixels.ndim == 3

    @property
    def gray_yx(self) -> npt.NDArray[np.uint8]:
        """Gray levels (height, width), uint8; computed from RGB at each access.

        Gray of RGB pixels may differ by 1 or 2 from the gray that a decoder makes of the same file.
        """
        if not self.is_color:
            return self.pixels
        import cv2

        gray: Any = cv2.cvtColor(np.ascontiguousarray(self.pixels), cv2.COLOR_RGB2GRAY)
        return np.asarray(gray)

    @property
    def rgb_yx3(self) -> npt.NDArray[np.uint8]:
        """RGB (height, width, 3), uint8; gray pixels have three equal channels."""
        return self.pixels if self.is_color else np.repeat(self.pixels[:, :, None], 3, axis=2)
