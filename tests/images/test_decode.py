"""Reading images: every format, every way up, every way to be broken."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from families import tiff_file, tiff_page
from images import every_format, gray, png_chunk, scene, to_bytes, with_orientation
from paths import SHARED
from vladkit.errors import ImageError, ParameterError
from vladkit.images import Region, decode_image, decoder_facts, is_image_name, read_image
from vladkit.images import decode as module
from vladkit.images import header as header_module

SCENE = every_format(scene())
SMALL = every_format(scene(40, 30))
# Cutting these loses no px: the end mark of the runs; padding after the last page.
NOTHING_LOST = {"BMP run-length": 2, "TIFF pages": 4}


def mean_difference(one_yx: Any, other_yx: Any) -> float:
    assert one_yx.shape == other_yx.shape
    return float(np.abs(one_yx.astype(int) - other_yx.astype(int)).mean())


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks put in after its IHDR."""
    return data[:33] + b"".join(chunks) + data[33:]


# Formats


@pytest.mark.parametrize("name", SCENE)
def test_every_format_gives_the_gray_that_pillow_gives(name: str) -> None:
    data, held = SCENE[name]
    image = decode_image(data)
    assert (image.width, image.height) == (320, 240)
    assert (image.scale_x, image.scale_y) == (1.0, 1.0)
    assert image.gray_yx.dtype == np.uint8
    assert image.gray_yx.flags.c_contiguous
    # 1.5: the two differ in rounding and in chroma upsampling; another image is 50 away
    assert mean_difference(image.gray_yx, gray(held)) < 1.5


@pytest.mark.parametrize("kind", ["PNG 16 bit", "TIFF 16 bit", "PGM 16 bit"])
def test_16_bit_uses_the_whole_range(kind: str) -> None:
    gray_yx = decode_image(SCENE[kind][0]).gray_yx
    assert gray_yx.min() == 0
    assert gray_yx.max() == 255


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_jpeg.png"
    path.write_bytes(SCENE["JPEG"][0])
    assert mean_difference(read_image(path).gray_yx, decode_image(SCENE["JPEG"][0]).gray_yx) == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"These are notes about my holidays.", "not an image that can be decoded"),
        (b"BMW and BMX are not bitmaps, whatever", "not an image that can be decoded"),
        (b"%PDF-1.7", "not an image that can be decoded"),
        (b"\xff\xd8\xff", "truncated JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "damaged HEIC: no image in it"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "truncated AVIF: a box lies past the end"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera RAW without a JPEG preview in it"),
        (b"\xff\x0a\xfa\x1f", "truncated JPEG XL: ends within its header"),
        (b"P2 2 2 255\n1 2 3 4", "plain-text PNM is not supported"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 is not supported: convert it"),
        (b"\xff\x4f\xff\x51\0\x29", "JPEG 2000 is not supported: convert it"),
        (b"II\xbc\1\x20\0\0\0", "JPEG XR is not supported: convert it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI", r"PNG for iOS \(CgBI\) is not supported"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4tEXt", "damaged PNG: its first chunk is not IHDR"),
    ],
)
def test_what_is_no_image_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(data)
    assert not caught.value.transient


# Cut and damaged files


@pytest.mark.parametrize("name", SMALL)
def test_no_cut_anywhere_is_accepted(name: str) -> None:
    data, _ = SMALL[name]
    whole_yx = decode_image(data).gray_yx
    for n_bytes in range(len(data)):
        if n_bytes >= len(data) - NOTHING_LOST.get(name, 0):
            assert mean_difference(decode_image(data[:n_bytes]).gray_yx, whole_yx) == 0
            continue
        with pytest.raises(ImageError):
            decode_image(data[:n_bytes])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("JPEG", "truncated JPEG: no end-of-image marker"),
        ("JPEG progressive", "truncated JPEG: no end-of-image marker"),
        ("PNG", "truncated PNG: no IEND chunk"),
        ("PNG animated", "truncated PNG: no IEND chunk"),
        ("WebP", "truncated WebP: "),
        ("TIFF", "truncated TIFF: pixels lie past the end"),
        ("TIFF LZW", "truncated TIFF: a directory lies past the end"),
        ("GIF", "GIF cannot be decoded: cut short"),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_cut_is_called_by_its_name(name: str, reason: str, share: float) -> None:
    data, _ = SCENE[name]
    with pytest.raises(ImageError, match=reason):
        decode_image(data[: int(len(data) * share)])


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    thumbnail = to_bytes(scene(40, 30), "JPEG")
    body = b"Exif\0\0" + b"II*\0\x08\0\0\0" + struct.pack("<HI", 0, 0) + thumbnail
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    data = SCENE["JPEG"][0]
    data = data[:2] + segment + data[2:]
    assert decode_image(data).width == 320
    with pytest.raises(ImageError, match="no end-of-image marker"):
        decode_image(data[:-2])


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "PNG", "WebP", "TIFF", "GIF"])
def test_bytes_behind_the_end_do_not_matter(name: str) -> None:
    data, _ = SCENE[name]
    longer = decode_image(data + b"a film of three seconds" * 100)
    assert mean_difference(longer.gray_yx, decode_image(data).gray_yx) == 0


