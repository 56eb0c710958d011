"""What is in a collection's file, by SQL and by path."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from vladkit import Collection
from vladkit.store.database import row_crc
from vladkit.store.schema import CHECKED


def sql(path, *statements, sealed=True):
    """Run statements; `sealed`: as vladkit would have written it, with the right checksums."""
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("row_crc", -1, row_crc)
        for statement in statements:
            connection.execute(*statement if isinstance(statement, tuple) else (statement,))
        for table, columns in CHECKED.items() if sealed else ():
            connection.execute(f"UPDATE {table} SET crc = row_crc({columns})")
        connection.commit()


def everything(path):
    """Path and vector of each image."""
    with Collection.open(path) as collection:
        names = {row.image_id: row.path for row in collection.images()}
        ids, vector_nD = collection.vectors()
    return {names[i]: v.tobytes() for i, v in zip(ids.tolist(), vector_nD, strict=True)}
