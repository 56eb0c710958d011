"""Whitening, and adapting the codebook: every vector is made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from photos import cropped, photo
from stored import sql
from vladkit import Collection
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError
from vladkit.features.pool import extract
from vladkit.store.store import Store


def test_a_collection_whose_images_were_all_removed(made, tmp_path):
    with Collection.open(shutil.copy(made, tmp_path / "c")) as collection:
        collection.remove([row.path for row in collection.images()])
        for change in (collection.whiten, collection.adapt, collection.augment):
            with pytest.raises(NothingToIndexError, match="holds no images"):
                change()
        collection.augment(0)


class TestWhiten:
    def test_shorter_vectors_find_the_same(self, home, own, tmp_path):
        with Collection.open(own) as collection:
            long = collection.n_dimensions
            steps = []
            collection.whiten(10, progress=lambda *step: steps.append(step))
            assert (long, collection.n_dimensions) == (32 * 128, 10)
            assert steps[-1][0] == "whiten"
            assert collection.check() == []
            for name in ("coffee", "rocket", "chelsea"):
                cv2.imwrite(str(tmp_path / "q.png"), cropped(photo(name)))
                assert collection.search(tmp_path / "q.png", 1, rerank=0)[0].path == f"{name}.jpg"
        with Collection.open(own) as collection:  # again from the file
            hits = collection.search(home / "photos" / "moon.jpg", 0, rerank=0)
            assert hits[0].path == "moon.jpg"
            assert hits[0].score == pytest.approx(1, abs=2e-3)
            assert collection.info()["whitened"] is True
            assert collection.vectors()[1].shape == (15, 10)

    def test_images_added_later_go_through_the_same(self, home, own, tmp_path):
        shutil.copy(home / "photos" / "coffee.jpg", tmp_path / "again.jpg")
        with Collection.open(own) as collection:
            collection.whiten(8, exponent=0.5, power=1.0)
            collection.add([tmp_path / "again.jpg"])
            hits = collection.search(home / "photos" / "coffee.jpg", 2, rerank=0)
            assert sorted(hit.path.split("/")[-1] for hit in hits) == ["again.jpg", "coffee.jpg"]
            assert hits[1].score == pytest.approx(1, abs=2e-3)
            assert collection.check() == []

    def test_refusals_change_nothing(self, own, tmp_path):
        before = own.read_bytes()
        with Collection.open(own) as collection:
            for n in (15, 0):
                with pytest.raises(ParameterError, match="have 14 axes at most"):
                    collection.whiten(n)
            with pytest.raises(ParameterError, match="exponent"):
                collection.whiten(4, exponent=2)
        assert own.read_bytes() == before
        with Collection.open(own) as collection:
            collection.whiten(4)
            with pytest.raises(ParameterError, match="whitened to 4 dimensions already"):
                collection.whiten(3)
        with (
            Collection.create(tmp_path / "empty") as collection,
            pytest.raises(NothingToIndexError),
        ):
            collection.whiten(4)

    def test_another_process_that_has_not_noticed_cannot_spoil_it(self, home, own, tmp_path):
        shutil.copy(home / "photos" / "coffee.jpg", tmp_path / "again.jpg")
        with Collection.open(own) as late, Collection.open(own) as collection:
            collection.whiten(8)
            assert late.search(home / "query.png", 1)[0].path == "coffee.jpg"
            late.add([tmp_path / "again.jpg"])
            assert collection.check() == []
            assert len(collection) == 16
            assert collection.n_dimensions == late.n_dimensions == 8

    def test_command(self, home, own, tmp_path):
        done = run("whiten", own, "--n-components", 8, "-o", tmp_path / "small.vlad", cwd=home)
        assert "4096 dimensions became 8; 15 images" in done.stderr
        with Collection.open(own) as collection:
            assert collection.n_dimensions == 4096  # as it was
        done = run("search", tmp_path / "small.vlad", "query.png", "-n", 1, "-r", 3, cwd=home)
        assert done.stdout.split()[-1] == "photos/coffee.jpg"
        done = run("whiten", own, "--n-components", 99, "-o", tmp_path / "x", cwd=home, code=2)
        assert not (tmp_path / "x").exists()
        done = run(
            "whiten", own, "--n-components", 4, "-o", tmp_path / "small.vlad", cwd=home, code=1
        )
        assert "is there already" in done.stderr


@pytest.fixture(scope="module")
def made(home, tmp_path_factory):
    path = tmp_path_factory.mktemp("summed") / "c"
    with Collection.create(path, n_clusters=16, keep_sums=True, enlarge_to=0) as collection:
        collection.add([home / "photos" / "brick.jpg", home / "photos" / "grass.jpg"])
        collection.add([home / "photos"])
    return path


class TestAdapt:
    @pytest.fixture
    def summed(self, made, tmp_path):
        return Path(shutil.copy(made, tmp_path / "c"))

    @pytest.mark.parametrize(
        ("statement", "wanted"),
        [
            ("DELETE FROM aggregate WHERE picture_id = 3", "has no sums"),
            (
                "UPDATE aggregate SET count = CAST(substr(count, 1, 32) AS BLOB), residual = "
                "CAST(substr(residual, 1, length(residual) / 2) AS BLOB) WHERE picture_id = 3",
                "its sums have the wrong size",
            ),
        ],
    )
    def test_sums_that_do_not_fit_are_named(self, home, summed, statement, wanted):
        sql(summed, statement)
        with Collection.open(summed) as collection:
            with pytest.raises(FileFormatError, match="image 3 has no sums of its codebook's size"):
                collection.adapt()
            assert [p.text for p in collection.check(repair=True)] == [wanted]
            assert collection.add([home / "photos"]).indexed == 1
            assert collection.check() == []
            collection.adapt()

    def test_vectors_are_those_of_the_adapted_codebook(self, home, summed):
        query = home / "photos" / "coffee.jpg"
        with Collection.open(summed) as collection:
            old = collection.vlad
            before = collection.search(home / "query.png", 0, rerank=0)
            features = {
                row.path: extract(collection.extractor, row.file) for row in collection.images()
            }
            local = {
                path: collection.recipe.local(collection.extractor, f)
                for path, f in features.items()
            }
            collection.adapt()
            assert collection.check() == []
        wanted = old.adapt(old.aggregate(list(local.values())))
        assert not np.allclose(wanted.centroids_, old.centroids_)
        with Collection.open(summed) as collection:  # from the file
            np.testing.assert_allclose(collection.vlad.centroids_, wanted.centroids_, atol=1e-6)
            names = {row.image_id: row.path for row in collection.images()}
            ids, vector_nD = collection.vectors()
            own = wanted.transform([local[names[i]] for i in ids.tolist()])
            np.testing.assert_allclose(vector_nD, own, atol=2e-3)
            hits = collection.search(query, 2, rerank=0)
            assert hits[0].path.endswith("coffee.jpg")
            assert hits[0].score == pytest.approx(1, abs=2e-3)
            assert collection.search(home / "query.png", 0, rerank=0) != before

    def test_more_can_be_added_and_it_can_be_done_again(self, home, summed):
        with Collection.open(summed) as collection:
            collection.adapt()
            collection.add([home / "query.png"])
            assert collection.search(home / "query.png", 1, rerank=0)[0].score == pytest.approx(
                1, abs=2e-3
            )
            collection.adapt()
            assert collection.search(home / "query.png", 1, rerank=0)[0].score == pytest.approx(
                1, abs=2e-3
            )
            assert collection.check() == []

    def test_a_failure_changes_nothing(self, summed):
        before = summed.read_bytes()
        with Collection.open(summed) as collection:
            vlad = collection.vlad
            collection.index.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Store, "set_arrays", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    collection.adapt()
            assert collection.vlad is vlad
        assert summed.read_bytes() == before

    def test_refusals(self, home, summed, own, tmp_path):
        with Collection.open(own) as collection, pytest.raises(ParameterError, match="keep-sums"):
            collection.adapt()
        with Collection.open(summed) as collection:
            collection.whiten(4)
            with pytest.raises(ParameterError, match="adapt before"):
                collection.adapt()
        with pytest.raises(ParameterError, match="one vocabulary"):
            Collection.create(tmp_path / "x", keep_sums=True, n_vocabularies=2)
        assert not (tmp_path / "x").exists()

    def test_damaged_sums_are_found(self, home, summed):
        with Store.open(summed) as store, store.writing():
            store.connection.execute("UPDATE aggregate SET residual = x'00' WHERE picture_id = 2")
        with Collection.open(summed) as collection:
            (problem,) = collection.check()
            assert problem.text == "its sums have the wrong size"
            collection.check(repair=True)
            assert collection.check() == []
            collection.add([home / "photos"])
            collection.adapt()
            assert len(collection) == 15

    def test_command(self, home, tmp_path):
        some = ("photos/coffee.jpg", "photos/rocket.jpg")
        run("index", *some, "-o", tmp_path / "c", "--keep-sums", cwd=home)
        assert "adapted to 2 images" in run("adapt", tmp_path / "c", cwd=home).stderr
