"""Routes that search and match."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from networks import mean_colour
from photos import cropped, photo, write_photos
from serving import JPEG, id_of, problem, search, serving
from vladkit import Collection
from vladkit.geometry.verification import MIN_INLIERS
from vladkit.web.limits import MAX_QUERIES, MAX_TOP


class TestSearch:
    def test_as_the_library(self, client, home, query):
        found = search(client, query, top=5)
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            hits = collection.search(home / "query.png", 5)
        assert [r["path"] for r in found["results"]] == [hit.path for hit in hits]
        assert [r["score"] for r in found["results"]] == pytest.approx([h.score for h in hits])
        agreement = [h.agreement for h in hits]
        assert [r["agreement"] for r in found["results"]] == pytest.approx(agreement, abs=1e-6)
        assert [r["rank"] for r in found["results"]] == [1, 2, 3, 4, 5]
        assert found["images"] == 16
        assert found["results"][0]["inliers"] == hits[0].inliers
        assert (found["reranked"], found["verified"]) == (16, 1)
        plain = search(client, query, top=5, rerank=0)
        assert (plain["reranked"], plain["verified"]) == (0, None)
        assert plain["results"][0]["inliers"] is None
        about = found["query"]
        h, w = cropped(photo("coffee")).shape[:2]
        assert (about["width"], about["height"], about["region"]) == (w, h, None)
        assert client.get(about["preview"]).headers["content-type"] == "image/jpeg"

    def test_limited(self, client, query):
        everything = search(client, query, top=16, rerank=0)["results"]
        path = everything[3]["path"]
        (only,), n_images = map(search(client, query, under=path).get, ("results", "images"))
        assert n_images == 1
        assert (only["path"], only["taken"], only["latitude"]) == (path, None, None)
        found = search(client, query, after="2024", near="48.2,16.37,5")
        counts = found["without_date"], found["without_position"], found["images"]
        assert (found["results"], *counts) == ([], 16, 16, 0)
        assert search(client, query)["without_date"] is None

    def test_skipped_files_of_a_folder_are_not_counted(self, home, query, tmp_path):
        write_photos(tmp_path / "p" / "some", ["coffee", "chelsea"])
        (tmp_path / "p" / "some" / "broken.jpg").write_bytes(b"none")
        write_photos(tmp_path / "p" / "others", ["rocket"])
        with Collection.create(tmp_path / "c.vlad", n_clusters=8) as collection:
            collection.add([tmp_path / "p"])
        with serving(tmp_path / "c.vlad") as (client, _):
            found = search(client, query, under="some", top=1)
            assert (found["images"], found["reranked"], len(found["results"])) == (2, 2, 1)

    @pytest.mark.parametrize("wrong", [{"after": "May"}, {"near": "here"}, {"under": "nowhere"}])
    def test_limited_by_nothing_that_is(self, client, wrong):
        said = problem(client.get("/api/search", params={"id": 1} | wrong), 422)
        assert next(iter(wrong.values())) in str(said)

    def test_no_path_is_looked_up(self, client, home, monkeypatch):
        monkeypatch.chdir(home)
        for under in ("photos", "photos/coffee.jpg", ".", "../"):
            problem(client.get("/api/search", params={"id": 1, "under": under}), 422)
        for under in (home / "photos" / "coffee.jpg", "coffee.jpg"):
            found = client.get("/api/search", params={"id": 1, "under": str(under)}).json()
            assert [each["path"] for each in found["results"]] == ["coffee.jpg"]

    def test_reranked_with_what_matches(self, client, query):
        found = search(client, query, top=3, rerank=5)
        best, second, _ = found["results"]
        assert (best["path"], best["verified"], second["verified"]) == ("coffee.jpg", True, False)
        assert best["inliers"] == len(best["points"]) > 100
        h = len(photo("coffee"))
        ch, cw = cropped(photo("coffee")).shape[:2]
        top = h - ch  # cut off at the top and the right
        corners = [[0, top], [cw, top], [cw, h], [0, h]]
        np.testing.assert_allclose(best["outline"], np.array(corners) - 0.5, atol=3)
        qx, qy, x, y = np.array(best["points"]).T
        np.testing.assert_allclose(np.median([x - qx, y - qy], axis=1), [0, top], atol=1)

    def test_again_with_the_key(self, client, query):
        first = search(client, query, top=2)
        key = first["query"]["key"]
        again = client.get("/api/search", params={"query": key, "top": 2}).json()
        assert again["results"] == first["results"]
        match = client.get("/api/match", params={"query": key, "other": again["results"][0]["id"]})
        reranked = client.get("/api/search", params={"query": key, "rerank": 1, "top": 1}).json()
        assert match.json()["points"] == reranked["results"][0]["points"]
        assert match.json()["verified"] is True

    def test_with_an_image_of_the_collection(self, client):
        image_id = id_of(client, "chelsea")
        found = client.get("/api/search", params={"id": image_id, "rerank": 2}).json()
        assert found["query"]["id"] == found["results"][0]["id"] == image_id
        assert found["query"]["key"] is None
        assert client.get(found["query"]["preview"]).status_code == 200
        match = client.get("/api/match", params={"id": image_id, "other": id_of(client, "page")})
        assert match.json()["inliers"] < MIN_INLIERS

    def test_by_a_region(self, client, home):
        pair = np.hstack([cv2.resize(photo(name), (600, 400)) for name in ("coffee", "chelsea")])
        data = cv2.imencode(".png", pair)[1].tobytes()
        found = search(client, data, region="600,0,600,400", rerank=3)
        best = found["results"][0]
        assert best["path"] == "chelsea.jpg"
        assert found["query"]["region"] == [600, 0, 600, 400]
        assert (found["query"]["width"], found["query"]["height"]) == (1200, 400)
        assert min(x for x, *_ in best["points"]) >= 599
        h, w = photo("chelsea").shape[:2]
        corners = np.array([[0, 0], [w, 0], [w, h], [0, h]]) - 0.5
        np.testing.assert_allclose(best["outline"], corners, atol=4)
        # the same image, another part of it, without sending it again
        key = found["query"]["key"]
        other = client.get("/api/search", params={"query": key, "region": "0,0,600,400"}).json()
        assert other["results"][0]["path"] == "coffee.jpg"
        stored = {"id": id_of(client, "chelsea"), "region": "50,50,200,200", "rerank": 3}
        found = client.get("/api/search", params=stored).json()
        assert found["results"][0]["path"] == "chelsea.jpg"
        assert max(x for x, *_ in found["results"][0]["points"]) <= 250
        assert (
            "outside"
            in problem(client.get("/api/search", params=stored | {"region": "9999,0,9,9"}), 422)[
                "detail"
            ]
        )

    def test_expanded_and_fundamental(self, client, query):
        options = {"expand": 2, "rerank": 3, "model": "fundamental"}
        best = search(client, query, **options)["results"][0]
        assert (best["path"], best["verified"], best["outline"]) == ("coffee.jpg", True, None)

    def test_images_of_one_thing(self, client, home, query):
        asked = [home / "query.png", home / "chelsea.jpg"]
        kept = [client.post("/api/queries", content=f.read_bytes(), headers=JPEG) for f in asked]
        keys = [answer.json()["key"] for answer in kept]
        found = client.get("/api/search", params={"query": keys, "id": id_of(client, "rocket")})
        found = found.json()
        assert [each["key"] for each in found["queries"]] == [*keys, None]
        assert found["query"] == found["queries"][0] == kept[0].json()
        same = {r["path"]: r["query"] for r in found["results"] if r["verified"]}
        assert same == {"coffee.jpg": 0, "chelsea.jpg": 1, "rocket.jpg": 2}
        parts = {"query": keys, "region": "0,0,200,200", "rerank": 0}
        assert all(q["region"] for q in client.get("/api/search", params=parts).json()["queries"])

    def test_mirror_images(self, client, query):
        flipped = cv2.flip(cv2.imdecode(np.frombuffer(query, np.uint8), cv2.IMREAD_COLOR), 1)
        data = cv2.imencode(".png", flipped)[1].tobytes()
        assert search(client, data)["verified"] == 0
        found = search(client, data, mirrored=True)
        best = found["results"][0]
        assert (best["path"], best["mirrored"], best["verified"]) == ("coffee.jpg", True, True)
        asked = {"query": found["query"]["key"], "other": best["id"], "mirrored": True}
        match = client.get("/api/match", params=asked).json()
        assert match["points"] == best["points"]
        assert not client.get("/api/match", params=asked | {"mirrored": False}).json()["verified"]

    def test_wrong_questions(self, client, query):
        problem(client.get("/api/search"), 422)
        problem(client.get("/api/match", params={"id": [1, 2], "other": 3}), 422)
        for bad, name in (("id=x", "id"), ("id=1&id=-1", "id"), (f"query={'x' * 41}", "query")):
            said = problem(client.get(f"/api/search?{bad}"), 422)["detail"]
            assert said.startswith(f"{name}: "), said
        many = {"id": list(range(MAX_QUERIES + 1))}
        assert "at most 8" in problem(client.get("/api/search", params=many), 422)["detail"]
        assert "forgotten" in problem(client.get("/api/search?query=nobody"), 404)["detail"]
        problem(client.get("/api/queries/nobody/preview"), 404)
        problem(client.get("/api/search?id=99999"), 404)
        problem(client.get("/api/match", params={"id": 1, "other": 99999}), 404)
        for bad in ("top=0", f"top={MAX_TOP + 1}", "rerank=-1", "model=x", "region=1,2"):
            problem(client.get(f"/api/search?id=1&{bad}"), 422)
        problem(client.get("/api/nothing"), 404)
        answer = client.put("/api/info")
        problem(answer, 405)
        assert answer.headers["allow"] == "GET"
        answer = client.put("/api/search")
        problem(answer, 405)
        assert answer.headers["allow"] == "GET, POST"
        problem(client.post("/static/main.js"), 405)
        for path, allowed in (("/api/images/1/file", "GET"), ("/", "GET")):
            assert client.delete(path).headers["allow"] == allowed

    def test_head_is_get_without_the_body(self, client):
        for address in ("/", "/api/info", "/api/images/1/thumbnail", "/api/nothing"):
            got, head = client.get(address), client.head(address)
            assert (head.status_code, head.content) == (got.status_code, b"")
            for name in ("content-type", "content-length", "etag"):
                assert head.headers.get(name) == got.headers.get(name)


class TestOneVector:
    """A collection of a network's vectors, without local features."""

    def test_searched_and_not_matched(self, home, query, tmp_path):
        file, model = tmp_path / "v.vlad", mean_colour(tmp_path / "m.onnx")
        with Collection.create(file, features=f"onnx:{model}") as collection:
            collection.add([home / "photos"])
            best = collection.search(home / "query.png", 3)
        with serving(file) as (client, _):
            assert client.get("/api/info").json()["keeps_features"] is False
            found = search(client, query, top=3)
            assert [r["path"] for r in found["results"]] == [hit.path for hit in best]
            assert (found["reranked"], found["verified"]) == (0, None)
            first = found["results"][0]
            assert first["inliers"] is None
            again = client.get("/api/search", params={"id": first["id"]}).json()
            assert again["results"][0]["path"] == first["path"]
            answer = client.get("/api/match", params={"id": first["id"], "other": first["id"]})
            assert "no features are kept" in problem(answer, 422)["detail"]
