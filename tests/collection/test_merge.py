"""Files of shards, merged, are the file that one process writes: row for row, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import cv2
import pytest

from commands import run
from images import textured
from stored import sql, tables
from vladkit import Collection
from vladkit.collection import train
from vladkit.collection.sample import in_shard
from vladkit.errors import FileFormatError, RecipeMismatchError, StorageError
from vladkit.store.schema import CHECKED, TABLES
from vladkit.store.store import Store

RECIPE = {"n_clusters": 8, "enlarge_to": 0, "max_features": 300, "n_words": 64}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folders a, b and c of 23 images, one damaged; a codebook; one.vlad of all, by one process."""
    home = tmp_path_factory.mktemp("merge")
    for i in range(21):
        folder = home / ("a" if i % 3 else "b") / ("more" if i % 5 == 0 else "")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{i:02}.png"), textured(80, 60, seed=i))
    (home / "a" / "broken.png").write_bytes(b"no image")
    (home / "c").mkdir()  # of one image, in the first shard of two and of three
    name = next(n for n in map(str, range(99)) if in_shard(f"{n}.png", 0, (1, 6)))
    cv2.imwrite(str(home / "c" / f"{name}.png"), textured(80, 60, seed=99))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_SHORT_FROM", 10)  # so that vectors are short
        learned = Collection.learn(home / "words.npz", folders(home), **RECIPE)
    assert (learned.images, learned.dimensions) == (22, 7)
    assert [path for path, _ in learned.skipped] == ["broken.png"]
    index(home, home / "one.vlad")
    for n in (2, 3):
        for i in range(1, n + 1):
            index(home, home / f"{i}of{n}.vlad", shard=(i, n), n_jobs=i)
    return home


def folders(home):
    return [home / "b", home / "c", home / "a"]


def index(home, path, sources=None, **options):
    with Collection.create(path, codebook=home / "words.npz") as collection:
        return collection.add(sources or folders(home), **options)


def shards(home, n):
    return [home / f"{i}of{n}.vlad" for i in range(1, n + 1)]


@pytest.mark.parametrize("n", [2, 3])
def test_merged_shards_are_equal_to_one_process(home, n):
    one = tables(home / "one.vlad")
    assert all(0 < len(tables(shard)["picture"]) < len(one["picture"]) for shard in shards(home, n))
    path = home / f"all{n}.vlad"  # beside it: a folder's place relative to the file is stored
    report = Collection.merge(path, reversed(shards(home, n)))
    assert (report.files, report.images, report.skipped, report.twice) == (n, 22, 1, 0)
    merged = tables(path)
    for name in merged:
        assert merged[name] == one[name], name
    with Collection.open(path) as collection:
        assert collection.check() == []
        assert collection.search(home / "a" / "01.png", 1)[0].path == "01.png"
        again = collection.add(folders(home))
        assert (again.indexed, again.unchanged) == (0, 22)


def test_blocks_are_filled_as_one_process_fills_them(home, tmp_path, monkeypatch):
    """Also where a file has several blocks, and batches do not end where blocks do."""
    monkeypatch.setattr("vladkit.store.blocks.BLOCK_BYTES", 7 * 2 * 4)
    monkeypatch.setattr("vladkit.store.merge._BATCH", 3)
    index(home, tmp_path / "one.vlad")
    for i in (1, 2):
        index(home, tmp_path / f"{i}.vlad", shard=(i, 2))
    Collection.merge(tmp_path / "all.vlad", [tmp_path / "1.vlad", tmp_path / "2.vlad"])
    assert len(tables(tmp_path / "one.vlad")["block"]) == 6
    assert tables(tmp_path / "all.vlad") == tables(tmp_path / "one.vlad")


def test_whole_vectors_and_sums(home, tmp_path):
    words = tmp_path / "words.npz"
    Collection.learn(words, home / "b", keep_sums=True, n_words=0, n_clusters=8, enlarge_to=0)
    for name, shard in (("one", None), ("1", (1, 2)), ("2", (2, 2))):
        with Collection.create(tmp_path / name, codebook=words) as collection:
            collection.add(home / "b", shard=shard)
            assert (collection.n_dimensions, collection.index.describer.asmk) == (512, None)
    Collection.merge(tmp_path / "all", [tmp_path / "2", tmp_path / "1"])
    merged = tables(tmp_path / "all")
    assert merged == tables(tmp_path / "one")
    assert (len(merged["aggregate"]), len(merged["code"])) == (7, 0)


