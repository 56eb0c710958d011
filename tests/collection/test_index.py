"""An open collection file: its recipe, extractor and layout are made once."""

from __future__ import annotations

import numpy as np
import pytest

from networks import means
from vladkit import Collection, cli
from vladkit.collection.recipe import Recipe
from vladkit.errors import RecipeMismatchError
from vladkit.features.onnx import load
from vladkit.store.blocks import Layout


def counted(monkeypatch, owner, name):
    """Calls of a function from now on."""
    calls = []
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: calls.append(a) or real(*a, **k))
    return calls


class TestOnce:
    def test_a_command_loads_a_network_once(self, tmp_path, small, monkeypatch):
        model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8\n")
        loads = counted(monkeypatch, load, "load_network")
        hashes = counted(monkeypatch, load, "sha256_of")
        command = ["index", str(small), "-o", str(tmp_path / "c"), "--features", f"onnx:{model}"]
        monkeypatch.setattr("sys.argv", ["vladkit", *command, "--n-clusters", "8"])
        for n in (1, 2):  # a new file, and the one that is there
            with pytest.raises(SystemExit) as done:
                cli.main()
            assert not done.value.code
            assert (len(loads), len(hashes)) == (n, n)

    def test_the_extractor_of_a_new_collection_is_made_once_and_checked_once(
        self, tmp_path, monkeypatch
    ):
        made = counted(monkeypatch, Recipe, "extractor")
        Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0).close()
        assert len(made) <= 3  # `make` checks twice: what is given, and what the file has


class TestLayout:
    def test_it_is_that_of_the_codebook_and_of_the_whitening(self, tmp_path, small):
        with Collection.create(
            tmp_path / "c", n_clusters=8, dtype="float32", enlarge_to=0
        ) as collection:
            store = collection.index.store
            assert store.layout == Layout(np.dtype("f4"), 0)
            collection.add([small])
            assert store.layout == Layout(np.dtype("f4"), 8 * 128)
            collection.whiten(3)
            assert store.layout == Layout(np.dtype("f4"), 3)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.index.store.layout == Layout(np.dtype("f4"), 3)
            image_id_n, vector_nD = collection.vectors()
            assert (vector_nD.dtype, vector_nD.shape) == (np.float32, (6, 3))
            assert image_id_n.tolist() == sorted(row.image_id for row in collection.images())

    def test_a_failed_whitening_leaves_it(self, tmp_path, small, monkeypatch):
        with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
            collection.add([small])
            before = collection.vectors()[1].tobytes()
            monkeypatch.setattr(type(collection.index.store), "set_arrays", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                collection.whiten(3)
            assert collection.index.store.layout.n_dimensions == 8 * 128
            assert collection.vectors()[1].tobytes() == before


def test_a_recipe_is_compared_where_it_was_given(tmp_path, small):
    with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
        collection.add([small])
    Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0).close()
    with Collection.create(tmp_path / "c") as collection:  # the rest is the file's
        assert collection.recipe.n_clusters == 8
    with pytest.raises(RecipeMismatchError, match="n_clusters=8, asked for is 16"):
        Collection.create(tmp_path / "c", n_clusters=16, enlarge_to=0)


def test_a_recipe_that_was_made_already(tmp_path):
    recipe = Recipe.make({"n_clusters": 8})
    with Collection.create(tmp_path / "c", recipe) as collection:
        assert collection.recipe == recipe
    with Collection.create(tmp_path / "d", recipe, n_clusters=8, enlarge_to=0) as collection:
        assert collection.recipe == recipe


def test_repr(tmp_path, small):
    with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
        collection.add([small])
        assert repr(collection) == f"Collection({str(tmp_path / 'c')!r}, 6 images)"
    assert repr(collection) == f"Collection({str(tmp_path / 'c')!r}, closed)"
