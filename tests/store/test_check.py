"""Damage is found, named and repaired."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from stored import everything, sql, tables
from vladkit import Collection
from vladkit.core.names import quoted
from vladkit.errors import DamageWarning, FileFormatError
from vladkit.store.export import FORMATS

NAN = np.full(8 * 128, np.nan, "<f2").tobytes()

DAMAGE = {
    "a vector with NaN": (
        [("UPDATE block SET data = CAST(? || substr(data, 2049) AS BLOB)", (NAN,))],
        [("00.png", "has a vector of length nan")],
    ),
    "a vector of the wrong length": (
        [
            (
                "UPDATE block SET data = CAST(? || substr(data, 2049) AS BLOB)",
                (np.full(8 * 128, 0.5, "<f2").tobytes(),),
            )
        ],
        [("00.png", "has a vector of length 16")],
    ),
    "a block of the wrong size": (
        ["UPDATE block SET data = substr(data, 2)"],
        [(None, "block 1 has 24575 bytes, wanted 24576")]
        + [(f"{i:02}.png", "has no vector") for i in range(12)],
    ),
    "a block of nobody": (
        ["INSERT INTO block SELECT 7, picture_ids, data, crc FROM block"],
        [(None, "block 7 holds 12 vectors of no image")],
    ),
    "an image without vector": (
        ["UPDATE picture SET block_id = NULL WHERE path = '03.png'"],
        [(None, "block 1 holds 1 vectors of no image"), ("03.png", "has no vector")],
    ),
    "a lost block": (
        ["DELETE FROM block"],
        [(f"{i:02}.png", "has no vector") for i in range(12)],
    ),
    "a skipped image with a vector": (
        ["UPDATE picture SET skipped = 'x' WHERE path = '05.png'"],
        [("05.png", "is skipped and has a vector all the same")],
    ),
    "features of the wrong size": (
        ["UPDATE feature SET geometry = x'00' WHERE picture_id = 2"],
        [("01.png", "its features have the wrong size")],
    ),
    "features that are not finite": (
        [("UPDATE feature SET geometry = ? WHERE picture_id = 2", (b"\xff" * 1000,))],
        [("01.png", "its features are not finite")],
    ),
    "features of nobody": (
        ["INSERT INTO feature SELECT 99, n, dtype, descriptor, geometry, 0 FROM feature LIMIT 1"],
        [(None, "row 99 of feature belongs to no image")],
    ),
    "an image of no source": (
        ["UPDATE picture SET source_id = 9 WHERE path = '11.png'"],
        [(None, "row 12 of image belongs to no source")],
    ),
}


CHANGED = {
    "a vector": (
        "UPDATE block SET data = CAST(substr(data, 1, 99) || x'01' || substr(data, 101) AS BLOB)",
        [(None, "block 1 has changed since it was written")]
        + [(f"{i:02}.png", "has no vector") for i in range(12)],
    ),
    "a name": (
        "UPDATE picture SET path = '0l.png' WHERE path = '01.png'",
        [("0l.png", "its row has changed since it was written")],
    ),
    "a place": (
        "UPDATE feature SET geometry = CAST(x'0102' || substr(geometry, 3) AS BLOB) "
        "WHERE picture_id = 3",
        [("02.png", "its features have changed since they were written")],
    ),
    "a folder": (
        "UPDATE source SET name = 'elsewhere'",
        [(None, "the row of the folder {} has changed since it was written: see if it is right")],
    ),
}


class TestChecksums:
    @pytest.mark.parametrize("changed", CHANGED)
    def test_a_byte_that_fits_is_found_and_repaired(self, ready, own, changed):
        statement, wanted = CHANGED[changed]
        wanted = [(image, text.format(ready[1])) for image, text in wanted]
        sql(own, statement, sealed=False)
        with Collection.open(own) as collection:
            assert [(p.image, p.text) for p in collection.check()] == wanted
            assert [(p.image, p.text) for p in collection.check(repair=True)] == wanted
            assert collection.check() == []
            collection.add([ready[1]])
            assert collection.check() == []
        assert everything(own) == everything(ready[0])

    @pytest.mark.parametrize(
        ("statement", "wanted"),
        [
            (CHANGED["a place"][0], "its features have changed since they were written"),
            (
                "UPDATE feature SET picture_id = 99 WHERE picture_id = 12",
                "row 99 of feature belongs to no image",
            ),
            (
                "UPDATE code SET picture_id = 99 WHERE picture_id = 12",
                "row 99 of code belongs to no image",
            ),
            (
                "UPDATE code SET word = CAST(x'ffff' || substr(word, 3) AS BLOB) "
                "WHERE picture_id = 12",
                "its codes have the wrong size",
            ),
        ],
    )
    def test_what_repair_drops_is_made_again(self, ready, own, statement, wanted):
        before = tables(own)
        assert before["code"]
        assert before["feature"]
        sql(own, statement, sealed=False)
        with Collection.open(own) as collection:
            assert [p.text for p in collection.check(repair=True)] == [wanted]
            assert collection.check() == []
            assert collection.add([ready[1]]).indexed == 1
            assert collection.add([ready[1]]).indexed == 0
        after = tables(own)
        assert all(after[name] == before[name] for name in ("picture", "feature", "code"))

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE array SET data = CAST(substr(data, 1, 99) || x'01' || substr(data, 101) "
            "AS BLOB) WHERE name = '0.centroids'",
            "UPDATE about SET value = replace(value, 'power:0.3', 'power:0.8')",
            "UPDATE about SET value = 7 WHERE name = 'revision'",
        ],
    )
    def test_what_all_rests_on_is_checked_when_it_is_opened(self, own, statement):
        sql(own, statement, sealed=False)
        for read_only in (False, True):
            with pytest.raises(FileFormatError, match="has changed since it was written"):
                Collection.open(own, read_only=read_only)
        done = run("check", own, code=1)
        assert "has changed since it was written" in done.stderr

    def test_every_change_that_vladkit_makes_is_sealed(self, ready, own, tmp_path):
        with Collection.open(own) as collection:
            collection.remove(["03.png"])
            collection.augment(2)
            assert collection.check() == []
            cv2.imwrite(str(tmp_path / "a.png"), textured(130, 90, seed=99))
            (tmp_path / "b.png").write_text("no image")
            collection.add([tmp_path])
            cv2.imwrite(str(tmp_path / "a.png"), textured(130, 95, seed=98))
            assert collection.add([tmp_path]).indexed == 1
            assert collection.check() == []
            collection.whiten(4)
            collection.compact()
            assert collection.check() == []

    def test_an_augmentation_is_dropped(self, ready, own):
        query = ready[1] / "00.png"
        with Collection.open(own) as collection:
            plain = collection.search(query, rerank=0)
            collection.augment(2)
        zeros = "UPDATE array SET data = zeroblob(length(data)) WHERE name = '~augment.places'"
        sql(own, zeros, sealed=False)
        with Collection.open(own) as collection:
            with pytest.raises(FileFormatError, match=r"array '~augment\.places' has changed"):
                collection.search(query)
            for repair in (False, True):
                (problem,) = collection.check(repair=repair)
                assert problem.text == "its augmentation is damaged: augment again"
            assert collection.check() == []
            assert collection.search(query, rerank=0) == plain

    @pytest.mark.parametrize(
        ("statement", "wanted"),
        [
            ("DELETE FROM array WHERE name = '~augment.places'", []),
            (
                "UPDATE array SET name = '~aug-ent.places' WHERE name = '~augment.places'",
                ["array '~aug-ent.places' has changed since it was written"],
            ),
        ],
    )
    def test_an_augmentation_that_lacks_an_array_is_dropped(self, ready, own, statement, wanted):
        with Collection.open(own) as collection:
            plain = collection.search("05.png", rerank=0)
            collection.augment(2)
        sql(own, statement, sealed=False)
        wanted = ["its augmentation is damaged: augment again", *wanted]
        with Collection.open(own) as collection:
            for repair in (False, True):
                assert [p.text for p in collection.check(repair=repair)] == wanted
            assert collection.check() == []
            assert collection.search("05.png", rerank=0) == plain
            assert "~" not in "".join(collection.index.store.arrays("*"))

    @pytest.mark.parametrize(
        "statement", ["UPDATE photo SET camera = 'x' WHERE picture_id = 3", CHANGED["a folder"][0]]
    )
    def test_a_repair_of_no_vector_leaves_an_augmentation(self, own, statement):
        """Searches went without it afterwards, and nothing said so."""
        with Collection.open(own) as collection:
            collection.augment(2)
            before = collection.search("05.png", rerank=0)
        sql(own, statement, sealed=False)
        with Collection.open(own) as collection:
            assert len(collection.check(repair=True)) == 1
            assert collection.search("05.png", rerank=0) == before


class TestDamagedVectors:
    @pytest.mark.parametrize("value", [np.nan, np.inf, 60000])
    def test_rank_last_with_a_warning(self, ready, own, value):
        """NaN in one row emptied a ranking, or came first."""
        row = np.full(8 * 128, value, "<f2").tobytes()
        sql(own, ("UPDATE block SET data = CAST(? || substr(data, 2049) AS BLOB)", (row,)))
        with Collection.open(ready[0]) as collection:
            wanted = [hit.path for hit in collection.search(ready[1] / "05.png", 0)]
        wanted.remove("00.png")
        with Collection.open(own) as collection:
            for top in (0, 5):
                with pytest.warns(DamageWarning, match="1 of its vectors are no numbers"):
                    hits = collection.search(ready[1] / "05.png", top)
                assert [hit.path for hit in hits] == [*wanted, "00.png"][: top or 12]
        if value is not np.nan:
            return
        command = [sys.executable, "-m", "vladkit", "search", own, ready[1] / "05.png"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr.startswith(f"vladkit: {own} is damaged: 1 of its vectors are no numbers")

    def test_one_as_a_query(self, own):
        row = np.full(8 * 128, np.nan, "<f2").tobytes()
        sql(own, ("UPDATE block SET data = CAST(? || substr(data, 2049) AS BLOB)", (row,)))
        named = Path(own).rename(Path(own).with_name("my own.vlad"))
        wanted = f"the vector of image 1 is no numbers: run vladkit check {quoted(named)} --repair"
        with (
            Collection.open(named) as collection,
            pytest.raises(FileFormatError, match=re.escape(wanted)),
        ):
            collection.search("00.png")

    def test_of_no_image(self, own, ready):
        ids = np.arange(101, 113, dtype="<i8").tobytes()
        sql(own, ("UPDATE block SET picture_ids = ?", (ids,)))
        with (
            Collection.open(own) as collection,
            pytest.raises(FileFormatError, match="a vector of no image"),
        ):
            collection.search(ready[1] / "00.png")


class TestLostRows:
    """A table that was emptied is damage, whatever is asked."""

    @pytest.mark.parametrize("table", ["source", "picture", "block", "feature"])
    def test_are_named(self, own, ready, tmp_path, table):
        sql(own, f"DELETE FROM {table}")
        wanted = {"source": "belongs to no source", "picture": "vectors of no image"}
        found = run("check", own, code=0 if table == "feature" else 1).stdout
        assert wanted.get(table, "has no vector" if table == "block" else "") in found
        for words in (
            ("info", own, "--images"),
            ("search", own, ready[1] / "01.png"),
            ("pairs", own, "-o", tmp_path / "p.txt"),
            ("export", own, "-o", tmp_path / "e.npz"),
            ("add", own, ready[1]),
        ):
            assert run(*words, code=None).exit_code in (0, 1)
        run("check", own, "--repair")
        run("add", own, ready[1])
        assert run("check", own).stdout == ""


class TestForeignSchemas:
    """A file may be anybody's: only tables as vladkit makes them are read."""

    @pytest.mark.parametrize(
        ("statement", "match"),
        [
            ("CREATE VIEW more AS SELECT 1", "a view 'more'"),
            (
                "CREATE TRIGGER evil AFTER UPDATE ON about BEGIN DELETE FROM feature; END",
                "a trigger 'evil'",
            ),
            ("CREATE TABLE notes (text)", "a table 'notes'"),
            ("CREATE INDEX fast ON picture (width)", "a index 'fast'"),
            ("ALTER TABLE picture ADD COLUMN more TEXT", "'picture' is not as vladkit made it"),
            ("DROP TABLE aggregate", "'aggregate' is missing"),
        ],
    )
    def test_are_refused(self, own, statement, match):
        sql(own, statement, sealed=False)
        before = own.read_bytes()
        for read_only in (False, True):
            with pytest.raises(FileFormatError, match=match):
                Collection.open(own, read_only=read_only)
        assert own.read_bytes() == before

    def test_an_endless_view_in_place_of_a_table(self, own):
        sql(
            own,
            "PRAGMA legacy_alter_table = ON",
            "ALTER TABLE about RENAME TO about_real",
            "CREATE VIEW about AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
            "SELECT about_real.* FROM r CROSS JOIN about_real",
            sealed=False,
        )
        with pytest.raises(FileFormatError, match="that vladkit did not make"):
            Collection.open(own)

    def test_statistics_of_sqlite_are_no_harm(self, own):
        sql(own, "ANALYZE")
        with Collection.open(own) as collection:
            assert collection.check() == []


