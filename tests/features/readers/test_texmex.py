"""fvecs, bvecs and siftgeo files."""

from __future__ import annotations

import numpy as np
import pytest

import sources
from sources import assert_all_read, stacked
from vladkit.errors import (
    FileFormatError,
    ImageError,
    ParameterError,
    StorageError,
)
from vladkit.features.readers import map_vecs, open_reader


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
                assert_all_read(reader, images, list("012345"))
                assert reader.read("0").descriptor_lf.dtype == dtype
                assert reader.info().dimensions == 128

    @pytest.mark.parametrize("end", ["BVECS", "Bvecs", "bvecs"])
    def test_suffixes_in_capitals(self, tmp_path, end):
        local_Nf = np.arange(12, dtype=np.uint8).reshape(3, 4)
        (tmp_path / "each").mkdir()
        sources.write_vecs(tmp_path / f"each/a.{end}", local_Nf)
        assert map_vecs(tmp_path / f"each/a.{end}").dtype == np.uint8
        with open_reader(f"bvecs:{tmp_path}/each") as reader:
            np.testing.assert_array_equal(reader.read("a").descriptor_lf, local_Nf)

    def test_whole_numbers(self, tmp_path):
        """Ground truth: numbers above 2^24 that float32 has not, and small ones, its 1e-45."""
        label_qn = np.array([[2**24 + 1, 0, 7], [2**31 - 1, 3, -1]], "<i4")
        sources.write_vecs(tmp_path / "truth.ivecs", label_qn)
        sources.write_vecs(tmp_path / "truth", label_qn)
        for got in (map_vecs(tmp_path / "truth.ivecs"), map_vecs(tmp_path / "truth", "i4")):
            assert (got.dtype, got.tolist()) == (np.int32, label_qn.tolist())
        with pytest.raises(FileFormatError, match="is ivecs by its name, wanted fvecs"):
            open_reader(f"fvecs:{tmp_path}/truth.ivecs")
        with pytest.raises(ParameterError, match="dtype='f8': wanted 'f4', 'u1' or 'i4'"):
            map_vecs(tmp_path / "truth.ivecs", "f8")

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
