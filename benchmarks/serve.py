"""The server of ``vladkit serve`` under use and under attack.

    python benchmarks/serve.py COLLECTION QUERY... [--requests 40] [--seconds 30] [--clients 8]

Starts the server on a free port and prints, as JSON: the time from sending an image to its
results, without and with re-ranking; what some clients at once for a while get, and the memory of
the server before and after; and what each attack of a hostile set is answered, with the server
asked for its health after each.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

JPEG = {"Content-Type": "image/jpeg"}


WAYS = [
    *("/..", "/%2e%2e", "/..%2f", "/../..", "//etc", "file:///"),
    *("/static/..", "/static/%2e%2e", "/static/..%2f..", "/static/"),
    *("/api/images/..", "/api/images/%2e%2e%2f", "/api/queries/..%2f"),
]
"""Beginnings of paths that should lead out of what is served."""


class Server:
    """The command in a process of its own."""

    def __init__(self, collection: str) -> None:
        command = [sys.executable, "-m", "vladkit", "serve", collection, "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        where = urlsplit(self.process.stdout.readline().decode().strip())
        self.address = where.hostname or "", where.port or 0
        while True:
            try:
                self.ask("GET", "/api/health")
                break
            except ConnectionRefusedError:
                time.sleep(0.05)

    def ask(self, method: str, path: str, body=None, headers=None) -> tuple[int, bytes, dict]:
        """Status, body and headers."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def resident_mb(self) -> float:
        """Memory that it holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1e3

    def close(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()


def latency(server: Server, queries: list[bytes], rerank: int, n: int) -> dict[str, float]:
    """Seconds from sending an image to the end of the answer."""
    seconds = []
    for _, data in zip(range(n), cycle(queries), strict=False):
        begin = time.perf_counter()
        status, _, _ = server.ask("POST", f"/api/search?rerank={rerank}", data, JPEG)
        assert status == 200, status
        seconds.append(time.perf_counter() - begin)
    return {
        "first": round(seconds[0], 3),
        "median": round(statistics.median(seconds), 3),
        "p95": round(sorted(seconds)[int(0.95 * n)], 3),
    }


def crowd(server: Server, queries: list[bytes], clients: int, seconds: float) -> dict:
    """Clients that search one after the other, every second time with re-ranking."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    resident = [server.resident_mb()]
    end = time.monotonic() + seconds

    def one(first: int) -> None:
        for i, data in enumerate(cycle(queries[first:] + queries[:first])):
            if time.monotonic() > end:
                return
            begin = time.perf_counter()
            path = f"/api/search?rerank={50 * (i % 2)}"
            status, body, headers = server.ask("POST", path, data, JPEG)
            statuses[status] += 1
            taken.append(time.perf_counter() - begin)
            if status == 503:
                time.sleep(int(headers["retry-after"]))
                continue
            shown = json.loads(body)["results"][:6]
            for result in shown:
                statuses[server.ask("GET", result["thumbnail"])[0]] += 1

    threads = [threading.Thread(target=one, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        resident.append(server.resident_mb())
    taken.sort()
    third = len(resident) // 3
    return {
        "searches": len(taken),
        "per_second": round(len(taken) / seconds, 1),
        "statuses": dict(statuses),
        "median": round(statistics.median(taken), 3),
        "p95": round(taken[int(0.95 * len(taken))], 3),
        "resident_mb": {
            "before": resident[0],
            "after a third": max(resident[: third + 1]),
            "most": max(resident),
            "end": resident[-1],
        },
    }


def raw(server: Server, data: bytes, seconds: float = 20) -> bytes:
    """What the server says to these bytes."""
    with socket.create_connection(server.address, timeout=seconds) as connection:
        connection.sendall(data)
        said = b""
        try:
            while chunk := connection.recv(1 << 16):
                said += chunk
        except (ConnectionResetError, TimeoutError):
            pass
    return said


def status_of(said: bytes) -> int:
    return int(said.split()[1]) if said else 0


def png_bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checked = kind + body
        return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = zlib.compress(bytes(20_000 * (20_000 // 8 + 1)), 9)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def send_gigabyte(server: Server, *, chunked: bool) -> int:
    """The status, for whoever sends 1 GB and looks for an answer meanwhile."""
    how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1073741824"
    piece = bytes(1 << 20)
    if chunked:
        piece = b"100000\r\n" + piece + b"\r\n"
    with socket.create_connection(server.address, timeout=30) as connection:
        head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        connection.sendall(head + how + b"\r\n\r\n")
        try:
            for _ in range(1024):
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return status_of(connection.recv(1 << 16))
        except ConnectionResetError:
            return 0


def hostile(server: Server, queries: list[bytes]) -> dict[str, object]:
    """Each attack with its statuses; `healthy` that the server answered after every one."""
    found: dict[str, object] = {}
    said = []
    for way in WAYS:
        request = f"GET {way}/etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        said.append(raw(server, request.encode()))
    found["paths"] = dict(Counter(map(status_of, said)))
    leaked = [each for each in said if b"root:" in each]
    assert not leaked, leaked
    uploads = {
        "bomb of 20,000 x 20,000": png_bomb(),
        "text": b"no image at all",
        "zip": b"PK\x03\x04" + bytes(1000),
        "truncated": queries[0][: len(queries[0]) // 2],
    }
    for name, data in uploads.items():
        status, body, _ = server.ask("POST", "/api/search", data, JPEG)
        found[name] = status, json.loads(body)["detail"]
    for name, chunked in (("1 GB, announced", False), ("1 GB, in chunks", True)):
        begin = time.perf_counter()
        status = send_gigabyte(server, chunked=chunked)
        found[name] = status, f"{time.perf_counter() - begin:.1f} s"
    request = b"GET /api/info HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    found["another host"] = status_of(raw(server, request))
    slow = []
    for i in range(200):
        connection = socket.create_connection(server.address, timeout=30)
        connection.sendall(b"POST /api/search HTTP/1.1\r\nHost: loc"[: 1 + i % 40])
        slow.append(connection)
    begin = time.perf_counter()
    status, _, _ = server.ask("POST", "/api/search", queries[0], JPEG)
    meanwhile = time.perf_counter() - begin
    statuses: Counter[int] = Counter()
    for connection in slow:
        try:
            statuses[status_of(connection.recv(1 << 16))] += 1
        except ConnectionResetError:
            statuses[0] += 1
        connection.close()
    found["200 slow connections"] = dict(statuses)
    found["a search meanwhile"] = status, f"{meanwhile:.2f} s"
    listed = json.loads(server.ask("GET", "/api/images?limit=200")[1])
    found["images listed"] = listed["total"]
    found["healthy"] = server.ask("GET", "/api/health")[0] == 200
    found["resident_mb"] = server.resident_mb()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection")
    parser.add_argument("query", nargs="+")
    parser.add_argument("--requests", type=int, default=40, help="searches, one after the other")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    queries = [Path(query).read_bytes() for query in options.query]
    server = Server(options.collection)
    try:
        report = {
            "plain": latency(server, queries, 0, options.requests),
            "re-ranked 50": latency(server, queries, 50, options.requests),
            "crowd": crowd(server, queries, options.clients, options.seconds),
            "hostile": hostile(server, queries),
        }
    finally:
        server.close()
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
