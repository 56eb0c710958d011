"""A folder of images becomes searchable: photographs, altered and from other sides."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from paths import SHARED
from photos import ALTERED, NAMES, photo
from small import make
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.errors import (
    ImageError,
    NothingToIndexError,
    ParameterError,
)
from vladkit.features.pool import extract
from vladkit.features.readers import open_reader
from vladkit.store import store
from vladkit.store.blocks import Layout
from vladkit.store.exact import score_all


@pytest.fixture(scope="module")
def defaults(photos, tmp_path_factory):
    """The photographs, indexed with the default recipe; copy before changing."""
    file = tmp_path_factory.mktemp("defaults") / "photos.vlad"
    with Collection.create(file) as collection:
        assert collection.add([photos]).indexed == len(NAMES)
    return file


class TestSearch:
    @pytest.mark.parametrize("alteration", ALTERED)
    def test_the_right_photograph_comes_first(self, defaults, tmp_path, alteration):
        first = {}
        with Collection.open(defaults, read_only=True) as collection:
            for name in NAMES:
                query = tmp_path / f"{name}.jpg"
                cv2.imwrite(str(query), ALTERED[alteration](photo(name)))
                first[name] = collection.search(query, top=1)[0].path
        assert first == {name: f"{name}.jpg" for name in NAMES}

    def test_other_view_of_the_same_thing(self, defaults, tmp_path):
        cv2.imwrite(str(tmp_path / "q.png"), photo("motorcycle_right"))
        with Collection.open(defaults) as collection:
            assert collection.search(tmp_path / "q.png")[0].path == "motorcycle_left.jpg"

    @pytest.mark.parametrize("weights", [(0.25, 0.1), (1.0, 0.0), (0.0, 1.0)])
    def test_turned_features_are_those_of_the_turned_image(self, tmp_path, weights):
        cv2.imwrite(str(tmp_path / "q.png"), photo("coffee"))
        for quarter in range(3):  # cv2's codes turn by one, two, three quarters clockwise
            turned = cv2.rotate(photo("coffee"), quarter)
            cv2.imwrite(str(tmp_path / f"{quarter}.png"), turned)
        recipe = {"n_clusters": 16, "orientation": weights[0], "position": weights[1]}
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add([tmp_path / "q.png"])
            files = [str(tmp_path / f"{name}.png") for name in ("q", 0, 1, 2)]
            features = [extract(collection.extractor, file) for file in files]
            query_qvD = collection.index.describer.query_vectors(features)
        for quarter in range(3):
            cosine_v = query_qvD[0] @ query_qvD[quarter + 1, 0]
            assert np.argmax(cosine_v) == quarter + 1
            assert cosine_v[quarter + 1] > 0.5

    def test_a_query_on_its_side(self, defaults, tmp_path):
        with Collection.open(defaults) as collection:
            for name in ("coffee", "rocket", "chelsea"):
                cv2.imwrite(str(tmp_path / "q.png"), cv2.rotate(photo(name), 0))
                first, second = collection.search(tmp_path / "q.png", top=2)
                assert first.path == f"{name}.jpg"
                assert second.score < first.score / 3

    def test_itself_is_found_with_score_one(self, defaults, photos):
        with Collection.open(defaults) as collection:
            hits = collection.search(photos / "coffee.jpg", top=0, rerank=0)
        assert len(hits) == len(NAMES)
        assert (hits[0].path, hits[0].file) == ("coffee.jpg", str(photos / "coffee.jpg"))
        assert hits[0].score == pytest.approx(1, abs=1e-3)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)

    def test_top(self, defaults, photos):
        with Collection.open(defaults) as collection:
            everything = collection.search(photos / "moon.jpg", top=0, rerank=0)
            assert collection.search(photos / "moon.jpg", top=3, rerank=0) == everything[:3]
            assert collection.search(photos / "moon.jpg", top=999, rerank=0) == everything
            order = [hit.path for hit in collection.search(photos / "moon.jpg", top=0)]
            found = collection.search(photos / "moon.jpg", top=3)
            assert [hit.path for hit in found] == order[:3]
            with pytest.raises(ParameterError):
                collection.search(photos / "moon.jpg", top=-1)

    def test_query_that_cannot_be_used(self, defaults, tmp_path):
        (tmp_path / "text.jpg").write_text("no image")
        with Collection.open(defaults) as collection:
            with pytest.raises(ImageError):
                collection.search(tmp_path / "text.jpg")
            with pytest.raises(ImageError):
                collection.search(tmp_path / "nothing.jpg")

    def test_equal_scores_in_the_order_of_paths(self, tmp_path, small):
        for name in ("z.png", "a.png", "m.png"):
            shutil.copy(small / "3.png", small / name)
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            hits = collection.search(small / "3.png", top=2)
            assert [hit.path for hit in hits] == ["3.png", "a.png"]

    def test_empty_collection(self, tmp_path, small):
        with (
            Collection.create(tmp_path / "c") as collection,
            pytest.raises(NothingToIndexError, match="no images yet"),
        ):
            collection.search(small / "0.png")


class TestRanking:
    def test_blocks_change_nothing(self, defaults):
        with store.Store.open(defaults) as opened:
            size = 256 * 128
            query_qD = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
            query_qD /= np.linalg.norm(query_qD, axis=1, keepdims=True)
            opened.layout = Layout(np.dtype("f2"), size)
            blocks = list(opened.vector_blocks())
            one = score_all(query_qD, blocks)
            many = score_all(
                query_qD, [(i[a:][:4], v[a:][:4]) for i, v in blocks for a in range(0, len(i), 4)]
            )
        np.testing.assert_array_equal(one[0], many[0])
        np.testing.assert_array_equal(one[1], many[1])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_real_buildings_from_another_side(tmp_path):
    folder = SHARED / "data" / "kth_buildings"
    files = sorted((folder / "db").iterdir())[:15]
    buildings = {file.name.split("_")[0] for file in files}
    queries = [q for q in sorted((folder / "query").iterdir()) if q.name.split("_")[0] in buildings]
    with Collection.create(tmp_path / "c") as collection:
        collection.add(files)
        first = [Path(collection.search(query, 1)[0].path).name for query in queries]
    right = [f.split("_")[0] == q.name.split("_")[0] for f, q in zip(first, queries, strict=True)]
    assert len(right) >= 5
    assert all(right)


class _Path:
    """A path of some other library."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.mark.parametrize("kind", [str, Path, _Path, os.fsencode])
def test_a_path_of_any_kind_alone_or_among_others(tmp_path, small, kind):
    with Collection.create(tmp_path / "c", n_clusters=2, enlarge_to=0) as collection:
        assert collection.add(kind(small)).indexed == 6
        assert collection.add([kind(small)]).unchanged == 6
        assert collection.remove(kind(small / "1.png")) == 1
        assert collection.remove(iter([kind(small / f"{i}.png") for i in (0, 2, 3, 4)])) == 4
        assert [row.path for row in collection.images()] == ["5.png"]
        for wrong in (None, 7, [7], [np.zeros((8, 8), np.uint8)]):
            for change in (collection.add, collection.remove):
                with pytest.raises(ParameterError, match="give one path or several"):
                    change(wrong)
        assert len(collection) == 1


def test_a_source_of_features_as_a_path(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 8), np.float32))
    source = Path(f"npz:{tmp_path}")
    with open_reader(source) as reader:
        assert reader.names() == ["a"]
    assert recipe_for(source)[0]["dimensions"] == 8
