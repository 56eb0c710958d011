"""Values and arrays of a collection as a whole, in two datasets of Lance.

All values are one small version, which the next replaces as a whole if nobody else was first. An
array is appended before a value names it: whoever reads the values finds all arrays that they name,
and one that none names, of a process that was killed or came second, is never read.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.errors import FileFormatError, StorageError
from vladkit.store.ann import AnnReport
from vladkit.store.database import damaged, row_crc
from vladkit.store.lance.place import SUFFIX, imported, translated
from vladkit.store.lance.rows import about_schema, array_schema, table_from
from vladkit.store.packing import array_shape, number_type, pack_array, unpack_value

__all__ = ["SOURCE", "WRITTEN", "ConflictError", "State", "check_schema", "retried"]

_FORMAT: Final = 1

_TRIES: Final = 20
"""Commits of values that are tried, when others are first each time."""

_ARRAYS: Final = "~arrays"
"""Value: for each array by name what it was written with."""

SOURCE: Final = "~source "
"""Beginning of the names of values that are sources."""

WRITTEN: Final = "~written"
"""Value: True once images were written."""

_WRITE: Final = re.compile("[0-9a-f]{32}")
"""Name of a commit of arrays."""

_IMAGES: Final = ([str, str, str], [str, type(None), str])
"""Types of a source's folder of images: absolute, from the collection's folder, and its mark."""

_Values = dict[str, Any]

_Result = TypeVar("_Result")


class ConflictError(StorageError):
    """Another process has changed the same values meanwhile."""


def retried(change: Callable[[], _Result]) -> _Result:
    """Make a change that reads values and then replaces them, and give its result.

    It is made again, from the values as they are then, where another process was first.

    Raises
    ------
    ConflictError
        If others are first each time.
    """
    for _ in range(_TRIES - 1):
        try:
            return change()
        except ConflictError:
            time.sleep(random.uniform(0, 0.05))
    return change()


class State:
    """Values and arrays at one place."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._uri = f"{place}/about{SUFFIX}"
        self._array_uri = f"{place}/array{SUFFIX}"
        self._dataset: Any = None
        self._read: tuple[int, _Values] = (0, {})

    @classmethod
    def create(cls, place: Path, values: _Values) -> None:
        """Write the first version, unless there is one."""
        lance = imported()
        first = values | {"format": _FORMAT, "id": uuid.uuid4().hex, _ARRAYS: {}}
        try:
            arrays = array_schema()
            lance.write_dataset(
                arrays.empty_table(), f"{place}/array{SUFFIX}", schema=arrays, mode="create"
            )
        except OSError as error:
            if "already exists" not in str(error):
                raise
        try:
            lance.write_dataset(_table(first), f"{place}/about{SUFFIX}", mode="create")
        except OSError as error:
            if "already exists" not in str(error) and "conflict" not in str(error).lower():
                raise

    def find(self) -> bool:
        """Look for the values; whether there are any."""
        lance = imported()
        try:
            self._dataset = lance.dataset(self._uri)
        except (ValueError, OSError) as error:
            if "not found" not in str(error).lower():
                raise
            return False
        return True

    def open(self) -> None:
        """Open the datasets.

        Raises
        ------
        FileFormatError
            If there is none, or it is of another version.
        """
        if not self.find():
            raise FileFormatError(
                f"{self._place} does not exist or is empty: make it with vladkit index SOURCE -o "
                f"{self._place}"
            )
        check_schema(self._dataset, about_schema(), self._place)
        found = self.values().get("format")
        if found != _FORMAT:
            raise FileFormatError(
                f"{self._place} is of format {found}, this vladkit reads {_FORMAT}: use the "
                "version that made it"
            )

    def refresh(self) -> None:
        """Look for what others have committed."""
        with translated(self._place, "read"):
            self._dataset.checkout_latest()

    @property
    def version(self) -> int:
        """Number of the version that the values are of."""
        return int(self._dataset.version)

    def values(self) -> _Values:
        """All values by name; FileFormatError if one is not as it was written."""
        version = self._dataset.version
        if self._read[0] != version:
            with translated(self._place, "read"):
                rows = self._dataset.to_table().to_pylist()
            found: _Values = {}
            for row in rows:
                name, value = row["name"], row["value"]
                if row["crc"] != row_crc(name, value):
                    raise self._changed(f"value {name!r}")
                with damaged(self._place, f"value {name!r}"):
                    found[name] = _checked(name, unpack_value(name, value))
            if not {"format", "id", _ARRAYS} <= found.keys():
                raise FileFormatError(f"{self._place} is damaged: values are missing")
            self._read = version, found
        return dict(self._read[1])

    def _changed(self, what: str) -> FileFormatError:
        return FileFormatError(
            f"{self._place} is damaged: {what} has changed since it was written: take a copy of "
            "it, or index again into another one"
        )

    def commit(self, changes: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> None:
        """Change some values (None: drop it), and keep arrays by name (None: drop it).

        Raises
        ------
        ConflictError
            If another process has changed one of these since they were read; nothing is changed.
        """
        before = self.values()
        changes = dict(changes)
        if arrays:
            changes[_ARRAYS] = before[_ARRAYS] | self._append(arrays)
        for _ in range(_TRIES):
            now = self.values()
            clash = [n for n, v in changes.items() if now.get(n) not in (before.get(n), v)]
            if clash:
                raise ConflictError(
                    f"another process has changed {self._place} ({', '.join(clash)[:100]}): run "
                    "again"
                )
            after = {n: v for n, v in (now | changes).items() if v is not None}
            if after == now or self._replace(after):
                return
            time.sleep(random.uniform(0, 0.05))
            self.refresh()
        raise ConflictError(
            f"cannot write {self._place}: others have been writing to it all the time; try again"
        )

    def _replace(self, values: _Values) -> bool:
        """Commit the next version; False if somebody else was first."""
        lance = imported()
        table = _table(values)
        fragments = lance.fragment.write_fragments(
            table, self._uri, schema=table.schema, mode="overwrite"
        )
        overwrite = lance.LanceOperation.Overwrite(table.schema, fragments)
        try:
            self._dataset = lance.LanceDataset.commit(
                self._uri, overwrite, read_version=self._dataset.version, max_retries=0
            )
        except lance.commit.CommitConflictError:
            return False
        return True

    # -- arrays -----------------------------------------------------------------------

    def _append(self, arrays: Mapping[str, AnyArray]) -> dict[str, str]:
        write = uuid.uuid4().hex
        rows = []
        for name, array in arrays.items():
            dtype, shape, data = pack_array(array)
            crc = row_crc(name, dtype, shape, data)
            rows.append((write, name, dtype, shape, data, crc))
        table = table_from(rows, array_schema())
        imported().write_dataset(table, self._array_uri, mode="append")
        return dict.fromkeys(arrays, write)

    def arrays(self, pattern: str) -> dict[str, AnyArray]:
        """Arrays whose name fits a pattern of `Store.arrays`."""
        glob = pattern.replace("[^", "[!")
        wanted = {n: w for n, w in self.values()[_ARRAYS].items() if fnmatchcase(n, glob)}
        if not wanted:
            return {}
        writes = ", ".join(f"'{each}'" for each in sorted(set(wanted.values())))
        with translated(self._place, "read"):
            dataset = imported().dataset(self._array_uri)
            check_schema(dataset, array_schema(), self._place)
            table = dataset.to_table(filter=f"write IN ({writes})")
        found: dict[str, AnyArray] = {}
        for row in table.to_pylist():
            name, dtype, shape, data = (row[n] for n in ("name", "dtype", "shape", "data"))
            if wanted.get(name) != row["write"]:
                continue
            with damaged(self._place, f"array {name!r}"):
                dims = array_shape(dtype, shape, len(data))
            if row["crc"] != row_crc(name, dtype, shape, data):
                raise self._changed(f"array {name!r}")
            found[name] = np.frombuffer(data, number_type(dtype)).reshape(dims)
        if missing := wanted.keys() - found.keys():
            raise FileFormatError(f"{self._place} is damaged: array {min(missing)!r} is missing")
        return found


def check_schema(dataset: Any, wanted: Any, place: Path) -> None:
    """Raise FileFormatError unless a dataset has these columns, and all of its data are its own.

    A collection may be anybody's: with columns of other types its values would be of any, and
    another base is a place of this machine or of a network that somebody else has chosen.
    """
    found = [(f.name, f.type, f.nullable) for f in dataset.schema]
    if found != [(f.name, f.type, f.nullable) for f in wanted]:
        raise FileFormatError(
            f"{place} is damaged, or was changed by another program: the columns of "
            f"{Path(dataset.uri).name} are not as vladkit made them"
        )
    if any(f.base_id is not None for each in dataset.get_fragments() for f in each.data_files()):
        raise FileFormatError(
            f"{place} has data in other places, which vladkit does not read: copy it with all that "
            "it refers to, or index the images again"
        )


def _checked(name: object, value: Any) -> Any:
    """A value; TypeError if it is of another form than `State` and `LanceStore` write."""
    fits = isinstance(name, str)
    if name == _ARRAYS:
        fits = isinstance(value, dict) and all(
            isinstance(each, str) and _WRITE.fullmatch(each) for each in value.values()
        )
    elif fits and str(name).startswith(SOURCE):
        match value:
            case {"root": str(), "relative": None | str(), "name": str(), "mark": str()}:
                images = value.get("images")
                fits = images is None or [type(each) for each in images] in _IMAGES
            case _:
                fits = False
    elif name == WRITTEN:
        fits = value is True
    elif name == "ann":
        AnnReport.stored(value)
    if not fits:
        raise TypeError("it is not as vladkit wrote it")
    return value


def _table(values: _Values) -> Any:
    texts = {name: json.dumps(value) for name, value in values.items()}
    rows = [(name, text, row_crc(name, text)) for name, text in sorted(texts.items())]
    return table_from(rows, about_schema())
