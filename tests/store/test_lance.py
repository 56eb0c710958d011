"""Collections of Lance: as those of SQLite, and written by several at once."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from paths import TESTS
from vladkit import Collection, Where
from vladkit.errors import (
    FileFormatError,
    InputError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
    StorageError,
)
from vladkit.store.ann import AnnReport
from vladkit.store.database import row_crc
from vladkit.store.lance import ann, rows, state
from vladkit.store.lance import store as lance_store
from vladkit.store.lance.place import translated
from vladkit.store.lance.state import ConflictError, State, retried
from vladkit.store.opening import check_store, create_store, open_store
from writing import LAYOUT, record, write

lance = pytest.importorskip("lance", reason="the extra `lance`")

RECIPE = {"n_clusters": 8, "n_words": 16, "keep_features": 50, "enlarge_to": 0}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """(folder) with images/, words.npz, and of both c.vlad and c.lance; copy before changing."""
    home = tmp_path_factory.mktemp("lance")
    (home / "images").mkdir()
    for i in range(12):
        image = textured(120, 90, seed=i)
        image[:40, :60] = textured(120, 90, seed=i // 2)[:40, :60]
        cv2.imwrite(str(home / "images" / f"{i:02}.png"), image)
    (home / "images" / "none.png").write_bytes(b"nothing")
    Collection.learn(home / "words.npz", home / "images", **RECIPE)
    for name in ("c.vlad", "c.lance"):
        with Collection.create(home / name, codebook=home / "words.npz") as collection:
            collection.add(home / "images")
    return home


@pytest.fixture
def own(home, tmp_path):
    """A copy of the collection of Lance that may be changed."""
    return shutil.copytree(home / "c.lance", tmp_path / "c.lance")


def rows_of(collection):
    """All that is known of each image but its key, and what is kept of it."""
    store, found = collection.index.store, {}
    for row in store.images():
        ids = [row.image_id]
        kept, codes = store.features(ids).get(row.image_id), store.codes(ids)[1]
        found[row.path] = (
            row.n_bytes, row.mtime_ns, row.width, row.height, row.n_local, row.skipped, row.folder,
            row.transient, row.image_id in store.lifted(),
            *(None if v is None else v.tobytes() for v in [store.vectors(ids).get(row.image_id)]),
            kept and (kept.descriptor_lf.tobytes(), kept.geometry_l5.tobytes(), kept.is_coded),
            codes and (codes.word_N.tobytes(), codes.code_Nb.tobytes(), codes.angle_N.tobytes()),
        )  # fmt: skip
    return found


class TestAsAFile:
    """With one codebook both kinds hold and answer the same."""

    def test_rows_vectors_features_and_codes(self, home):
        with Collection.open(home / "c.vlad") as one, Collection.open(home / "c.lance") as other:
            rows = rows_of(one)
            assert rows_of(other) == rows
            assert list(rows_of(other)) == list(rows)
            assert None not in rows["00.png"][-2:]
            assert rows["none.png"][-3:] == (None, None, None)
            same = ("images", "skipped", "lifted", "dimensions", "words", "recipe", "learned_from")
            about, info = one.info(), other.info()
            assert [info[n] for n in same] == [about[n] for n in same]
            assert info["sources"] == about["sources"]
            assert info["bytes"] > 0

    def test_search_pairs_and_pages(self, home):
        with Collection.open(home / "c.vlad") as one, Collection.open(home / "c.lance") as other:
            for row in one.images():
                for image in (row.file, row.path):
                    found = [
                        [(h.path, h.file, h.score, h.inliers, h.agreement) for h in c.search(image)]
                        for c in (one, other)
                    ]
                    assert found[0] == found[1]
            options = {"together": True, "mirrored": True}
            both = [c.search(["01.png", row.file], **options) for c in (one, other)]
            first, second = ([(h.path, h.score, h.query) for h in hits] for hits in both)
            assert first == second
            assert list(one.pairs(3, rerank=3)) == list(other.pairs(3, rerank=3))
            for options in ({}, {"contains": "0"}, {"skipped": True}, {"offset": 2, "limit": 3}):
                pages = [c.page(**options) for c in (one, other)]
                assert pages[0][0] == pages[1][0]
                assert [r.path for r in pages[0][1]] == [r.path for r in pages[1][1]]

    def test_learns_once_by_itself(self, home, tmp_path):
        with Collection.create(tmp_path / "own.lance", **RECIPE) as collection:
            assert collection.add(home / "images").indexed == 12
            assert collection.index.describer.is_given
            vectors = dict(zip(*collection.vectors(), strict=True))
        with Collection.open(home / "c.lance") as collection:
            ids, vector_nD = collection.vectors()
        for image_id, vector_D in zip(ids.tolist(), vector_nD, strict=True):
            np.testing.assert_array_equal(vectors[image_id], vector_D)

    def test_it_says_that_it_has_learned_from_few(self, home, tmp_path):
        """As a file that cannot learn again does; a codebook file was chosen by someone."""
        images = sorted((home / "images").iterdir())
        for name, given, stale in (("own", {}, True), ("of", {"codebook": "words.npz"}, False)):
            options = {k: home / v for k, v in given.items()} or RECIPE
            with Collection.create(tmp_path / f"{name}.lance", **options) as collection:
                assert collection.add(images[:3]).learned_once == (0 if given else 3)
                assert collection.info()["stale"] is False
                assert collection.add(images).learned_once == 0
                assert collection.info()["stale"] is stale

    def test_equal_images_tie_in_the_order_of_their_paths(self, home, tmp_path):
        """Whatever order a store has them in: which are matched, paired and joined to a query."""
        folder = tmp_path / "equal"
        folder.mkdir()
        for name in "abcdefgh":
            shutil.copy(home / "images" / "03.png", folder / f"{name}.png")
        found = []
        for kind, order in (("vlad", "hgfedcba"), ("lance", "dbcahefg"), ("lance", "abcdefgh")):
            with Collection.create(
                tmp_path / f"{order}.{kind}", codebook=home / "words.npz"
            ) as collection:
                for name in order:
                    collection.add(folder / f"{name}.png")
                collection.add(home / "images")
                query = str(home / "images" / "03.png")
                options = ({"top": 4, "rerank": 3}, {"top": 3, "rerank": 0, "expand": 2})
                hits = [collection.search(query, **each) for each in options]
                found.append([[(Path(h.file).name, h.score, h.verified) for h in f] for f in hits])
                found[-1].append(
                    [(p.first, p.second, p.inliers) for p in collection.pairs(2, rerank=2)]
                )
        assert found[1] == found[0]
        assert found[2] == found[0]
        first = [("a.png", True), ("b.png", True), ("c.png", True), ("d.png", None)]
        assert [(name, verified) for name, _, verified in found[0][0]] == first


class TestChanges:
    def test_add_and_remove(self, own, home, tmp_path):
        (tmp_path / "more").mkdir()
        cv2.imwrite(str(tmp_path / "more" / "it's.png"), textured(120, 90, seed=99))
        with Collection.open(own) as collection:
            before, stamp = rows_of(collection), collection.stamp()
            assert collection.add(tmp_path / "more").indexed == 1
            assert collection.stamp() != stamp
            assert collection.add([tmp_path / "more", home / "images"]).unchanged == 13
            assert collection.find("it's.png").file == str(tmp_path / "more" / "it's.png")
            assert collection.search(tmp_path / "more" / "it's.png")[0].path == "it's.png"
            assert collection.remove([tmp_path / "more", "03.png"]) == 2
            assert rows_of(collection).keys() == before.keys() - {"03.png"}
            assert collection.add(home / "images").indexed == 1
            assert rows_of(collection) == before
            assert collection.check() == []

    def test_a_changed_image_and_prune(self, own, tmp_path, home):
        folder = shutil.copytree(home / "images", tmp_path / "copy")
        with Collection.open(own) as collection:
            collection.relocate(home / "images", folder)
            cv2.imwrite(str(folder / "00.png"), textured(100, 80, seed=50))
            (folder / "01.png").unlink()
            report = collection.add(folder, prune=True)
            assert (report.indexed, report.pruned, len(collection)) == (1, 1, 11)
            assert collection.find("00.png").width == 100
            assert collection.check() == []

    def test_a_file_that_is_spelled_otherwise(self, own, tmp_path):
        folder = tmp_path / "spelled"
        folder.mkdir()
        cv2.imwrite(str(folder / "Caf\u00e9.png"), textured(120, 90, seed=7))
        with Collection.open(own) as collection:
            collection.add(folder)
            (folder / "Caf\u00e9.png").rename(folder / "Cafe\u0301.png")
            assert collection.find("Caf\u00e9.png").path == "Caf\u00e9.png"
            assert collection.add(folder).unchanged == 1
            assert collection.find("Caf\u00e9.png").path == "Cafe\u0301.png"
            assert [row.path for row in collection.page(contains="f\u00e9.")[1]] == [
                "Cafe\u0301.png"
            ]
            assert collection.page(contains="\0")[0] == 0
            assert len(collection) == 13
            assert collection.check() == []

    def test_compact(self, small, monkeypatch):
        (source_id,) = small.sources()
        for i in range(20, 25):
            with small.writing():
                small.put([record(source_id, i)])
                small.delete([rows.image_key(source_id, f"{i - 20:04}.png")])
        before = list(small.images())
        assert small.compact() == 0  # somebody may read these versions
        assert len(lance.dataset(str(small.path / "image.lance")).get_fragments()) == 1
        monkeypatch.setattr(lance_store, "_OLD", timedelta(0))
        assert small.compact() > 1000
        assert list(small.images()) == before
        assert check_store(small) == []

    def test_what_it_lacks_is_said(self, own, tmp_path):
        with Collection.open(own) as collection:
            changes = [
                lambda: collection.whiten(4), collection.adapt, collection.augment,
                lambda: collection.copy(tmp_path / "copy.lance"),
            ]  # fmt: skip
            for change in changes:
                with pytest.raises(ParameterError, match=r"which this version cannot"):
                    change()
            assert len(collection) == 12
        with pytest.raises(ParameterError, match="keep_sums"):
            Collection.create(tmp_path / "sums.lance", keep_sums=True)
        with pytest.raises(ParameterError, match="not merged: several writers add"):
            Collection.merge(tmp_path / "all.vlad", [own])

    def test_a_reader_sees_that_images_have_moved(self, own, home, tmp_path):
        shutil.copytree(home / "images", tmp_path / "moved")
        here, there = Where(under=home / "images"), Where(under=tmp_path / "moved")
        with Collection.open(own, read_only=True) as reader:
            assert len(reader.search("00.png", 0, where=here)) == 12
            with Collection.open(own) as collection:
                collection.relocate(home / "images", tmp_path / "moved")
            with pytest.raises(ParameterError, match="not in "):
                reader.search("00.png", 0, where=here)
            assert len(reader.search("00.png", 0, where=there)) == 12

    def test_another_recipe_or_codebook_is_refused(self, own):
        with pytest.raises(RecipeMismatchError, match="n_clusters=8"):
            Collection.create(own, n_clusters=16)

    def test_reading_only(self, own, home):
        with Collection.open(own, read_only=True) as collection:
            with pytest.raises(StorageError, match="may not be written"):
                collection.remove("00.png")
            assert len(collection) == 12

    def test_other_things_at_its_place(self, tmp_path):
        (tmp_path / "a.lance").write_text("text")
        (tmp_path / "b.lance").mkdir()
        (tmp_path / "b.lance" / "text").write_text("text")
        for name in "ab":
            with pytest.raises(FileFormatError, match=r"give another name"):
                Collection.create(tmp_path / f"{name}.lance", **RECIPE)
        with pytest.raises(FileFormatError, match=r"c\.lance does not exist or is empty: make it"):
            Collection.open(tmp_path / "c.lance")


@pytest.fixture
def small(tmp_path):
    """An open store of ten records."""
    with create_store(tmp_path / "small.lance", recipe={}) as store:
        store.layout = LAYOUT
        with store.writing():
            source_id = store.add_source("/nowhere", "nowhere").source_id
            store.put([record(source_id, i) for i in range(10)])
        yield store


class TestCheck:
    @pytest.mark.parametrize(
        ("column", "value", "wrong", "left"),
        [
            ("n_bytes", "7000", "its row has changed", 9),
            ("path", "'other.png'", "its row has changed", 9),
            ("source_id", "5", "its row has changed", 9),
            ("vector_crc", "5", "its vector has changed", 9),
            ("kept_geometry", "x'00'", "its features have changed", 9),
            ("kept_n", "NULL", "its features have changed", 9),
            ("code_crc", "5", "its codes have changed", 9),
        ],
    )
    def test_damage_is_found_and_repaired(self, small, column, value, wrong, left):
        images = lance.dataset(str(small.path / "image.lance"))
        images.update({column: value}, where="n_local = 2 AND mtime_ns = 3")
        (found,) = check_store(small)
        assert found.text.startswith(wrong)
        assert not found.repaired
        assert [f.text for f in check_store(small, repair=True)] == [found.text]
        assert check_store(small) == []
        assert small.count()[0] == left

    def test_vectors_are_of_unit_length(self, small):
        with small.writing():
            (source_id,) = small.sources()
            small.put([record(source_id, 4, vector_D=np.full(16, np.nan, np.float16))])
        (found,) = check_store(small)
        assert (found.text, found.image) == ("has a vector of length nan", "0004.png")

    def test_values_and_arrays(self, small):
        with small.writing():
            small.set_arrays({"centroids": np.arange(6.0).reshape(2, 3)})
        np.testing.assert_array_equal(small.arrays()["centroids"], [[0, 1, 2], [3, 4, 5]])
        lance.dataset(str(small.path / "array.lance")).update({"shape": "'[3, 2]'"})
        with pytest.raises(FileFormatError, match="array 'centroids' has changed since"):
            small.arrays()
        lance.dataset(str(small.path / "about.lance")).update({"value": "'3'"}, where="name = 'id'")
        with pytest.raises(FileFormatError, match="value 'id' has changed since"):
            open_store(small.path)


class TestHostileValues:
    """A collection may be anybody's; checksums are right, as whoever forges it would have them."""

    @pytest.fixture
    def forge(self, small):
        """Write values about it; None drops one."""

        def forge(**values):
            dataset = lance.dataset(str(small.path / "about.lance"))
            held = {row["name"]: row["value"] for row in dataset.to_table().to_pylist()}
            held |= {n: None if v is None else json.dumps(v) for n, v in values.items()}
            lines = [(n, v, row_crc(n, v)) for n, v in held.items() if v is not None]
            table = rows.table_from(lines, rows.about_schema())
            lance.write_dataset(table, str(small.path / "about.lance"), mode="overwrite")
            return small.path

        return forge

    @pytest.mark.parametrize(
        "values",
        [
            {"id": None},
            {"id": 5},
            {"~arrays": None},
            {"~arrays": {"centroids": "' OR 1 = 1 --"}},
            {"recipe": []},
            {"learned": []},
            {"ann": {}},
            {"ann": dict.fromkeys(AnnReport.__slots__, "x")},
            {"ann": dict.fromkeys(AnnReport.__slots__, 10**30)},
            {"~source 5": {"root": 5, "relative": None, "name": "x", "mark": ""}},
            {"~source 5": {"root": "/", "relative": None, "name": "x", "mark": "", "images": [1]}},
        ],
    )
    def test_about_it(self, forge, values):
        with pytest.raises(FileFormatError, match=r"small.lance is damaged"):
            open_store(forge(**values))

    def test_of_an_index(self, forge):
        ann = dict.fromkeys(AnnReport.__slots__, 1) | {"n_probes": -1}
        with open_store(forge(ann=ann), read_only=True) as store:
            store.layout = LAYOUT
            with pytest.raises((FileFormatError, StorageError)):
                store.ann().search(np.ones((1, 16), np.float32), 3)

    @pytest.mark.parametrize("name", ["about", "array", "image"])
    def test_columns_of_other_types(self, small, name):
        with small.writing():
            small.set_arrays({"centroids": np.zeros(3)})
        place = str(small.path / f"{name}.lance")
        table = lance.dataset(place).to_table()
        last = table.num_columns - 1
        table = table.set_column(last, table.column_names[last], [["x"] * len(table)])
        lance.write_dataset(table, place, mode="overwrite")
        match = f"the columns of {name}.lance are not as"

        def read():
            with open_store(small.path) as store:
                store.arrays()
                store.count()

        with pytest.raises(FileFormatError, match=match):
            read()

    def test_values_that_are_missing(self, small):
        images = lance.dataset(str(small.path / "image.lance"))
        images.update({"path": "NULL"}, where="n_local = 2 AND mtime_ns = 3")
        with pytest.raises(FileFormatError, match="lacks a value"):
            list(small.images())
        assert [f.text for f in check_store(small, repair=True)] == ["its row lacks a value"]
        assert len(list(small.images())) == 9

    def test_data_elsewhere(self, small):
        """Whoever opens it would read a place that somebody else has chosen."""
        images = lance.dataset(str(small.path / "image.lance"))
        copy = shutil.copytree(small.path, small.path.with_name("copy.lance"))
        shutil.rmtree(copy / "image.lance")
        images.shallow_clone(str(copy / "image.lance"), images.version)
        with open_store(copy) as store, pytest.raises(FileFormatError, match="in other places"):
            store.count()

    def test_files_that_are_gone(self, small):
        copy = shutil.copytree(small.path, small.path.with_name("copy.lance"))
        shutil.rmtree(copy / "image.lance" / "data")
        with open_store(copy) as store:
            (found,) = check_store(store)
            assert "is damaged: " in found.text
        shutil.rmtree(copy / "image.lance")
        with open_store(copy) as store:
            (found,) = check_store(store)
            assert found.text == "its images are missing: index them again"

    def test_one_that_has_no_images_yet_is_whole(self, tmp_path):
        """As a first run leaves it that is killed, or finds nothing that can be used."""
        (tmp_path / "images").mkdir()
        for i in range(2):
            (tmp_path / "images" / f"{i}.png").write_bytes(b"nothing")
        with Collection.create(tmp_path / "c.lance", **RECIPE) as collection:
            with pytest.raises(NothingToIndexError, match=r"none of the 2 images can be used: 2 x"):
                collection.add(tmp_path / "images")
            assert collection.check() == []


