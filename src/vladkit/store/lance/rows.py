"""Rows of Lance's datasets: records as Arrow tables, keys of images, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError
from vladkit.store.blocks import Layout
from vladkit.store.database import row_crc
from vladkit.store.packing import pack_codes, pack_kept
from vladkit.store.rows import ImageRow, Record

__all__ = [
    "CODES",
    "COLUMNS",
    "KEPT",
    "about_schema",
    "array_schema",
    "image_crc",
    "image_key",
    "image_schema",
    "is_whole",
    "row_of",
    "source_key",
    "table_from",
    "table_of",
    "vector_layout",
    "vectors_of",
]

_KEY_BITS: Final = 53
"""Bits of a key: whole numbers that JavaScript has, too, which the page is written in.

Among 10^7 images two have one key with a probability of .006: `attempt` 1 gives the later of them
another."""

COLUMNS: Final = [
    "source_id", "path", "n_bytes", "mtime_ns", "width", "height", "n_local", "skipped",
    "transient", "image_id",
]  # fmt: skip
"""Columns of an `ImageRow`."""

_NEVER_NULL: Final = ("source_id", "path", "n_bytes", "mtime_ns", "transient")

KEPT: Final = ["kept_n", "kept_dtype", "kept_descriptor", "kept_geometry"]
CODES: Final = ["code_word", "code_code", "code_angle"]


def _key(*parts: object) -> int:
    text = "\0".join(map(str, parts)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return max(1, int.from_bytes(digest, "big") >> (64 - _KEY_BITS))


def source_key(root: str, attempt: int = 0) -> int:
    """Key of a source by its folder when it was indexed: the same for all writers."""
    return _key("source", root, *([attempt] if attempt else []))


def image_key(source_id: int, path: str, attempt: int = 0) -> int:
    """Key of an image: the same for all writers.

    Examples
    --------
    >>> image_key(1, "moon.jpg"), image_key(1, "moon.jpg", 1)
    (2973538915810182, 590498335869515)
    """
    return _key(source_id, path, attempt)


def about_schema() -> Any:
    """Schema of values: name, JSON, CRC-32 of both."""
    import pyarrow as pa

    return pa.schema([("name", pa.string()), ("value", pa.string()), ("crc", pa.int64())])


def array_schema() -> Any:
    """Schema of arrays; `write` is of those that were written together."""
    import pyarrow as pa

    names = "write", "name", "dtype", "shape"
    fields = [(name, pa.string()) for name in names]
    return pa.schema([*fields, ("data", pa.large_binary()), ("crc", pa.int64())])


def image_schema(layout: Layout) -> Any:
    """Schema of images, for vectors of that form. Each group of columns has its CRC-32."""
    import pyarrow as pa

    # Two writers of one new image: with a key that is declared, the second of them conflicts.
    key = {b"lance-schema:unenforced-primary-key": b"true"}
    number = pa.from_numpy_dtype(layout.dtype)
    return pa.schema(
        [
            pa.field("image_id", pa.int64(), nullable=False, metadata=key),
            ("source_id", pa.int64()),
            ("path", pa.string()),
            ("n_bytes", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("n_local", pa.int32()),
            ("skipped", pa.string()),
            ("transient", pa.bool_()),
            ("lifted", pa.bool_()),
            ("crc", pa.int64()),
            ("vector", pa.list_(number, layout.n_dimensions)),
            ("vector_crc", pa.int64()),
            ("kept_n", pa.int32()),
            ("kept_dtype", pa.string()),
            ("kept_descriptor", pa.large_binary()),
            ("kept_geometry", pa.large_binary()),
            ("kept_crc", pa.int64()),
            ("code_word", pa.large_binary()),
            ("code_code", pa.large_binary()),
            ("code_angle", pa.large_binary()),
            ("code_crc", pa.int64()),
        ]
    )


def vector_layout(schema: Any) -> Layout:
    """Layout of the vectors of images that are stored with a schema; any, if it has none."""
    import pyarrow as pa

    found = dict(zip(schema.names, schema.types, strict=True)).get("vector", pa.null())
    for dtype in (np.float16, np.float32):
        if pa.types.is_fixed_size_list(found) and found.value_type == pa.from_numpy_dtype(dtype):
            return Layout(np.dtype(dtype), found.list_size)
    return Layout(np.dtype(np.float16), 1)


def table_from(rows: Sequence[Sequence[Any]], schema: Any) -> Any:
    """Table of some rows, one at least."""
    import pyarrow as pa

    columns = zip(zip(*rows, strict=True), schema, strict=True)
    arrays = [pa.array(column, field.type) for column, field in columns]
    return pa.Table.from_arrays(arrays, schema=schema)


def image_crc(values: Sequence[object]) -> int:
    """CRC-32 of an image's row: its columns from ``source_id`` to ``lifted``."""
    return row_crc(*(int(v) if isinstance(v, bool) else v for v in values))


def table_of(records: Iterable[tuple[int, Record]], layout: Layout) -> Any:
    """Records, each with its key, as a table for the dataset of images."""
    import pyarrow as pa

    schema = image_schema(layout)
    values: list[list[Any]] = [[] for _ in schema]
    vectors: list[AnyArray] = []
    for image_id, record in records:
        row = record.row
        about = [
            row.source_id, row.path, row.n_bytes, row.mtime_ns, row.width, row.height, row.n_local,
            row.skipped, bool(row.transient), record.lifted,
        ]  # fmt: skip
        vector_D = record.vector_D
        kept = (None,) * 4 if record.features is None else pack_kept(record.features)
        codes = (None,) * 3 if record.codes is None else pack_codes(record.codes)
        if vector_D is None:
            packed = None
            vectors.append(np.zeros(layout.n_dimensions, layout.dtype))
        else:
            vectors.append(np.ascontiguousarray(vector_D, layout.dtype))
            packed = row_crc(vectors[-1].tobytes())
        line = [image_id, *about, image_crc(about), vector_D is None, packed]
        line += [*kept, row_crc(*kept) if record.features else None]
        line += [*codes, row_crc(*codes) if record.codes else None]
        for column, value in zip(values, line, strict=True):
            column.append(value)
    arrays = []
    for field, column in zip(schema, values, strict=True):
        if field.name == "vector":
            flat = pa.array(np.concatenate(vectors) if vectors else np.empty(0, layout.dtype))
            mask = pa.array(column, pa.bool_())
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, layout.n_dimensions, mask=mask))
        else:
            arrays.append(pa.array(column, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def is_whole(values: dict[str, Any]) -> bool:
    """Whether the row of an image has all values that none lacks."""
    return all(values[name] is not None for name in _NEVER_NULL)


def row_of(values: dict[str, Any], folders: dict[int, str], place: Path) -> ImageRow:
    """Row of an image from its columns; FileFormatError, with the place, if it is not whole."""
    if not is_whole(values):
        raise FileFormatError(
            f"{place} is damaged: row {values['image_id']} lacks a value: run vladkit check "
            f"{quoted(place)} --repair"
        )
    folder = folders.get(values["source_id"], "")
    return ImageRow(**{name: values[name] for name in COLUMNS}, folder=folder)


def vectors_of(column: Any) -> AnyArray:
    """Vectors (n, D) of a column of them, without null ones, as they lie in memory."""
    width = column.type.list_size
    flat: AnyArray = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, width)
