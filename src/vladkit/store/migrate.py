"""Migration of collection files of earlier formats to the one that this version reads."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from pathlib import Path
from typing import Final

import numpy as np

from vladkit.errors import FileFormatError
from vladkit.store.blocks import Blocks
from vladkit.store.database import connected, pragma, translated
from vladkit.store.schema import ADDED_IN_2, FORMAT_VERSION, check_file

__all__ = ["migrate"]

_ROWS: Final = 512  # vectors moved at a time: 32 MB of 32,768 float16


def migrate(path: str | os.PathLike[str]) -> int:
    """Convert a collection file of an earlier format, in place and in one transaction.

    A kill leaves it in the old format or in the new one. The vectors are the same to the bit,
    so nothing has to be indexed again; it gets no features for re-ranking, which an old file
    lacks.

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
    where = Path(path).absolute()
    found = check_file(where, accept=range(1, FORMAT_VERSION + 1))
    if not found:
        raise FileFormatError(f"{where} does not exist or is empty: nothing to convert")
    if found == FORMAT_VERSION:
        return found
    with translated(where, "convert"), connected(where, "rw") as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if pragma(connection, "user_version") == found:  # else another process was first
                _from_1_to_2(connection, where)
                connection.execute("PRAGMA user_version = 2")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("VACUUM")
    return found


def _from_1_to_2(connection: sqlite3.Connection, path: Path) -> None:
    """Move vectors, one to a row, into blocks; add the tables of features and a revision."""
    for statement in ADDED_IN_2:
        connection.execute(statement)
    connection.execute("ALTER TABLE picture ADD COLUMN block_id INTEGER")
    (recipe,) = connection.execute("SELECT value FROM about WHERE name = 'recipe'").fetchone()
    recipe = json.loads(recipe) | {"keep_features": 0}
    connection.executemany(
        "INSERT OR REPLACE INTO about VALUES (?, ?)",
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
    connection.execute("DROP TABLE vector")
