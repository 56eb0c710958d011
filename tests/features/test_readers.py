"""Features of other programs: read exactly, in bounded memory, and refused by name."""

from __future__ import annotations

import os
import pickle
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

import sources
from vladkit import VLAD
from vladkit.errors import (
    FileFormatError,
    ImageError,
    MissingDependencyError,
    ParameterError,
    StorageError,
)
from vladkit.features import Sift
from vladkit.features.readers import is_source, map_vecs, open_reader, read_anyloc_centroids

h5py = pytest.importorskip("h5py", reason="the test extra has it")
pa = pytest.importorskip("pyarrow", reason="the test extra has it")


@pytest.fixture(scope="module")
def images():
    return sources.sift_of_photos(6)


def same_geometry(read, features, atol=2e-3):
    np.testing.assert_allclose(read.xy_l2, features.xy_l2, atol=atol)
    np.testing.assert_allclose(read.size_l, features.size_l, rtol=1e-5)
    turn_l = (read.angle_l - features.angle_l + 180) % 360 - 180
    assert np.abs(turn_l).max() < 0.01
    assert (read.width, read.height) == (features.width, features.height)


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

    def test_an_affine_shape_has_the_size_of_a_circle_of_its_area(self, images, tmp_path):
        name, features = next(iter(images.items()))
        sources.write_colmap(tmp_path / "d.db", {name: features}, cols=6)
        shape = np.array([[10, 20, 0, -2, 8, 0]], "<f4")  # x axis to y, four times as long
        with closing(sqlite3.connect(tmp_path / "d.db")) as connection, connection:
            data = np.repeat(shape, len(features), axis=0).tobytes()
            connection.execute("UPDATE keypoints SET data = ?", (data,))
        with open_reader(f"colmap:{tmp_path / 'd.db'}") as reader:
            read = reader.read(name)
        assert read.size_l[0] == 8
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


