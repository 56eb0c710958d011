"""Camera RAW: containers as DNG, CR2, NEF, ARW and RAF have them, made here around real JPEGs."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from families import tiff_file
from images import scene, to_bytes, with_orientation
from vladkit.errors import ImageError
from vladkit.images import decode_image

SMALL = to_bytes(scene(40, 30), "JPEG")
LARGE = to_bytes(scene(96, 64), "JPEG")
SENSOR = b"\xff\xd8\xff\xc3" + struct.pack(">HBHH", 17, 14, 4000, 6000) + bytes(300) + b"\xff\xd9"


def page(body, *, kind=6, starts=273, lengths=279, **tags):
    """Directory with one piece; tags by their numbers, with a _ in front."""
    entries = {256: (4, [6000]), 257: (4, [4000]), 259: (3, [kind])}
    entries |= {int(tag[1:]): (3, [value]) for tag, value in tags.items()}
    return entries, [body], (starts, lengths)


def with_pages_within(*pages):
    """A TIFF whose first directory points to the others (SubIFDs)."""
    data = tiff_file(*pages)
    at = directories(data)
    first, *rest = at
    n = struct.unpack_from("<H", data, first)[0]
    entry = struct.pack("<HHI", 330, 4, len(rest))
    entries = data[first + 2 : first + 2 + 12 * n]
    cut = sum(struct.unpack_from("<H", entries, 12 * i)[0] < 330 for i in range(n))
    where = len(data)
    new = struct.pack("<H", n + 1) + entries[: 12 * cut]
    end = where + 2 + 12 * (n + 1) + 4
    new += entry + struct.pack("<I", end if len(rest) > 1 else rest[0]) + entries[12 * cut :]
    new += bytes(4) + struct.pack(f"<{len(rest)}I", *rest)
    return data[:4] + struct.pack("<I", where) + data[8:] + new


def directories(data):
    at, found = struct.unpack_from("<I", data, 4)[0], []
    while at:
        found.append(at)
        (n,) = struct.unpack_from("<H", data, at)
        (at,) = struct.unpack_from("<I", data, at + 2 + 12 * n)
    return found


def raf(jpeg):
    return (
        b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0")
        + struct.pack(">II", 100, len(jpeg))
        + bytes(8)
        + jpeg
    )


RAW = {
    "DNG": with_pages_within(
        page(bytes(40), kind=1, _254=1, _50706=1),
        page(SENSOR, kind=7, _262=32803),
        page(LARGE, kind=7, _254=1, _262=6),
        page(SMALL, kind=7, _254=1, _262=6),
    ),
    "NEF": with_pages_within(
        page(bytes(40), kind=1, _262=2),
        page(SMALL, starts=513, lengths=514),
        page(bytes(400), kind=34713, _262=32803),
        page(LARGE, starts=513, lengths=514),
    ),
    "ARW": with_pages_within(
        page(LARGE, starts=513, lengths=514), page(bytes(400), kind=32767, _262=32803)
    ),
    "PEF": tiff_file(
        page(bytes(400), kind=65535, _262=32803),
        page(SMALL, starts=513, lengths=514),
        page(LARGE, starts=513, lengths=514),
    ),
    "RAF": raf(LARGE),
}


@pytest.mark.parametrize("kind", RAW)
def test_largest_jpeg_in_it_is_taken(kind):
    found = decode_image(RAW[kind], max_side=None, color=True)
    expected = decode_image(LARGE, max_side=None, color=True)
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_canon():
    data = tiff_file(page(LARGE), page(SMALL, starts=513, lengths=514), page(SENSOR))
    marked = bytearray(b"II*\0" + struct.pack("<I", 0) + b"CR\2\0" + bytes(4) + data)
    move(marked, data, 16)
    found = decode_image(bytes(marked), max_side=None)
    assert (found.width, found.height) == (96, 64)


def move(moved, data, by):
    """Set the places in a TIFF that was moved down."""
    at = directories(data)
    struct.pack_into("<I", moved, 4, at[0] + by)
    for each, following in zip(at, [*at[1:], 0], strict=True):
        (n,) = struct.unpack_from("<H", data, each)
        for i in range(n):
            entry = each + 2 + 12 * i
            tag, _, _, value = struct.unpack_from("<HHII", data, entry)
            if tag in (273, 513):
                struct.pack_into("<I", moved, entry + by + 8, value + by)
        struct.pack_into("<I", moved, each + 2 + 12 * n + by, following + by if following else 0)


def test_orientation_is_that_of_the_first_directory():
    rotated = with_orientation(scene(96, 64), "JPEG", 3)  # what the JPEG says comes second
    pages = page(bytes(400), kind=1, _262=32803), page(rotated, starts=513, lengths=514)
    assert decode_image(tiff_file(*pages)).width == 96
    upright = decode_image(LARGE, max_side=None).gray_yx
    turned = decode_image(tiff_file(*pages), max_side=None).gray_yx
    assert np.abs(turned[::-1, ::-1].astype(int) - upright).mean() < 5
    pages = page(bytes(400), kind=1, _262=32803, _274=6), pages[1]
    assert decode_image(tiff_file(*pages)).width == 64


@pytest.mark.parametrize(
    "data",
    [
        tiff_file(page(SENSOR, kind=7, _262=32803, _50706=1)),
        tiff_file(page(LARGE[:9], kind=7, _262=6, _50706=1)),
        raf(b"\xff\xd8\xff\xc3"),
    ],
)
def test_without_a_preview(data):
    with pytest.raises(ImageError, match="camera RAW without a JPEG preview"):
        decode_image(data)


def test_truncated():
    with pytest.raises(ImageError, match="truncated RAF"):
        decode_image(RAW["RAF"][:-9])
    for kind in ("DNG", "NEF"):
        for n_bytes in range(0, len(RAW[kind]), 53):
            with pytest.raises(ImageError):
                decode_image(RAW[kind][:n_bytes])


def test_damage_is_an_image_or_an_error():
    rng = np.random.default_rng(0)
    n_refused = 0
    for kind in ("DNG", "PEF"):
        for _ in range(200):
            damaged = bytearray(RAW[kind])
            for at in rng.integers(len(damaged) - 500, len(damaged), 3):
                damaged[at] = rng.integers(256)
            try:
                decode_image(bytes(damaged))
            except ImageError:
                n_refused += 1
    assert n_refused


def test_mpo_is_its_first_image():
    more = [scene(40, 30, seed=1)]
    data = to_bytes(scene(96, 64), "MPO", save_all=True, append_images=more)
    np.testing.assert_array_equal(decode_image(data).pixels, decode_image(LARGE).pixels)
