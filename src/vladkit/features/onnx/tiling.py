"""Images on canvases of the sizes that a network takes, and points back to the image.

Coordinates count from the centre of the top-left px. A px x of a canvas lies at
``(x + left + 0.5) * scale - 0.5`` in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array
from vladkit.features.onnx.spec import InputSpec

__all__ = ["Canvas", "canvases", "enlarged"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Pixels that a network is given, and the part of them that stands for the image.

    Parameters
    ----------
    pixels : uint8 array (y, x) or (y, x, 3)
    scale_x, scale_y : float
        Size of a px of the canvas in px of the image.
    left, top : int
        Offset of the canvas's corner from the image's, in px of the canvas.
    begin, end : (float, float)
        Corners, x and y, of the part that belongs to this canvas, `end` excluded; points outside
        are on filling, or belong to a neighbouring tile.
    """

    pixels: Pixels
    scale_x: float
    scale_y: float
    left: int
    top: int
    begin: tuple[float, float]
    end: tuple[float, float]

    def owns(self, xy_l2: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Whether each point belongs to this canvas, (l,)."""
        inside_l2 = (xy_l2 >= np.array(self.begin)) & (xy_l2 < np.array(self.end))
        return np.asarray(inside_l2.all(axis=1))

    def in_image(self, xy_l2: npt.NDArray[Any]) -> Float32Array:
        """Coordinates of points of the canvas in px of the image, (l, 2)."""
        corner_2 = np.array([self.left, self.top], np.float64)
        scale_2 = np.array([self.scale_x, self.scale_y], np.float64)
        return np.asarray((xy_l2 + corner_2 + 0.5) * scale_2 - 0.5, np.float32)


def enlarged(pixels: Pixels, side: int) -> Pixels:
    """Enlarge an image whose longest side is shorter than `side` px."""
    h, w = pixels.shape[:2]
    if max(h, w) >= side:
        return pixels
    factor = side / max(h, w)
    return _resized(pixels, round(w * factor), round(h * factor))


def canvases(pixels: Pixels, spec: InputSpec) -> list[Canvas]:
    """Cut or fit an image to canvases: one, or several tiles row by row."""
    h, w = pixels.shape[:2]
    if not spec.width:
        if spec.fit == "pad":
            size = _up(w, spec.multiple), _up(h, spec.multiple)
            return [_filled(pixels, *size, 1.0, 1.0)]
        size = _down(w, spec.multiple), _down(h, spec.multiple)
        return [_filled(_resized(pixels, *size), *size, w / size[0], h / size[1])]
    if spec.fit == "tiles":
        return _tiles(pixels, spec)
    if spec.fit == "stretch":
        size = spec.width, spec.height
        return [_filled(_resized(pixels, *size), *size, w / size[0], h / size[1])]
    if spec.fit == "crop":
        return [_middle(pixels, spec)]
    factor = min(spec.width / w, spec.height / h, 1)
    size = max(1, round(w * factor)), max(1, round(h * factor))
    small = _resized(pixels, *size)
    return [_filled(small, spec.width, spec.height, w / size[0], h / size[1])]


def _middle(pixels: Pixels, spec: InputSpec) -> Canvas:
    """The middle of an image of the aspect that is wanted, as large as fits."""
    h, w = pixels.shape[:2]
    factor = max(spec.width / w, spec.height / h)
    size = max(spec.width, round(w * factor)), max(spec.height, round(h * factor))
    left, top = (size[0] - spec.width) // 2, (size[1] - spec.height) // 2
    part = _resized(pixels, *size)[top : top + spec.height, left : left + spec.width]
    end = spec.width - 0.5, spec.height - 0.5
    return Canvas(part, w / size[0], h / size[1], left, top, (-0.5, -0.5), end)


def _tiles(pixels: Pixels, spec: InputSpec) -> list[Canvas]:
    h, w = pixels.shape[:2]
    found = []
    for top, y_begin, y_end in _spans(h, spec.height, spec.overlap):
        for left, x_begin, x_end in _spans(w, spec.width, spec.overlap):
            tile = pixels[top : top + spec.height, left : left + spec.width]
            begin = x_begin - left, y_begin - top
            end = x_end - left, y_end - top
            canvas = _continued(tile, spec.width, spec.height)
            found.append(Canvas(canvas, 1.0, 1.0, left, top, begin, end))
    return found


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, float, float]]:
    """Tiles along one side as (left, begin, end); they meet in the middle of their overlap."""
    if length <= size:
        return [(0, -0.5, length - 0.5)]
    n = -(-(length - overlap) // (size - overlap))
    lefts = [round(i * (length - size) / (n - 1)) for i in range(n)]
    meets = [(left + before + size) / 2 - 0.5 for before, left in pairwise(lefts)]
    return list(zip(lefts, [-0.5, *meets], [*meets, length - 0.5], strict=True))


def _filled(pixels: Pixels, width: int, height: int, scale_x: float, scale_y: float) -> Canvas:
    h, w = pixels.shape[:2]
    end = w - 0.5, h - 0.5
    return Canvas(_continued(pixels, width, height), scale_x, scale_y, 0, 0, (-0.5, -0.5), end)


def _continued(pixels: Pixels, width: int, height: int) -> Pixels:
    """Fill up to a size with the last column and row: features would be found on a black edge."""
    h, w = pixels.shape[:2]
    if (w, h) == (width, height):
        return pixels
    import cv2

    sides = 0, height - h, 0, width - w
    return np.asarray(cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_REPLICATE))


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    h, w = pixels.shape[:2]
    if (w, h) == (width, height):
        return pixels
    import cv2

    method = cv2.INTER_CUBIC if width > w or height > h else cv2.INTER_AREA
    resized: Any = cv2.resize(pixels, (width, height), interpolation=method)
    return np.asarray(resized)


def _down(length: int, multiple: int) -> int:
    return max(multiple, length // multiple * multiple)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