class TestHloc:
    @pytest.mark.parametrize("dtype", ["f2", "f4"])
    def test_reads_back_bit_for_bit(self, images, tmp_path, dtype):
        sources.write_hloc(tmp_path / "f.h5", images, dtype)
        with (
            open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader,
            h5py.File(tmp_path / "f.h5") as file,
        ):
            held = reader.info()
            assert (held.dimensions, held.directions, held.sizes) == (128, False, False)
            assert reader.names() == sorted(images)
            for name, features in images.items():
                read = reader.read(name)
                assert read.descriptor_lf.dtype == dtype
                assert read.descriptor_lf.flags.c_contiguous
                np.testing.assert_array_equal(read.descriptor_lf, file[name]["descriptors"][()].T)
                np.testing.assert_array_equal(read.xy_l2, file[name]["keypoints"][()])
                np.testing.assert_array_equal(read.score_l, file[name]["scores"][()])
                assert (read.width, read.height) == (features.width, features.height)

    def test_directions_and_sizes(self, images, tmp_path):
        name, features = next(iter(images.items()))
        parts = {"scales": features.size_l, "oris": features.angle_l - 180}
        sources.write_hloc(tmp_path / "f.h5", {name: features}, "f4", **parts)
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert reader.info().directions
            read = reader.read(name)
        np.testing.assert_allclose(read.angle_l, (features.angle_l + 180) % 360, atol=1e-3)
        np.testing.assert_array_equal(read.size_l, features.size_l)

    def bad(self, name, file):
        group = file[name]
        if name == "truncated":
            return
        for part in ("descriptors", "keypoints", "scores"):
            data = group[part][()]
            del group[part]
            if name == "nan" and part == "descriptors":
                data[3, :2] = np.nan
            if name == "dimension" and part == "descriptors":
                data = data[:64]
            if name == "turned" and part == "descriptors":
                data = data.T
            if name == "none":
                data = data[:, :0] if part == "descriptors" else data[:0]
            if name == "fewer" and part == "keypoints":
                data = data[:-1]
            if name == "missing" and part == "descriptors":
                continue
            if name == "flat" and part == "descriptors":
                data = data.ravel()
            group.create_dataset(part, data=data)
        if name == "size":
            group["image_size"][:] = 0

    def test_bad_images_by_name(self, images, tmp_path):
        features = next(iter(images.values()))
        reasons = {
            "nan": "descriptors of 2 of 300 features hold NaN",
            "turned": "shape \\(300, 128\\)",
            "none": "no features",
            "fewer": "keypoints of shape \\(299, 2\\)",
            "missing": "no descriptors, but keypoints",
            "flat": "wanted \\(D, N\\)",
            "size": "image_size",
        }
        sources.write_hloc(
            tmp_path / "f.h5", dict.fromkeys([*reasons, "dimension", "a", "b/c/d.jpg"], features)
        )
        with h5py.File(tmp_path / "f.h5", "a") as file:
            for name in [*reasons, "dimension"]:
                self.bad(name, file)
            for name in ("empty", "b/empty"):
                file.create_group(name)
                reasons[name] = "has no descriptors, but nothing"
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            for name, reason in reasons.items():
                with pytest.raises(ImageError, match=reason):
                    reader.read(name)
                reader.status(name)
            assert reader.read("dimension").descriptor_lf.shape == (300, 64)  # `accept` refuses
            assert len(reader.read("a")) == 300
            assert set(reader.names()) == {*reasons, "dimension", "a", "b/c/d.jpg"}

    def test_other_files(self, images, tmp_path):
        (tmp_path / "empty.h5").touch()
        (tmp_path / "text.h5").write_text("no" * 1000)
        sources.write_hloc(tmp_path / "cut.h5", images)
        raw = (tmp_path / "cut.h5").read_bytes()
        (tmp_path / "cut.h5").write_bytes(raw[: len(raw) // 2])
        with h5py.File(tmp_path / "global.h5", "w") as file:
            file.create_dataset("a.jpg/global_descriptor", data=np.ones(8))
        with h5py.File(tmp_path / "flat.h5", "w") as file:
            file.create_dataset("descriptors", data=np.ones((8, 8)))
        with h5py.File(tmp_path / "nothing.h5", "w"):
            pass
        for name, reason in {
            "empty": "empty",
            "text": "not an HDF5 file",
            "cut": "truncated",
            "global": "global descriptors",
            "flat": "no group for each image",
            "nothing": "holds no descriptors",
        }.items():
            with pytest.raises(FileFormatError, match=reason):
                open_reader(f"hloc:{tmp_path / name}.h5")
        with pytest.raises(FileFormatError, match="folder"):
            open_reader(f"hloc:{tmp_path}")

    def test_another_program_writes(self, images, tmp_path):
        sources.write_hloc(tmp_path / "f.h5", images)
        code = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "f.h5"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as writer:
            writer.stdout.readline()
            with pytest.raises(StorageError, match="another program has it open for writing"):
                open_reader(f"hloc:{tmp_path / 'f.h5'}")
            writer.communicate(b"\n")

    def test_without_the_library(self, tmp_path, monkeypatch):
        (tmp_path / "f").touch()
        for kind, module in {"hloc": "h5py", "parquet": "pyarrow"}.items():
            monkeypatch.setitem(sys.modules, module, None)
            with pytest.raises(MissingDependencyError, match=rf"vladkit\[{kind}\]"):
                open_reader(f"{kind}:{tmp_path / 'f'}")


def stacked(images):
    local_Nf = np.concatenate([f.descriptor_lf for f in images.values()])
    return local_Nf, np.cumsum([0, *map(len, images.values())])


class TestArrays:
    def check(self, reader, images, names=None):
        names = dict(zip(names or images, images.values(), strict=True))
        assert reader.names() == sorted(names)
        for name, features in names.items():
            np.testing.assert_array_equal(reader.read(name).descriptor_lf, features.descriptor_lf)
            assert reader.status(name) == reader.status(name)
        statuses = {reader.status(name) for name in names}
        assert len(statuses) == len(names)

    @pytest.mark.parametrize("end", [".lengths", ".offsets", ".lengths.npy", ".offsets.npy"])
    def test_npy_with_rows_beside(self, images, tmp_path, end):
        local_Nf, start_T = stacked(images)
        np.save(tmp_path / "a.npy", local_Nf)
        numbers = np.diff(start_T) if "lengths" in end else start_T
        if end.endswith(".npy"):
            np.save(tmp_path / f"a.npy{end}", numbers)
        else:
            np.savetxt(tmp_path / f"a.npy{end}", numbers, "%d")
        with open_reader(f"npz:{tmp_path / 'a.npy'}") as reader:
            self.check(reader, images, list("012345"))
            assert not reader.info().places
        (tmp_path / "a.npy.names").write_text("\n".join(images))
        with open_reader(f"npz:{tmp_path / 'a.npy'}") as reader:
            self.check(reader, images)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_stacked_npz(self, images, tmp_path, save):
        local_Nf, start_T = stacked(images)
        xy_N2 = np.concatenate([f.xy_l2 for f in images.values()])
        names = np.array(list(images))
        save(
            tmp_path / "a.npz", names=names, descriptors=local_Nf, offsets=start_T, keypoints=xy_N2
        )
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            self.check(reader, images)
            assert reader.info().places
            for name, features in images.items():
                np.testing.assert_array_equal(reader.read(name).xy_l2, features.xy_l2)

    def test_fortran_order(self, images, tmp_path):
        local_Nf, start_T = stacked(images)
        np.savez(tmp_path / "a.npz", descriptors=np.asfortranarray(local_Nf), offsets=start_T)
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            self.check(reader, images, list("012345"))

    def test_an_array_for_each_name(self, images, tmp_path):
        arrays = {name: f.descriptor_lf for name, f in images.items()}
        np.savez(tmp_path / "a.npz", **arrays)
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            self.check(reader, images)

    def test_folder(self, images, tmp_path):
        for name, features in images.items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            np.savez(
                file.with_suffix(".npz"),
                descriptors=features.descriptor_lf,
                keypoints=features.xy_l2,
                sizes=features.size_l,
                angles=features.angle_l,
                scores=features.score_l,
                image_size=[features.width, features.height],
            )
        np.save(tmp_path / "z.npy", np.ones((5, 128)))
        stems = [name.removesuffix(".jpg") for name in images]
        with open_reader(f"npz:{tmp_path}") as reader:
            assert reader.names() == sorted([*stems, "z"])
            held = reader.info()
            assert held.directions
            assert held.image_sizes
            for name, features in zip(stems, images.values(), strict=True):
                read = reader.read(name)
                np.testing.assert_array_equal(read.descriptor_lf, features.descriptor_lf)
                same_geometry(read, features, atol=0)

    def test_code_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "pwned"),)

        np.save(tmp_path / "a.npy", np.array([Evil()], object), allow_pickle=True)
        np.savez(tmp_path / "b.npz", descriptors=np.array([Evil()], object), offsets=[0, 1])
        (tmp_path / "c.npy").write_bytes(pickle.dumps(Evil()))
        for name in ("a.npy", "b.npz", "c.npy"):
            with pytest.raises(FileFormatError):
                open_reader(f"npz:{tmp_path / name}")
        with pytest.raises(FileFormatError, match="not a plain array file"):
            open_reader(f"npz:{tmp_path}").info()
        assert not (tmp_path / "pwned").exists()

    def test_bad_offsets(self, tmp_path):
        np.save(tmp_path / "a.npy", np.ones((10, 4)))
        with pytest.raises(FileFormatError, match=r"put .*a.npy.lengths"):
            open_reader(f"npz:{tmp_path / 'a.npy'}")
        for text, reason in {
            "3\n4": "says 7 rows in all, there are 10",
            "12\n-2": "rows in all",
            "x": "one number per line",
        }.items():
            (tmp_path / "a.npy.lengths").write_text(text)
            with pytest.raises(FileFormatError, match=reason):
                open_reader(f"npz:{tmp_path / 'a.npy'}")
        (tmp_path / "a.npy.lengths").write_text("3\n7")
        (tmp_path / "a.npy.names").write_text("a\na")
        with pytest.raises(FileFormatError, match="'a' is empty or occurs twice"):
            open_reader(f"npz:{tmp_path / 'a.npy'}")
        (tmp_path / "a.npy.names").write_text("a")
        with pytest.raises(FileFormatError, match="1 names for 2 images"):
            open_reader(f"npz:{tmp_path / 'a.npy'}")
        np.savez(tmp_path / "b.npz", descriptors=np.ones((10, 4)))
        with pytest.raises(FileFormatError, match="neither offsets"):
            open_reader(f"npz:{tmp_path / 'b.npz'}")
        (tmp_path / "c.npz").write_text("text")
        with pytest.raises(FileFormatError, match=r"not a \.npz"):
            open_reader(f"npz:{tmp_path / 'c.npz'}")

    def test_nan_and_emptiness_are_of_a_image(self, tmp_path):
        local_Nf = np.ones((10, 4), np.float32)
        local_Nf[4, 1] = np.inf
        np.savez(tmp_path / "b.npz", descriptors=local_Nf, lengths=[3, 0, 7])
        with open_reader(f"npz:{tmp_path / 'b.npz'}") as reader:
            assert len(reader.read("0")) == 3
            with pytest.raises(ImageError, match="no features"):
                reader.read("1")
            with pytest.raises(ImageError, match="1 of 7 features hold NaN or infinity"):
                reader.read("2")


