"""COLMAP's database is read exactly, beside writers, and refused by name."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest

import sources
from sources import same_geometry
from vladkit.errors import (
    FileFormatError,
    ImageError,
    StorageError,
)
from vladkit.features import Sift
from vladkit.features.readers import open_reader


class TestColmap:
    @pytest.mark.parametrize("cols", [4, 6])
    @pytest.mark.parametrize("typed", [0, None])
    def test_reads_what_was_written(self, images, tmp_path, cols, typed):
        sources.write_colmap(tmp_path / "d.db", images, cols=cols, typed=typed)
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            held = reader.info()
            assert (held.features, held.dimensions, held.compare) == ("colmap:sift", 128, "unit")
            assert held.directions
            assert held.sizes
            assert reader.names() == sorted(images)
            for name, features in images.items():
                read = reader.read(name)
                np.testing.assert_array_equal(read.descriptor_lf, sources.rooted(features))
                same_geometry(read, features)

    def test_an_affine_shape_has_the_mean_of_its_scales(self, images, tmp_path):
        name, features = next(iter(images.items()))
        sources.write_colmap(tmp_path / "d.db", {name: features}, cols=6)
        shape = np.array([[10, 20, 0, -2, 8, 0]], "<f4")  # x axis to y, four times as long
        with closing(sqlite3.connect(tmp_path / "d.db")) as connection, connection:
            data = np.repeat(shape, len(features), axis=0).tobytes()
            connection.execute("UPDATE keypoints SET data = ?", (data,))
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            read = reader.read(name)
        assert read.size_l[0] == 2 * (8 + 2) / 2  # a diameter; COLMAP's scale of x is 8, of y 2
        assert read.angle_l[0] == 90

    def test_places_alone(self, images, tmp_path):
        sources.write_colmap(tmp_path / "d.db", images, cols=2)
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            assert not reader.info().directions
            read = reader.read(reader.names()[0])
        assert (read.size_l == 1).all()
        assert (read.angle_l == 0).all()

    def test_aliked(self, images, tmp_path):
        sources.write_colmap(tmp_path / "d.db", images, cols=2, typed=1)
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            assert reader.info().features == "colmap:aliked-n16rot"
            assert reader.info().dimensions == 128
            for name, features in images.items():
                read = reader.read(name)
                np.testing.assert_array_equal(
                    read.descriptor_lf, Sift().metric(features.descriptor_lf)
                )

    def test_nothing_is_written(self, images, tmp_path):
        path = tmp_path / "d.db"
        sources.write_colmap(path, images)
        before = path.read_bytes(), sorted(os.listdir(tmp_path))
        with open_reader(f"colmap:{path}") as reader:
            reader.read(reader.names()[0])
            assert sorted(os.listdir(tmp_path)) == before[1] == ["d.db"]
        assert (path.read_bytes(), sorted(os.listdir(tmp_path))) == before

    def test_beside_a_writer_one_state_is_seen(self, images, tmp_path):
        path = tmp_path / "d.db"
        some = dict(list(images.items())[:3])
        sources.write_colmap(path, some)
        with closing(sqlite3.connect(path)) as writer:
            writer.execute("DELETE FROM keypoints WHERE image_id = 3")
            writer.commit()  # in the -wal
            with open_reader(f"colmap:{path}") as reader:
                assert reader.names() == sorted(some)
                rest = {name: f for name, f in images.items() if name not in some}
                sources.add_to_colmap(writer, rest)
                writer.execute("DELETE FROM descriptors WHERE image_id IN (1, 2)")
                writer.commit()
                assert reader.names() == sorted(some)
                assert len(reader.read(next(iter(some)))) == 300
                with pytest.raises(ImageError, match="no keypoints"):
                    reader.read(list(some)[2])
            with open_reader(f"colmap:{path}") as reader:
                assert reader.names() == sorted(images)
        assert len(list(tmp_path.iterdir())) == 1  # the writer takes its own -wal away

    def test_a_writer_that_comes_later_is_noticed(self, images, tmp_path):
        path = tmp_path / "d.db"
        sources.write_colmap(path, images)
        with open_reader(f"colmap:{path}") as reader:
            reader.read(reader.names()[0])
            with closing(sqlite3.connect(path)) as writer, writer:
                writer.execute("DELETE FROM images WHERE image_id = 1")
            with pytest.raises(StorageError, match="changed while it was read"):
                reader.read(reader.names()[0])

    def test_locked(self, images, tmp_path, monkeypatch):
        path = tmp_path / "d.db"
        sources.write_colmap(path, images)
        monkeypatch.setattr("vladkit.features.readers.colmap._BUSY_SECONDS", 0.1)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("PRAGMA journal_mode = DELETE")
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("DELETE FROM images")
            with pytest.raises(StorageError, match="another process has been writing"):
                open_reader(f"colmap:{path}")

    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            ("UPDATE descriptors SET data = substr(data, 1, 1000) WHERE image_id = 1", "damaged"),
            ("UPDATE keypoints SET data = NULL WHERE image_id = 1", "damaged"),
            ("UPDATE keypoints SET rows = 1, data = substr(data, 1, 16) WHERE image_id = 1", "300"),
            ("UPDATE keypoints SET cols = 5 WHERE image_id = 1", "damaged"),
            ("UPDATE descriptors SET rows = 0 WHERE image_id = 1", "no features"),
            ("DELETE FROM descriptors WHERE image_id = 1", "no features"),
            ("DELETE FROM keypoints WHERE image_id = 1", "no keypoints"),
            ("UPDATE descriptors SET type = 2 WHERE image_id = 1", "aliked-n32"),
        ],
    )
    def test_bad_images(self, images, tmp_path, statement, reason):
        path = tmp_path / "d.db"
        sources.write_colmap(path, images)
        with open_reader(f"colmap:{path}") as reader:
            before = reader.status(next(iter(images)))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
        with open_reader(f"colmap:{path}") as reader:
            with pytest.raises(ImageError, match=reason):
                reader.read(next(iter(images)))
            assert reader.status(next(iter(images))) != before
            assert len(reader.read(list(images)[1])) == 300

    def test_nan(self, images, tmp_path):
        path = tmp_path / "d.db"
        sources.write_colmap(path, images)
        with closing(sqlite3.connect(path)) as connection, connection:
            (data,) = connection.execute("SELECT data FROM keypoints WHERE image_id = 1").fetchone()
            data = struct.pack("<f", float("nan")) + data[4:]
            connection.execute("UPDATE keypoints SET data = ? WHERE image_id = 1", (data,))
        with (
            open_reader(f"colmap:{path}") as reader,
            pytest.raises(ImageError, match="keypoints of 1 of 300 features hold NaN"),
        ):
            reader.read(next(iter(images)))

    def test_other_files(self, images, tmp_path):
        with pytest.raises(StorageError, match="no such file"):
            open_reader(f"colmap:{tmp_path / 'none.db'}")
        (tmp_path / "text").write_text("a" * 200)
        with pytest.raises(FileFormatError, match="not SQLite"):
            open_reader(f"colmap:{tmp_path / 'text'}")
        with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
            connection.execute("CREATE TABLE images (image_id, name)")
        with pytest.raises(FileFormatError, match="not a COLMAP database"):
            open_reader(f"colmap:{tmp_path / 'other.db'}")
        sources.write_colmap(tmp_path / "d.db", {})
        with pytest.raises(FileFormatError, match="feature_extractor"):
            open_reader(f"colmap:{tmp_path / 'd.db'}")
        sources.write_colmap(tmp_path / "cut.db", images)
        raw = (tmp_path / "cut.db").read_bytes()
        (tmp_path / "cut.db").write_bytes(raw[: len(raw) // 2])
        with pytest.raises(FileFormatError, match="damaged"):
            open_reader(f"colmap:{tmp_path / 'cut.db'}")
        with pytest.raises(StorageError, match="directory"):
            open_reader(f"colmap:{tmp_path}")
