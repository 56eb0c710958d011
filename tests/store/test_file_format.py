"""docs/reference/file-format.md is the file: read with sqlite3 and numpy alone."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from paths import TESTS
from vladkit import Collection


class TestFormat:
    """docs/reference/file-format.md, with sqlite3 and numpy alone."""

    text = (TESTS.parent / "docs" / "reference" / "file-format.md").read_text()

    @pytest.mark.parametrize(("n", "kind", "off"), [(400, "|u1", 2e-4), (700, "code", 0.1)])
    def test_says_how_to_read_vectors_and_how_they_are_made(
        self, photos, tmp_path, monkeypatch, n, kind, off
    ):
        shutil.copytree(photos, tmp_path / "photos")
        recipe = {"max_features": n, "keep_bytes": 32 if kind == "code" else 0}
        with Collection.create(tmp_path / "photos.vlad", **recipe) as collection:
            collection.add([tmp_path / "photos"])
        monkeypatch.chdir(tmp_path)
        found: dict = {}
        for code in re.findall(r"```python\n(.*?)```", self.text, re.DOTALL):
            assert "vladkit" not in code
            exec(code, found)
        assert found["ranking"][0] == "astronaut.jpg"
        assert sorted(found["ranking"]) == sorted(p.name for p in (tmp_path / "photos").iterdir())
        assert found["score_n"][0] == pytest.approx(1, abs=1e-3)
        place = [found["path_of"][i] for i in found["ids"]].index("moon.jpg")
        np.testing.assert_allclose(found["vector_D"], found["vector_nD"][place], atol=off)
        assert found["dtype"] == kind
        assert found["vector_D"] @ found["vector_nD"][place] > (0.9999 if kind == "|u1" else 0.7)
        found["db"].close()

    def test_names_every_table_and_column(self, own):
        with closing(sqlite3.connect(own)) as connection:
            tables = [n for (n,) in connection.execute("SELECT name FROM sqlite_schema") if n]
            for table in tables:
                if table.startswith("sqlite_"):
                    continue
                assert f"**`{table}`**" in self.text
                section = self.text.split(f"**`{table}`**")[1].split("\n**`")[0]
                for column in connection.execute(f"PRAGMA table_info({table})"):
                    assert f"`{column[1]}`" in section, (table, column[1])
            for (name,) in connection.execute("SELECT name FROM about"):
                assert f"`{name}`" in self.text
        header = own.read_bytes()[:100]
        assert header[68:72] == b"VLAD"
        assert int.from_bytes(header[60:64], "big") == 4
