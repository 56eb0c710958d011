"""The server of ``vladkit serve``, asked over real sockets; pages are tests/test_browser.py's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import cv2
import httpx
import numpy as np
import pytest

from images import png_chunk
from networks import means
from photos import cropped, photo, write_photos
from sources import sift_of_photos, write_hloc
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.errors import MissingDependencyError, ParameterError
from vladkit.features.onnx import session as onnx_session
from vladkit.geometry.verification import MIN_INLIERS
from vladkit.web import engine as engine_module
from vladkit.web.cache import Cache
from vladkit.web.engine import Engine
from vladkit.web.limits import MAX_TOP, Limits
from vladkit.web.server import check_token, make_server, serve

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """all.vlad of photographs, one with HTML for a name, two skipped; query.png is a piece."""
    home = tmp_path_factory.mktemp("home")
    write_photos(home / "photos")
    (home / "photos" / "moon.jpg").rename(home / "photos" / HOSTILE)
    (home / "photos" / "notes.jpg").write_text("no image")
    (home / "photos" / "empty.jpg").touch()
    (home / "secret.txt").write_text("secret")
    with Collection.create(home / "all.vlad", n_clusters=32) as collection:
        collection.add([home / "photos"])
    cv2.imwrite(str(home / "query.png"), cropped(photo("coffee")))
    return home


@contextmanager
def serving(path, limits=None, n_jobs=2, **options):
    """(client, engine) of a server on a free port."""
    limits = limits or Limits()
    engine = Engine(path, limits, n_jobs=n_jobs)
    server = make_server(engine, **options)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client, engine
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        engine.close()


@pytest.fixture(scope="module")
def client(home):
    with serving(home / "all.vlad") as (client, _):
        yield client


@pytest.fixture
def query(home):
    return (home / "query.png").read_bytes()


def problem(answer, status):
    """The problem JSON of an answer, checked for its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    return content


