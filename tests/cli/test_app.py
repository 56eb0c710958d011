"""Around the commands: hints, interrupts, progress where no terminal is."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import h5py
import pytest
from typer.core import TyperGroup

from commands import run
from vladkit.cli import progress
from vladkit.collection.collection import Collection


class TestHints:
    def test_a_source_without_its_prefix(self, here):
        with closing(sqlite3.connect("f.db")) as database:
            database.execute("CREATE TABLE images (name)")
            database.commit()
        with h5py.File("f.h5", "w") as file:
            file["a"] = [1]
        for name, prefix in (("f.db", "colmap"), ("f.h5", "hloc")):
            done = run("index", name, "-o", "c.vlad", code=2)
            assert f"give {prefix}:{name}" in done.stderr
            assert f"give {prefix}:{name}" in run("add", "photos.vlad", name, code=2).stderr
        assert not (here / "c.vlad").exists()
        done = run("index", "photos.vlad", "-o", "c.vlad", code=2)
        assert "photos.vlad is a collection: give folders or images" in done.stderr

    def test_swapped_arguments(self, here):
        done = run("search", "photos/1.png", "photos.vlad", code=1)
        assert "is not a vladkit collection" in done.stderr
        assert "; photos.vlad is a collection: give it first" in done.stderr
        assert "give it first" in run("eval", "truth.json", "photos.vlad", code=1).stderr
        assert "give it first" in run("relocate", "old", "photos.vlad", "new", code=1).stderr

    def test_a_name_that_is_nearly_right(self, here):
        done = run("info", "photo.vlad", code=1)
        assert done.stderr.rstrip().endswith("; did you mean photos.vlad?")
        assert "did you mean" not in run("info", "another.vlad", code=1).stderr
        (here / "phots.vlad").write_text("no collection")
        assert "did you mean photos.vlad?" in run("info", "phot.vlad", code=1).stderr

    def test_in_a_folder_that_cannot_be_listed(self, here, monkeypatch):
        def refuse(folder):
            raise PermissionError(errno.EACCES, "Permission denied", folder)

        monkeypatch.setattr(os, "scandir", refuse)
        assert "photo.vlad does not exist" in run("info", "photo.vlad", code=1).stderr


@pytest.mark.parametrize(
    "words",
    ["check NAME", "duplicates NAME", "duplicates photos.vlad --against NAME",
     "eval photos.vlad NAME --protocol vpr", "index photos -o c --features onnx:NAME.onnx",
     "index photos -o c --vectors onnx:/NAME"],
)  # fmt: skip
def test_a_name_that_no_file_can_have(here, words):
    done = run(*words.replace("NAME", 300 * "n").split(), code=None)
    assert done.exit_code in (1, 2)
    assert "vladkit: " in done.stderr


class TestInterrupt:
    def stop(self, *_, **__):
        raise KeyboardInterrupt

    @pytest.mark.parametrize("command", ["duplicates", "pairs"])
    def test_a_word_after_it(self, here, monkeypatch, command):
        monkeypatch.setattr(Collection, command, self.stop)
        assert run(command, "photos.vlad", code=130).stderr == "vladkit: interrupted\n"

    def test_what_is_kept(self, here, monkeypatch):
        monkeypatch.setattr(Collection, "adapt", self.stop)
        done = run("adapt", "photos.vlad", code=130)
        assert done.stderr == "vladkit: interrupted: photos.vlad is as it was\n"
        monkeypatch.setattr(Collection, "add", self.stop)
        done = run("index", "photos", "-o", "c.vlad", code=130)
        assert (
            done.stderr == "vladkit: interrupted: no image is in c.vlad yet; run again to start\n"
        )

    def test_what_was_added_before(self, here, monkeypatch):
        add = Collection.add

        def half(collection, sources, **options):
            add(collection, sources, **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(Collection, "add", half)
        done = run("add", "photos.vlad", "more", code=130)
        assert done.stderr == (
            "vladkit: interrupted: 6 images are in photos.vlad; run again to go on\n"
        )


class TestLines:
    @pytest.fixture
    def clock(self, monkeypatch):
        clock = [1000.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
        return clock

    def test_a_line_a_minute(self, clock, capsys):
        with progress.progress_bar() as update:
            for done in range(0, 301, 10):  # two images a second
                update("index", done, 300)
                clock[0] += 5
        assert capsys.readouterr().err.splitlines() == [
            "indexing: 120/300, 2.0/s, 0:01:30 left",
            "indexing: 240/300, 2.0/s, 0:00:30 left",
            "indexing: 300/300 in 0:02:35",
        ]

    def test_silent_for_short_steps(self, clock, capsys):
        with progress.progress_bar() as update:
            for step in ("sample", "index", "match", "match"):
                for done in range(11):
                    update(step, done, 10)
                    clock[0] += 5
        assert capsys.readouterr().err == ""

    def test_each_step_has_its_end(self, clock, capsys):
        with progress.progress_bar() as update:
            for step in ("sample", "index"):
                update(step, 0, 2)
                clock[0] += 90
                update(step, 2, 2)
        assert capsys.readouterr().err == "learning: 2/2 in 0:01:30\nindexing: 2/2 in 0:01:30\n"


def test_a_search_loads_no_more_than_it_needs(here):
    """Its start is half of its time: no other command, and what only they use."""
    code = (
        "import sys; from vladkit.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    arguments = ["search", "photos.vlad", "photos/1.png", "--rerank", "0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "vladkit.cli.search" in loaded
    for name in ("cli.serve", "collection.indexing", "collection.duplicates"):
        assert f"vladkit.{name}" not in loaded
    assert loaded & {"numba", "scipy", "numpy.ma", "PIL"} == set()


def test_an_interrupt_while_arguments_are_read_is_named(monkeypatch):
    monkeypatch.setattr(TyperGroup, "parse_args", _interrupted)
    assert "vladkit: interrupted" in run("search", "a", "b", code=130).stderr


def _interrupted(*_):
    raise KeyboardInterrupt