def test_a_png_with_a_flipped_bit_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(SCENE["PNG"][0])
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="damaged PNG: checksum of IDAT"):
        decode_image(bytes(data))
    assert capfd.readouterr().err == ""


def test_optional_png_chunks_change_neither_gray_nor_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    plain = SCENE["PNG"][0]
    profile = png_chunk(b"iCCP", b"wrong\0\0" + zlib.compress(b"?" * 200))
    gamma = png_chunk(b"gAMA", struct.pack(">I", 100_000))
    image = decode_image(png_with(plain, gamma, profile))
    assert mean_difference(image.gray_yx, decode_image(plain).gray_yx) == 0
    assert capfd.readouterr().err == ""


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(SMALL)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_gives_an_image_or_an_image_error(
    name: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(SMALL[name][0])
    for where, value in changes:
        data[int(where**2 * (len(data) - 1))] = value  # squared: headers are at the start
    try:
        image = decode_image(bytes(data))
    except ImageError:
        return
    assert image.gray_yx.size > 0


# Which way is up


@pytest.mark.parametrize("max_side", [None, 160, 100])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(format_: str, orientation: int, max_side: int | None) -> None:
    stored = scene()
    operations = [
        None,
        PilImage.Transpose.FLIP_LEFT_RIGHT,
        PilImage.Transpose.ROTATE_180,
        PilImage.Transpose.FLIP_TOP_BOTTOM,
        PilImage.Transpose.TRANSPOSE,
        PilImage.Transpose.ROTATE_270,
        PilImage.Transpose.TRANSVERSE,
        PilImage.Transpose.ROTATE_90,
    ]
    operation = operations[orientation - 1]
    upright = stored if operation is None else stored.transpose(operation)
    image = decode_image(with_orientation(stored, format_, orientation), max_side=max_side)
    assert (image.width, image.height) == upright.size
    h, w = image.gray_yx.shape
    assert (w * image.scale_x, h * image.scale_y) == upright.size
    expected_yx = np.asarray(upright.convert("L").resize((w, h), PilImage.Resampling.BOX))
    assert mean_difference(image.gray_yx, expected_yx) < 2


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_of_either_byte_order_and_nonsense_is_ignored(order: str) -> None:
    def exif(value: int) -> bytes:
        mark = b"II*\0" if order == "<" else b"MM\0*"
        entry = struct.pack(order + "HHIHH", 0x112, 3, 1, value, 0)
        return mark + struct.pack(order + "IH", 8, 1) + entry

    def size(body: bytes) -> tuple[int, int]:
        image = decode_image(png_with(SCENE["PNG"][0], png_chunk(b"eXIf", body)))
        return image.width, image.height

    assert size(exif(6)) == (240, 320)
    assert size(b"Exif\0\0" + exif(6)) == (240, 320)  # some writers keep JPEG's prefix
    for nonsense in (exif(0), exif(9), exif(6)[:12], b"", b"??", b"II*\0\xff\xff\xff\xff"):
        assert size(nonsense) == (320, 240)


# How big


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    ("max_side", "shape"), [(None, (240, 320)), (320, (240, 320)), (100, (75, 100)), (1, (1, 1))]
)
def test_the_longest_side_is_at_most_max_side(
    name: str, max_side: int | None, shape: tuple[int, int]
) -> None:
    image = decode_image(SCENE[name][0], max_side=max_side)
    assert image.gray_yx.shape == shape
    assert (image.width, image.height) == (320, 240)


def test_a_thin_image_keeps_a_pixel() -> None:
    data = to_bytes(scene(2000, 2), "PNG")
    assert decode_image(data, max_side=100, longest=True).gray_yx.shape == (1, 100)


