"""Threads with the open collection: too many searches, long ones, and a file that changes."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from serving import JPEG, problem, search, serving
from vladkit import Collection
from vladkit.web import engine as engine_module
from vladkit.web.engine import Engine
from vladkit.web.limits import Limits
from waiting import wait_until


def hold_reading(engine):
    """Keep searches from reading their query: set when one has begun, and what lets them go on."""
    started, go_on = threading.Event(), threading.Event()
    read = engine.queries.read

    def held(*arguments):
        started.set()
        go_on.wait(20)
        return read(*arguments)

    engine.queries.read = held
    return started, go_on


def test_too_many_searches_are_told_to_come_again(home, query):
    with serving(home / "photos.vlad", Limits(queue=1)) as (client, engine):
        started, go_on = hold_reading(engine)
        with ThreadPoolExecutor(2) as pool:
            running = pool.submit(search, client, query)
            assert started.wait(20)
            waiting = pool.submit(search, client, query)
            wait_until(lambda: engine.pool.n_admitted == 2)
            answer = client.post("/api/search", content=query, headers=JPEG)
            assert problem(answer, 503)["retry_after"] == 1
            assert answer.headers["retry-after"] == "1"
            assert client.get("/api/health").status_code == 200  # lists do not wait
            go_on.set()
            assert running.result()["results"]
            assert waiting.result()["results"]
        search(client, query)


def test_a_search_that_takes_too_long(home, query):
    with serving(home / "photos.vlad", Limits(search_seconds=0.2)) as (client, engine):
        go_on = threading.Event()
        engine.queries.read = lambda *_: go_on.wait(20)
        answer = client.post("/api/search", content=query, headers=JPEG)
        assert "too long" in problem(answer, 503)["detail"]
        assert engine.pool.n_admitted == 1  # its thread is still taken
        go_on.set()
        wait_until(lambda: engine.pool.n_admitted == 0)


def test_a_search_that_nobody_waits_for_does_not_wait(home, query):
    with serving(home / "photos.vlad", Limits(queue=1)) as (client, engine):
        started, go_on = hold_reading(engine)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(search, client, query)
            assert started.wait(20)
            ask = b"GET /api/search?id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with socket.create_connection(("127.0.0.1", client.base_url.port)) as gone:
                gone.sendall(ask)
                wait_until(lambda: engine.pool.n_admitted == 2)
            wait_until(lambda: engine.pool.n_admitted == 1)
            go_on.set()
            assert running.result()["results"]


def test_warm_before_the_first_search(home, tmp_path, monkeypatch):
    with Collection.create(tmp_path / "empty.vlad"):
        pass
    search_noise, done = engine_module._search_noise, []
    monkeypatch.setattr(
        engine_module, "_search_noise", lambda collection: done.append(search_noise(collection))
    )
    for path in (home / "photos.vlad", tmp_path / "empty.vlad"):
        done.clear()
        engine = Engine(path, Limits(), n_jobs=2)
        engine.warm_up()
        engine.close()
        assert done == [None, None]  # without an error


def test_threads_close_the_file_one_after_another(home, tmp_path, monkeypatch):
    """SQLite: of connections that close at the same moment, none removes the -wal file."""
    close, closing, most = Collection.close, [], []

    def slow_close(collection):
        closing.append(collection)
        time.sleep(0.1)
        most.append(len(closing))
        close(collection)
        closing.remove(collection)

    file = shutil.copy(home / "photos.vlad", tmp_path)  # no other process has it open
    engine = Engine(file, Limits(), n_jobs=2)
    engine.warm_up()
    monkeypatch.setattr(Collection, "close", slow_close)
    engine.close()
    assert most == [1, 1]
    assert not (tmp_path / "photos.vlad-wal").exists()


def test_another_process_changes_the_collection(own, home, query):
    with serving(own / "photos.vlad", n_jobs=2) as (client, _):
        before = search(client, query)
        assert before["results"][0]["path"] == "coffee.jpg"
        assert client.get("/api/health").json()["state"] == before["state"]
        with Collection.open(own / "photos.vlad") as collection:
            collection.remove(["coffee.jpg"])
        after = client.get("/api/health").json()
        assert after["images"] == 15
        assert after["state"] != before["state"]
        assert "coffee.jpg" not in [r["path"] for r in search(client, query)["results"]]
        with Collection.open(own / "photos.vlad") as collection:
            collection.add([own / "photos"])
            collection.whiten(8)
        assert search(client, query)["results"][0]["path"] == "coffee.jpg"
        # another collection in its place, as `rm photos.vlad*` and indexing again would
        for name in own.glob("photos.vlad*"):
            name.unlink()
        shutil.copy(home / "photos.vlad", own / "photos.vlad")
        assert search(client, query)["results"][0]["path"] == "coffee.jpg"
        assert client.get("/api/info").json()["whitened"] is False


@pytest.mark.parametrize("kind", ["vlad", "lance"])
def test_another_process_says_where_images_are_now(home, tmp_path, kind):
    """Names and addresses of images are others then, in what a client has kept, too."""
    if kind == "lance":
        pytest.importorskip("lance")
    folder, file = tmp_path / "photos", tmp_path / f"c.{kind}"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("e\u0301.jpg", "sub/1.jpg")):
        shutil.copy(home / ("coffee.jpg", "chelsea.jpg")[i], folder / name)
    with Collection.create(file, n_clusters=4, enlarge_to=0) as collection:
        collection.add([folder])
    with serving(file) as (client, _):

        def known():
            names = [each["path"] for each in client.get("/api/images").json()["items"]]
            return client.get("/api/health").json()["state"], names

        first, names = known()
        assert known() == (first, names)
        os.rename(folder, tmp_path / "moved")
        with Collection.open(file) as collection:
            collection.relocate(folder, tmp_path / "moved")
        second, same = known()
        assert (second != first, same) == (True, names)
        os.rename(tmp_path / "moved/e\u0301.jpg", tmp_path / "moved/\u00e9.jpg")
        with Collection.open(file) as collection:
            assert collection.add([tmp_path / "moved"]).indexed == 0
        third, others = known()
        assert third not in (first, second)
        assert others != names


def test_another_process_augments_the_collection(own, query):
    def answer(client):
        found = search(client, query, rerank=0, top=16)
        assert client.get("/api/health").json()["state"] == found["state"]
        return found["state"], {each["path"]: each["score"] for each in found["results"]}

    with serving(own / "photos.vlad") as (client, _):
        plain = answer(client)
        for change in ({"n_neighbors": 3}, {"n_neighbors": 3, "alpha": 9.0}):
            before = answer(client)
            with Collection.open(own / "photos.vlad") as collection:
                collection.augment(**change)
            after = answer(client)
            assert after[0] != before[0]
            assert after[1] != before[1]
        with Collection.open(own / "photos.vlad") as collection:
            collection.augment(0)
        assert answer(client) == plain


@pytest.mark.parametrize("left", [None, b"another kind of file", b""])
def test_a_collection_that_is_gone_is_a_problem_that_may_pass(own, left, capfd):
    file = own / "photos.vlad"
    with serving(file, n_jobs=2) as (client, _):
        assert client.get("/api/info").status_code == 200
        kept = file.read_bytes()
        file.unlink()
        if left is not None:
            file.write_bytes(left)
        for path in (
            "/api/info",
            "/api/images",
            "/api/images/1",
            "/api/search?id=1",
            "/api/health",
        ):
            said = problem(client.get(path), 503)
            assert "cannot be read now" in said["detail"]
            assert said["retry_after"] == 5
        assert "Traceback" not in capfd.readouterr().err
        file.write_bytes(kept)
        assert client.get("/api/info").status_code == 200


def test_damage_does_not_pass_by_itself(own):
    file = own / "photos.vlad"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE block SET picture_ids = zeroblob(length(picture_ids))")
    with serving(file, n_jobs=1) as (client, _):
        answer = client.get("/api/search?id=1")
        said = problem(answer, 503)
        assert said["detail"].startswith("the collection is damaged: vladkit check names where")
        assert "retry_after" not in said
        assert "retry-after" not in answer.headers
        assert client.get("/api/images").status_code == 200
