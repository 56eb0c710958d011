"""Images in memory are those of their files."""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from vladkit.errors import ImageError, ParameterError
from vladkit.images import decode_image, read_image

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
PNG = cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes()
FORMS = {
    "bytes": PNG,
    "bytearray": bytearray(PNG),
    "memoryview": memoryview(PNG),
    "array": RGB,
    "Fortran": np.asfortranarray(RGB),
    "backwards": RGB[::-1][::-1],
    "Pillow": PIL.Image.fromarray(RGB),
}


@pytest.mark.parametrize("form", [*FORMS, "open file", "mapped", "read-only"])
def test_every_form_gives_the_same_pixels(tmp_path, form):
    (tmp_path / "a.png").write_bytes(PNG)
    np.save(tmp_path / "a.npy", RGB)
    rest = {"open file": io.BytesIO(PNG), "mapped": np.load(tmp_path / "a.npy", mmap_mode="r")}
    fixed = RGB.copy()
    fixed.flags.writeable = False
    image = (FORMS | rest | {"read-only": fixed})[form]
    options = {"max_side": 50, "region": (5, 4, 50, 30), "color": True}
    wanted = read_image(tmp_path / "a.png", **options)
    for decode in (decode_image, read_image):
        got = decode(image, **options)
        np.testing.assert_array_equal(got.pixels, wanted.pixels)
        assert (got.region, got.whole) == (wanted.region, wanted.whole)
        if form == "open file":
            image.seek(0)


@pytest.mark.parametrize("image", ["a.png", None, 7, [PNG], RGB / 255, RGB[:, :, :1], RGB[0, 0]])
def test_other_things_are_named(image):
    with pytest.raises(ParameterError, match=r"image is a .* RGB \(y, x, 3\)"):
        decode_image(image)


def test_bytes_that_are_no_image():
    for data in (b"", b"none", io.BytesIO(b"none")):
        with pytest.raises(ImageError):
            decode_image(data)
