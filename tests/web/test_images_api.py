"""Routes that show the collection and its images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from photos import photo
from serving import HOSTILE, N_EMPTY, id_of, problem, serving
from vladkit import Collection
from vladkit.web.limits import Limits


class TestCollection:
    def test_health_and_info(self, client, home):
        assert client.get("/api/health").json()["images"] == 16
        about = client.get("/api/info").json()
        assert (about["name"], about["images"], about["skipped"]) == (
            "photos.vlad",
            16,
            N_EMPTY + 1,
        )
        assert about["keeps_features"] is True
        assert about["limits"]["upload_bytes"] == Limits().upload_bytes
        assert about["sources"][0]["root"] == str(home / "photos")

    def test_pages(self, client):
        whole = client.get("/api/images").json()
        assert whole["total"] == len(whole["items"]) == 16
        part = client.get("/api/images", params={"offset": 3, "limit": 4}).json()
        assert (part["total"], part["offset"]) == (16, 3)
        assert part["items"] == whole["items"][3:7]
        some = client.get("/api/images", params={"contains": "<IMG"}).json()
        assert [item["path"] for item in some["items"]] == [HOSTILE]
        assert client.get("/api/images", params={"offset": 10**15}).json()["items"] == []

    def test_skipped(self, client):
        page = client.get("/api/skipped", params={"limit": 2}).json()
        assert (page["total"], page["offset"]) == (N_EMPTY + 1, 0)
        reasons = {item["path"]: item["reason"] for item in page["items"]}
        assert reasons == {
            "broken.jpg": "not an image that can be decoded",
            "empty/000.png": "empty file",
        }

    def test_an_image_and_its_files(self, client, home):
        about = client.get(f"/api/images/{id_of(client, 'coffee')}").json()
        h, w = photo("coffee").shape[:2]
        assert (about["path"], about["width"], about["height"]) == ("coffee.jpg", w, h)
        for url, side in ((about["thumbnail"], 320), (about["thumbnail"] + "&side=160", 160)):
            answer = client.get(url)
            assert answer.headers["content-type"] == "image/jpeg"
            shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
            assert max(shown.shape) == side
            wanted = cv2.resize(photo("coffee"), shown.shape[1::-1], interpolation=cv2.INTER_AREA)
            assert np.abs(shown.astype(int) - wanted).mean() < 6  # in colour, upright
            tag = answer.headers["etag"]
            for held in (tag, f"W/{tag}", f'"another", {tag}', "*"):
                again = client.get(url, headers={"if-none-match": held})
                assert (again.status_code, again.content) == (304, b"")
            for held in ('"another"', tag.strip('"'), ""):
                assert client.get(url, headers={"if-none-match": held}).status_code == 200
        answer = client.get(about["file"])
        assert answer.content == (home / "photos" / "coffee.jpg").read_bytes()
        assert answer.headers["content-type"] == "image/jpeg"
        assert "sandbox" in answer.headers["content-security-policy"]

    def test_names_are_escaped_in_headers(self, client):
        url = client.get(f"/api/images/{id_of(client, '<img')}").json()["file"]
        disposition = client.get(url).headers["content-disposition"]
        assert disposition == "inline; filename*=utf-8''" + (
            "%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.jpg"
        )

    @pytest.mark.parametrize("part", ["", "/thumbnail", "/preview", "/file"])
    def test_what_is_not_in_it(self, client, part):
        skipped = client.get("/api/skipped").json()["items"][0]["id"]
        for image_id in (0, 10**9, -1, skipped):
            problem(client.get(f"/api/images/{image_id}{part}"), 404)
        problem(client.get(f"/api/images/one{part}"), 422)
        problem(client.get(f"/api/images/{10**30}{part}"), 422)

    def test_bad_parameters_are_named(self, client):
        for bad, name in (("offset=-1", "offset"), ("limit=0", "limit"), ("limit=x", "limit")):
            assert name in problem(client.get(f"/api/images?{bad}"), 422)["detail"]


class TestFiles:
    def test_images_of_one_number_and_time_have_addresses_of_their_own(self, photos, tmp_path):
        found = []
        for name in ("coffee", "chelsea"):
            (tmp_path / name).mkdir()
            file = Path(shutil.copy(photos / f"{name}.jpg", tmp_path / name / "one.jpg"))
            os.utime(file, (10**9, 10**9))
            with Collection.create(tmp_path / f"{name}.vlad", n_clusters=4) as collection:
                collection.add([tmp_path / name])
            with serving(tmp_path / f"{name}.vlad") as (client, _):
                image = client.get("/api/images").json()["items"][0]
                tag = client.get(image["thumbnail"]).headers["etag"]
                found.append((image["id"], image["path"], image["thumbnail"], image["file"], tag))
                if name == "chelsea":
                    again = client.get(image["thumbnail"], headers={"if-none-match": found[0][4]})
                    assert again.status_code == 200
        first, second = found
        assert first[:2] == second[:2]
        assert all(a != b for a, b in zip(first[2:], second[2:], strict=True))

    def test_files_that_go_or_are_replaced(self, own):
        with serving(own / "photos.vlad") as (client, _):
            image = client.get(f"/api/images/{id_of(client, 'coffee')}").json()
            file = own / "photos" / "coffee.jpg"
            assert client.get(image["thumbnail"]).status_code == 200
            file.write_text("root:x:0:0")
            for part in ("thumbnail", "preview", "file"):
                answer = client.get(image[part])
                problem(answer, 404)
                assert "root" not in answer.text
            file.unlink()
            os.mkfifo(file)  # nobody waits for what comes out of it
            for part in ("thumbnail", "preview", "file"):
                assert "not a regular file" in problem(client.get(image[part]), 404)["detail"]
            file.unlink()
            for part in ("thumbnail", "preview", "file"):
                assert "cannot be read" in problem(client.get(image[part]), 404)["detail"]
            # what is kept of it still searches and matches
            found = client.get("/api/search", params={"id": image["id"], "rerank": 3}).json()
            assert found["results"][0]["path"] == "coffee.jpg"
            assert found["results"][0]["verified"] is True
            parameters = {"id": image["id"], "region": "50,50,250,250", "rerank": 3}
            found = client.get("/api/search", params=parameters).json()
            assert found["query"]["region"] == [50, 50, 250, 250]
            assert found["results"][0]["path"] == "coffee.jpg"
            assert max(x for x, *_ in found["results"][0]["points"]) <= 300