@pytest.mark.parametrize(
    ("width", "height", "max_side", "shape"),
    [
        (1600, 800, 400, (200, 400)),  # up to 2:1 the longest side counts
        (2000, 800, 400, (200, 500)),  # then the short one is half of it
        (3200, 800, 400, (200, 800)),
        (5120, 128, 160, (25, 1012)),  # as long as there are no more px than in a square
        (128, 5120, 160, (1012, 25)),
        (3000, 30, 640, (30, 3000)),  # few enough as they are
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_long_shape_keeps_its_short_side(
    kind: str, width: int, height: int, max_side: int, shape: tuple[int, int]
) -> None:
    data = to_bytes(scene(width, height), kind)
    image = decode_image(data, max_side=max_side)
    assert image.gray_yx.shape == shape
    assert image.gray_yx.size < 1.01 * max_side**2
    assert (image.width, image.height) == (width, height)
    h, w = shape
    assert (w * image.scale_x, h * image.scale_y) == pytest.approx((width, height))
    part = decode_image(data, max_side=max_side, region=Region(0, 0, width, height))
    assert mean_difference(part.gray_yx, image.gray_yx) == 0
    shown = decode_image(data, max_side=max_side, longest=True)
    assert max(shown.gray_yx.shape) == max_side


def test_max_side_below_1_is_refused() -> None:
    with pytest.raises(ParameterError, match="max_side is 0"):
        decode_image(SCENE["PNG"][0], max_side=0)


@pytest.mark.parametrize(
    ("width", "height", "orientation", "max_side", "factor"),
    [
        (4032, 3024, 1, 640, 4),
        (8160, 6144, 6, 640, 8),
        (5120, 2560, 1, 640, 8),
        (5119, 2560, 1, 640, 4),
        (5120, 10, 1, 640, 1),
        (20480, 1280, 1, 640, 8),
        (1279, 900, 1, 640, 1),
        (4003, 3001, 1, 640, 4),
        (4003, 3001, 3, 640, 1),
        (4004, 3002, 3, 640, 2),
        (4032, 3024, 1, None, 1),
    ],
)
def test_how_far_a_jpeg_is_reduced_in_decoding(
    width: int, height: int, orientation: int, max_side: int | None, factor: int
) -> None:
    by = module._reduction(width, height, max_side, longest=False)
    assert module._jpeg_factor(module.Header("JPEG", width, height, b"", orientation), by) == factor
    assert module._jpeg_factor(module.Header("PNG", width, height, b""), by) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1600, 1200), (1603, 1201)])
def test_points_return_to_where_they_were(size: tuple[int, int], orientation: int) -> None:
    """The centre of mass of a spot, found in the reduced image, against where it was drawn.

    1603x1201 is no whole number of 8x8 blocks, where a careless scale is off by up to 4 px here.
    """
    w, h = size
    y, x = np.mgrid[:h, :w]
    x0, y0 = w - 200.0, h - 150.0
    spot_yx = 255 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 25.0**2))
    data = with_orientation(PilImage.fromarray(spot_yx.astype(np.uint8)), "JPEG", orientation)
    image = decode_image(data, max_side=200)
    assert max(image.gray_yx.shape) == 200
    mass_yx = image.gray_yx.astype(float)
    mass_yx[mass_yx < 8] = 0
    small_y, small_x = np.mgrid[: mass_yx.shape[0], : mass_yx.shape[1]]
    found_x = (mass_yx * small_x).sum() / mass_yx.sum()
    found_y = (mass_yx * small_y).sum() / mass_yx.sum()
    right, down = w - 1, h - 1
    expected = {
        1: (x0, y0),
        2: (right - x0, y0),
        3: (right - x0, down - y0),
        4: (x0, down - y0),
        5: (y0, x0),
        6: (down - y0, x0),
        7: (down - y0, right - x0),
        8: (y0, right - x0),
    }[orientation]
    in_original = (
        (found_x + 0.5) * image.scale_x - 0.5,
        (found_y + 0.5) * image.scale_y - 0.5,
    )
    assert in_original == pytest.approx(expected, abs=0.15)  # 0.02 px of the reduced one


@pytest.mark.parametrize("name", SMALL)
def test_too_many_pixels_are_refused_before_decoding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imdecode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    with pytest.raises(ImageError, match="too many pixels: 40x30"):
        decode_image(SMALL[name][0], max_pixels=40 * 30 - 1)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16_383, 300), (70_001, 66_000)])
def test_a_webp_canvas_has_24_bits_a_side(width: int, height: int) -> None:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + sides
    header = header_module._webp(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)
    assert (header.width, header.height) == (width, height)


