"""Images in memory are those of their files."""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from vladkit.errors import ImageError, ParameterError
from vladkit.images import decode_image, read_image
from vladkit.images.forms import file_data

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


@pytest.mark.parametrize(("mode", "deep"), [
    ("I", lambda gray: gray.astype("i4") * 257),
    ("F", lambda gray: (gray / 255).astype("f4")),
    ("I;16B", lambda gray: gray.astype(">u2") * 257),
])  # fmt: skip
def test_deep_samples_of_pillow_have_the_levels_of_their_file(tmp_path, mode, deep):
    gray = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    image = PIL.Image.fromarray(deep(gray).astype(deep(gray).dtype.newbyteorder("=")))
    if mode == "I;16B":
        image = PIL.Image.frombytes(mode, image.size, deep(gray).tobytes())
    image.save(tmp_path / "deep.tif")
    got = decode_image(file_data(image), max_side=None).pixels
    np.testing.assert_array_equal(got, read_image(tmp_path / "deep.tif", max_side=None).pixels)
    assert len(np.unique(got)) == 256


@pytest.mark.parametrize(("mode", "other"), [("RGBA", "RGBa"), ("LA", "La"), ("P", "PA")])
def test_what_pillow_hides_is_not_seen(mode, other):
    rng = np.random.default_rng(0)
    image = PIL.Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8))
    alpha = PIL.Image.fromarray(
        np.where(np.arange(96) < 48, 0, 255)[None].repeat(64, 0).astype("u1")
    )
    image = image.convert(mode).convert("PA") if other == "PA" else image.convert(mode)
    image.putalpha(alpha)
    pixels = decode_image(file_data(image.convert(other)), max_side=None).pixels
    assert (pixels[:, :48] == 255).all()
    assert len(np.unique(pixels[:, 48:])) > 50
