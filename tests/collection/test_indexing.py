"""Images that are added, changed, removed, or cannot be used."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import nullcontext

import cv2
import numpy as np
import PIL.Image
import pytest

from images import every_format, scene, textured
from rights import as_nobody, open_to_all
from small import make, paths
from vladkit import Collection
from vladkit.collection.indexing import Indexer
from vladkit.collection.recipe import Recipe
from vladkit.errors import (
    ImageError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
)


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

    def test_another_process_drops_the_source_before_it_has_images(
        self, tmp_path, small, monkeypatch
    ):
        others = tmp_path / "others"
        others.mkdir()
        for i in range(3):
            cv2.imwrite(str(others / f"{i}.png"), textured(120, 90, seed=60 + i))
        make(tmp_path / "c", small)
        real = Indexer._commit

        def commit(self, *batch, **rest):
            with Collection.open(tmp_path / "c") as other:
                other.compact()
                with other.index.store.writing():  # and its id goes to another
                    other.index.store.add_source(str(tmp_path / "third"), "third")
            return real(self, *batch, **rest)

        monkeypatch.setattr(Indexer, "_commit", commit)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add([others]).indexed == 3
            assert collection.check() == []
            files = {row.file for row in collection.images()}
            assert files >= {str(others / f"{i}.png") for i in range(3)}

    def test_prune_leaves_what_came_in_its_place_meanwhile(self, tmp_path, small, monkeypatch):
        make(tmp_path / "c", small)
        (small / "5.png").unlink()  # the highest id
        real = Indexer._check_prune

        def check(self, *arguments):
            real(self, *arguments)
            cv2.imwrite(str(tmp_path / "new.png"), textured(120, 90, seed=50))
            with Collection.open(tmp_path / "c") as other:
                ids = {row.path: row.image_id for row in other.images()}
                last = ids.pop("5.png")
                other.remove("5.png")
                other.add(tmp_path / "new.png")
                assert {row.path: row.image_id for row in other.images()} == (
                    ids | {str(tmp_path / "new.png"): last + 1}
                )

        monkeypatch.setattr(Indexer, "_check_prune", check)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add([small], prune=True).pruned == 0
            assert str(tmp_path / "new.png") in {row.path for row in collection.images()}

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

    def test_remove_through_a_link(self, tmp_path, small):
        make(tmp_path / "c", small)
        (tmp_path / "link").symlink_to(small)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.remove([tmp_path / "link" / "1.png"]) == 1
            assert collection.remove([tmp_path / "link"]) == 5

    def test_remove_a_link_that_is_indexed_itself(self, tmp_path, small):
        """As older versions did: where it leads stays."""
        (tmp_path / "links").mkdir()
        (tmp_path / "links/a.png").symlink_to(small / "3.png")
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.add([tmp_path / "links"], force=True).indexed == 1
            assert collection.remove([tmp_path / "links/a.png"]) == 1
            assert [row.path for row in collection.images()] == [f"{i}.png" for i in range(6)]
            assert collection.remove([tmp_path / "links/a.png"]) == 1
            assert collection.find("3.png") is None

    def test_remove_what_several_folders_have(self, tmp_path, small, monkeypatch):
        other = tmp_path / "other"
        shutil.copytree(small, other)
        for i in range(6):
            cv2.imwrite(str(other / f"{i}.png"), textured(120, 90, seed=60 + i))
        make(tmp_path / "c", small)
        make(tmp_path / "c", other)
        with Collection.open(tmp_path / "c") as collection:
            n = len(collection)
            with pytest.raises(ParameterError, match=r"1\.png is in several folders: give one of"):
                collection.remove(["1.png"])
            assert len(collection) == n
            monkeypatch.chdir(other)  # where it is a file
            assert collection.remove(["1.png"]) == 1
            assert collection.find(small / "1.png") is not None
            monkeypatch.chdir(tmp_path)
            assert collection.remove(["1.png"]) == 1  # there is one now

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

    @pytest.mark.parametrize("how", ["link", "permission", "folder", "vanishing"])
    def test_what_cannot_be_read_now_stays_as_it_was(self, tmp_path, small, how, monkeypatch):
        """A disk that is away, or a permission, says nothing of the images."""
        open_to_all(tmp_path)
        folder = tmp_path / "photos"
        folder.mkdir()
        for file in small.iterdir():
            (folder / file.name).symlink_to(file)
        make(tmp_path / "c", folder)
        with Collection.open(tmp_path / "c") as collection:
            n = len(collection)
            before = [(hit.path, hit.score) for hit in collection.search("1.png", 0)]
        if how == "link":  # what they lead to is away
            small.rename(tmp_path / "away")
        elif how == "permission":
            for file in small.iterdir():
                file.touch()
                file.chmod(0)
        elif how == "folder":
            small.chmod(0)
        else:
            for file in small.iterdir():
                file.touch()

            def vanishing(file):
                raise ImageError("gone", transient=True)

            monkeypatch.setattr("vladkit.features.pool.read_bytes", vanishing)
        with as_nobody() if how in ("permission", "folder") else nullcontext():
            report = make(tmp_path / "c", folder)
        assert (report.indexed, len(report.skipped)) == (0, n)
        assert all(why.endswith("; kept as it was indexed") for _, why in report.skipped)
        with Collection.open(tmp_path / "c") as collection:
            assert len(collection) == n
            assert [(hit.path, hit.score) for hit in collection.search("1.png", 0)] == before
            assert not [row for row in collection.index.store.images() if row.skipped]
        monkeypatch.undo()
        if how == "link":
            (tmp_path / "away").rename(small)
        small.chmod(0o755)
        for file in small.iterdir():
            file.chmod(0o644)
        report = make(tmp_path / "c", folder)
        assert (report.indexed + report.unchanged, report.skipped) == (n, [])

    @pytest.mark.parametrize("year", [1901, 1969, 2262, 2300, 2440])
    def test_times_that_no_clock_should_have(self, tmp_path, small, year):
        """Of broken clocks and archives; 64 bits of ns end in 2262."""
        seconds = (year - 1970) * 31_556_952 + 1
        os.utime(small / "1.png", (seconds, seconds))
        if os.stat(small / "1.png").st_mtime != seconds:
            pytest.skip("the file system has no such times")
        assert make(tmp_path / "c", small).indexed == 6
        assert make(tmp_path / "c", small).unchanged == 6
        os.utime(small / "1.png", (seconds + 1, seconds + 1))
        assert make(tmp_path / "c", small).indexed == 1

    def test_an_image_that_is_broken_now_is_skipped(self, tmp_path, small):
        make(tmp_path / "c", small)
        (small / "1.png").write_bytes(b"no image any more")
        report = make(tmp_path / "c", small)
        assert report.skipped == [("1.png", "not an image that can be decoded")]
        with Collection.open(tmp_path / "c") as collection:
            skipped = [row.path for row in collection.index.store.images() if row.skipped]
            assert skipped == ["1.png"]

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
        variants = every_format(scene(160, 120))
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


class TestInMemory:
    def test_every_form_is_indexed_as_its_file(self, small, tmp_path, monkeypatch):
        monkeypatch.chdir(small)
        files = sorted(small.iterdir())
        recipe = {"n_clusters": 8, "keep_bytes": 0}
        with Collection.create(tmp_path / "files", **recipe) as collection:
            collection.add([file.name for file in files])
            wanted = {row.path: collection.image(row.image_id) for row in collection.images()}
            id_n, vector_nD = collection.vectors()
        pixels = [cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB) for f in files]
        images = {
            files[0].name: pixels[0],
            files[1].name: PIL.Image.fromarray(pixels[1]),
            files[2].name: files[2].read_bytes(),
            files[3].name: io.BytesIO(files[3].read_bytes()),
            files[4].name: pixels[4],
            files[5].name: pixels[5],
        }
        for file in files:
            file.unlink()
        with Collection.create(tmp_path / "memory", **recipe) as collection:
            report = collection.add(images | {"none.jpg": b"no image"})
            assert (report.indexed, report.skipped) == (
                6,
                [("none.jpg", "not an image that can be decoded")],
            )
            assert {row.path for row in collection.images()} == set(wanted)
            ids, vectors = collection.vectors()
            np.testing.assert_array_equal(ids, id_n)
            np.testing.assert_array_equal(vectors, vector_nD)
            again = collection.add({files[0].name: pixels[0], files[1].name: pixels[0]})
            assert (again.unchanged, again.indexed) == (1, 1)
            assert collection.search(pixels[0], 1)[0].verified
            (group,) = collection.duplicates()
            assert {group.path, *(each.path for each in group.others)} == {"0.png", "1.png"}

    def test_what_is_none(self, small, tmp_path):
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            with pytest.raises(ParameterError, match=r"'s3://a/b' is no name of an image"):
                collection.add({"s3://a/b": b""})
            with pytest.raises(ParameterError, match=r"x is a float: give the bytes"):
                collection.add({"x": 1.0})
            with pytest.raises(ParameterError, match="prune is of folders"):
                collection.add({"x": b""}, prune=True)
