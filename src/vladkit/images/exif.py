"""EXIF of photographs: when and where they were taken, and by which camera."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from vladkit.errors import ImageError
from vladkit.images.directory import Parts, Tags, read_directory

__all__ = ["EXIF_PREFIX", "TIFF_MARKS", "UNKNOWN", "Photo", "photo_of"]

EXIF_PREFIX: Final = b"Exif\0\0"
TIFF_MARKS: Final = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
"""Byte order that the first bytes of a TIFF say, and whether it is a BigTIFF."""

_MAKE, _MODEL, _CHANGED, _EXIF, _GPS = 271, 272, 306, 34665, 34853
_TAKEN, _DIGITIZED = 36867, 36868
_OF_POSITION: Final = (1, 2, 3, 4)
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = _OF_POSITION
_DATE: Final = re.compile(
    rb"[\s\0]*(\d{4})[:/.-] ?(\d\d?)[:/.-] ?(\d\d?)[ T] *(\d\d?): ?(\d\d?)(?:: ?(\d\d?))?"
)
"""Some writers leave out zeros, or have spaces in their place."""
_LONGEST: Final = 100
"""Letters of a camera's name that are kept."""


@dataclass(frozen=True, slots=True)
class Photo:
    """Facts about a photograph, each None where its EXIF does not state it.

    Parameters
    ----------
    taken : str or None
        Time on the camera's clock, ``YYYY-MM-DD HH:MM:SS``; fractions and time zones are left out.
    latitude, longitude : float or None
        Degrees, north and east positive: -90 to 90 and -180 to 180.
    camera : str or None
        Maker and model.
    """

    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None

    def time(self) -> datetime | None:
        """``taken`` as a time; None also for what is none, such as the 31st of February."""
        try:
            return None if self.taken is None else datetime.fromisoformat(self.taken)
        except ValueError:
            return None


UNKNOWN: Final = Photo()
"""A photograph of which nothing is known."""


def photo_of(blocks: Iterable[bytes], position_block: bytes = b"") -> Photo:
    """Facts, each from the first EXIF block that states it; damaged parts state nothing.

    Parameters
    ----------
    blocks : iterable of bytes
        EXIF blocks or TIFF files.
    position_block : bytes
        One whose first directory is that of the position, as a CR3 has it.
    """
    taken = camera = None
    position: tuple[float | None, float | None] = None, None
    for found in map(_read, blocks):
        taken, camera = taken or found.taken, camera or found.camera
        if position[0] is None:
            position = found.latitude, found.longitude
    if position[0] is None and position_block:
        directory, first = _directories(position_block)
        position = _position(directory(first, *_OF_POSITION))
    return Photo(taken, *position, camera)


_Directory: TypeAlias = "Callable[..., Tags]"


def _directories(block: bytes) -> tuple[_Directory, int]:
    """Function that gives wanted tags of the directory at some place, and where the first is."""
    while block.startswith(EXIF_PREFIX):  # some writers keep JPEG's prefix, or write it twice
        block = block[len(EXIF_PREFIX) :]
    if block[:4] not in TIFF_MARKS or len(block) < 16:
        return lambda at, *wanted: {}, 0
    order, big = TIFF_MARKS[block[:4]]
    parts = Parts("EXIF", 4 * len(block))  # a damaged directory may take it all, each of three

    def directory(at: int, *wanted: int) -> Tags:
        wanted_ = frozenset(wanted)
        try:
            return read_directory(block, order, at, parts, wanted_, big=big, exif=True)[0]
        except (struct.error, ImageError):
            return {}

    (at,) = struct.unpack_from(order + "Q" if big else order + "I", block, 8 if big else 4)
    return directory, at


def _read(block: bytes) -> Photo:
    directory, at = _directories(block)
    first = directory(at, _MAKE, _MODEL, _CHANGED, _EXIF, _GPS, _TAKEN, _DIGITIZED)
    exif = directory(_number(first, _EXIF), _TAKEN, _DIGITIZED) if _EXIF in first else {}
    gps = directory(_number(first, _GPS), *_OF_POSITION) if _GPS in first else {}
    # TIFF/EP, as of DNG, has all of them in the first directory
    times = [tags.get(tag) for tag in (_TAKEN, _DIGITIZED) for tags in (exif, first)]
    taken = next(filter(None, map(_date, [*times, first.get(_CHANGED)])), None)
    make, model = _text(first.get(_MAKE)), _text(first.get(_MODEL))
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    latitude, longitude = _position(gps)
    return Photo(taken, latitude, longitude, camera[:_LONGEST] or None)


def _position(gps: Tags) -> tuple[float, float] | tuple[None, None]:
    latitude = _degrees(gps, _LATITUDE_REF, _LATITUDE, b"NS", 90)
    longitude = _degrees(gps, _LONGITUDE_REF, _LONGITUDE, b"EW", 180)
    # cameras that do not know where they are write zeros
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def _number(tags: Tags, tag: int) -> int:
    value = tags[tag]
    return value[0] if isinstance(value, tuple) else 0


def _text(value: tuple[int, ...] | bytes | None) -> str:
    text = value.split(b"\0")[0].decode("utf-8", "replace") if isinstance(value, bytes) else ""
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _date(value: tuple[int, ...] | bytes | None) -> str | None:
    found = _DATE.match(value) if isinstance(value, bytes) else None
    if not found:
        return None
    year, month, day, hour, minute, second = (int(each or 0) for each in found.groups())
    is_midnight = hour == 24 and minute == second == 0  # of the next day
    if (hour > 23 and not is_midnight) or minute > 59 or second > 60:  # 60: a leap second
        return None
    clock = timedelta(hours=hour, minutes=minute, seconds=second)
    try:
        return str(datetime(year, month, day) + clock)
    except (ValueError, OverflowError):  # 0000:00:00 00:00:00, of a clock that was not set
        return None


def _degrees(tags: Tags, ref: int, tag: int, signs: bytes, most: int) -> float | None:
    """Degrees of up to three fractions: degrees, minutes, seconds."""
    sign, value = tags.get(ref, b""), tags.get(tag, ())
    if not isinstance(sign, bytes) or not isinstance(value, tuple) or not 2 <= len(value) <= 6:
        return None
    place = signs.find(sign[:1].upper()) if sign[:1] else -1
    pairs = list(zip(value[::2], value[1::2], strict=False))
    if place < 0 or not all(below for _, below in pairs):
        return None
    parts = [above / below / 60**i for i, (above, below) in enumerate(pairs)]
    if min(parts) < 0 and not place:  # neither north nor south
        return None
    degrees = sum(map(abs, parts))
    return round(-degrees if place else degrees, 7) + 0.0 if degrees <= most else None  # no -0.0