def test_a_decompression_bomb_is_refused_with_its_numbers() -> None:
    rows = zlib.compress(bytes(20_000 * (20_000 // 8 + 1)), 9)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    assert len(bomb) < 100_000
    message = "too many pixels: 20000x20000 = 400 million, at most 200 million"
    with pytest.raises(ImageError, match=message):
        decode_image(bomb)


def test_a_jpeg_counts_as_it_is_decoded_unless_progressive() -> None:
    most = 160 * 120
    image = decode_image(SCENE["JPEG"][0], max_side=100, max_pixels=most)
    assert image.gray_yx.shape == (75, 100)
    for name, max_side in (("JPEG", None), ("JPEG progressive", 100), ("PNG", 100)):
        with pytest.raises(ImageError, match="too many pixels"):
            decode_image(SCENE[name][0], max_side=max_side, max_pixels=most)


# Colour


@pytest.mark.parametrize("name", SCENE)
def test_gray_is_what_the_colours_weigh(name: str) -> None:
    """Colours come with the same size and the same way up as gray; channels are R, G, B."""
    data, _ = SCENE[name]
    image, colors = decode_image(data), decode_image(data, color=True)
    assert (colors.width, colors.height) == (image.width, image.height)
    weighed_yx = colors.rgb_yx3 @ np.array([0.299, 0.587, 0.114])
    assert mean_difference(weighed_yx, image.gray_yx) < 2.5


def test_channels_are_red_green_blue() -> None:
    red = PilImage.new("RGB", (20, 20), (250, 10, 40))
    assert decode_image(to_bytes(red, "PNG"), color=True).rgb_yx3[5, 5].tolist() == [250, 10, 40]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_colours_are_rotated_as_gray_is(orientation: int) -> None:
    data = with_orientation(scene(320, 240), "JPEG", orientation)
    for max_side in (100, None):
        gray_yx = decode_image(data, max_side=max_side).gray_yx
        rgb_yx3 = decode_image(data, max_side=max_side, color=True).rgb_yx3
        assert mean_difference(rgb_yx3 @ np.array([0.299, 0.587, 0.114]), gray_yx) < 2.5


# Regions


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_region_is_that_part_of_the_upright_image(kind: str, orientation: int) -> None:
    data = with_orientation(scene(320, 240), kind, orientation)
    whole_yx = decode_image(data, max_side=None).gray_yx
    _, w = whole_yx.shape
    region = Region(w - 150, 60, 100, 81)
    part = decode_image(data, max_side=None, region=region)
    assert (part.width, part.height, part.region) == (100, 81, region)
    np.testing.assert_array_equal(part.gray_yx, whole_yx[60:141, w - 150 : w - 50])


def test_a_region_is_read_as_finely_as_an_image_of_its_size() -> None:
    data = to_bytes(scene(1600, 1200), "JPEG")
    part = decode_image(data, max_side=200, region=Region(800, 403, 400, 300))
    # decoded at 1/2, hence grown to even px
    assert part.region == Region(800, 402, 400, 302)
    assert max(part.gray_yx.shape) == 200
    assert (part.scale_x, part.scale_y) == pytest.approx((2, 2))
    whole_yx = decode_image(data, max_side=800).gray_yx
    np.testing.assert_array_equal(part.gray_yx, whole_yx[201:352, 400:600])


def test_a_region_at_the_edge_is_cut_there() -> None:
    data = SCENE["PNG"][0]
    assert decode_image(data, region=Region(300, 200, 500, 500)).region == Region(300, 200, 20, 40)
    with pytest.raises(ParameterError, match="outside of the image of 320x240 px"):
        decode_image(data, region=Region(320, 0, 10, 10))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,0,9,9", "0,0,0,9"])
def test_a_region_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ParameterError, match="region"):
        Region.parse(text)
    with pytest.raises(ParameterError, match="region"):
        Region.parse("-1,0,5,5")


# OpenCV


@pytest.mark.parametrize(
    ("error", "reason", "transient"),
    [
        (cv2.error("made up"), "PNG cannot be decoded", False),
        (MemoryError(), "not enough memory", True),
    ],
)
def test_errors_of_opencv_do_not_escape(
    error: Exception, reason: str, transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imdecode(*_: object) -> None:
        raise error

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(SCENE["PNG"][0])
    assert caught.value.transient is transient


@pytest.mark.parametrize("name", ["BMP", "GIF", "PGM", "TIFF Lab", "JPEG", "PNG", "WebP"])
def test_refusing_leaves_stderr_clean_and_opencv_as_it_was(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "TIFF Lab":  # OpenCV warns that it cannot read these
        page = tiff_page(
            np.zeros((9, 9, 3), "f4"), np.random.default_rng(0), order="<", photometric=8
        )
        data = tiff_file(page)
    else:
        data = SCENE[name][0]
        data = data[: len(data) // 2]
    logging: Any = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    with pytest.raises(ImageError):
        decode_image(data)
    assert capfd.readouterr().err == ""
    assert logging.getLogLevel() == before


def test_importing_imports_no_opencv() -> None:
    code = "import sys, vladkit.features, vladkit.images; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_decoder_is_on_record() -> None:
    facts = decoder_facts()
    assert facts["decoder_version"] == cv2.__version__
    assert facts["exif_orientation"] == "applied"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the repository")
def test_real_images_are_read_at_the_size_that_pillow_sees() -> None:
    paths = [path for path in sorted((SHARED / "data").rglob("*")) if is_image_name(path)][::40]
    assert paths
    for path in paths:
        image = read_image(path)
        with PilImage.open(path) as other:
            on_its_side = other.getexif().get(0x112, 1) >= 5
            assert (image.width, image.height) == (other.size[::-1] if on_its_side else other.size)
        assert max(image.gray_yx.shape) <= 640
