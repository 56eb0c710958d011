"""Collections whose vectors are given, by a network or hloc: alone, or before local features."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

import sources
from commands import run
from images import textured
from networks import mean_colour, means
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.collection.recipe import Recipe
from vladkit.errors import (
    ModelError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
)
from vladkit.features.onnx import session as onnx_session

COLOURS = {"red": (250, 10, 10), "orange": (250, 120, 10), "blue": (10, 10, 250)}


def tinted(seed, rgb):
    """A texture in a colour."""
    gray = textured(160, 120, seed=seed).astype(np.float32) / 255
    return (gray[..., None] * rgb).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two textures in each of three colours, and a network that sees colour alone."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "photos").mkdir()
    for i, (name, rgb) in enumerate(COLOURS.items()):
        for seed in (0, 1):
            image = tinted(2 * i + seed, rgb)
            cv2.imwrite(str(folder / "photos" / f"{name}{seed}.png"), image[..., ::-1])
    cv2.imwrite(str(folder / "query.png"), tinted(1, (200, 30, 20))[..., ::-1])
    mean_colour(folder / "colour.onnx")
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    file = folder / "alone.vlad"
    with Collection.create(file, features=f"onnx:{folder / 'colour.onnx'}") as collection:
        assert collection.add([folder / "photos"]).indexed == 6
    return file


@pytest.fixture(scope="module")
def both(folder):
    """Textures by SIFT; colour by the network."""
    file = folder / "both.vlad"
    vectors = f"onnx:{folder / 'colour.onnx'}"
    with Collection.create(file, vectors=vectors, n_words=64) as collection:
        assert collection.add([folder / "photos"]).indexed == 6
    return file


@pytest.fixture
def own(alone, tmp_path):
    return shutil.copy(alone, tmp_path / "own.vlad")


def paths(hits):
    return [hit.path.removesuffix(".png") for hit in hits]


@pytest.mark.parametrize("name", ["alone", "both"])
def test_a_flipped_query_and_several(request, folder, name):
    """The vector of the mirror image is made of its pixels, whatever local features are."""
    flipped = folder / f"flipped_{name}.png"
    cv2.imwrite(str(flipped), cv2.flip(cv2.imread(str(folder / "photos" / "blue0.png")), 1))
    with Collection.open(request.getfixturevalue(name), read_only=True) as collection:
        for query in (flipped, "blue0.png"):
            hits = collection.search(query, top=2, mirrored=True)
            assert paths(hits)[0].startswith("blue")
            if name == "both":  # a mean colour is that of the mirror image
                assert (paths(hits)[0], hits[0].mirrored) == ("blue0", query == flipped)
        both = [folder / "photos" / "blue0.png", folder / "query.png"]
        found = paths(collection.search(both, top=4, together=True))
        assert {path[:3] for path in found} >= {"blu", "red"}


class TestAlone:
    def test_search(self, alone, folder):
        with Collection.open(alone, read_only=True) as collection:
            hits = collection.search(folder / "query.png", 0)
            assert set(paths(hits)[:2]) == {"red0", "red1"}
            assert set(paths(hits)[4:]) == {"blue0", "blue1"}
            assert [h.inliers for h in hits] == [None] * 6
            stored = collection.search("orange0.png", 1)[0]
            assert stored.path.startswith("orange")
            assert stored.similarity == pytest.approx(1, abs=1e-3)
            part = collection.search(folder / "query.png", 1, region=(0, 0, 64, 64))
            assert paths(part)[0].startswith("red")

    def test_vectors_have_unit_length_and_are_whole(self, alone):
        with Collection.open(alone, read_only=True) as collection:
            _, vector_nD = collection.vectors()
            assert vector_nD.shape == (6, 3)
            assert np.linalg.norm(vector_nD.astype(float), axis=1) == pytest.approx(1, abs=1e-3)
            assert collection.vlad is None
            about = collection.info()
        assert about["vectors_from"] == about["recipe"]["features"]
        assert (about["clusters"], about["words"], about["dimensions"]) == (None, 0, 3)

    def test_norm(self, folder, tmp_path):
        features = f"onnx:{folder / 'colour.onnx'}"
        with Collection.create(tmp_path / "c.vlad", features=features, norm="ssr,l2") as collection:
            collection.add([folder / "photos" / "blue0.png"])
            _, vector_1D = collection.vectors()
        rgb = np.sqrt(np.array(COLOURS["blue"], float))
        assert vector_1D[0] == pytest.approx(rgb / np.linalg.norm(rgb), abs=0.02)

    def test_what_needs_local_features_says_so(self, own, folder):
        message = "has one vector for an image and no local features"
        with Collection.open(own) as collection:
            for ask in (
                lambda: collection.search(folder / "query.png", rerank=3),
                lambda: collection.duplicates(),
                lambda: collection.pairs(2, rerank=2),
            ):
                with pytest.raises(ParameterError, match=message):
                    ask()
            with pytest.raises(
                ParameterError, match=r"no codebook: its vectors are those of onnx:"
            ):
                collection.adapt()
            with pytest.raises(ParameterError, match="no codebook"):
                collection.words(folder / "query.png")
            with pytest.raises(ParameterError, match="made of pixels"):
                collection.search("red0.png", region=(0, 0, 50, 50))
            assert len(collection.pairs(1).names) == 6

    def test_kept_up(self, own, folder, tmp_path):
        """Removed, added, whitened, exported, merged and checked as other collections are."""
        with Collection.open(own) as collection:
            assert collection.remove(["red0.png"]) == 1
            assert collection.add([folder / "photos"]).indexed == 1
            collection.whiten(2)
            assert paths(collection.search("blue1.png", 2))[0].startswith("blue")
            cv2.imwrite(str(tmp_path / "new.png"), tinted(3, COLOURS["blue"])[..., ::-1])
            assert collection.add([tmp_path / "new.png"]).indexed == 1
            found = paths(collection.search("blue1.png", 3))
            assert any(path.endswith("new") for path in found)
            collection.build_ann()
            assert collection.check() == []
            collection.export(tmp_path / "g.npz")
        assert np.load(tmp_path / "g.npz")["vectors"].shape == (7, 2)

    def test_shards_and_merge_need_no_codebook(self, folder, tmp_path):
        files = []
        for i, where in ((1, "a"), (2, "b")):
            model = tmp_path / where / "colour.onnx"  # the same network, elsewhere
            model.parent.mkdir()
            for end in (".onnx", ".toml"):
                shutil.copy(folder / f"colour{end}", model.with_suffix(end))
            files.append(tmp_path / f"{i}.vlad")
            with Collection.create(files[-1], features=f"onnx:{model}") as collection:
                collection.add([folder / "photos"], shard=(i, 2))
        report = Collection.merge(tmp_path / "all.vlad", files)
        assert (report.images, report.twice) == (6, 0)
        with pytest.raises(ParameterError, match="nothing is learned for vectors"):
            Collection.learn(
                tmp_path / "w.npz", folder / "photos", features=f"onnx:{folder / 'colour.onnx'}"
            )

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"n_clusters": 64}, "no codebook makes them"),
            ({"n_components": 64}, "kept whole.*`vladkit whiten`"),
            ({"keep_features": 100}, "no local features"),
            ({"norm": "intra,l2"}, "for the cells of a codebook"),
            ({"norm": "ssr"}, "last step has to be l2"),
            ({"vectors": "hloc:g.h5"}, "gives one vector already"),
        ],
    )
    def test_options_without_any_use_are_refused(self, folder, given, message):
        with pytest.raises(ParameterError, match=message):
            Recipe.make({"features": f"onnx:{folder / 'colour.onnx'}"} | given)

    def test_empty(self, folder, tmp_path):
        features = f"onnx:{folder / 'colour.onnx'}"
        with (
            Collection.create(tmp_path / "c.vlad", features=features) as collection,
            pytest.raises(NothingToIndexError, match="holds no images"),
        ):
            collection.search(folder / "query.png")

    def test_an_older_version_refuses_it_by_name(self, alone, both):
        """It reads the recipe first: neither the kind of output nor the field is known to it."""
        with Collection.open(alone, read_only=True) as collection:
            recipe = collection.recipe.as_json()
        assert json.loads(recipe["network"])["description"]["output"]["kind"] == "vector"
        with Collection.open(both, read_only=True) as collection:
            assert "vectors" in collection.recipe.as_json()
        assert "vectors" not in Recipe.make({}).as_json()


class TestBeforeLocalFeatures:
    def test_the_vector_finds_and_local_features_rank(self, both, folder):
        """By colour alone two images are alike; the texture tells which of them it is."""
        with Collection.open(both, read_only=True) as collection:
            hits = collection.search(folder / "query.png", 0, rerank=2)
            assert paths(hits)[0] == "red1"
            assert (hits[0].verified, hits[0].agreement > 0.1) == (True, True)
            by_colour = sorted(hits, key=lambda hit: -hit.similarity)
            assert {path[:-1] for path in paths(by_colour)[:2]} == {"red"}
            assert {path[:-1] for path in paths(by_colour)[4:]} == {"blue"}
            stored = collection.search("blue0.png", 1)[0]
            assert (stored.path, stored.verified) == ("blue0.png", True)
            with pytest.raises(ParameterError, match="rotated: vectors of"):
                collection.pairs(2, rotated=True)

    def test_found_again_by_sha256(self, both, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("VLADKIT_MODELS", str(tmp_path / "kept"))
        file = shutil.copy(both, tmp_path / "b.vlad")
        model = (tmp_path / "elsewhere.onnx", folder / "colour.onnx")
        for end in (".onnx", ".toml"):
            shutil.copy(model[1].with_suffix(end), model[0].with_suffix(end))
        with Collection.create(file, vectors=f"onnx:{model[0]}") as collection:
            assert collection.add([folder / "photos"]).unchanged == 6
        monkeypatch.setattr(onnx_session._Sessions, "by_model", {})
        hidden = (folder / "colour.onnx").rename(folder / "hidden.onnx")
        try:
            with Collection.open(file) as collection:
                with pytest.raises(ModelError, match=r"is not there .* VLADKIT_MODEL"):
                    collection.search(folder / "query.png")
                monkeypatch.setenv("VLADKIT_MODEL", str(model[0]))
                assert paths(collection.search(folder / "query.png", 1)) == ["red1"]
        finally:
            hidden.rename(folder / "colour.onnx")
        other = mean_colour(tmp_path / "other.onnx", shape=("b", 3, 16, 16))
        with pytest.raises(RecipeMismatchError, match="made with another network"):
            Collection.create(file, vectors=f"onnx:{other}")

    def test_learned_again_without_loss(self, folder, tmp_path):
        """A collection that grows learns its words again; vectors that are short by now stay."""
        vectors = f"onnx:{folder / 'colour.onnx'}"
        file = tmp_path / "c.vlad"
        with Collection.create(file, vectors=vectors, n_words=32) as collection:
            collection.add([folder / "photos" / "red0.png", folder / "photos" / "blue0.png"])
            before = collection.info()["learned_from"]
            collection.whiten(1)
            collection.add([folder / "photos"])
            after = collection.info()
            assert (before, after["learned_from"], after["dimensions"]) == (2, 6, 1)
            assert collection.vectors()[1].shape == (6, 1)
            assert collection.search("blue1.png", 1)[0].agreement > 0.5

    def test_duplicates(self, folder, tmp_path):
        shutil.copytree(folder / "photos", tmp_path / "photos")
        image = cv2.imread(str(tmp_path / "photos" / "orange0.png"))
        cv2.imwrite(str(tmp_path / "photos" / "copy.jpg"), image[:110, :150])
        vectors = f"onnx:{folder / 'colour.onnx'}"
        with Collection.create(tmp_path / "c.vlad", vectors=vectors, n_words=32) as collection:
            collection.add([tmp_path / "photos"])
            groups = collection.duplicates(flips=True, candidates=3)
        assert "copy.jpg" in [each.path for group in groups for each in group.others]

    def test_a_network_of_each(self, folder, tmp_path):
        """Defaults of the local network's description that are for a codebook have no use."""
        own = "[input]\nmultiple = 8\n[recipe]\nn_clusters = 8\nnorm = ['intra', 'l2']\n"
        local = means(tmp_path / "m.onnx", own + "max_side = 300\n")
        fields = {"features": f"onnx:{local}", "vectors": f"onnx:{folder / 'colour.onnx'}"}
        recipe = Recipe.make(fields)
        assert (recipe.norm, recipe.n_clusters, recipe.max_side) == (("l2",), 1, 300)
        assert Recipe.make(json.loads(json.dumps(recipe.as_json()))) == recipe
        with Collection.create(tmp_path / "c.vlad", n_words=16, **fields) as collection:
            collection.add([folder / "photos"])
            assert collection.search(folder / "query.png", 1)[0].agreement is not None

    def test_local_features_are_no_vector(self, folder, tmp_path):
        model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8\n")
        with pytest.raises(ParameterError, match="gives local features, not one vector"):
            Recipe.make({"vectors": f"onnx:{model}"})


