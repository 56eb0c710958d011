"""Tables of a collection in PostgreSQL, and how to tell that a schema holds one.

Within a transaction the search path is the schema and that of pgvector, so that statements name
neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vladkit.errors import FileFormatError, ParameterError, StorageError
from vladkit.store.blocks import Layout
from vladkit.store.postgres.address import Address

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "COLUMNS",
    "VIEW",
    "add_columns",
    "create_tables",
    "enter_schema",
    "holds_collection",
    "index_problem",
    "vector_class",
    "vector_type",
]

_MARK: Final = "vladkit collection, format 1"
"""Comment of the table `collection`, by which a schema of ours is known."""

_NEEDS: Final = (0, 8)
"""First version of pgvector that goes on searching where filters leave too few."""

_MOST_STORED: Final = 16_000
_MOST_INDEXED: Final = {"float16": 4_000, "float32": 2_000}
_TYPES: Final = {"float16": "halfvec", "float32": "vector"}
"""pgvector's types, and the most dimensions that it stores and that its HNSW takes."""

COLUMNS: Final = {
    "image_id": ("bigint PRIMARY KEY", "its key in the file, too; never another image's"),
    "source_id": ("bigint NOT NULL REFERENCES source", "the folder that path is relative to"),
    "path": ("text NOT NULL", "relative to the source's folder, with forward slashes"),
    "n_bytes": ("bigint NOT NULL", "size of the image's file when it was read"),
    "mtime_ns": ("bigint NOT NULL", "when that file was changed last, in ns since 1970"),
    "width": ("integer", "px, after EXIF orientation"),
    "height": ("integer", "px, after EXIF orientation"),
    "n_local": ("integer", "local features found"),
    "lifted": ("boolean NOT NULL", "whether they are those of a second, more sensitive try"),
    "mark": ("bigint NOT NULL", "hash by which an export tells what has changed"),
    "vector": ("{type}", "of unit length: the inner product of two is their cosine"),
    "word": ("bytea", "uint16, little-endian, rising: a visual word for each code"),
    "code": ("bytea", "(n, b) bytes: the codes of those words"),
    "angle": ("bytea", "uint8, 256ths of a turn; empty: features have no direction"),
    "n_kept": ("integer", "local features kept for matching, strongest first; null: none"),
    "kept_dtype": ("text", 'of their descriptors; "code": codes of bytes'),
    "kept_descriptor": ("bytea", "(n_kept, f), little-endian"),
    "kept_geometry": ("bytea", "x, y, size, angle, score of each: docs/reference/file-format.md"),
    "taken": ("timestamp", "by the camera's clock, of the image's EXIF, as the next three"),
    "latitude": ("float8", "degrees, north positive"),
    "longitude": ("float8", "degrees, east positive"),
    "camera": ("text", "maker and model"),
}
"""Columns of the table `image`: type, comment."""

_TABLES: Final = {
    "collection": """CREATE TABLE collection (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id text NOT NULL,
    revision bigint NOT NULL,
    file text NOT NULL,
    n_dimensions integer NOT NULL,
    recipe jsonb NOT NULL,
    learned jsonb NOT NULL,
    about jsonb NOT NULL,
    exported timestamptz NOT NULL DEFAULT now()
)""",
    "learned": """CREATE TABLE learned (
    name text PRIMARY KEY,
    dtype text NOT NULL,
    shape bigint[] NOT NULL,
    data bytea NOT NULL,
    mark bigint NOT NULL
)""",
    "source": """CREATE TABLE source (
    source_id bigint PRIMARY KEY,
    root text NOT NULL,
    images text,
    name text NOT NULL,
    mark text NOT NULL
)""",
    "image": "CREATE TABLE image (\n    {columns}\n)",
}

_COMMENTS: Final = {
    "TABLE collection": _MARK,
    "COLUMN collection.id": "of the collection file, and of no other",
    "COLUMN collection.revision": "of the file when it was exported",
    "COLUMN collection.recipe": "how vectors are made of images",
    "COLUMN collection.learned": "state that codebook, words and PCA are in",
    "TABLE learned": "arrays that were learned, in C order, little-endian: codebook, words, PCA",
    "TABLE source": "folders that were indexed",
    "COLUMN source.root": "folder, absolute, on the machine that indexed it",
    "COLUMN source.images": "folder of the images, where root is a file of features",
    "TABLE image": "images that have a vector, with all that a search needs of them",
    "VIEW images": "images for joining with other tables; vector <#> vector is minus the cosine",
}

VIEW: Final = """CREATE OR REPLACE VIEW images AS SELECT
    image_id, path, rtrim(coalesce(images, root), '/') || '/' || path AS file,
    coalesce(images, root) AS folder, width, height, n_bytes,
    to_timestamp(mtime_ns / 1e9) AS modified, n_local, vector, taken, latitude, longitude, camera
FROM image JOIN source USING (source_id)"""


def vector_type(layout: Layout) -> str:
    """Type of the column `vector`.

    Raises
    ------
    ParameterError
        If pgvector has none with as many dimensions.
    """
    if layout.n_dimensions > _MOST_STORED:
        raise ParameterError(
            f"vectors of {layout.n_dimensions:,} dimensions, pgvector stores {_MOST_STORED:,}: "
            "reduce them with vladkit whiten"
        )
    return f"{_TYPES[layout.dtype.name]}({layout.n_dimensions})"


