"""Files of older formats are converted, whole or not at all."""

from __future__ import annotations

import json
import lzma
import os
import re
import sqlite3
from contextlib import closing

import cv2
import pytest

from commands import run
from images import textured
from paths import TESTS
from photos import write_photos
from stored import everything, sql
from vladkit import Collection
from vladkit.errors import FileFormatError
from vladkit.store import blocks
from vladkit.store.migrate import migrate
from vladkit.store.schema import TABLES


class TestMigration:
    @pytest.fixture
    def old(self, tmp_path):
        """A file that version 0.1.0 wrote in format 1, and the photographs it was made of."""
        write_photos(tmp_path / "photos")
        (tmp_path / "old").write_bytes(
            lzma.decompress((TESTS / "data" / "format-1.vlad.xz").read_bytes())
        )
        return tmp_path / "old"

    def test_is_refused_with_the_command_that_converts(self, old):
        before = old.read_bytes()
        for method in (Collection.open, Collection.create):
            with pytest.raises(FileFormatError, match=r"convert it with vladkit migrate .*old"):
                method(old)
        assert old.read_bytes() == before

    def test_vectors_are_the_same(self, old, tmp_path):
        with closing(sqlite3.connect(old)) as db:
            sql = "SELECT path, data FROM vector JOIN picture USING (picture_id)"
            before = dict(db.execute(sql).fetchall())
        assert len(before) == 15
        assert migrate(old) == 1
        assert everything(old) == before
        with Collection.open(old) as collection:
            assert collection.check() == []
            assert collection.recipe.keep_features == 0
            assert [row.path for row in collection.skipped()] == ["broken.jpg"]
            hits = collection.search(tmp_path / "photos" / "moon.jpg")
            assert hits[0].path == "moon.jpg"
            assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith("old")] == ["old"]

    def test_goes_on_as_if_it_had_been_made_now(self, old, tmp_path):
        migrate(old)
        cv2.imwrite(str(tmp_path / "photos" / "new.png"), textured(120, 90))
        with Collection.open(old) as collection:
            report = collection.add([tmp_path / "photos"])
            assert report.indexed == 16  # from another folder: all are new
            assert collection.check() == []

    def test_again_does_nothing(self, old):
        migrate(old)
        before = old.read_bytes()
        assert migrate(old) == 4
        assert old.read_bytes() == before

    def test_fails_whole(self, old, monkeypatch):
        before = everything_raw(old)
        real = blocks.Blocks.append
        monkeypatch.setattr(blocks.Blocks, "append", lambda *a: os.stat(str(real(*a))))
        with pytest.raises(FileNotFoundError):
            migrate(old)
        assert everything_raw(old) == before

    def test_from_format_2(self, own, ready):
        """It had neither checksums nor marks, and two values for a folder of images."""
        with Collection.open(own) as collection, collection.index.store.writing():
            collection.index.store.set_about(images={"1": [str(ready[1]), None]})
        statements = ["PRAGMA legacy_alter_table = ON"]
        tables = {table: each for table, each in TABLES.items() if table != "code"}
        for table, statement in tables.items():
            plain = re.sub(
                r",\s*(crc INTEGER|mark TEXT) NOT NULL", "", re.sub("--.*", "", statement)
            )
            with closing(sqlite3.connect(own)) as db:
                columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(c for c in columns if c not in ("crc", "mark"))
            statements += [f"ALTER TABLE {table} RENAME TO new_{table}", plain]
            statements += [f"INSERT INTO {table} SELECT {kept} FROM new_{table}"]
        statements += [f"DROP TABLE new_{table}" for table in reversed(tables)]
        statements += ["DROP TABLE code", "DROP TABLE photo"]
        sql(own, *statements, "PRAGMA user_version = 2", sealed=False)
        with pytest.raises(FileFormatError, match=r"format 2, .* vladkit migrate"):
            Collection.open(own)
        assert migrate(own) == 2
        assert everything(own) == everything(ready[0])
        with Collection.open(own) as collection:
            assert collection.check() == []
            assert collection.strangers() == [str(ready[1])]
            hits = collection.search(ready[1] / "03.png", rerank=3)
            assert (hits[0].path, hits[0].file) == ("03.png", str(ready[1] / "03.png"))

    def test_from_format_3(self, own, ready):
        """It had no codes."""
        sql(own, "DROP TABLE code", "DROP TABLE photo", "PRAGMA user_version = 3", sealed=False)
        with pytest.raises(FileFormatError, match=r"format 3, .* vladkit migrate"):
            Collection.open(own)
        assert migrate(own) == 3
        assert everything(own) == everything(ready[0])
        with Collection.open(own) as collection:
            assert collection.check() == []

    def test_other_files(self, tmp_path):
        with pytest.raises(FileFormatError, match="does not exist"):
            migrate(tmp_path / "nothing")
        (tmp_path / "text").write_text("text" * 50)
        with pytest.raises(FileFormatError, match="another kind of file"):
            migrate(tmp_path / "text")

    def test_command(self, old):
        done = run("migrate", old)
        assert done.stdout == ""
        assert "converted from format 1 to 4" in done.stderr
        assert json.loads(run("migrate", old, "--json").stdout)["from"] == 4


def everything_raw(path):
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