class TestHloc:
    @pytest.fixture
    def vectors(self, folder, tmp_path):
        """Global descriptors of all images but one."""
        with h5py.File(tmp_path / "global.h5", "w") as file:
            for i, path in enumerate(sorted((folder / "photos").iterdir())[:-1]):
                vector_D = np.eye(6, 8, dtype=np.float16)[i] + np.float16(0.1)
                file.create_dataset(f"{path.name}/global_descriptor", data=vector_D)
        return f"hloc:{tmp_path / 'global.h5'}"

    def test_alone(self, vectors, tmp_path):
        recipe, notes = recipe_for(vectors)
        assert (recipe, notes) == ({"features": "hloc-global", "dimensions": 8}, [])
        with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
            assert collection.add([vectors]).indexed == 5
            hit = collection.search("red0.png", 1)[0]
            assert (hit.path, collection.image(hit.image_id).width) == ("red0.png", None)
            assert collection.add([vectors]).unchanged == 5
            assert collection.check() == []

    def test_beside_photos(self, vectors, folder, tmp_path):
        with Collection.create(tmp_path / "c.vlad", vectors=vectors, n_words=32) as collection:
            with pytest.raises(ParameterError, match=r"give vectors=hloc:global\.h5"):
                collection.add([folder / "photos"])
            report = collection.add([folder / "photos"], vectors=vectors)
            assert report.indexed == 5
            assert report.skipped == [("red1.png", "global.h5 has no vector of it")]
            hits = collection.search(folder / "photos" / "blue0.png", 2)
            assert hits[0].path == "blue0.png"
            with h5py.File(tmp_path / "global.h5", "a") as file:
                file.create_dataset("red1.png/global_descriptor", data=np.eye(6, 8)[5])
            assert collection.add([folder / "photos"], vectors=vectors).indexed == 1
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file.create_dataset("red1.png/global_descriptor", data=np.ones(4))
        with (
            Collection.open(tmp_path / "c.vlad") as collection,
            pytest.raises(RecipeMismatchError, match=r"of 8 dimensions, .*other.h5 holds 4"),
        ):
            collection.add([folder / "photos"], vectors=f"hloc:{tmp_path / 'other.h5'}")

    def test_that_have_changed_while_the_photos_have_not(self, vectors, folder, tmp_path):
        path = Path(vectors.removeprefix("hloc:"))
        for whiten in (False, True):
            with Collection.create(tmp_path / f"{whiten}.vlad", vectors=vectors) as collection:
                assert collection.add([folder / "photos"], vectors=vectors).indexed == 5
                if whiten:
                    collection.whiten(2)
                assert collection.add([folder / "photos"], vectors=vectors).unchanged == 5
                before = collection.vectors()[1].copy()
                with h5py.File(path, "a") as file:
                    file["red0.png"]["global_descriptor"][:] = np.eye(8)[3 + whiten]
                report = collection.add([folder / "photos"], vectors=vectors)
                assert (report.indexed, report.unchanged) == (1, 4)
                changed_n = (collection.vectors()[1] != before).any(axis=1)
                paths = [row.path for row in collection.images()]
                assert [p for p, is_new in zip(paths, changed_n, strict=True) if is_new] == [
                    "red0.png"
                ]
                assert collection.add([folder / "photos"], vectors=vectors).unchanged == 5

    def test_that_are_gone_or_unfit_by_now(self, vectors, folder, tmp_path):
        with Collection.create(tmp_path / "c.vlad", vectors=vectors) as collection:
            assert collection.add([folder / "photos"], vectors=vectors).indexed == 5
            with h5py.File(Path(vectors.removeprefix("hloc:")), "a") as file:
                del file["red0.png"], file["blue0.png"]
                file.create_dataset("blue0.png/global_descriptor", data=np.ones(5))
            report = collection.add([folder / "photos"], vectors=vectors)
            assert report.unchanged == 4, "one that has no vector any more stays as it was"
            assert ("blue0.png", "its vector has 5 dimensions, those of the collection 8") in (
                report.skipped
            )

    def test_beside_local_features_of_hloc(self, tmp_path):
        images = sources.sift_of_photos(4)
        sources.write_hloc(tmp_path / "f.h5", images)
        with h5py.File(tmp_path / "g.h5", "w") as file:
            for i, name in enumerate(images):
                file.create_dataset(f"{name}/global_descriptor", data=np.eye(4)[i] + 0.1)
        local, vectors = (f"hloc:{tmp_path / name}.h5" for name in "fg")
        recipe, _ = recipe_for(local, vectors=vectors, n_words=64)
        with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
            assert collection.add([local], vectors=vectors).indexed == 4
            first = sorted(images)[0]
            hit = collection.search(first, 2)[0]
            assert (hit.path, hit.verified, hit.similarity) == (
                first,
                True,
                pytest.approx(1, abs=1e-3),
            )
            assert collection.add([local], vectors=vectors).unchanged == 4
            with h5py.File(tmp_path / "g.h5", "a") as file:
                file[first]["global_descriptor"][:] = 1  # a change of the vector is seen, too
            assert collection.add([local], vectors=vectors).indexed == 1
        given, _ = recipe_for(local, vectors=f"onnx:{mean_colour(tmp_path / 'm.onnx')}")
        with pytest.raises(ParameterError, match="no image is read"):
            Recipe.make(given)


def test_by_command(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos, model = folder / "photos", f"onnx:{folder / 'colour.onnx'}"
    done = run(
        "index", photos, "-o", "c.vlad", "--features", model, "--device", "auto", "--batch", 2
    )
    assert "note: networks run on cpu\n" in done.stderr
    done = run("info", "c.vlad")
    assert f"by {model}" in done.stdout
    assert "one vector of an image, no local features" in done.stdout
    assert "clusters" not in done.stdout
    done = run("search", "c.vlad", folder / "query.png", "--top", 1, "--device", "cpu", "--json")
    assert json.loads(done.stdout)["results"][0]["path"].startswith("red")
    done = run("index", photos, "-o", "s.vlad", "--device", "cpu", code=2)
    assert "device and batch are for networks" in done.stderr
    assert not (tmp_path / "s.vlad").exists()
    done = run("index", photos, "-o", "w.vlad", "--vectors", model, "--n-words", 32)
    assert run("info", "w.vlad").stdout.count(model) == 2
