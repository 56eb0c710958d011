"""JPEG XL: pillow-jxl-plugin writes it, and says what is in it."""

from __future__ import annotations

import contextlib
import io
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageOps

from commands import run
from images import scene, to_bytes, with_orientation
from vladkit.errors import ImageError
from vladkit.images import decode_image, files
from vladkit.images.header import read_header
from vladkit.images.jxl import read_jxl

pytest.importorskip("pillow_jxl", reason="JPEG XL is written by pillow-jxl-plugin")

SCENE = scene(96, 64)
PLAIN = to_bytes(SCENE, "JXL", lossless=True)
BOXED = to_bytes(SCENE, "JXL", lossless=True, use_container=True)


def from_jpeg(tmp_path, orientation=1, **options):
    """A JPEG, and the JPEG XL that it was made into."""
    jpeg = tmp_path / "a.jpg"
    jpeg.write_bytes(with_orientation(SCENE, "JPEG", orientation, **options))
    with PilImage.open(jpeg) as image:
        return jpeg.read_bytes(), to_bytes(image, "JXL", lossless_jpeg=True)


def bits(*fields):
    """A codestream whose header has these (value, bits)."""
    number, n = 0, 0
    for value, width in fields:
        number, n = number | value << n, n + width
    return b"\xff\x0a" + number.to_bytes(n // 8 + 20, "little")


@pytest.mark.parametrize("data", [PLAIN, BOXED], ids=["plain", "in boxes"])
def test_pixels_are_those_that_were_written(data):
    image = decode_image(data, max_side=None, color=True)
    np.testing.assert_array_equal(image.pixels, np.asarray(SCENE))
    assert decode_image(data, max_side=48).pixels.shape == (32, 48)
    part = decode_image(data, region=(10, 20, 30, 40), color=True, max_side=None)
    np.testing.assert_array_equal(part.pixels, np.asarray(SCENE)[20:60, 10:40])


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (1, 1), (600, 400), (513, 9000), (64, 48)])
def test_size_in_the_header(size):
    header = read_header(to_bytes(PilImage.new("RGB", size), "JXL"))
    assert (header.width, header.height) == size


def test_gray_and_opacity():
    level_yx = np.asarray(SCENE.convert("L"))
    gray = to_bytes(PilImage.fromarray(level_yx), "JXL", lossless=True)
    np.testing.assert_array_equal(decode_image(gray).pixels, level_yx)
    seen = SCENE.convert("RGBA")
    seen.putalpha(PilImage.fromarray(np.where(np.arange(96) < 48, 255, 0)[None].repeat(64, 0)
                                     .astype(np.uint8)))  # fmt: skip
    pixels = decode_image(to_bytes(seen, "JXL", lossless=True), color=True, max_side=None).pixels
    np.testing.assert_array_equal(pixels[:, :48], np.asarray(SCENE)[:, :48])
    assert (pixels[:, 48:] == 255).all()


def test_deep_samples():
    """16 bits, and floats from 0 to 1."""
    level_yx = np.tile(np.linspace(0, 255, 96), (64, 1)).astype(np.uint8)
    deep = PilImage.fromarray(level_yx.astype(np.uint16) * 257)
    floats = PilImage.fromarray((level_yx / 255).astype(np.float32))
    for image, n_bits in ((deep, 16), (floats, 32)):
        data = to_bytes(image, "JXL", lossless=True)
        assert read_jxl(data).n_bits == n_bits
        assert np.abs(decode_image(data).pixels.astype(int) - level_yx).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_a_jpeg_was_made_into_is_that_jpeg(tmp_path, orientation):
    jpeg, data = from_jpeg(tmp_path, orientation)
    for options in ({"max_side": None}, {"max_side": 30}, {"region": (5, 6, 40, 30)}):
        wanted = decode_image(jpeg, color=True, **options)
        image = decode_image(data, color=True, **options)
        assert (image.width, image.height) == (wanted.width, wanted.height)
        if "max_side" not in options or options["max_side"] is None:
            np.testing.assert_array_equal(image.pixels, wanted.pixels)
    upright = ImageOps.exif_transpose(PilImage.open(io.BytesIO(jpeg)))
    assert (image.width, image.height) == (40, 30)
    assert decode_image(data).pixels.shape == (upright.height, upright.width)


