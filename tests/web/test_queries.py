"""Queries from what is sent, what was sent, and what the collection keeps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from networks import mean_colour, means
from photos import photo
from serving import JPEG, id_of, problem, search, serving
from sources import sift_of_photos, write_hloc, write_npz
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.features.onnx import session as onnx_session
from vladkit.web.limits import Limits


def test_what_was_sent_is_forgotten_in_turn(home, query):
    limits = Limits(cache_bytes=len(query) + 10)
    with serving(home / "photos.vlad", limits) as (client, _):
        first = search(client, query)["query"]["key"]
        second = search(client, query)["query"]["key"]
        problem(client.get(f"/api/search?query={first}"), 404)
        assert client.get(f"/api/search?query={second}").status_code == 200


def test_an_empty_collection(tmp_path, query):
    with Collection.create(tmp_path / "empty.vlad"):
        pass
    with serving(tmp_path / "empty.vlad") as (client, _):
        assert client.get("/api/info").json()["dimensions"] is None
        answer = client.post("/api/search", content=query, headers=JPEG)
        assert "empty" in problem(answer, 409)["detail"]


def test_without_kept_features(own, query):
    with Collection.create(own / "c.vlad", n_clusters=16, keep_features=0) as collection:
        collection.add([own / "photos"])
    with serving(own / "c.vlad") as (client, _):
        assert client.get("/api/info").json()["keeps_features"] is False
        image_id = id_of(client, "chelsea")
        (own / "photos" / "chelsea.jpg").unlink()  # only its vector is left
        found = client.get("/api/search", params={"id": image_id}).json()
        assert found["results"][0]["path"] == "chelsea.jpg"
        problem(client.get("/api/match", params={"id": image_id, "other": image_id}), 422)
        assert search(client, query)["results"][0]["path"] == "coffee.jpg"
        answer = client.post("/api/search?rerank=3", content=query, headers=JPEG)
        assert "keeps no features" in problem(answer, 422)["detail"]


def test_a_file_that_has_changed_is_searched_with_as_it_was(own):
    with Collection.create(own / "c.vlad", n_clusters=16) as collection:
        collection.add([own / "photos"])
    with serving(own / "c.vlad") as (client, _):
        image_id = id_of(client, "chelsea")
        whole = {"id": image_id}
        before = client.get("/api/search", params=whole).json()
        assert before["results"][0]["path"] == "chelsea.jpg"
    cv2.imwrite(str(own / "photos" / "chelsea.jpg"), photo("coffee")[::2, ::2])
    with serving(own / "c.vlad") as (client, _):
        found = client.get("/api/search", params=whole).json()
        assert found["results"][0]["path"] == "chelsea.jpg"
        assert found["query"]["width"] == before["query"]["width"]
        assert (before["query"]["changed"], found["query"]["changed"]) == (False, True)
        listed = client.get("/api/images").json()["items"]
        for images in (found["results"], listed, [client.get(f"/api/images/{image_id}").json()]):
            assert [each["path"] for each in images if each["changed"]] == ["chelsea.jpg"]
        part = client.get("/api/search", params=whole | {"region": "50,20,300,250"}).json()
        assert part["results"][0]["path"] == "chelsea.jpg"


def test_features_of_a_network(home, tmp_path, query, capfd):
    """It takes colour; without it the images of the collection still search."""
    pytest.importorskip("onnxruntime")
    model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8\n")
    with Collection.create(tmp_path / "c.vlad", n_clusters=16, features=f"onnx:{model}") as c:
        c.add([home / "photos"])
    with serving(tmp_path / "c.vlad") as (client, _):
        coffee = cv2.imencode(".png", photo("coffee"))[1].tobytes()
        assert search(client, coffee)["results"][0]["path"] == "coffee.jpg"
        gray = np.repeat(photo("coffee").mean(axis=2, keepdims=True), 3, axis=2)
        gray = cv2.imencode(".png", gray.astype(np.uint8))[1].tobytes()
        scores = [search(client, data)["results"][0]["score"] for data in (coffee, gray)]
        assert scores[0] > 0.99 > scores[1]  # its colours count
    model.rename(tmp_path / "elsewhere.onnx")
    onnx_session._Sessions.by_model.clear()
    with serving(tmp_path / "c.vlad") as (client, _):
        answer = client.post("/api/search", content=query, headers=JPEG)
        assert "network" in problem(answer, 503)["detail"]
        assert str(tmp_path) not in answer.text
        assert "m.onnx" in capfd.readouterr().err
        image_id = id_of(client, "coffee")
        found = client.get("/api/search", params={"id": image_id}).json()
        assert found["results"][0]["path"] == "coffee.jpg"


@pytest.mark.parametrize("has_local", [True, False])
def test_mirror_images_by_a_network(home, tmp_path, has_local):
    """Its features cannot be mirrored: the pixels are, which are not kept."""
    pytest.importorskip("onnxruntime")
    fields, model = {}, tmp_path / "m.onnx"
    if has_local:
        fields, _ = {"n_clusters": 16}, means(model, "[input]\nmultiple = 8\n")
    else:
        mean_colour(model)
    with Collection.create(tmp_path / "c.vlad", features=f"onnx:{model}", **fields) as c:
        c.add([home / "photos"])
        flipped = cv2.imencode(".png", photo("coffee")[:, ::-1])[1].tobytes()

        def of_library(image, **options):
            hits = c.search(image, 3, mirrored=True, **options)
            return [(hit.path, hit.score, hit.mirrored, hit.inliers) for hit in hits]

        def of_server(answer):
            assert answer.status_code == 200, answer.text
            names = "path", "score", "mirrored", "inliers"
            return [tuple(each[name] for name in names) for each in answer.json()["results"]]

        with serving(tmp_path / "c.vlad") as (client, _):
            asked = {"top": 3, "mirrored": True}
            first = client.post("/api/search", content=flipped, headers=JPEG, params=asked)
            assert of_server(first) == of_library(flipped)
            key = first.json()["query"]["key"]
            part = {"region": "40,30,400,300"}
            again = client.get("/api/search", params=asked | {"query": key} | part)
            assert of_server(again) == of_library(flipped, region=(40, 30, 400, 300))
            coffee = id_of(client, "coffee")
            found = of_server(client.get("/api/search", params=asked | {"id": coffee}))
            assert found == of_library(home / "photos" / "coffee.jpg")
            if has_local:
                assert of_server(first)[0][::2] == ("coffee.jpg", True)
                asked = {"query": key, "other": coffee, "mirrored": True}
                match = client.get("/api/match", params=asked).json()
                assert match["inliers"] == c.verify(flipped, coffee, mirrored=True).n_inliers > 100


def test_images_of_unknown_size(photos, tmp_path):
    """As of features that another program found and stated no size for."""
    source = write_npz(tmp_path / "npz", sift_of_photos(2))
    recipe, _ = recipe_for(source, n_clusters=8, keep_features=500)
    with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
        collection.add([source])
        hits = collection.search("astronaut.jpg", rerank=2)
    with serving(tmp_path / "c.vlad") as (client, _):
        image = client.get("/api/images").json()["items"][0]
        assert (image["path"], image["width"], image["height"]) == ("astronaut.jpg", None, None)
        assert client.get(f"/api/images/{image['id']}").json() == image  # no image is known
        found = client.get("/api/search", params={"id": image["id"], "rerank": 2}).json()
        assert (found["query"]["width"], found["query"]["height"]) == (None, None)
        best = found["results"][0]
        assert (best["width"], best["path"], best["verified"]) == (None, "astronaut.jpg", True)
        kept = hits[0].verification.query_xy_m2
        left, top, right, bottom = best["outline"][0] + best["outline"][2]
        assert (left, top) == pytest.approx((-0.5, -0.5), abs=0.2)
        assert (right, bottom) == pytest.approx(kept.max(axis=0), abs=1)
    with Collection.open(tmp_path / "c.vlad") as collection:
        collection.add([source], images=photos)
    with serving(tmp_path / "c.vlad") as (client, _):
        assert client.get("/api/images").json()["items"][0]["width"] is None
        measured = client.get(f"/api/images/{image['id']}").json()
        assert (measured["width"], measured["height"]) == photo("astronaut").shape[1::-1]


def test_features_of_another_program(tmp_path, query):
    """Only what was imported is there: no image can be opened, none can be sent."""
    write_hloc(tmp_path / "features.h5", sift_of_photos())
    source = f"hloc:{tmp_path / 'features.h5'}"
    recipe, _ = recipe_for(source, n_clusters=16)
    with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
        collection.add([source])
    with serving(tmp_path / "c.vlad") as (client, _):
        item = client.get("/api/images").json()["items"][2]
        found = client.get("/api/search", params={"id": item["id"], "rerank": 3}).json()
        assert found["results"][0]["path"] == item["path"]
        assert found["results"][0]["verified"] is True
        problem(client.get(item["thumbnail"]), 404)
        answer = client.post("/api/search", content=query, headers=JPEG)
        assert "search by an image of the collection" in problem(answer, 422)["detail"]
