"""A codebook file: learned once, however and wherever, and never changed by who uses it."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from vladkit import Collection
from vladkit.aggregation import shrinkage
from vladkit.collection import learn_codebook, train
from vladkit.core.array_file import read_arrays, write_arrays
from vladkit.core.names import image_key
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError, RecipeMismatchError

RECIPE = {"n_clusters": 4, "enlarge_to": 0, "max_features": 200, "n_words": 16}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folders a and b of six images each, and the codebook of a."""
    home = tmp_path_factory.mktemp("codebook")
    for i in range(12):
        folder = home / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{i:02}.png"), textured(80, 60, seed=i))
    Collection.learn(home / "words.npz", home / "a", **RECIPE)
    return home


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "header"}


def test_it_depends_on_neither_order_nor_threads(home, tmp_path, monkeypatch):
    monkeypatch.setattr(learn_codebook, "_SAMPLE_IMAGES", 7)
    monkeypatch.setattr(train, "_SHORT_FROM", 4)
    for name, sources, n_jobs in (("1", "ab", 1), ("2", "ba", 3)):
        report = Collection.learn(
            tmp_path / name, [home / each for each in sources], n_jobs=n_jobs, **RECIPE
        )
        assert (report.images, report.dimensions) == (7, 2)
    first, second = arrays(tmp_path / "1"), arrays(tmp_path / "2")
    assert first.keys() == second.keys() >= {"whitening.components", "words.centroids"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_collection_keeps_it_however_much_it_grows(home, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_SHORT_FROM", 4)
    with Collection.create(tmp_path / "c", codebook=home / "words.npz") as collection:
        collection.add(home / "a" / "00.png")
        learned = collection.index.describer.learned
        report = collection.add([home / "a", home / "b"])
        assert (report.indexed, report.outgrown) == (11, None)
        assert collection.index.describer.learned == learned
        info = collection.info()
        assert (info["learned_from"], info["stale"], info["whitened"]) == (6, False, False)
        assert collection.recipe.n_clusters == 4
        stored = collection.index.store.arrays()
    given = arrays(home / "words.npz")
    assert stored.keys() == given.keys()
    for name in given:
        np.testing.assert_array_equal(stored[name], given[name])


def test_shards_are_disjoint_and_complete_and_go_on(home, tmp_path):
    found = []
    for i in (1, 2, 3):
        path = tmp_path / str(i)
        with Collection.create(path, codebook=home / "words.npz") as collection:
            collection.add(home / "b", shard=(i, 3))
            assert collection.add(home / "b", shard=(i, 3)).indexed == 0
            found += [row.path for row in collection.images()]
    assert sorted(found) == sorted(os.listdir(home / "b"))


class TestRefused:
    def test_what_contradicts_it(self, home, tmp_path):
        with pytest.raises(RecipeMismatchError, match=r"words\.npz was made with n_clusters=4, as"):
            Collection.create(tmp_path / "c", codebook=home / "words.npz", n_clusters=9)
        assert not (tmp_path / "c").exists()

    def test_a_collection_with_another_one(self, home, tmp_path):
        with Collection.create(tmp_path / "c", **RECIPE) as collection:
            collection.add(home / "b")
        with pytest.raises(RecipeMismatchError, match=r"/c has another codebook than .*words"):
            Collection.create(tmp_path / "c", codebook=home / "words.npz")

    def test_a_shard_of_a_collection_that_learns_by_itself(self, home, tmp_path):
        with (
            Collection.create(tmp_path / "c", **RECIPE) as collection,
            pytest.raises(ParameterError, match="a shard needs the codebook of all"),
        ):
            collection.add(home / "b", shard=(1, 2))

    def test_a_damaged_file(self, home, tmp_path):
        data = bytearray((home / "words.npz").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "words.npz").write_bytes(data)
        with pytest.raises(FileFormatError, match=r"words\.npz is not a codebook"):
            Collection.create(tmp_path / "c", codebook=tmp_path / "words.npz")

    def test_one_that_makes_vectors_of_no_numbers(self, home, tmp_path):
        about, held = read_arrays(home / "words.npz", "codebook of collections", "")
        held["0.rotation"] = np.full_like(held["0.rotation"], 3e38)
        write_arrays(tmp_path / "words.npz", "codebook of collections", about, held)
        with pytest.raises(FileFormatError, match=r"0\.rotation is no rotation"):
            Collection.create(tmp_path / "c", codebook=tmp_path / "words.npz")

    def test_folders_without_an_image(self, tmp_path):
        with pytest.raises(NothingToIndexError, match="no images found"):
            Collection.learn(tmp_path / "w.npz", tmp_path)
        (tmp_path / "a.png").write_bytes(b"no image")
        with pytest.raises(NothingToIndexError, match="the one image cannot be used"):
            Collection.learn(tmp_path / "w.npz", tmp_path)
        assert os.listdir(tmp_path) == ["a.png"]


def test_a_codebook_of_features_for_images_makes_no_file(home, tmp_path):
    rng = np.random.default_rng(0)
    features = {f"{i}": rng.random((200, 8)).astype("f4") for i in range(4)}
    np.savez(tmp_path / "f.npz", **features)
    run("codebook", f"npz:{tmp_path}/f.npz", "-o", tmp_path / "w.npz", "--n-clusters", 4)
    file = tmp_path / "c.vlad"
    done = run("index", home / "b", "-o", file, "--codebook", tmp_path / "w.npz", code=1)
    assert f"{tmp_path}/w.npz holds features" in done.stderr
    assert not file.exists()
    run("index", home / "b", "-o", file, "--n-clusters", 4)


def test_by_the_commands(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--n-clusters", 4, "--enlarge-to", 0, "--n-words", 16]
    done = run("codebook", home / "b", "-o", "w.npz", *options)
    assert "w.npz: learned from 6 images" in done.stderr
    there = run("codebook", home / "b", "-o", "w.npz", *options, code=1).stderr
    assert "w.npz is there already, and shards may have been made with it" in there
    about = json.loads(run("codebook", home / "b", "-o", "v.npz", "--json", *options).stdout)
    assert (about["file"], about["images"], about["clusters"]) == ("v.npz", 6, 4)
    os.remove("v.npz")
    assert "a shard needs" in run("index", home / "b", "-o", "c", "--shard", "1/2", code=2).stderr
    with_words = ["--codebook", "w.npz"]
    for wrong in ("3/2", "1", "0/2", "a/b"):
        done = run("index", home / "b", "-o", "c", "--shard", wrong, *with_words, code=2)
        assert f"shard={wrong}" in done.stderr.replace("'", "")
    done = run("index", home / "b", "-o", "c", *with_words, "--seed", 3, code=1)
    assert "w.npz was made with seed=0" in done.stderr
    run("index", home / "b", "-o", "d.vlad", *with_words)
    missing = run("index", home / "b", "-o", "e.vlad", "--codebook", "no.npz", code=1).stderr
    assert "cannot read no.npz" in missing
    assert "did you mean" not in missing
    os.remove("d.vlad")
    assert os.listdir() == ["w.npz"]
    run("index", home / "b", "-o", "1.vlad", *with_words, "--shard", "1/2")
    again = json.loads(run("index", home / "b", "-o", "1.vlad", "--shard", "1/2", "--json").stdout)
    assert (again["indexed"], again["unchanged"]) == (0, again["images"])


class TestSampleOfAxes:
    """Axes are learned from some of many images, whose vectors are stored as those of others."""

    @pytest.fixture(autouse=True)
    def few(self, monkeypatch):
        monkeypatch.setattr(learn_codebook, "_SAMPLE_IMAGES", 8)
        monkeypatch.setattr(train, "_SHORT_FROM", 4)
        monkeypatch.setattr(shrinkage, "_FEWEST", 5)

    @pytest.fixture
    def words(self, home, tmp_path):
        Collection.learn(tmp_path / "w.npz", [home / "a", home / "b"], **RECIPE)
        return tmp_path / "w.npz"

    def test_theirs_are_shrunk(self, home, tmp_path, words):
        with Collection.create(tmp_path / "c", codebook=words) as collection:
            collection.add([home / "a", home / "b"])
            describer = collection.index.describer
            sample = describer.sample
            assert len(sample.keys) == 8
            assert (sample.shrinkage_d < 1).any()
            paths = {row.image_id: row for row in collection.images()}
            n_shrunk = 0
            for image_ids, stored_nd in collection.index.store.vector_blocks():
                for i, stored_d in zip(image_ids.tolist(), stored_nd, strict=True):
                    short_d = describer.vectors([collection.extract(paths[i].file)])[0]
                    if image_key(paths[i].path, 0) in sample.keys:
                        n_shrunk += 1
                        wanted_d = short_d * sample.shrinkage_d**describer.whitening.power
                        wanted_d /= np.linalg.norm(wanted_d)
                        assert np.abs(wanted_d - short_d).max() > 0.01
                    else:
                        wanted_d = short_d
                    np.testing.assert_allclose(stored_d, wanted_d, atol=1e-3)
        assert n_shrunk == 8

    def test_in_shards_as_in_one_collection(self, home, tmp_path, words):
        def add(name, **how):
            with Collection.create(tmp_path / name, codebook=words) as collection:
                collection.add([home / "a", home / "b"], **how)

        def vectors(name):
            with Collection.open(tmp_path / name) as collection:
                paths = {row.image_id: row.path for row in collection.images()}
                return {
                    paths[i]: vector_d.tobytes()
                    for ids, some_nd in collection.index.store.vector_blocks()
                    for i, vector_d in zip(ids.tolist(), some_nd, strict=True)
                }

        add("whole")
        for i in (1, 2):
            add(f"shard{i}", shard=(i, 2))
        Collection.merge(tmp_path / "merged", [tmp_path / "shard1", tmp_path / "shard2"])
        assert vectors("merged") == vectors("whole")
        with Collection.open(tmp_path / "merged") as collection:
            assert len(collection.index.describer.sample.keys) == 8

    def test_not_where_there_are_no_others(self, home, tmp_path):
        pytest.importorskip("lance")
        for name, folders, n_sample in (("1", ["a"], None), ("2", ["a", "b"], 8)):
            with Collection.create(tmp_path / f"{name}.lance", **RECIPE) as collection:
                collection.add([home / folder for folder in folders])
                sample = collection.index.describer.sample
                assert (sample and len(sample.keys)) == n_sample

    def test_not_where_vectors_have_few_dimensions(self, home, tmp_path):
        few = RECIPE | {"n_clusters": 1, "n_vocabularies": 1, "rotation": 2, "n_components": 1}
        few |= {"orientation": 0.0, "position": 0.0}
        Collection.learn(tmp_path / "w.npz", [home / "a", home / "b"], **few)
        assert "whitening.sample_keys" not in arrays(tmp_path / "w.npz")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda held: held["whitening.sample_shrinkage"].__setitem__(0, np.nan),
            lambda held: held.update({"whitening.sample_shrinkage": np.ones(1)}),
            lambda held: held.update({"whitening.sample_keys": np.ones(8)}),
            lambda held: held.pop("whitening.sample_shrinkage"),
        ],
    )
    def test_damaged(self, tmp_path, words, damage):
        about, held = read_arrays(words, "codebook of collections", "")
        damage(held)
        write_arrays(tmp_path / "d.npz", "codebook of collections", about, held)
        with pytest.raises(FileFormatError, match=r"d\.npz"):
            Collection.create(tmp_path / "c", codebook=tmp_path / "d.npz")
