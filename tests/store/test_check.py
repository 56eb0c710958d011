"""Damage is found, named and repaired."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from commands import run
from stored import everything, sql
from vladkit import Collection

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
        ["INSERT INTO block SELECT 7, picture_ids, data FROM block"],
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
        ["INSERT INTO feature SELECT 99, n, dtype, descriptor, geometry FROM feature LIMIT 1"],
        [(None, "row 99 of feature belongs to no image")],
    ),
    "an image of no source": (
        ["UPDATE picture SET source_id = 9 WHERE path = '11.png'"],
        [(None, "row 12 of image belongs to no source")],
    ),
}


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
