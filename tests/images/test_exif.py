"""Date, position and camera, from EXIF that Pillow writes, and from what nobody should write."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import features as pillow_features
from PIL.TiffImagePlugin import IFDRational

from families import raw_profile, tiff_file, tiff_page
from images import png_chunk, scene, to_bytes
from vladkit.images import Photo, decode_image
from vladkit.images.exif import UNKNOWN, photo_of
from vladkit.images.orientation import Places

VIENNA = Photo("2024-05-17 14:03:22", 48.2081667, -16.3738333, "Nikon Z 5")
SCENE = scene(40, 30)


def exif(
    taken="2024:05:17 14:03:22",
    *,
    latitude=(48, 12, 29.4),
    longitude=(16, 22, 25.8),
    refs=("N", "W"),
    make="Nikon",
    model="Nikon Z 5",
):
    found = PilImage.Exif()
    found[271], found[272], found[306] = make, model, "2025:01:01 00:00:00"
    found.get_ifd(34665).update({36867: taken, 36881: "+02:00", 37521: "55"})
    gps = {1: refs[0], 2: latitude, 3: refs[1], 4: longitude, 29: "2024:05:17"}
    found.get_ifd(34853).update(gps)
    return found


def in_tiff():
    """A TIFF of gray pixels around the same directories; Pillow writes no EXIF into TIFF."""
    data = block().removeprefix(b"Exif\0\0")
    (at,) = struct.unpack_from(">I", data, 4)
    (n,) = struct.unpack_from(">H", data, at)
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(n)]
    pixels = bytes(range(100)) * 12
    sizes = {256: 40, 257: 30, 258: 8, 259: 1, 262: 1, 273: len(data), 277: 1, 279: 1200}
    entries += [struct.pack(">HHII", tag, 4, 1, value) for tag, value in sizes.items()]
    directory = struct.pack(">H", len(entries)) + b"".join(sorted(entries)) + bytes(4)
    where = struct.pack(">I", len(data) + len(pixels))
    return data[:4] + where + data[8:] + pixels + directory


def block(**values):
    return exif(**values).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO", "HEIF", "AVIF"])
def test_formats(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif", reason="writes HEIC").register_heif_opener()
    if kind == "AVIF" and not pillow_features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = in_tiff() if kind == "TIFF" else to_bytes(SCENE, kind, exif=exif())
    assert decode_image(data).photo == VIENNA
    assert decode_image(to_bytes(SCENE, kind)).photo == UNKNOWN


def test_profile_that_imagemagick_writes():
    data = to_bytes(SCENE, "PNG")
    at = data.index(b"IDAT") - 4
    profile = b"Raw profile type exif\0" + raw_profile(block().removeprefix(b"Exif\0\0"))
    assert decode_image(data[:at] + png_chunk(b"tEXt", profile) + data[at:]).photo == VIENNA


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ("2024:05:17 14:03:22", "2024-05-17 14:03:22"),
        ("2024-05-17T14:03", "2024-05-17 14:03:00"),
        ("0000:00:00 00:00:00", "2025-01-01 00:00:00"),  # the date of the file's last change
        ("2024:02:30 10:00:00", "2025-01-01 00:00:00"),
        ("    :  :     :  :  ", "2025-01-01 00:00:00"),
        ("2024", "2025-01-01 00:00:00"),
        ("2024-05-17 14:03:22", "2024-05-17 14:03:22"),
        ("2024:05:17 14:03:22.75", "2024-05-17 14:03:22"),
        ("2024:05:17 14:03:22\0\0", "2024-05-17 14:03:22"),
        ("2024:05:17 14:03:22+02:00", "2024-05-17 14:03:22"),
        (" 2024:05:17 14:03:22", "2024-05-17 14:03:22"),
        ("2024:05:17  14:03:22", "2024-05-17 14:03:22"),
        ("2024: 5: 7  4: 3: 2", "2024-05-07 04:03:02"),
        ("2024:5:7 4:3:2", "2024-05-07 04:03:02"),
        ("2024:05:17 14:03:  ", "2024-05-17 14:03:00"),
        ("2024:12:31 24:00:00", "2025-01-01 00:00:00"),
        ("2024:02:28 24:00:00", "2024-02-29 00:00:00"),
        ("2016:12:31 23:59:60", "2017-01-01 00:00:00"),
        ("2024:05:17 24:00:01", "2025-01-01 00:00:00"),
        ("2024:05:17 14:60:00", "2025-01-01 00:00:00"),
        ("2024:05:17 14:03:61", "2025-01-01 00:00:00"),
        ("2024:00:00 14:03:22", "2025-01-01 00:00:00"),
        ("9999:12:31 24:00:00", "2025-01-01 00:00:00"),
        ("2024:05:17 99:99:99", "2025-01-01 00:00:00"),
    ],
)
def test_dates(taken, expected):
    assert photo_of([block(taken=taken)]).taken == expected


def entries_of(data):
    """Tag and place of each entry of the directories of a block of Pillow's, big-endian."""
    (at,) = struct.unpack_from(">I", data, 4)
    for place in [
        at,
        *(
            struct.unpack_from(">I", data, data.index(struct.pack(">HHI", tag, 4, 1)) + 8)[0]
            for tag in (34665, 34853)
        ),
    ]:
        (n,) = struct.unpack_from(">H", data, place)
        for entry in range(place + 2, place + 2 + 12 * n, 12):
            yield struct.unpack_from(">H", data, entry)[0], entry


