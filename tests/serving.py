"""Servers of the page, in this process and by the command, and questions to them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx

from vladkit.web.engine import Engine
from vladkit.web.limits import Limits
from vladkit.web.server import make_server

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
N_EMPTY = 120  # skipped files: more than a page of them
JPEG = {"content-type": "image/jpeg"}


@contextmanager
def serving(path, limits=None, n_jobs=1, trust=False, **options):
    """(client, engine) of a server on a free port, in a thread of this process.

    Each of `n_jobs` starts a process that decodes, for a second: one is enough for questions that
    come one after the other.
    """
    engine = Engine(path, limits or Limits(), n_jobs=n_jobs, trust=trust)
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


@contextmanager
def command_serving(file, *options):
    """The address that `vladkit serve` prints; the process ends with the block."""
    command = [sys.executable, "-m", "vladkit", "serve", str(file), "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            for line in server.stdout:
                found = re.search(r"http://\S+", line)
                if found:
                    yield found[0]
                    break
            else:
                raise AssertionError(f"{command} printed no address")
        finally:
            server.terminate()
            server.stdout.close()


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
    """The answer to a search with the bytes of an image."""
    answer = client.post("/api/search", content=data, headers=JPEG, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def id_of(client, path):
    """Id of the one image whose path contains this."""
    (item,) = client.get("/api/images", params={"contains": path}).json()["items"]
    return item["id"]


def raw(client, data):
    """The bytes that the server answers to these bytes, until it closes."""
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
