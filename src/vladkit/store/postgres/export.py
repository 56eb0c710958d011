"""A collection file into PostgreSQL, in one transaction: all of it, or what has changed since.

What has changed is told by a mark of each image, a hash of its row and its vector: an image that
is described again has another vector. Where codebook, words or PCA are others, all are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError, VladkitError
from vladkit.images.exif import UNKNOWN
from vladkit.store import trust
from vladkit.store.blocks import Layout
from vladkit.store.photos import has_photos, photos
from vladkit.store.postgres.address import Address, connect, translated
from vladkit.store.postgres.schema import (
    COLUMNS,
    VIEW,
    add_columns,
    create_tables,
    enter_schema,
    holds_collection,
    index_problem,
    vector_class,
    vector_type,
)
from vladkit.store.store import Store
from vladkit.store.whole import WHOLE

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresExport", "export_postgres"]

_HERE: Final = ("augmentation", "images", "lifted", "shrinkage", WHOLE)
"""Values about a file that stay in it: made for its vectors' order, its folders, its numbers."""

_OWN: Final = ("id", "revision", "recipe", "learned")
"""Values that have a column each."""

_BATCH: Final = 256
"""Images that are sent together, some 20 MB with codes and features."""

_INDEX_BYTES: Final = 2**30
"""Most memory that the server is asked to build an index in; with less it writes to the disk."""

_LINKS: Final = 400
"""Bytes of an image in the index beside its vector: 32 neighbours and what goes with them."""


@dataclass(frozen=True, slots=True)
class PostgresExport:
    """Outcome of an export.

    Parameters
    ----------
    url : str
        Where the collection is, without a password.
    images : int
        Number of images that it holds now.
    sent, removed : int
        Images that were written, because they are new or changed, and that were removed.
    whole : bool
        Whether all were written: the first time, and after learning again.
    unindexed : str
        Reason why there is no index, so that a search reads all vectors; empty if there is one.
    """

    url: str
    images: int
    sent: int
    removed: int
    whole: bool
    unindexed: str


def export_postgres(
    store: Store, address: Address, progress: Callable[[int, int], None] | None = None
) -> PostgresExport:
    """Write the images that have a vector, with what a search needs; see `Collection`.

    Raises
    ------
    MissingDependencyError
        If psycopg is not installed.
    ParameterError
        If pgvector has no type for vectors of as many dimensions.
    FileFormatError
        If the schema holds another collection or something else, also what another file of the same
        id that is still there wrote, as copies have it; or the file is damaged.
    StorageError
        If the database cannot be written. It is then as it was.
    """
    vector_type(store.layout)
    with (
        closing(connect(address)) as connection,
        store.reading(),
        translated(address, "write"),
        connection.transaction(),
    ):
        lock = "SELECT pg_advisory_xact_lock(hashtext('vladkit'), hashtext(%s))"
        connection.execute(lock, [address.schema])  # exports wait for each other
        enter_schema(connection, address, create=True)
        return _Export(store, address, connection).run(progress)


