"""Folders that are gone, empty, or moved: nothing is forgotten or doubled by mistake."""

from __future__ import annotations

import json
import os
import shutil

import cv2
import pytest

from commands import run
from images import textured
from stored import everything
from vladkit import Collection
from vladkit.collection.indexing import Indexer
from vladkit.errors import NothingToIndexError, ParameterError, StorageError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder: a/ and a/sub/ of 6 images, and c of them."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("a/sub")
    for i in range(6):
        cv2.imwrite(f"a/{'sub/' * (i > 3)}{i}.png", textured(120, 90, seed=i))
    with Collection.create("c", n_clusters=4, enlarge_to=0) as collection:
        collection.add(["a"])
    return tmp_path


class TestPrune:
    def test_most_images_are_gone(self, here):
        for i in range(4):
            os.unlink(f"a/{i}.png")
        done = run("index", "a", "-o", "c", "--prune", code=1)
        assert f"of 6 images of {here}/a/, 4 are gone: nothing is forgotten" in done.stderr
        assert len(everything("c")) == 6
        assert "4 forgotten" in run("index", "a", "-o", "c", "--prune", "--force").stderr

    def test_half_of_them_are_forgotten(self, here):
        for i in range(3):
            os.unlink(f"a/{i}.png")
        assert "3 forgotten" in run("index", "a", "-o", "c", "--prune").stderr

    def test_a_folder_below_is_empty(self, here):
        """A disk that is mounted below the folder is not, this time."""
        for i in (4, 5):
            os.unlink(f"a/sub/{i}.png")
        done = run("index", "a", "-o", "c", "--prune", code=1)
        assert f"{here}/a/sub is empty now, 2 are gone" in done.stderr
        os.rmdir("a/sub")
        assert "2 forgotten" in run("index", "a", "-o", "c", "--prune").stderr

    def test_a_link_to_a_folder_leads_nowhere(self, here):
        """A disk that is mounted when it is looked at, and was not this time."""
        os.makedirs("disk")
        for i in (7, 8):
            cv2.imwrite(f"disk/{i}.png", textured(120, 90, seed=i))
        os.symlink(here / "disk", "a/ext")
        assert "2 indexed" in run("index", "a", "-o", "c").stderr
        os.rename("disk", "gone")
        done = run("index", "a", "-o", "c", "--prune", code=1)
        assert f"{here}/a/ext leads nowhere now, 2 are gone" in done.stderr
        assert len(everything("c")) == 8
        os.unlink("a/ext")
        assert "2 forgotten" in run("index", "a", "-o", "c", "--prune").stderr


@pytest.mark.parametrize("name", ["c.vlad", "c.lance"])
class TestOtherImagesAtTheOldPlace:
    """The images of a folder go elsewhere, and others come into one of its name."""

    @pytest.fixture
    def first(self, tmp_path, monkeypatch, name):
        """A/c.* of the images 1 to 3 in A/in."""
        if name.endswith("lance"):
            pytest.importorskip("lance")
        monkeypatch.chdir(tmp_path)
        self.images("A/in", 1, 2, 3)
        run("index", "A/in", "-o", f"A/{name}", "--n-clusters", 4)

    @staticmethod
    def images(folder, *numbers, seed=0):
        os.makedirs(folder, exist_ok=True)
        for i in numbers:
            cv2.imwrite(f"{folder}/{i}.png", textured(120, 90, seed=seed + i))

    @staticmethod
    def files(file):
        with Collection.open(file, read_only=True) as collection:
            assert collection.check() == []
            return sorted(os.path.relpath(row.file) for row in collection.images())

    def test_after_relocate(self, first, name):
        os.rename("A/in", "A/archive")
        run("relocate", f"A/{name}", "A/in", "A/archive")
        self.images("A/in", 1, 4, seed=50)
        assert "2 indexed" in run("index", "A/in", "-o", f"A/{name}").stderr
        old = [f"A/archive/{i}.png" for i in (1, 2, 3)]
        assert self.files(f"A/{name}") == [*old, "A/in/1.png", "A/in/4.png"]
        found = json.loads(run("search", f"A/{name}", old[0], "--json").stdout)
        assert found["results"][0]["file"] == os.path.abspath(old[0])

    def test_moved_together_with_the_collection(self, first, name):
        os.rename("A", "B")
        assert "3 unchanged" in run("index", "B/in", "-o", f"B/{name}").stderr
        self.images("A/in", 1, 4, seed=50)
        moved = [f"B/in/{i}.png" for i in (1, 2, 3)]
        assert self.files(f"B/{name}") == moved
        assert "2 indexed" in run("index", "A/in", "-o", f"B/{name}").stderr
        assert self.files(f"B/{name}") == ["A/in/1.png", "A/in/4.png", *moved]

    def test_moved_together_and_opened_through_a_link(self, first, name):
        os.rename("A", "B")
        os.symlink("B", "link")
        folder = os.path.abspath("link")
        assert "3 unchanged" in run("index", f"{folder}/in", "-o", f"{folder}/{name}").stderr
        assert self.files(f"{folder}/{name}") == [f"B/in/{i}.png" for i in (1, 2, 3)]

    def test_copied_and_the_first_removed(self, first, name):
        shutil.copytree("A", "B")
        run("index", "B/in", "-o", f"B/{name}")
        shutil.rmtree("A")
        run("index", "B/in", "-o", f"B/{name}")
        files = [file for file in self.files(f"B/{name}") if os.path.exists(file)]
        assert files == [f"B/in/{i}.png" for i in (1, 2, 3)]
        if name.endswith("vlad"):
            assert self.files(f"B/{name}") == files


