"""`PostgresStore`: rows of a collection in PostgreSQL, read as `Store` reads those of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array, Int64Array
from vladkit.core.codes import Codes
from vladkit.core.names import is_text, real
from vladkit.errors import FileFormatError, ParameterError
from vladkit.store import trust
from vladkit.store.blocks import BLOCK_BYTES, Layout
from vladkit.store.database import damaged
from vladkit.store.packing import check_value, number_type, unpack_codes, unpack_kept
from vladkit.store.postgres.address import Address, connect, translated
from vladkit.store.postgres.schema import enter_schema, holds_collection, vector_type
from vladkit.store.rows import ImageRow, KeptFeatures, Source

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresStore"]

_ROW: Final = (
    "source_id, path, n_bytes, mtime_ns, width, height, n_local, NULL, false, image_id, "
    "coalesce(images, root)"
)
"""Values of an `ImageRow`, in its order."""

_LEAST: Final = 220
_MOST: Final = 1000
"""Fewest and most candidates that HNSW keeps while it searches (``hnsw.ef_search``)."""


_OUTSIDE: Final = (0, 4)
"""States of a connection that is in no transaction: idle, and lost."""


class PostgresStore:
    """A collection in PostgreSQL, open for searching: the methods of `Store` that read.

    Others raise ParameterError. ``layout`` and ``local_dimensions`` as in `Store`; ``path`` names
    the database in messages, without a password.
    """

    def __init__(self, address: Address, connection: psycopg.Connection[Any]) -> None:
        self.path = cast(Path, str(address))
        self.read_only = True
        self.learns_again = True
        self.layout = Layout(np.dtype(np.float16), 0)
        self.local_dimensions = 0
        self._address = address
        self._connection = connection
        self._search_path = ""
        self._known: dict[str, Any] | None = None

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect to a collection.

        Raises
        ------
        FileFormatError
            If there is none in the schema.
        StorageError
            If there is no connection.
        MissingDependencyError
            If psycopg is not installed.
        """
        address = Address.parse(url)
        connection = _connected(address)
        try:
            self = cls(address, connection)
            with translated(address, "read"), connection.transaction():
                self._search_path = enter_schema(connection, address)
                if not holds_collection(connection, address):
                    raise FileFormatError(
                        f"{address} holds no collection: write one to it with vladkit export FILE "
                        f"{address}"
                    )
            return self
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise ParameterError(
            f"{self.path} is in PostgreSQL, where a collection can be searched and nothing else: "
            "use its file, and export it again"
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Snapshot: all reads within the block see one state, whoever writes meanwhile.

        A connection that was lost before is made again.
        """
        if self._connection.broken:
            self._connection = _connected(self._address)
        with translated(self._address, "read"), self._connection.transaction():
            # all of it for this transaction alone: poolers share sessions
            self._connection.execute(
                "SELECT set_config('search_path', %s, true), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', true), "
                "set_config('hnsw.ef_search', %s, true)",
                [self._search_path, str(_LEAST)],
            )
            try:
                yield
            finally:
                self._known = None

    def _rows(self, statement: str, *values: object) -> list[Any]:
        if self._connection.info.transaction_status in _OUTSIDE:
            with self.reading():
                return self._rows(statement, *values)
        with translated(self._address, "read"):
            return self._connection.execute(statement.encode(), values, binary=True).fetchall()

    # -- about, arrays ----------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Values about the collection, as `Store.about`; read once in a snapshot."""
        if self._known is not None:
            return self._known
        columns = "id, revision, recipe, learned, about"
        rows = self._rows(f"SELECT {columns} FROM collection")
        if not rows:
            raise FileFormatError(f"{self.path} holds no collection any more: export it again")
        *own, about = rows[0]
        found: dict[str, Any] = dict(zip(("id", "revision", "recipe", "learned"), own, strict=True))
        with damaged(self.path, "what is kept about it"):
            found = {**about, **found}
            for name, value in found.items():
                check_value(name, value)
        if self._connection.info.transaction_status:
            self._known = found
        return found

    def learned(self) -> dict[str, Any]:
        """State that what was learned is in, as `Store.learned`."""
        found: dict[str, Any] = self.about()["learned"]
        return found

    def stamp(self) -> str:
        """Name of the state that the vectors are in: that of the file when it was exported."""
        about = self.about()
        return f"{about['id']}:{about['revision']}"

    def arrays(self, pattern: str = "[^~]*") -> dict[str, AnyArray]:
        """Arrays whose name fits a pattern of SQLite's GLOB."""
        fits = pattern.replace("[^", "[!")
        names = [n for (n,) in self._rows("SELECT name FROM learned") if fnmatchcase(n, fits)]
        rows = self._rows(
            "SELECT name, dtype, shape, data FROM learned WHERE name = ANY(%s)", names
        )
        found = {}
        for name, dtype, shape, data in rows:
            with damaged(self.path, f"array {name!r}"):
                found[name] = np.frombuffer(data, number_type(dtype)).reshape(shape)
        return found

    # -- sources, images --------------------------------------------------------------

    def sources(self) -> dict[int, Source]:
        """All sources by their id, where they were when they were exported."""
        rows = self._rows("SELECT source_id, root, name, images, mark FROM source ORDER BY 1")
        return {
            i: Source(i, root, name, images, trust.is_own("folder", images or root, mark))
            for i, root, name, images, mark in rows
        }

    def own_folders(self) -> list[str]:
        """Folders of images that this user gave, links resolved."""
        return [real(s.folder) for s in self.sources().values() if s.is_own]

    def _images(self, where: str, *values: object) -> list[ImageRow]:
        rows = self._rows(
            f"SELECT {_ROW} FROM image JOIN source USING (source_id) WHERE {where} "
            'ORDER BY source_id, path COLLATE "C"',
            *values,
        )
        return [ImageRow(*row) for row in rows]

    def indexed(self) -> Iterator[ImageRow]:
        """Images by source and path: all that are here have a vector."""
        return iter(self._images("true"))

    images = indexed

    def state(self) -> tuple[object, ...]:
        """Another value whenever any row may have changed since; see `Store.state`."""
        return (self.stamp(),)

    def ids_in(self, source_id: int, folder: str) -> set[int]:
        """Ids of the images of a source that are at a path or below it; see `Store.ids_in`."""
        rows = self._rows(
            "SELECT image_id FROM image WHERE source_id = %s "
            "AND (%s = '' OR path = %s OR starts_with(path, %s || '/'))",
            source_id,
            *[folder] * 3,
        )
        return {int(i) for (i,) in rows}

    def check_can(self, what: str) -> None:
        """Raise ParameterError: a collection in PostgreSQL lacks this."""
        raise ParameterError(
            f"{self.path} is in PostgreSQL, which cannot {what}: use its file, and export it again"
        )

    def skipped(self) -> Iterator[ImageRow]:
        """Images without a vector: they are not exported."""
        return iter(())

    def lifted(self) -> set[int]:
        """Images whose features are those of a second try."""
        return {i for (i,) in self._rows("SELECT image_id FROM image WHERE lifted")}

    def images_by_id(self, image_ids: Sequence[int]) -> dict[int, ImageRow]:
        """Rows of some images by image id; unknown ones are left out."""
        rows = self._images("image_id = ANY(%s::bigint[])", list(image_ids))
        return {row.image_id: row for row in rows}

    def by_path(
        self,
        path: str,
        source_id: int | None = None,
        *,
        spelled: Callable[[str], str] | None = None,
    ) -> list[ImageRow]:
        """Images of that path, as `Store.by_path`."""
        if not is_text(path):
            return []
        paths = [path]
        if spelled is not None:
            all_paths = self._rows("SELECT DISTINCT path FROM image")
            paths = [each for (each,) in all_paths if spelled(each) == spelled(path)]
        found = self._images("path = ANY(%s)", paths)
        return [row for row in found if source_id in (None, row.source_id)]

    def count(self) -> tuple[int, int]:
        """Numbers of images with a vector and of skipped images, which are not exported."""
        ((n,),) = self._rows("SELECT count(*) FROM image")
        return n, 0

    def count_local(self) -> int:
        """Number of local features of all images."""
        ((n,),) = self._rows("SELECT coalesce(sum(n_local), 0)::bigint FROM image")
        return int(n)

    def count_by_source(self) -> dict[int, tuple[int, int]]:
        """Numbers of images of each source, as `Store.count_by_source`."""
        rows = self._rows("SELECT source_id, count(*) FROM image GROUP BY 1")
        return {source_id: (n, 0) for source_id, n in rows}

    def n_bytes(self) -> int:
        """Size of the tables and the index in bytes."""
        tables = "('collection'), ('learned'), ('source'), ('image')"
        ((n,),) = self._rows(
            f"SELECT sum(pg_total_relation_size(name::regclass))::bigint "
            f"FROM (VALUES {tables}) AS t (name)"
        )
        return int(n)

    # -- vectors ----------------------------------------------------------------------

    def vector_blocks(self) -> Iterator[tuple[Int64Array, AnyArray]]:
        """All vectors, in blocks of about 1 MB; within `reading`."""
        n = max(1, BLOCK_BYTES // max(1, self.layout.row_bytes))
        with (
            translated(self._address, "read"),
            self._connection.cursor("vladkit_vectors", binary=True) as cursor,
        ):
            cursor.execute("SELECT image_id, vector FROM image ORDER BY image_id")
            while rows := cursor.fetchmany(n):
                yield self._as_arrays(rows)

    def vectors(self, image_ids: Sequence[int]) -> dict[int, AnyArray]:
        """Vectors (D,) of some images by image id; unknown ones are left out."""
        rows = self._rows(
            "SELECT image_id, vector FROM image WHERE image_id = ANY(%s::bigint[])",
            list(image_ids),
        )
        image_id_n, vector_nD = self._as_arrays(rows)
        return dict(zip(image_id_n.tolist(), vector_nD, strict=True))

    def _as_arrays(self, rows: Sequence[Any]) -> tuple[Int64Array, AnyArray]:
        layout = self.layout
        with damaged(self.path, "its vectors"):  # 4 bytes are the dimension
            row_nb = np.frombuffer(b"".join(data for _, data in rows), np.uint8)
            row_nb = row_nb.reshape(len(rows), 4 + layout.row_bytes)[:, 4:]
            vector_nD = row_nb.view(layout.dtype.newbyteorder(">")).astype(layout.dtype)
        return np.array([i for i, _ in rows], np.int64), vector_nD

    def ann(self) -> PostgresIndex:
        """The index that PostgreSQL has of the vectors."""
        return PostgresIndex(self)

    def nearest(self, query_vD: Float32Array, n: int) -> list[tuple[int, int, float]]:
        """The n likeliest images for each vector: (its number, image id, inner product).

        Of images that tie the first by their paths, as in a file; the index gives them in any
        order, and an incremental sort behind it needs no more of it than the ties.
        """
        kind = vector_type(self.layout).partition("(")[0]
        texts = [json.dumps(query_D.tolist()) for query_D in query_vD]
        if 2 * n > _LEAST:
            self._rows("SELECT set_config('hnsw.ef_search', %s, true)", str(min(_MOST, 2 * n)))
        return self._rows(
            f"SELECT (v - 1)::int, image_id, score FROM unnest(%s::text[]::{kind}[]) "
            "WITH ORDINALITY AS query (given, v) CROSS JOIN LATERAL "
            "(SELECT image_id, -(vector <#> given) AS score FROM image "
            'ORDER BY vector <#> given, path COLLATE "C", image_id LIMIT %s) AS found',
            texts,
            n,
        )

    # -- codes, features --------------------------------------------------------------

    def codes(self, image_ids: Sequence[int]) -> tuple[list[int], Codes | None]:
        """Codes of some images, and the ids of these in order, as `Store.codes`."""
        rows = self._rows(
            "SELECT image_id, word, code, angle FROM image "
            "WHERE word IS NOT NULL AND image_id = ANY(%s::bigint[])",
            list(image_ids),
        )
        if not rows:
            return [], None
        with damaged(self.path, "the codes of some images"):
            codes = unpack_codes(row[1:] for row in rows)
        return [int(row[0]) for row in rows], codes

    def features(self, image_ids: Sequence[int]) -> dict[int, KeptFeatures]:
        """Kept features of some images by image id, as `Store.features`."""
        rows = self._rows(
            "SELECT image_id, n_kept, kept_dtype, kept_descriptor, kept_geometry, "
            "coalesce(width, 0), coalesce(height, 0) "
            "FROM image WHERE n_kept IS NOT NULL AND image_id = ANY(%s::bigint[])",
            list(image_ids),
        )
        pieces = self._rows("SELECT shape[1] FROM learned WHERE name = 'kept.pieces'")
        code_bytes = int(pieces[0][0]) if pieces else -1
        wanted = {"n_dimensions": self.local_dimensions, "code_bytes": code_bytes}
        found = {}
        for image_id, *packed, width, height in rows:
            with damaged(self.path, f"the features of image {image_id}"):
                found[int(image_id)] = unpack_kept(packed, width, height, **wanted)
        return found


def _connected(address: Address) -> psycopg.Connection[Any]:
    """Connection whose transactions read one state each."""
    connection = connect(address)
    import psycopg

    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


class PostgresIndex:
    """The HNSW index of a collection in PostgreSQL, searched as an `AnnIndex`."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def search(self, query_qD: Float32Array, n: int) -> tuple[Int64Array, Float32Array]:
        """The n likeliest images for each query, as `AnnIndex.search`."""
        image_id_qn = np.full((len(query_qD), n), -1, np.int64)
        score_qn = np.full((len(query_qD), n), -np.inf, np.float32)
        filled = [0] * len(query_qD)
        for q, image_id, score in self._store.nearest(query_qD, n):
            image_id_qn[q, filled[q]], score_qn[q, filled[q]] = image_id, score
            filled[q] += 1
        return image_id_qn, score_qn
