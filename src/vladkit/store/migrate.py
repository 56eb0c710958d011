"""Migration of collection files of earlier formats to the one that this version reads."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from vladkit.core.files import as_collection
from vladkit.errors import FileFormatError
from vladkit.store.blocks import Blocks
from vladkit.store.database import connected, damaged, pragma, translated
from vladkit.store.schema import CHECKED, FORMAT_VERSION, TABLES, check_file, tables_of

__all__ = ["migrate"]

_ROWS: Final = 512  # vectors moved at a time: 32 MB of 32,768 float16


def migrate(path: str | os.PathLike[str]) -> int:
    """Convert a collection file of an earlier format, in place and in one transaction.

    A kill leaves it in the old format or in the new one. The vectors are the same to the bit,
    so nothing has to be indexed again; a file of format 1 gets no features for re-ranking, which
    it lacks.

    Returns
    -------
    int
        The format that it had; `FORMAT_VERSION` if it was up to date.

    Raises
    ------
    FileFormatError
        If there is no collection, one of a later format, or a damaged one.
    StorageError
        If it cannot be written; it is then as before.
    """
    where = as_collection(path)
    found = check_file(where, accept=range(1, FORMAT_VERSION + 1))
    if not found:
        raise FileFormatError(f"{where} does not exist or is empty: nothing to convert")
    if found == FORMAT_VERSION:
        return found
    with translated(where, "convert"), connected(where, "rw") as connection:
        # Tables are renamed without what refers to them.
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if pragma(connection, "user_version") == found:  # else another process was first
                with damaged(where, "its rows"):
                    _convert(connection, where, found)
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        with suppress(sqlite3.OperationalError):  # a full disk: it is converted, if not smaller
            connection.execute("VACUUM")
    return found


def _convert(connection: sqlite3.Connection, path: Path, found: int) -> None:
    """Copy all rows into new tables, and the vectors of format 1, one to a row, into blocks."""
    if found == 3:  # has all but one
        if "code" not in tables_of(connection, path):
            connection.execute(TABLES["code"])
        return
    old = tables_of(connection, path, (*TABLES, "vector"))
    copied = ("about", "array", "source", "picture") + ("block", "feature", "aggregate") * (
        found > 1
    )
    if missing := [name for name in (*copied, *["vector"] * (found == 1)) if name not in old]:
        raise FileFormatError(f"{path} is damaged: its table {missing[0]!r} is missing")
    for name in copied:
        connection.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    for statement in TABLES.values():
        connection.execute(statement)
    for name in copied:
        more = {"source": ", '' AS mark"}
        if found == 1:
            more["picture"] = ", NULL AS block_id"
        connection.execute(
            f"INSERT INTO {name} SELECT *, row_crc({CHECKED[name]}) "
            f"FROM (SELECT *{more.get(name, '')} FROM old_{name})"
        )
    for name in reversed(copied):
        connection.execute(f"DROP TABLE old_{name}")
    if found == 1:
        _fill_blocks(connection, path)
        connection.execute("DROP TABLE vector")


def _fill_blocks(connection: sqlite3.Connection, path: Path) -> None:
    (recipe,) = connection.execute("SELECT value FROM about WHERE name = 'recipe'").fetchone()
    recipe = json.loads(recipe) | {"keep_features": 0}
    connection.executemany(
        "INSERT OR REPLACE INTO about VALUES (?1, ?2, row_crc(?1, ?2))",
        [("recipe", json.dumps(recipe)), ("id", json.dumps(uuid.uuid4().hex)), ("revision", "0")],
    )
    blocks = Blocks(connection, path)
    cursor = connection.execute("SELECT picture_id, data FROM vector ORDER BY picture_id")
    while rows := cursor.fetchmany(_ROWS):
        sizes = {len(data) for _, data in rows}
        if len(sizes) != 1:
            raise FileFormatError(f"{path} is damaged: its vectors are {sorted(sizes)} bytes long")
        vector_nD = np.stack([np.frombuffer(data, recipe["dtype"]) for _, data in rows])
        ids = [image_id for image_id, _ in rows]
        block_ids = blocks.append(ids, vector_nD)
        connection.executemany(
            "UPDATE picture SET block_id = ? WHERE picture_id = ?",
            list(zip(block_ids, ids, strict=True)),
        )