class TestRelocate:
    def test_the_file_by_a_link_in_another_folder(self, here):
        os.makedirs("away")
        os.symlink(here / "home/c", "away/link")
        os.makedirs("first")
        shutil.move("c", "first/c")
        shutil.move("a", "first/a")
        run("relocate", "first/c", "a", "first/a")
        os.rename("first", "home")  # both moved
        with Collection.open("away/link") as collection:
            assert collection.find("0.png").file == f"{here}/home/a/0.png"
            assert collection.lost_folders() == []

    @pytest.mark.parametrize("old", ["a", "link/a", "/"])
    def test_through_links_and_the_root(self, here, old):
        """Folders are kept without links: else each image would be indexed once more."""
        os.symlink(".", "link")
        if old == "/":
            away = here / "away"
            (away / str(here).strip("/")).mkdir(parents=True)
            shutil.move("a", away / str(here).strip("/") / "a")
            new, there = away, away / str(here).strip("/") / "a"
        else:
            os.makedirs("real")
            os.symlink("real", "other")
            shutil.move("a", "real/a")
            new, there = "other/a", here / "real/a"
        assert "6 images moved" in run("relocate", "c", old, new).stderr
        assert "0 indexed" in run("index", there, "-o", "c").stderr
        assert len(everything("c")) == 6
        with Collection.open("c") as collection:
            assert collection.find("0.png").file == f"{there}/0.png"

    def test_images_that_moved_are_not_indexed_once_more(self, here):
        shutil.move("a", "b")
        done = run("index", "b", "-o", "c", code=1)
        assert f"vladkit relocate {here}/c {here}/a {here}/b" in done.stderr
        before = everything("c")
        done = run("check", "c")
        assert f"note: {here}/a is not there" in done.stderr
        assert json.loads(run("check", "c", "--json").stdout)["lost_folders"] == [f"{here}/a"]
        assert "6 images moved to b" in run("relocate", "c", "a", "b").stderr
        assert everything("c") == before
        assert "0 indexed" in run("index", "b", "-o", "c").stderr
        with Collection.open("c") as collection:
            assert collection.check() == []
            assert collection.lost_folders() == []
            assert collection.find("b/0.png").file == f"{here}/b/0.png"
            assert collection.strangers() == []

    def test_a_link_in_the_place_of_the_folder(self, here):
        """Photos go to a larger disk, and a link stays where they were."""
        shutil.move("a", "disk")
        os.symlink("disk", "a")
        before = everything("c")
        for folder in ("a", "disk"):
            done = run("index", folder, "-o", "c", code=1)
            way = f"vladkit relocate {here}/c {here}/a {here}/disk"
            assert f"{here}/a, which leads there now: if they have moved, {way}" in done.stderr
        shutil.copytree("disk", "copy")  # which is no other name
        assert "6 indexed" in run("index", "copy", "-o", "c").stderr
        run("remove", "c", "copy")
        assert "6 images moved to disk" in run("relocate", "c", "a", "disk").stderr
        assert everything("c").keys() == before.keys()
        assert "0 indexed" in run("index", "a", "-o", "c").stderr

    def test_check_says_which_folders_are_one(self, here):
        shutil.move("a", "disk")
        os.symlink("disk", "a")
        assert "6 indexed" in run("index", "a", "-o", "c", "--force").stderr
        done = run("check", "c")
        way = f"vladkit relocate c {here}/a {here}/disk"
        assert f"note: {here}/a leads to {here}/disk: its images are in here twice" in done.stderr
        assert f"; to have them once, {way}\n" in done.stderr
        found = json.loads(run("check", "c", "--json").stdout)
        assert found["same_folders"] == [[f"{here}/disk", f"{here}/a"]]
        run(*way.split()[1:])
        assert json.loads(run("check", "c", "--json").stdout)["same_folders"] == []
        with Collection.open("c") as collection:
            assert len(collection) == 6

    def test_check_of_lance_says_which_folders_are_one(self, here):
        """It cannot join them: one is removed."""
        pytest.importorskip("lance")
        run("index", "a", "-o", "c.lance", "--n-clusters", 4)
        shutil.move("a", "disk")
        os.symlink("disk", "a")
        run("index", "a", "-o", "c.lance", "--force")
        found = run("check", "c.lance").stderr
        assert f"; to have them once, vladkit remove c.lance {here}/a\n" in found
        assert "6 removed" in run("remove", "c.lance", f"{here}/a").stderr
        assert "leads to" not in run("check", "c.lance").stderr
        with Collection.open("c.lance", read_only=True) as collection:
            assert {row.file for row in collection.images()} == {
                f"{here}/disk/{'sub/' * (i > 3)}{i}.png" for i in range(6)
            }

    def test_once_more_if_told(self, here):
        shutil.move("a", "b")
        assert "12 images; 6 indexed" in run("index", "b", "-o", "c", "--force").stderr

    def test_other_images_are_indexed(self, here):
        shutil.move("a", "elsewhere")
        os.mkdir("b")
        for i in range(6):
            cv2.imwrite(f"b/{i}.png", textured(130, 95, seed=10 + i))
        assert "12 images; 6 indexed" in run("index", "b", "-o", "c").stderr

    def test_a_copy_beside_the_original_is_indexed(self, here):
        shutil.copytree("a", "b")
        assert "12 images; 6 indexed" in run("index", "b", "-o", "c").stderr

    def test_makes_one_of_two(self, here):
        shutil.move("a", "b")
        os.unlink("b/sub/5.png")
        run("index", "b", "-o", "c", "--force")
        with Collection.open("c") as collection:
            done = collection.relocate("a", "b")
            assert (done.moved, done.found, done.merged) == (6, 5, 5)
            assert len(collection) == 6
            assert collection.check() == []
            assert [s["root"] for s in collection.info()["sources"]] == [f"{here}/b"]

    @pytest.mark.parametrize("is_indexed", [False, True])
    def test_while_they_are_indexed(self, here, is_indexed, monkeypatch):
        """The rest went into the old folder again, and so each image came twice in the end."""
        if is_indexed:
            shutil.copytree("a", "b")
            run("index", "b", "-o", "c")
        for i in range(6, 9):
            cv2.imwrite(f"a/{i}.png", textured(120, 90, seed=i))
        real = Indexer._commit

        def commit(self, *batch, **rest):
            shutil.rmtree("b", ignore_errors=True)
            shutil.move("a", "b")
            with Collection.open("c") as other:
                assert other.relocate("a", "b").moved == 6
            return real(self, *batch, **rest)

        with monkeypatch.context() as patch, Collection.open("c") as collection:
            patch.setattr(Indexer, "_commit", commit)
            with pytest.raises(StorageError, match=f"moved the images of {here}/a to another"):
                collection.add(["a"])
        assert "9 images; 3 indexed" in run("index", "b", "-o", "c").stderr
        with Collection.open("c") as collection:
            assert collection.check() == []
            assert [s["root"] for s in collection.info()["sources"]] == [f"{here}/b"]

    def test_all_folders_below(self, here):
        os.makedirs("disk/x")
        os.makedirs("disk/y")
        for i, name in enumerate("xy"):
            cv2.imwrite(f"disk/{name}/new.png", textured(120, 90, seed=20 + i))
        run("add", "c", "disk/x", "disk/y")
        shutil.move("disk", "other")
        assert "2 images moved" in run("relocate", "c", "disk", "other").stderr
        with Collection.open("c") as collection:
            roots = {source["root"] for source in collection.info()["sources"]}
        assert roots == {f"{here}/a", f"{here}/other/x", f"{here}/other/y"}

    @pytest.mark.parametrize("name", ["c", "c.lance"])
    def test_to_where_they_are_changes_nothing(self, here, name):
        """As it looks to somebody whose folder is behind a link, which is not what is kept."""
        if name.endswith("lance"):
            pytest.importorskip("lance", reason="the extra `lance`")
            run("index", "a", "-o", name, "--n-clusters", 4, "--enlarge-to", 0)
        os.symlink("a", "link")
        with Collection.open(name) as collection:
            before = [(row.path, row.file) for row in collection.images()]
        for old, new in (("a", "a"), ("link", "a"), ("a", "link"), (".", ".")):
            assert "6 images moved" in run("relocate", name, old, new).stderr
        with Collection.open(name) as collection:
            assert [(row.path, row.file) for row in collection.images()] == before
            assert len(collection) == 6
            assert collection.check() == []

    @pytest.mark.parametrize("outer_first", [True, False])
    @pytest.mark.parametrize(("outer", "to"), [("y", "y/old"), ("y/old", "y")])
    def test_one_to_where_another_was(self, here, outer, to, outer_first):
        """Everything went one folder deeper, or higher: in whatever order it was indexed."""
        inner = f"{outer}/old"
        os.makedirs(outer)
        for i in range(3):
            cv2.imwrite(f"{outer}/{i}.png", textured(120, 90, seed=10 + i))
        with Collection.create("d", n_clusters=4, enlarge_to=0) as collection:
            if outer_first:
                collection.add(outer)
            os.makedirs(inner)
            for i in range(2):
                cv2.imwrite(f"{inner}/{i}.png", textured(121, 90, seed=20 + i))
            collection.add(inner)
            collection.add(outer)
            before = sorted((r.path, r.n_bytes, r.mtime_ns) for r in collection.images())
            assert len(collection.info()["sources"]) == 2
        os.rename(outer, "t")
        shutil.rmtree("y", ignore_errors=True)
        os.makedirs(os.path.dirname(f"./{to}"), exist_ok=True)
        os.rename("t", to)
        assert "5 images moved" in run("relocate", "d", outer, to).stderr
        with Collection.open("d") as collection:
            rows = list(collection.images())
            assert sorted((r.path, r.n_bytes, r.mtime_ns) for r in rows) == before
            assert {os.path.dirname(r.file) for r in rows} == {f"{here}/{to}", f"{here}/{to}/old"}
            assert all(os.path.getsize(row.file) == row.n_bytes for row in rows)
            assert collection.check() == []

    def test_what_makes_no_sense_changes_nothing(self, here):
        os.mkdir("empty")
        before = (here / "c").read_bytes()
        with Collection.open("c") as collection:
            with pytest.raises(
                ParameterError, match=rf"no images of .*/b: its folders are {here}/a"
            ):
                collection.relocate("b", "a")
            with pytest.raises(NothingToIndexError, match="none of the 6 images"):
                collection.relocate("a", "empty")
            with pytest.raises(NothingToIndexError, match="nowhere is not a folder"):
                collection.relocate("a", "nowhere")
        assert (here / "c").read_bytes() == before

    def test_a_folder_of_which_no_image_is_indexed_yet(self, here):
        """An index that is at work would go on in the old one."""
        os.mkdir("b")
        with Collection.open("c") as collection:
            store = collection.index.store
            with store.writing():
                store.add_source(f"{here}/b", "b")
            with pytest.raises(ParameterError, match=f"no images of {here}/b yet, or they were"):
                collection.relocate("b", "a")
            assert f"{here}/b" in dict(store.folders()).values()
            collection.remove(["a"])
            with pytest.raises(ParameterError, match=f"no images of {here}/a yet, or they were"):
                collection.relocate("a", "b")

    def test_images_of_features(self, here):
        """Of features that another program found the folder of images moves."""
        with Collection.open("c") as collection:
            store = collection.index.store
            with store.writing():
                store.set_images(1, f"{here}/a")
            shutil.move("a", "b")
            assert collection.lost_folders() == [f"{here}/a"]
            assert collection.relocate("a", "b").found == 6
            assert collection.lost_folders() == []
            assert collection.check() == []


class TestOutgrown:
    def test_a_codebook_of_one_small_image_is_mentioned(self, here):
        """Who tries one image and then adds the rest ranks worse for good: mAP .78, not .97."""
        os.mkdir("first")
        cv2.imwrite("first/icon.png", textured(60, 60, seed=9))
        run("index", "first", "-o", "grown", "--keep-features", 0)
        assert "stale" not in run("info", "grown").stdout
        done = run("index", "a", "-o", "grown")
        assert (
            "the codebook of 17 words was learned from few descriptors; from these" in done.stderr
        )
        with Collection.open("grown") as collection:
            assert collection.add(["a"]).outgrown is None  # said where images were added
        run("index", "a", "-o", "at_once", "--enlarge-to", 0)
        assert "note:" not in run("index", "first", "-o", "at_once").stderr
