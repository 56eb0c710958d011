"""Vectors that are joined with their neighbours'."""

from __future__ import annotations

import numpy as np
import pytest

from commands import run
from vladkit import Collection
from vladkit.aggregation.query_expansion import augment_database
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError
from vladkit.features.pool import extract


class TestAugment:
    def test_scores_are_those_of_augmented_vectors(self, home, own):
        with Collection.open(own) as collection:
            files = [home / "query.png", home / "photos" / "grass.jpg"]
            features = [extract(collection.extractor, str(file)) for file in files]
            query_qvD = collection.index.describer.query_vectors(features)
            ids, vector_nD = collection.vectors()
            collection.augment(3)
            got_ids, score_qn = collection.index.searcher.scores(query_qvD)
        ((augmented_nD),) = augment_database(lambda: [vector_nD], n_neighbors=3, alpha=1.0)
        score_qvn = query_qvD @ augmented_nD.T
        score_qvn[:, 1:] *= 0.8
        np.testing.assert_array_equal(got_ids, ids)
        np.testing.assert_allclose(score_qn, score_qvn.max(axis=1), atol=1e-5)

    def test_lasts_until_a_image_changes(self, home, own):
        def scores():
            with Collection.open(own, read_only=True) as collection:
                hits = collection.search(home / "query.png", 0)
                return {hit.path: hit.score for hit in hits}, collection.info()["augmented"]

        plain, on = scores()
        assert on is False
        with Collection.open(own) as collection:
            before = collection.stamp()
            collection.augment(2)
            assert collection.stamp() == before
            assert collection.check() == []
        augmented, on = scores()
        assert on is True
        assert augmented != plain
        with Collection.open(own) as collection:
            collection.remove(["moon.jpg"])
        stale, on = scores()
        assert on is False
        assert stale == {path: s for path, s in plain.items() if path != "moon.jpg"}
        with Collection.open(own) as collection:
            collection.augment(2)
            assert collection.info()["augmented"] is True
            collection.augment(0)
        assert scores() == (stale, False)

    def test_is_seen_by_a_reader_that_is_open(self, home, own):
        def scores(collection):
            return {hit.path: hit.score for hit in collection.search(home / "query.png", 0)}

        with Collection.open(own, read_only=True) as reader:
            plain = scores(reader)
            for n_neighbors in (2, 3, 0):
                before = scores(reader)
                with Collection.open(own) as collection:
                    collection.augment(n_neighbors)
                    assert scores(collection) == scores(reader) != before
            assert scores(reader) == plain

    @pytest.mark.parametrize(
        ("name", "value"),
        [("places", 10**9), ("places", -1), ("places", np.float32(0)), ("weights", np.nan)],
    )
    def test_damaged(self, home, own, name, value):
        with Collection.open(own) as collection:
            collection.augment(2)
            store = collection.index.store
            array_nr = store.arrays("~augment.*")[f"~augment.{name}"]
            array_nr = array_nr.astype(np.asarray(value).dtype)
            array_nr[3, 1] = value
            with store.writing():
                store.set_arrays({f"~augment.{name}": array_nr})
        with (
            Collection.open(own, read_only=True) as collection,
            pytest.raises(FileFormatError, match="its augmentation is damaged: augment again"),
        ):
            collection.search(home / "query.png")

    def test_errors(self, own, tmp_path):
        with Collection.open(own) as collection:
            with pytest.raises(ParameterError, match="n_neighbors"):
                collection.augment(-1)
            with pytest.raises(ParameterError, match="alpha"):
                collection.augment(2, alpha=-1)
        with Collection.create(tmp_path / "new") as collection, pytest.raises(NothingToIndexError):
            collection.augment()

    def test_command(self, own, home):
        done = run("augment", own, cwd=home)
        assert "15 images joined with 2 neighbours each" in done.stderr
        run("augment", own, "-n", 0, "--json", cwd=home)