def vector_class(layout: Layout) -> str:
    """Operator class of an index of the inner product, which is the cosine at unit length."""
    return f"{_TYPES[layout.dtype.name]}_ip_ops"


def index_problem(layout: Layout) -> str:
    """Reason why vectors get no index, so that a search reads them all; empty if there is none."""
    most = _MOST_INDEXED[layout.dtype.name]
    if layout.n_dimensions <= most:
        return ""
    return f"{layout.n_dimensions:,} dimensions, pgvector indexes {most:,} of {layout.dtype.name}"


def enter_schema(
    connection: psycopg.Connection[Any], address: Address, *, create: bool = False
) -> str:
    """Set the search path of this transaction; returns it for those that come later.

    Parameters
    ----------
    connection, address
    create : bool
        Make the schema and the extension if they are missing.

    Raises
    ------
    StorageError
        If pgvector is missing or too old, and cannot be made.
    """
    from psycopg import errors, sql

    find = (
        "SELECT extversion, quote_ident(nspname), quote_ident(%s), "
        "EXISTS (SELECT FROM pg_namespace WHERE nspname = %s) "
        "FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace WHERE extname = 'vector'"
    )
    found = connection.execute(find, [address.schema] * 2).fetchone()
    if found is None and create:
        try:
            connection.execute("CREATE EXTENSION vector")
        except (errors.FeatureNotSupported, errors.UndefinedFile):
            raise StorageError(
                f"the server of {address} has no pgvector: install it there "
                "(https://github.com/pgvector/pgvector)"
            ) from None
        except errors.InsufficientPrivilege:
            raise StorageError(
                f"the database of {address} lacks pgvector, and this user may not add it: let an "
                "administrator run CREATE EXTENSION vector in it"
            ) from None
        found = connection.execute(find, [address.schema] * 2).fetchone()
    if found is None:
        raise FileFormatError(f"{address} holds no collection: {_EXPORT} {address}")
    version, home, schema, is_there = found
    if tuple(map(int, version.split(".")[:2])) < _NEEDS:
        raise StorageError(
            f"{address} has pgvector {version}, wanted {'.'.join(map(str, _NEEDS))} or later: "
            "let an administrator run ALTER EXTENSION vector UPDATE"
        )
    if create and not is_there:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(address.schema)))
    path = f"{schema}, {home}"
    connection.execute("SELECT set_config('search_path', %s, true)", [path])
    return path


_EXPORT: Final = "write one to it with vladkit export FILE"


def holds_collection(connection: psycopg.Connection[Any], address: Address) -> bool:
    """Whether the schema holds a collection; within `enter_schema`.

    Raises
    ------
    FileFormatError
        If it holds tables of such names that are not ours.
    """
    names = [*_TABLES, "images"]
    rows = connection.execute(
        "SELECT relname, obj_description(c.oid, 'pg_class') FROM pg_class AS c "
        "JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE nspname = %s AND relname = ANY(%s) ORDER BY relname",
        [address.schema, names],
    ).fetchall()
    if dict(rows).get("collection") == _MARK:
        return True
    if rows:
        raise FileFormatError(
            f"schema {address.schema} of {address} has a table {rows[0][0]} that this vladkit did "
            "not make: give another schema"
        )
    return False


def create_tables(connection: psycopg.Connection[Any], layout: Layout) -> None:
    """Make the tables, the view and their comments; within `enter_schema`."""
    columns = ",\n    ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    for statement in _TABLES.values():
        made = statement.format(columns=columns).format(type=vector_type(layout))
        connection.execute(made.encode())
    # bits and codes do not get smaller, and to try takes longer than to write them
    for column in ("word", "code", "angle", "kept_descriptor", "kept_geometry"):
        connection.execute(f"ALTER TABLE image ALTER {column} SET STORAGE EXTERNAL".encode())
    connection.execute("CREATE INDEX image_path ON image (path)")
    _finish(connection)


def add_columns(connection: psycopg.Connection[Any]) -> None:
    """Give tables the columns that they lack, and the view if it is gone; in `enter_schema`."""
    rows = connection.execute("SELECT * FROM image LIMIT 0").description or ()
    missing = [name for name in COLUMNS if name not in {row.name for row in rows}]
    for name in missing:
        connection.execute(f"ALTER TABLE image ADD COLUMN {name} {COLUMNS[name][0]}".encode())
    ((view,),) = connection.execute("SELECT to_regclass('images')")
    if missing or view is None:
        _finish(connection)


def _finish(connection: psycopg.Connection[Any]) -> None:
    """Make the view and the comments."""
    from psycopg import sql

    connection.execute(VIEW)
    own = {f"COLUMN image.{name}": text for name, (_, text) in COLUMNS.items()}
    for what, text in (_COMMENTS | own).items():
        comment = sql.SQL("COMMENT ON {} IS {}")
        connection.execute(comment.format(sql.SQL(what), sql.Literal(text)))
