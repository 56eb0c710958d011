"""Kinds of JPEG: without loss by one rule, those that nobody reads by name, and damaged ones."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from images import scene, to_bytes, with_orientation
from vladkit.errors import ImageError
from vladkit.images import decode_image

RGB = np.asarray(scene(64, 48))
PLAIN = to_bytes(scene(64, 48), "JPEG")


def lossless(pixel_yxc, *, frame=0xC3):
    """A JPEG of differences to the neighbour on the left."""
    h, w, c = pixel_yxc.shape
    out = b"\xff\xd8\xff" + struct.pack(">BHBHHB", frame, 8 + 3 * c, 8, h, w, c)
    out += b"".join(bytes([i + 1, 0x11, 0]) for i in range(c))
    table = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])  # 17 codes of 5 bits
    out += b"\xff\xc4" + struct.pack(">HB", 36, 0) + table
    out += b"\xff\xda" + struct.pack(">HB", 6 + 2 * c, c)
    out += b"".join(bytes([i + 1, 0]) for i in range(c)) + b"\1\0\0"
    number = pixel_yxc.astype(int)
    step = np.diff(number, axis=1, prepend=0)
    step[1:, 0] = np.diff(number[:, 0], axis=0)
    step[0, 0] -= 128
    bits = []
    for each in step.reshape(-1).tolist():
        n = abs(each).bit_length()
        bits.append(f"{n:05b}")
        bits.append(f"{each if each > 0 else each + (1 << n) - 1:0{n}b}" if n else "")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    return out + body + b"\xff\xd9"


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("max_side", [None, 64, 16, 8])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_without_loss_by_one_rule(n_channels, max_side, color):
    """OpenCV gives gray ones as gray alone, and colours as colours, and none smaller."""
    stored = RGB[:, :, :n_channels]
    data = lossless(stored)
    image = decode_image(data, max_side=max_side, color=color)
    assert (image.width, image.height) == (64, 48)
    png = to_bytes(PilImage.fromarray(stored.squeeze()), "PNG")
    same = decode_image(png, max_side=max_side, color=color)
    assert image.pixels.shape == same.pixels.shape
    assert np.abs(image.pixels.astype(int) - same.pixels).max() <= 1


def test_without_loss_upright():
    exif = with_orientation(scene(64, 48), "JPEG", 6)
    length = struct.unpack_from(">H", exif, exif.index(b"\xff\xe1") + 2)[0]
    at = exif.index(b"\xff\xe1")
    data = lossless(RGB)
    upright = decode_image(data[:2] + exif[at : at + 2 + length] + data[2:], max_side=None)
    np.testing.assert_array_equal(
        upright.gray_yx, np.rot90(decode_image(data, max_side=None).gray_yx, -1)
    )


def frame_of(data, *, marker=None, n_bits=None, n_channels=None):
    """The file with another start of frame."""
    at = data.index(b"\xff\xc0")
    out = bytearray(data)
    if marker is not None:
        out[at + 1] = marker
    if n_bits is not None:
        out[at + 4] = n_bits
    if n_channels is not None:
        out[at + 9] = n_channels
    return bytes(out)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_bits": 12}, "JPEG of 12 bits is not supported: convert it"),
        ({"n_bits": 16, "marker": 0xC3}, "JPEG of 16 bits is not supported"),
        ({"n_channels": 2}, "JPEG of 2 channels is not supported"),
        ({"n_channels": 5}, "JPEG of 5 channels is not supported"),
        ({"marker": 0xC3}, "JPEG with lossless coding cannot be decoded"),
        ({"marker": 0xC5}, "hierarchical JPEG is not supported"),
        ({"marker": 0xCA}, "JPEG with arithmetic coding cannot be decoded"),
        ({"marker": 0xCB}, "JPEG with lossless arithmetic coding is not supported"),
        ({"marker": 0xCF}, "hierarchical JPEG is not supported"),
        ({"marker": 0xF7}, "JPEG-LS is not supported: convert it"),
    ],
)
def test_kinds_that_nobody_reads_are_named(changes, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(frame_of(PLAIN, **changes))
    assert not caught.value.transient


RESTARTS = to_bytes(scene(64, 48), "JPEG", restart_marker_blocks=1)  # 11 of them


@pytest.mark.parametrize(
    "options",
    [
        {"restart_marker_blocks": 1},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 500},
    ],
)
@pytest.mark.parametrize("size", [(64, 48), (65, 33), (7, 100)])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "more", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}]
)
def test_sound_ones_with_restarts_are_read(options, size, mode, more):
    image = scene(*size).convert(mode)
    data = to_bytes(image, "JPEG", quality=90, **options, **more)
    expected = np.asarray(PilImage.open(io.BytesIO(data)).convert("L")).astype(int)
    assert np.abs(decode_image(data, max_side=None).gray_yx - expected).mean() < 3
    last = data[:-2] + b"\xff\xd0\xff\xfe\0\4ab" + data[-2:]  # some cameras have one more
    assert decode_image(last, max_side=None).width == size[0]


DAMAGED = {
    "another begins within": (lambda data: data[:-200] + PLAIN, "a marker among its pixels"),
    "another frame": (lambda data: data[:-200] + b"\xff\xc0" + data[-200:], "a marker among"),
    "another scan": (lambda data: data[:-200] + b"\xff\xda" + data[-200:], "a marker among"),
    "no marker that is known": (lambda data: data[:-9] + b"\xff\x02" + data[-7:], "a marker among"),
    "a restart is gone": (lambda data: data.replace(b"\xff\xd4", b"ab"), "restart markers"),
    "restarts change places": (
        lambda data: data.replace(b"\xff\xd4", b"\xff\xd5"), "restart markers"
    ),
    "zeros": (lambda data: data[:-200] + bytes(100) + data[-100:], "restart markers"),
    "one more": (lambda data: data[:-200] + b"\xff\xd3" + data[-200:], "restart markers"),
    "the last part": (lambda data: data[: data.index(b"\xff\xd2") + 2] + data[-2:], "restart"),
    "cut": (lambda data: data[:-200] + data[-50:], "restart markers"),
}  # fmt: skip


@pytest.mark.parametrize("way", DAMAGED)
@pytest.mark.parametrize("max_side", [None, 16])
def test_damage_among_the_pixels_is_named(way, max_side):
    """libjpeg fills up with gray, and OpenCV says nothing; the rest is as libjpeg has it."""
    change, reason = DAMAGED[way]
    assert decode_image(RESTARTS, max_side=max_side).height == 48
    with pytest.raises(ImageError, match=f"damaged JPEG: {reason}") as caught:
        decode_image(change(RESTARTS), max_side=max_side)
    assert not caught.value.transient


def test_a_restart_that_the_file_does_not_state():
    """libjpeg decodes nothing behind it."""
    data = PLAIN[:-100] + b"\xff\xd0" + PLAIN[-100:]
    with pytest.raises(ImageError, match="restart markers among its pixels are missing, or too"):
        decode_image(data)


def test_segments_between_scans_are_passed_over():
    data = to_bytes(scene(64, 48), "JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    more = data[:second] + b"\xff\xfe\0\x06\xff\xd9\xff\xd8" + data[second:] + data
    np.testing.assert_array_equal(decode_image(more).gray_yx, decode_image(data).gray_yx)
    with pytest.raises(ImageError, match="truncated JPEG: no end-of-image marker"):
        decode_image(data[:-2])
