"""COLMAP's ``database.db``.

SQLite tables, as COLMAP's documentation and its ``scripts/python/database.py`` have them::

    images(image_id, name, camera_id)       cameras(camera_id, model, width, height, ...)
    keypoints(image_id, rows, cols, data)   float32; cols 2: x y; 4: + scale, orientation (radian);
                                            6: x y and the affine shape a11 a12 a21 a22
    descriptors(image_id, type, rows, cols, data)   cols bytes a row; no type before 3.14

COLMAP's origin is the top-left corner of the top-left px, ours its centre: 0.5 px less. A scale is
the sigma of the blur; the diameter of a region, as in OpenCV, is twice that. The scale of an affine
shape is the mean length of its columns, as in COLMAP. SIFT is uint8 and RootSIFT already (times
512), so it is only brought to unit length. Types of networks are float32.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.files import is_special_file
from vladkit.errors import FileFormatError, ImageError, StorageError
from vladkit.features.readers.reader import (
    HEAD_BYTES,
    Reader,
    SourceInfo,
    digest,
    features_from,
    status_of_file,
)
from vladkit.features.types import Features

__all__ = ["ColmapReader", "check_tables"]

_TABLES: Final = ("cameras", "images", "keypoints", "descriptors", "pose_priors")

_TYPES: Final[dict[int, str]] = {
    0: "sift",
    1: "aliked-n16rot",
    2: "aliked-n32",
    3: "loma-b",
    4: "loma-b128",
}
"""Names of COLMAP's types of features (4.2: ``FeatureExtractorType``); all but SIFT are float32."""

_MATRIX: Final = (
    "ifnull(CAST(rows AS INTEGER), 0), ifnull(CAST(cols AS INTEGER), 0), CAST(data AS BLOB)"
)
"""Columns of a matrix: SQLite may hold any type of value in any column."""

_BUSY_SECONDS: Final = 10.0
"""Longest wait for another process that writes to the file."""


