"""Families of generated image files, with Pillow and OpenCV as oracles.

Each file is made by its number, and a test makes a block of them. `pytest --fuzz 100
tests/images/test_families.py` makes a hundred times as many. The files that fail are named by their
numbers: `--number 31017 tests/images/test_families.py::test_orientation` makes that one again.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps

from families import mutated, orientation_file, sample_file, transparent_file
from images import every_format, gray, scene
from vladkit.errors import ImageError
from vladkit.images import decode_image


def difference(one_yx, other_yx):
    assert one_yx.shape == other_yx.shape
    return float(np.abs(one_yx.astype(int) - other_yx.astype(int)).mean())


def pillow(data):
    image = PilImage.open(io.BytesIO(data))
    return ImageOps.exif_transpose(image)


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


OPENCV_LOOKS = ("JPEG, first", "JPEG, second", "PNG, before", "PNG, after")  # also 4.12


def each(check):
    """The test of all files of a block: those that fail are named, and the others made as well."""

    def test(number_block):
        failed = {}
        for number in number_block:
            try:
                check(number)
            except Exception as error:
                error.add_note(f"--number {number}")
                failed[number] = error
        if failed:
            raise ExceptionGroup(f"{check.__name__}: numbers {list(failed)}", [*failed.values()])

    test.__name__ = check.__name__
    return test


@each
def test_orientation(number):
    name, data, stored = orientation_file(np.random.default_rng(number))
    exif = stored.getexif()
    exif[0x112] = int(name.split("orientation ")[1][0])
    upright = ImageOps.exif_transpose(stored)
    image = decode_image(data, max_side=None)
    assert (image.width, image.height) == upright.size, name
    assert difference(image.gray_yx, gray(upright)) < 3, name
    if not name.startswith("TIFF"):  # Pillow reads not all that are written
        assert difference(image.gray_yx, gray(pillow(data))) < 3, name
    if name.startswith(OPENCV_LOOKS):
        assert difference(image.gray_yx, opencv(data)) < 3, name


@each
def test_samples(number):
    name, data, level_yxc, step = sample_file(np.random.default_rng(number))
    rgb_yx3 = decode_image(data, max_side=None, color=True).rgb_yx3
    expected_yx3 = np.broadcast_to(level_yxc, rgb_yx3.shape)
    assert np.abs(rgb_yx3 - expected_yx3).mean() < 1 + step / 3, name
    weight = np.array([0.299, 0.587, 0.114])
    gray_yx = decode_image(data, max_side=None).gray_yx
    assert np.abs(gray_yx - expected_yx3 @ weight).mean() < 1.5 + step / 3, name


@each
def test_transparency(number):
    name, data = transparent_file(np.random.default_rng(number))
    seen = pillow(data).convert("RGBA")
    white = PilImage.new("RGBA", seen.size, "white")
    expected = PilImage.alpha_composite(white, seen).convert("RGB")
    image = decode_image(data, max_side=None, color=True)
    assert difference(image.rgb_yx3, np.asarray(expected)) < 1, name
    assert difference(decode_image(data, max_side=None).gray_yx, gray(expected)) < 1.5, name


FORMATS = every_format(scene(40, 30))


@each
def test_mutated_headers(number):
    rng = np.random.default_rng(number)
    make = int(rng.integers(4))
    if make < 2:
        data = FORMATS[sorted(FORMATS)[int(rng.integers(len(FORMATS)))]][0]
    else:
        data = (sample_file, orientation_file)[make - 2](rng)[1]
    try:
        image = decode_image(mutated(data, rng), max_side=64, max_pixels=1_000_000)
    except ImageError:
        return
    assert 0 < image.gray_yx.size <= 1_000_000
