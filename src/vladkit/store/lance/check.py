"""Check of a collection of Lance, and repair of what is damaged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.errors import FileFormatError
from vladkit.store.check import AGAIN, CHANGED, LENGTH_ERROR, Finding
from vladkit.store.database import row_crc
from vladkit.store.lance.rows import (
    CODES,
    COLUMNS,
    KEPT,
    image_crc,
    image_key,
    is_whole,
    vectors_of,
)
from vladkit.store.lance.store import LanceStore

__all__ = ["check_lance"]

_ROWS: Final = 256

_Fixable = tuple[Finding, Callable[[], None]]


def check_lance(
    store: LanceStore,
    *,
    repair: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Check every row, vector, feature and code; see `vladkit.store.check.check`.

    With `repair` images whose vector or codes are damaged lose them, and are indexed again by the
    next `add`; a damaged row is forgotten. A file that Lance cannot read is not repaired.
    """
    try:
        if not repair:
            with store.reading():
                return [found for found, _ in _findings(store, progress)]
        with store.writing():
            findings = list(_findings(store, progress))
            for _, fix in findings:
                fix()
    except FileFormatError as error:
        return [Finding(str(error))]
    return [Finding(p.text, p.image, repaired=True) for p, _ in findings]


def _findings(store: LanceStore, progress: Callable[[int, int], None] | None) -> Iterator[_Fixable]:
    sources, n_all, done = store.sources(), sum(store.count()), 0
    if store.lacks_images():
        yield Finding("its images are missing: index them again"), lambda: None
    twice = set(store.keys_kept_twice())
    for batch in store.batches(_ROWS):
        done += batch.num_rows
        vectors = _vectors(batch)
        for place, row in enumerate(batch.drop_columns(["vector"]).to_pylist()):
            image_id, path = row["image_id"], row["path"]
            if wrong := _wrong_row(row, sources, twice):
                yield Finding(wrong, path), partial(store.delete, [image_id])
            elif wrong := _wrong_content(row, vectors.get(place)):
                yield Finding(wrong, path), partial(store.drop_vector, image_id, AGAIN)
        if progress:
            progress(done, n_all)


def _vectors(batch: Any) -> dict[int, AnyArray]:
    """Vectors (D,) of a batch by their place in it."""
    (place_n,) = np.nonzero(batch.column("vector").is_valid().to_numpy(zero_copy_only=False))
    return dict(zip(place_n.tolist(), vectors_of(batch.column("vector")), strict=True))


def _wrong_row(row: dict[str, Any], sources: Collection[int], twice: Collection[int]) -> str:
    """Text of what is wrong with the row of an image; "" if nothing is."""
    image_id, source_id, path = row["image_id"], row["source_id"], row["path"]
    about = [row[n] for n in (*COLUMNS[:-1], "lifted")]
    if not is_whole(row):
        return "its row lacks a value"
    if row["crc"] != image_crc(about) or image_id not in [
        image_key(source_id, path, attempt) for attempt in (0, 1)
    ]:
        return f"its row {CHANGED}"
    if image_id in twice:
        return "its row is there twice"
    return "" if source_id in sources else "its row belongs to no source"


def _wrong_content(row: dict[str, Any], vector_D: AnyArray | None) -> str:
    """Text of what is wrong with what is kept of an image; "" if nothing is."""
    if row["skipped"] is not None:
        return "" if vector_D is None else "is skipped and has a vector all the same"
    if vector_D is None:
        return "has no vector"
    if row["vector_crc"] != row_crc(vector_D.tobytes()):
        return f"its vector {CHANGED}"
    length = float(np.linalg.norm(vector_D.astype(np.float32)))
    if not abs(length - 1) < LENGTH_ERROR:  # NaN is bad, too
        return f"has a vector of length {length:.4g}"
    for name, columns, crc in (("features", KEPT, "kept_crc"), ("codes", CODES, "code_crc")):
        values = [row[n] for n in columns]
        is_there = any(value is not None for value in (*values, row[crc]))
        if is_there and row[crc] != row_crc(*values):
            return f"its {name} have changed since they were written"
    return ""
