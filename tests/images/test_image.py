"""`Image`: gray and RGB of the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from images import textured
from vladkit.errors import ShapeError
from vladkit.images import Image


def test_gray_and_rgb_of_gray_pixels() -> None:
    image = Image(textured(), 320, 240)
    assert not image.is_color
    assert image.gray_yx is image.pixels
    for c in range(3):
        np.testing.assert_array_equal(image.rgb_yx3[:, :, c], textured())


def test_gray_of_rgb_pixels_weighs_them_as_opencv_does() -> None:
    rgb_yx3 = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    bgr_yx3 = np.ascontiguousarray(rgb_yx3[:, :, ::-1])
    for given in (rgb_yx3, bgr_yx3[:, :, ::-1]):  # contiguous or not
        image = Image(given, 45, 31)
        assert image.is_color
        np.testing.assert_array_equal(image.rgb_yx3, rgb_yx3)
        np.testing.assert_array_equal(image.gray_yx, cv2.cvtColor(bgr_yx3, cv2.COLOR_BGR2GRAY))


def test_pixels_are_uint8_gray_or_rgb() -> None:
    assert "320x240" in repr(Image(textured(), 320, 240))
    wrong = (
        textured()[..., None],
        textured().astype(float),
        textured()[0],
        np.zeros((2, 2, 4), "u1"),
    )
    for pixels in wrong:
        with pytest.raises(ShapeError, match="pixels is"):
            Image(pixels, 320, 240)
