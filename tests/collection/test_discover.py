"""Where images come from: names, links, folders that move."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest

from commands import run
from images import textured
from small import make, paths
from vladkit import Collection
from vladkit.collection.discover import discover
from vladkit.errors import (
    NothingToIndexError,
)
from vladkit.images import files


class TestSources:
    def test_paths_are_as_given(self, tmp_path, small, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make("c", "small/1.png", small / "2.png", "small/../small/3.png")
        assert paths("c") == [str(small / "2.png"), "small/../small/3.png", "small/1.png"]

    def test_strange_names(self, tmp_path, small):
        names = [
            "ö ü.png",
            "a b.png",
            "new\nline.png",
            "quote'\".png",
            "q" * 200 + ".png",
            "%41?.png",
        ]
        (small / "sub folder").mkdir()
        for i, name in enumerate(names):
            cv2.imwrite(str(tmp_path / "x.png"), textured(100, 80, seed=60 + i))
            shutil.move(tmp_path / "x.png", small / "sub folder" / name)
        path = tmp_path / "odd ?#% name.vlad"
        assert make(path, small).indexed == 12
        with Collection.open(path) as collection:
            for name in names:
                hit = collection.search(small / "sub folder" / name)[0]
                assert hit.path == f"sub folder/{name}"
                assert Path(hit.file).exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are text")
    def test_a_name_that_is_no_text(self, tmp_path, small):
        name = os.path.join(os.fsencode(small), b"\xff\xfe.png")
        with open(name, "wb") as file:
            file.write((small / "0.png").read_bytes())
        report = make(tmp_path / "c", small)
        assert report.indexed == 6
        assert "UTF-8" in report.reasons()[0][0]

    def test_symbolic_link_loop(self, tmp_path, small):
        (small / "again").symlink_to(small)
        (small / "broken.png").symlink_to(tmp_path / "nowhere.png")
        (small / "itself.png").symlink_to(small / "itself.png")
        report = make(tmp_path / "c", small)
        assert report.indexed == 6
        assert {path for path, _ in report.skipped} == {"broken.png", "itself.png"}

    def test_hidden_files_and_other_suffixes_are_left_out(self, tmp_path, small):
        (small / ".hidden").mkdir()
        shutil.copy(small / "0.png", small / ".hidden" / "0.png")
        (small / "sub").mkdir()
        names = ["._0.png", "a.X3F", "sub/b.x3f", "notes.txt", "README", "x.tar.gz", "odd.\n"]
        for name in names:
            shutil.copy(small / "0.png", small / name)
        left_out = []
        assert len(discover([small], ExitStack(), left_out=left_out.append)) == 6
        assert sorted(left_out) == sorted(str(small / name) for name in names)
        counts = {".x3f": 2, "": 1, ".\n": 1, ".gz": 1, ".txt": 1, "hidden": 1}
        for _ in range(2):  # also where all is known already; and never the collection itself
            report = make(small / "c.vlad", small)
            assert report.left_out == counts
        assert report.left_out_text() == (
            "7 files: 2 .x3f, 1 without a suffix, 1 .\n, 1 .gz, 1 .txt, 1 hidden"
        )
        assert make(tmp_path / "d", small / "a.X3F").left_out == {}  # given by name: taken

    def test_what_is_left_out_is_said(self, tmp_path, small):
        words = ("index", small, "-o", tmp_path / "c", "--n-clusters", "8", "--enlarge-to", "0")
        assert "left out" not in run(*words).stderr
        for i in range(12):
            (small / f"{i}.x{i % 10}").touch()
        assert (
            "\n  left out 12 files: 2 .x0, 2 .x1, 1 .x2, 1 .x3, 1 .x4, 1 .x5, 1 .x6, 1 .x7, "
            "2 of other kinds\n"
        ) in run(*words).stderr
        said = json.loads(run("add", tmp_path / "c", small, "--json").stdout)
        assert said["left_out"] == {f".x{i}": 2 if i < 2 else 1 for i in range(10)}

    def test_a_folder_of_other_files(self, tmp_path):
        (tmp_path / "a.txt").touch()
        with pytest.raises(NothingToIndexError, match=r"found \(left out 1 file: 1 .txt\): give"):
            make(tmp_path / "c", tmp_path)

    def test_what_reads_heic_is_said_where_it_is_missing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "has_heic", lambda: False)
        (tmp_path / "a.HEIC").touch()
        why = r"1 file: 1 .heic; to read HEIC: pip install 'vladkit\[heic\]'\): give"
        with pytest.raises(NothingToIndexError, match=why):
            make(tmp_path / "c", tmp_path)

    def test_collection_moves_with_its_folder(self, tmp_path, small):
        home = tmp_path / "home"
        home.mkdir()
        shutil.move(small, home / "small")
        make(home / "c", home / "small")
        shutil.move(home, tmp_path / "moved")
        with Collection.open(tmp_path / "moved" / "c") as collection:
            hit = collection.search(tmp_path / "moved" / "small" / "4.png")[0]
            assert hit.file == str(tmp_path / "moved" / "small" / "4.png")
            assert collection.add([tmp_path / "moved" / "small"]).unchanged == 6

    def test_missing_source(self, tmp_path):
        with pytest.raises(NothingToIndexError, match="does not exist"):
            make(tmp_path / "c", tmp_path / "nothing")

    def test_no_images(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(NothingToIndexError, match="no images found"):
            make(tmp_path / "c", tmp_path / "empty")


def test_a_folder_that_vanishes_while_it_is_walked(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x.png").touch()
    walk = os.walk

    def vanishing(*given, **named):
        for folder, subfolders, names in walk(*given, **named):
            if folder.endswith("a"):
                shutil.rmtree(folder)
            yield folder, subfolders, names

    monkeypatch.setattr(os, "walk", vanishing)
    unreadable = []
    with ExitStack() as opened:
        found = discover([tmp_path], opened, lambda *each: unreadable.append(each))
    assert [each.printable for each in found] == ["x.png"]
    assert unreadable == [(str(tmp_path / "a"), "No such file or directory")]
