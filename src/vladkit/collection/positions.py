"""Positions of images: a mapping, or the pose priors of a COLMAP database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import as_array
from vladkit.core.files import is_special_file
from vladkit.errors import FileFormatError, ParameterError, StorageError
from vladkit.features.readers.colmap import check_tables

__all__ = ["Positions", "nearest_places", "places_of"]

Positions: TypeAlias = (
    str | os.PathLike[str] | Mapping[str, Sequence[float] | npt.NDArray[np.float64]] | None
)
"""A COLMAP database; or x, y, z in metres by name of image."""

_WGS84: Final = 0
"""COLMAP's number of the coordinate system of latitude, longitude and altitude."""

_RADIUS, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # of the ellipsoid of WGS 84


def places_of(names: Sequence[str], positions: Positions) -> npt.NDArray[np.float64]:
    """Places of images, float64 (n, 3) in metres; NaN where a name has none.

    Raises
    ------
    ParameterError
        If there are no positions, or none of these images; or one is not three finite numbers.
    FileFormatError, StorageError
        If the file is no COLMAP database with pose priors, or cannot be read.
    """
    if not isinstance(positions, str | os.PathLike | Mapping):
        raise ParameterError(
            "gps needs positions: give positions, a COLMAP database (its feature_extractor keeps "
            f"those of EXIF) or x, y, z by name, not {positions!r:.100}"
        )
    known = (
        {name: _place(name, each) for name, each in positions.items()}
        if isinstance(positions, Mapping)
        else _priors(os.fspath(positions))
    )
    nothing = (np.nan,) * 3
    place_n3 = np.array([known.get(name, nothing) for name in names], np.float64).reshape(-1, 3)
    if not np.isfinite(place_n3).all(axis=1).any():
        if not known:
            raise ParameterError("positions: there are none, so none can be near: leave gps out")
        example = next(iter(known))
        raise ParameterError(
            f"no image has one of the {len(known)} positions, which are of names such as "
            f"{example!r}: give the folder of COLMAP's image_path as root"
        )
    return place_n3


def nearest_places(
    place_n3: npt.NDArray[np.float64],
    k: int,
    asks_n: npt.NDArray[np.bool_],
    answers_n: npt.NDArray[np.bool_],
) -> list[tuple[int, list[int]]]:
    """Rows that ask and have a place, each with the `k` nearest that answer, the nearest first.

    Examples
    --------
    >>> all_n = np.ones(3, bool)
    >>> nearest_places(np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0.0]]), 1, all_n, all_n)
    [(0, [1]), (1, [0]), (2, [1])]
    """
    from scipy.spatial import cKDTree

    known_n = np.isfinite(place_n3).all(axis=1)
    ask, there = np.flatnonzero(known_n & asks_n), np.flatnonzero(known_n & answers_n)
    if not len(ask) or not len(there):
        return []
    n = min(k + 1, len(there))  # one more: an image is the nearest to itself
    near_an = there[cKDTree(place_n3[there]).query(place_n3[ask], k=[*range(1, n + 1)])[1]]
    pairs = zip(ask.tolist(), near_an.tolist(), strict=True)
    return [(a, [b for b in others if b != a][:k]) for a, others in pairs]


def _place(name: str, place: object) -> npt.NDArray[np.float64]:
    try:
        place_3 = as_array(place)
        is_one = place_3.shape == (3,) and place_3.dtype.kind in "fiu"
    except ValueError:  # numbers beside lists of numbers
        is_one = False
    if not is_one or not np.isfinite(place_3).all():
        raise ParameterError(
            f"position of {name!r} is {place!r:.100}: give x, y, z in metres, and leave images "
            "without one out"
        )
    return place_3.astype(np.float64)


def _priors(path: str) -> dict[str, npt.NDArray[np.float64]]:
    """Positions by name in COLMAP's table of pose priors (3.12 and later)."""
    if not os.path.isfile(path) or is_special_file(path):
        raise StorageError(f"cannot read {path}: no such file")
    try:
        uri = f"{Path(path).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            check_tables(database, path)
            columns = [row[1] for row in database.execute("PRAGMA table_info(pose_priors)")]
            if not columns:
                raise FileFormatError(f"{path} has no pose priors: COLMAP 3.12 or later keeps them")
            by_image = "p.image_id" if "image_id" in columns else "p.corr_data_id"
            # 0: a camera; a prior of another sensor has that one's numbers
            of_cameras = "WHERE p.corr_sensor_type = 0" if "corr_sensor_type" in columns else ""
            rows = database.execute(
                "SELECT i.name, p.coordinate_system, CAST(p.position AS BLOB) FROM pose_priors p "
                f"JOIN images i ON i.image_id = {by_image} {of_cameras}"
            ).fetchall()
    except sqlite3.Error as error:
        raise FileFormatError(f"{path} is no COLMAP database: {error}") from error
    found = {}
    for name, system, blob in rows:
        if blob is not None and len(blob) == 24:
            place_3 = np.frombuffer(blob, "<f8")
            found[str(name)] = _from_earth(place_3) if system == _WGS84 else place_3
    return found


def _from_earth(place_3: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Latitude and longitude in degrees and altitude in m as x, y, z from the earth's centre.

    NaN where these are no place.
    """
    if not (abs(place_3[:2]) <= (90, 180)).all():
        return np.full(3, np.nan)
    latitude, longitude = np.radians(place_3[:2])
    altitude = place_3[2] if np.isfinite(place_3[2]) else 0.0
    squared = _FLATTENING * (2 - _FLATTENING)
    radius = _RADIUS / np.sqrt(1 - squared * np.sin(latitude) ** 2)
    across = (radius + altitude) * np.cos(latitude)
    upwards = (radius * (1 - squared) + altitude) * np.sin(latitude)
    return np.array([across * np.cos(longitude), across * np.sin(longitude), upwards])
