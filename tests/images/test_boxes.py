"""HEIC and AVIF: Pillow and pillow-heif write them, and say what is in them."""

from __future__ import annotations

import contextlib
import io
import struct
import sys

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageOps, features

from images import scene, to_bytes, with_orientation
from vladkit.errors import ImageError
from vladkit.images import decode_image
from vladkit.images.boxes import read_boxes
from vladkit.images.header import read_header

pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC is written by pillow-heif")
if not features.check("avif"):
    pytest.skip("this Pillow has no AVIF", allow_module_level=True)
pillow_heif.register_heif_opener()

SCENE = scene(96, 64)
FILES = {
    "HEIC": to_bytes(SCENE, "HEIF", quality=90),
    "AVIF": to_bytes(SCENE, "AVIF", quality=90, speed=10),
}
PLAIN = pytest.mark.parametrize("kind", FILES)


def rgb(image):
    return np.asarray(image.convert("RGB"), np.int16)


def largest_difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other).max()


def with_size(data, width, height):
    """The file, with another size in its boxes than its pixels have."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


@PLAIN
def test_pixels_are_those_that_pillow_reads(kind):
    image = decode_image(FILES[kind], max_side=None, color=True)
    assert (image.width, image.height) == SCENE.size
    expected = rgb(PilImage.open(io.BytesIO(FILES[kind])))
    assert largest_difference(image.pixels, expected) <= 3
    assert np.abs(image.pixels - rgb(SCENE)).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_is_upright_once(kind, orientation):
    """Writers rotate by boxes of the file; readers must not do it again by EXIF."""
    data = with_orientation(SCENE, kind, orientation)
    upright = ImageOps.exif_transpose(PilImage.open(io.BytesIO(data)))
    image = decode_image(data, max_side=None, color=True)
    assert (image.width, image.height) == upright.size
    assert largest_difference(image.pixels, rgb(upright)) <= 3


def test_orientation_of_exif_in_heic_does_not_count():
    data = with_orientation(SCENE, "HEIF", 1)
    entry = struct.pack(">HHI", 0x112, 3, 1)
    assert data.count(entry + b"\0\1") == 1
    rotated = data.replace(entry + b"\0\1", entry + b"\0\6")
    assert decode_image(rotated).width == SCENE.width


@pytest.mark.parametrize("main", range(3))
@pytest.mark.parametrize("orientation", [1, 2, 6, 7])
def test_the_main_image_of_several_is_read(main, orientation):
    """Its pixels, which way up it is, and its EXIF, which was that of the first."""
    images = []
    for i, size in enumerate([(96, 64), (200, 120), (64, 80)]):
        exif = PilImage.Exif()
        exif[0x112] = orientation if i == main else 1 + (orientation + 2) % 8
        exif[0x132] = f"200{i}:01:01 00:00:00"
        data = to_bytes(scene(*size), "PNG", exif=exif)
        images.append(PilImage.open(io.BytesIO(data)))
    options = {"save_all": True, "append_images": images[1:], "primary_index": main}
    data = to_bytes(images[0], "HEIF", quality=90, **options)
    image = decode_image(data, max_side=None, color=True)
    expected = rgb(ImageOps.exif_transpose(images[main]))
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels - expected).mean() < 12
    assert read_header(data).photo.taken == f"200{main}-01-01 00:00:00"


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_heic_takes_its_own_range(bits):
    level_yx = np.tile(np.linspace(0, 65535, 96), (64, 1)).astype(np.uint16)
    heif = pillow_heif.from_bytes(mode="I;16", size=(96, 64), data=level_yx.tobytes())
    pillow_heif.options.SAVE_HDR_TO_12_BIT, before = bits == 12, False
    try:
        buffer = io.BytesIO()
        heif.save(buffer, quality=-1)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = before
    assert read_boxes("HEIC", buffer.getvalue()).n_bits == bits
    gray_yx = decode_image(buffer.getvalue(), max_side=None).gray_yx
    assert largest_difference(gray_yx, level_yx // 257) <= 2


def test_deep_avif_takes_its_own_range(tmp_path):
    path = str(tmp_path / "a.avif")
    level_yx = np.tile(np.linspace(0, 1023, 96), (64, 1)).astype(np.uint16)
    if not cv2.imwrite(path, level_yx, [cv2.IMWRITE_AVIF_DEPTH, 10]):
        pytest.skip("this OpenCV writes no AVIF")
    with open(path, "rb") as file:
        data = file.read()
    assert read_boxes("AVIF", data).n_bits == 10
    assert largest_difference(decode_image(data, max_side=None).gray_yx, level_yx // 4) <= 3


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_transparent_pixels_are_white(kind):
    image = SCENE.convert("RGBA")
    image.putalpha(PilImage.fromarray(np.uint8([[0, 255]])).resize(SCENE.size, 0))
    gray_yx = decode_image(to_bytes(image, kind, quality=95), max_side=None).gray_yx
    assert gray_yx[:, :40].min() > 250
    assert np.abs(gray_yx[:, 60:] - np.asarray(SCENE.convert("L"), int)[:, 60:]).mean() < 8


def test_tiles_are_one_image():
    image = scene(300, 150)
    data = to_bytes(image, "HEIF", tile_size=128)
    assert b"grid" in data
    decoded = decode_image(data, max_side=None, color=True)
    assert largest_difference(decoded.pixels, rgb(PilImage.open(io.BytesIO(data)))) <= 3


@PLAIN
def test_no_cut_anywhere_is_accepted(kind):
    for n_bytes in [*range(0, 700, 7), len(FILES[kind]) - 1]:
        with pytest.raises(ImageError):
            decode_image(FILES[kind][:n_bytes])


@PLAIN
def test_any_damage_is_an_image_or_an_error(kind):
    data, rng = FILES[kind], np.random.default_rng(0)
    n_read = 0
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(8, min(len(data), 500), 2):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(ImageError):
            n_read += decode_image(bytes(damaged)).width > 0
    assert n_read < 150


@PLAIN
def test_size_that_is_too_large_is_refused(kind, monkeypatch):
    forbid_decoding(monkeypatch)
    with pytest.raises(ImageError, match="too many pixels: 40000x30000"):
        decode_image(with_size(FILES[kind], 40_000, 30_000))


def test_pixels_that_are_larger_than_the_file_says_are_refused(monkeypatch):
    heic = with_size(to_bytes(PilImage.new("RGB", (512, 512)), "HEIF"), 64, 64)
    with pytest.raises(ImageError, match=r"HEIC cannot be decoded: .*limit"):
        decode_image(heic, max_pixels=1_000_000)
    forbid_decoding(monkeypatch)
    avif = with_size(to_bytes(PilImage.new("RGB", (2048, 2048)), "AVIF", speed=10), 64, 64)
    with pytest.raises(ImageError, match="a tile of 4 million pixels"):
        decode_image(avif, max_pixels=1_000_000)


def test_blank_images_that_fill_the_memory_are_refused(monkeypatch):
    forbid_decoding(monkeypatch)
    for kind, data in FILES.items():
        with pytest.raises(ImageError, match=r"px take [\d,]+ MB, too much for a file of \d+ kB"):
            decode_image(with_size(data, 10_000, 10_000))
        assert kind in ("HEIC", "AVIF")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        ImageError, match=r"needs pillow-heif: pip install 'vladkit\[heic\]'"
    ) as got:
        decode_image(FILES["HEIC"])
    assert got.value.transient  # tried again by the next index


def test_memory_that_runs_out_is_no_fault_of_the_image(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(pillow_heif, "open_heif", fail)
    with pytest.raises(ImageError, match="not enough memory") as caught:
        decode_image(FILES["HEIC"])
    assert caught.value.transient


def forbid_decoding(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", forbidden)
    monkeypatch.setattr(pillow_heif, "open_heif", forbidden)