class TestTexmex:
    @pytest.mark.parametrize(("kind", "dtype"), [("fvecs", "<f4"), ("bvecs", "u1")])
    def test_one_file_and_a_folder(self, images, tmp_path, kind, dtype):
        local_Nf, start_T = stacked(images)
        sources.write_vecs(tmp_path / f"a.{kind}", local_Nf.astype(dtype))
        np.testing.assert_array_equal(map_vecs(tmp_path / f"a.{kind}"), local_Nf)
        np.savetxt(tmp_path / f"a.{kind}.lengths", np.diff(start_T), "%d")
        (tmp_path / "each").mkdir()
        for i, features in enumerate(images.values()):
            sources.write_vecs(tmp_path / f"each/{i}.{kind}", features.descriptor_lf.astype(dtype))
        for source in (f"{kind}:{tmp_path}/a.{kind}", f"{kind}:{tmp_path}/each"):
            with open_reader(source) as reader:
                TestArrays().check(reader, images, list("012345"))
                assert reader.read("0").descriptor_lf.dtype == dtype
                assert reader.info().dimensions == 128

    def test_bad_files(self, tmp_path):
        sources.write_vecs(tmp_path / "a.fvecs", np.ones((10, 4), "<f4"))
        raw = (tmp_path / "a.fvecs").read_bytes()
        (tmp_path / "a.fvecs").write_bytes(raw[:-1])
        with pytest.raises(FileFormatError, match="truncated"):
            map_vecs(tmp_path / "a.fvecs")
        (tmp_path / "a.fvecs").write_bytes(raw[:100] + b"\5" + raw[101:])
        with pytest.raises(FileFormatError, match="rows differ in dimension, the first has 4"):
            map_vecs(tmp_path / "a.fvecs")
        (tmp_path / "a.fvecs").write_bytes(b"")
        with pytest.raises(FileFormatError, match="not fvecs"):
            map_vecs(tmp_path / "a.fvecs")
        with pytest.raises(StorageError, match="cannot read"):
            map_vecs(tmp_path / "none.fvecs")

    def test_siftgeo(self, images, tmp_path):
        for i, features in enumerate(images.values()):
            sources.write_siftgeo(tmp_path / f"{i}.siftgeo", features)
        with open_reader(f"siftgeo:{tmp_path}") as reader:
            assert reader.info().compare == "rootsift"
            for i, features in enumerate(images.values()):
                read = reader.read(str(i))
                np.testing.assert_array_equal(read.descriptor_lf, features.descriptor_lf)
                np.testing.assert_array_equal(read.xy_l2, features.xy_l2)
                np.testing.assert_allclose(read.angle_l, features.angle_l % 360, atol=1e-3)
                np.testing.assert_array_equal(read.size_l, features.size_l)
        raw = (tmp_path / "0.siftgeo").read_bytes()
        (tmp_path / "0.siftgeo").write_bytes(raw[:-5])
        (tmp_path / "1.siftgeo").write_bytes(raw[:36] + b"\0" + raw[37:])
        with open_reader(f"siftgeo:{tmp_path}") as reader:
            with pytest.raises(ImageError, match="truncated"):
                reader.read("0")
            with pytest.raises(ImageError, match="not siftgeo"):
                reader.read("1")


