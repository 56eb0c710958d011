"""Files for hloc, read back in the way that its documentation describes."""

from __future__ import annotations

import errno
import io
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from commands import run
from images import textured
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.errors import MissingDependencyError, NothingToIndexError, ParameterError, StorageError
from vladkit.store import export
from vladkit.store.naming import names_below
from vladkit.store.rows import ImageRow


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """(collection file, folder) of nine images, some in a subfolder."""
    home = tmp_path_factory.mktemp("hloc")
    (home / "images" / "sub" / "deep").mkdir(parents=True)
    for i in range(9):
        name = ("", "sub/", "sub/deep/")[i % 3] + f"{i}.png"
        cv2.imwrite(str(home / "images" / name), textured(120, 90, seed=i))
    with Collection.create(home / "c", n_clusters=4, enlarge_to=0, n_words=0) as collection:
        collection.add([home / "images"])
    return home / "c", home / "images"


def read_global(path):
    """Every dataset's parent names an image; its `global_descriptor` is one vector."""
    names = set()
    with h5py.File(path, "r") as file:

        def visit(_, item):
            if isinstance(item, h5py.Dataset):
                names.add(item.parent.name.strip("/"))

        file.visititems(visit)
        return {name: np.asarray(file[name]["global_descriptor"]) for name in sorted(names)}


def vectors(collection):
    rows = {row.image_id: row.path for row in collection.images()}
    ids, vector_nD = collection.vectors()
    return {rows[i]: vector_D for i, vector_D in zip(ids.tolist(), vector_nD, strict=True)}


class TestGlobalDescriptors:
    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_names_shapes_and_values(self, ready, tmp_path, dtype):
        with Collection.create(
            tmp_path / "c", n_clusters=4, dtype=dtype, enlarge_to=0
        ) as collection:
            collection.add([ready[1]])
            collection.remove(["sub/1.png"])
            written = collection.export(tmp_path / "out.h5")
            wanted = vectors(collection)
        assert written == [tmp_path / "out.h5"]
        got = read_global(tmp_path / "out.h5")
        assert sorted(got) == sorted(wanted)
        assert len(got) == 8
        for name, vector_D in got.items():
            assert vector_D.dtype == np.float32
            assert vector_D.shape == (collection.n_dimensions,)
            np.testing.assert_array_equal(vector_D, wanted[name].astype(np.float32))
            assert (ready[1] / name).exists()  # names are relative to hloc's folder of images

    def test_the_pairs_of_its_similarities_are_ours(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            collection.export(tmp_path / "out.h5")
            ours = {(p.first, p.second) for p in collection.pairs(2)}
        got = read_global(tmp_path / "out.h5")
        names = list(got)
        similarity_nn = np.stack(list(got.values())) @ np.stack(list(got.values())).T
        np.fill_diagonal(similarity_nn, -1)
        near_n2 = np.argsort(-similarity_nn, axis=1)[:, :2]
        theirs = {frozenset((names[i], names[j])) for i, near in enumerate(near_n2) for j in near}
        assert {frozenset(pair) for pair in ours} == theirs

    def test_several_sources_and_a_root(self, ready, tmp_path):
        for folder in ("a", "b"):
            shutil.copytree(ready[1] / "sub", tmp_path / folder)
        with Collection.create(tmp_path / "c", n_clusters=4, enlarge_to=0) as collection:
            collection.add([tmp_path / "a"])
            collection.add([tmp_path / "b"])
            collection.export(tmp_path / "out.h5")
            names = list(collection.pairs(1).names)
            assert sorted(read_global(tmp_path / "out.h5")) == sorted(names)
            assert "a/1.png" in names
            assert "b/1.png" in names
            collection.export(tmp_path / "out.h5", root=tmp_path.parent)
            assert f"{tmp_path.name}/a/1.png" in read_global(tmp_path / "out.h5")
            with pytest.raises(ParameterError, match="is not below"):
                collection.export(tmp_path / "out.h5", root=tmp_path / "a")
            with pytest.raises(ParameterError, match=r"is for \.h5"):
                collection.export(tmp_path / "out.npz", root=tmp_path)
        assert not (tmp_path / "out.npz").exists()

    def test_without_h5py(self, ready, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "h5py", None)
        with (
            Collection.open(ready[0], read_only=True) as collection,
            pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[hloc\]'"),
        ):
            collection.export(tmp_path / "out.h5")
        assert not (tmp_path / "out.h5").exists()

    def test_a_disk_that_is_full(self, ready, tmp_path):
        """A quota; in a process of its own, as HDF5 would go on to complain when it ends."""
        pytest.importorskip("resource", reason="limits of POSIX")
        code = (
            "import resource, signal, sys\n"
            "from vladkit import Collection\n"
            "from vladkit.errors import StorageError\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "with Collection.open(sys.argv[1], read_only=True) as collection:\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, -1))\n"
            "    try:\n"
            "        collection.export(sys.argv[2])\n"
            "    except StorageError as error:\n"
            "        print(error)\n"
        )
        (tmp_path / "out.h5").write_bytes(b"before")
        arguments = [sys.executable, "-c", code, ready[0], tmp_path / "out.h5"]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.stdout.startswith(f"cannot write {tmp_path / 'out.h5'}: "), done.stderr
        assert done.stderr == ""
        assert (tmp_path / "out.h5").read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [tmp_path / "out.h5"]

    def test_a_disk_that_is_full_for_a_moment(self, ready, tmp_path, monkeypatch):
        """One write fails and all that follow succeed: the file is not whole."""
        left = iter([False] * 5 + [True])

        class Failing(io.FileIO):
            def write(self, data):
                if next(left, False):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(data)

        @contextmanager
        def replace_file(path):
            with Failing(tmp_path / "raw", "w+") as file:
                yield file

        monkeypatch.setattr(export, "replace_file", replace_file)
        with (
            Collection.open(ready[0], read_only=True) as collection,
            pytest.raises(OSError, match="No space left"),
        ):
            collection.export(tmp_path / "out.h5")
        assert next(left, None) is None  # it came to that

    def test_empty(self, tmp_path):
        with (
            Collection.create(tmp_path / "c") as collection,
            pytest.raises(NothingToIndexError),
        ):
            collection.export(tmp_path / "out.h5")

    def test_command(self, ready, tmp_path):
        done = run("export", ready[0], "-o", tmp_path / "x.h5", "--root", ready[1].parent)
        assert "9 vectors of" in done.stderr
        assert "images/sub/1.png" in read_global(tmp_path / "x.h5")