class TestFilesThatAreCut:
    @pytest.mark.parametrize("size", [0, 100, 16384, 40000])
    def test_end_no_process(self, own, ready, size):
        """A memory map of the file ended it by SIGBUS."""
        code = (
            "import os, sys; from vladkit import Collection, errors\n"
            "file, query, size = sys.argv[1:]\n"
            "collection = Collection.open(file, read_only=True)\n"
            "assert len(collection.search(query, 3)) == 3\n"
            "os.truncate(file, int(size))\n"
            "try: collection.search(query, 3)\n"
            "except errors.VladkitError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, own, ready[1] / "00.png", str(size)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestCheck:
    def test_nothing_to_find(self, ready, tmp_path):
        steps = []
        with Collection.open(ready[0], read_only=True) as collection:
            assert collection.check(progress=lambda *step: steps.append(step)) == []
        assert steps == [("check", 1, 1)]
        with Collection.create(tmp_path / "new") as collection:
            assert collection.check() == []

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_finds_and_repairs(self, ready, own, damage):
        statements, wanted = DAMAGE[damage]
        sql(own, *statements)
        with Collection.open(own) as collection:
            problems = collection.check()
            assert [(p.image, p.text) for p in problems] == wanted
            assert not any(p.repaired for p in problems)
            assert collection.check() == problems, "looking changed something"
            repaired = collection.check(repair=True)
            assert [(p.image, p.text) for p in repaired] == wanted
            assert all(p.repaired for p in repaired)
            assert collection.check() == []
            collection.add([ready[1]])
            assert collection.check() == []
        assert everything(own) == everything(ready[0])

    def test_damaged_pages(self, own):
        data = bytearray(own.read_bytes())
        with closing(sqlite3.connect(own)) as connection:
            (page,) = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'feature'"
            ).fetchone()
        data[(page - 1) * 16384 :][:16384] = bytes(16384)
        data[(page - 1) * 16384 : page * 16384] = bytes(16384)
        own.write_bytes(data)
        with Collection.open(own) as collection:
            problems = collection.check(repair=True)
        assert problems
        assert all(p.text.startswith("damaged pages") and not p.repaired for p in problems)

    @pytest.mark.parametrize("page", ["sqlite_autoindex_array_1", "sqlite_autoindex_about_1"])
    def test_damaged_indexes_of_names(self, own, page):
        with closing(sqlite3.connect(own)) as connection:
            (root,) = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = ?", (page,)
            ).fetchone()
        data = own.read_bytes()
        begin, end = (root - 1) * 16384, root * 16384
        changed = data[begin:end].replace(b"rotation", b"rotatiom").replace(b"id", b"ie")
        assert changed != data[begin:end]
        own.write_bytes(data[:begin] + changed + data[end:])
        done = run("check", own, code=1)
        assert "damaged" in done.stdout + done.stderr
        with suppress(FileFormatError), Collection.open(own, read_only=True) as collection:
            collection.search("00.png", 3)

    @pytest.mark.parametrize("name", [b"picturepicture", b"picture"])
    def test_damaged_names_of_tables(self, own, name):
        """SQLite's message holds the bytes, which Python cannot read as UTF-8."""
        own.write_bytes(own.read_bytes().replace(name, name.replace(b"i", b"\xd5", 1)))
        for read_only in (False, True):
            with pytest.raises(FileFormatError, match="is damaged"):
                Collection.open(own, read_only=read_only)

    def test_command(self, own):
        done = run("check", own)
        assert done.stdout == ""
        assert "12 images, no problems" in done.stderr
        sql(own, "UPDATE picture SET block_id = NULL WHERE path = '03.png'")
        done = run("check", own, code=1)
        assert "03.png: has no vector\n" in done.stdout
        assert "2 problems; --repair drops what is damaged" in done.stderr
        done = run("check", own, "--repair", "--json")
        assert [p["repaired"] for p in json.loads(done.stdout)["problems"]] == [True, True]
        run("check", own)


