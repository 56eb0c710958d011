"""The locks of an open collection: nothing that this process does may drop them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress

import pytest

from vladkit import Collection
from vladkit.cli.hints import check_prefixes, collection_hint
from vladkit.core.files import is_open_database
from vladkit.errors import VladkitError
from vladkit.features.readers import open_reader
from vladkit.images import read_image
from vladkit.store.migrate import migrate

# Only a process that is alone with the file can take it out of WAL mode.
ALONE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0)
try:
    connection.execute("PRAGMA journal_mode = DELETE")
    print("alone")
except sqlite3.OperationalError as error:
    print(error)
"""


def open_again(path):
    for read_only in (False, True):
        Collection.open(path, read_only=read_only).close()


def take_for_an_image(path):
    with Collection.open(path) as collection:
        collection.search(path)


def index_it(path):
    with Collection.open(path) as collection:
        collection.add([path])


def create_again(path):
    Collection.create(path).close()


def link(path):
    (path.parent / "link.jpg").symlink_to(path)
    (path.parent / "hard.jpg").hardlink_to(path)
    for name in ("link.jpg", "hard.jpg"):
        with suppress(VladkitError):
            read_image(path.parent / name)


def copy(path):
    with Collection.open(path) as collection:
        collection.copy(path.parent / "copy.vlad")


ACTIONS = {
    "opened again": open_again,
    "created again": create_again,
    "a query": take_for_an_image,
    "indexed": index_it,
    "an image": read_image,
    "by another name": link,
    "migrated": migrate,
    "copied": copy,
    "guessed at": lambda path: (check_prefixes([str(path)]), collection_hint("x", [str(path)])),
    **{
        f"{kind}:": lambda path, kind=kind: open_reader(f"{kind}:{path}")
        for kind in ("colmap", "hloc", "npz", "parquet", "fvecs", "bvecs", "siftgeo")
    },
}


@pytest.mark.parametrize("name", ACTIONS)
def test_are_kept(home, tmp_path, name):
    path = shutil.copy(home / "photos.vlad", tmp_path / "c.vlad")

    def others_see():
        command = [sys.executable, "-c", ALONE, path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with Collection.open(path) as collection:
        assert len(collection) > 0
        with suppress(VladkitError):
            ACTIONS[name](path)
        assert others_see() == "database is locked"
        assert len(collection) > 0
    assert others_see() == "alone"


def test_another_connection_of_this_process_keeps_them(home, tmp_path):
    path = shutil.copy(home / "photos.vlad", tmp_path / "c.vlad")
    own = sqlite3.connect(path, isolation_level=None)
    own.execute("BEGIN IMMEDIATE")
    Collection.open(path, read_only=True).close()
    code = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "database is locked" in done.stderr
    own.close()


def test_a_closed_collection_holds_no_place(tmp_path):
    """Its file may go, and another get the same number on the disk: that is no collection."""
    path = tmp_path / "c.vlad"
    collection = Collection.create(path)
    other = Collection.open(path)
    assert is_open_database(path)
    collection.close()
    assert is_open_database(path), "the other has it open"
    other.close()
    assert not is_open_database(path)
    assert other.index.store.connection is not None  # both are still there