class _Export:
    """One export, within its transaction."""

    def __init__(self, store: Store, address: Address, connection: psycopg.Connection[Any]) -> None:
        self._store = store
        self._address = address
        self._connection = connection
        self._about = store.about()
        self._lifted = store.lifted()

    def run(self, progress: Callable[[int, int], None] | None) -> PostgresExport:
        layout = self._store.layout
        former = self._former()
        mark_of: dict[int, int] = {}
        if former is not None:
            mark_of = dict(self._connection.execute("SELECT image_id, mark FROM image").fetchall())
        whole = former is None or former != (self._about.get("learned", {}), layout.n_dimensions)
        ids = {i for (i,) in self._select("SELECT picture_id FROM picture WHERE skipped IS NULL")}
        removed = [i for i in mark_of if i not in ids]
        if former is None:
            create_tables(self._connection, layout)
        else:
            add_columns(self._connection)
            if former[1] != layout.n_dimensions:
                self._change_type(layout)
        self._put_sources()
        self._connection.execute("DELETE FROM image WHERE image_id = ANY(%s)", [removed])
        sent = self._send({} if whole else mark_of, bool(mark_of), len(ids), progress)
        self._connection.execute(
            "DELETE FROM source WHERE NOT EXISTS "
            "(SELECT FROM image WHERE image.source_id = source.source_id)"
        )
        self._put_about(layout)
        if sent or removed:
            self._connection.execute("ANALYZE image")  # waits for a vacuum of the server's own
        self._build_index(layout, len(ids))
        return PostgresExport(
            str(self._address), len(ids), sent, len(removed), whole, index_problem(layout)
        )

    def _select(self, statement: str, *values: object) -> Iterator[Any]:
        return self._store.connection.execute(statement, values)

    def _former(self) -> tuple[dict[str, Any], int] | None:
        """State and dimensions that this collection had when it was written last."""
        if not holds_collection(self._connection, self._address):
            return None
        row = self._connection.execute(
            "SELECT id, file, learned, n_dimensions FROM collection"
        ).fetchone()
        if row is None:
            raise FileFormatError(
                f"{self._address} has lost what it held about the collection: drop the schema, or "
                "give another"
            )
        own, file, *former = row
        if own != self._about["id"]:
            raise FileFormatError(
                f"{self._address} holds another collection, {file}, and stays as it is: give "
                f"another schema for {self._store.path}"
            )
        if _is_copy(self._store, file, own):
            raise FileFormatError(
                f"{self._address} holds {file}, of which {self._store.path} is a copy, and stays "
                "as it is: new images of both have the same numbers: give another schema, or drop "
                "this one first"
            )
        return former[0], former[1]

    def _change_type(self, layout: Layout) -> None:
        for statement in (
            "DROP VIEW IF EXISTS images",
            "DROP INDEX IF EXISTS image_vector",
            f"ALTER TABLE image ALTER vector TYPE {vector_type(layout)} USING NULL",
            VIEW,
        ):
            self._connection.execute(statement.encode())

    # -- rows -------------------------------------------------------------------------

    def _put_sources(self) -> None:
        marks = {
            i: trust.mark("folder", source.folder) if source.is_own else ""
            for i, source in self._store.sources().items()
        }
        rows = [
            (i, source.root, source.images, source.name, marks[i])
            for i, source in self._store.sources().items()
        ]
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO source VALUES (%s, %s, %s, %s, %s) ON CONFLICT (source_id) DO UPDATE "
                "SET (root, images, name, mark) = "
                "(excluded.root, excluded.images, excluded.name, excluded.mark)",
                rows,
            )

    def _put_about(self, layout: Layout) -> None:
        from psycopg.types.json import Jsonb

        about = {n: v for n, v in self._about.items() if n not in (*_OWN, *_HERE)}
        path = str(self._store.path).encode("utf-8", "backslashreplace").decode()
        row = [self._about["id"], self._about["revision"], path]
        row += [layout.n_dimensions, Jsonb(self._about["recipe"])]
        row += [Jsonb(self._about.get("learned", {})), Jsonb(about)]
        self._connection.execute("DELETE FROM collection")
        self._connection.execute(
            "INSERT INTO collection (id, revision, file, n_dimensions, recipe, learned, about) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            row,
        )
        marks = dict(self._select("SELECT name, crc FROM array WHERE name NOT GLOB '~*'"))
        same = set(self._connection.execute("SELECT name, mark FROM learned").fetchall())
        stay = [name for name, mark in marks.items() if (name, mark) in same]
        self._connection.execute("DELETE FROM learned WHERE name <> ALL(%s)", [stay])
        for name in marks.keys() - set(stay):
            kept = self._select("SELECT dtype, shape, data FROM array WHERE name = ?", name)
            ((dtype, shape, data),) = kept
            self._connection.execute(
                "INSERT INTO learned VALUES (%s, %s, %s, %b, %s)",
                [name, dtype, json.loads(shape), data, marks[name]],
            )

    def _send(
        self,
        mark_of: dict[int, int],
        is_there: bool,
        total: int,
        progress: Callable[[int, int], None] | None,
    ) -> int:
        """Write the images whose mark is not that of `mark_of`; returns how many."""
        target, names = "image", ", ".join(COLUMNS)
        if is_there:  # rows that others refer to are changed, not written again
            target = "vladkit_sent"
            self._connection.execute(
                f"CREATE TEMP TABLE vladkit_sent ON COMMIT DROP AS SELECT {names} FROM image "
                "WITH NO DATA".encode()
            )
        into = f"COPY {target} ({names}) FROM STDIN (FORMAT binary)".encode()
        sent = done = 0
        with self._connection.cursor() as cursor, cursor.copy(into) as copy:
            copy.set_types(_COPIED)
            for image_id_n, vector_nD in self._store.vector_blocks():
                for begin in range(0, len(image_id_n), _BATCH):
                    some = slice(begin, begin + _BATCH)
                    for row in self._rows(image_id_n[some].tolist(), vector_nD[some], mark_of):
                        copy.write_row(row)
                        sent += 1
                    done = min(total, done + _BATCH)
                    if progress:
                        progress(done, total)
        if not is_there or 2 * sent >= total:
            self._connection.execute("DROP INDEX IF EXISTS image_vector")  # to be built again
        if is_there:
            new = ", ".join(f"excluded.{name}" for name in COLUMNS)
            self._connection.execute(
                f"INSERT INTO image ({names}) SELECT {names} FROM vladkit_sent "
                f"ON CONFLICT (image_id) DO UPDATE SET ({names}) = ({new})".encode()
            )
        return sent

    def _rows(
        self, ids: Sequence[int], vector_nD: AnyArray, mark_of: dict[int, int]
    ) -> Iterator[Sequence[object]]:
        """Rows of the table `image`, of those that have another mark."""
        if not np.isfinite(vector_nD).all():
            path = self._store.path
            raise FileFormatError(
                f"{path} is damaged: it has vectors that are no numbers: run vladkit check "
                f"{quoted(path)} --repair"
            )
        binary_n = _binary(vector_nD)
        places = ",".join("?" * len(ids))
        heads = {row[0]: row for row in self._select(_HEADS.format(places), *ids)}
        photo_of = photos(self._store, ids) if has_photos(self._store) else {}
        changed = {}
        for i, image_id in enumerate(ids):
            head = heads.get(image_id)
            if head is None:
                continue  # a vector of no image
            lifted = image_id in self._lifted
            photo = photo_of.get(image_id, UNKNOWN)
            mark = _mark(repr((head, lifted, photo)).encode() + binary_n[i])
            if mark_of.get(image_id) != mark:
                changed[image_id] = [*head[:-2], lifted, mark, binary_n[i]]
        places = ",".join("?" * len(changed))
        codes = {i: rest for i, *rest in self._select(_CODES.format(places), *changed)}
        kept = {i: rest for i, *rest in self._select(_KEPT.format(places), *changed)}
        for image_id, row in changed.items():
            photo = photo_of.get(image_id, UNKNOWN)
            facts = photo.time(), photo.latitude, photo.longitude, photo.camera
            yield [*row, *codes.get(image_id, [None] * 3), *kept.get(image_id, [None] * 4), *facts]

    # -- index ------------------------------------------------------------------------

    def _build_index(self, layout: Layout, n: int) -> None:
        """Make the index, unless it is there or there can be none."""
        from psycopg import errors

        ((there,),) = self._connection.execute("SELECT to_regclass('image_vector')")
        if there is not None or index_problem(layout):
            return
        n_bytes = min(_INDEX_BYTES, 2**26 + n * (layout.row_bytes + _LINKS))
        memory = "SELECT set_config('maintenance_work_mem', %s, true)"
        self._connection.execute(memory, [f"{n_bytes // 1024}kB"])
        make = f"CREATE INDEX image_vector ON image USING hnsw (vector {vector_class(layout)})"
        try:
            with self._connection.transaction():
                self._connection.execute(make.encode())
        except errors.DiskFull:  # shared memory of a container, which has 64 MB if nobody asks
            self._connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            self._connection.execute(make.encode())