def test_an_image_that_two_files_have_is_kept_once_as_it_is_now(home, tmp_path):
    """By source and path, or by the file where sources lie in each other."""
    photos = shutil.copytree(home / "b", tmp_path / "b")
    index(home, tmp_path / "1", [photos])
    changed = photos / "03.png"
    cv2.imwrite(str(changed), textured(90, 60, seed=99))
    os.utime(changed, ns=(2**62, 2**62))
    index(home, tmp_path / "2", [photos / "more", changed])
    twice = len(list((photos / "more").iterdir())) + 1
    for name, order in (("all", "12"), ("reversed", "21")):
        report = Collection.merge(tmp_path / name, [tmp_path / i for i in order])
        assert (report.images, report.twice) == (len(list(photos.rglob("*.png"))), twice)
        with Collection.open(tmp_path / name) as collection:
            assert collection.check() == []
            (row,) = [each for each in collection.images() if each.file == str(changed)]
            assert (row.width, row.mtime_ns) == (90, 2**62)


def test_an_empty_shard(home, tmp_path):
    one = home / "a" / "01.png"
    reports = [index(home, tmp_path / str(i), [one], shard=(i, 2)) for i in (1, 2)]
    assert sorted(report.indexed for report in reports) == [0, 1]
    assert Collection.merge(tmp_path / "all", [tmp_path / "1", tmp_path / "2"]).images == 1


def test_an_empty_shard_of_given_vectors(tmp_path):
    """Which is ready without an image; it may be the first."""
    h5py = pytest.importorskip("h5py", reason="the extra `hloc`")
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file.create_dataset("a.png/global_descriptor", data=[3.0, 4.0])
    for name, sources in (("1", []), ("2", [f"hloc:{tmp_path / 'g.h5'}"])):
        recipe = {"features": "hloc-global", "dimensions": 2}
        with Collection.create(tmp_path / name, **recipe) as collection:
            if sources:
                collection.add(sources)
    for shards in ("12", "21"):
        merged = Collection.merge(tmp_path / f"all{shards}", [tmp_path / each for each in shards])
        assert merged.images == 1


class TestRefused:
    def test_another_recipe(self, home, tmp_path):
        words = tmp_path / "words.npz"
        Collection.learn(words, home / "b", **RECIPE | {"n_clusters": 4})
        with Collection.create(tmp_path / "c", codebook=words) as collection:
            collection.add(home / "b")
        with pytest.raises(RecipeMismatchError, match=r"/c was made with n_clusters=4, .* with 8"):
            Collection.merge(tmp_path / "all", [home / "one.vlad", tmp_path / "c"])
        assert not (tmp_path / "all").exists()

    def test_another_codebook(self, home, tmp_path):
        with Collection.create(tmp_path / "c", **RECIPE) as collection:
            collection.add(home / "b")
        with pytest.raises(RecipeMismatchError, match=r"/c has another codebook than .*one\.vlad"):
            Collection.merge(tmp_path / "all", [home / "one.vlad", tmp_path / "c"])

    def test_no_collection_and_a_target_that_is_there(self, home, tmp_path):
        with pytest.raises(FileFormatError, match=r"words\.npz is not a vladkit collection"):
            Collection.merge(tmp_path / "all", [home / "one.vlad", home / "words.npz"])
        with pytest.raises(StorageError, match="is there already"):
            Collection.merge(home / "one.vlad", shards(home, 2))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("table", ["about", "array", *list(TABLES)[2:-1]])
    def test_a_damaged_row(self, home, tmp_path, table):
        damaged = shutil.copy(home / "2of2.vlad", tmp_path / "damaged")
        column = CHECKED[table].split(", ")[-1]
        change = {"about": "' ' || value", "picture": "1 - transient", "source": "mark || 'x'"}
        value = change.get(table, f"CAST({column} || x'00' AS BLOB)")
        if table in ("array", "block"):  # of the same size
            value = f"CAST(x'00' || substr({column}, 2) AS BLOB)"
        last = f"rowid = (SELECT max(rowid) FROM {table})"
        sql(damaged, f"UPDATE {table} SET {column} = {value} WHERE {last}", sealed=False)
        with pytest.raises(FileFormatError, match=f"{damaged} is damaged"):
            Collection.merge(tmp_path / "all", [home / "1of2.vlad", damaged])
        assert [path.name for path in tmp_path.iterdir()] == ["damaged"]

    def test_a_vector_that_is_not_there(self, home, tmp_path):
        damaged = shutil.copy(home / "2of2.vlad", tmp_path / "damaged")
        sql(damaged, "DELETE FROM block")
        with pytest.raises(FileFormatError, match=r"damaged is damaged: \S+\.png has no vector"):
            Collection.merge(tmp_path / "all", [home / "1of2.vlad", damaged])


