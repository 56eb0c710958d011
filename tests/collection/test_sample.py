"""The sample is drawn by keys: not by order, threads or shards."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from images import textured
from vladkit import Collection
from vladkit.collection import learner
from vladkit.collection.recipe import Recipe
from vladkit.collection.sample import Drawing, check_shard, in_shard, order_of
from vladkit.core.names import image_key
from vladkit.errors import ParameterError

PATHS = [f"trip/{i:03}.jpg" for i in range(400)]


def test_a_key_is_of_seed_and_path_however_its_letters_are_composed():
    assert image_key("Cafe\u0301.jpg", 0) == image_key("Caf\u00e9.jpg", 0)
    assert len({image_key(path, seed) for path in PATHS for seed in (0, 1)}) == 800
    assert image_key("a\udcff.jpg", 0) < 2**64  # a name that is no text


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_each_image_is_in_one_shard(n):
    shards = [[p for p in PATHS if in_shard(p, 0, (i, n))] for i in range(1, n + 1)]
    assert sorted(path for shard in shards for path in shard) == PATHS
    assert min(map(len, shards)) > 0.6 * 400 / n
    with pytest.raises(ParameterError, match="from 1 to"):
        check_shard((n + 1, n))


def test_the_shards_samples_together_are_the_sample():
    def key(path):
        return order_of(path, path, 0)

    sample = sorted(PATHS, key=key)[:50]
    threshold = key(sample[-1])
    shards = [[p for p in PATHS if in_shard(p, 0, (i, 3))] for i in (1, 2, 3)]
    by_threshold = [p for shard in shards for p in shard if key(p) <= threshold]
    by_rank = [p for shard in shards for p in sorted(shard, key=key)[:50]]
    assert sorted(by_threshold, key=key) == sorted(by_rank, key=key)[:50] == sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    for i in range(8):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "ab"[i % 2] / f"{i}.png"), textured(180, 140, seed=i))
    return folder


def learned_from(path, monkeypatch, sources, **options):
    """Rows that a collection learns from."""
    rows = []

    def keep(describer, local_Nf, n_jobs):
        rows.append(local_Nf)
        return real(describer, local_Nf, n_jobs)

    real = learner.train
    monkeypatch.setattr(learner, "train", keep)
    with Collection.create(path, n_clusters=4, enlarge_to=0, n_words=16) as collection:
        collection.add(sources, **options)
        features = {row.path: collection.extract(row.file) for row in collection.images()}
    monkeypatch.setattr(learner, "train", real)
    return rows[0], features


def test_rows_depend_on_neither_order_nor_threads(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "_FEW_IMAGES", 5)
    a, b = folder / "a", folder / "b"
    row_Nf, _ = learned_from(tmp_path / "1", monkeypatch, [a, b], n_jobs=1)
    again_Nf, _ = learned_from(tmp_path / "2", monkeypatch, [b, a], n_jobs=3)
    np.testing.assert_array_equal(row_Nf, again_Nf)


def test_rows_are_drawn_from_each_image_by_its_key(folder, tmp_path, monkeypatch):
    """By image: so rows of shards, put together in the order of keys, are the rows of all."""
    row_Nf, features = learned_from(tmp_path / "c", monkeypatch, [folder])
    recipe = Recipe.make({"n_clusters": 4, "enlarge_to": 0, "n_words": 16})
    parts = []
    for path in sorted(features, key=lambda path: order_of(path, path, 0)):
        drawing = Drawing(recipe, recipe.extractor(), 256 * 4, 8)
        drawing.add(path, features[path])
        parts.append(drawing.rows())
    assert {len(part) for part in parts} == {200}, "a part of each image"
    together_Nf = np.concatenate(parts)
    assert len(row_Nf) == 256 * 4 < len(together_Nf)
    rows = {row.tobytes() for row in together_Nf}
    assert all(row.tobytes() in rows for row in row_Nf)