class TestParquet:
    def test_a_image_a_row(self, images, tmp_path):
        sources.write_parquet(tmp_path / "a.parquet", images)
        with open_reader(f"parquet:{tmp_path / 'a.parquet'}") as reader:
            assert reader.info().image_sizes
            TestArrays().check(reader, images)
            for name, features in images.items():
                same_geometry(reader.read(name), features)

    @pytest.mark.parametrize("row_group_size", [100, 700, 10_000])
    def test_a_descriptor_a_row(self, images, tmp_path, row_group_size):
        sources.write_parquet(
            tmp_path / "a.parquet", images, by_row=True, row_group_size=row_group_size
        )
        with open_reader(f"parquet:{tmp_path / 'a.parquet'}") as reader:
            TestArrays().check(reader, images)
            held = reader.info()
            assert held.places
            assert not held.image_sizes
            for name, features in images.items():
                np.testing.assert_array_equal(reader.read(name).xy_l2, features.xy_l2)

    def test_bad_tables(self, tmp_path):
        import pyarrow.parquet as pq

        path = tmp_path / "a.parquet"

        def write(**columns):
            pq.write_table(pa.table(columns), path)
            return f"parquet:{path}"

        with pytest.raises(FileFormatError, match="has columns a: wanted name and"):
            open_reader(write(a=[1]))
        with pytest.raises(FileFormatError, match="occurs twice"):
            open_reader(write(name=["a", "a"], descriptors=[[[1.0]], [[1.0]]]))
        with pytest.raises(FileFormatError, match="do not follow each other"):
            open_reader(write(name=["a", "b", "a"], descriptor=[[1.0], [1.0], [1.0]]))
        with pytest.raises(FileFormatError, match="a name is None"):
            open_reader(write(name=["a", None], descriptors=[[[1.0]], [[1.0]]]))
        bad = write(
            name=list("abcd"),
            descriptors=[[[1.0, 2.0], [3.0, 4.0]], [[1.0], [1.0, 2.0]], [], [[1.0, float("nan")]]],
        )
        with open_reader(bad) as reader:
            assert reader.read("a").descriptor_lf.tolist() == [[1, 2], [3, 4]]
            for name, reason in {"b": "differ", "c": "no features", "d": "NaN"}.items():
                with pytest.raises(ImageError, match=reason):
                    reader.read(name)
                reader.status(name)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(FileFormatError, match="not Parquet, or damaged"):
            open_reader(f"parquet:{path}")


