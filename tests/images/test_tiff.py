"""TIFF: which page is the image, and samples that OpenCV does not read."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from families import tiff_file, tiff_page
from images import scene, textured, to_bytes
from vladkit.errors import ImageError
from vladkit.images import decode_image

GRAY = textured(80, 60)[:, :, None]
SMALL = textured(40, 30, seed=1)[:, :, None]


def page(sample_yxc, order="<", seed=0, **tags):
    return tiff_page(sample_yxc, np.random.default_rng(seed), order=order, **tags)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
class TestPages:
    def read(self, order, big, *pages):
        return decode_image(tiff_file(*pages, order=order, big=big), max_side=None).gray_yx

    @pytest.mark.parametrize("subfile", [1, 5, 4])  # reduced, a mask of it, a mask
    def test_a_copy_before_the_image(self, order, big, dtype, subfile):
        thumbnail = page(SMALL, order, subfile=subfile)
        image = page(GRAY.astype(dtype), order, orientation=3)
        got = self.read(order, big, thumbnail, thumbnail, image)
        np.testing.assert_array_equal(got, GRAY[::-1, ::-1, 0])

    def test_a_copy_behind_the_image(self, order, big, dtype):
        image, thumbnail = page(GRAY.astype(dtype), order), page(SMALL, order, subfile=1)
        np.testing.assert_array_equal(self.read(order, big, image, thumbnail), GRAY[:, :, 0])

    def test_nothing_but_copies(self, order, big, dtype):
        pages = page(GRAY.astype(dtype), order, subfile=1), page(SMALL, order, subfile=1)
        np.testing.assert_array_equal(self.read(order, big, *pages), GRAY[:, :, 0])

    def test_pages_of_a_document(self, order, big, dtype):
        pages = page(GRAY.astype(dtype), order, subfile=2), page(SMALL, order, subfile=2)
        np.testing.assert_array_equal(self.read(order, big, *pages), GRAY[:, :, 0])


def test_bands_that_no_eye_sees():
    rgb = np.asarray(scene(80, 60))
    infrared = textured(80, 60)
    for seed in range(8):  # strips and tiles, packed and not, channels together and apart
        data = tiff_file(page(np.dstack([rgb, infrared, infrared]), seed=seed, extra=[0, 0]))
        np.testing.assert_array_equal(decode_image(data, color=True).rgb_yx3, rgb)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("n_bands", [3, 4])
def test_gray_bands_are_red_green_and_blue(dtype, n_bands):
    """Of more than two bands without a meaning the first three have that, of any depth."""
    rgb = np.asarray(scene(80, 60))
    bands = np.dstack([rgb, textured(80, 60)])[:, :, :n_bands].astype(dtype)
    for seed in range(4):
        tags, pieces, names = page(bands * (257 if dtype == "u2" else 1), seed=seed)
        tags[262] = 3, [1]
        got = decode_image(tiff_file((tags, pieces, names)), max_side=None, color=True)
        np.testing.assert_array_equal(got.rgb_yx3, rgb)


@pytest.mark.parametrize("compression", [9, 33003, 34712, 34887, 50001, 50002, 65000])
def test_a_compression_that_nobody_reads_is_named(compression):
    """OpenCV gives some of them as black."""
    tags, pieces, names = page(GRAY)
    tags[259] = 3, [compression]
    with pytest.raises(ImageError, match=f"TIFF of compression {compression} is not supported"):
        decode_image(tiff_file((tags, pieces, names)))


@pytest.mark.parametrize(
    ("compression", "reason"),
    [
        (50001, "TIFF of compression 50001 is not supported, WebP"),
        (34712, "TIFF of compression 34712 is not supported, JPEG 2000"),
        (50000, "TIFF with Zstandard compression cannot be decoded"),
        (34925, "TIFF with LZMA compression cannot be decoded"),
        (6, "TIFF with old JPEG compression cannot be decoded"),
        (7, "TIFF with JPEG compression cannot be decoded"),
    ],
)
def test_a_compression_is_named(compression, reason):
    for dtype in ("u1", "u2"):
        tags, pieces, names = page(GRAY.astype(dtype))
        tags[259] = 3, [compression]
        with pytest.raises(ImageError, match=reason):
            decode_image(tiff_file((tags, pieces, names)))


def test_a_depth_that_nobody_reads():
    tags, pieces, names = page(np.zeros((60, 80, 1), "u4"))
    tags[258] = 3, [24]
    with pytest.raises(ImageError, match="TIFF cannot be decoded"):
        decode_image(tiff_file((tags, pieces, names)))


def packed_bits(piece):
    """PackBits: each byte by itself."""
    return b"".join(bytes([0, each]) for each in piece)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("compression", [1, 32773])
@pytest.mark.parametrize("predictor", [2, 3])
def test_a_predictor_where_there_is_none(dtype, compression, predictor):
    """Libtiff predicts only what is deflated, or by LZW, LZMA, Zstandard."""
    sample = GRAY.astype(dtype) * {"u1": 1, "u2": 257, "f4": np.float32(1 / 255)}[dtype]
    for seed in range(9):
        tags, pieces, names = page(sample, seed=seed)
        if tags[259] == (3, [1]):
            tags[317], tags[259] = (3, [predictor]), (3, [compression])
            pieces = [packed_bits(each) for each in pieces] if compression > 1 else pieces
            got = decode_image(tiff_file((tags, pieces, names))).gray_yx
            np.testing.assert_allclose(got, GRAY[:, :, 0], atol=1)


@pytest.mark.parametrize("photometric", [0, 1])
def test_bits_in_any_strips_and_tiles(photometric):
    bit = GRAY >> 7
    for seed in range(12):
        tags, pieces, names = page(bit, seed=seed, bits=1)
        tags[262] = 3, [photometric]
        got = decode_image(tiff_file((tags, pieces, names))).gray_yx
        np.testing.assert_array_equal(got, 255 * (bit[:, :, 0] ^ (not photometric)))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("nothing", [None, b"1"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_palettes(bits, depth, nothing, order):
    rng = np.random.default_rng(bits)
    color_3n = rng.integers(0, 256, (3, 2**bits))
    color_3n[0, 0] = 255  # of 16 bits, all the same: that is how readers know
    kind = "u2" if bits > 8 else "u1"
    index = rng.integers(0, 2**bits, (30, 41, 1)).astype(kind)
    wanted = np.moveaxis(color_3n[:, index[:, :, 0]], 0, 2)
    if nothing:
        wanted = np.where(index == 1, 255, wanted)
    for seed in range(6):
        tags, pieces, names = page(index, order, seed=seed, bits=bits % 8 and bits, nothing=nothing)
        tags[262] = 3, [3]
        tags[320] = 3, (color_3n * (257 if depth == 16 else 1)).reshape(-1).tolist()
        data = tiff_file((tags, pieces, names), order=order)
        got = decode_image(data, max_side=None, color=True).rgb_yx3
        np.testing.assert_array_equal(got, wanted)


def test_a_palette_that_is_too_short():
    tags, pieces, names = page(GRAY >> 6, bits=2)
    tags[262], tags[320] = (3, [3]), (3, [0] * 11)
    with pytest.raises(ImageError, match="TIFF cannot be decoded"):
        decode_image(tiff_file((tags, pieces, names)))


WHOLE = [1, 3, 4, 6, 8, 9, 16, 17]


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_any_type_of_whole_number_will_do(kind, order, dtype):
    """As libtiff has it; signed ones, too."""
    for seed in (0, 1, 5):  # strips and tiles
        tags, pieces, names = page(GRAY.astype(dtype), order, seed, orientation=3)
        for tag in {*tags} - {338}:
            try:
                one = tags | {tag: (kind, tags[tag][1])}
                data = tiff_file((one, pieces, names), order=order, big=kind > 13)
            except struct.error:  # it does not hold the number
                continue
            got = decode_image(data, max_side=None).gray_yx
            np.testing.assert_array_equal(got, GRAY[::-1, ::-1, 0])


@pytest.mark.parametrize("tag", [256, 257, 258, 273, 277, 278, 279])
@pytest.mark.parametrize("kind", [6, 8, 9, 17])
def test_a_number_below_zero_is_named(tag, kind):
    tags, pieces, names = page(GRAY)
    tags[tag] = kind, [-1]
    with pytest.raises(ImageError, match=f"damaged TIFF: tag {tag} is below zero"):
        decode_image(tiff_file((tags, pieces, names), big=True))


TAGS = [256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("value", [0, 1, 3, 250, 65535, 2**31, 2**32 - 1, 2**40, 2**64 - 1])
def test_a_tag_that_is_wrong(tag, value):
    """An image or an error, and never more than the file holds."""
    for seed in (0, 5):
        tags, pieces, names = page(np.repeat(GRAY, 5, axis=2).astype("u2"), seed=seed, extra=[2, 0])
        tags[names[0] if tag in (273, 324) else names[1] if tag in (279, 325) else tag] = (
            16,
            [value],
        )
        try:
            data = tiff_file((tags, pieces, names), big=True)
            image = decode_image(data, max_pixels=100_000)
        except ImageError:
            continue
        assert image.gray_yx.size <= 100_000


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("is_opaque", [False, True])
def test_transparent_pixels_of_a_jpeg_are_white(color, is_opaque):
    """libtiff multiplies colours by their opacity: they were black."""
    image = scene(96, 64)
    if not is_opaque:
        opacity = np.full((64, 96), 255, np.uint8)
        opacity[:, :32], opacity[:, 32:64] = 0, 128
        image.putalpha(PilImage.fromarray(opacity))
    else:
        image.putalpha(255)
    data = to_bytes(image, "TIFF", compression="jpeg", quality=95)
    expected = decode_image(to_bytes(image, "PNG"), color=color).pixels.astype(int)
    assert np.abs(decode_image(data, color=color).pixels - expected).mean() < 3


@pytest.mark.parametrize("is_opaque", [False, True])
def test_a_gray_jpeg_with_opacity_is_skipped(is_opaque):
    """libtiff gives its gray levels alone: those that nobody sees were taken for the image."""
    image = scene(96, 64).convert("L")
    image.putalpha(255 if is_opaque else PilImage.fromarray(np.zeros((64, 96), np.uint8)))
    data = to_bytes(image, "TIFF", compression="jpeg", quality=95)
    with pytest.raises(ImageError, match="TIFF of JPEG with opacity is supported for three"):
        decode_image(data)
