"""Vectors as files of NumPy, fvecs and FAISS."""

from __future__ import annotations

import json
import os
import shutil

import cv2
import faiss
import h5py
import numpy as np
import pyarrow.parquet
import pytest

from commands import run
from images import textured
from stored import everything
from vladkit import Collection
from vladkit.errors import NothingToIndexError, ParameterError, StorageError
from vladkit.features.pool import extract


class TestExport:
    def test_npz(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            assert collection.export(tmp_path / "out.npz") == [tmp_path / "out.npz"]
        with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
            vector_nD, path_n = archive["vectors"], archive["paths"]
        assert vector_nD.dtype == np.float16
        found = {p: v.tobytes() for p, v in zip(path_n.tolist(), vector_nD, strict=True)}
        assert found == everything(ready[0])

    def test_fvecs(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            collection.export(tmp_path / "out.fvecs")
        raw = np.fromfile(tmp_path / "out.fvecs", "<i4").reshape(12, -1)
        assert (raw[:, 0] == raw.shape[1] - 1).all()
        paths = json.loads((tmp_path / "out.fvecs.json").read_text())
        rows = raw[:, 1:].copy().view("<f4").astype("f2")
        assert {p: v.tobytes() for p, v in zip(paths, rows, strict=True)} == everything(ready[0])

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_faiss(self, ready, tmp_path, dtype):
        with Collection.create(
            tmp_path / "c", n_clusters=8, dtype=dtype, enlarge_to=0
        ) as collection:
            collection.add([ready[1]])
            collection.export(tmp_path / "out.faiss")
            hits = collection.search(ready[1] / "07.png", 0)
            query = extract(collection.extractor, str(ready[1] / "07.png"))
            query_vD = collection.index.describer.query_vectors([query])[0]
        index = faiss.read_index(str(tmp_path / "out.faiss"))
        paths = json.loads((tmp_path / "out.faiss.json").read_text())
        score_vn, place_vn = index.search(query_vD[:1], 12)
        assert paths[place_vn[0, 0]] == hits[0].path == "07.png"
        assert score_vn[0, 0] == pytest.approx(1, abs=2e-3)
        assert sorted(paths) == [f"{i:02}.png" for i in range(12)]

    def test_names_of_all_kinds_and_removed_ones(self, tmp_path, ready):
        names = ["a\nb.png", "ä €.png", "x" * 200 + ".png", "-o.png"]
        for name, source in zip(names, sorted(ready[1].iterdir())[:4], strict=True):
            (tmp_path / "p").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "p" / name)
        with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
            collection.add([tmp_path / "p"])
            collection.remove([names[1]])
            collection.export(tmp_path / "out.npz")
            collection.export(tmp_path / "out.fvecs")
        with np.load(tmp_path / "out.npz") as archive:
            assert sorted(archive["paths"].tolist()) == sorted([names[0], *names[2:]])
        paths = json.loads((tmp_path / "out.fvecs.json").read_text())
        assert sorted(paths) == sorted([names[0], *names[2:]])

    def test_errors(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            with pytest.raises(ParameterError, match=r"ends in \.npz, \.fvecs, \.faiss, \.h5, \.p"):
                collection.export(tmp_path / "out.txt")
            with pytest.raises(StorageError, match="cannot write"):
                collection.export(tmp_path / "nowhere" / "out.npz")
        with (
            Collection.create(tmp_path / "empty") as collection,
            pytest.raises(NothingToIndexError),
        ):
            collection.export(tmp_path / "out.npz")
        assert not list(tmp_path.glob("*out*"))

    def test_names_that_two_sources_have_are_told_apart(self, ready, tmp_path):
        for folder in "ab":
            (tmp_path / folder).mkdir()
            for i, name in enumerate(("0.png", "1.png")):
                cv2.imwrite(str(tmp_path / folder / name), textured(seed=10 * i + ord(folder)))
        with Collection.create(tmp_path / "c", n_clusters=4, enlarge_to=0) as collection:
            collection.add([tmp_path / "a", tmp_path / "b"])
            wanted = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
            vector_of = {
                os.path.relpath(row.file, tmp_path): collection.vectors()[1][
                    collection.vectors()[0].tolist().index(row.image_id)
                ]
                for row in collection.images()
            }
            collection.export(tmp_path / "v.npz")
            with np.load(tmp_path / "v.npz") as archive:
                for path, vector_D in zip(archive["paths"], archive["vectors"], strict=True):
                    np.testing.assert_array_equal(vector_D, vector_of.pop(str(path)))
            assert not vector_of
            collection.export(tmp_path / "v.faiss")
            assert sorted(json.loads((tmp_path / "v.faiss.json").read_text())) == wanted
            collection.export(tmp_path / "v.parquet")
            table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
            assert sorted(table["path"].to_pylist()) == wanted

    def test_nothing_that_the_vectors_come_from_is_replaced(self, ready, tmp_path):
        collection = shutil.copy(ready[0], tmp_path / "c.npz")
        rng = np.random.default_rng(0)
        rooms = {name: rng.random((40, 16), np.float32) for name in "ab"}
        np.savez(tmp_path / "rooms.npz", **rooms)
        (tmp_path / "folder").mkdir()
        for name, local_lf in rooms.items():
            np.savez(tmp_path / "folder" / f"{name}.npz", descriptors=local_lf)
        with h5py.File(tmp_path / "feats.h5", "w") as file:
            for name, local_lf in rooms.items():
                file[f"{name}.jpg/descriptors"] = local_lf.T
                file[f"{name}.jpg/keypoints"] = rng.random((40, 2), np.float32)
        made = {collection: collection}
        sources = {
            "npz:rooms.npz": "rooms.npz", "npz:folder": "folder/a.npz", "hloc:feats.h5": "feats.h5"
        }  # fmt: skip
        for i, (source, target) in enumerate(sources.items()):
            kind, name = source.split(":")
            run(
                "index",
                f"{kind}:{tmp_path / name}",
                "-o",
                tmp_path / f"{i}.vlad",
                "--n-clusters",
                4,
            )
            made[tmp_path / f"{i}.vlad"] = tmp_path / target
        for file, target in made.items():
            before = target.read_bytes()
            done = run("export", file, target, code=2)
            assert f"{target} is read here: give another file to write to" in done.stderr
            assert target.read_bytes() == before
        run("export", tmp_path / "1.vlad", tmp_path / "folder" / "vectors.npz")
        run("export", tmp_path / "1.vlad", tmp_path / "folder" / "vectors.npz")

    def test_command(self, ready, tmp_path):
        done = run("export", ready[0], "-o", tmp_path / "v.faiss", "--json")
        assert json.loads(done.stdout)["written"] == [
            str(tmp_path / "v.faiss"), str(tmp_path / "v.faiss.json"),
        ]  # fmt: skip
        run("export", ready[0], "-o", tmp_path / "v.bin", code=2)
