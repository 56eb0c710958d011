"""Places that state which way is up: the first that says something, and limits on all."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from families import exif_block, jpeg_with, raw_profile, segment, xmp_packet
from images import png_chunk, scene, to_bytes
from vladkit.errors import ImageError
from vladkit.images import decode_image, orientation
from vladkit.images.orientation import Places, exif_orientation, xmp_orientation

JPEG = to_bytes(scene(60, 40), "JPEG")
EXIF = {n: exif_block(n, "<") for n in range(10)}


def app1(block):
    return segment(0xE1, b"Exif\0\0" + block)


def size(*segments):
    image = decode_image(JPEG[:2] + b"".join(segments) + JPEG[2:])
    return image.width, image.height


def test_the_first_place_that_says_something():
    assert size(app1(EXIF[6]), app1(EXIF[1])) == (40, 60)
    assert size(app1(EXIF[1]), app1(EXIF[6])) == (60, 40)
    assert size(app1(b"Exif\0\0" + EXIF[6])) == (40, 60)  # the prefix twice
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet(6, element=True))
    assert size(xmp, app1(EXIF[1])) == (60, 40)
    for nothing in (EXIF[0], EXIF[9], b"", b"??", b"II*\0\xff\xff\xff\xff"):
        assert size(app1(nothing), app1(EXIF[6])) == (40, 60)
        assert size(app1(nothing), xmp) == (40, 60)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (b'tiff:Orientation="6"', 6),
        (b"tiff:Orientation = '8'", 8),
        (b"<tiff:Orientation> 3 </tiff:Orientation>", 3),
        (b'tiff:Orientation="0"', 0),
        (b'tiff:Orientation="66"', 0),
        (b'exif:Orientation="6"', 0),
        (b"", 0),
    ],
)
def test_of_xmp(text, stated):
    assert xmp_orientation(text) == stated


@pytest.mark.parametrize(
    "text", [b"", b"\nexif\n 9\nzz", b"\nexif\n", b"exif", b"\xff\xfe\n\n\n\xff"]
)
def test_a_damaged_profile_says_nothing(text):
    places = Places()
    places.add_text(b"tEXt", b"Raw profile type exif\0" + text)
    places.add_text(b"zTXt", b"Raw profile type exif\0\0" + text)
    places.add_text(b"iTXt", b"Raw profile type exif\0" + text)
    assert places.orientation() == 1
    places.add_text(b"tEXt", b"Raw profile type APP1\0" + raw_profile(EXIF[6]))
    assert places.orientation() == 6


def test_text_is_unpacked_within_limits(monkeypatch):
    """Each chunk of 1 kB says that it is of 1 MB."""
    unpacked = []

    class Counting:
        def decompress(self, data, most):
            unpacked.append(most)
            return zlib.decompress(data)[:most]

    monkeypatch.setattr(orientation.zlib, "decompressobj", Counting)
    bomb = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(1 << 20)))
    data = to_bytes(scene(60, 40), "PNG")
    decode_image(data[:33] + bomb * 500 + data[33:])
    assert len(unpacked) == 16
    assert set(unpacked) == {1 << 20}


@pytest.mark.parametrize(
    "junk", [b"\0", bytes(26), b"\xff\0", b"\xff\0\xff\0", b"\xff\xff", b"7\xff"]
)
def test_junk_between_segments_is_passed_over(junk):
    at = JPEG.index(b"\xff\xdb")
    got = decode_image(JPEG[:at] + junk + JPEG[at:])
    np.testing.assert_array_equal(got.gray_yx, decode_image(JPEG).gray_yx)


@pytest.mark.parametrize("marker", [b"\xff\xd0", b"\xff\x01"])
def test_markers_without_content(marker):
    rng = np.random.default_rng(0)
    assert decode_image(jpeg_with(JPEG, [marker], rng)).width == 60


@pytest.mark.parametrize("marker", [b"\xff\xd8", b"\xff\xd9", b"\xff\xe0\0\1"])
def test_markers_that_do_not_belong_there(marker):
    with pytest.raises(ImageError, match="damaged JPEG: a marker in its header"):
        size(marker)


def test_a_tag_that_says_the_same_twice():
    """Two values are refused, as decoders differ in which they take."""
    for second, stated in ((6, 6), (8, 0)):
        entries = [struct.pack("<HHIHH", 0x112, 3, 1, value, 0) for value in (6, second)]
        block = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + bytes(4)
        assert exif_orientation(block) == stated