FACTS = {271: "camera", 272: "camera", 306: "", 36867: "taken", 34665: "taken", 34853: "position",
         1: "", 2: "position", 3: "", 4: "position"}  # fmt: skip


@pytest.mark.parametrize("tag", FACTS)
@pytest.mark.parametrize("wrong", ["a place", "a length", "a kind"])
def test_a_damaged_tag_takes_its_own_fact_alone(tag, wrong):
    data = bytearray(block().removeprefix(b"Exif\0\0"))
    entry = dict(entries_of(data))[tag]
    at, value = {"a place": (8, 2**32 - 9), "a length": (4, 2**31), "a kind": (0, 0)}[wrong]
    if wrong == "a kind":
        struct.pack_into(">H", data, entry + 2, 99)
    elif tag not in (1, 3) or wrong == "a length":  # those have their value in the entry
        struct.pack_into(">I", data, entry + at, value)
    found = photo_of([bytes(data)])
    lost = FACTS[tag] or ("position" if tag in (1, 3) and wrong != "a place" else "")
    assert found.taken == ("2025-01-01 00:00:00" if lost == "taken" else VIENNA.taken)
    assert (found.latitude is None) == (lost == "position")
    assert (found.camera == VIENNA.camera) == (lost != "camera" or tag == 271)


def test_a_directory_that_states_too_many_entries():
    data = bytearray(block().removeprefix(b"Exif\0\0"))
    for place in {entry for tag, entry in entries_of(data) if tag in (271, 36867, 1)}:
        longer = data[:]
        longer[place - 2 : place] = b"\xff\xff"
        assert photo_of([bytes(longer)]) == VIENNA


def test_facts_of_several_blocks():
    """Each from the first that states it; a position is of one block."""
    camera, when = PilImage.Exif(), PilImage.Exif()
    camera[271] = "A"
    when[306] = "2020:01:02 03:04:05"
    blocks = [camera.tobytes(), when.tobytes(), block()]
    expected = Photo("2020-01-02 03:04:05", VIENNA.latitude, VIENNA.longitude, "A")
    assert photo_of(blocks) == expected


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_either_kind(order, big):
    """DNG has the date of the photograph in its first directory."""
    entries = {306: b"2025:01:01 00:00:00\0", 271: b"A\0"}
    for tags, taken in (
        (entries, "2025-01-01 00:00:00"),
        (entries | {36868: b"2020:01:02 03:04:05\0"}, "2020-01-02 03:04:05"),
        (entries | {36867: b"2019:01:02 03:04:05\0"}, "2019-01-02 03:04:05"),
    ):
        page, pieces, names = tiff_page(
            np.zeros((30, 40, 1), "u1"), np.random.default_rng(0), order=order
        )
        page = page | {tag: (2, text) for tag, text in tags.items()}
        data = tiff_file((page, pieces, names), order=order, big=big)
        assert decode_image(data).photo == Photo(taken, camera="A")


