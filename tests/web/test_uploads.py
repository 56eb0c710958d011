"""Images that are sent: every kind of bad one is a 4xx in words, and the server goes on."""

from __future__ import annotations

import socket
import struct
import time
import zlib

import cv2
import numpy as np
import pytest

from images import png_chunk
from serving import JPEG, problem, raw, search, serving
from vladkit.web.limits import Limits
from waiting import wait_until


class TestImagesSent:
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
    def test_only_what_is_said_to_be_an_image(self, client, query, kind):
        answer = client.post("/api/search", content=query, headers={"content-type": kind})
        assert "image/" in problem(answer, 415)["detail"]

    def test_too_large(self, home, query):
        with serving(home / "photos.vlad", Limits(upload_bytes=1 << 20)) as (client, _):
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
        with serving(home / "photos.vlad", Limits(held_bytes=1 << 20)) as (client, engine):
            address = "127.0.0.1", client.base_url.port
            head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            with socket.create_connection(address) as slow:
                slow.sendall(head + b"Content-Length: 999999\r\n\r\n" + bytes(800_000))
                wait_until(lambda: engine.uploads.n_held == 800_000)
                answer = client.post("/api/search", content=bytes(400_000), headers=JPEG)
                assert "being sent" in problem(answer, 503)["detail"]
            wait_until(lambda: engine.uploads.n_held == 0)  # it was given up
            search(client, query)
        assert "Traceback" not in capfd.readouterr().err

    def test_too_slow(self, home, query):
        with serving(home / "photos.vlad", Limits(upload_seconds=0.3)) as (client, _):
            begin = time.perf_counter()
            head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            text = raw(client, head + b"Content-Length: 1000\r\n\r\nabc")
            assert b" 408 " in text.splitlines()[0]
            assert time.perf_counter() - begin < 5
            search(client, query)