class TestAnyLoc:
    torch = pytest.importorskip("torch", reason="the test extra has it")

    def test_reads_a_tensor(self, tmp_path):
        centroid_kf = self.torch.randn(32, 64, generator=self.torch.Generator().manual_seed(0))
        self.torch.save(centroid_kf, tmp_path / "c_centers.pt")
        read_kf = read_anyloc_centroids(tmp_path / "c_centers.pt")
        np.testing.assert_array_equal(read_kf, centroid_kf.numpy())
        vlad = VLAD.from_centroids(read_kf, metric="cosine", norm="anyloc")
        image_lf = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
        # AnyLoc's VLAD.generate, hard assignment: unit descriptors, labels by cosine, intra, L2
        unit_lf = self.torch.nn.functional.normalize(self.torch.from_numpy(image_lf))
        unit_kf = self.torch.nn.functional.normalize(centroid_kf)
        label_l = (unit_lf @ unit_kf.T).argmax(dim=1)
        rows = [
            (unit_lf[label_l == i] - centroid_kf[i]).sum(dim=0) for i in range(len(centroid_kf))
        ]
        wanted_kf = self.torch.nn.functional.normalize(self.torch.stack(rows))
        wanted_D = self.torch.nn.functional.normalize(wanted_kf.ravel(), dim=0)
        np.testing.assert_allclose(vlad.transform([image_lf])[0], wanted_D.numpy(), atol=1e-5)

    def test_code_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "pwned"),)

        self.torch.save(Evil(), tmp_path / "c.pt")
        with pytest.raises(FileFormatError, match="it is not loaded"):
            read_anyloc_centroids(tmp_path / "c.pt")
        assert not (tmp_path / "pwned").exists()

    def test_other_files(self, tmp_path):
        (tmp_path / "text.pt").write_text("text")
        self.torch.save(self.torch.ones(3), tmp_path / "flat.pt")
        self.torch.save({"a": 1}, tmp_path / "dict.pt")
        for name in ("text", "flat", "dict"):
            with pytest.raises(FileFormatError):
                read_anyloc_centroids(tmp_path / f"{name}.pt")
        with pytest.raises(StorageError):
            read_anyloc_centroids(tmp_path / "none.pt")
        self.torch.save({"c": self.torch.ones(2, 3)}, tmp_path / "one.pt")
        assert read_anyloc_centroids(tmp_path / "one.pt").shape == (2, 3)


def test_sources_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_source("colmap:x")
    assert not is_source("photos")
    assert not is_source("colmap:")
    (tmp_path / "colmap:x").mkdir()
    assert not is_source("colmap:x")  # a folder of that name
    with pytest.raises(ParameterError, match="colmap:PATH"):
        open_reader("lance:x")
