"""Check of a collection file, and repair of what is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.errors import FileFormatError
from vladkit.store.database import row_crc
from vladkit.store.photos import IS_NO_PHOTO, has_photos
from vladkit.store.schema import AUGMENTATION, CHECKED
from vladkit.store.store import Store
from vladkit.store.whole import forget_whole

__all__ = ["AGAIN", "CHANGED", "LENGTH_ERROR", "Finding", "check"]

LENGTH_ERROR: Final = 0.01
"""Largest distance of a vector's length from 1: float16 rounds 32,768 values to 1e-4."""

CHANGED: Final = "has changed since it was written"
AGAIN: Final = "its vector was damaged and has been dropped: index again"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a collection that is not as it should be.

    ``image`` is the path of the image that it concerns, if there is one; ``repaired`` is True if
    it was fixed just now.
    """

    text: str
    image: str | None = None
    repaired: bool = False


def check(
    store: Store,
    *,
    repair: bool = False,
    begin: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Check every page, row and vector.

    Pages as SQLite checks them; that every row is as it was written, by its CRC-32; references
    between tables; that each image is either skipped or has one vector, of the right size, finite
    and of unit length, and each vector an image; sizes and finiteness of kept features and sums;
    the arrays of an augmentation; whole vectors beside short ones. (What the collection as a whole
    rests on, the recipe and the codebook, is checked when it is opened.)

    Parameters
    ----------
    store : Store
    repair : bool
        Drop what is damaged, in one transaction; images that lose their vector, or features,
        are marked to be indexed again. Damaged pages cannot be repaired.
    begin : callable ()
        Called within the transaction: sets ``store.layout`` where another process has learned
        since, or all vectors would seem damaged.
    progress : callable (done, total) or None

    Returns
    -------
    list of Finding
        Empty if nothing is wrong.
    """
    problems = _pages(store)
    if problems:
        return problems
    if not repair:
        with store.reading():
            begin()
            return [p for p, _ in _findings(store, progress)]
    with store.writing():
        begin()
        findings = list(_findings(store, progress))
        for _, fix in findings:
            fix()
    return [Finding(p.text, p.image, repaired=True) for p, _ in findings]


_Fixable = tuple[Finding, Callable[[], None]]