def test_exif_of_more_than_a_segment():
    """A value lies in the second segment, which has no directory of its own."""
    found = exif()
    found[272] = "Nikon Z 5" + " " * 60_000
    found[305] = "x" * 30_000
    data = found.tobytes().removeprefix(b"Exif\0\0")
    places = Places()
    places.add_exif(b"Exif\0\0" + data[:60_000])
    places.add_exif(b"Exif\0\0" + data[60_000:])
    assert photo_of(places.blocks()) == VIENNA


def test_no_date():
    found = PilImage.Exif()
    found[271] = "A"
    assert photo_of([found.tobytes()]) == Photo(camera="A")


@pytest.mark.parametrize(
    ("values", "position"),
    [
        ({"refs": ("S", "E")}, (-48.2081667, 16.3738333)),
        ({"latitude": (90, 0, 0), "longitude": (180, 0, 0)}, (90, -180)),
        ({"latitude": (48.5,), "longitude": (16.25,)}, (48.5, -16.25)),
        ({"latitude": (90, 0, 1)}, (None, None)),
        ({"longitude": (180, 1, 0)}, (None, None)),
        ({"refs": ("X", "E")}, (None, None)),
        ({"refs": ("", "")}, (None, None)),
        ({"latitude": (0, 0, 0), "longitude": (0, 0, 0)}, (None, None)),
        ({"latitude": (0, 0, 0), "longitude": (16, 0, 0), "refs": ("S", "E")}, (0, 16)),
        ({"latitude": (48, 12, IFDRational(1, 0))}, (None, None)),
        ({"latitude": (1, 2, 3, 4)}, (None, None)),
        ({"refs": ("south", "e")}, (-48.2081667, 16.3738333)),
    ],
)
def test_positions(values, position):
    found = photo_of([block(**values)])
    assert (found.latitude, found.longitude) == position
    assert str(found.latitude) != "-0.0"
    assert found.taken == VIENNA.taken


@pytest.mark.parametrize(
    ("refs", "position"),
    [
        ("NE", (48.2081667, 16.3738333)),
        ("SW", (-48.2081667, -16.3738333)),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_fractions_with_a_sign(refs, position, signed):
    data = bytearray(block(refs=refs).removeprefix(b"Exif\0\0"))
    for tag, entry in entries_of(data):
        if tag in (2, 4):
            struct.pack_into(">H", data, entry + 2, 10)
            (at,) = struct.unpack_from(">I", data, entry + 8)
            for each in range(at, at + 24, 8):
                (above,) = struct.unpack_from(">i", data, each)
                struct.pack_into(">i", data, each, -above if signed else above)
    found = photo_of([bytes(data)])
    if signed and refs == "NE":  # neither north nor south
        position = None, None
    assert (found.latitude, found.longitude) == position


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("NIKON", "Nikon Z 5 ", "Nikon Z 5"),
        (" ", "\x1b[31mred\x07", "[31mred"),
        ("a" * 90, "b" * 90, "a" * 90 + " " + "b" * 9),
    ],
)
def test_cameras(make, model, camera):
    assert photo_of([block(make=make, model=model)]).camera == camera


def test_first_block_that_states_something_counts():
    assert (
        photo_of([b"", b"II*\0", b"junk" * 9, block(), block(taken="2020:01:01 00:00:00")])
        == VIENNA
    )


def test_directories_that_are_not_there():
    data = bytearray(block().removeprefix(b"Exif\0\0"))
    for tag in (34665, 34853):
        at = data.index(struct.pack(">HHI", tag, 4, 1)) + 8
        data[at : at + 4] = b"\xff" * 4
    assert photo_of([bytes(data)]) == Photo("2025-01-01 00:00:00", camera="Nikon Z 5")


def test_fuzz():
    """Whatever the bytes are: a date that exists, a position on the globe, or none."""
    data, rng = block(), np.random.default_rng(0)
    changed = 0
    for _ in range(3000):
        damaged = bytearray(data)
        for at in rng.integers(6, len(data), int(rng.integers(1, 6))):
            damaged[at] = rng.choice([0, 255, rng.integers(256)])
        found = photo_of([bytes(damaged[: rng.integers(20, len(data) + 1)])])
        changed += found != VIENNA
        assert found.taken is None or len(found.taken) == 19
        assert (found.latitude is None) == (found.longitude is None)
        assert found.latitude is None or abs(found.latitude) <= 90
        assert found.longitude is None or abs(found.longitude) <= 180
        assert found.camera is None or found.camera.isprintable()
    assert changed > 1000
