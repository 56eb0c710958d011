"""`--trust`: images and networks that somebody else's collection names."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys

import pytest

from commands import run
from networks import dots
from vladkit import Collection
from vladkit.errors import FileFormatError, ModelError
from vladkit.features.onnx import session as onnx_session

PIXELS = "data:image/jpeg"


@pytest.fixture
def foreign(home, tmp_path, monkeypatch):
    """A collection that another user made, of images on this machine."""
    shutil.copy(home / "photos.vlad", tmp_path / "c.vlad")
    monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "elsewhere"))
    return tmp_path / "c.vlad"


class TestPages:
    def test_report(self, foreign, home, tmp_path):
        done = run("report", foreign, "-o", tmp_path / "r.html", "--queries", 5)
        assert "was made elsewhere, or by another user; it names" in done.stderr
        assert str(home / "photos") in done.stderr
        assert PIXELS not in (tmp_path / "r.html").read_text()
        run("report", foreign, "-o", tmp_path / "r.html", "--queries", 5, "--trust")
        assert PIXELS in (tmp_path / "r.html").read_text()

    def test_search_shows_the_query_alone(self, foreign, home, tmp_path):
        page = tmp_path / "s.html"
        asked = "search", foreign, home / "query.png", "--html", page, "-n", 3
        done = run(*asked)
        assert "--trust" in done.stderr
        assert page.read_text().count(PIXELS) == 1
        assert run(*asked, "--trust").stderr == ""
        assert page.read_text().count(PIXELS) == 4

    def test_search_without_a_page_says_nothing(self, foreign, home):
        assert run("search", foreign, home / "query.png", "-n", 3).stderr == ""

    @pytest.mark.parametrize(("typed", "n"), [(b"y\n", 4), (b"\n", 1)])
    def test_asks_where_there_is_somebody_to_ask(self, foreign, home, tmp_path, typed, n):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "vladkit", "search", foreign, home / "query.png"]
        page = tmp_path / "s.html"
        with subprocess.Popen(
            [*command, "-n", "3", "--html", page], stdin=slave, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            os.write(master, typed)
            said = b""
            try:
                while chunk := os.read(master, 1 << 16):
                    said += chunk
            except OSError:  # the terminal is gone with the process
                pass
        os.close(master)
        assert process.returncode == 0, said
        assert b"show these images, and run the network? [y/N]" in said
        assert page.read_text().count(PIXELS) == n


class TestNetworks:
    def test_is_not_run_unless_asked_for(self, photos, tmp_path, monkeypatch):
        model = dots(tmp_path / "own" / "d.onnx")
        file = tmp_path / "c.vlad"
        with Collection.create(file, features=f"onnx:{model}", n_clusters=4) as collection:
            collection.add([photos / "coffee.jpg"])
        monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "elsewhere"))
        onnx_session._Sessions.by_model.clear()
        query = photos / "coffee.jpg"
        with Collection.open(file, read_only=True) as collection:
            assert collection.strangers(images=False) == [str(model)]
            with pytest.raises(ModelError, match=r"this machine did not index with it.*models add"):
                collection.search(query)
            assert collection.search(collection.image(1))
        done = run("search", file, query, code=1)
        assert str(model) in done.stderr
        assert not onnx_session._Sessions.by_model
        assert "coffee.jpg" in run("search", file, query, "--trust").stdout
        onnx_session._Sessions.by_model.clear()
        with Collection.create(file, features=f"onnx:{model}") as collection:  # asked for
            assert collection.strangers(images=False) == []
            assert collection.search(query)

    def test_is_not_looked_up_from_the_current_folder(self, photos, tmp_path, monkeypatch):
        model = dots(tmp_path / "d.onnx")
        file = tmp_path / "c.vlad"
        with Collection.create(file, features=f"onnx:{model}", n_clusters=4) as collection:
            collection.add([photos / "coffee.jpg"])
            with collection.index.store.writing():
                recipe = collection.recipe.as_json() | {"features": "onnx:d.onnx"}
                collection.index.store.set_about(recipe=recipe)
        onnx_session._Sessions.by_model.clear()
        monkeypatch.chdir(tmp_path)
        for trust in (False, True):
            with (
                Collection.open(file, read_only=True, trust=trust) as collection,
                pytest.raises(ModelError, match=r"network of this collection, d\.onnx"),
            ):
                collection.search(photos / "coffee.jpg")

    @pytest.mark.parametrize(
        "network",
        ["x", "[]", "{}", '{"sha256": "a"}', "[" * 100_000, {"f": "x"}, {"f": -1}, {"bytes": "x"},
         {"sha256": 7}, {"description": []}, {"description": {"output": {"stride": 0}}}],
    )  # fmt: skip
    def test_that_is_described_by_anything(self, photos, tmp_path, network):
        model = dots(tmp_path / "d.onnx")
        file = tmp_path / "c.vlad"
        with Collection.create(file, features=f"onnx:{model}", n_clusters=4) as collection:
            collection.add([photos / "coffee.jpg"])
            recipe = collection.recipe.as_json()
            if isinstance(network, dict):
                network = json.dumps(json.loads(recipe["network"]) | network)
            with collection.index.store.writing():
                collection.index.store.set_about(recipe=recipe | {"network": network})
        with pytest.raises((FileFormatError, ModelError)):
            Collection.open(file)
