"""Date, position and camera, from EXIF that Pillow writes, and from what nobody should write."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import features as pillow_features
from PIL.TiffImagePlugin import IFDRational

from families import raw_profile
from images import png_chunk, scene, to_bytes
from vladkit.images import Photo, decode_image
from vladkit.images.exif import UNKNOWN, photo_of

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
    ],
)
def test_dates(taken, expected):
    assert photo_of([block(taken=taken)]).taken == expected


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
    ],
)
def test_positions(values, position):
    found = photo_of([block(**values)])
    assert (found.latitude, found.longitude) == position
    assert str(found.latitude) != "-0.0"
    assert found.taken == VIENNA.taken


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
