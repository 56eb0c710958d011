"""`vladkit serve`: the command, and what it refuses."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from commands import run
from serving import problem, serving
from vladkit.errors import MissingDependencyError, ParameterError
from vladkit.web import server as server_module
from vladkit.web.server import check_token, serve


@pytest.fixture
def home(home, tmp_path):
    """A copy of the file that no other process has open."""
    shutil.copy(home / "photos.vlad", tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


def start(*arguments, cwd, before=()):
    return subprocess.Popen(
        [*before, sys.executable, "-m", "vladkit", "serve", "-j", "1", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell to ignore the signal")
def test_in_the_background_it_can_be_interrupted_too(home):
    """A shell starts such a job with SIGINT ignored."""
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    process = start("photos.vlad", "--port", "0", cwd=home, before=ignoring)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1].endswith("stopped\n")
    assert process.returncode == 0


def test_says_where_it_is_and_stops_when_told(home):
    process = start("photos.vlad", "--port", "0", cwd=home)
    url = process.stdout.readline().strip()  # it listens already
    assert httpx.get(url + "api/health", timeout=30).json()["images"] == 16
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 0
    assert messages.splitlines() == [
        f"photos.vlad: 16 images, {(home / 'photos.vlad').stat().st_size / 1e6:.1f} MB",
        "Ctrl-C stops it",
        "stopped",
    ]
    assert not (home / "photos.vlad-wal").exists()


def test_ended_by_another_program_it_closes_the_file(home):
    process = start("photos.vlad", "--port", "0", cwd=home)
    url = process.stdout.readline().strip()
    assert httpx.get(url + "api/health", timeout=30).status_code == 200
    assert (home / "photos.vlad-wal").exists()  # as long as it is open
    process.terminate()
    process.communicate(timeout=20)
    assert not (home / "photos.vlad-wal").exists()


def test_ended_while_it_searches_it_shows_no_traceback(home, monkeypatch, capfd):
    monkeypatch.setattr(server_module, "_SHUTDOWN_SECONDS", 1)
    go_on, begun = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with serving(home / "photos.vlad") as (client, engine):
            engine.queries.read = lambda *_: begun.set() or go_on.wait(20)
            asked = pool.submit(httpx.get, f"{client.base_url}/api/search?id=1", timeout=20)
            assert begun.wait(20)
            threading.Timer(2, go_on.set).start()
        assert problem(asked.result(), 503)["detail"] == "the server ends"
    assert "Traceback" not in capfd.readouterr().err


def test_beyond_this_machine_it_says_what_is_open(home):
    process = start("photos.vlad", "--port", "0", "--host", "0.0.0.0", cwd=home)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "sees all 16 images" in process.communicate(timeout=20)[1]
    options = ("--port", "0", "--host", "0.0.0.0", "--token", "auto")
    process = start("photos.vlad", *options, cwd=home)
    url = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert re.search(r":\d+/\?token=\S{20,}$", url)
    assert "warning" not in process.communicate(timeout=20)[1]


LOST = """
import os, signal, sys, weakref
from vladkit.web.server import serve

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run as a job

class Thing: ...

def ready(url):
    thing = Thing()
    told = weakref.ref(thing, lambda _: signal.raise_signal(getattr(signal, sys.argv[1])))
    del thing  # what a callback raises is printed, and nothing ends
    print("told", flush=True)

try:
    serve("photos.vlad", port=0, ready=ready)
except KeyboardInterrupt:
    print("interrupted", not os.path.exists("photos.vlad-wal"))
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGINT", 0, "told\ninterrupted True\n"), ("SIGTERM", -signal.SIGTERM, "told\n")],
)
def test_a_signal_before_the_server_runs_is_not_lost(home, name, code, said):
    command = [sys.executable, "-c", LOST, name]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")
    assert not (home / "photos.vlad-wal").exists()


def test_what_cannot_be_served(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "photos.vlad", "--port", port, cwd=home, code=1)
        assert "give another --port" in done.stderr
    for arguments, said, code in (
        (["none.vlad"], "none.vlad", 1),
        (["secret.txt"], "not a", 1),
        (["photos.vlad", "--token", "short"], "8 or more", 2),
        *(
            (["photos.vlad", "--allow-host", name], "without scheme, port and *", 2)
            for name in ("a.org:8000", "https://a.org", "*", "*.a.org", "", "a.org/", "bücher.org")
        ),
        (["photos.vlad", "--host", "no.such.host.invalid"], "no.such.host", 2),
        (["photos.vlad", "--port", "70000"], "70000", 2),
    ):
        assert said in run("serve", *arguments, cwd=home, code=code).stderr


def test_needs_its_extra(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[web\]'"):
        serve(home / "photos.vlad")


def test_tokens_that_are_none():
    assert len(check_token("auto")) > 20
    assert check_token("auto") != check_token("auto")
    assert check_token(None) is None
    for bad in ("", "short", "ünïcödé tokens"):
        with pytest.raises(ParameterError, match="token"):
            check_token(bad)
