"""COLMAP's database is read exactly, beside writers, and refused by name."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing, suppress

import numpy as np
import pytest

import sources
from photos import photo
from sources import same_geometry
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.errors import (
    FileFormatError,
    ImageError,
    StorageError,
    VladkitError,
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

    @pytest.mark.parametrize("table", ["images", "keypoints", "descriptors"])
    def test_endless_views_are_refused(self, images, tmp_path, table):
        sources.write_colmap(tmp_path / "d.db", images)
        with closing(sqlite3.connect(tmp_path / "d.db")) as connection, connection:
            connection.execute(f"ALTER TABLE {table} RENAME TO real")
            connection.execute(
                f"CREATE VIEW {table} AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
                "FROM r) SELECT real.* FROM r CROSS JOIN real"
            )
        with pytest.raises(FileFormatError, match=f"its table {table} is a view"):
            open_reader(f"colmap:{tmp_path / 'd.db'}")

    @pytest.mark.parametrize(
        ("typed", "name"),
        [(1, "aliked-n16rot"), (2, "aliked-n32"), (3, "loma-b"), (4, "loma-b128")],
    )
    def test_types_of_networks(self, images, tmp_path, typed, name):
        sources.write_colmap(tmp_path / "d.db", images, cols=2, typed=typed)
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            held = reader.info()
            assert (held.features, held.dimensions, held.compare) == (f"colmap:{name}", 128, "unit")
            for name, features in images.items():
                read = reader.read(name)
                np.testing.assert_array_equal(
                    read.descriptor_lf, Sift().metric(features.descriptor_lf)
                )

    def test_every_type_that_the_installed_colmap_writes(self, tmp_path):
        pycolmap = pytest.importorskip("pycolmap", reason="the test extra has it")
        for name, kind in pycolmap.FeatureExtractorType.__members__.items():
            is_sift = name == "SIFT"
            local_lf = np.arange(384).reshape(3, 128).astype(np.uint8 if is_sift else "f4")
            path = tmp_path / f"{name}.db"
            database = pycolmap.Database.open(str(path))
            camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=9, height=7, params=[9, 4, 3])
            camera_id = database.write_camera(camera)
            image_id = database.write_image(pycolmap.Image(name="a.jpg", camera_id=camera_id))
            database.write_keypoints(image_id, np.ones((3, 4), np.float32))
            rows = pycolmap.FeatureDescriptors(type=kind, data=local_lf.view(np.uint8))
            database.write_descriptors(image_id, rows)
            database.close()
            if int(kind) < 0:
                with pytest.raises(FileFormatError, match="type -1, and the known types are 0"):
                    open_reader(f"colmap:{path}")
                continue
            with open_reader(f"colmap:{path}") as reader:
                assert reader.info().features == f"colmap:{name.lower().replace('_', '-')}"
                np.testing.assert_array_equal(reader.read("a.jpg").descriptor_lf, local_lf)

    @pytest.mark.parametrize("typed", [0, None])
    def test_other_descriptors_under_the_name_of_sift(self, images, tmp_path, typed):
        sources.write_colmap(tmp_path / "d.db", images, typed=typed)
        with closing(sqlite3.connect(tmp_path / "d.db")) as connection, connection:
            connection.execute(
                "UPDATE descriptors SET cols = 64, data = substr(data, 1, 64 * rows)"
            )
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            assert (reader.info().features, reader.info().dimensions) == ("colmap", 64)
        recipe, _ = recipe_for(f"colmap:{tmp_path / 'd.db'}", n_clusters=4)
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add(f"colmap:{tmp_path / 'd.db'}")
            assert collection.search(reader.names()[0], 1)[0].path == reader.names()[0]
            with pytest.raises(ImageError, match="would have to be made by COLMAP"):
                collection.search(photo("coffee"))

    @pytest.mark.parametrize("kind", ["7", "-1", "'SIFT'", "NULL"])
    def test_an_unknown_type_is_named(self, images, tmp_path, kind):
        sources.write_colmap(tmp_path / "d.db", images)
        with closing(sqlite3.connect(tmp_path / "d.db")) as connection, connection:
            rows = "SELECT image_id, 0 AS type, rows, cols, data FROM descriptors"
            connection.execute(f"CREATE TABLE other AS {rows}")
            connection.execute("DROP TABLE descriptors")
            connection.execute("ALTER TABLE other RENAME TO descriptors")
            connection.execute(f"UPDATE descriptors SET type = {kind}")
        with pytest.raises(FileFormatError, match=r"known types are 0 \(sift\), .*newer vladkit"):
            open_reader(f"colmap:{tmp_path / 'd.db'}")

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

    @pytest.mark.parametrize("value", ["NULL", "'x'", "-1"])
    def test_values_of_any_type_are_read_or_named(self, images, tmp_path, value):
        """SQLite holds any value in any column, where a script made the tables."""
        path = tmp_path / "d.db"
        sources.write_colmap(path, dict(list(images.items())[:2]))
        plain = {
            "images": "image_id INTEGER PRIMARY KEY, name, camera_id",
            "cameras": "camera_id, model, width, height, params, prior_focal_length",
            "keypoints": "image_id, rows, cols, data",
            "descriptors": "image_id, type, rows, cols, data",
        }
        with closing(sqlite3.connect(path)) as connection, connection:
            for table, columns in plain.items():
                connection.execute(f"CREATE TABLE plain_{table} ({columns})")
                names = columns.replace("INTEGER PRIMARY KEY", "")
                connection.execute(f"INSERT INTO plain_{table} SELECT {names} FROM {table}")
                connection.execute(f"DROP TABLE {table}")
                connection.execute(f"ALTER TABLE plain_{table} RENAME TO {table}")
        raw = path.read_bytes()
        for table, columns in plain.items():
            for column in columns.replace("image_id INTEGER PRIMARY KEY, ", "").split(", ")[1:]:
                for where in ("", "WHERE rowid = 1"):
                    path.write_bytes(raw)
                    with closing(sqlite3.connect(path)) as connection, connection:
                        connection.execute("PRAGMA journal_mode = OFF")
                        connection.execute("PRAGMA synchronous = OFF")
                        connection.execute(f"UPDATE {table} SET {column} = {value} {where}")
                    with suppress(VladkitError), open_reader(f"colmap:{path}") as reader:
                        for name in reader.names():
                            reader.status(name)
                            with suppress(VladkitError):
                                reader.read(name)
                        assert reader.info().dimensions > 0

    def test_no_keypoints_at_all(self, images, tmp_path):
        path = tmp_path / "d.db"
        sources.write_colmap(path, images)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM keypoints")
        with (
            open_reader(f"colmap:{path}") as reader,
            pytest.raises(FileFormatError, match="no image with both"),
        ):
            reader.info()

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
