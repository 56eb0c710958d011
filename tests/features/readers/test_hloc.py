"""hloc's HDF5 files are read exactly and refused by name."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

import sources
from vladkit.errors import (
    FileFormatError,
    ImageError,
    MissingDependencyError,
    ParameterError,
    StorageError,
)
from vladkit.features.readers import open_reader, open_vectors

h5py = pytest.importorskip("h5py", reason="the test extra has it")


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

    @pytest.mark.parametrize(
        ("lengths", "descriptors", "keypoints", "refused"),
        [
            ([40, 45, 50], "DN", "N2", None),
            ([40, 45, 50], "ND", "N2", "descriptors"),
            ([40, 45, 50], "ND", "2N", "keypoints"),
            ([40, 45, 50], "DN", "2N", "keypoints"),
            ([40, 45, 50], "DN", None, None),
            ([40, 45, 50], "ND", None, "descriptors"),
            ([40, 40, 40], "ND", "N2", "descriptors"),
            ([40, 40, 40], "ND", None, None),  # nothing tells
            ([64, 45, 64], "DN", "N2", None),
            ([64, 45, 64], "ND", "N2", "descriptors"),  # the second image tells
            ([0, 64, 45], "ND", "N2", "descriptors"),
            ([64, 64, 64], "ND", "N2", None),  # nothing tells
            ([2, 45, 2], "DN", "N2", None),
            ([2, 45, 2], "ND", "N2", "descriptors"),
            ([2, 2, 2], "DN", "2N", None),  # nothing tells
            ([1], "DN", "N2", None),
            ([1], "ND", "N2", "descriptors"),
        ],
    )
    def test_transposed_files_are_told_by_their_keypoints(
        self, tmp_path, lengths, descriptors, keypoints, refused
    ):
        rng = np.random.default_rng(0)
        with h5py.File(tmp_path / "f.h5", "w") as file:
            for i, n in enumerate(lengths):
                local_lf, xy_l2 = rng.random((n, 64), np.float32), rng.random((n, 2), np.float32)
                group = file.create_group(f"{i}.jpg")
                group["descriptors"] = local_lf if descriptors == "ND" else local_lf.T
                if keypoints:
                    group["keypoints"] = xy_l2 if keypoints == "N2" else xy_l2.T
        if refused:
            with pytest.raises(FileFormatError, match=f"{refused} that are transposed .*jpg has"):
                open_reader(f"hloc:{tmp_path / 'f.h5'}")
            return
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            nothing_tells = descriptors == "ND" and keypoints is None
            assert reader.info().dimensions == (lengths[0] if nothing_tells else 64)
            for name in reader.names():
                reader.read(name)

    def test_one_transposed_image_is_skipped(self, images, tmp_path):
        sources.write_hloc(tmp_path / "f.h5", images)
        name = sorted(images)[2]
        with h5py.File(tmp_path / "f.h5", "a") as file:
            for part in ("descriptors", "keypoints"):
                data = file[name][part][()].T
                del file[name][part]
                file[name][part] = data
                with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
                    with pytest.raises(ImageError, match="transpose"):
                        reader.read(name)
                    for other in set(images) - {name}:
                        reader.read(other)

    def test_parts_that_are_no_matrix(self, images, tmp_path):
        sources.write_hloc(tmp_path / "f.h5", images)
        with h5py.File(tmp_path / "f.h5", "a") as file:
            file["00/descriptors"] = h5py.Empty("f4")
            file["01/descriptors"] = np.float32(3)
            file["02/descriptors"] = np.full((4, 3), "x", h5py.string_dtype())
            file["03/descriptors"] = np.ones((128, 3), np.float32)
            file["03/keypoints"] = np.full((3, 2), "x", h5py.string_dtype())
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert reader.info().dimensions == 128
            for name in ("00", "01", "02", "03"):
                assert reader.status(name) == reader.status(name)
                with pytest.raises(ImageError, match=r"wanted|keypoints are object"):
                    reader.read(name)

    def test_other_files(self, images, tmp_path):
        (tmp_path / "empty.h5").touch()
        (tmp_path / "text.h5").write_text("no" * 1000)
        sources.write_hloc(tmp_path / "cut.h5", images)
        raw = (tmp_path / "cut.h5").read_bytes()
        (tmp_path / "cut.h5").write_bytes(raw[: len(raw) // 2])
        with h5py.File(tmp_path / "flat.h5", "w") as file:
            file.create_dataset("descriptors", data=np.ones((8, 8)))
        with h5py.File(tmp_path / "nothing.h5", "w"):
            pass
        for name, reason in {
            "empty": "empty",
            "text": "not an HDF5 file",
            "cut": "truncated",
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

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_a_file_system_without_locks(self, images, tmp_path, monkeypatch, number):
        """As HDF5 says it, NFS without its lock daemon; its own variable goes before ours."""
        path = tmp_path / "f.h5"
        sources.write_hloc(path, images)
        real = h5py.File

        def refuse(name, mode, locking=None):
            if locking is False and not os.environ.get("HDF5_USE_FILE_LOCKING"):
                return real(name, mode)
            raise OSError(number, f"cannot open (unable to lock file, errno = {number})")

        monkeypatch.setattr(h5py, "File", refuse)
        with open_reader(f"hloc:{path}") as reader:
            assert reader.names() == sorted(images)
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
        with pytest.raises(StorageError, match="has no locks: set HDF5_USE_FILE_LOCKING=FALSE"):
            open_reader(f"hloc:{path}")

    def test_without_the_library(self, tmp_path, monkeypatch):
        (tmp_path / "f").touch()
        for kind, module in {"hloc": "h5py", "parquet": "pyarrow"}.items():
            monkeypatch.setitem(sys.modules, module, None)
            with pytest.raises(MissingDependencyError, match=rf"vladkit\[{kind}\]"):
                open_reader(f"{kind}:{tmp_path / 'f'}")


class TestLinks:
    """A link within the file is one more name of an image, as h5py's own reading has it."""

    def test_names(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            for name in ("walk/a.jpg", "walk/b.jpg"):
                file[f"{name}/descriptors"] = np.full((4, 3), ord(name[-5]), np.float32)
                file[f"{name}/keypoints"] = np.ones((3, 2), np.float32)
            file["walk/soft.jpg"] = h5py.SoftLink("/walk/a.jpg")
            file["walk/near.jpg"] = h5py.SoftLink("b.jpg")
            file["twice.jpg"] = h5py.SoftLink("/walk/soft.jpg")
            file["run/hard.jpg"] = file["walk/b.jpg"]
            file["jump/soft.jpg"] = h5py.SoftLink("/walk/b.jpg")
            file["parts.jpg/descriptors"] = h5py.SoftLink("/walk/a.jpg/descriptors")
            file["lost.jpg"] = h5py.SoftLink("/nowhere")
            file["round.jpg"] = h5py.SoftLink("/round.jpg")
            file["number"] = h5py.SoftLink("/walk/a.jpg/keypoints")  # no image
        wanted = {
            "walk/a.jpg": "a", "walk/b.jpg": "b", "walk/soft.jpg": "a", "walk/near.jpg": "b",
            "twice.jpg": "a", "run/hard.jpg": "b", "jump/soft.jpg": "b", "parts.jpg": "a",
        }  # fmt: skip
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert reader.names() == sorted([*wanted, "lost.jpg", "round.jpg"])
            for name, letter in wanted.items():
                assert (reader.read(name).descriptor_lf == ord(letter)).all()
                assert reader.status(name) != reader.status("lost.jpg")
            for name in ("lost.jpg", "round.jpg"):
                with pytest.raises(ImageError, match="cannot be read"):
                    reader.read(name)

    def test_of_folders(self, tmp_path):
        """It is said that they hold no features; a round of them has no end."""
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["walk/a.jpg/descriptors"] = np.ones((4, 3), np.float32)
            file["walk/up"] = h5py.SoftLink("/walk")
            file["walk/hard"] = file["walk"]
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert reader.names() == ["walk/a.jpg", "walk/hard", "walk/up"]
            with pytest.raises(ImageError, match="its group has no descriptors"):
                reader.read("walk/up")


def test_an_image_whose_name_is_the_folder_of_others(tmp_path):
    """A bucket may have a.jpg and a.jpg/b.jpg."""
    names = ["a.jpg", "a.jpg/b.jpg", "a.jpg/descriptors/c.jpg", "d.jpg"]
    with h5py.File(tmp_path / "f.h5", "w") as file, h5py.File(tmp_path / "g.h5", "w") as vectors:
        for i, name in enumerate(names):
            if name != "a.jpg/descriptors/c.jpg":
                file[f"{name}/descriptors"] = np.full((4, 3), i, np.float32)
            vectors[f"{name}/global_descriptor"] = np.full(4, i + 1, np.float32)
    with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
        assert reader.names() == [names[0], names[1], names[3]]
        assert (reader.read("a.jpg/b.jpg").descriptor_lf == 1).all()
    with open_reader(f"hloc:{tmp_path / 'g.h5'}") as reader:
        assert reader.names() == names
        assert [reader.read(name).vector_D[0] for name in names] == [1, 2, 3, 4]


class TestOtherFilesOnDisk:
    """Somebody's file does not say what else is read."""

    @pytest.mark.parametrize("way", ["link", "link to it", "raw", "virtual"])
    @pytest.mark.parametrize("part", ["descriptors", "keypoints"])
    def test_are_not_read(self, images, tmp_path, way, part):
        path = tmp_path / "f.h5"
        sources.write_hloc(path, images, "f4")
        name = sorted(images)[0]
        with h5py.File(path, "a") as file:
            data = file[name][part][()]
            with h5py.File(tmp_path / "secret.h5", "w") as secret:
                secret["d"] = data
            (tmp_path / "secret.raw").write_bytes(data.tobytes())
            del file[name][part]
            if way == "link":
                file[name][part] = h5py.ExternalLink(tmp_path / "secret.h5", "/d")
            elif way == "link to it":
                file["away"] = h5py.ExternalLink(tmp_path / "secret.h5", "/")
                file[name][part] = h5py.SoftLink("/away/d")
            elif way == "raw":
                outside = [(str(tmp_path / "secret.raw"), 0, data.nbytes)]
                file[name].create_dataset(part, data.shape, data.dtype, external=outside)
            else:
                layout = h5py.VirtualLayout(data.shape, data.dtype)
                layout[...] = h5py.VirtualSource(tmp_path / "secret.h5", "d", data.shape)
                file[name].create_virtual_dataset(part, layout)
        # the first image tells the layout of all
        with pytest.raises((FileFormatError, ImageError), match="kept in another file"):
            self.read(path, name)

    @pytest.mark.parametrize("way", ["group", "vector"])
    def test_by_links_to_groups(self, tmp_path, way):
        with h5py.File(tmp_path / "secret.h5", "w") as secret:
            for part, shape in {"descriptors": (4, 3), "global_descriptor": (4,)}.items():
                secret[f"walk/a.jpg/{part}"] = np.ones(shape, np.float32)
        with h5py.File(tmp_path / "f.h5", "w") as file:
            part = "global_descriptor" if way == "vector" else "descriptors"
            file[f"b.jpg/{part}"] = np.ones((4, 3)[: 1 if way == "vector" else 2], np.float32)
            file["away"] = h5py.ExternalLink(tmp_path / "secret.h5", "/walk")
            file["a.jpg"] = h5py.SoftLink("/away/a.jpg")
        opened = open_vectors if way == "vector" else open_reader
        with opened(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert reader.names() == ["a.jpg", "away", "b.jpg"]
            for name in ("a.jpg", "away"):
                with pytest.raises(ImageError, match=r"kept in another file|no vector of it"):
                    reader.read(name)
                reader.status(name)
            assert len(reader.read("b.jpg").descriptor_lf) == (0 if way == "vector" else 3)

    @staticmethod
    def read(path, name):
        with open_reader(f"hloc:{path}") as reader:
            reader.status(name)
            reader.read(name)

    def test_groups_that_are_nested_too_deep(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file.create_group("/".join("a" * 300))
        with pytest.raises(FileFormatError, match="nested more than 100 deep"):
            open_reader(f"hloc:{tmp_path / 'f.h5'}")


class TestGlobal:
    """One vector for each image, in ``name/global_descriptor``."""

    def write(self, path, **arrays):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(f"walk/{name}.jpg/global_descriptor", data=array)
        return f"hloc:{path}"

    def test_read(self, tmp_path):
        one = np.array([3, 4], np.float16)
        source = self.write(tmp_path / "g.h5", a=one, b=[np.nan, 1], c=[0.0, 0], d=[[1.0, 2]])
        with open_reader(source) as reader:
            info = reader.info()
            assert (info.features, info.dimensions, info.places) == ("hloc-global", 2, False)
            assert reader.names() == [f"walk/{n}.jpg" for n in "abcd"]
            features = reader.read("walk/a.jpg")
            assert (len(features), features.vector_D.tolist()) == (0, [3, 4])
            assert features.vector_D.dtype == np.float32
            for name, why in {"b": "NaN", "c": "zeros", "d": r"shape \(1, 2\).* wanted"}.items():
                with pytest.raises(ImageError, match=why):
                    reader.read(f"walk/{name}.jpg")
            assert reader.status("walk/a.jpg") != reader.status("walk/b.jpg")

    @pytest.mark.parametrize("shape", [(1, 8), (8, 1), (2, 4)])
    def test_wrong_shape(self, tmp_path, shape):
        source = self.write(tmp_path / "g.h5", a=np.ones(shape))
        with pytest.raises(FileFormatError, match=rf"has shape \({shape[0]}, .* wanted \(D,\)"):
            open_reader(source)

    def test_beside_local_features_they_are_asked_for(self, images, tmp_path):
        sources.write_hloc(tmp_path / "f.h5", images)
        with pytest.raises(FileFormatError, match=r"holds no vectors .* global_descriptor"):
            open_vectors(f"hloc:{tmp_path / 'f.h5'}")
        with h5py.File(tmp_path / "f.h5", "a") as file:
            for name in images:
                file[name]["global_descriptor"] = np.ones(8)
        with open_reader(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert reader.info().features == "hloc"
        with open_vectors(f"hloc:{tmp_path / 'f.h5'}") as reader:
            assert (reader.info().features, reader.info().dimensions) == ("hloc-global", 8)
        with pytest.raises(ParameterError, match=r"use onnx:MODEL.onnx.* hloc:global.h5"):
            open_vectors("npz:vectors.npz")