def _is_copy(store: Store, file: str, own: str) -> bool:
    """Whether a file that was exported is another one with the same id, and still there."""
    try:
        if os.path.samefile(file, store.path):
            return False
        with closing(Store.open(file, read_only=True)) as other:
            return other.about().get("id") == own
    except (OSError, ValueError, VladkitError):  # gone, or on another machine
        return False


def _binary(vector_nD: AnyArray) -> list[bytes]:
    """Vectors as pgvector sends them: dimension and 0, of 16 bits each, and the values."""
    n, d = vector_nD.shape
    big_nD = np.ascontiguousarray(vector_nD, vector_nD.dtype.newbyteorder(">"))
    head_n2 = np.tile(np.array([d, 0], ">u2"), (n, 1))
    row_nb = np.concatenate([head_n2.view(np.uint8), big_nD.view(np.uint8)], axis=1)
    return [row_b.tobytes() for row_b in row_nb]


def _mark(data: bytes) -> int:
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _copied(kind: str) -> str:
    """Type of a column as it is sent: vectors are made into bytes here."""
    name = kind.partition(" ")[0]
    return "bytea" if name == "{type}" else name


_COPIED: Final = [
    {"bigint": "int8", "integer": "int4", "boolean": "bool"}.get(_copied(kind), _copied(kind))
    for kind, _ in COLUMNS.values()
]

_HEADS: Final = """
SELECT picture_id, source_id, path, n_bytes, mtime_ns, width, height, n_local,
    EXISTS (SELECT 1 FROM code WHERE code.picture_id = picture.picture_id),
    EXISTS (SELECT 1 FROM feature WHERE feature.picture_id = picture.picture_id)
FROM picture WHERE skipped IS NULL AND picture_id IN ({})"""

_CODES: Final = "SELECT picture_id, word, code, angle FROM code WHERE picture_id IN ({})"

_KEPT: Final = (
    "SELECT picture_id, n, dtype, descriptor, geometry FROM feature WHERE picture_id IN ({})"
)