def search(client, data, **parameters):
    answer = client.post("/api/search", content=data, headers=JPEG, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def id_of(client, path):
    (item,) = client.get("/api/images", params={"contains": path}).json()["items"]
    return item["id"]


class TestCollection:
    def test_health_and_info(self, client, home):
        assert client.get("/api/health").json()["images"] == 15
        about = client.get("/api/info").json()
        assert (about["name"], about["images"], about["skipped"]) == ("all.vlad", 15, 2)
        assert about["keeps_features"] is True
        assert about["limits"]["upload_bytes"] == Limits().upload_bytes
        assert about["sources"][0]["root"] == str(home / "photos")

    def test_pages(self, client):
        whole = client.get("/api/images").json()
        assert whole["total"] == len(whole["items"]) == 15
        part = client.get("/api/images", params={"offset": 3, "limit": 4}).json()
        assert (part["total"], part["offset"]) == (15, 3)
        assert part["items"] == whole["items"][3:7]
        some = client.get("/api/images", params={"contains": "<IMG"}).json()
        assert [item["path"] for item in some["items"]] == [HOSTILE]
        assert client.get("/api/images", params={"offset": 10**15}).json()["items"] == []

    def test_skipped(self, client):
        page = client.get("/api/skipped").json()
        reasons = {item["path"]: item["reason"] for item in page["items"]}
        assert reasons == {
            "empty.jpg": "empty file",
            "notes.jpg": "not an image that can be decoded",
        }

    def test_a_image_and_its_files(self, client, home):
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
            again = client.get(url, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
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


class TestSearch:
    def test_as_the_library(self, client, home, query):
        found = search(client, query, top=5)
        with Collection.open(home / "all.vlad", read_only=True) as collection:
            hits = collection.search(home / "query.png", 5)
        assert [r["path"] for r in found["results"]] == [hit.path for hit in hits]
        assert [r["score"] for r in found["results"]] == pytest.approx([h.score for h in hits])
        assert [r["rank"] for r in found["results"]] == [1, 2, 3, 4, 5]
        assert found["images"] == 15
        assert found["results"][0]["inliers"] is None
        about = found["query"]
        h, w = cropped(photo("coffee")).shape[:2]
        assert (about["width"], about["height"], about["region"]) == (w, h, None)
        assert client.get(about["preview"]).headers["content-type"] == "image/jpeg"

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

    def test_with_a_image_of_the_collection(self, client):
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

    def test_wrong_questions(self, client, query):
        problem(client.get("/api/search"), 422)
        problem(client.get("/api/search", params={"id": 1, "query": "a"}), 422)
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


class TestImagesSent:
    """Every kind of bad upload is a 4xx in words, and the server goes on."""

    @pytest.mark.parametrize("name", ["text", "zip", "truncated", "tiny", "blank", "empty"])
    def test_that_cannot_be_used(self, client, query, name):
        blank = cv2.imencode(".png", np.zeros((200, 200), np.uint8))[1].tobytes()
        data, reason = {
            "text": (b"hello", "not an image"),
            "zip": (b"PK\x03\x04" + bytes(100), "not an image"),
            "truncated": (query[: len(query) // 2], "truncated PNG"),
            "tiny": (cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes(), "too small"),
            "blank": (blank, "no features"),
            "empty": (b"", "empty"),
        }[name]
        answer = client.post("/api/search", content=data, headers=JPEG)
        assert reason in problem(answer, 422)["detail"]

    def test_a_bomb(self, client):
        import struct
        import zlib

        rows = zlib.compress(bytes(20_000 * (20_000 // 8 + 1)), 9)
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
        chunks = header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
        answer = client.post(
            "/api/search",
            content=b"\x89PNG\r\n\x1a\n" + chunks,
            headers={"content-type": "image/png"},
        )
        assert "too many pixels: 20000x20000" in problem(answer, 422)["detail"]

    @pytest.mark.parametrize(
        "kind", ["", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]
    )
    def test_only_what_is_said_to_be_a_image(self, client, query, kind):
        answer = client.post("/api/search", content=query, headers={"content-type": kind})
        assert "image/" in problem(answer, 415)["detail"]

    def test_too_large(self, home, query):
        with serving(home / "all.vlad", Limits(upload_bytes=1 << 20)) as (client, _):
            too_much = bytes(5 << 20)
            assert (
                "at most 1 MB"
                in problem(client.post("/api/search", content=too_much, headers=JPEG), 413)[
                    "detail"
                ]
            )

            def chunks():
                for _ in range(80):
                    yield bytes(1 << 16)

            problem(client.post("/api/search", content=chunks(), headers=JPEG), 413)
            assert len(query) < 1 << 20
            search(client, query)

    def test_too_many_being_sent(self, home, query, capfd):
        with serving(home / "all.vlad", Limits(held_bytes=1 << 20)) as (client, _):
            address = "127.0.0.1", client.base_url.port
            head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            with socket.create_connection(address) as slow:
                slow.sendall(head + b"Content-Length: 999999\r\n\r\n" + bytes(800_000))
                time.sleep(0.3)
                answer = client.post("/api/search", content=bytes(400_000), headers=JPEG)
                assert "being sent" in problem(answer, 503)["detail"]
            time.sleep(0.3)  # it has given up: what it held is free
            search(client, query)
        assert "Traceback" not in capfd.readouterr().err

    def test_too_slow(self, home, query):
        with serving(home / "all.vlad", Limits(upload_seconds=0.3)) as (client, _):
            begin = time.perf_counter()
            head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            text = raw(client, head + b"Content-Length: 1000\r\n\r\nabc")
            assert b" 408 " in text.splitlines()[0]
            assert time.perf_counter() - begin < 5
            search(client, query)


def raw(client, data):
    """What the server says to these bytes, until it closes."""
    port = client.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        said = b""
        try:
            while chunk := connection.recv(1 << 16):
                said += chunk
        except ConnectionResetError:
            pass
    return said


class TestGuard:
    PATHS = (
        "/../secret.txt",
        "/static/../../secret.txt",
        "/static/%2e%2e/%2e%2e/secret.txt",
        "/static/..%2f..%2fsecret.txt",
        "/static/..\\..\\secret.txt",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/app.py",
        "/static/index.html%00.js",
        "//etc/passwd",
        "/api/images/../../secret.txt",
        "/api/images/%2e%2e%2fsecret.txt/file",
        "/api/images/1/file/../../../secret.txt",
        "/api/queries/..%2f..%2fsecret.txt/preview",
        "/api/queries/%2fetc%2fpasswd/preview",
        "file:///etc/passwd",
    )

    @pytest.mark.parametrize("path", PATHS)
    def test_no_path_leads_out(self, client, home, path):
        for where in (path, path.replace("secret.txt", f"{home}/secret.txt")):
            request = f"GET {where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            said = raw(client, request.encode())
            assert re.match(rb"HTTP/1.1 4\d\d ", said), said[:200]
            assert b"secret" not in said.split(b"\r\n\r\n", 1)[1].replace(b"secret.txt", b"")
            assert b"root:" not in said

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "a@b", "[::1"]
    )
    def test_other_names(self, client, host):
        for path in ("/", "/api/info"):
            said = raw(
                client, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            assert re.match(rb"HTTP/1.1 4(21|00) ", said), said[:100]
            assert b"vlad.vlad" not in said

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000"])
    def test_own_names(self, client, host):
        assert client.get("/api/health", headers={"host": host}).status_code == 200

    def test_other_sites(self, client, query):
        origin = {"origin": "https://evil.example"}
        problem(client.get("/api/info", headers=origin), 403)
        problem(client.post("/api/search", content=query, headers=JPEG | origin), 403)
        problem(client.get("/api/info", headers={"sec-fetch-site": "cross-site"}), 403)
        assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
        own = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
        assert client.get("/api/info", headers=own).status_code == 200

    def test_headers_of_every_answer(self, client):
        for path in ("/", "/static/main.js", "/api/info", "/api/nothing", "/api/images/1/preview"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers

    def test_token(self, home, query):
        with serving(home / "all.vlad", token="correct horse") as (client, _):
            assert client.get("/").status_code == 200  # the page asks for it
            for headers in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": "Basic correct horse"},
                {"cookie": "vladkit_token=correct horse"},
                {"cookie": "vladkit_token=\xe9"},
            ):
                encoded = {name: value.encode("latin-1") for name, value in headers.items()}
                problem(client.get("/api/info", headers=encoded), 401)
            problem(client.post("/api/search", content=query, headers=JPEG), 401)
            problem(client.get("/api/openapi.json"), 401)
            problem(client.get("/", params={"token": "wrong"}), 401)
            bearer = {"authorization": "Bearer correct horse"}
            assert client.get("/api/info", headers=bearer).status_code == 200
            answer = client.get("/", params={"token": "correct horse"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "correct" not in cookie
            assert client.get("/api/info").status_code == 200  # by the cookie that it kept

    def test_tokens_that_are_none(self):
        assert len(check_token("auto")) > 20
        assert check_token("auto") != check_token("auto")
        assert check_token(None) is None
        for bad in ("", "short", "ünïcödé tokens"):
            with pytest.raises(ParameterError, match="token"):
                check_token(bad)


class TestPatience:
    def test_slow_headers_are_closed_with_a_word(self, home, query):
        limits = Limits(header_seconds=0.5)
        with serving(home / "all.vlad", limits) as (client, _):
            port = client.base_url.port
            slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
            for i, connection in enumerate(slow):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localh"[: i + 1])
            search(client, query)  # meanwhile
            for connection in slow:
                connection.settimeout(10)
                assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
                connection.close()

    def test_an_idle_kept_connection_may_ask_again(self, home):
        with serving(home / "all.vlad", Limits(header_seconds=1)) as (client, _):
            for _ in range(3):
                assert client.get("/api/health").status_code == 200
                time.sleep(0.7)
            # one that begins a second request and does not end it
            with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
                connection.settimeout(10)
                connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api")
                said = b""
                while chunk := connection.recv(1 << 16):
                    said += chunk
                assert said.startswith(b"HTTP/1.1 200 ")

    def test_more_connections_than_allowed(self, home):
        with serving(home / "all.vlad", Limits(connections=5)) as (client, _):
            port = client.base_url.port
            kept = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
            time.sleep(0.2)
            said = raw(client, b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after" in said.lower()
            for connection in kept:
                connection.close()
            time.sleep(0.2)
            assert client.get("/api/health").status_code == 200

    def test_too_many_searches_are_told_to_come_again(self, home, query):
        with serving(home / "all.vlad", Limits(queue=1), n_jobs=1) as (client, engine):
            started, go_on = threading.Event(), threading.Event()
            extract = Engine.upload

            def held(self, *arguments, **options):
                started.set()
                go_on.wait(20)
                return extract(self, *arguments, **options)

            engine.upload = held.__get__(engine)
            with ThreadPoolExecutor(2) as pool:
                running = pool.submit(search, client, query)
                assert started.wait(20)
                waiting = pool.submit(search, client, query)
                while engine._n_admitted < 2:
                    time.sleep(0.01)
                answer = client.post("/api/search", content=query, headers=JPEG)
                assert problem(answer, 503)["retry_after"] == 1
                assert answer.headers["retry-after"] == "1"
                assert client.get("/api/health").status_code == 200  # lists do not wait
                go_on.set()
                assert running.result()["results"]
                assert waiting.result()["results"]
            search(client, query)

    def test_a_search_that_takes_too_long(self, home, query):
        with serving(home / "all.vlad", Limits(search_seconds=0.2), n_jobs=1) as (client, engine):
            go_on = threading.Event()
            engine.upload = lambda *_, **__: go_on.wait(20)
            answer = client.post("/api/search", content=query, headers=JPEG)
            assert "too long" in problem(answer, 503)["detail"]
            assert engine._n_admitted == 1  # its thread is still taken
            go_on.set()
            del engine.upload
            while engine._n_admitted:
                time.sleep(0.01)

    def test_what_was_sent_is_forgotten_in_turn(self, home, query):
        limits = Limits(cache_bytes=len(query) + 10)
        with serving(home / "all.vlad", limits) as (client, _):
            first = search(client, query)["query"]["key"]
            second = search(client, query)["query"]["key"]
            problem(client.get(f"/api/search?query={first}"), 404)
            assert client.get(f"/api/search?query={second}").status_code == 200

    def test_warm_before_the_first_search(self, home, tmp_path, monkeypatch):
        with Collection.create(tmp_path / "empty.vlad"):
            pass
        search_noise, done = engine_module._search_noise, []
        monkeypatch.setattr(
            engine_module, "_search_noise", lambda collection: done.append(search_noise(collection))
        )
        for path in (home / "all.vlad", tmp_path / "empty.vlad"):
            done.clear()
            engine = Engine(path, Limits(), n_jobs=2)
            engine.warm_up()
            engine.close()
            assert done == [None, None]  # without an error

    def test_cache(self):
        cache = Cache[str](max_bytes=10)
        cache.put("a", "A", 6)
        cache.put("b", "B", 4)
        assert cache.get("a") == "A"
        cache.put("c", "C", 4)  # b was used longest ago
        assert [cache.get(name) for name in "abc"] == ["A", None, "C"]
        cache.put("a", "AA", 11)  # too large: not kept, and the old one is gone
        assert cache.get("a") is None
        cache.put("d", "D", 6)
        assert [cache.get(name) for name in "cd"] == ["C", "D"]


class TestChanges:
    @pytest.fixture
    def own(self, home, tmp_path):
        shutil.copytree(home / "photos", tmp_path / "photos")
        shutil.copy(home / "all.vlad", tmp_path / "all.vlad")
        with Collection.open(tmp_path / "all.vlad") as collection:
            collection.add([tmp_path / "photos"])
            collection.remove([home / "photos"])
        return tmp_path

    def test_files_that_go_or_are_replaced(self, own):
        with serving(own / "all.vlad") as (client, _):
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

    def test_another_process_changes_the_collection(self, own, home, query):
        with serving(own / "all.vlad") as (client, _):
            assert search(client, query)["results"][0]["path"] == "coffee.jpg"
            with Collection.open(own / "all.vlad") as collection:
                collection.remove(["coffee.jpg"])
            assert client.get("/api/health").json()["images"] == 14
            assert "coffee.jpg" not in [r["path"] for r in search(client, query)["results"]]
            with Collection.open(own / "all.vlad") as collection:
                collection.add([own / "photos"])
                collection.whiten(8)
            assert search(client, query)["results"][0]["path"] == "coffee.jpg"
            # another collection in its place, as `rm all.vlad*` and indexing again would
            for name in own.glob("all.vlad*"):
                name.unlink()
            shutil.copy(home / "all.vlad", own / "all.vlad")
            assert search(client, query)["results"][0]["path"] == "coffee.jpg"
            assert client.get("/api/info").json()["whitened"] is False

    def test_an_empty_collection(self, own, query):
        with Collection.create(own / "empty.vlad"):
            pass
        with serving(own / "empty.vlad") as (client, _):
            assert client.get("/api/info").json()["dimensions"] is None
            answer = client.post("/api/search", content=query, headers=JPEG)
            assert "empty" in problem(answer, 409)["detail"]

    def test_without_kept_features(self, home, tmp_path, query):
        with Collection.create(tmp_path / "c.vlad", n_clusters=16, keep_features=0) as collection:
            collection.add([home / "photos"])
        with serving(tmp_path / "c.vlad") as (client, _):
            assert client.get("/api/info").json()["keeps_features"] is False
            image_id = id_of(client, "chelsea")
            (home / "photos" / "chelsea.jpg").rename(
                tmp_path / "chelsea.jpg"
            )  # only its vector left
            try:
                found = client.get("/api/search", params={"id": image_id}).json()
                assert found["results"][0]["path"] == "chelsea.jpg"
                both = {"id": image_id, "other": image_id}
                problem(client.get("/api/match", params=both), 422)
            finally:
                (tmp_path / "chelsea.jpg").rename(home / "photos" / "chelsea.jpg")
            assert search(client, query)["results"][0]["path"] == "coffee.jpg"
            answer = client.post("/api/search?rerank=3", content=query, headers=JPEG)
            assert "keeps no features" in problem(answer, 422)["detail"]

    def test_features_of_a_network(self, home, tmp_path, query, capfd):
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

    def test_features_of_another_program(self, tmp_path, query):
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


class TestDescription:
    def test_openapi_says_what_is_answered(self, client, query):
        schema = client.get("/api/openapi.json").json()
        operations = {
            (method, path): operation
            for path, methods in schema["paths"].items()
            for method, operation in methods.items()
        }
        assert len(operations) == 12
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            content = operation["responses"]["200"]["content"]
            if "application/json" in content:
                assert content["application/json"]["schema"]["$ref"]
            said = operation["responses"]["4XX"]["content"]
            assert list(said) == ["application/problem+json"]
            assert "ProblemInfo" in said["application/problem+json"]["schema"]["$ref"]
            assert "422" not in operation["responses"]
        body = operations["post", "/api/search"]["requestBody"]["content"]
        assert list(body) == ["image/*"]

    def test_the_page_is_loaded_once(self, client):
        for path in ("/", "/static/main.js"):
            tag = client.get(path).headers["etag"]
            again = client.get(path, headers={"if-none-match": tag})
            assert (again.status_code, again.content) == (304, b"")

    def test_the_page_is_ours_alone(self, client):
        """No address of others in what the page loads."""
        for path in ("/", "/docs"):
            text = client.get(path).text
            assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text)


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "vladkit", "serve", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestCommand:
    def test_says_where_it_is_and_stops_when_told(self, home):
        process = start("all.vlad", "--port", "0", cwd=home)
        url = process.stdout.readline().strip()
        for _ in range(100):
            try:
                answer = httpx.get(url + "api/health")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        assert answer.json()["images"] == 15
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=20)
        assert process.returncode == 0
        assert messages.splitlines() == [
            f"all.vlad: 15 images, {(home / 'all.vlad').stat().st_size / 1e6:.1f} MB",
            "Ctrl-C stops it",
            "stopped",
        ]
        assert not (home / "all.vlad-wal").exists()

    def test_ended_by_another_program_it_closes_the_file(self, home):
        process = start("all.vlad", "--port", "0", cwd=home)
        url = process.stdout.readline().strip()
        for _ in range(100):
            with suppress(httpx.ConnectError):
                assert httpx.get(url + "api/health").status_code == 200
                break
            time.sleep(0.1)
        assert (home / "all.vlad-wal").exists()  # as long as it is open
        process.terminate()
        process.communicate(timeout=20)
        assert not (home / "all.vlad-wal").exists()

    def test_beyond_this_machine_it_says_what_is_open(self, home):
        process = start("all.vlad", "--port", "0", "--host", "0.0.0.0", cwd=home)
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "sees all 15 images" in process.communicate(timeout=20)[1]
        options = ("--port", "0", "--host", "0.0.0.0", "--token", "auto")
        process = start("all.vlad", *options, cwd=home)
        url = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert re.search(r":\d+/\?token=\S{20,}$", url)
        assert "warning" not in process.communicate(timeout=20)[1]

    def test_what_cannot_be_served(self, home):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            process = start("all.vlad", "--port", port, cwd=home)
            assert "give another --port" in process.communicate(timeout=20)[1]
            assert process.returncode == 1
        for arguments, said, code in (
            (["none.vlad"], "none.vlad", 1),
            (["secret.txt"], "not a", 1),
            (["all.vlad", "--token", "short"], "8 or more", 2),
            (["all.vlad", "--host", "no.such.host.invalid"], "no.such.host", 2),
            (["all.vlad", "--port", "70000"], "70000", 2),
        ):
            process = start(*arguments, cwd=home)
            _, messages = process.communicate(timeout=20)
            assert process.returncode == code, messages
            assert said in messages
            assert "Traceback" not in messages

    def test_needs_its_extra(self, home, monkeypatch):
        monkeypatch.setitem(sys.modules, "fastapi", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[web\]'"):
            serve(home / "all.vlad")
