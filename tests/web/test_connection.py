"""Connections that are slow, idle or too many."""

from __future__ import annotations

import socket
import time

from serving import raw, search, serving
from vladkit.web.limits import Limits
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


def test_more_connections_than_allowed(home):
    with serving(home / "photos.vlad", Limits(connections=5)) as (client, _):
        port = client.base_url.port
        kept = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        ask = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        # the server may not have seen all five yet, and later not that they are gone
        said = wait_until(lambda: (text := raw(client, ask)).startswith(b"HTTP/1.1 503 ") and text)
        assert b"retry-after" in said.lower()
        for connection in kept:
            connection.close()
        wait_until(lambda: raw(client, ask).startswith(b"HTTP/1.1 200 "))