class TestHostileValues:
    """What is in the tables may be anything: it has a name, and takes no memory."""

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE array SET dtype = '<U1' WHERE name = '0.rotation'",
            "UPDATE array SET dtype = '<c8' WHERE name = '0.centroids'",
            "UPDATE array SET dtype = 'O'",
            "UPDATE array SET dtype = '<M8[ns]'",
            "UPDATE array SET shape = '" + "[" * 100_000 + "'",
            "UPDATE array SET shape = '[-1, -1]'",
            "UPDATE about SET value = '" + "[" * 100_000 + "' WHERE name = 'codebook'",
            "UPDATE about SET value = '[]' WHERE name = 'recipe'",
            "UPDATE about SET value = '7' WHERE name = 'made_with'",
            "UPDATE about SET value = replace(value, '\"seed\": 0', '\"seed\": 1e999')",
        ],
    )
    def test_of_what_all_rests_on(self, own, statement):
        sql(own, statement)
        with pytest.raises(FileFormatError):
            Collection.open(own)

    @pytest.mark.parametrize(
        "images",
        [
            '{"1": [1, 2]}',  # numbers are open files to the system
            '{"1": [null, "a"]}',
            '{"1": ["/a", 2]}',
            '{"1": ["/a", null, 3]}',
            '{"1": ["/a", null, "", ""]}',
            '{"1": ["/a"]}',
            '{"1": "/a"}',
            '{"1": {"0": "/a", "1": "/a"}}',
            '{"1": null}',
            '{"2": 0}',
        ],
    )
    def test_of_folders_of_images(self, own, images):
        sql(own, ("INSERT OR REPLACE INTO about VALUES ('images', ?, 0)", (images,)))
        with Collection.open(own) as collection:
            for ask in (collection.info, collection.check, lambda: list(collection.images())):
                with pytest.raises(FileFormatError, match="damaged: the folders of images"):
                    ask()

    def test_of_long_folders(self, own):
        """A path of 20 MB, before the name of each image, took seconds for an image."""
        sql(own, ("UPDATE source SET root = ?", ("/" + "x" * 100_000,)))
        with Collection.open(own) as collection:
            for ask in (collection.info, collection.check, lambda: list(collection.images())):
                with pytest.raises(FileFormatError, match="a folder's path has 100001 letters"):
                    ask()

    def test_of_a_folder_with_a_zero_byte(self, own, tmp_path):
        sql(own, "UPDATE source SET root = 'a' || char(0) || 'b'")
        done = run("export", own, "-o", tmp_path / "e.npz", code=1)
        assert "damaged: a folder's path has a zero byte" in done.stderr

    def test_of_numbers_of_blocks(self, own):
        last = 2**63 - 1
        sql(own, f"UPDATE block SET block_id = {last}", f"UPDATE picture SET block_id = {last}")
        with Collection.open(own) as collection:
            with pytest.raises(FileFormatError, match="the number of its last block"):
                collection.whiten(4)
            assert collection.search("00.png", 1)[0].path == "00.png"

    @pytest.mark.parametrize(
        "change",
        [
            "dtype = '<U1'",
            "dtype = 'u1,u1'",
            "descriptor = substr(descriptor, 1, n * 16)",
            "descriptor = x''",
            "n = -1",
            "n = 9223372036854775807",
        ],
    )
    def test_of_features(self, own, ready, change):
        sql(own, f"UPDATE feature SET {change} WHERE picture_id = 2")
        with Collection.open(own) as collection:
            assert [p.image for p in collection.check()] == ["01.png"]
            with pytest.raises(FileFormatError, match="the features of image 2"):
                collection.search(ready[1] / "01.png", rerank=12)
            assert collection.check(repair=True)
            assert collection.search(ready[1] / "01.png", rerank=12)[0].path == "01.png"

    @pytest.mark.parametrize("sums", ["x'00', x'00'", "x'', x''", "zeroblob(9), zeroblob(8)"])
    def test_of_sums(self, own, sums):
        sql(own, f"INSERT INTO aggregate VALUES (2, {sums}, 0)")
        with Collection.open(own) as collection:
            found = collection.check(repair=True)
            assert [(p.image, p.text) for p in found] == [
                ("01.png", "its sums have the wrong size")
            ]
            assert collection.check() == []

    def test_of_what_was_learned(self, own):
        sql(own, "UPDATE about SET value = '{\"images\": \"x\"}' WHERE name = 'learned'")
        with pytest.raises(FileFormatError, match="damaged: value 'learned'"):
            Collection.open(own)

    def test_of_names(self, own, tmp_path):
        digits = "1" * 5000
        sql(own, ("UPDATE picture SET path = ? WHERE picture_id = 1", (digits,)))
        done = run("pairs", own, "-o", tmp_path / "pairs.txt", "--sequential", 1)
        assert "12 images" in done.stderr
        assert digits in (tmp_path / "pairs.txt").read_text()
        sql(own, ("UPDATE picture SET path = ? WHERE picture_id = 1", ("x" * 100_000,)))
        with Collection.open(own) as collection:
            for suffix in FORMATS:
                with pytest.raises(FileFormatError, match="a path of 100000 letters is no path"):
                    collection.export(tmp_path / f"e{suffix}")
