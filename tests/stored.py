"""What is in a collection's file, by SQL and by path."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from vladkit import Collection


def sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(*statement if isinstance(statement, tuple) else (statement,))
        connection.commit()


def everything(path):
    """Path and vector of each image."""
    with Collection.open(path) as collection:
        names = {row.image_id: row.path for row in collection.images()}
        ids, vector_nD = collection.vectors()
    return {names[i]: v.tobytes() for i, v in zip(ids.tolist(), vector_nD, strict=True)}