def _pages(store: Store) -> list[Finding]:
    try:
        lines = [line for (line,) in store.connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        lines = [str(error)]
    return [Finding(f"damaged pages: {line}") for line in lines if line != "ok"]


def _findings(store: Store, progress: Callable[[int, int], None] | None) -> Iterator[_Fixable]:
    """Everything that is wrong, each with what fixes it."""
    yield from _references(store)
    yield from _changed(store)
    rows = store.connection.execute(
        "SELECT picture_id, ifnull(block_id, -1), skipped IS NOT NULL FROM picture "
        "ORDER BY picture_id"
    ).fetchall()
    image_n3 = np.array(rows, np.int64).reshape(-1, 3)
    image_id_n, block_id_n, skipped_n = image_n3.T
    seen_n = np.zeros(len(image_id_n), bool)
    yield from _blocks(store, image_id_n, block_id_n, seen_n, progress)
    has_block_n = block_id_n >= 0
    for i in np.flatnonzero((skipped_n == 1) & has_block_n).tolist():
        yield _about_image(store, image_id_n[i], "is skipped and has a vector all the same")
    for i in np.flatnonzero((skipped_n == 0) & ~seen_n).tolist():
        yield _about_image(store, image_id_n[i], "has no vector")
    yield from _features(store)
    yield from _codes(store)
    yield from _sums(store)
    yield from _photos(store)
    yield from _augmentation(store)
    yield from _whole(store)
    yield from _misnamed(store)


def _references(store: Store) -> Iterator[_Fixable]:
    cursor = store.connection.execute("PRAGMA foreign_key_check")
    for table, row_id, parent, _ in cursor.fetchall():

        def fix(table: str = table, row_id: int = row_id) -> None:
            if table == "picture":
                store.delete([row_id])
            else:
                store.connection.execute(f"DELETE FROM {table} WHERE picture_id = ?", (row_id,))
                # the id may be what has changed: the image that the row was of lacks it now
                if table != "photo":  # which each `add` fills up
                    store.changed = True
                    store.describe_again(f"picture_id NOT IN (SELECT picture_id FROM {table})")

        names = [{"picture": "image"}.get(name, name) for name in (table, parent)]
        yield Finding(f"row {row_id} of {names[0]} belongs to no {names[1]}"), fix


def _changed(store: Store) -> Iterator[_Fixable]:
    """Rows of images and folders that are not as they were written."""
    sources = store.sources()
    for (image_id,) in _unlike(store, "picture", "picture_id"):

        def forget(image_id: int = image_id) -> None:
            store.delete([image_id])

        yield Finding(f"its row {CHANGED}", _path(store, image_id)), forget
    for (source_id,) in _unlike(store, "source", "source_id"):

        def accept(source_id: int = source_id) -> None:
            sql = f"UPDATE source SET crc = row_crc({CHECKED['source']}) WHERE source_id = ?"
            store.connection.execute(sql, (source_id,))

        root = sources[source_id].root
        yield Finding(f"the row of the folder {root} {CHANGED}: see if it is right"), accept


def _unlike(store: Store, table: str, key: str, also: str = "0") -> list[tuple[int]]:
    is_unlike = f"crc != row_crc({CHECKED[table]}) OR {also}"
    sql = f"SELECT {key} FROM {table} WHERE {is_unlike} ORDER BY {key}"
    return store.connection.execute(sql).fetchall()


def _blocks(
    store: Store,
    image_id_n: Int64Array,
    block_id_n: Int64Array,
    seen_n: AnyArray,
    progress: Callable[[int, int], None] | None,
) -> Iterator[_Fixable]:
    """Every vector; marks in `seen_n` the images that have one, good or bad."""
    layout = store.layout
    block_ids = [i for (i,) in store.connection.execute("SELECT block_id FROM block")]
    for done, block_id in enumerate(block_ids, start=1):
        n_ids, n_data = store.connection.execute(
            "SELECT length(picture_ids), length(data) FROM block WHERE block_id = ?", (block_id,)
        ).fetchone()
        if progress:
            progress(done, len(block_ids))
        wanted = n_ids // 8 * layout.row_bytes
        is_whole = n_ids % 8 == 0 and n_data == wanted
        ids, data, crc = store.connection.execute(  # only what may be of any size is read
            "SELECT picture_ids, data, crc FROM block WHERE block_id = ? AND ?",
            (block_id, is_whole),
        ).fetchone() or (b"", b"", 0)
        if not is_whole or crc != row_crc(ids, data):

            def drop(block_id: int = block_id) -> None:
                store.connection.execute("DELETE FROM block WHERE block_id = ?", (block_id,))
                store.changed = True

            what = CHANGED if is_whole else f"has {n_data} bytes, wanted {wanted}"
            yield Finding(f"block {block_id} {what}"), drop
            continue  # its images are found to be without a vector
        held_n = np.frombuffer(ids, "<i8")
        place_n = np.minimum(np.searchsorted(image_id_n, held_n), max(len(image_id_n) - 1, 0))
        mine_n = np.zeros(len(held_n), bool)  # of an image that knows this block, and once
        mine_n[np.unique(held_n, return_index=True)[1]] = True
        if not len(image_id_n):
            mine_n[:] = False
        else:
            mine_n &= (image_id_n[place_n] == held_n) & (block_id_n[place_n] == block_id)
        if not mine_n.all():

            def take_out(block_id: int = block_id, mine_n: AnyArray = mine_n) -> None:
                store.blocks.keep_rows(block_id, mine_n)
                store.changed = True

            n = int((~mine_n).sum())
            yield Finding(f"block {block_id} holds {n} vectors of no image"), take_out
        seen_n[place_n[mine_n]] = True
        vector_nD = np.frombuffer(data, layout.dtype.newbyteorder("<"))
        vector_nD = vector_nD.reshape(len(held_n), layout.n_dimensions)
        length_n = np.linalg.norm(vector_nD.astype(np.float32), axis=1)
        bad_n = mine_n & ~(np.abs(length_n - 1) < LENGTH_ERROR)  # NaN is bad, too
        for image_id, length in zip(held_n[bad_n].tolist(), length_n[bad_n], strict=True):
            yield _about_image(store, image_id, f"has a vector of length {length:.4g}")


def _features(store: Store) -> Iterator[_Fixable]:
    changed = _unlike(store, "feature", "picture_id")
    cursor = store.connection.execute("SELECT picture_id FROM feature ORDER BY picture_id")
    for (image_id,) in cursor.fetchall():
        try:
            kept = store.features([image_id])[image_id]
            is_finite = (
                np.isfinite(kept.geometry_l5).all() and np.isfinite(kept.descriptor_lf).all()
            )
            wrong = None if is_finite else "are not finite"
        except FileFormatError:
            wrong = "have the wrong size"
        if wrong is None and (image_id,) in changed:
            wrong = "have changed since they were written"
        if wrong:

            def drop(image_id: int = image_id) -> None:
                sql = "DELETE FROM feature WHERE picture_id = ?"
                store.connection.execute(sql, (image_id,))
                store.changed = True
                store.describe_again("picture_id = ?", image_id)

            yield Finding(f"its features {wrong}", _path(store, image_id)), drop


def _codes(store: Store) -> Iterator[_Fixable]:
    changed = _unlike(store, "code", "picture_id")
    cursor = store.connection.execute("SELECT picture_id FROM code ORDER BY picture_id")
    for (image_id,) in cursor.fetchall():
        wrong = "have changed since they were written" if (image_id,) in changed else None
        try:
            store.codes([image_id])
        except FileFormatError:
            wrong = "have the wrong size"
        if wrong:
            # not to be had again without its vector
            yield _about_image(store, image_id, f"its codes {wrong}")


def _sums(store: Store) -> Iterator[_Fixable]:
    changed = _unlike(store, "aggregate", "picture_id")
    kept = "SELECT picture_id FROM aggregate"
    cursor = store.connection.execute(f"{kept} ORDER BY picture_id")
    centroid_kf = store.arrays("centroids").get("centroids")
    for (image_id,) in cursor.fetchall():
        try:
            residual_kf, _ = store.sums([image_id])[image_id]
            wrong = None if np.isfinite(residual_kf).all() else "are not finite"
            if centroid_kf is not None and residual_kf.shape != centroid_kf.shape:
                wrong = "have the wrong size"
        except FileFormatError:
            wrong = "have the wrong size"
        if wrong is None and (image_id,) in changed:
            wrong = "have changed since they were written"
        if wrong:
            # not to be had again without its vector
            yield _about_image(store, image_id, f"its sums {wrong}")
    if centroid_kf is not None and store.about()["recipe"].get("keep_sums"):
        lacking = f"block_id IS NOT NULL AND picture_id NOT IN ({kept})"
        sql = f"SELECT picture_id FROM picture WHERE {lacking} ORDER BY picture_id"
        for (image_id,) in store.connection.execute(sql).fetchall():
            yield _about_image(store, image_id, "has no sums")


def _photos(store: Store) -> Iterator[_Fixable]:
    for (image_id,) in (
        _unlike(store, "photo", "picture_id", IS_NO_PHOTO) if has_photos(store) else ()
    ):

        def drop(image_id: int = image_id) -> None:
            store.connection.execute("DELETE FROM photo WHERE picture_id = ?", (image_id,))

        yield Finding(f"its date and place {CHANGED}: index again", _path(store, image_id)), drop


def _augmentation(store: Store) -> Iterator[_Fixable]:
    try:
        kept = store.arrays("~augment.*")
        is_whole = "augmentation" not in store.about() or kept.keys() >= set(AUGMENTATION)
    except FileFormatError:
        is_whole = False
    if not is_whole:
        fix = partial(store.forget, "augmentation", "~augment.*")
        yield Finding("its augmentation is damaged: augment again"), fix


def _whole(store: Store) -> Iterator[_Fixable]:
    sql = "SELECT name FROM array WHERE name GLOB '~whole.*'"
    for (name,) in store.connection.execute(sql).fetchall():
        try:
            store.arrays(name)
        except FileFormatError:
            text = "whole vectors, from which short ones are learned, are damaged"
            yield Finding(text), partial(forget_whole, store)
            return


def _misnamed(store: Store) -> Iterator[_Fixable]:
    """Arrays that nothing reads, as their name has changed."""
    sql = (
        "SELECT rowid, CAST(name AS BLOB) FROM array WHERE name GLOB '~*' AND name NOT GLOB "
        f"'~augment.*' AND name NOT GLOB '~whole.*' AND crc != row_crc({CHECKED['array']})"
    )
    for row_id, name in store.connection.execute(sql).fetchall():

        def drop(row_id: int = row_id) -> None:
            store.connection.execute("DELETE FROM array WHERE rowid = ?", (row_id,))

        yield Finding(f"array {name.decode(errors='replace')!r} {CHANGED}"), drop


def _about_image(store: Store, image_id: int, what: str) -> _Fixable:
    def fix() -> None:
        store.drop_vector(int(image_id), AGAIN)

    return Finding(what, _path(store, image_id)), fix


def _path(store: Store, image_id: int) -> str:
    return store.images_by_id([int(image_id)])[int(image_id)].path
