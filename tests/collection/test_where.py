"""Searches of a folder, a time or a place: what a full ranking holds of it, in that order."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import sys
from contextlib import closing

import numpy as np
import pytest
from PIL import Image as PilImage

from commands import run
from images import textured
from small import make
from stored import sql
from vladkit import Collection, Where
from vladkit.collection import searching
from vladkit.collection.where import NamedWhere, Near
from vladkit.errors import FileFormatError, MissingDependencyError, ParameterError
from vladkit.images import Photo
from vladkit.store.ann import AnnIndex
from vladkit.store.paths import ids_below
from vladkit.store.photos import photos, put_photos, unread

N = 24
"""Images: every third has no date, every fourth no position; half of them are in each folder."""


def photo_exif(i):
    exif = PilImage.Exif()
    if i % 3:
        exif.get_ifd(34665)[36867] = f"{2000 + i}:06:01 12:00:00"
    if i % 4:
        place = {1: "N", 2: (40 + i, 0, 0), 3: "E", 4: (10, 0, 0)}
        exif.get_ifd(34853).update(place)
    return exif


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("where")
    for i in range(N):
        folder = root / "photos" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = PilImage.fromarray(textured(96, 96, seed=i // 2))  # pairs look alike
        image.save(folder / f"{i:02}.jpg", quality=95 - i % 2, exif=photo_exif(i))
    make(root / "c.vlad", root / "photos")
    return root


@pytest.fixture
def collection(made):
    with Collection.open(made / "c.vlad", read_only=True) as opened:
        yield opened


def numbers(hits):
    return [int(hit.path[-6:-4]) for hit in hits]


def km(one, other):
    """Great-circle distance by vectors, another formula than that of the package."""
    x = [
        (math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a))
        for a, b in (map(math.radians, each) for each in (one, other))
    ]
    cross, dot = np.cross(*x), np.dot(*x)
    return 6371.0088 * math.atan2(np.linalg.norm(cross), dot)


FILTERS = {
    "under": (Where(under="a"), lambda i: i % 2 == 0),
    "after": (Where(after="2010"), lambda i: i % 3 and i >= 10),
    "before": (Where(before="2010-06-01"), lambda i: i % 3 and i < 10),
    "to the second": (Where(before="2010-06-01 12:00:01"), lambda i: i % 3 and i <= 10),
    "near": (Where(near=(50, 10, 300)), lambda i: i % 4 and abs(i - 10) * 111.195 < 300),
    "all": (
        Where(under="b", after="2003", before="2020-01", near="52,10.0,1000"),
        lambda i: i % 2 and i % 3 and i % 4 and 3 <= i < 20 and abs(i - 12) < 9,
    ),
    "none": (Where(after="2100"), lambda i: False),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("way", ["read one by one", "scanned", "dense", "all ranked"])
def test_is_what_a_full_ranking_has(made, collection, name, way, monkeypatch):
    monkeypatch.setattr(searching, "_FEW", 2000 if way == "read one by one" else -1)
    if way == "dense":
        monkeypatch.setattr("vladkit.collection.allowed._SPARSE", 0)
    where, is_inside = FILTERS[name]
    query, top = made / "photos" / "a" / "04.jpg", 0 if way == "all ranked" else 5
    everything = collection.search(query, 0, rerank=0)
    wanted = [hit for hit in everything if is_inside(int(hit.path[-6:-4]))]
    found = collection.search(query, top, rerank=0, where=where)
    assert [(h.path, h.score) for h in found] == [(h.path, h.score) for h in wanted[: top or None]]
    matched = collection.search(query, top, where=where, expand=2)
    assert set(numbers(matched)) <= set(filter(is_inside, range(N)))


def test_approximate_search(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
        folder = tmp_path / "photos"
        folder.mkdir()
        for i in range(80):
            image = PilImage.fromarray(textured(64, 64, seed=i))
            image.save(folder / f"{i:02}.jpg")
        collection.add([folder])
        with collection.index.store.writing():
            rows = collection.images()
            dated = [(row.image_id, Photo(f"20{row.path[:2]}-01-01 00:00:00")) for row in rows]
            put_photos(collection.index.store, dated)
        queries = [folder / f"{i:02}.jpg" for i in rng.integers(0, 80, 5)]
        where = Where(after="2020", before="2060")
        exact = [collection.search(query, 5, rerank=0, where=where) for query in queries]
        collection.build_ann()
        monkeypatch.setattr(searching, "_FEW", 0)
        asked, search = [], AnnIndex.search

        def counted(self, query_qD, n, allowed_n):
            asked.append(len(allowed_n))
            return search(self, query_qD, n, allowed_n)

        monkeypatch.setattr(AnnIndex, "search", counted)
        found = [collection.search(query, 5, rerank=0, where=where) for query in queries]
    assert asked == [40] * 5
    assert [[h.path for h in hits] for hits in found] == [[h.path for h in hits] for hits in exact]


@pytest.mark.parametrize(
    "place", [(0, 0), (48.2, 16.4), (-17.8, 179.9), (89.5, 10), (-90, 0), (10, -180)]
)
@pytest.mark.parametrize("radius", [1, 120, 3000, 15000, 30000])
def test_distance_on_the_globe(tmp_path, place, radius):
    """Over the date line, and around the poles."""
    rng = np.random.default_rng(0)
    near_n2 = np.column_stack([place[0] + rng.normal(0, 1, 200), place[1] + rng.normal(0, 3, 200)])
    far_n2 = np.column_stack(
        [np.degrees(np.arcsin(rng.uniform(-1, 1, 200))), rng.uniform(-180, 180, 200)]
    )
    position_n2 = np.concatenate([near_n2, far_n2])
    position_n2[:, 0] = np.clip(position_n2[:, 0], -90, 90)
    position_n2[:, 1] = (position_n2[:, 1] + 180) % 360 - 180
    with Collection.create(tmp_path / "c") as collection:
        connection = collection.index.store.connection
        connection.execute("PRAGMA foreign_keys = OFF")
        with collection.index.store.writing():
            rows = [(i, Photo(None, *map(float, each))) for i, each in enumerate(position_n2)]
            put_photos(collection.index.store, rows)
        found = Near(*place, radius).ids(collection.index.store)
    assert found.tolist() == [i for i, each in enumerate(position_n2) if km(place, each) <= radius]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"after": "yesterday"}, "after='yesterday': give a date as text, such as 2024"),
        ({"before": "2024-13"}, "before='2024-13': give a date"),
        ({"before": "2024-02-30"}, "before='2024-02-30': give a date"),
        ({"after": "24"}, "after='24': give a date"),
        ({"near": "48.2,16.4"}, "near='48.2,16.4': give LAT,LON,KM"),
        ({"near": "48,2,16,4,5"}, "give LAT,LON,KM"),
        ({"near": "91,0,5"}, "near=91,0,5: give a latitude of -90 to 90"),
        ({"near": "nan,0,5"}, "give a latitude"),
        ({"near": (0, 181, 5)}, "give a latitude"),
        ({"near": (0, 0, 0)}, "a radius in km, more than 0"),
        ({"near": (0, 0, math.inf)}, "a radius in km, more than 0"),
        ({"near": (48.2, 16.4)}, r"near=\(48.2, 16.4\): give LAT,LON,KM"),
        ({"near": ("a", None, 5)}, "near='a',None,5: give a latitude"),
        ({"near": 5}, "near=5: give LAT,LON,KM"),
        ({"after": 2024}, "after=2024: give a date as text"),
        ({"under": ["a"]}, r"under=\['a'\]: give the path of a folder"),
        ({"under": ""}, "under='': give the path of a folder"),
    ],
)
def test_values_that_are_none(values, reason):
    with pytest.raises(ParameterError, match=reason):
        Where(**values)


def test_folder_that_is_not_there(collection, made):
    for under in ("nowhere", "a\0b", "\udcff", b"\xff"):  # the last two are no text
        with pytest.raises(ParameterError, match=r"^under=.*not in .*: give paths .* disk$"):
            collection.search(made / "photos" / "a" / "04.jpg", where=Where(under=under))


@pytest.mark.parametrize("given", ["a", "a/", "photos/a", "photos", ".", "b/05.jpg"])
def test_folders_as_remove_takes_them(collection, made, given, monkeypatch):
    monkeypatch.chdir(made)
    for each in (given, made / given):
        try:
            wanted = sorted(ids_below(collection.index.store, [each]))
        except ParameterError:  # no such file: the path of an image is within the source
            continue
        assert Where(under=each).ids(collection.index.store).tolist() == wanted


def test_a_name_alone_asks_nothing_of_the_disk(collection, made, tmp_path, monkeypatch):
    store = collection.index.store
    (tmp_path / "link").symlink_to(made / "photos")
    monkeypatch.chdir(made)
    wanted = {each: Where(under=each).ids(store).tolist() for each in ("a", "b/05.jpg", "photos")}
    link = tmp_path / "link" / "a"
    assert Where(under=link).ids(store).tolist() == wanted["a"]
    monkeypatch.setattr("vladkit.store.paths.real", None)
    named = {"a": "a", "a/": "a", "b/05.jpg": "b/05.jpg", made / "photos": "photos"}
    named[f"{made}/photos/b/../a"] = "a"
    for given, each in named.items():
        assert NamedWhere(under=given).ids(store).tolist() == wanted[each]
    for given in ("photos", "photos/a", ".", "..", "../", "./a", "Ä/a", link, made / "nowhere"):
        with pytest.raises(ParameterError, match=r"^under=.*not in "):
            NamedWhere(under=given).ids(store)
    assert NamedWhere(under="a")
    assert not NamedWhere()


def test_one_folder_is_meant(tmp_path, made, monkeypatch):
    """A folder that is beside stands before others of its name; of two sources neither is."""
    for folder in ("p/trips", "p/2024/trips", "q/trips"):
        shutil.copytree(made / "photos" / "a", tmp_path / folder)
    make(tmp_path / "c.vlad", tmp_path / "p")
    with Collection.open(tmp_path / "c.vlad") as collection:
        store = collection.index.store

        def paths(under):
            rows = store.images_by_id(Where(under=under).ids(store).tolist())
            return {os.path.dirname(row.path) for row in rows.values()}

        monkeypatch.chdir(tmp_path / "p" / "2024")
        assert paths("trips") == {"2024/trips"}
        monkeypatch.chdir(tmp_path)
        assert paths("trips") == {"trips"}
        collection.add([tmp_path / "q"])
        with pytest.raises(ParameterError, match="trips is in several folders: give one of"):
            paths("trips")
        assert paths("p/trips") == {"trips"}
        monkeypatch.chdir(tmp_path / "q")
        assert len(Where(under="trips").ids(store)) == len(list((tmp_path / "q/trips").iterdir()))


def test_nothing_limits_nothing():
    assert not Where()
    assert Where(after="2024").as_json() == {"after": "2024-01-01 00:00:00"}


class TestOlderFiles:
    @pytest.fixture
    def older(self, made, tmp_path):
        shutil.copytree(made / "photos", tmp_path / "photos")
        path = tmp_path / "c.vlad"
        make(path, tmp_path / "photos")
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TABLE photo")
        return path

    def test_open_and_know_nothing(self, older):
        with Collection.open(older, read_only=True) as collection:
            query = older.parent / "photos" / "a" / "04.jpg"
            assert len(collection.search(query, 3)) == 3
            assert collection.search(query, where=Where(after="2001")) == []
            assert collection.photo(1) == Photo()
            assert collection.check() == []
            assert Where(after="2001").unknown(collection.index.store) == {"without_date": N}

    def test_are_filled_by_the_next_index(self, older, monkeypatch):
        broken = older.parent / "photos" / "b" / "01.jpg"
        data = broken.read_bytes()
        broken.unlink()
        with Collection.open(older) as collection:
            assert collection.add([older.parent / "photos"]).indexed == 0
            assert len(unread(collection.index.store)) == 1  # whose file is gone
            stamp = collection.index.store.stamp()
            broken.write_bytes(data)
            collection.add([older.parent / "photos"])
            assert unread(collection.index.store) in (set(), {2})
            assert collection.index.store.stamp()[:33] == stamp[:33]
            where = Where(after="2000")
            n = len(collection.search(broken, 0, where=where))
            with collection.index.store.writing():
                dated = next(r.image_id for r in collection.images() if r.path == "a/08.jpg")
                put_photos(collection.index.store, [(dated, Photo())])
            assert len(collection.search(broken, 0, where=where)) == n - 1  # nothing is stale
            row = collection.images()
            found = {r.path: collection.photo(r.image_id).taken for r in row}
        assert found["a/04.jpg"] == "2004-06-01 12:00:00"
        assert found["a/06.jpg"] is None


class TestCommand:
    def test_json(self, made):
        words = ("search", made / "c.vlad", made / "photos/a/04.jpg", "--after", "2004", "--json")
        said = json.loads(run(*words, "--near", "44,10,5").stdout)
        assert said["results"] == []
        assert said["where"] == {
            "after": "2004-01-01 00:00:00",
            "near": [44.0, 10.0, 5.0],
            "without_date": 8,
            "without_position": 6,
        }
        said = json.loads(run(*words, "--near", "45,10,5").stdout)
        (result,) = said["results"]
        assert (result["path"], result["latitude"], result["taken"]) == (
            "b/05.jpg", 45.0, "2005-06-01 12:00:00",
        )  # fmt: skip

    def test_note(self, made):
        words = ("search", made / "c.vlad", made / "photos/a/04.jpg")
        assert "left out" not in run(*words, "--under", "a").stderr
        said = run(*words, "--after", "2004", "--near", "45,10,5").stderr
        assert "note: 8 images without a date, left out\n" in said
        assert "note: 6 images without a position, left out\n" in said

    def test_wrong_values(self, made):
        words = ("search", made / "c.vlad", made / "photos/a/04.jpg")
        assert "give LAT,LON,KM" in run(*words, "--near", "here", code=2).stderr
        assert "give a date" in run(*words, "--after", "May", code=2).stderr

    def test_info(self, made):
        said = json.loads(run("info", made / "c.vlad", "--images", "--json").stdout)
        row = next(each for each in said["indexed_images"] if each["path"] == "b/05.jpg")
        assert (row["taken"], row["latitude"], row["longitude"]) == ("2005-06-01 12:00:00", 45, 10)


@pytest.mark.parametrize("change", ["latitude = 9e999", "camera = hex(zeroblob(99))", "taken = ''"])
def test_values_that_no_exif_has(made, tmp_path, change):
    """A file may be anybody's: infinity ends in no JSON that a browser reads."""
    shutil.copy(made / "c.vlad", tmp_path / "c.vlad")
    sql(tmp_path / "c.vlad", f"UPDATE photo SET {change} WHERE picture_id = 3")
    with Collection.open(tmp_path / "c.vlad") as collection:
        with pytest.raises(FileFormatError, match=r"the EXIF of image 3: run vladkit check"):
            collection.photo(3)
        assert len(collection.check(repair=True)) == 1
        assert collection.photo(3) == Photo()
        assert collection.check() == []


