"""Re-ranking, expansion and whitening of a collection of real photographs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from photos import NAMES, cropped, photo
from vladkit import Collection
from vladkit.collection.search_options import RERANK
from vladkit.errors import ImageError, ParameterError, StorageError
from vladkit.features.pool import extract
from vladkit.geometry.verification import MIN_INLIERS, rescore
from vladkit.images import Region
from vladkit.store.blocks import Layout
from vladkit.store.store import Store


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two photographs side by side."""
    path = tmp_path_factory.mktemp("pair") / "pair.png"
    left, right = (cv2.resize(photo(name), (600, 400)) for name in ("coffee", "chelsea"))
    cv2.imwrite(str(path), np.hstack([left, right]))
    return path


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
            plain = collection.search(home / "query.png", 0, rerank=0)
            hits = collection.search(home / "query.png", 0, rerank=4)
        assert [hit.inliers is not None for hit in hits] == [True] * 4 + [False] * 11
        assert {h.path for h in hits[:4]} == {h.path for h in plain[:4]}
        assert [h.path for h in hits[4:]] == [h.path for h in plain[4:]]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert {h.path: h.similarity for h in hits} == {h.path: h.similarity for h in plain}
        base_of = {h.path: h.score for h in plain}
        for hit in plain:
            assert hit.score == pytest.approx(
                hit.similarity * (hit.agreement + 0.002) / 1.002, abs=1e-9
            )
        for hit in hits[:4]:
            base, inliers = np.array([base_of[hit.path]]), np.array([hit.inliers])
            assert hit.score == pytest.approx(
                rescore(base, inliers, least=2e-6 / 1.002)[0], abs=1e-9
            )

    def test_by_default_where_features_are_kept(self, home, tmp_path):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            hits = collection.search(home / "query.png", 3)
            assert [hit.verified for hit in hits] == [True, False, False]
            asked = collection.search(home / "query.png", 3, rerank=RERANK)
            assert [(h.path, h.score) for h in hits] == [(h.path, h.score) for h in asked]
            plain = collection.search(home / "query.png", 3, rerank=0)
            assert [hit.verified for hit in plain] == [None] * 3
        with Collection.create(
            tmp_path / "c", n_clusters=4, keep_features=0, enlarge_to=0
        ) as collection:
            collection.add([home / "photos"])
            hits = collection.search(home / "query.png", 3)
            assert [hit.verified for hit in hits] == [None] * 3
            with pytest.raises(ParameterError, match="keeps no features to match with"):
                collection.search(home / "query.png", 3, rerank=1)

    def test_a_wrong_order_is_put_right(self, home, own):
        """Vectors that say nothing: only the geometry can tell."""
        with Store.open(own) as store, store.writing():
            dtype = np.dtype("f2")
            store.layout = Layout(dtype, 32 * 128)

            def equal(_, vector_nD):
                return np.full(vector_nD.shape, vector_nD.shape[1] ** -0.5, dtype)

            store.rewrite(equal)
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
        with Collection.create(
            tmp_path / "c", n_clusters=8, keep_features=0, enlarge_to=0
        ) as collection:
            collection.add([home / "query.png"])
            with pytest.raises(ParameterError, match=r"keeps no features .*--keep-features"):
                collection.search(home / "query.png", rerank=5)

    def test_command(self, home):
        done = run("search", "photos.vlad", "query.png", "-n", 2, "--rerank", 5, cwd=home)
        first = done.stdout.splitlines()[0].split()
        assert first[0] == "1"
        assert first[3:] == ["matches", "verified", "photos/coffee.jpg"]
        assert done.stderr == ""
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
            for text in ("%", "_", "!", "'", "\0", "a\0"):
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
        recipe = {"n_clusters": 32, "orientation": 0.0, "position": 0.0, "enlarge_to": 0}
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
        assert [(h.path, h.score) for h in expanded] == [(h.path, h.score) for h in plain]

    def test_command(self, home):
        done = run("search", "photos.vlad", "query.png", "-n", 1, "--expand", 2, cwd=home)
        assert done.stdout.split()[-1] == "photos/coffee.jpg"


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
        recipe = {"n_clusters": 16, "n_vocabularies": 2, "max_side": 320}
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add([home / "photos"])
            assert collection.n_dimensions == 2 * 16 * 64
        with Collection.open(tmp_path / "c") as collection:
            hits = collection.search(home / "photos" / "moon.jpg", 1)
            assert (hits[0].path, round(hits[0].similarity, 2)) == ("moon.jpg", 1)
            assert collection.info()["clusters"] == 16
            assert collection.check() == []