def test_an_image_whose_name_is_the_folder_of_another(tmp_path):
    names = ["a.jpg/b.jpg", "a.jpg"]
    with open(tmp_path / "out.h5", "w+b") as file:
        export._write_h5(file, iter([np.arange(6.0).reshape(2, 3)]), names)
    with h5py.File(tmp_path / "out.h5") as file:
        assert [file[name]["global_descriptor"][0] for name in names] == [0, 3]


def test_images_on_another_drive_than_their_features():
    """No folder holds both: to ask for it was an error of Python. A relative path stands for it."""
    row = ImageRow(1, "sub/a.jpg", 0, 0, image_id=5, folder="photos")
    assert names_below([row]) == ("photos", {5: "sub/a.jpg"})


def test_names_of_imported_features_are_those_of_their_file(ready, tmp_path):
    """Which hloc and COLMAP know, wherever the images are, and however deep."""
    images = tmp_path / "images"
    shutil.copytree(ready[1] / "sub", images / "db" / "sub")
    names = sorted(f"db/sub/{path.name}" for path in (ready[1] / "sub").glob("*.png"))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for i, name in enumerate(names):
            rng = np.random.default_rng(i)
            file[f"{name}/descriptors"] = rng.normal(size=(16, 30)).astype(np.float32)
            file[f"{name}/keypoints"] = rng.uniform(0, 90, (30, 2)).astype(np.float32)
    recipe, _ = recipe_for(f"hloc:{tmp_path / 'f.h5'}", n_clusters=2)
    with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
        collection.add([f"hloc:{tmp_path / 'f.h5'}"], images=images)
        found = collection.pairs(1)
        assert (found.root, sorted(found.names)) == (str(images), names)
        collection.export(tmp_path / "out.h5")
    assert sorted(read_global(tmp_path / "out.h5")) == names


def test_names_stay_when_a_collection_moves_with_its_images(ready, tmp_path):
    (tmp_path / "here").mkdir()
    shutil.copytree(ready[1] / "sub", tmp_path / "here" / "images" / "sub")
    with Collection.create(tmp_path / "here" / "c.vlad", n_clusters=2, enlarge_to=0) as collection:
        collection.add([tmp_path / "here" / "images"])
        names = collection.pairs(1).names
    (tmp_path / "here").rename(tmp_path / "there")
    with Collection.open(tmp_path / "there" / "c.vlad", read_only=True) as collection:
        found = collection.pairs(1)
    assert (found.names, found.root) == (names, str(tmp_path / "there" / "images"))


@pytest.mark.parametrize("name", ["a/global_descriptor", "a/."])
def test_a_name_that_hdf5_has_for_another_thing(tmp_path, name):
    with (
        open(tmp_path / "out.h5", "w+b") as file,
        pytest.raises(ParameterError, match="cannot be the name of a group"),
    ):
        export._write_h5(file, iter([np.ones((2, 3))]), ["a", name])


def test_a_list_of_pairs_as_it_is_read(ready, tmp_path):
    """Split at white space, two names a line; both are images below the root."""
    with Collection.open(ready[0], read_only=True) as collection:
        found = collection.pairs(3)
    found.write(tmp_path / "pairs.txt")
    text = (tmp_path / "pairs.txt").read_text()
    assert text.endswith("\n")
    read = [line.split() for line in text.rstrip("\n").split("\n")]
    assert {len(names) for names in read} == {2}
    assert all(Path(found.root, name).is_file() for names in read for name in names)
    assert len({frozenset(names) for names in read}) == len(found) == len(read)
    assert "  " not in text
    with pytest.raises(StorageError, match="cannot write"):
        found.write(tmp_path / "nowhere" / "pairs.txt")
