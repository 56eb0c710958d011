"""A file that several processes write, read and fail to write: nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from paths import TESTS
from stored import everything
from vladkit import Collection
from vladkit.errors import FileFormatError, StorageError
from vladkit.features.pool import extract
from vladkit.store import database


class TestFeatures:
    def test_the_strongest_are_kept(self, ready):
        file, folder = ready
        with Collection.open(file, read_only=True) as collection:
            rows = list(collection.images())
            kept = collection.index.store.features([row.image_id for row in rows])
            for row in rows:
                features = extract(collection.extractor, str(folder / row.path)).strongest(50)
                assert len(features) == 50
                mine = kept[row.image_id]
                np.testing.assert_array_equal(mine.descriptor_lf, features.descriptor_lf)
                np.testing.assert_array_equal(mine.geometry_l5[:, :2], features.xy_l2)
                np.testing.assert_array_equal(mine.geometry_l5[:, 2], features.size_l)
                np.testing.assert_array_equal(mine.geometry_l5[:, 3], features.angle_l)
                np.testing.assert_array_equal(mine.geometry_l5[:, 4], features.score_l)

    def test_none_if_not_wanted_and_gone_with_the_image(self, ready, own, tmp_path):
        with Collection.create(
            tmp_path / "none", n_clusters=8, keep_features=0, enlarge_to=0
        ) as collection:
            collection.add([ready[1]])
            assert collection.index.store.features(range(1, 20)) == {}
        with Collection.open(own) as collection:
            collection.remove(["03.png"])
            assert set(collection.index.store.features(range(1, 20))) == {1, 2, 3, *range(5, 13)}


class TestCommands:
    def test_add_and_remove(self, own, ready, tmp_path):
        cv2.imwrite(str(tmp_path / "new.png"), textured(120, 90, seed=99))
        done = run("add", own, tmp_path / "new.png")
        assert "13 images; 1 indexed" in done.stderr
        done = run("remove", own, tmp_path / "new.png", "03.png", "--json")
        assert json.loads(done.stdout) == {"file": str(own), "removed": 2, "images": 11}
        done = run("remove", own, "03.png", code=2)
        assert "not in" in done.stderr
        assert "03.png" in done.stderr
        run("add", tmp_path / "nothing", ready[1], code=1)
        assert not (tmp_path / "nothing").exists()


CHANGES = {
    "add": lambda c, folder: c.add([folder]),
    "remove": lambda c, folder: c.remove(["00.png"]),
    "compact": lambda c, folder: c.compact(),
    "whiten": lambda c, folder: c.whiten(4),
    "augment": lambda c, folder: c.augment(2),
    "repair": lambda c, folder: c.check(repair=True),
}


class TestNothingIsLost:
    @pytest.mark.parametrize("change", CHANGES)
    def test_the_second_writer_waits_and_is_told(self, own, tmp_path, monkeypatch, change):
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
        cv2.imwrite(str(tmp_path / "new.png"), textured(100, 90, seed=77))
        before = everything(own)
        with closing(sqlite3.connect(own, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with (
                Collection.open(own) as collection,
                pytest.raises(StorageError, match=r"another process has been writing .* try again"),
            ):
                CHANGES[change](collection, tmp_path)
            assert everything(own) == before  # reading goes on meanwhile
            other.execute("ROLLBACK")

    @pytest.mark.parametrize("change", [c for c in CHANGES if c != "repair"])
    def test_a_file_that_may_not_grow(self, own, tmp_path, change):
        """A quota, as far as SQLite can tell: writing fails half-way."""
        resource = pytest.importorskip("resource", reason="limits of POSIX")
        cv2.imwrite(str(tmp_path / "new.png"), textured(300, 200, seed=77))
        before = everything(own)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with Collection.open(own) as collection:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
                with pytest.raises(StorageError, match=re.escape(str(own))):
                    CHANGES[change](collection, tmp_path)
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                assert collection.check() == []
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert everything(own) == before

    @pytest.mark.parametrize("change", [c for c in CHANGES if c != "repair"])
    def test_a_collection_opened_for_reading_cannot_be_changed(self, own, tmp_path, change):
        cv2.imwrite(str(tmp_path / "new.png"), textured(100, 90, seed=77))
        before = own.read_bytes()
        with (
            Collection.open(own, read_only=True) as collection,
            pytest.raises(StorageError, match="may not be written"),
        ):
            CHANGES[change](collection, tmp_path)
        assert own.read_bytes() == before

    @pytest.mark.skipif(os.name == "nt", reason="an open file is not moved there")
    @pytest.mark.parametrize("other", ["none", "another", "its copy"])
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_file_that_is_at_another_place_now(self, own, ready, tmp_path, change, other):
        """What was written after that was said to be kept, and was in no file."""
        cv2.imwrite(str(tmp_path / "new.png"), textured(100, 90, seed=77))
        away = tmp_path / "away"
        with Collection.open(own) as collection:
            collection.remove(["05.png"])  # is in the -wal
            own.rename(away)
            if other == "another":
                own.write_bytes(b"")
            elif other == "its copy":
                shutil.copy(ready[0], own)
            reason = (
                "was moved or removed .* put it back" if other == "none" else "another file was"
            )
            with pytest.raises(StorageError, match=reason):
                CHANGES[change](collection, tmp_path)
            assert len(collection) == 11  # it can be read
            if other == "none":
                with pytest.raises(StorageError, match=r"cannot read .*: No such file"):
                    collection.info()
        away.replace(own)
        with Collection.open(own) as collection:
            assert len(collection) == 11
            assert collection.check() == []

    @pytest.mark.parametrize("beside", ["-journal", "-wal", "-shm"])
    def test_what_lies_beside_is_a_file(self, own, tmp_path, beside):
        """SQLite waited for ever for a FIFO."""
        for path in (own, tmp_path / "new.vlad"):
            Path(f"{path}{beside}").symlink_to(os.devnull)
            with pytest.raises(FileFormatError, match=f"{beside} is no regular file: remove it"):
                Collection.create(path)
            with pytest.raises(FileFormatError, match=f"{beside} is no regular file: remove it"):
                Collection.open(path)
        assert not path.exists()

    @pytest.mark.slow  # a minute
    def test_faults(self):
        """A few rounds of benchmarks/faults.py, which does fifty."""
        script = TESTS.parent / "benchmarks" / "faults.py"
        done = subprocess.run(
            [sys.executable, script, "--kills", "6", "--images", "60", "--seed", "1"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "vectors as if nothing had happened" in done.stdout
