"""Gray levels of samples of any depth, sign and range, and of transparency."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from families import bmp_file, over_white, png_file, pnm_file, tiff_file, tiff_page
from images import png_chunk, scene, textured, to_bytes
from vladkit.errors import ImageError
from vladkit.features import Sift
from vladkit.images import decode_image

GRAY = textured(120, 90)[:, :, None]
RNG = np.random.default_rng(0)


def levels(data, **options):
    return decode_image(data, max_side=None, **options).gray_yx.astype(int)


def tiff(sample_yxc, **tags):
    return tiff_file(tiff_page(sample_yxc, np.random.default_rng(0), order="<", **tags))


def error(got_yx, wanted_yx=GRAY[:, :, 0]):
    return np.abs(got_yx - wanted_yx).mean()


class TestRange:
    """Which samples become black and white."""

    def test_whole_16_bits_are_the_upper_8(self):
        sample_yxc = RNG.integers(0, 65536, (50, 60, 1))
        assert np.abs(levels(png_file(sample_yxc, 16, 0)) - sample_yxc[:, :, 0] / 257).max() <= 0.51

    def test_8_bits_are_never_stretched(self):
        dark = (GRAY // 8).astype("u1")
        np.testing.assert_array_equal(levels(png_file(dark, 8, 0)), dark[:, :, 0])
        np.testing.assert_array_equal(levels(pnm_file(dark, 255)), dark[:, :, 0])
        np.testing.assert_array_equal(levels(pnm_file(dark, 51)), 5 * dark[:, :, 0])
        signed = dark.astype("i1") - 100
        np.testing.assert_array_equal(levels(tiff(signed)), dark[:, :, 0] + 28)

    @pytest.mark.parametrize("dead", [0, 65535])
    def test_dead_pixels_do_not_count(self, dead):
        thermal = (29000 + 8 * GRAY.astype(int)).astype("u2")
        thermal[40, 50:58] = dead
        assert error(levels(png_file(thermal, 16, 0))) < 8  # 0.1 % at both ends are cut off
        assert error(levels(tiff(thermal))) < 8

    def test_noise_is_not_stretched(self):
        noise = 3000 + RNG.integers(0, 7, (90, 120, 1))
        assert np.ptp(levels(png_file(noise, 16, 0))) <= 6
        with pytest.raises(ImageError, match="no features found"):
            Sift().extract(decode_image(png_file(noise, 16, 0)))

    def test_few_pixels_that_differ_are_seen(self):
        sample = np.full((90, 120, 1), 30000)
        sample[40, 50] = 33000
        assert np.ptp(levels(png_file(sample, 16, 0))) == 255
        assert np.ptp(levels(tiff((sample / 1e8).astype("f4")))) == 255

    @pytest.mark.parametrize("value", [0, 7, 65535])
    def test_blank_stays_blank(self, value):
        assert np.ptp(levels(png_file(np.full((20, 30, 1), value), 16, 0))) == 0
        assert np.ptp(levels(tiff(np.full((20, 30, 1), value / 9, "f4")))) == 0

    def test_half_of_a_depth_is_enough_to_keep_it(self):
        photo = 20 * 257 + GRAY.astype(int) * 200  # a photo with neither black nor white
        assert np.abs(levels(png_file(photo, 16, 0)) - photo[:, :, 0] / 257).max() <= 0.51


class TestFloats:
    def test_nan_is_no_sample(self):
        sample = GRAY.astype("f4") * 40 - 3000
        sample[:9, :20] = np.nan
        wanted = GRAY[:, :, 0].astype(int)
        wanted[:9, :20] = 255
        assert error(levels(tiff(sample)), wanted) < 8

    def test_infinities_are_black_and_white(self):
        sample = GRAY.astype("f8") / 255
        sample[0, 0], sample[0, 1] = np.inf, -np.inf
        got = levels(tiff(sample))
        assert got[0, :2].tolist() == [255, 0]
        assert error(got) < 1

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_nothing_to_see(self, value):
        assert np.ptp(levels(tiff(np.full((20, 30, 1), value, "f4")))) == 0

    def test_largest_numbers(self):
        sample = np.where(GRAY > 128, 1.7e308, -1.7e308)
        assert set(np.unique(levels(tiff(sample)))) == {0, 255}


class TestNothing:
    """Samples that GDAL's tag 42113 says are none."""

    @pytest.mark.parametrize(
        ("dtype", "number", "text"),
        [
            ("u1", 0, b"0"),
            ("u1", 255, b"255\0"),
            ("u1", 7, b" 7.0 "),
            ("i2", -9999, b"-9999"),
            ("u2", 65535, b"65535"),
            ("i4", -2147483648, b"-2147483648"),
            ("u8", 2**64 - 1, b"18446744073709551615"),
            ("f4", -9999, b"-9999"),
            ("f4", np.finfo("f4").min, b"-3.4028234663852886e+38"),
            ("f4", np.float32(0.1), b"0.1"),
            ("f4", np.inf, b"inf"),
            ("f8", -1.7e308, b"-1.7e+308"),
        ],
    )
    def test_they_are_not_seen(self, dtype, number, text):
        sample = (GRAY // 2 + 20).astype(dtype) * (30 if dtype not in ("u1", "i1") else 1)
        without = levels(tiff(sample))
        sample[:40, :30] = number
        for seed in range(6):  # strips and tiles, packed and not, with a predictor and without
            page = tiff_page(sample, np.random.default_rng(seed), order="<", nothing=text)
            got = levels(tiff_file(page))
            assert (got[:40, :30] == 255).all()
            assert np.abs(got - without)[40:].max() <= 3  # the range is that of all pixels

    @pytest.mark.parametrize("text", [b"nan", b"none", b"", b"-1", b"256", b"20.5", b"1e99"])
    def test_a_number_that_no_sample_is(self, text):
        for dtype in ("u1", "u2"):
            sample = GRAY.astype(dtype)
            np.testing.assert_array_equal(levels(tiff(sample, nothing=text)), levels(tiff(sample)))

    def test_all_bands_have_to_be_none(self):
        """Black with some red in it is an image."""
        rgb = np.asarray(scene(120, 90)).copy()
        rgb[:, :, 1] = 0
        rgb[20:60, 30:90] = 0
        got = decode_image(tiff(rgb, nothing=b"0"), max_side=None, color=True).rgb_yx3
        hidden = ~rgb.any(axis=2)
        np.testing.assert_array_equal(got, np.where(hidden[:, :, None], 255, rgb))

    def test_none_beside_opacity(self):
        sample = np.dstack([GRAY, np.full(GRAY.shape, 255, "u1")])
        sample[:9, :, 1] = 0
        sample[9:20, :, 0] = 3
        got = levels(tiff(sample, extra=[2], nothing=b"3"))
        wanted = np.where(sample[:, :, 0] == 3, 255, GRAY[:, :, 0])
        wanted[:9] = 255
        np.testing.assert_array_equal(got, wanted)

    def test_nothing_but_none_is_blank(self):
        assert np.ptp(levels(tiff(np.full((20, 30, 1), 9, "u2"), nothing=b"9"))) == 0


@pytest.mark.parametrize("tag", [700, 42113])
def test_a_text_that_is_none(tag):
    tags, pieces, names = tiff_page(GRAY, RNG, order="<")
    tags[tag] = 4, [2**31, 5]
    np.testing.assert_array_equal(levels(tiff_file((tags, pieces, names))), GRAY[:, :, 0])


class TestTransparency:
    """Over white, and over black where over white nothing is seen."""

    @staticmethod
    def art(ink):
        rgba = np.zeros((90, 120, 4), np.uint8)
        rgba[:, :, 3] = 255 * (GRAY[:, :, 0] > 128)
        rgba[:, :, :3] = ink
        return rgba, rgba[:, :, 3].astype(int)

    @pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
    def test_black_and_white_drawings(self, format_):
        options = {"lossless": True} if format_ == "WEBP" else {}
        for ink in (0, 255):
            rgba, opacity = self.art(ink)
            got = levels(to_bytes(PilImage.fromarray(rgba), format_, **options))
            np.testing.assert_array_equal(got, opacity if ink else 255 - opacity)

    def test_hidden_colours_are_not_seen(self):
        rgba = np.dstack([np.asarray(scene(120, 90)), np.full((90, 120), 255, np.uint8)])
        rgba[20:60, 30:90, 3] = 0
        other = rgba.copy()
        other[20:60, 30:90, :3] = RNG.integers(0, 256, (40, 60, 3))
        for color in (False, True):
            one, two = (
                decode_image(to_bytes(PilImage.fromarray(each), "PNG"), color=color).pixels
                for each in (rgba, other)
            )
            np.testing.assert_array_equal(one, two)
            assert (one[20:60, 30:90] == 255).all()

    def test_nothing_seen_is_blank(self):
        hidden = np.dstack([np.asarray(scene(120, 90)), np.zeros((90, 120), np.uint8)])
        assert np.ptp(levels(to_bytes(PilImage.fromarray(hidden), "PNG"))) == 0

    def test_hidden_samples_do_not_set_the_range(self):
        sample = np.dstack([GRAY.astype("u2") * 4 + 20000, np.full(GRAY.shape, 65535, "u2")])
        sample[:9] = 0
        wanted = over_white(GRAY[:, :, 0], (sample[:, :, 1] > 0))
        assert error(levels(tiff(sample, extra=[2])), wanted) < 8

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_a_gray_level_of_a_png(self, depth):
        sample = (GRAY.astype("u2") * 257) >> (16 - depth)
        key = int(np.median(sample)) if depth > 1 else 1
        data = png_file(sample, depth, 0, png_chunk(b"tRNS", struct.pack(">H", key)))
        wanted = np.where(sample == key, 255, np.rint(sample / (2**depth - 1) * 255))
        assert np.abs(levels(data) - wanted[:, :, 0]).max() <= 1

    @pytest.mark.parametrize(
        "chunk",
        [
            png_chunk(b"tRNS", b"\0"),
            png_chunk(b"tRNS", bytes(9)),
            png_chunk(b"tRNS", b"\0\0")[:-1] + b"?",
        ],
    )
    def test_a_damaged_one_is_none(self, chunk, capfd):
        image = levels(png_file(GRAY, 8, 0, chunk))
        np.testing.assert_array_equal(image, GRAY[:, :, 0])
        assert capfd.readouterr().err == ""

    def test_opacity_that_nobody_wrote(self):
        rgba = np.dstack([np.asarray(scene(120, 90)), np.zeros((90, 120), np.uint8)])
        plain = levels(to_bytes(scene(120, 90), "PNG"))
        for has_mask in (True, False):
            assert error(levels(bmp_file(rgba, has_mask=has_mask)), plain) < 1
        rgba[:9, :, 3] = 200  # left over, in a header of 40 bytes with masks for three colours
        data = bmp_file(rgba, has_mask=False)
        masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
        head = data[2:30] + b"\3" + data[31:54] + masks
        data = b"BM" + head[:8] + struct.pack("<I", 66) + head[12:] + data[54:]
        assert error(levels(data), plain) < 1


def test_samples_are_limited():
    data = png_file(np.zeros((100, 100, 4)), 16, 6)
    assert decode_image(data, max_pixels=14_000).width == 100
    with pytest.raises(ImageError, match="its samples take 0 MB, at most 0 MB"):
        decode_image(data, max_pixels=13_000)


@pytest.mark.parametrize("most", [0, 65536, 999_999_999])
def test_a_largest_sample_that_cannot_be(most):
    with pytest.raises(ImageError, match=f"damaged PNM: its largest sample is {most}"):
        decode_image(b"P5 2 2 %d\n" % most + bytes(8))
