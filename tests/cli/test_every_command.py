"""Every command, run once from end to end; a command that is not in `CASES` fails a test."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import signal
import socket
import threading
import urllib.request
from contextlib import closing
from functools import partial

import pytest

from benching import WITHOUT_PEERS
from commands import run
from paths import TESTS
from vladkit import cli
from vladkit.bench import run as running
from vladkit.cli import load
from vladkit.cli.app import GROUPS
from vladkit.features.onnx import zoo
from vladkit.features.onnx.spec import KnownFile
from waiting import wait_until

CASES = {
    "index": ("photos -o new.vlad --n-clusters 4", "new.vlad: 5 images; 5 indexed"),
    "add": ("photos.vlad more", "photos.vlad: 6 images; 1 indexed"),
    "remove": ("photos.vlad 1.png", "photos.vlad: 1 removed, 4 images left"),
    "info": ("photos.vlad", "photos.vlad: 5 images, 0 skipped"),
    "codebook": ("photos -o w.npz --n-clusters 4", "w.npz: learned from 5 images in"),
    "merge": ("all.vlad photos.vlad", "all.vlad: 5 images and 0 skipped, of 1 file"),
    "frames": ("a.avi -o frames", "frames: 1 of 2 frames of a.avi"),
    "search": ("photos.vlad photos/1.png --rerank 2 --html s.html", "photos/1.png"),
    "serve": ("photos.vlad --port {port}", "http://127.0.0.1:{port}/"),
    "pairs": ("photos.vlad --top 1", "1.png copy.png"),
    "localize": ("photos.vlad flat photos/1.png", "(most with 1.png; camera model)"),
    "duplicates": ("photos.vlad", "photos.vlad: 5 images, 1 shot with 1 copy"),
    "eval": ("photos.vlad truth.json", "recall@10"),
    "report": ("photos.vlad truth.json -o r.html", "r.html: 1 query, mAP 1.0000"),
    "draw-matches": ("photos/1.png photos/copy.png -o m.png", "drawn in m.png"),
    "whiten": ("photos.vlad --n-components 2", "dimensions became 2; 5 images"),
    "augment": ("photos.vlad -n 1", "5 images joined with 1 neighbour each"),
    "adapt": ("photos.vlad", "codebook adapted to 5 images"),
    "build-ann": ("photos.vlad", "5 vectors in"),
    "check": ("photos.vlad", "photos.vlad: 5 images, no problems"),
    "compact": ("photos.vlad", "MB freed"),
    "relocate": ("photos.vlad photos photos", "5 images moved to photos"),
    "migrate": ("photos.vlad", "has format 4 already"),
    "export": ("photos.vlad -o v.npz", "5 vectors of"),
    "models": ("", "can be fetched"),
    "models fetch": ("small", "small.onnx"),
    "models add": ("d.onnx", ".onnx"),
    "bench": ("--quick --case 2,4,8,2 -j 1", "reduceat"),
}
"""The arguments of each command, and a piece of what it prints."""


def names(app):
    """Names of the commands, and of commands of commands."""
    for command in app.registered_commands:
        yield command.name or command.callback.__name__
    for group in app.registered_groups:
        yield group.name
        yield from (f"{group.name} {name}" for name in names(group.typer_instance))


def test_no_command_is_missing_here():
    registered = list(names(load()))
    assert sorted(registered) == sorted(CASES)
    grouped = [name for group in GROUPS.values() for name in group]
    assert grouped == [name for name in CASES if " " not in name], "in the order of --help"


@pytest.fixture
def small(monkeypatch):
    """A known model of a few bytes that a local server gives."""
    data = b"no model, but what is known of it is right"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/small.onnx"
        sha256 = hashlib.sha256(data).hexdigest()
        known = KnownFile("small", "Small", "page", "licence", None, sha256, len(data), url)
        monkeypatch.setattr(zoo, "known_networks", lambda: iter([known]))
        yield
        server.shutdown()


@pytest.fixture
def few_ways(monkeypatch):
    """Others take a minute to load and to compile, in the process that `bench` starts."""
    monkeypatch.setattr(running, "run", partial(running.run, only=["reduceat"]))
    monkeypatch.setattr(running, "_START", WITHOUT_PEERS)


@pytest.fixture
def port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def stop_when_served(port):
    """Ask a page until it answers, then interrupt this process, as Ctrl-C does."""

    def answers():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                return b"<html" in page.read()
        except OSError:
            return False

    try:
        wait_until(answers, 60)
    finally:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("command", CASES)
def test_runs(here, small, few_ways, port, command):
    arguments, said = (text.format(port=port) for text in CASES[command])
    handler = signal.getsignal(signal.SIGINT)
    if command == "localize":
        pytest.importorskip("pycolmap", reason="places are found with pycolmap")
    if command == "serve":
        threading.Thread(target=stop_when_served, args=[port], daemon=True).start()
    try:
        done = run(*command.split(), *arguments.split())
    finally:
        signal.signal(signal.SIGINT, handler)
    assert said in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("command", ["", *CASES])
def test_help_fits_80_columns_and_is_not_cut_off(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run(*command.split(), "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"[a-z,;:)] ?\.\.\.", text)
    if not command:
        titles = [line.rstrip(":") for line in text.splitlines() if line.endswith(":")]
        assert titles == ["Options", *GROUPS]
        for name in (name for group in GROUPS.values() for name in group):
            assert re.search(rf"^  {name} +[A-Z].*\.$", text, re.MULTILINE), "a line and whole"


def test_every_command_is_in_the_docs():
    pages = [TESTS.parent / "README.md", *(TESTS.parent / "docs").rglob("*.md")]
    text = "".join(page.read_text() for page in pages)
    app = cli.load()
    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    groups = app.registered_groups
    names += [group.name for group in groups]
    names += [f"{g.name} {c.callback.__name__}" for g in groups
              for c in g.typer_instance.registered_commands]  # fmt: skip
    assert len(names) >= 18
    assert [name for name in names if f"vladkit {name}" not in text] == []
