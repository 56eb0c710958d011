"""Sources by name."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import sources
from vladkit.errors import FileFormatError, ImageError, ParameterError
from vladkit.features.readers import KINDS, is_source, open_reader
from vladkit.features.readers.reader import NamedErrors, Reader, features_from


def test_sources_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_source("colmap:x")
    assert not is_source("photos")
    assert not is_source("colmap:")
    (tmp_path / "colmap:x").mkdir()
    assert not is_source("colmap:x")  # a folder of that name
    with pytest.raises(ParameterError, match="colmap:PATH"):
        open_reader("lance:x")


LOCAL = np.ones((3, 4), np.float32)


class TestSpecialFiles:
    """They are never opened: a FIFO waits for ever, and a device may have no end."""

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "siftgeo"])
    def test_as_a_source(self, kind):
        with pytest.raises(FileFormatError, match="no regular file, wanted a file of features"):
            open_reader(f"{kind}:{os.devnull}")

    @pytest.mark.parametrize("end", ["npz", "npy", "fvecs", "bvecs", "siftgeo"])
    def test_in_a_folder(self, tmp_path, end):
        (tmp_path / f"a.{end}").symlink_to(os.devnull)
        with open_reader(f"{'npz' if end == 'npy' else end}:{tmp_path}") as reader:
            assert reader.names() == ["a"]
            with pytest.raises(ImageError, match=r"^not a regular file$"):
                reader.read("a")

    @pytest.mark.parametrize(
        "beside", ["lengths", "offsets", "lengths.npy", "offsets.npy", "names"]
    )
    def test_beside_a_file(self, tmp_path, beside):
        np.save(tmp_path / "a.npy", LOCAL)
        (tmp_path / "a.npy.lengths").write_text("3")
        if beside != "names":
            (tmp_path / "a.npy.lengths").unlink()
        (tmp_path / f"a.npy.{beside}").symlink_to(os.devnull)
        with pytest.raises(FileFormatError, match=f"a.npy.{beside} is no regular file"):
            open_reader(f"npz:{tmp_path / 'a.npy'}")

    @pytest.mark.parametrize("beside", ["-wal", "-journal"])
    def test_beside_a_database(self, tmp_path, beside):
        path = tmp_path / "d.db"
        sources.write_colmap(path, {})
        Path(f"{path}{beside}").symlink_to(os.devnull)
        with pytest.raises(FileFormatError, match=f"d.db{beside} is no regular file"):
            open_reader(f"colmap:{path}")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"xy_l2": np.ones((4, 2))}, "transposed: 4 keypoints, and 3 descriptors of 4 dimensions"),
        ({"xy_l2": np.ones((2, 4))}, "transposed: 4 keypoints, and 3 descriptors of 4 dimensions"),
        ({"xy_l2": np.ones((2, 3))}, r"keypoints of shape \(2, 3\), not \(3, 2\): transpose them"),
        ({"xy_l2": np.ones((3, 4))}, r"keypoints of shape \(3, 4\), not \(3, 2\)$"),
        ({"score_l": np.ones((3, 1))}, r"scores of shape \(3, 1\), not \(3,\)$"),
        ({"score_l": np.array(["1", "2", "3"])}, "scores are <U1, wanted numbers"),
        ({"xy_l2": np.ones((3, 2), bool)}, "keypoints are bool, wanted numbers"),
        ({"size_l": np.array([1, 1e39, 1])}, "sizes of 1 of 3 features hold NaN .* exceed float32"),
        ({"image_size": (0, 5)}, r"image_size is \[0, 5\], wanted width and height"),
        ({"image_size": (2**31, 5)}, "image_size is"),
        ({"image_size": np.array([np.nan, 5])}, "image_size is"),
        ({"image_size": (5, 5, 3)}, "image_size is"),
        ({"image_size": (None, 5)}, "image_size is"),
        ({"image_size": 5}, "image_size is 5"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, reason):
    with pytest.raises(ImageError, match=reason):
        features_from(LOCAL, **arrays)


@pytest.mark.parametrize("n", [1, 2])
def test_what_may_be_square_is_taken_as_it_is(n):
    features = features_from(np.ones((n, n)), np.ones((n, 2)), image_size=np.array([5.0, 6.0]))
    assert (len(features), features.width, features.height) == (n, 5, 6)


class TestNamedErrors:
    """Whatever a library makes of a file has a name."""

    class Broken(Reader):
        kind, path = "broken", "/nowhere/f"

        def __init__(self, error):
            self.error = error

        def _fail(self, *_):
            raise self.error

        info = names = status = read = _fail

    @pytest.mark.parametrize(
        "error", [zlib.error("x"), zipfile.BadZipFile("x"), struct.error("x"), RuntimeError("x")]
    )
    def test_of_other_libraries(self, error):
        reader = NamedErrors(self.Broken(error))
        for call in (reader.info, reader.names, lambda: reader.status("a")):
            with pytest.raises(FileFormatError, match=r"/nowhere/f is damaged, .*rror|File: x"):
                call()
        with pytest.raises(ImageError, match=f"damaged: {type(error).__name__}: x") as raised:
            reader.read("a")
        assert raised.value.__cause__ is error

    def test_ours_pass(self):
        reader = NamedErrors(self.Broken(ImageError("no features", transient=True)))
        for call in (lambda: reader.read("a"), reader.info):
            with pytest.raises(ImageError, match="no features"):
                call()

    def test_memory(self):
        with pytest.raises(ImageError, match="not enough memory") as raised:
            NamedErrors(self.Broken(MemoryError())).read("a")
        assert raised.value.transient