def check_tables(connection: sqlite3.Connection, path: str) -> None:
    """Raise FileFormatError if a table of a database is none.

    It may be anybody's: a view can go on for ever.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL%'"
    )
    for (name,) in rows:
        if str(name).lower() in _TABLES:
            raise FileFormatError(f"{path} is no COLMAP database: its table {name} is a view")


class ColmapReader(Reader):
    """Features of a COLMAP database, as it was when it was opened.

    Nothing is written, and no -wal or -shm is made: without a writer the file is read as one that
    nobody changes, and if it does change `read` raises StorageError. Beside a writer one read
    transaction sees one state.

    Images whose descriptors have another type than those of most images are refused.
    """

    kind = "colmap"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        check_readable(self.path)
        beside = [p for end in ("-wal", "-journal") if os.path.exists(p := self.path + end)]
        if special := [p for p in beside if is_special_file(p)]:
            raise FileFormatError(f"{special[0]} is no regular file: remove it")
        self._unchanging = not any(map(os.path.getsize, beside))
        self._stat = status_of_file(self.path)
        mode = "ro&immutable=1" if self._unchanging else "ro"
        with self._translated():
            self._connection = sqlite3.connect(
                f"{Path(self.path).as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # one at a time, by the lock
            )
        try:
            with self._translated():
                self._connection.execute("BEGIN")
                self._look()
        except BaseException:
            self._connection.close()
            raise

    def _look(self) -> None:
        check_tables(self._connection, self.path)
        columns = {
            table: {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}
            for table in ("images", "keypoints", "descriptors")
        }
        wanted = {"image_id", "rows", "cols", "data"}
        if not columns["images"] >= {"image_id", "name", "camera_id"} or not (
            columns["keypoints"] >= wanted and columns["descriptors"] >= wanted
        ):
            raise FileFormatError(
                f"{self.path} is not a COLMAP database: it has no tables images, keypoints and "
                "descriptors as COLMAP makes them"
            )
        self._type = "type" if "type" in columns["descriptors"] else "0"
        types = self._connection.execute(
            f"SELECT {self._type}, count(*) FROM descriptors WHERE rows > 0 GROUP BY 1 "
            "ORDER BY 2 DESC, 1"
        ).fetchall()
        if not types:
            raise FileFormatError(
                f"{self.path} holds no descriptors: run COLMAP's feature_extractor first"
            )
        self._main_type = types[0][0]
        if self._main_type not in _TYPES:
            raise FileFormatError(
                f"{self.path} holds descriptors of type {self._main_type}, and the known types are "
                + ", ".join(f"{i} ({name})" for i, name in _TYPES.items())
                + ": take a newer vladkit, or give the features as hloc: or npz:"
            )
        rows = self._connection.execute("SELECT name, image_id FROM images")
        self._id_of = {str(name): int(i) for name, i in rows}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features."""
        row = self._one(
            "SELECT CAST(k.cols AS INTEGER), CAST(d.cols AS INTEGER) AS c "
            "FROM descriptors d JOIN keypoints k USING (image_id) "
            f"WHERE d.rows > 0 AND k.cols > 0 AND c > 0 AND {self._type} = ? "
            "ORDER BY image_id LIMIT 1",
            self._main_type,
        )
        if row is None:
            raise FileFormatError(f"{self.path} has no image with both descriptors and keypoints")
        keypoint_cols, cols = row
        dimensions = cols // self._dtype.itemsize
        # what else scripts store as type 0, or without a type, is not the SIFT of our queries
        is_known = self._main_type != 0 or dimensions == 128
        return SourceInfo(
            features=f"colmap:{_TYPES[self._main_type]}" if is_known else "colmap",
            dimensions=dimensions,
            compare="unit",
            directions=keypoint_cols > 2,
            sizes=keypoint_cols > 2,
            image_sizes=True,
        )

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self._main_type == 0 else "<f4")

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted(self._id_of)

    def status(self, name: str) -> tuple[int, int]:
        """Bytes of the image's features, and a digest of them."""
        image_id = self._id_of[name]
        found: list[Any] = [0]
        n_bytes = 0
        for table, kind in (("descriptors", self._type), ("keypoints", "0")):
            row = self._one(
                f"SELECT {kind}, rows, cols, length(data), substr(data, 1, {HEAD_BYTES}) "
                f"FROM {table} WHERE image_id = ?",
                image_id,
            )
            found += ["none"] if row is None else [*row[:4], row[4] or b""]
            n_bytes += (row[3] or 0) if row else 0
        return n_bytes, digest(*found)

    def read(self, name: str) -> Features:
        """Read the features of one image; scores are sizes, as COLMAP keeps the largest."""
        image_id = self._id_of[name]
        row = self._one(
            f"SELECT {self._type}, {_MATRIX} FROM descriptors WHERE image_id = ?", image_id
        )
        if row is None or not row[1]:
            raise ImageError("no features found: COLMAP has none of it", transient=True)
        if row[0] != self._main_type:
            raise ImageError(
                f"its descriptors are of type {_TYPES.get(row[0], row[0])}, those of most images "
                f"{_TYPES[self._main_type]}"
            )
        descriptor_lf = _matrix(row[1:], self._dtype, "descriptors", row[2] // self._dtype.itemsize)
        keypoint = self._one(f"SELECT {_MATRIX} FROM keypoints WHERE image_id = ?", image_id)
        if keypoint is None:
            raise ImageError("COLMAP has descriptors of it, but no keypoints")
        keypoint_lc = _matrix(keypoint, np.dtype("<f4"), "keypoints", keypoint[1])
        size_l, radian_l = _region(keypoint_lc)
        camera = self._one(
            "SELECT width, height FROM images JOIN cameras USING (camera_id) WHERE image_id = ?",
            image_id,
        )
        return features_from(
            descriptor_lf,
            keypoint_lc[:, :2] - np.float32(0.5),
            size_l=size_l,
            angle_l=None if radian_l is None else np.rad2deg(radian_l),
            score_l=size_l,
            image_size=camera if camera and all(camera) else None,
        )

    def _one(self, sql: str, *values: object) -> Any:
        with self._lock, self._translated():
            row = self._connection.execute(sql, values).fetchone()
            if self._unchanging and status_of_file(self.path) != self._stat:
                raise StorageError(
                    f"{self.path} was changed while it was read, by another process: run again "
                    "when that has ended"
                )
            return row

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                text = f"another process has been writing to it for {_BUSY_SECONDS:.0f} s"
            elif "unable to open" in text or "readonly" in text:
                text = (
                    f"{text}: a writer was at work or was killed, and its folder cannot be written"
                )
            raise StorageError(f"cannot read {self.path}: {text}; try again later") from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise FileFormatError(f"{self.path} is not a COLMAP database: not SQLite") from None
            raise FileFormatError(f"{self.path} is damaged: {error}") from error


def check_readable(path: str) -> None:
    """Raise StorageError if there is no file that can be read, without opening it.

    Another connection of this process, pycolmap's or the caller's, would lose its locks.
    """
    try:
        os.stat(path)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    reason = errno.EISDIR if os.path.isdir(path) else errno.EACCES
    if os.path.isdir(path) or not os.access(path, os.R_OK):
        raise StorageError(f"cannot read {path}: {os.strerror(reason)}")


def _matrix(row: Any, dtype: np.dtype[Any], what: str, columns: int) -> AnyArray:
    rows, cols, data = row
    if len(data or b"") != rows * columns * dtype.itemsize or columns < 1:
        raise ImageError(
            f"its {what} are damaged: {len(data or b'')} bytes for {rows} rows of {cols}"
        )
    return np.frombuffer(data, dtype).reshape(rows, columns)


def _region(keypoint_lc: AnyArray) -> tuple[AnyArray | None, AnyArray | None]:
    """Diameter and direction (radian) of keypoints, None if they have none."""
    columns = keypoint_lc.shape[1]
    if columns == 2:
        return None, None
    if columns == 4:
        return 2 * keypoint_lc[:, 2], keypoint_lc[:, 3]
    if columns != 6:
        raise ImageError(f"its keypoints have {columns} columns, known are 2, 4 and 6")
    a11_l, a12_l, a21_l, a22_l = keypoint_lc[:, 2:].T
    return np.hypot(a11_l, a21_l) + np.hypot(a12_l, a22_l), np.arctan2(a21_l, a11_l)