class TestKeys:
    @pytest.mark.parametrize("at_once", [1, 2000])  # looked for by one pass over all, by a filter
    def test_two_paths_with_one_key(self, small, monkeypatch, at_once):
        (source_id,) = small.sources()
        monkeypatch.setattr(lance_store, "_AT_ONCE", at_once)
        monkeypatch.setattr(rows, "_key", lambda *parts: 77 + int(parts[-1]))
        with small.writing():
            small.put([record(source_id, 20, path="a.png"), record(source_id, 21, path="b.png")])
        with small.writing():
            small.put([record(source_id, 22, path="b.png"), record(source_id, 23, path="a.png")])
        found = {path: small.by_path(path)[0] for path in ("a.png", "b.png")}
        assert [(row.image_id, row.n_bytes) for row in found.values()] == [(77, 23), (78, 22)]

    def test_are_of_root_and_path(self):
        """For ever: a collection that was written by one version is added to by another."""
        assert rows.source_key("/photos") == 4127014070039031
        assert rows.image_key(1, "moon.jpg") == 2973538915810182


class TestSnapshots:
    def test_reads_within_a_block_see_one_state(self, small):
        (source_id,) = small.sources()
        with small.reading():
            with open_store(small.path) as other, other.writing():
                other.layout = small.layout
                other.put([record(source_id, 30)])
                other.set_about(recipe={"new": 1})
            assert small.count() == (10, 0)
            assert small.about()["recipe"] == {}
        assert small.count() == (11, 0)
        assert small.about()["recipe"] == {"new": 1}

    def test_a_block_that_raises_changes_nothing(self, small):
        (source_id,) = small.sources()
        stamp = small.stamp()

        def change():
            with small.writing():
                small.put([record(source_id, 30)])
                small.set_about(recipe={"new": 1})
                raise KeyError

        with pytest.raises(KeyError):
            change()
        assert small.count() == (10, 0)
        assert small.about()["recipe"] == {}
        assert small.stamp() == stamp

    def test_one_image_that_two_write_from_one_state_is_there_once(self, small):
        (source_id,) = small.sources()
        with open_store(small.path) as other, small.writing():
            other.layout = LAYOUT
            small.put([record(source_id, i) for i in (30, 31)])
            with other.writing():
                other.put([record(source_id, i) for i in (30, 32)])
        assert small.count() == (13, 0)
        assert check_store(small) == []

    def test_changes_of_one_value_conflict_and_others_do_not(self, small):
        with open_store(small.path) as other:
            with small.writing():
                small.set_about(images={"a": 1})
                with other.writing():
                    other.set_about(words={"b": 2})
                    other.add_source("/elsewhere", "elsewhere")
            assert small.about().items() >= {"images": {"a": 1}, "words": {"b": 2}}.items()
            assert {s.root for s in small.sources().values()} == {"/nowhere", "/elsewhere"}

            def change():
                with small.writing():
                    small.set_about(words={"c": 3})
                    small.set_arrays({"centroids": np.zeros(3)})
                    with other.writing():
                        other.set_about(words={"d": 4})

            with pytest.raises(StorageError, match=r"another process has changed .* \(words\)"):
                change()
        assert small.about()["words"] == {"d": 4}
        assert small.arrays() == {}


