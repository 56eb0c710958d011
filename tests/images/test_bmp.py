"""BMP whose pixels are words, of which masks say what each bit is."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from families import over_white
from images import scene
from vladkit.errors import ImageError
from vladkit.images import decode_image

RGB = np.asarray(scene(41, 30))
MASKS = {
    "565": (16, (0xF800, 0x7E0, 0x1F)),
    "555": (16, (0x7C00, 0x3E0, 0x1F)),
    "444": (16, (0xF00, 0xF0, 0xF)),
    "332": (16, (0xE0, 0x1C, 0x3)),
    "BGR": (32, (0xFF0000, 0xFF00, 0xFF)),
    "RGB": (32, (0xFF, 0xFF00, 0xFF0000)),
    "RGB behind a byte": (32, (0xFF000000, 0xFF0000, 0xFF00)),
    "10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "one of all bits": (32, (0xFFFFFFFF, 0, 0)),
}


def bmp(sample_yxc, n_bits, masks, *, header=40, kind=3, upward=True):
    """A BMP of such words; behind a header of 40 bytes come the masks."""
    h, w = sample_yxc.shape[:2]
    word_yx = np.zeros((h, w), np.int64)
    for mask, level_yx in zip(masks, np.moveaxis(sample_yxc, 2, 0), strict=False):
        if mask:
            most = mask // (mask & -mask)
            word_yx |= np.rint(level_yx / 255 * most).astype(np.int64) * (mask & -mask)
    rows = word_yx.astype(f"<u{n_bits // 8}")[:: -1 if upward else 1]
    body = b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in rows)
    side = h if upward else -h
    head = struct.pack("<IiiHHIIiiII", header, w, side, 1, n_bits, kind, len(body), 0, 0, 0, 0)
    if kind:
        behind = 4 * (3 + (kind == 6)) if header == 40 else header - 40
        head += struct.pack("<4I", *masks, *[0] * (4 - len(masks))).ljust(behind, b"\0")[:behind]
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body


def rounded(masks):
    """Levels that are left of so many bits."""
    most = np.array([mask // (mask & -mask) if mask else 1 for mask in masks[:3]])
    return np.rint(np.rint(RGB / 255 * most) / most * 255) * (np.array(masks[:3]) > 0)


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("upward", [True, False])
def test_any_masks_behind_any_header(name, header, upward):
    n_bits, masks = MASKS[name]
    data = bmp(RGB, n_bits, masks, header=header, upward=upward)
    got = decode_image(data, max_side=None, color=True).rgb_yx3
    np.testing.assert_array_equal(got, rounded(masks))
    gray_yx = decode_image(data, max_side=None).gray_yx
    assert np.abs(gray_yx - rounded(masks) @ [0.299, 0.587, 0.114]).max() < 1.1


@pytest.mark.parametrize(("n_bits", "name"), [(16, "555"), (32, "BGR")])
def test_words_without_masks(n_bits, name):
    got = decode_image(bmp(RGB, n_bits, MASKS[name][1], kind=0), max_side=None, color=True)
    np.testing.assert_array_equal(got.rgb_yx3, rounded(MASKS[name][1]))


@pytest.mark.parametrize(("header", "kind"), [(40, 6), (56, 3), (56, 6), (124, 3)])
@pytest.mark.parametrize(
    ("n_bits", "masks"),
    [
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    ],
)
def test_masks_of_opacity(header, kind, n_bits, masks):
    for opacity in (np.r_[[0] * 10, [255] * 20], np.full(30, 255), np.zeros(30)):
        alpha_yx1 = np.broadcast_to(opacity[:, None, None], (30, 41, 1))
        data = bmp(np.dstack([RGB, alpha_yx1]), n_bits, masks, header=header, kind=kind)
        got = decode_image(data, max_side=None, color=True).rgb_yx3
        is_written = opacity.any()
        wanted = over_white(rounded(masks), alpha_yx1 / 255) if is_written else rounded(masks)
        np.testing.assert_array_equal(got, wanted)


def test_damaged_ones_are_named():
    n_bits, masks = MASKS["565"]
    data = bmp(RGB, n_bits, masks)
    with pytest.raises(ImageError, match="truncated BMP: pixels lie past the end"):
        decode_image(data[:-1])
    for wrong in ((0, 0, 0), (0xF00F, 0x7E0, 0x1F)):
        with pytest.raises(ImageError, match="damaged BMP: its masks are none"):
            decode_image(data[:54] + struct.pack("<3I", *wrong) + data[66:])
    with pytest.raises(ImageError, match="too many pixels"):
        decode_image(data[:18] + struct.pack("<ii", 2**31 - 1, -(2**31)) + data[26:])
