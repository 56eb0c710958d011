"""Images to draw: given as a file, as `Image` or as pixels, with px of the original."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import FloatArray
from vladkit.core.remote import without_query
from vladkit.errors import ImageError, ParameterError, ShapeError
from vladkit.images import Image, Region, decode_image, read_bytes
from vladkit.images.forms import FORMS, InMemory, file_data

__all__ = ["ShownImage", "Source", "load_image", "printable", "shorten", "try_load_image"]

Source: TypeAlias = str | os.PathLike[str] | Image | InMemory
"""An image to draw: a file, pixels with the size of their original, or an image in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownImage:
    """Pixels to draw, and their place in the original image.

    Parameters
    ----------
    rgb_yx3 : uint8 array (height, width, 3)
        Pixels, reduced to the size that is drawn.
    part : Region
        Part of the original that they show; mostly all of it.
    name : str
        Name of the file without its folder; empty if there is none.
    """

    rgb_yx3: npt.NDArray[np.uint8]
    part: Region
    name: str = ""

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge in px of the original, y down."""
        left, top = self.part.left - 0.5, self.part.top - 0.5
        return left, left + self.part.width, top + self.part.height, top

    def cut(self, region: Region) -> Region:
        """The shown part of a region of the original.

        Raises
        ------
        ParameterError
            If nothing of it is shown.
        """
        end_x, end_y = self.part.left + self.part.width, self.part.top + self.part.height
        seen = region.within(end_x, end_y)
        left, top = max(seen.left, self.part.left), max(seen.top, self.part.top)
        w, h = seen.left + seen.width - left, seen.top + seen.height - top
        if min(w, h) < 1:
            raise ParameterError(f"region {region} is outside of {self.part}, which is shown")
        return Region(left, top, w, h)

    def check_inside(self, xy_m2: FloatArray, what: str) -> None:
        """Raise ParameterError if a point (px of the original) lies more than 1 px outside."""
        if not len(xy_m2):
            return
        left, right, bottom, top = self.extent
        low_2, high_2 = xy_m2.min(axis=0), xy_m2.max(axis=0)
        inside = (low_2 >= (left - 1, top - 1)).all() and (high_2 <= (right + 1, bottom + 1)).all()
        if not inside:
            raise ParameterError(
                f"points of the {what} reach from {low_2.round(1).tolist()} to "
                f"{high_2.round(1).tolist()}, the image shows {self.part.width}x"
                f"{self.part.height} px from {self.part.left},{self.part.top}: give the image "
                "that was matched; of pixels that were reduced, an Image with the original's "
                "size"
            )


def load_image(source: Source, what: str, max_side: int) -> ShownImage:
    """Read an image to draw it, at most `max_side` px a side.

    Raises
    ------
    ImageError
        If the file cannot be used; the message has its name.
    ShapeError
        If an array is not uint8 of (height, width, 3) or (height, width).
    ParameterError
        If `source` is something else.
    """
    shown = try_load_image(source, what, max_side)
    if isinstance(shown, ImageError):
        name = (
            f" {without_query(os.fspath(source))}" if isinstance(source, (str, os.PathLike)) else ""
        )
        raise ImageError(f"{what}{name}: {shown.reason}", transient=shown.transient) from shown
    return shown


def try_load_image(source: Source, what: str, max_side: int) -> ShownImage | ImageError:
    """Read an image like `load_image`, or return the error of a file that cannot be used."""
    name, data = "", None
    try:
        if isinstance(source, (str, os.PathLike)):
            name, data = os.path.basename(os.fspath(source)), read_bytes(source)
        elif not isinstance(source, Image | np.ndarray):
            data = file_data(source)
        if data is not None:
            image = decode_image(data, max_side=max_side, color=True, longest=True)
            return ShownImage(image.rgb_yx3, _part(image), name)
    except ImageError as error:
        return error
    if isinstance(source, Image):
        return ShownImage(_reduced(source.rgb_yx3, max_side), _part(source))
    if not isinstance(source, np.ndarray):
        raise ParameterError(
            f"the {what} is a {type(source).__name__}: give a path, an Image (see "
            f"vladkit.images.read_image), {FORMS}"
        )
    shape = source.shape
    if source.dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise ShapeError(
            f"the {what} is an array of {source.dtype} {shape}: give uint8 pixels (height, width, "
            "3), red first, or gray ones (height, width)"
        )
    if 0 in shape:
        raise ShapeError(f"the {what} is an array of {shape}: there are no pixels in it")
    rgb_yx3 = source if source.ndim == 3 else np.repeat(source[:, :, None], 3, axis=2)
    return ShownImage(_reduced(rgb_yx3, max_side), Region(0, 0, shape[1], shape[0]))


def _part(image: Image) -> Region:
    return image.region or Region(0, 0, image.width, image.height)


def _reduced(rgb_yx3: npt.NDArray[np.uint8], max_side: int) -> npt.NDArray[np.uint8]:
    h, w, _ = rgb_yx3.shape
    if max(h, w) <= max_side:
        return rgb_yx3
    import cv2

    by = max(h, w) / max_side
    size = max(1, round(w / by)), max(1, round(h / by))
    small: Any = cv2.resize(np.ascontiguousarray(rgb_yx3), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small)


def printable(name: str) -> str:
    """The name of a file as one line of text; unprintable characters become U+FFFD."""
    return "".join(" " if c.isspace() else c if c.isprintable() else "\ufffd" for c in name)


def shorten(text: str, most: int) -> str:
    """A text of at most `most` characters, shortened in the middle: names differ at their ends."""
    most = max(most, 5)
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}\u2026{text[-end:]}"