class TestAnotherIsFirst:
    """Another process makes the same change between this one's reading and writing."""

    @pytest.fixture
    def before_commit(self, monkeypatch):
        """Function that sets what is done before the next commit of values, once."""
        commit, waiting = State.commit, []

        def first(state, *given):
            if waiting:
                waiting.pop()()
            commit(state, *given)

        monkeypatch.setattr(State, "commit", first)
        return waiting.append

    @pytest.mark.parametrize("given", ["codebook", "recipe"])
    def test_both_make_one_collection(self, home, tmp_path, before_commit, given):
        path = tmp_path / "both.lance"
        options = {"codebook": home / "words.npz"} if given == "codebook" else RECIPE
        before_commit(lambda: Collection.create(path, **options).close())
        with Collection.create(path, **options) as collection:
            assert collection.recipe.n_clusters == 8
            assert collection.index.describer.is_given == (given == "codebook")
            assert collection.add(home / "images").indexed == 12
            assert collection.check() == []

    def test_by_another_recipe_or_codebook(self, home, tmp_path, before_commit):
        path = tmp_path / "both.lance"
        before_commit(lambda: Collection.create(path, **RECIPE | {"n_clusters": 4}).close())
        with pytest.raises(RecipeMismatchError, match="n_clusters=4, asked for is 8"):
            Collection.create(path, **RECIPE)
        other = Collection.learn(tmp_path / "other.npz", home / "images", **RECIPE | {"seed": 1})
        assert other.clusters == 8
        path = tmp_path / "words.lance"
        before_commit(lambda: Collection.create(path, codebook=tmp_path / "other.npz").close())
        with pytest.raises(RecipeMismatchError, match="has another codebook"):
            Collection.create(path, codebook=home / "words.npz")

    def test_both_add_one_folder(self, own, home, tmp_path, before_commit):
        """Which the other marks as its own, on another machine."""
        folder = tmp_path / "more"
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), textured(120, 90, seed=99))

        def other():
            with open_store(own) as store, store.writing():
                store.add_source(str(folder), str(folder), "another mark")

        before_commit(other)
        with Collection.open(own) as collection:
            assert collection.add(folder).indexed == 1
            assert len(collection.info()["sources"]) == 2
            assert collection.check() == []

    def test_verdicts_of_both_are_kept(self, own, home, before_commit):
        def pair(a, b):
            with Collection.open(own) as collection:
                images = [home / "images" / f"{i:02}.png" for i in (a, b)]
                return collection.tell_apart(*images)

        before_commit(lambda: pair(0, 1))
        assert pair(2, 3) == 1
        with open_store(own) as store:
            assert len(store.about()["told_apart"]) == 2

    def test_an_index_that_both_make_again(self, many, before_commit):
        rng = np.random.default_rng(1)
        vector_nD = rng.standard_normal((1300, 16))
        vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
        put(many, vector_nD.astype(np.float16), begin=5000)

        def other():
            with open_store(many.path) as store, store.writing():
                store.set_about(ann=store.about()["ann"] | {"n": 2500, "recall": 0.99})

        before_commit(other)
        many.freshen(16, seed=0)
        assert (many.ann().report.n, many.ann().report.recall) == (2500, 0.99)

    def test_always(self, small, monkeypatch):
        monkeypatch.setattr(state, "_TRIES", 3)
        tried = []

        def change():
            tried.append(1)
            raise ConflictError("others")

        with pytest.raises(ConflictError, match="others"):
            retried(change)
        assert len(tried) == 3


