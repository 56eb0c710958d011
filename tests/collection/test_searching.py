"""Re-ranking, expansion and whitening of a collection of real photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from photos import NAMES, cropped, photo
from vladkit import Collection
from vladkit.aggregation.query_expansion import augment_database
from vladkit.errors import ImageError, NothingToIndexError, ParameterError, StorageError
from vladkit.features.pool import extract
from vladkit.geometry.verification import MIN_INLIERS, rescore
from vladkit.images import Region
from vladkit.store.ann import AnnIndex
from vladkit.store.blocks import Layout
from vladkit.store.rows import ImageRow, Record
from vladkit.store.store import Store


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two photographs side by side."""
    path = tmp_path_factory.mktemp("pair") / "pair.png"
    left, right = (cv2.resize(photo(name), (600, 400)) for name in ("coffee", "chelsea"))
    cv2.imwrite(str(path), np.hstack([left, right]))
    return path


@pytest.fixture
def own(home, tmp_path):
    return Path(shutil.copy(home / "photos.vlad", tmp_path / "own.vlad"))


class TestRerank:
    def test_the_match_and_where_it_lies(self, home):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            hits = collection.search(home / "query.png", 3, rerank=5)
        best, second, _ = hits
        assert best.path == "coffee.jpg"
        assert best.inliers > 100
        assert second.inliers < MIN_INLIERS
        h = photo("coffee").shape[0]
        wanted_33 = np.array([[1, 0, 0], [0, 1, h // 5], [0, 0, 1]])  # cropped from the top
        corners_42 = np.array([[0, 0], [400, 0], [0, 300], [400, 300]], float)
        mapped_42 = cv2.perspectiveTransform(corners_42[None], best.verification.transform_33)[0]
        np.testing.assert_allclose(mapped_42, corners_42 + wanted_33[:2, 2], atol=1)
        shift_m2 = best.verification.match_xy_m2 - best.verification.query_xy_m2
        assert len(shift_m2) == best.inliers
        np.testing.assert_allclose(np.median(shift_m2, axis=0), [0, h // 5], atol=0.5)

    def test_only_the_first_are_matched_and_scores_fall(self, home):
        with Collection.open(home / "photos.vlad") as collection:
            plain = collection.search(home / "query.png", 0)
            hits = collection.search(home / "query.png", 0, rerank=4)
        assert [hit.inliers is not None for hit in hits] == [True] * 4 + [False] * 11
        assert {h.path for h in hits[:4]} == {h.path for h in plain[:4]}
        assert [h.path for h in hits[4:]] == [h.path for h in plain[4:]]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert {h.path: h.similarity for h in hits} == {h.path: h.score for h in plain}
        for hit in hits[:4]:
            wanted = rescore(np.array([hit.similarity]), np.array([hit.inliers]))[0]
            assert hit.score == pytest.approx(wanted, abs=1e-6)

    def test_a_wrong_order_is_put_right(self, home, own):
        """Vectors that say nothing: only the geometry can tell."""
        with Store.open(own) as store, store.writing():
            dtype = np.dtype("f2")
            store.layout = Layout(dtype, 32 * 128)
            rng = np.random.default_rng(0)

            def noise(_, vector_nD):
                noise_nD = rng.normal(size=vector_nD.shape)
                return (noise_nD / np.linalg.norm(noise_nD, axis=1, keepdims=True)).astype(dtype)

            store.rewrite(noise)
        with Collection.open(own) as collection:
            for name in ("coffee", "rocket"):
                cv2.imwrite(str(own.parent / "q.png"), cropped(photo(name)))
                hits = collection.search(own.parent / "q.png", 1, rerank=len(NAMES))
                assert hits[0].path == f"{name}.jpg"

    def test_turned_and_shrunk(self, home, tmp_path):
        image = cv2.resize(cv2.rotate(photo("chelsea"), 0), None, fx=0.6, fy=0.6)
        cv2.imwrite(str(tmp_path / "q.png"), image)
        with Collection.open(home / "photos.vlad") as collection:
            best = collection.search(tmp_path / "q.png", 1, rerank=10)[0]
        assert best.path == "chelsea.jpg"
        linear_22 = best.verification.transform_33[:2, :2]
        np.testing.assert_allclose(linear_22, np.array([[0, 1], [-1, 0]]) / 0.6, atol=0.02)

    def test_fundamental(self, home, tmp_path):
        cv2.imwrite(str(tmp_path / "q.png"), photo("motorcycle_right"))
        with Collection.open(home / "photos.vlad") as collection:
            best = collection.search(tmp_path / "q.png", 1, rerank=10, model="fundamental")[0]
        assert best.path == "motorcycle_left.jpg"
        assert best.verification.model == "fundamental"
        f_33 = best.verification.transform_33
        query_m3 = np.column_stack([best.verification.query_xy_m2, np.ones(best.inliers)])
        match_m3 = np.column_stack([best.verification.match_xy_m2, np.ones(best.inliers)])
        line_m3 = query_m3 @ f_33.T
        off_m = np.abs((line_m3 * match_m3).sum(axis=1)) / np.linalg.norm(line_m3[:, :2], axis=1)
        assert np.median(off_m) < 2

    def test_the_same_each_time(self, home):
        def search():
            with Collection.open(home / "photos.vlad") as collection:
                hits = collection.search(home / "query.png", 5, rerank=5)
            return [(h.path, h.score, h.verification.match_xy_m2.tolist()) for h in hits]

        assert search() == search()

    def test_a_image_without_features_has_no_inliers(self, home, own):
        with Store.open(own) as store, store.writing():
            store.connection.execute("DELETE FROM feature WHERE picture_id < 10")
        with Collection.open(own) as collection:
            hits = collection.search(home / "query.png", 0, rerank=15)
        assert sum(hit.inliers is None for hit in hits) == 9
        assert len(hits) == 15

    def test_errors(self, home, tmp_path):
        with Collection.open(home / "photos.vlad") as collection:
            for wrong in ({"top": -1}, {"rerank": -2}, {"expand": -1}):
                with pytest.raises(ParameterError, match="give a number of images"):
                    collection.search(home / "query.png", **wrong)
            with pytest.raises(ParameterError, match="model"):
                collection.search(home / "query.png", rerank=2, model="affine")
        with Collection.create(tmp_path / "c", n_clusters=8, keep_features=0) as collection:
            collection.add([home / "query.png"])
            with pytest.raises(ParameterError, match=r"keeps no features .*--keep-features"):
                collection.search(home / "query.png", rerank=5)

    def test_command(self, home):
        done = run("search", "photos.vlad", "query.png", "-n", 2, "--rerank", 5, cwd=home)
        first = done.stdout.splitlines()[0].split()
        assert first[0] == "1"
        assert first[3:] == ["matches", "photos/coffee.jpg"]
        assert int(first[2]) > 100
        done = run("search", "photos.vlad", "query.png", "-r", 5, "-n", 7, "--json", cwd=home)
        results = json.loads(done.stdout)["results"]
        assert results[0]["inliers"] > 100
        assert np.array(results[0]["transform"]).shape == (3, 3)
        assert results[0]["score"] > results[0]["similarity"]
        assert (results[6]["inliers"], results[6]["transform"]) == (None, None)


class TestRegion:
    """Searching by a part of an image, here a page of two photographs side by side."""

    def test_each_part_finds_its_own_and_points_are_of_the_whole(self, home, pair):
        found = {}
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            for left, name in ((0, "coffee"), (600, "chelsea")):
                region = Region(left, 0, 600, 400)
                (hit, *_) = collection.search(pair, 1, rerank=3, region=region)
                assert (hit.path, hit.inliers > 50) == (f"{name}.jpg", True)
                found[name] = hit.verification
        for left, name in ((0, "coffee"), (600, "chelsea")):
            h, w = photo(name).shape[:2]
            points_m2, transform_33 = found[name].query_xy_m2, found[name].transform_33
            assert points_m2[:, 0].min() >= left - 1
            assert points_m2[:, 0].max() <= left + 600
            centre_3 = transform_33 @ [left + 299.5, 199.5, 1]
            expected = (w - 1) / 2, (h - 1) / 2
            assert centre_3[:2] / centre_3[2] == pytest.approx(expected, abs=4)

    def test_one_outside_is_refused(self, home, pair):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            with pytest.raises(ParameterError, match="outside of the image of 1200x400"):
                collection.search(pair, region=Region(1200, 0, 10, 10))
            with pytest.raises(ImageError, match="too small: 10x10"):
                collection.search(pair, region=Region(0, 0, 10, 10))

    def test_command(self, home, pair):
        done = run("search", "photos.vlad", pair, "--region", "600,0,600,400", "-n1", cwd=home)
        assert done.stdout.split()[-1] == "photos/chelsea.jpg"
        done = run("search", "photos.vlad", pair, "--region", "600,0,600", cwd=home, code=2)
        assert "left,top,width,height" in done.stderr


class TestLooking:
    def test_pages(self, home):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            paths = [row.path for row in collection.images()]
            total, rows = collection.page(2, 3)
            assert (total, [row.path for row in rows]) == (len(NAMES), paths[2:5])
            assert collection.page(len(NAMES))[1] == []
            assert [row.path for row in collection.page(contains="OFF")[1]] == ["coffee.jpg"]
            for text in ("%", "_", "!", "'"):
                wanted = [path for path in paths if text in path]
                assert [row.path for row in collection.page(contains=text)[1]] == wanted
            assert collection.page(skipped=True) == (0, [])
            with pytest.raises(ParameterError, match="offset=-1"):
                collection.page(-1)

    def test_one_image(self, home):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            hit = collection.search(home / "query.png", 1)[0]
            assert collection.image(hit.image_id).path == hit.path == "coffee.jpg"
            features = collection.extract(home / "query.png")
            verified = collection.verify(features, hit.image_id)
            assert (
                verified.n_inliers == collection.search(home / "query.png", 1, rerank=1)[0].inliers
            )
            kept = collection.features_of(hit.image_id)
            assert len(kept) == collection.recipe.keep_features
            for missing in (0, 10**6):
                with pytest.raises(ParameterError, match="has no image"):
                    collection.image(missing)
                with pytest.raises(ParameterError, match="has no image"):
                    collection.verify(features, missing)
                assert collection.features_of(missing) is None


class TestExpand:
    def test_neighbours_of_neighbours_come_closer(self, tmp_path):
        """b shares its halves with a and c: c is found through b."""
        left, middle, right = (textured(200, 200, seed=i) for i in range(3))
        (tmp_path / "p").mkdir()
        cv2.imwrite(str(tmp_path / "p/b.png"), np.hstack([left, middle]))
        cv2.imwrite(str(tmp_path / "p/c.png"), np.hstack([middle, right]))
        for i in range(8):
            cv2.imwrite(str(tmp_path / f"p/{i}.png"), textured(400, 200, seed=10 + i))
        cv2.imwrite(str(tmp_path / "q.png"), left)
        recipe = {"n_clusters": 32, "orientation": 0.0, "position": 0.0}
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add([tmp_path / "p"])
            plain = {h.path: h.score for h in collection.search(tmp_path / "q.png", 0)}
            expanded = collection.search(tmp_path / "q.png", 0, expand=1)
        assert [h.path for h in expanded[:2]] == ["b.png", "c.png"]
        assert expanded[1].score > 1.05 * plain["c.png"]

    def test_with_reranking_only_verified_images_join(self, home, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (200, 300), np.uint8)
        cv2.imwrite(str(tmp_path / "unknown.png"), noise)
        with Collection.open(home / "photos.vlad") as collection:
            plain = collection.search(tmp_path / "unknown.png", 0, rerank=5)
            expanded = collection.search(tmp_path / "unknown.png", 0, rerank=5, expand=5)
            features = extract(collection.extractor, str(tmp_path / "unknown.png"))
            query_qvD = collection.index.describer.query_vectors([features])
            nothing = collection.index.searcher.expanded(query_qvD[0], [])
        assert all(hit.inliers < MIN_INLIERS for hit in plain[:5])
        np.testing.assert_array_equal(nothing, query_qvD[0, :1])
        assert expanded[0].score <= plain[0].score + 1e-6

    def test_command(self, home):
        done = run("search", "photos.vlad", "query.png", "-n", 1, "--expand", 2, cwd=home)
        assert done.stdout.split()[-1] == "photos/coffee.jpg"


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
                assert collection.search(tmp_path / "q.png", 1)[0].path == f"{name}.jpg"
        with Collection.open(own) as collection:  # again from the file
            hits = collection.search(home / "photos" / "moon.jpg", 0)
            assert hits[0].path == "moon.jpg"
            assert hits[0].score == pytest.approx(1, abs=2e-3)
            assert collection.info()["whitened"] is True
            assert collection.vectors()[1].shape == (15, 10)

    def test_images_added_later_go_through_the_same(self, home, own, tmp_path):
        shutil.copy(home / "photos" / "coffee.jpg", tmp_path / "again.jpg")
        with Collection.open(own) as collection:
            collection.whiten(8, exponent=0.5, power=1.0)
            collection.add([tmp_path / "again.jpg"])
            hits = collection.search(home / "photos" / "coffee.jpg", 2)
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
            with pytest.raises(OSError, match="open it again"):
                late.add([tmp_path / "again.jpg"])
            with pytest.raises(OSError, match="open it again"):
                late.search(home / "query.png")
            assert collection.check() == []
            assert len(collection) == 15

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


class TestCopy:
    def test_is_the_same_and_whole(self, home, tmp_path):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            collection.copy(tmp_path / "copy")
            with pytest.raises(StorageError, match="is there already"):
                collection.copy(tmp_path / "copy")
            wanted = [(h.path, h.score) for h in collection.search(home / "query.png", 0)]
        with Collection.open(tmp_path / "copy") as copy:
            assert [(h.path, h.score) for h in copy.search(home / "query.png", 0)] == wanted
            assert copy.check() == []


class TestVocabularies:
    def test_two(self, home, tmp_path):
        with Collection.create(tmp_path / "c", n_clusters=16, n_vocabularies=2) as collection:
            collection.add([home / "photos"])
            assert collection.n_dimensions == 2 * 16 * 128
        with Collection.open(tmp_path / "c") as collection:
            hits = collection.search(home / "photos" / "moon.jpg", 1)
            assert (hits[0].path, round(hits[0].score, 2)) == ("moon.jpg", 1)
            assert collection.info()["clusters"] == 16
            assert collection.check() == []


class TestApproximate:
    @pytest.fixture
    def big(self, home, tmp_path):
        """A collection whose 3,000 further vectors belong to no file."""
        path = Path(shutil.copy(home / "photos.vlad", tmp_path / "big.vlad"))
        rng = np.random.default_rng(0)
        with Collection.open(path) as collection:
            collection.whiten(12)
        with Store.open(path) as store, store.writing():
            source = store.add_source(str(tmp_path), "x").source_id
            vector_nD = rng.normal(size=(3000, 12))
            vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
            rows = [ImageRow(source, f"{i}.jpg", 1, 1) for i in range(3000)]
            pairs = zip(rows, vector_nD.astype(np.float16), strict=True)
            store.put([Record(row, vector_D) for row, vector_D in pairs])
        return path

    def test_finds_what_exact_search_finds(self, home, big):
        queries = [home / "query.png", *sorted((home / "photos").iterdir())]
        with Collection.open(big) as collection:
            exact = [collection.search(query, 10) for query in queries]
            assert collection.info()["approximate"] is False
            report = collection.build_ann()
            assert collection.info()["approximate"] is True
            assert (report.n, report.n_dimensions) == (3015, 12)
            assert report.recall >= 0.98
            likely = [collection.search(query, 10) for query in queries]
        shares = [
            len({h.path for h in a} & {h.path for h in b}) / 10
            for a, b in zip(exact, likely, strict=True)
        ]
        assert np.mean(shares) > 0.9
        for a, b in zip(exact, likely, strict=True):
            score_of = {h.path: h.score for h in a}
            assert all(score_of.get(h.path, h.score) == h.score for h in b), "scores are not exact"
            assert a[0] == b[0]

    def test_is_used_only_while_it_is_up_to_date(self, home, big, monkeypatch):
        with Collection.open(big) as collection:
            collection.build_ann()
        used = []
        search = AnnIndex.search
        monkeypatch.setattr(AnnIndex, "search", lambda *a: used.append(1) or search(*a))
        with Collection.open(big, read_only=True) as collection:
            collection.search(home / "query.png", 10)
            assert len(used) == 1
            collection.search(home / "query.png", 0)  # a full ranking is exact
            collection.search(home / "query.png", 101)
            assert len(used) == 1
            with Collection.open(big) as other:
                other.remove(["coffee.jpg"])
            hits = collection.search(home / "query.png", 10)
            assert len(used) == 1
            assert "coffee.jpg" not in [hit.path for hit in hits]

    def test_reranking_takes_its_candidates(self, home, big):
        with Collection.open(big) as collection:
            collection.build_ann()
            best = collection.search(home / "query.png", 1, rerank=20)[0]
        assert best.path == "coffee.jpg"
        assert best.inliers > 100

    def test_command(self, home, big, tmp_path):
        done = run("build-ann", big, cwd=home)
        assert "3015 vectors in" in done.stderr
        assert "of the 10 nearest" in done.stderr
        assert "note: exact search is as fast up to" in done.stderr
        assert (tmp_path / "big.vlad.ann").exists()
        report = json.loads(run("build-ann", big, "--json", cwd=home).stdout)
        assert report["recall"] >= 0.98
        with Collection.create(tmp_path / "empty"):
            pass
        run("build-ann", tmp_path / "empty", cwd=home, code=1)


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


class TestAdapt:
    @pytest.fixture
    def summed(self, home, tmp_path):
        with Collection.create(tmp_path / "c", n_clusters=16, keep_sums=True) as collection:
            collection.add([home / "photos" / "brick.jpg", home / "photos" / "grass.jpg"])
            collection.add([home / "photos"])
        return tmp_path / "c"

    def test_vectors_are_those_of_the_adapted_codebook(self, home, summed):
        query = home / "photos" / "coffee.jpg"
        with Collection.open(summed) as collection:
            old = collection.vlad
            before = collection.search(home / "query.png", 0)
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
            hits = collection.search(query, 2)
            assert hits[0].path.endswith("coffee.jpg")
            assert hits[0].score == pytest.approx(1, abs=2e-3)
            assert collection.search(home / "query.png", 0) != before

    def test_more_can_be_added_and_it_can_be_done_again(self, home, summed):
        with Collection.open(summed) as collection:
            collection.adapt()
            collection.add([home / "query.png"])
            assert collection.search(home / "query.png", 1)[0].score == pytest.approx(1, abs=2e-3)
            collection.adapt()
            assert collection.search(home / "query.png", 1)[0].score == pytest.approx(1, abs=2e-3)
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
        run("index", "photos", "-o", tmp_path / "c", "--keep-sums", cwd=home)
        assert "adapted to 15 images" in run("adapt", tmp_path / "c", cwd=home).stderr
