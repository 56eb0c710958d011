"""A folder of images becomes searchable, stays so, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from images import every_format, scene, textured
from paths import SHARED
from photos import ALTERED, NAMES, photo
from vladkit import Collection
from vladkit.collection.discover import discover
from vladkit.collection.recipe import Recipe
from vladkit.collection.searching import Searcher
from vladkit.errors import (
    FileFormatError,
    ImageError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
    StorageError,
)
from vladkit.evaluation.benchmark import ground_truth
from vladkit.features.pool import extract
from vladkit.store import schema, store
from vladkit.store.blocks import Layout
from vladkit.store.exact import score_all


@pytest.fixture(scope="module")
def defaults(photos, tmp_path_factory):
    """The photographs, indexed with the default recipe; copy before changing."""
    file = tmp_path_factory.mktemp("defaults") / "photos.vlad"
    with Collection.create(file) as collection:
        assert collection.add([photos]).indexed == len(NAMES)
    return file


@pytest.fixture
def small(tmp_path):
    """A folder of small images that index fast."""
    folder = tmp_path / "small"
    folder.mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / f"{i}.png"), textured(120, 90, seed=i))
    return folder


@contextmanager
def as_nobody():
    """With the rights of a common user; where the tests run as root, of user 65534."""
    if not hasattr(os, "geteuid"):
        pytest.skip("users of another kind")
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


def open_to_all(tmp_path, mode=0o777):
    """Let others come to the test's folder: pytest makes it for one user."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and len(parent.parts) > 2:
            parent.chmod(mode if parent == tmp_path else parent.stat().st_mode | 0o055)


def make(path, *sources, **recipe):
    with Collection.create(path, **({"n_clusters": 8} | recipe)) as collection:
        return collection.add([*sources])


def paths(path):
    with Collection.open(path) as collection:
        return [row.path for row in collection.images()]


class TestSearch:
    @pytest.mark.parametrize("alteration", ALTERED)
    def test_the_right_photograph_comes_first(self, defaults, tmp_path, alteration):
        first = {}
        with Collection.open(defaults, read_only=True) as collection:
            for name in NAMES:
                query = tmp_path / f"{name}.jpg"
                cv2.imwrite(str(query), ALTERED[alteration](photo(name)))
                first[name] = collection.search(query, top=1)[0].path
        assert first == {name: f"{name}.jpg" for name in NAMES}

    def test_other_view_of_the_same_thing(self, defaults, tmp_path):
        cv2.imwrite(str(tmp_path / "q.png"), photo("motorcycle_right"))
        with Collection.open(defaults) as collection:
            assert collection.search(tmp_path / "q.png")[0].path == "motorcycle_left.jpg"

    @pytest.mark.parametrize("quarter", [0, 1, 2])
    @pytest.mark.parametrize("weights", [(0.25, 0.1), (1.0, 0.0), (0.0, 1.0)])
    def test_turned_features_are_those_of_the_turned_image(self, tmp_path, quarter, weights):
        # cv2's codes 0, 1, 2 turn by one, two, three quarters clockwise
        cv2.imwrite(str(tmp_path / "q.png"), photo("coffee"))
        cv2.imwrite(str(tmp_path / "turned.png"), cv2.rotate(photo("coffee"), quarter))
        recipe = {"n_clusters": 16, "orientation": weights[0], "position": weights[1]}
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add([tmp_path / "q.png"])
            files = [str(tmp_path / name) for name in ("q.png", "turned.png")]
            features = [extract(collection.extractor, file) for file in files]
            query_qvD = collection.index.describer.query_vectors(features)
        cosine_v = query_qvD[0] @ query_qvD[1, 0]
        assert np.argmax(cosine_v) == quarter + 1
        assert cosine_v[quarter + 1] > 0.5

    def test_a_query_on_its_side(self, defaults, tmp_path):
        with Collection.open(defaults) as collection:
            for name in ("coffee", "rocket", "chelsea"):
                cv2.imwrite(str(tmp_path / "q.png"), cv2.rotate(photo(name), 0))
                first, second = collection.search(tmp_path / "q.png", top=2)
                assert first.path == f"{name}.jpg"
                assert second.score < first.score / 3

    def test_itself_is_found_with_score_one(self, defaults, photos):
        with Collection.open(defaults) as collection:
            hits = collection.search(photos / "coffee.jpg", top=0)
        assert len(hits) == len(NAMES)
        assert (hits[0].path, hits[0].file) == ("coffee.jpg", str(photos / "coffee.jpg"))
        assert hits[0].score == pytest.approx(1, abs=1e-3)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)

    def test_top(self, defaults, photos):
        with Collection.open(defaults) as collection:
            everything = collection.search(photos / "moon.jpg", top=0)
            assert collection.search(photos / "moon.jpg", top=3) == everything[:3]
            assert collection.search(photos / "moon.jpg", top=999) == everything
            with pytest.raises(ParameterError):
                collection.search(photos / "moon.jpg", top=-1)

    def test_query_that_cannot_be_used(self, defaults, tmp_path):
        (tmp_path / "text.jpg").write_text("no image")
        with Collection.open(defaults) as collection:
            with pytest.raises(ImageError):
                collection.search(tmp_path / "text.jpg")
            with pytest.raises(ImageError):
                collection.search(tmp_path / "nothing.jpg")

    def test_equal_scores_in_the_order_of_paths(self, tmp_path, small):
        for name in ("z.png", "a.png", "m.png"):
            shutil.copy(small / "3.png", small / name)
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            hits = collection.search(small / "3.png", top=2)
            assert [hit.path for hit in hits] == ["3.png", "a.png"]

    def test_empty_collection(self, tmp_path, small):
        with (
            Collection.create(tmp_path / "c") as collection,
            pytest.raises(NothingToIndexError, match="no images yet"),
        ):
            collection.search(small / "0.png")


