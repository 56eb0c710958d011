"""Values and arrays of a collection as a whole, in two datasets of Lance.

All values are one small version, which the next replaces as a whole if nobody else was first. An
array is appended before a value names it: whoever reads the values finds all arrays that they name,
and one that none names, of a process that was killed or came second, is never read.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.errors import FileFormatError, StorageError
from vladkit.store.database import damaged, row_crc
from vladkit.store.lance.place import SUFFIX, imported, translated
from vladkit.store.lance.rows import about_schema, array_schema, table_from
from vladkit.store.packing import array_shape, number_type, pack_array

__all__ = ["ConflictError", "State"]

_FORMAT: Final = 1

_TRIES: Final = 20
"""Commits of values that are tried, when others are first each time."""

_ARRAYS: Final = "~arrays"
"""Value: for each array by name what it was written with."""

_Values = dict[str, Any]


class ConflictError(StorageError):
    """Another process has changed the same values meanwhile."""


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

    def open(self) -> None:
        """Open the datasets.

        Raises
        ------
        FileFormatError
            If there is none, or it is of another version.
        """
        lance = imported()
        try:
            self._dataset = lance.dataset(self._uri)
        except (ValueError, OSError) as error:
            if "not found" not in str(error).lower():
                raise
            raise FileFormatError(
                f"{self._place} does not exist or is empty: make it with vladkit index SOURCE -o "
                f"{self._place}"
            ) from None
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

    def values(self) -> _Values:
        """All values by name; FileFormatError if one is not as it was written."""
        version = self._dataset.version
        if self._read[0] != version:
            with translated(self._place, "read"):
                rows = self._dataset.to_table().to_pylist()
            found = {}
            for row in rows:
                name, value = row["name"], row["value"]
                if row["crc"] != row_crc(name, value):
                    raise self._changed(f"value {name!r}")
                with damaged(self._place, f"value {name!r}"):
                    found[name] = json.loads(value)
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
            table = imported().dataset(self._array_uri).to_table(filter=f"write IN ({writes})")
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


def _table(values: _Values) -> Any:
    texts = {name: json.dumps(value) for name, value in values.items()}
    rows = [(name, text, row_crc(name, text)) for name, text in sorted(texts.items())]
    return table_from(rows, about_schema())
