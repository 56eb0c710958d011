"""The collection's file: others' files, other versions, readers beside writers, full disks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import cv2
import numpy as np
import pytest

from images import textured
from photos import photo
from rights import as_nobody, open_to_all
from small import make
from vladkit import Collection
from vladkit.collection.searching import Searcher
from vladkit.errors import (
    DamageWarning,
    FileFormatError,
    StorageError,
)
from vladkit.evaluation.benchmark import ground_truth
from vladkit.store import schema


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

        def meanwhile(self, *query):
            result = scores(self, *query)
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

    def test_a_vector_that_is_no_number(self, tmp_path, small):
        """It ranks last itself, and nothing else does because of it."""
        shutil.copy(small / "0.png", small / "copy.png")
        cv2.imwrite(str(small / "coffee.png"), photo("coffee"))
        cv2.imwrite(str(small / "coffee.jpg"), photo("coffee"))
        make(tmp_path / "c", small)
        before = pairs_and_duplicates(tmp_path / "c")
        with closing(sqlite3.connect(tmp_path / "c")) as connection, connection:
            ((data,),) = connection.execute("SELECT data FROM block")
            (n,) = connection.execute("SELECT count(*) FROM picture WHERE block_id").fetchone()
            vector_nD = np.frombuffer(data, "<f2").reshape(n, -1).copy()
            vector_nD[1] = np.nan
            connection.execute("UPDATE block SET data = ?", (vector_nD.tobytes(),))
        with pytest.warns(DamageWarning, match="1 of its vectors"):
            after = pairs_and_duplicates(tmp_path / "c")
        damaged = "1.png"
        assert after[0] == {pair: s for pair, s in before[0].items() if damaged not in pair} | {
            pair: -1.0 for pair in after[0] if damaged in pair
        }
        assert after[1] == before[1] == {("coffee.jpg", "coffee.png"), ("0.png", "copy.png")}

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


def pairs_and_duplicates(path):
    """Similarity of each pair of images, and the pairs that are copies."""
    with Collection.open(path) as collection:
        pairs = {tuple(sorted((p.first, p.second))): p.similarity for p in collection.pairs(9)}
        copies = {
            tuple(sorted((group.path, other.path)))
            for group in collection.duplicates()
            for other in group.others
        }
    return pairs, copies