KILLED = """
import os, signal, sys
from vladkit import Collection

def kill(step, done, total):
    os.kill(os.getpid(), signal.SIGKILL)

Collection.merge(sys.argv[1], sys.argv[2:], progress=kill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_kill_leaves_no_file(home):
    path = home / "killed.vlad"
    command = [sys.executable, "-c", KILLED, path, *shards(home, 2)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not path.exists()
    Collection.merge(path, shards(home, 2))
    assert tables(path) == tables(home / "one.vlad")


def test_by_the_command(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("merge", "all.vlad", *shards(home, 2))
    done = run("merge", "twice.vlad", home / "1of2.vlad", "all.vlad")
    n = len(tables(home / "1of2.vlad")["picture"])
    assert "22 images and 1 skipped, of 2 files in" in done.stderr
    assert f"s, {n} rows of images that others have left out" in done.stderr
    report = json.loads(run("merge", "json.vlad", *shards(home, 2), "--json").stdout)
    assert (report["images"], report["files"], report["twice"]) == (22, 2, 0)
    assert "there already" in run("merge", "all.vlad", "json.vlad", code=1).stderr


def test_what_sqlite_left_of_a_removed_file_is_not_taken_for_the_new_ones(home, tmp_path):
    """`rm; merge`, as a Makefile has it, after a kill or under a server: the -wal is another's."""
    target = tmp_path / "m.vlad"
    shutil.copy(home / "one.vlad", target)
    with Collection.open(target) as collection:
        collection.remove(["01.png", "02.png"])
        left = (tmp_path / "m.vlad-wal").read_bytes()
        shm = (tmp_path / "m.vlad-shm").read_bytes()
    assert len(left) > 1000
    for make in (
        lambda: Collection.merge(target, shards(home, 2)),
        lambda: copy_to(target, home / "one.vlad"),
    ):
        target.unlink()
        (tmp_path / "m.vlad-wal").write_bytes(left)
        (tmp_path / "m.vlad-shm").write_bytes(shm)
        make()
        with Collection.open(target) as collection:
            assert (len(collection), collection.check()) == (22, [])


def test_shards_that_have_moved_with_their_images(home, tmp_path, monkeypatch):
    """Folders count where they are now, whether a shard has been added to since or not."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(home / "a", first / "a")
    for name in ("1.vlad", "2.vlad"):
        index(home, first / name, [first / "a"])
    os.rename(first, second)
    with Collection.open(second / "1.vlad") as collection:
        collection.add(second / "a")
        n = len(collection)
    elsewhere = tmp_path / "elsewhere.vlad"
    shutil.copy(second / "2.vlad", elsewhere)  # by itself it does not find them
    for shards in (("1.vlad", "2.vlad"), ("2.vlad",), ("2.vlad", elsewhere), (elsewhere, "1.vlad")):
        out = tmp_path / "out.vlad"
        files = [second / each for each in shards]
        Collection.merge(out, files)
        with Collection.open(out) as collection:
            if shards != (elsewhere, "1.vlad"):
                assert len(collection) == n
                assert [s["root"] for s in collection.info()["sources"]] == [str(second / "a")]
                assert all(os.path.exists(row.file) for row in collection.images())
            assert collection.check() == []
        out.unlink()


def test_verdicts_of_all_files_stay(home, tmp_path):
    files = shards(home, 2)
    for i, file in enumerate(files):
        files[i] = shutil.copy(file, tmp_path)
        with Collection.open(files[i]) as collection:
            some = [row.path for row in collection.images()][:2]
            assert collection.tell_apart(*some) == 1
    Collection.merge(tmp_path / "m.vlad", files)
    with Collection.open(tmp_path / "m.vlad") as collection:
        assert len(collection.index.store.about()["told_apart"]) == 2


def copy_to(target, path):
    with Store.open(path) as store:
        store.copy(target)
