"""Connections that are slow, idle or too many."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from serving import raw, search, serving
from vladkit import Collection
from vladkit.web.limits import Limits
from vladkit.web.server import _listen
from waiting import wait_until


def test_slow_headers_are_closed_with_a_word(home, query):
    limits = Limits(header_seconds=0.5)
    with serving(home / "photos.vlad", limits) as (client, _):
        port = client.base_url.port
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for i, connection in enumerate(slow):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localh"[: i + 1])
        search(client, query)  # meanwhile
        for connection in slow:
            connection.settimeout(10)
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            connection.close()


def test_an_idle_kept_connection_may_ask_again(home):
    with serving(home / "photos.vlad", Limits(header_seconds=1)) as (client, _):
        address = "127.0.0.1", client.base_url.port
        end = time.monotonic() + 2  # longer than a header may take
        with socket.create_connection(address) as connection:
            connection.settimeout(10)
            while time.monotonic() < end:
                connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                said = b""
                while not said.endswith(b"}"):  # header and body come together, or apart
                    chunk = connection.recv(1 << 16)
                    assert chunk, f"closed after {said!r}"
                    said += chunk
                assert said.startswith(b"HTTP/1.1 200 ")
        # one that begins a second request and does not end it
        with socket.create_connection(address) as connection:
            connection.settimeout(10)
            connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api")
            said = b""
            while chunk := connection.recv(1 << 16):
                said += chunk
            assert said.startswith(b"HTTP/1.1 200 ")


UPLOAD = (
    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    b"Content-Length: 1000000\r\n\r\nabc"
)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        UPLOAD,
        b"GET /api/images HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
    ],
)
def test_of_too_many_connections_the_silent_make_room(home, begun):
    with serving(home / "photos.vlad", Limits(connections=5)) as (client, _):
        kept = []
        for _ in range(12):
            kept.append(socket.create_connection(("127.0.0.1", client.base_url.port)))
            kept[-1].sendall(begun)
            ask = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert raw(client, ask).startswith(b"HTTP/1.1 200 ")
        for connection in kept:
            connection.close()


def test_connections_that_are_worked_for_do_not(home, monkeypatch):
    go_on, info, begun = threading.Event(), Collection.info, []

    def slow(self):
        begun.append(1)
        go_on.wait(20)
        return info(self)

    monkeypatch.setattr(Collection, "info", slow)
    ask = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving(home / "photos.vlad", Limits(connections=2)) as (client, _), ExitStack() as stack:
        busy = []
        for _ in range(2):
            connection = socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20)
            busy.append(stack.enter_context(connection))
            connection.sendall(ask)
        wait_until(lambda: len(begun) == 2)
        said = raw(client, ask)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in said.lower()
        go_on.set()
        assert sum(each.recv(100).startswith(b"HTTP/1.1 200 ") for each in busy) == 2


def test_small_answers_are_sent_at_once():
    """Nagle's algorithm and delayed acknowledgements make them wait for each other."""

    async def find_out():
        made = asyncio.get_running_loop().create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport.get_extra_info("socket"))

        listening = _listen("127.0.0.1", 0)
        address = listening.getsockname()
        server = await asyncio.get_running_loop().create_server(Server, sock=listening)
        _, writer = await asyncio.open_connection(*address)
        option = (await made).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        server.close()
        return option

    with ThreadPoolExecutor(1) as pool:  # this thread has the browser's event loop
        assert pool.submit(asyncio.run, find_out()).result()