def test_check_finds_and_drops_what_has_changed(made, tmp_path):
    path = tmp_path / "c.vlad"
    shutil.copy(made / "c.vlad", path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE photo SET taken = '1999-01-01 00:00:00' WHERE picture_id = 3")
    with Collection.open(path) as collection:
        (finding,) = collection.check()
        assert "its date and place has changed" in finding.text
        collection.check(repair=True)
        assert collection.check() == []
        assert collection.photo(3) == Photo()


def test_merged_shards_keep_it(made, tmp_path):
    """Also where one of them was made before there were dates."""
    shards = [tmp_path / "1", tmp_path / "2"]
    with Collection.open(made / "c.vlad") as collection:
        for shard in shards:
            collection.copy(shard)
    with closing(sqlite3.connect(shards[0])) as db:
        db.execute("DROP TABLE photo")
    with Collection.open(shards[0]) as one, Collection.open(shards[1]) as other:
        one.remove([made / "photos" / "b"])
        other.remove([made / "photos" / "a"])
    Collection.merge(tmp_path / "all", shards)
    with Collection.open(tmp_path / "all") as collection:
        dated = {r.path for r in collection.images() if collection.photo(r.image_id).taken}
        assert collection.check() == []
    assert len(dated) == N // 3
    assert all(path.startswith("b/") for path in dated)


def test_columns_of_a_table(collection, tmp_path):
    """Every fact, typed, beside its vector; null where there is none."""
    pandas = pytest.importorskip("pandas")
    collection.export(tmp_path / "out.parquet")
    table = pandas.read_parquet(tmp_path / "out.parquet").set_index("path").sort_index()
    assert len(table) == N
    ids, vector_nD = collection.vectors()
    path_of = {row.image_id: row.path for row in collection.images()}
    vector_of = {path_of[i]: v for i, v in zip(ids.tolist(), vector_nD, strict=True)}
    for path, row in table.iterrows():
        i = int(path[-6:-4])
        wanted = pandas.Timestamp(2000 + i, 6, 1, 12) if i % 3 else pandas.NaT
        assert row["taken"] is wanted or row["taken"] == wanted
        if i % 4:
            assert (row["latitude"], row["longitude"]) == (40 + i, 10)
        else:
            assert math.isnan(row["latitude"])
            assert math.isnan(row["longitude"])
        assert (row["width"], row["height"], pandas.isna(row["camera"])) == (96, 96, True)
        np.testing.assert_array_equal(row["vector"], vector_of[path].astype(np.float32))


def test_a_day_that_does_not_exist_is_null_in_a_table(made, tmp_path):
    pandas = pytest.importorskip("pandas")
    shutil.copy(made / "c.vlad", tmp_path / "c.vlad")
    with Collection.open(tmp_path / "c.vlad") as opened:
        undated = photos(opened._store, [1])[1].taken is None
        with opened._store.writing():
            put_photos(opened._store, [(1, Photo(taken="2024-02-31 00:00:00", camera="é"))])
        opened.export(tmp_path / "out.parquet")
    table = pandas.read_parquet(tmp_path / "out.parquet")
    assert table["taken"].isna().sum() == N // 3 + (not undated)
    assert (table["camera"] == "é").sum() == 1


def test_a_table_wants_pyarrow(collection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[parquet\]'"):
        collection.export(tmp_path / "out.parquet")