def test_date_by_exif():
    exif = PilImage.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    bare = to_bytes(SCENE, "JXL", exif=exif.tobytes())
    as_specified = to_bytes(SCENE, "JXL", exif=bytes(4) + exif.tobytes()[6:])
    for data in (bare, as_specified):
        assert str(decode_image(data).photo.taken).startswith("2024-05-06")


def test_cut_anywhere():
    for data in (PLAIN, BOXED):
        for end in [*range(2, 40), *range(40, len(data), len(data) // 20)]:
            with pytest.raises(ImageError, match=r"JPEG XL|not an image"):
                decode_image(data[:end])


@pytest.mark.parametrize("seed", range(3))
def test_changed_bytes(seed):
    """An error that says what it is, or an image; nothing else."""
    rng = np.random.default_rng(seed)
    for data in (PLAIN, BOXED):
        for _ in range(30):
            changed = bytearray(data)
            for at in rng.integers(0, min(len(data), 200), 3):
                changed[at] = rng.integers(256)
            with contextlib.suppress(ImageError):
                assert decode_image(bytes(changed), max_pixels=10**6).pixels.size


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Out of memory"), ValueError("x")])
def test_errors_of_the_decoder(monkeypatch, error):
    import pillow_jxl

    class PanicException(BaseException):
        pass

    for raised, reason in ((error, "not enough memory|cut short"), (PanicException(), "cut short")):

        def decoder(num_threads, raised=raised):
            raise raised

        monkeypatch.setattr(pillow_jxl, "Decoder", decoder)
        with pytest.raises(ImageError, match=reason):
            decode_image(PLAIN)
    interrupted = KeyboardInterrupt()
    monkeypatch.setattr(pillow_jxl, "Decoder", partial(decoder, raised=interrupted))
    with pytest.raises(KeyboardInterrupt):
        decode_image(PLAIN)


def test_refused_from_the_header():
    size = (0, 1), (3, 2), (59_999, 30), (1, 3)  # 60,000 x 60,000
    with pytest.raises(ImageError, match="too many pixels: 60000x60000"):
        decode_image(bits(*size, (1, 1)))
    small = (1, 1), (7, 5), (1, 3)  # 64 x 64
    with pytest.raises(ImageError, match="JPEG XL of 4096 channels beside its colours"):
        decode_image(bits(*small, (0, 1), (0, 1), (0, 1), (0, 2), (0, 1), (3, 2), (4095, 12)))
    with pytest.raises(ImageError, match="animated JPEG XL"):
        decode_image(bits(*small, (0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1)))


def test_without_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImageError, match=r"needs pillow-jxl-plugin: pip install 'vladkit\[jxl\]'"):
        decode_image(PLAIN)
    monkeypatch.setattr(files, "has_jxl", lambda: False)
    assert not files.is_image_name("a.jxl")
    assert files.hints([".jxl", ".heic", ".txt"]) == (
        "to read HEIC: pip install 'vladkit[heic]'; to read JPEG XL: pip install 'vladkit[jxl]'"
    )


def test_is_indexed_and_found(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        (tmp_path / "photos" / f"{i}.jxl").write_bytes(to_bytes(scene(320, 240, i), "JXL"))
    run("index", tmp_path / "photos", "-o", tmp_path / "c.vlad")
    jpeg = tmp_path / "query.jpg"
    jpeg.write_bytes(to_bytes(scene(320, 240, 1), "JPEG"))
    assert "1.jxl" in run("search", tmp_path / "c.vlad", jpeg).stdout.splitlines()[0]