class TestRanking:
    def test_blocks_change_nothing(self, defaults):
        with store.Store.open(defaults) as opened:
            size = 256 * 128
            query_qD = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
            query_qD /= np.linalg.norm(query_qD, axis=1, keepdims=True)
            opened.layout = Layout(np.dtype("f2"), size)
            blocks = list(opened.vector_blocks())
            one = score_all(query_qD, blocks)
            many = score_all(
                query_qD, [(i[a:][:4], v[a:][:4]) for i, v in blocks for a in range(0, len(i), 4)]
            )
        np.testing.assert_array_equal(one[0], many[0])
        np.testing.assert_array_equal(one[1], many[1])


class TestAgain:
    def test_adds_new_redoes_changed_leaves_the_rest(self, tmp_path, small):
        make(tmp_path / "c", small)
        again = make(tmp_path / "c", small)
        assert (again.indexed, again.unchanged) == (0, 6)
        cv2.imwrite(str(small / "new.png"), textured(120, 90, seed=50))
        cv2.imwrite(str(small / "2.png"), textured(120, 90, seed=51))
        third = make(tmp_path / "c", small)
        assert (third.indexed, third.unchanged) == (2, 5)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.search(small / "2.png")[0].path == "2.png"
            assert collection.search(small / "2.png")[0].score > 0.99
            assert len(collection) == 7

    def test_prune(self, tmp_path, small):
        make(tmp_path / "c", small)
        (small / "0.png").unlink()
        assert make(tmp_path / "c", small).pruned == 0
        assert "0.png" in paths(tmp_path / "c")
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add([small], prune=True).pruned == 1
        assert paths(tmp_path / "c") == [f"{i}.png" for i in range(1, 6)]

    def test_prune_leaves_what_cannot_be_looked_at(self, tmp_path, small):
        make(tmp_path / "c", small)
        (small / "sub").mkdir()
        shutil.copy(small / "0.png", small / "sub" / "deep.png")
        make(tmp_path / "c", small)
        open_to_all(tmp_path)
        for file in tmp_path.glob("c*"):
            file.chmod(0o666)
        (small / "sub").chmod(0)
        with as_nobody(), Collection.open(tmp_path / "c") as collection:
            report = collection.add([small], prune=True)
        assert report.unreadable
        assert report.pruned == 0
        (small / "sub").chmod(0o755)
        assert "sub/deep.png" in paths(tmp_path / "c")

    def test_prune_leaves_other_sources(self, tmp_path, small):
        other = tmp_path / "other"
        shutil.copytree(small, other)
        make(tmp_path / "c", small, other)
        (small / "0.png").unlink()
        (other / "1.png").unlink()
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add([small], prune=True).pruned == 1
            assert len(collection) == 11

    def test_a_image_that_becomes_unusable_loses_its_vector(self, tmp_path, small):
        make(tmp_path / "c", small)
        (small / "1.png").write_text("broken")
        report = make(tmp_path / "c", small)
        assert [path for path, _ in report.skipped] == ["1.png"]
        assert "1.png" not in paths(tmp_path / "c")
        cv2.imwrite(str(small / "1.png"), textured(120, 90, seed=1))
        assert make(tmp_path / "c", small).indexed == 1
        assert "1.png" in paths(tmp_path / "c")

    def test_remove(self, tmp_path, small):
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.remove(["1.png", small / "2.png"]) == 2
        assert paths(tmp_path / "c") == ["0.png", "3.png", "4.png", "5.png"]

    def test_remove_all_or_nothing(self, tmp_path, small):
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            with pytest.raises(ParameterError, match=r"9\.png, nothing: give paths"):
                collection.remove(["1.png", "nothing", "9.png"])
            assert len(collection) == 6
            assert collection.remove([]) == 0

    @pytest.mark.parametrize("by_file", [True, False])
    def test_remove_a_folder(self, tmp_path, small, by_file):
        for name in ("deep/a.png", "deep/er/b.png", "deeper/c.png"):
            (small / name).parent.mkdir(exist_ok=True)
            shutil.copy(small / "0.png", small / name)
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.remove([small / "deep" if by_file else "deep/"]) == 2
            assert len(collection) == 7
        assert "deeper/c.png" in paths(tmp_path / "c")

    def test_other_recipe_is_refused_by_name(self, tmp_path, small):
        make(tmp_path / "c", small)
        with pytest.raises(RecipeMismatchError, match="n_clusters=8, asked for is 9"):
            make(tmp_path / "c", small, n_clusters=9)
        with Collection.create(tmp_path / "c") as collection:  # nothing asked: as it was
            assert collection.recipe.n_clusters == 8

    def test_a_recipe_that_nothing_was_learned_with_may_be_changed(self, tmp_path, small):
        (tmp_path / "empty").mkdir()
        with pytest.raises(NothingToIndexError):
            make(tmp_path / "c", tmp_path / "empty", n_clusters=9)
        assert make(tmp_path / "c", small, n_clusters=8).indexed == 6

    @pytest.mark.parametrize(
        "recipe",
        [{"position": -1}, {"position": float("nan")}, {"orientation": "a"}, {"norm": "ssr"},
         {"n_clusters": 0}, {"rotation": -1}, {"dtype": "int8"}, {"typo": 1}, {"max_side": 1}],
    )  # fmt: skip
    def test_bad_recipes_are_refused_before_a_file_is_made(self, tmp_path, recipe):
        with pytest.raises(ParameterError):
            Collection.create(tmp_path / "c", **recipe)
        assert not (tmp_path / "c").exists()

    def test_through_a_link_it_is_the_same_folder(self, tmp_path, small):
        make(tmp_path / "c", small)
        (tmp_path / "link").symlink_to(small)
        assert make(tmp_path / "c", tmp_path / "link").unchanged == 6
        (small / "a").symlink_to(tmp_path / "elsewhere")
        shutil.copytree(small, tmp_path / "elsewhere", symlinks=True)
        assert make(tmp_path / "c", small).indexed == 6

    def test_nested_and_repeated_sources(self, tmp_path, small):
        (small / "sub").mkdir()
        shutil.copy(small / "0.png", small / "sub" / "deep.png")
        report = make(tmp_path / "c", small, small / "sub", small, small / "0.png")
        assert report.indexed == 7
        assert "sub/deep.png" in paths(tmp_path / "c")
        assert make(tmp_path / "c", small / "sub").unchanged == 1


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
        shutil.copy(small / "0.png", small / "._0.png")
        (small / "notes.txt").write_text("x")
        assert len(discover([small], ExitStack())) == 6

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


