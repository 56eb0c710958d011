"""GIF whose first frame is not its canvas."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vladkit.errors import ImageError
from vladkit.images import decode_image

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 250, (256, 3), np.uint8)
OTHERS = COLORS[::-1].copy()
COMMENT = b"\x21\xfe\x05hello\x03all\0"
CLEAR, END, BITS = 256, 257, 9


def packed(index_yx):
    """Codes of 9 bits, as no table that is built up ever grows."""
    codes = []
    for i, value in enumerate(index_yx.reshape(-1)):
        codes += [CLEAR] * (i % 200 == 0) + [int(value)]
    number = sum(code << BITS * i for i, code in enumerate([*codes, END]))
    body = number.to_bytes(BITS * (len(codes) + 1) // 8 + 1, "little")
    blocks = [body[i : i + 255] for i in range(0, len(body), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif(canvas, left, top, index_yx, *, key=None, own=False, common=True):
    h, w = index_yx.shape
    out = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0xF7 if common else 0x70, 7, 0)
    out += (COLORS.tobytes() if common else b"") + COMMENT
    if key is not None:
        out += b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, key) + b"\0"
    out += b"," + struct.pack("<HHHHB", left, top, w, h, 0x87 if own else 0)
    return out + (OTHERS.tobytes() if own else b"") + packed(index_yx) + b";"


INDEX = RNG.integers(0, 256, (20, 25))


@pytest.mark.parametrize("key", [None, 3])
@pytest.mark.parametrize(("own", "common"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize(
    ("canvas", "left", "top", "size"),
    [
        ((25, 20), 0, 0, (25, 20)),
        ((40, 30), 0, 0, (40, 30)),
        ((40, 30), 5, 6, (40, 30)),
        ((40, 30), 15, 10, (40, 30)),
        ((25, 20), 5, 6, (30, 26)),  # as browsers and Pillow have it
        ((40, 10), 0, 0, (40, 20)),
        ((0, 0), 0, 0, (25, 20)),
    ],
)
def test_what_the_frame_leaves_is_transparent(canvas, left, top, size, key, own, common):
    image = decode_image(gif(canvas, left, top, INDEX, key=key, own=own, common=common), color=True)
    frame = (OTHERS if own else COLORS)[INDEX]
    if key is not None:
        frame = np.where((key == INDEX)[:, :, None], 255, frame)
    wanted = np.full((size[1], size[0], 3), 255)
    wanted[top : top + 20, left : left + 25] = frame
    np.testing.assert_array_equal(image.rgb_yx3, wanted)


def test_damaged_ones_are_named():
    with pytest.raises(ImageError, match="damaged GIF: its first frame ends at 65545 px"):
        decode_image(gif((40, 30), 65525, 0, INDEX[:, :20]))
    data = gif((25, 20), 0, 0, INDEX)
    with pytest.raises(ImageError, match="damaged GIF: no image in it"):
        decode_image(data[: 13 + 768] + b";")
    with pytest.raises(ImageError, match="truncated GIF: ends within its header"):
        decode_image(data[: 13 + 768 + 5])
    with pytest.raises(ImageError, match="damaged GIF: more than 200,000 parts"):
        decode_image(data[: 13 + 768] + b"\x21\xfe\0" * 300_000 + data[13 + 768 :])
