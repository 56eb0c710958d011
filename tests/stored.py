"""What is in a collection's file, by SQL and by path."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from vladkit import Collection
from vladkit.store.database import row_crc
from vladkit.store.schema import CHECKED, TABLES


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


OF_A_FILE = ("id", "revision")
"""Values about a collection that are those of one file; and when it was made."""


def tables(path):
    """All rows of all tables, but for what is of the file itself."""
    with closing(sqlite3.connect(path)) as connection:
        found = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall()
            for name in TABLES
        }
    about = {name: json.loads(value) for name, value, _ in found.pop("about")}
    about["made_with"].pop("created")
    rest = {name: value for name, value in about.items() if name not in OF_A_FILE}
    return found | {"about": rest, "array": sorted(found["array"])}