def writer(path, begin, end):
    """A process that writes records, ten in a commit."""
    command = [sys.executable, TESTS / "writing.py", path, str(begin), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class TestSeveralWriters:
    def test_two_at_once_make_one_collection_and_lose_nothing(self, tmp_path):
        """From nothing: they make it, and images that both have, at the same time."""
        path = tmp_path / "both.lance"
        writers = [writer(path, begin, begin + 100) for begin in (0, 50)]
        said = [w.communicate() for w in writers]
        assert [text for _, text in said] == ["", ""]
        with open_store(path) as store:
            store.layout = LAYOUT
            assert store.count() == (150, 0)
            assert [row.path for row in store.images()] == [f"{i:04}.png" for i in range(150)]
            assert check_store(store) == []
            assert len(store.sources()) == 1

    def test_a_kill_loses_nothing_that_was_acknowledged(self, tmp_path):
        path = tmp_path / "killed.lance"
        with writer(path, 0, 100_000) as process:
            told = [process.stdout.readline() for _ in range(3)]
            process.kill()
            told += process.stdout.readlines()
        acknowledged = max(int(line) for line in told if line.endswith("\n"))
        with open_store(path) as store:
            store.layout = LAYOUT
            assert store.count()[0] in (acknowledged, acknowledged + 10)
            assert check_store(store) == []
            write(path, 0, acknowledged + 50)
            assert store.count() == (acknowledged + 50, 0)
            assert check_store(store) == []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A collection of 1,200 vectors in 60 groups with an index, and its report."""
    rng = np.random.default_rng(0)
    vector_nD = np.repeat(rng.standard_normal((60, 16)), 20, axis=0)
    vector_nD += 0.2 * rng.standard_normal(vector_nD.shape)
    vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("many") / "many.lance"
    with create_store(path, recipe={}) as store:
        store.layout = LAYOUT
        put(store, vector_nD.astype(np.float16))
        return path, store.build_ann(16, seed=0)


@pytest.fixture
def many(made, tmp_path):
    """A copy of it, open."""
    with open_store(shutil.copytree(made[0], tmp_path / "many.lance")) as store:
        store.layout = LAYOUT
        yield store


def put(store, vector_nD, begin=0):
    with store.writing():
        source_id = store.add_source("/nowhere", "nowhere").source_id
        store.put([record(source_id, begin + i, vector_D=v) for i, v in enumerate(vector_nD)])


class TestApproximate:
    def test_recall_is_measured_and_scores_are_exact(self, many, made):
        report = made[1]
        assert report.n == 1200
        assert report.recall > 0.97
        ids, vector_nD = many.all_vectors()
        index = many.ann()
        assert index.report == report
        query_qD = vector_nD[:40].astype(np.float32)
        id_qn, score_qn = index.search(query_qD, 20)
        exact_qn = query_qD @ vector_nD.astype(np.float32).T
        best_qn = np.argsort(-exact_qn, axis=1)[:, :20]
        shared = [len(set(a) & set(ids[b].tolist())) for a, b in zip(id_qn, best_qn, strict=True)]
        assert np.mean(shared) > 19
        np.testing.assert_allclose(score_qn[:, 0], exact_qn.max(axis=1), atol=1e-3)
        assert (ids[best_qn[:, 0]] == id_qn[:, 0]).mean() > 0.9
        some = id_qn[0].tolist()
        read = many.vectors(some)
        assert list(read) == some
        place = {image_id: i for i, image_id in enumerate(ids.tolist())}
        assert all((read[i] == vector_nD[place[i]]).all() for i in some)

    def test_what_is_added_is_found_at_once_and_taken_in(self, many):
        rng = np.random.default_rng(1)
        new_nD = rng.standard_normal((100, 16)).astype(np.float32)
        new_nD /= np.linalg.norm(new_nD, axis=1, keepdims=True)
        put(many, new_nD.astype(np.float16), begin=5000)

        def found():
            (source_id,) = many.sources()
            id_qn, _ = many.ann().search(new_nD, 1)
            return id_qn[:, 0].tolist() == [
                rows.image_key(source_id, f"{i:04}.png") for i in range(5000, 5100)
            ]

        assert many.n_indexed() == 1200
        assert found()
        many.freshen(16, seed=0)
        assert many.n_indexed() == 1300
        assert found()
        with many.writing():
            many.delete(many.ann().search(new_nD[:1], 1)[0][0].tolist())
        assert not found()

    @pytest.mark.slow  # 10 s on a busy machine, as the next
    def test_is_made_again_when_there_are_twice_as_many(self, many):
        _, vector_nD = many.all_vectors()
        put(many, vector_nD, begin=5000)
        many.freshen(16, seed=0)
        assert many.ann().report.n == many.n_indexed() == 2400

    def test_a_collection_searches_by_it(self, own, home, monkeypatch):
        monkeypatch.setattr(ann, "LEAST", 12)
        query = home / "images" / "03.png"
        with Collection.open(own) as collection:
            exact = collection.search(query, 3)
            report = collection.build_ann()
            assert (report.n, report.n_dimensions) == (12, collection.n_dimensions)
            assert collection.info()["approximate"]
            assert [h.path for h in collection.search(query, 3)] == [h.path for h in exact]
            collection.remove("03.png")
            collection.add(home / "images")
            assert [h.score for h in collection.search(query, 3)] == [h.score for h in exact]

    def test_too_few(self, small):
        with pytest.raises(InputError, match="10 vectors of 16 dimensions: an index is made of"):
            small.build_ann(16, seed=0)
        assert small.ann() is None


@pytest.fixture(scope="module")
def bucket():
    """Address of an empty bucket of an S3 server on this machine."""
    server = pytest.importorskip("moto.server", reason="an S3 server for tests (moto[server])")
    boto3 = pytest.importorskip("boto3", reason="a client of S3 (moto[server])")
    with pytest.MonkeyPatch.context() as patch:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        s3 = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        s3.start()
        host, port = s3.get_host_and_port()
        for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL"):
            patch.setenv(name, f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "us-east-1")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        boto3.client("s3").create_bucket(Bucket="photos")
        yield "s3://photos"
        s3.stop()


@pytest.mark.slow
class TestS3:
    def test_a_collection_is_as_on_disk(self, bucket, home):
        address = f"{bucket}/all/c.lance"
        with Collection.create(address, codebook=home / "words.npz") as collection:
            assert str(collection.path) == address
            assert collection.add(home / "images").indexed == 12
        query = str(home / "images" / "03.png")
        with Collection.open(address, read_only=True) as s3, Collection.open(home / "c.lance") as c:
            assert rows_of(s3) == rows_of(c)
            found = [[(h.path, h.score, h.inliers) for h in each.search(query)] for each in (s3, c)]
            assert found[0] == found[1]
            assert s3.check() == []
            assert s3.info()["file"] == address
            assert s3.stamp() != c.stamp()

    @pytest.mark.slow
    def test_two_writers(self, bucket):
        address = f"{bucket}/both.lance"
        writers = [writer(address, begin, begin + 30) for begin in (0, 10)]
        assert [w.communicate()[1] for w in writers] == ["", ""]
        with open_store(address) as store:
            store.layout = LAYOUT
            assert [row.path for row in store.images()] == [f"{i:04}.png" for i in range(40)]
            assert check_store(store) == []

    def test_a_shard_of_one_that_is_there_needs_no_codebook(self, bucket, home):
        address, words = f"{bucket}/shards.lance", ["--codebook", home / "words.npz"]
        index = ["index", home / "images", "-o", address]
        done = run(*index, "--shard", "1/2", code=2)
        assert "a shard needs the codebook of all shards" in done.stderr
        run(*index, "--shard", "1/2", *words)
        run(*index, "--shard", "2/2")
        with open_store(address) as store:
            assert store.count() == (12, 1)

    def test_what_is_not_there(self, bucket):
        with pytest.raises(FileFormatError, match=r"s3://photos/no\.lance does not exist"):
            open_store(f"{bucket}/no.lance")
        with pytest.raises(
            StorageError, match=r"cannot create s3://no/c\.lance: there is no such b"
        ):
            create_store("s3://no/c.lance", recipe={})


def test_a_panic_of_lance_is_an_error_of_its_collection():
    """Rust's panics are no `Exception`; an interrupt passes."""

    class PanicException(BaseException):
        pass

    damaged = "c.lance is damaged, Lance gave up on it: index out"
    with pytest.raises(FileFormatError, match=damaged), translated(Path("c.lance"), "read"):
        raise PanicException("index out of bounds\nmore")
    with pytest.raises(KeyboardInterrupt), translated(Path("c.lance"), "read"):
        raise KeyboardInterrupt


def test_a_place_of_an_unknown_kind_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("gcs://bucket/x.lance", "S3://bucket/x.lance", "memory://x.lance", "memory://x"):
        with pytest.raises(ParameterError, match="is no kind of place that vladkit knows"):
            Collection.create(name)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_changes_while_another_learns_is_an_error(home, tmp_path):
    """What was learned by one recipe is not used with features of another."""
    first = Collection.create(tmp_path / "x.lance", n_clusters=8, enlarge_to=0)
    second = Collection.create(tmp_path / "x.lance", max_side=320, n_clusters=4, enlarge_to=0)
    second.add([home / "images"])
    with pytest.raises(RecipeMismatchError, match="another process has changed the recipe"):
        first.add([home / "images"])
    with Collection.open(tmp_path / "x.lance") as collection:
        assert (collection.recipe.max_side, len(collection)) == (320, 12)
        assert collection.check() == []


def test_folders_elsewhere_are_a_persons_own(tmp_path):
    for name in ("own.vlad", "own.lance"):
        with create_store(tmp_path / name, recipe={}) as store:
            with store.writing():
                store.add_source("s3://photos/a", "s3://photos/a")
            assert store.own_folders() == ["s3://photos/a"]
