"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing


def wait_until(condition, seconds=20):
    """Ask again and again until it holds; AssertionError if it does not in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
    return value


def wait_for_rows(process, path, at_least, sql="SELECT count(block_id) FROM picture"):
    """Wait until the process has committed as many images, by default, to a collection."""

    def committed():
        assert process.poll() is None, "ended before it could be stopped"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                (n,) = connection.execute(sql).fetchone()
        except sqlite3.Error:  # no file or no table yet
            return None
        return (n,) if n >= at_least else None

    return wait_until(committed, 60)[0]
