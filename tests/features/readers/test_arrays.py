"""Arrays of NumPy: stacked, a file for each image, in a folder."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest

from sources import assert_all_read, same_geometry, stacked
from vladkit.errors import (
    FileFormatError,
    ImageError,
)
from vladkit.features.readers import open_reader


class TestArrays:
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
            assert_all_read(reader, images, list("012345"))
            assert not reader.info().places
        (tmp_path / "a.npy.names").write_text("\n".join(images))
        with open_reader(f"npz:{tmp_path / 'a.npy'}") as reader:
            assert_all_read(reader, images)

    @pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "i2"])
    def test_lengths_of_any_whole_numbers(self, images, tmp_path, dtype):
        local_Nf, start_T = stacked(images)
        length_t = np.diff(start_T).astype(dtype)
        np.savez(tmp_path / "a.npz", descriptors=local_Nf, lengths=length_t)
        np.save(tmp_path / "a.npy", local_Nf)
        np.save(tmp_path / "a.npy.lengths.npy", length_t)
        for name in ("a.npz", "a.npy"):
            with open_reader(f"npz:{tmp_path / name}") as reader:
                assert_all_read(reader, images, list("012345"))

    def test_names_as_editors_write_them(self, images, tmp_path):
        """With a byte order mark; and a name may hold what Unicode calls the end of a line."""
        local_Nf, start_T = stacked(images)
        np.save(tmp_path / "a.npy", local_Nf)
        lengths = "\n".join(map(str, np.diff(start_T)))
        (tmp_path / "a.npy.lengths").write_text(lengths, encoding="utf-8-sig")
        names = ["a\u2028b", *list(images)[1:]]
        (tmp_path / "a.npy.names").write_text("\n".join(names) + "\n", encoding="utf-8-sig")
        with open_reader(f"npz:{tmp_path / 'a.npy'}") as reader:
            assert reader.names() == sorted(names)

    @pytest.mark.parametrize("size", [(640, 480), (0, 480)])
    def test_stacked_npz_with_sizes_of_images(self, images, tmp_path, size):
        local_Nf, start_T = stacked(images)
        size_t2 = np.array([[100 + i, 50 + i] for i in range(5)] + [size])
        arrays = {"descriptors": local_Nf, "offsets": start_T}
        np.savez(tmp_path / "a.npz", **arrays, image_size=size_t2)
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            assert reader.info().image_sizes
            for i in range(5):
                read = reader.read(str(i))
                assert (read.width, read.height) == (100 + i, 50 + i)
            if size[0]:
                assert reader.read("5").width == 640
            else:
                with pytest.raises(ImageError, match="image_size"):
                    reader.read("5")
        for wrong in (size_t2[:5], size_t2[0], size_t2.T):
            np.savez(tmp_path / "a.npz", **arrays, image_size=wrong)
            with pytest.raises(FileFormatError, match=r"image_size has shape .* wanted \(6, 2\)"):
                open_reader(f"npz:{tmp_path / 'a.npz'}")

    def test_two_files_of_one_image(self, images, tmp_path):
        """Which of them counts is not for us to say; once one is gone the other does."""
        first, second = (each.descriptor_lf for each in list(images.values())[:2])
        np.save(tmp_path / "a.npy", first)
        np.savez(tmp_path / "a.npz", descriptors=second)
        np.save(tmp_path / "b.npy", second)
        with open_reader(f"npz:{tmp_path}") as reader:
            assert reader.names() == ["a", "b"]
            assert reader.info().dimensions == 128
            np.testing.assert_array_equal(reader.read("b").descriptor_lf, second)
            with pytest.raises(ImageError, match=r"has two files, a.npy and a.npz") as caught:
                reader.read("a")
            assert caught.value.transient
        (tmp_path / "a.npy").unlink()
        with open_reader(f"npz:{tmp_path}") as reader:
            np.testing.assert_array_equal(reader.read("a").descriptor_lf, second)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_stacked_npz(self, images, tmp_path, save):
        local_Nf, start_T = stacked(images)
        xy_N2 = np.concatenate([f.xy_l2 for f in images.values()])
        names = np.array(list(images))
        save(
            tmp_path / "a.npz", names=names, descriptors=local_Nf, offsets=start_T, keypoints=xy_N2
        )
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            assert_all_read(reader, images)
            assert reader.info().places
            for name, features in images.items():
                np.testing.assert_array_equal(reader.read(name).xy_l2, features.xy_l2)

    def test_fortran_order(self, images, tmp_path):
        local_Nf, start_T = stacked(images)
        np.savez(tmp_path / "a.npz", descriptors=np.asfortranarray(local_Nf), offsets=start_T)
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            assert_all_read(reader, images, list("012345"))

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_the_directory_of_an_archive_is_read_once(self, tmp_path, monkeypatch, save):
        save(tmp_path / "a.npz", **{f"{i}": np.full((2, 4), i) for i in range(5)})
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            monkeypatch.delattr(zipfile, "ZipFile")  # which reads it
            assert reader.info().dimensions == 4
            for name in reader.names():
                assert reader.status(name)[0] > 0
                assert (reader.read(name).descriptor_lf == int(name)).all()

    def test_an_array_for_each_name(self, images, tmp_path):
        arrays = {name: f.descriptor_lf for name, f in images.items()}
        np.savez(tmp_path / "a.npz", **arrays)
        with open_reader(f"npz:{tmp_path / 'a.npz'}") as reader:
            assert_all_read(reader, images)

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
