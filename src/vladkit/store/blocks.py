"""Vectors of a collection, many to a row of the file, so that all can be read at memory's speed.

One row for each vector costs a microsecond of Python to read, which is seconds for a million;
a block of about 256 KB costs what copying it costs. A block is changed as a whole.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError
from vladkit.store.database import damaged

__all__ = ["BLOCK_BYTES", "Blocks", "Layout"]

BLOCK_BYTES: Final = 2**18
"""Most bytes of a block, which has at least one vector: 4 of 32,768 float16, or 512 of 256.

SQLite keeps a block as a list of pages, and reads those before a vector to find it. In a file of a
million images with match codes, in memory, 700 vectors from all over took 92 ms of CPU in blocks of
1 MB, 40 in these. All vectors take as long as in blocks of 1 MB; in blocks of 64 KB a third more.
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """Form of stored vectors: `n_dimensions` values of `dtype` each; 0 before any is made."""

    dtype: np.dtype[Any]
    n_dimensions: int

    @property
    def row_bytes(self) -> int:
        """Size of one vector in bytes."""
        return self.dtype.itemsize * self.n_dimensions


class Blocks:
    """Vectors behind an open connection; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    # -- reading ----------------------------------------------------------------------

    def read(self, layout: Layout) -> Iterator[tuple[Int64Array, AnyArray]]:
        """All blocks, (image_id_n, vector_nD) each, in the order in which they were filled.

        Arrays are read-only views of what SQLite gave: nothing is copied.

        Raises
        ------
        FileFormatError
            If a block's size does not fit the layout.
        """
        cursor: Iterable[tuple[int, bytes]] = self._connection.execute(
            "SELECT block_id, picture_ids FROM block ORDER BY block_id"
        )
        # A blob by itself is read with a copy less than as a column: 4.3 instead of 3.4 GB/s.
        for block_id, ids in cursor:
            with self._connection.blobopen("block", "data", block_id, readonly=True) as blob:
                self._check_size(block_id, len(ids), len(blob), layout)
                data = blob.read()
            yield self._arrays(block_id, ids, data, layout)

    def some(self, block_of: Mapping[int, int], layout: Layout) -> dict[int, AnyArray]:
        """Vectors (D,) of some images by image id; those that are not there are left out.

        ``block_of`` maps an image's id to its block. Only these rows are read.
        """
        found = {}
        row_bytes = layout.row_bytes
        for block_id, ids in _by_block(block_of).items():
            kept_n = self._ids(block_id)
            if not len(kept_n):
                continue
            with self._connection.blobopen("block", "data", block_id, readonly=True) as blob:
                if len(blob) != len(kept_n) * row_bytes:
                    raise self._damaged(block_id, len(blob), len(kept_n) * row_bytes)
                for image_id in ids:
                    (places,) = np.nonzero(kept_n == image_id)
                    if len(places):
                        blob.seek(int(places[0]) * row_bytes)
                        row = np.frombuffer(blob.read(row_bytes), layout.dtype.newbyteorder("<"))
                        found[image_id] = row
        return found

    # -- writing ----------------------------------------------------------------------

    def append(self, image_ids: Sequence[int], vector_nD: AnyArray) -> list[int]:
        """Add vectors behind the last; returns the block of each."""
        n, d = vector_nD.shape
        little_nD = np.ascontiguousarray(vector_nD, vector_nD.dtype.newbyteorder("<"))
        id_n = np.asarray(image_ids, "<i8")
        capacity = _capacity(d * vector_nD.dtype.itemsize)
        block_ids: list[int] = []
        last = self._connection.execute(
            "SELECT block_id, length(picture_ids) / 8, length(data) FROM block "
            "ORDER BY block_id DESC LIMIT 1"
        ).fetchone()
        begin = 0
        if last and last[1] and last[2] != d * vector_nD.dtype.itemsize * last[1]:
            raise FileFormatError(
                f"{self._path}: its vectors have another size than those to be added (another "
                "process may have changed them): open it again"
            )
        if last and last[1] < capacity:
            begin = min(n, capacity - last[1])
            ids, data = self._raw(last[0])
            ids, data = ids + id_n[:begin].tobytes(), data + little_nD[:begin].tobytes()
            self._write(last[0], ids, data)
            block_ids += [last[0]] * begin
        for i in range(begin, n, capacity):
            cursor = self._connection.execute(
                "INSERT INTO block (picture_ids, data, crc) VALUES (?1, ?2, row_crc(?1, ?2))",
                (id_n[i : i + capacity].tobytes(), little_nD[i : i + capacity].tobytes()),
            )
            block_ids += [int(cursor.lastrowid or 0)] * len(id_n[i : i + capacity])
        return block_ids

    def replace(self, block_of: Mapping[int, int], vector_of: Mapping[int, AnyArray]) -> None:
        """Write other vectors in the place of those of some images."""
        for block_id, ids in _by_block(block_of).items():
            kept, data = self._raw(block_id)
            changed = bytearray(data)
            for image_id in ids:
                vector_D = vector_of[image_id]
                (places,) = np.nonzero(self._as_ids(block_id, kept) == image_id)
                if len(places) != 1:
                    raise FileFormatError(
                        f"{self._path}: image {image_id} is not in its block {block_id}: "
                        f"run vladkit check {quoted(self._path)} --repair"
                    )
                begin = int(places[0]) * vector_D.nbytes
                little_D = vector_D.astype(vector_D.dtype.newbyteorder("<"))
                changed[begin : begin + vector_D.nbytes] = little_D.tobytes()
            self._write(block_id, kept, bytes(changed))

    def remove(self, block_of: Mapping[int, int]) -> None:
        """Take the vectors of some images out; a block that becomes empty goes."""
        for block_id, ids in _by_block(block_of).items():
            self.keep_rows(block_id, ~np.isin(self._ids(block_id), ids))

    def keep_rows(self, block_id: int, stays_n: AnyArray) -> None:
        """Take the vectors out of one block whose place in `stays_n` (n,) is False."""
        if not stays_n.any():
            self._connection.execute("DELETE FROM block WHERE block_id = ?", (block_id,))
        elif not stays_n.all():
            ids, data = self._raw(block_id)
            row_bytes, rest = divmod(len(data), len(stays_n))
            if rest:
                raise self._damaged(block_id, len(data), len(stays_n) * row_bytes)
            row_nb = np.frombuffer(data, np.uint8).reshape(len(stays_n), row_bytes)
            kept_n = self._as_ids(block_id, ids)[stays_n]
            self._write(block_id, kept_n.tobytes(), row_nb[stays_n].tobytes())

    def pack(self, layout: Layout) -> bool:
        """Fill blocks that have gaps from those behind them; returns whether there were any."""
        counts = self._connection.execute(
            "SELECT block_id, length(picture_ids) / 8 FROM block ORDER BY block_id"
        ).fetchall()
        capacity = _capacity(layout.row_bytes)
        gaps = [block_id for block_id, n in counts[:-1] if n != capacity]
        if gaps:
            self.rewrite(layout, from_block=gaps[0])
        return bool(gaps)

    def rewrite(
        self,
        layout: Layout,
        change: Callable[[Int64Array, AnyArray], AnyArray] = lambda _, vector_nD: vector_nD,
        from_block: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Pass the vectors from one block on through `change`, a block at a time.

        It takes image ids (n,) and vectors (n, D), and gives vectors (n, D'). These go to new, full
        blocks behind the last; then the old blocks go.
        """
        old = self._connection.execute(
            "SELECT block_id FROM block WHERE block_id >= ? ORDER BY block_id", (from_block,)
        ).fetchall()
        if not old:
            return
        with damaged(self._path, "the number of its last block"):  # it may be the largest
            self._connection.execute(  # so that nothing is appended to an old one
                "INSERT INTO block VALUES (?, x'', x'', row_crc(x'', x''))",
                (old[-1][0] + 1,),
            )
        for done, (block_id,) in enumerate(old, start=1):
            self._check_size(block_id, *self._sizes(block_id), layout)
            id_n, vector_nD = self._arrays(block_id, *self._raw(block_id), layout)
            block_ids = self.append(id_n.tolist(), change(id_n, vector_nD))
            self._connection.executemany(
                "UPDATE picture SET block_id = ? WHERE picture_id = ?",
                list(zip(block_ids, id_n.tolist(), strict=True)),
            )
            self._connection.execute("DELETE FROM block WHERE block_id = ?", (block_id,))
            if progress:
                progress(done, len(old))

    def _write(self, block_id: int, ids: bytes, data: bytes) -> None:
        self._connection.execute(
            "UPDATE block SET picture_ids = ?1, data = ?2, crc = row_crc(?1, ?2) "
            "WHERE block_id = ?3",
            (ids, data, block_id),
        )

    def _raw(self, block_id: int) -> tuple[bytes, bytes]:
        row = self._connection.execute(
            "SELECT picture_ids, data FROM block WHERE block_id = ?", (block_id,)
        ).fetchone()
        return row if row else (b"", b"")

    def _ids(self, block_id: int) -> Int64Array:
        row = self._connection.execute(
            "SELECT picture_ids FROM block WHERE block_id = ?", (block_id,)
        ).fetchone()
        return self._as_ids(block_id, row[0] if row else b"")

    def _as_ids(self, block_id: int, ids: bytes) -> Int64Array:
        if len(ids) % 8:
            raise FileFormatError(
                f"{self._path}: the ids of block {block_id} have {len(ids)} bytes, wanted a "
                f"multiple of 8: run vladkit check {quoted(self._path)} --repair"
            )
        return np.frombuffer(ids, "<i8")

    def _arrays(
        self, block_id: int, ids: bytes, data: bytes, layout: Layout
    ) -> tuple[Int64Array, AnyArray]:
        self._check_size(block_id, len(ids), len(data), layout)
        vector_nD = np.frombuffer(data, layout.dtype.newbyteorder("<"))
        image_id_n = np.frombuffer(ids, "<i8").astype(np.int64, copy=False)
        return image_id_n, vector_nD.reshape(len(ids) // 8, layout.n_dimensions)

    def _sizes(self, block_id: int) -> tuple[int, int]:
        sql = "SELECT length(picture_ids), length(data) FROM block WHERE block_id = ?"
        sizes: tuple[int, int] = self._connection.execute(sql, (block_id,)).fetchone()
        return sizes

    def _check_size(self, block_id: int, ids: int, data: int, layout: Layout) -> None:
        """Raise FileFormatError unless a block has the bytes of its images, before it is read."""
        if ids % 8 or data != ids // 8 * layout.row_bytes:
            raise self._damaged(block_id, data, ids // 8 * layout.row_bytes)

    def _damaged(self, block_id: int, got: int, wanted: int) -> FileFormatError:
        return FileFormatError(
            f"{self._path}: the vectors of block {block_id} have {got} bytes, wanted {wanted}: "
            f"run vladkit check {quoted(self._path)}, or open it again if another "
            "process has changed it"
        )


def _capacity(row_bytes: int) -> int:
    return max(1, BLOCK_BYTES // max(1, row_bytes))


def _by_block(block_of: Mapping[int, int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for image_id, block_id in block_of.items():
        groups[block_id].append(image_id)
    return groups
