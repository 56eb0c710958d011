"""Camera RAW: containers as DNG, CR2, CR3, NEF, ARW, RAF, RW2 have them, made here around JPEGs."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from families import tiff_file
from images import scene, to_bytes, with_orientation
from vladkit.errors import ImageError
from vladkit.images import decode_image
from vladkit.images.exif import Photo
from vladkit.images.header import read_header

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


def box(kind, *content):
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def track(size, where):
    """A track with one sample, as CR3 has one for its JPEG and two for the sensor's."""
    table = box(b"stbl", box(b"stsd", bytes(100)), box(b"stsz", struct.pack(">4xII", size, 1)),
                box(b"free", bytes(7)), box(b"co64", struct.pack(">4xIQ", 1, where)))  # fmt: skip
    return box(b"trak", box(b"tkhd", bytes(84)), box(b"mdia", box(b"hdlr"), box(b"minf", table)))


def facts(*entries):
    """A TIFF with one directory: tag, type, count, 4 bytes or more."""
    at = 10 + 12 * len(entries) + 4
    head, rest = struct.pack("<H", len(entries)), b""
    for tag, code, count, value in sorted(entries):
        if len(value) > 4:
            value, rest = struct.pack("<I", at + len(rest)), rest + value
        head += struct.pack("<HHI", tag, code, count) + value.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + head + bytes(4) + rest


def text(tag, value):
    return tag, 2, len(value) + 1, value + b"\0"


def degrees(tag, *numbers):
    return tag, 5, 3, b"".join(struct.pack("<II", n, 1) for n in numbers)


UUIDS = "85c0b687820f11e08111f4ce462b6a48", "eaf42b5e1c984b88b9fbb7dc406e4d16"


def cr3(large, preview=SMALL, orientation=1):
    """Canon's boxes in Canon's order; the JPEG in full size lies in "mdat", as the sensor's do."""
    of_canon, of_preview = map(bytes.fromhex, UUIDS)
    first = facts(
        text(271, b"Canon"),
        text(272, b"Canon EOS R6"),
        (274, 3, 1, struct.pack("<H", orientation)),
        text(306, b"2021:01:01 00:00:00"),
    )
    taken = facts(text(36867, b"2020:05:17 12:30:05"))
    place = facts(text(1, b"S"), degrees(2, 33, 51, 0), text(3, b"E"), degrees(4, 151, 12, 36))
    size = struct.pack(">4xHHHHI", 1, 40, 30, 1, len(preview))
    start = box(b"ftyp", b"crx ", struct.pack(">I", 1), b"crx isom")
    behind = box(b"uuid", of_preview, struct.pack(">II", 0, 1), box(b"PRVW", size, preview))

    def moov(where):
        own = box(
            b"uuid",
            of_canon,
            box(b"CNCV", bytes(30)),
            box(b"CMT1", first),
            box(b"CMT2", taken),
            box(b"CMT3", bytes(40)),
            box(b"CMT4", place),
            box(b"THMB", bytes(30)),
        )
        tracks = track(len(large), where), track(len(SENSOR), where + len(large))
        return box(b"moov", own, box(b"mvhd", bytes(100)), *tracks)

    where = len(start) + len(moov(0)) + len(behind) + 16
    mdat = struct.pack(">I4sQ", 1, b"mdat", 16 + len(large) + len(SENSOR)) + large + SENSOR
    return start + moov(where) + behind + mdat


def rw2(jpeg, orientation=1):
    """A directory behind a head of its own, with the JPEG in a tag."""
    entries = (274, 3, 1, struct.pack("<H", orientation)), (46, 7, len(jpeg), jpeg)
    return b"IIU\0" + facts(*entries)[4:]


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
    "CR3": cr3(LARGE),
    "CR3, preview alone": cr3(SENSOR, LARGE),
    "RW2": rw2(LARGE),
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


@pytest.mark.parametrize("make", [cr3, rw2])
def test_orientation_is_that_of_the_raw(make):
    upright = decode_image(LARGE, max_side=None).gray_yx
    for orientation, rotated in (
        (3, upright[::-1, ::-1]),
        (6, np.rot90(upright, -1)),
        (0, upright),
    ):
        found = decode_image(make(LARGE, orientation=orientation), max_side=None)
        np.testing.assert_array_equal(found.gray_yx, rotated)
    marked = with_orientation(scene(96, 64), "JPEG", 6)  # the JPEG's counts where the RAW has none
    assert decode_image(make(marked, orientation=0)).width == 64


def test_facts_of_a_cr3():
    photo = read_header(cr3(LARGE)).photo
    assert (photo.taken, photo.camera) == ("2020-05-17 12:30:05", "Canon EOS R6")
    assert (photo.latitude, photo.longitude) == (-33.85, 151.21)


def test_facts_that_are_damaged_state_nothing():
    data = cr3(LARGE)
    for begin in (data.index(b"CMT4") + 4, data.index(b"CMT2") + 4, data.index(b"CMT1") + 4):
        data = data[:begin] + b"\xff" * 12 + data[begin + 12 :]
    assert read_header(data).photo == Photo()
    assert decode_image(data).width == 96


def test_boxes_that_overlap_or_never_end():
    data = bytearray(cr3(LARGE))
    at = data.index(b"PRVW") - 4
    struct.pack_into(">I", data, at, 0)  # to the end of what it is in
    assert decode_image(bytes(data)).width == 96
    struct.pack_into(">I", data, at, 7)
    with pytest.raises(ImageError, match="truncated CR3"):
        decode_image(bytes(data))
    start = box(b"ftyp", b"crx ", bytes(4))
    many = box(b"moov", box(b"uuid", bytes.fromhex(UUIDS[0]), *[box(b"CMT9")] * 300_000))
    with pytest.raises(ImageError, match="more than 200,000 parts"):
        decode_image(start + many)


@pytest.mark.parametrize(
    "data",
    [
        tiff_file(page(SENSOR, kind=7, _262=32803, _50706=1)),
        tiff_file(page(LARGE[:9], kind=7, _262=6, _50706=1)),
        raf(b"\xff\xd8\xff\xc3"),
        cr3(SENSOR, SENSOR),
        rw2(SENSOR),
    ],
)
def test_without_a_preview(data):
    with pytest.raises(ImageError, match="camera RAW without a JPEG preview"):
        decode_image(data)


def test_truncated():
    with pytest.raises(ImageError, match="truncated RAF"):
        decode_image(RAW["RAF"][:-9])
    for kind in ("DNG", "NEF", "CR3", "RW2"):
        for n_bytes in range(0, len(RAW[kind]), 53):
            with pytest.raises(ImageError):
                decode_image(RAW[kind][:n_bytes])


def test_damage_is_an_image_or_an_error():
    rng = np.random.default_rng(0)
    n_refused = 0
    for kind in ("DNG", "PEF", "CR3", "RW2"):
        begin = 0 if kind in ("CR3", "RW2") else len(RAW[kind]) - 500
        for _ in range(200):
            damaged = bytearray(RAW[kind])
            for at in rng.integers(begin, min(begin + 1200, len(damaged)), 3):
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
