"""`Where`: a search that is limited to images of a folder, a time, or a place."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.errors import ParameterError
from vladkit.store.paths import ids_under
from vladkit.store.photos import count_photos, ids_between, positions
from vladkit.store.protocol import CollectionStore

__all__ = ["NamedWhere", "Near", "Where"]

_EARTH_KM: Final = 6371.0088
"""Mean radius of the Earth."""

_DATE: Final = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d)?)?)?)?")


@dataclass(frozen=True, slots=True)
class Near:
    """Circle on the globe: degrees of latitude and longitude, and its radius in km.

    Examples
    --------
    >>> Near.parse("48.2,16.37,5")
    Near(latitude=48.2, longitude=16.37, km=5.0)
    """

    latitude: float
    longitude: float
    km: float

    def __post_init__(self) -> None:
        values = self.latitude, self.longitude, self.km
        limits = zip(values, (90, 180, math.inf), strict=True)
        is_one = all(isinstance(v, Real) and abs(v) <= most for v, most in limits)
        if not is_one or not 0 < self.km < math.inf:
            shown = ",".join(f"{v:g}" if isinstance(v, Real) else repr(v) for v in values)
            raise ParameterError(
                f"near={shown}: give a latitude of -90 to 90, a longitude of -180 to 180, and a "
                "radius in km, more than 0"
            )

    @classmethod
    def parse(cls, given: object) -> Near:
        """The circle that ``LAT,LON,KM`` is, or three numbers; ParameterError for anything else."""
        try:
            if isinstance(given, str):
                return cls(*(float(each) for each in given.split(",")))
            if isinstance(given, tuple | list):
                return cls(*given)
        except (TypeError, ValueError) as error:
            if isinstance(error, ParameterError):
                raise
        raise ParameterError(
            f"near={given!r:.100}: give LAT,LON,KM in degrees and km, such as 48.2,16.37,5"
        )

    def ids(self, store: CollectionStore) -> Int64Array:
        """Ids of the images that were taken within the circle, rising."""
        span = math.degrees(self.km / _EARTH_KM) * (1 + 1e-9) + 1e-6
        south, north = self.latitude - span, self.latitude + span
        ranges = [(-180.0, 180.0)]
        if south > -90 and north < 90:  # else a pole is inside
            share = math.sin(math.radians(span)) / math.cos(math.radians(self.latitude))
            reach = math.degrees(math.asin(min(1.0, share))) + 1e-6
            # the parts beyond 180 degrees lie on the other side of the date line
            turns = [self.longitude + turn for turn in (-360, 0, 360)]
            ranges = [(each - reach, each + reach) for each in turns]
        image_id_n, position_n2 = positions(store, south, north, ranges)
        return image_id_n[self._km(position_n2) <= self.km]

    def _km(self, position_n2: AnyArray) -> AnyArray:
        """Great-circle distance (n,) of positions in degrees, by the haversine formula."""
        latitude_n, longitude_n = np.radians(position_n2).T
        latitude, longitude = math.radians(self.latitude), math.radians(self.longitude)
        half_n = np.sin((latitude_n - latitude) / 2) ** 2
        across_n = np.sin((longitude_n - longitude) / 2) ** 2
        half_n += np.cos(latitude_n) * math.cos(latitude) * across_n
        km_n: AnyArray = 2 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(half_n, 1)))
        return km_n


@dataclass(frozen=True, slots=True)
class Where:
    """Images that a search is limited to; what is None limits nothing.

    Images whose EXIF states no date are left out by `after` and `before`, those without a position
    by `near`.

    Parameters
    ----------
    under : str, path or None
        Folder, as it was indexed or where it is now; or one image.
    after, before : str or None
        Times on the camera's clock: ``YYYY``, ``YYYY-MM``, ``YYYY-MM-DD`` or ``YYYY-MM-DD HH:MM``,
        also with seconds. Images were taken from the beginning of `after` on, and before the
        beginning of `before`: from 2024 on and before 2025 is the year 2024.
    near : Near, (latitude, longitude, km), str or None
        Circle around a place, or ``LAT,LON,KM``.

    Raises
    ------
    ParameterError
        If a time or a place is none.

    Examples
    --------
    >>> Where(after="2024", near="48.2,16.37,5").after
    '2024-01-01 00:00:00'
    """

    under: str | os.PathLike[str] | None = None
    after: str | None = None
    before: str | None = None
    near: Near | tuple[float, float, float] | str | None = None

    def __post_init__(self) -> None:
        for name in ("after", "before"):
            object.__setattr__(self, name, _time(name, getattr(self, name)))
        if self.under is not None:
            object.__setattr__(self, "under", _folder(self.under))
        if self.near is not None and not isinstance(self.near, Near):
            object.__setattr__(self, "near", Near.parse(self.near))

    def __bool__(self) -> bool:
        return self != type(self)()

    def as_json(self) -> dict[str, Any]:
        """Values that limit something, by name."""
        values: dict[str, Any] = {"after": self.after, "before": self.before}
        if self.under is not None:
            values["under"] = os.fspath(self.under)
        if isinstance(self.near, Near):
            values["near"] = [self.near.latitude, self.near.longitude, self.near.km]
        return {name: value for name, value in values.items() if value is not None}

    def ids(self, store: CollectionStore) -> Int64Array:
        """Ids of the images that a search is limited to, rising.

        Raises
        ------
        ParameterError
            If nothing is at the path `under`.
        """
        chosen = list(self._each(store))
        ids = chosen[0]
        for more in chosen[1:]:
            ids = np.intersect1d(ids, more, assume_unique=True)
        return ids

    def _each(self, store: CollectionStore) -> Iterator[Int64Array]:
        if self.under is not None:
            ids = self._under(store, self.under)
            yield np.sort(np.fromiter(ids, np.int64, len(ids)))
        if self.after is not None or self.before is not None:
            yield ids_between(store, self.after, self.before)
        if isinstance(self.near, Near):
            yield self.near.ids(store)

    def _under(self, store: CollectionStore, folder: str | os.PathLike[str]) -> set[int]:
        return ids_under(store, folder)

    def unknown(self, store: CollectionStore) -> dict[str, int]:
        """Numbers of images that are left out because of what is not known of them."""
        n, _ = store.count()
        n_dated, n_placed = count_photos(store)
        found = {}
        if self.after is not None or self.before is not None:
            found["without_date"] = n - n_dated
        if self.near is not None:
            found["without_position"] = n - n_placed
        return found


@dataclass(frozen=True, slots=True)
class NamedWhere(Where):
    """Images as strangers may limit a search to: `under` is a name, and the disk is not asked."""

    def _under(self, store: CollectionStore, folder: str | os.PathLike[str]) -> set[int]:
        return ids_under(store, folder, from_here=False)


def _folder(given: object) -> str:
    """A path as text."""
    try:
        if name := os.fsdecode(given):  # type: ignore[arg-type]
            return name
    except TypeError:
        pass
    raise ParameterError(f"under={given!r:.100}: give the path of a folder")


def _time(name: str, text: object) -> str | None:
    """The beginning of a year, month, day or minute, with all digits."""
    if text is None:
        return None
    if isinstance(text, str) and _DATE.fullmatch(text):
        first = "0001-01-01 00:00:00"
        with suppress(ValueError):
            return str(datetime.fromisoformat(text.replace("T", " ") + first[len(text) :]))
    raise ParameterError(
        f"{name}={text!r:.100}: give a date as text, such as 2024, 2024-05, 2024-05-17 or "
        "'2024-05-17 14:30'"
    )