class TestBadImages:
    def fill(self, folder):
        """Good images, and every bad one that part 5 of the first issue names."""
        good = (folder / "0.png").read_bytes()
        jpeg = cv2.imencode(".jpg", textured(200, 150))[1].tobytes()
        (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
        (folder / "truncated.png").write_bytes(good[: len(good) // 2])
        (folder / "zero.jpg").touch()
        (folder / "text.jpg").write_text("this is no image")
        cv2.imwrite(str(folder / "blank.png"), np.full((100, 100), 200, np.uint8))
        cv2.imwrite(str(folder / "tiny.png"), textured(3, 3))
        (folder / "folder.jpg").mkdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(folder / "pipe.jpg")
        (folder / "really a jpeg.png").write_bytes(jpeg)

    def test_good_ones_are_found_and_bad_ones_listed(self, tmp_path, small):
        self.fill(small)
        report = make(tmp_path / "c", small)
        assert report.indexed == 7
        reasons = dict(report.skipped)
        wanted = {"truncated.jpg": "truncated", "truncated.png": "truncated",
                  "zero.jpg": "empty", "text.jpg": "not an image", "blank.png": "no features",
                  "tiny.png": "too small"}  # fmt: skip
        if hasattr(os, "mkfifo"):
            wanted["pipe.jpg"] = ""
        assert set(reasons) == set(wanted)
        for path, reason in wanted.items():
            assert reason in reasons[path], (path, reasons[path])
        with Collection.open(tmp_path / "c") as collection:
            assert {row.path: row.skipped for row in collection.skipped()} == reasons
            assert collection.search(small / "really a jpeg.png")[0].path == "really a jpeg.png"
        again = make(tmp_path / "c", small)
        assert again.indexed == 0
        assert dict(again.skipped) == reasons

    def test_only_bad_ones(self, tmp_path):
        folder = tmp_path / "bad"
        folder.mkdir()
        for i in range(3):
            (folder / f"{i}.jpg").write_text("no")
        with pytest.raises(NothingToIndexError, match="none of the 3 images can be used: 3 x"):
            make(tmp_path / "c", folder)
        cv2.imwrite(str(folder / "good.png"), textured(120, 90))
        assert make(tmp_path / "c", folder).indexed == 1

    def test_no_permission_is_tried_again(self, tmp_path, small):
        make(tmp_path / "warm", small)  # another user may not import what is not loaded yet
        open_to_all(tmp_path)
        (small / "0.png").chmod(0)
        (small / "locked").mkdir(mode=0)
        with as_nobody():
            report = make(tmp_path / "c", small)
        assert report.indexed == 5
        assert report.skipped == [("0.png", "permission denied")]
        assert [folder for folder, _ in report.unreadable] == [str(small / "locked")]
        (small / "0.png").chmod(0o644)
        with as_nobody():
            assert make(tmp_path / "c", small).indexed == 1

    def test_vanished_meanwhile_is_tried_again(self, tmp_path, small, monkeypatch):
        from vladkit.features import pool as extraction

        read = extraction.read_bytes

        def vanishing(file):
            if file.endswith("2.png"):
                raise ImageError("vanished", transient=True)
            return read(file)

        monkeypatch.setattr(extraction, "read_bytes", vanishing)
        assert make(tmp_path / "c", small).skipped == [("2.png", "vanished")]
        monkeypatch.undo()
        assert make(tmp_path / "c", small).indexed == 1

    def test_every_format(self, tmp_path):
        folder = tmp_path / "formats"
        folder.mkdir()
        suffix = {"JPEG": "jpg", "WebP": "webp", "TIFF": "tif"}
        variants = every_format(scene())
        for name, (data, _) in variants.items():
            kind = name.split()[0]
            (folder / f"{name}.{suffix.get(kind, kind.lower())}").write_bytes(data)
        assert make(tmp_path / "c", folder).indexed == len(variants)

    def test_a_recipe_of_sift_says_nothing_of_others(self):
        kept = Recipe().as_json()
        assert not {"dimensions", "compare", "network"} & set(kept)
        assert kept["orientation"] == 0.25
        assert Recipe.make(kept) == Recipe()

    def test_very_few_features_get_a_small_codebook(self, tmp_path):
        yx = textured(400, 300)
        yx[:] = 100
        cv2.circle(yx, (200, 150), 9, 255, -1)
        yx = cv2.GaussianBlur(yx, (0, 0), 3)
        cv2.imwrite(str(tmp_path / "dot.png"), yx)
        with Collection.create(tmp_path / "c") as collection:
            assert collection.add([tmp_path / "dot.png"]).indexed == 1
            (row,) = collection.images()
            assert row.n_local is not None
            assert collection.info()["clusters"] == min(16, row.n_local)


class TestFiles:
    def test_something_else_is_refused_and_left_as_it_is(self, tmp_path, small):
        (tmp_path / "text").write_text("precious " * 100)
        connection = sqlite3.connect(tmp_path / "other.db")
        connection.execute("CREATE TABLE precious (x)")
        connection.commit()
        connection.close()
        (tmp_path / "short").write_bytes(b"SQLite format 3\0")
        for name in ("text", "other.db", "short"):
            before = (tmp_path / name).read_bytes()
            listing = sorted(p.name for p in tmp_path.iterdir())
            for attempt in (
                lambda path: Collection.open(path),
                lambda path: Collection.open(path, read_only=True),
                lambda path: Collection.create(path),
            ):
                with pytest.raises(FileFormatError, match=name):
                    attempt(tmp_path / name)
            assert (tmp_path / name).read_bytes() == before
            assert sorted(p.name for p in tmp_path.iterdir()) == listing

    def test_another_version_is_refused_and_left_as_it_is(self, tmp_path, small):
        make(tmp_path / "c", small)
        connection = sqlite3.connect(tmp_path / "c")
        connection.execute(f"PRAGMA user_version = {schema.FORMAT_VERSION + 1}")
        connection.close()
        before = (tmp_path / "c").read_bytes()
        with pytest.raises(FileFormatError, match=f"format {schema.FORMAT_VERSION + 1}"):
            make(tmp_path / "c", small)
        assert (tmp_path / "c").read_bytes() == before

    def test_missing_or_empty(self, tmp_path, small):
        with pytest.raises(FileFormatError, match="does not exist"):
            Collection.open(tmp_path / "c")
        assert not (tmp_path / "c").exists()
        (tmp_path / "c").touch()
        with pytest.raises(FileFormatError, match="empty"):
            Collection.open(tmp_path / "c")
        assert make(tmp_path / "c", small).indexed == 6

    def test_folder(self, tmp_path):
        with pytest.raises(FileFormatError, match="is a folder"):
            Collection.open(tmp_path)
        with pytest.raises(StorageError, match="does not exist or may not"):
            Collection.create(tmp_path / "nothing" / "c")

    def test_one_file_remains(self, tmp_path, small):
        make(tmp_path / "c", small)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "small"]

    def test_a_reader_leaves_nothing_behind(self, tmp_path, small):
        (tmp_path / "home").mkdir()
        make(tmp_path / "home" / "c", small)
        with Collection.open(tmp_path / "home" / "c", read_only=True) as collection:
            collection.search(small / "0.png")
        assert [p.name for p in (tmp_path / "home").iterdir()] == ["c"]

    def test_reader_beside_a_writer(self, tmp_path, small):
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c", read_only=True) as reader:
            cv2.imwrite(str(small / "new.png"), textured(120, 90, seed=70))
            assert make(tmp_path / "c", small).indexed == 1
            assert reader.search(small / "new.png")[0].path == "new.png"

    def test_read_only_folder(self, tmp_path, small):
        make(tmp_path / "c", small)
        open_to_all(tmp_path, 0o755)
        (tmp_path / "c").chmod(0o444)
        with as_nobody():
            with Collection.open(tmp_path / "c", read_only=True) as collection:
                assert collection.search(small / "1.png")[0].path == "1.png"
            for attempt in (Collection.open, Collection.create):
                with pytest.raises(StorageError, match="may not be written") as error:
                    attempt(tmp_path / "c")
                assert str(tmp_path / "c") in str(error.value)
            with pytest.raises(StorageError, match="may not be written"):
                Collection.create(tmp_path / "new")

    def test_another_thread_and_after_closing(self, tmp_path, small):
        make(tmp_path / "c", small)
        collection = Collection.open(tmp_path / "c")
        found: list = []

        def search():
            try:
                collection.search(small / "0.png")
            except StorageError as error:
                found.append(str(error))

        thread = threading.Thread(target=search)
        thread.start()
        thread.join()
        assert "by the thread that opened it" in found[0]
        collection.close()
        with pytest.raises(StorageError, match="until it is closed"):
            collection.search(small / "0.png")

    def test_images_that_come_and_go_during_a_search(self, tmp_path, small, monkeypatch):
        make(tmp_path / "c", small)
        scores = Searcher.scores

        def meanwhile(self, query):
            result = scores(self, query)
            with Collection.open(tmp_path / "c") as other:
                other.remove(["1.png"])
            return result

        with Collection.open(tmp_path / "c") as collection:
            monkeypatch.setattr(Searcher, "scores", meanwhile)
            hits = collection.search(small / "0.png", top=0)
            assert hits[0].path == "0.png"
            assert "1.png" in [hit.path for hit in hits]  # as it was when the search began
            monkeypatch.undo()
            hits = collection.search(small / "0.png", top=0)
            assert "1.png" not in [hit.path for hit in hits]

    def test_evaluation_of_a_file_indexed_twice(self, tmp_path, small):
        (small / "link.png").symlink_to(small / "0.png")
        make(tmp_path / "c", small)
        benchmark = ground_truth({str(small / "1.png"): [str(small / "0.png")]})
        with Collection.open(tmp_path / "c") as collection:
            outcome = collection.evaluate(benchmark)
        assert outcome.queries == {"": 1}
        assert 0 < outcome.figures[""]["mAP"] <= 1

    def test_damaged_vector(self, tmp_path, small):
        make(tmp_path / "c", small)
        connection = sqlite3.connect(tmp_path / "c")
        connection.execute("UPDATE block SET data = x'0000'")
        connection.commit()
        connection.close()
        with (
            Collection.open(tmp_path / "c") as collection,
            pytest.raises(FileFormatError, match="block 1 have 2 bytes"),
        ):
            collection.search(small / "0.png")

    def test_damaged_pages(self, tmp_path, small):
        make(tmp_path / "c", small)
        data = bytearray((tmp_path / "c").read_bytes())
        data[16384:] = os.urandom(len(data) - 16384)
        (tmp_path / "c").write_bytes(data)
        with pytest.raises((FileFormatError, StorageError), match="c"):
            Collection.open(tmp_path / "c").search(small / "0.png")

    @pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
    def test_full_disk(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=700k", "none", disk], capture_output=True
        )
        if mounted.returncode:
            pytest.skip("may not mount a small disk")
        try:
            folder = tmp_path / "many"
            folder.mkdir()
            for i in range(70):
                cv2.imwrite(str(folder / f"{i:02}.png"), textured(100, 80, seed=i))
            with pytest.raises(StorageError, match="full"):
                make(disk / "c", folder, n_clusters=64)
            with Collection.open(disk / "c", read_only=True) as collection:
                n = len(collection)
                assert n < 70
                assert n == 0 or collection.search(folder / "00.png")[0].path == "00.png"
        finally:
            subprocess.run(["umount", disk], check=True)


SLOW = """
import time
import cv2
decode = cv2.imdecode
cv2.imdecode = lambda *a: (time.sleep(0.015), decode(*a))[1]  # so that nobody comes too late
"""

RUN = """
import signal
from vladkit.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started without
main()
"""

KILLED = """
import sys
from vladkit import Collection
with Collection.create(sys.argv[1], n_clusters=16) as collection:
    collection.add([sys.argv[2]])
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 150 small images: five batches."""
    folder = tmp_path_factory.mktemp("kill") / "many"
    folder.mkdir()
    for i in range(150):
        cv2.imwrite(str(folder / f"{i:03}.png"), textured(160, 120, seed=i))
    return folder


@pytest.fixture(scope="module")
def undisturbed(many):
    """What a run over them ends in that nothing interrupts."""
    make(many.parent / "undisturbed", many, n_clusters=16)
    return everything(many.parent / "undisturbed", many)


def everything(path, folder):
    """Rankings of some queries, and the rows of all images."""
    queries = sorted(folder.iterdir())[::37]
    with Collection.open(path) as collection:
        rankings = [collection.search(query, top=0) for query in queries]
        images = list(collection.images())
    return [[(h.path, h.score) for h in hits] for hits in rankings], images


class TestKill:
    @pytest.mark.parametrize("at_least", [-1, 0, 1, 33, 90])
    def test_running_again_ends_in_the_same(self, many, undisturbed, tmp_path, at_least):
        path = tmp_path / "c"
        process = subprocess.Popen([sys.executable, "-c", SLOW + KILLED, path, many])
        seen = self.wait(process, path, at_least)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if seen >= 0:
            with Collection.open(path) as collection:
                committed = len(collection)
            assert committed >= seen  # what was seen as committed is there
            assert committed < 150, "killed too late to tell"
        else:  # at the very beginning: nothing, or an empty collection
            with suppress(FileFormatError), Collection.open(path) as collection:
                assert len(collection) == 0
        report = make(path, many, n_clusters=16)
        assert report.indexed < 150 or seen <= 0
        assert everything(path, many) == undisturbed

    def wait(self, process, path, at_least):
        """Until so many images are committed; -1: until the file is there."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            try:
                connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
                try:
                    if at_least < 0:
                        return -1
                    sql = "SELECT count(block_id) FROM picture"
                    if at_least == 0:
                        sql = "SELECT count(*) - 1 FROM about"  # recipe and versions: learning
                    (n,) = connection.execute(sql).fetchone()
                    if n >= max(at_least, 1):
                        return n if at_least else 0
                finally:
                    connection.close()
            except sqlite3.Error:
                pass
            time.sleep(0.002)
        raise AssertionError("nothing was committed in a minute")

    @pytest.mark.parametrize("at_least", [0, 33])  # while it learns, and compiles; and later
    def test_interrupt_keeps_what_is_committed(self, many, tmp_path, at_least):
        path = tmp_path / "c"
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW + RUN, "index", many, "-o", path, "--n-clusters", "16"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait(process, path, at_least)
        time.sleep(0 if at_least else 0.3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert "vladkit: interrupted: " in stderr
        assert "; run again to " in stderr
        assert "Traceback" not in stderr
        assert "FATAL" not in stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]
        assert make(path, many, n_clusters=16).indexed > 0

    def test_two_at_once(self, many, undisturbed, tmp_path):
        path = tmp_path / "c"
        command = [sys.executable, "-c", KILLED, path, many]
        processes = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(120) for process in processes] == [0, 0]
        rankings, images = everything(path, many)
        assert rankings == undisturbed[0]
        assert len(images) == 150


def test_memory_does_not_grow_with_the_images(tmp_path):
    pytest.importorskip("resource", reason="needs Linux's peak of resident memory")
    source = tmp_path / "one.png"
    cv2.imwrite(str(source), textured(200, 150))

    def peak(n):
        folder = tmp_path / str(n)
        folder.mkdir()
        for i in range(n):
            os.link(source, folder / f"{i}.png")
        code = f"{KILLED}import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        command = [sys.executable, "-c", code, tmp_path / f"{n}.vlad", folder]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # 800 images of some 600 descriptors are 60 MB of uint8, 240 MB of float32.
    few, many = peak(100), peak(900)
    assert many - few < 60_000, f"peak went from {few} to {many} kB"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_real_buildings_from_another_side(tmp_path):
    folder = SHARED / "data" / "kth_buildings"
    files = sorted((folder / "db").iterdir())[:60]
    buildings = {file.name.split("_")[0] for file in files}
    queries = [q for q in sorted((folder / "query").iterdir()) if q.name.split("_")[0] in buildings]
    with Collection.create(tmp_path / "c") as collection:
        collection.add(files)
        first = [Path(collection.search(query, 1)[0].path).name for query in queries]
    right = [f.split("_")[0] == q.name.split("_")[0] for f, q in zip(first, queries, strict=True)]
    assert len(right) >= 18
    assert sum(right) >= len(right) - 1
