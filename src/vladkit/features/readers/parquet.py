"""Parquet tables with a row for each image or for each descriptor; read by row group.

``name`` is a column of strings. A row for each image: ``descriptors`` is a list of lists (l of f),
and optionally ``keypoints`` a list of [x, y], ``sizes``, ``angles`` (degrees), ``scores`` lists,
and ``width``, ``height`` numbers. A row for each descriptor: ``descriptor`` is a list of f, with
``x``, ``y``, ``size``, ``angle``, ``score`` numbers; the rows of an image follow each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.errors import FileFormatError, ImageError, MissingDependencyError
from vladkit.features.readers.reader import HEAD_BYTES, Reader, SourceInfo, digest, features_from
from vladkit.features.types import Features

__all__ = ["ParquetReader"]

_LISTS: Final = {"sizes": "size_l", "angles": "angle_l", "scores": "score_l"}
_NUMBERS: Final = {"size": "size_l", "angle": "angle_l", "score": "score_l"}
_WANTED: Final = frozenset(
    {"name", "descriptor", "descriptors", "keypoints", "x", "y", "width", "height"}
    | {*_LISTS, *_NUMBERS}
)


class ParquetReader(Reader):
    """One Parquet file; one row group of it is in memory at a time."""

    kind = "parquet"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingDependencyError(
                "parquet: needs pyarrow: pip install 'vladkit[parquet]'"
            ) from error
        self._error = pyarrow.ArrowException
        with self._translated():
            self._file = pyarrow.parquet.ParquetFile(self.path)
        listed = self._file.schema_arrow.names
        columns = set(listed)
        if twice := sorted(name for name in _WANTED & columns if listed.count(name) > 1):
            raise FileFormatError(f"{self.path} has several columns {twice[0]}: rename the others")
        self._by_row = "descriptor" in columns and "descriptors" not in columns
        if "name" not in columns or not columns & {"descriptor", "descriptors"}:
            raise FileFormatError(
                f"{self.path} has columns {', '.join(sorted(columns))}: wanted name and "
                "descriptors (a row for each image) or descriptor (a row for each descriptor)"
            )
        self._columns = columns
        self._rows = self._index()
        self._loaded: tuple[int, Any] = (-1, None)

    def _index(self) -> dict[str, list[tuple[int, int, int]]]:
        """Rows of each name as (row group, first, last), from the column of names alone."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        last = None
        with self._translated():
            for group in range(self._file.num_row_groups):
                names = self._file.read_row_group(group, columns=["name"])["name"].to_pylist()
                for i, name in enumerate(names):
                    if not isinstance(name, str) or not name:
                        raise FileFormatError(f"{self.path}: a name is {name!r}, wanted text")
                    runs = found.setdefault(name, [])
                    if not self._by_row and runs:
                        raise FileFormatError(f"{self.path}: the name {name!r} occurs twice")
                    if runs and name == last and runs[-1][0] == group:
                        runs[-1] = (group, runs[-1][1], i + 1)
                    elif runs and name != last:
                        raise FileFormatError(
                            f"{self.path}: rows of {name!r} do not follow each other: sort by name"
                        )
                    else:
                        runs.append((group, i, i + 1))
                    last = name
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features."""
        reason = ""
        for name in self.names():
            try:
                features = self.read(name)
            except ImageError as error:
                reason = reason or f"{name}: {error}"
                continue
            have = self._columns
            return SourceInfo(
                features=self.kind,
                dimensions=features.descriptor_lf.shape[1],
                compare="as-is",
                places="keypoints" in have or {"x", "y"} <= have,
                directions=bool({"angle", "angles"} & have),
                sizes=bool({"size", "sizes"} & have),
                image_sizes={"width", "height"} <= have,
            )
        raise FileFormatError(f"{self.path} holds no descriptors: {reason or 'it has no rows'}")

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted(self._rows)

    def status(self, name: str) -> tuple[int, int]:
        """Bytes of the image's features, and a digest of them."""
        try:
            features = self.read(name)
        except ImageError as error:
            return -1, digest(str(error))
        descriptor_lf = features.descriptor_lf
        head = descriptor_lf[: max(1, HEAD_BYTES // descriptor_lf[0].nbytes)].tobytes()
        place = features.xy_l2[: HEAD_BYTES // 8].tobytes()
        return descriptor_lf.nbytes, digest(str(descriptor_lf.shape), head, place)

    def read(self, name: str) -> Features:
        """Read the features of one image."""
        with self._lock, self._translated():
            tables = [self._slice(*run) for run in self._rows[name]]
        if self._by_row:
            return self._from_rows(tables)
        (table,) = tables
        row = {each: table[each][0] for each in table.column_names}
        if not row["descriptors"].is_valid:
            raise ImageError("no features found: its row has none")
        columns = {
            ours: _numbers(_inside(row[theirs], theirs), theirs)
            for theirs, ours in _LISTS.items()
            if theirs in row and row[theirs].is_valid
        }
        place_l2 = None
        if "keypoints" in row:
            place_l2 = _matrix(_inside(row["keypoints"], "keypoints"), "keypoints")
        return features_from(
            _matrix(_inside(row["descriptors"], "descriptors"), "descriptors"),
            place_l2,
            image_size=self._image_size(table),
            **columns,
        )

    def _from_rows(self, tables: list[Any]) -> Features:
        def column(name: str) -> AnyArray:
            return np.concatenate([_numbers(t[name], name) for t in tables])

        parts = [_matrix(chunk, "descriptor") for t in tables for chunk in t["descriptor"].chunks]
        if len({part.shape[1] for part in parts}) > 1:
            raise ImageError("its descriptors differ in dimension")
        columns = {
            ours: column(theirs) for theirs, ours in _NUMBERS.items() if theirs in self._columns
        }
        place = None
        if {"x", "y"} <= self._columns:
            place = np.stack([column("x"), column("y")], axis=1)
        size = self._image_size(tables[0])
        return features_from(np.concatenate(parts), place, image_size=size, **columns)

    def _image_size(self, table: Any) -> list[Any] | None:
        if not {"width", "height"} <= self._columns:
            return None
        return [_numbers(table[name][:1], name)[0] for name in ("width", "height")]

    def _slice(self, group: int, first: int, last: int) -> Any:
        if self._loaded[0] != group:
            self._loaded = (-1, None)  # the one before goes first
            columns = sorted(self._columns & _WANTED)
            self._loaded = group, self._file.read_row_group(group, columns=columns)
        return self._loaded[1].slice(first, last - first)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError, UnicodeDecodeError) as error:  # the last of a name
            if isinstance(error, (FileFormatError, ImageError)):
                raise
            raise FileFormatError(f"{self.path} is not Parquet, or damaged: {error}") from error


def _inside(scalar: Any, what: str) -> Any:
    """Array in a list; ImageError for anything else."""
    import pyarrow.types as kinds

    kind = scalar.type
    if not scalar.is_valid or not (
        kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    ):
        got = kind if scalar.is_valid else "null"
        raise ImageError(f"{what}: got {got}, wanted lists of numbers")
    return scalar.values


def _matrix(lists: Any, what: str) -> AnyArray:
    """Matrix (l, f) from a list array of l lists of one length."""
    if not len(lists):
        return np.empty((0, 1), np.float32)
    if lists.null_count:
        raise ImageError(f"{what}: some are null")
    _inside(lists[0], what)
    flat = lists.flatten()
    length = len(flat) // len(lists)
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    if flat.null_count or (sizes != length).any():
        raise ImageError(f"{what} differ in dimension, or some are null")
    return _numbers(flat, what).reshape(len(lists), length)


def _numbers(column: Any, what: str) -> AnyArray:
    """NumPy's array of numbers, NaN where they are null; ImageError for anything else."""
    import pyarrow.types as kinds

    if not (kinds.is_integer(column.type) or kinds.is_floating(column.type)):
        raise ImageError(f"{what}: got {column.type}, wanted numbers")
    return np.asarray(column.to_numpy(zero_copy_only=False))
