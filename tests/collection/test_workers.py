"""Workers, of this machine or of a cluster, make the rows that one process makes, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from commands import run
from dying import DEADLY, Inline, begin
from images import textured
from stored import tables
from vladkit import Collection
from vladkit.collection import learner, processes, tasks
from vladkit.collection.processes import Processes
from vladkit.errors import ParameterError, WorkerError
from vladkit.store.store import new_state
from waiting import wait_for_rows, wait_until

RECIPE = {"n_clusters": 8, "enlarge_to": 0, "max_features": 300, "n_words": 64}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of 100 small images and a damaged one, a codebook, and one.vlad by threads."""
    home = tmp_path_factory.mktemp("workers")
    (home / "photos").mkdir()
    for i in range(100):
        cv2.imwrite(str(home / "photos" / f"{i:02}.png"), textured(48, 36, seed=i))
    (home / "photos" / "broken.png").write_bytes(b"no image")
    Collection.learn(home / "words.npz", home / "photos", **RECIPE)
    add(home, "one.vlad", None)
    return home


def add(home, name, executor, codebook="words.npz", photos="photos", **recipe):
    given = {"codebook": home / codebook} if codebook else RECIPE
    with Collection.create(home / name, **given, **recipe) as collection:
        return collection.add(home / photos, executor=executor)


def of_its_own(path):
    """Tables of a collection that has learned by itself: each time its state has another id."""
    found = tables(path)
    found["about"]["learned"].pop("id")
    return found


class TestEqual:
    def test_processes_by_the_command(self, home, monkeypatch):
        monkeypatch.chdir(home)
        words = home / "photos", "-o", "two.vlad", "--codebook", "words.npz", "--workers", "2"
        report = json.loads(run("index", *words, "--json").stdout)
        assert (report["indexed"], report["skipped"][0]["path"]) == (100, "broken.png")
        assert tables(home / "two.vlad") == tables(home / "one.vlad")

    @pytest.mark.parametrize("short_at", [2048, 50])
    def test_where_it_learns_and_makes_vectors_short(self, home, monkeypatch, short_at):
        monkeypatch.setattr(learner, "_SHORT_AT", short_at)
        monkeypatch.setattr(learner, "_FEW_IMAGES", 20)
        for name, executor in (("threads", None), ("inline", Inline())):
            add(home, f"{short_at}{name}.vlad", executor, codebook=None)
        threads, inline = (of_its_own(home / f"{short_at}{n}.vlad") for n in ("threads", "inline"))
        assert inline == threads
        assert "whitening" in threads["about"]

    def test_where_another_process_learns_meanwhile(self, home, monkeypatch):
        """What is in hand then is made again."""
        executor = Inline()
        with Collection.create(home / "meanwhile.vlad", codebook=home / "words.npz") as collection:
            learned = collection.index.store.learned()

            def ends(names):
                if executor.n_tasks == 12:
                    with Collection.open(collection.path) as other, other.index.store.writing():
                        other.index.store.set_about(learned=new_state(**learned))
                return False

            executor.ends = ends
            assert collection.add(home / "photos", executor=executor).indexed == 100
        meanwhile, one = tables(home / "meanwhile.vlad"), tables(home / "one.vlad")
        assert meanwhile["about"].pop("learned") != one["about"].pop("learned")
        assert meanwhile == one
        assert executor.n_tasks > 13


class TestBounds:
    @pytest.mark.parametrize("n_workers", [1, 4])
    def test_images_in_hand(self, home, tmp_path, n_workers):
        executor = Inline(n_workers)
        add(home, tmp_path / "c", executor)
        assert executor.most_in_hand == {1: 96, 4: 101}[n_workers]

    def test_what_was_learned_is_sent_once_to_each_worker(self, home, tmp_path):
        executor = Inline(2)
        add(home, tmp_path / "c", executor)
        assert (executor.n_sent, executor.n_tasks) == (2, 13)

    def test_a_worker_without_it_gets_it(self, home, tmp_path, monkeypatch):
        executor = Inline(2)
        describe = tasks.describe

        def forgetful(token, state, work, threads):
            return describe(token, state, work, threads) if state else None

        monkeypatch.setattr(tasks, "describe", forgetful)
        assert add(home, tmp_path / "c", executor).indexed == 100
        assert (executor.n_sent, executor.n_tasks) == (13, 24)

    def test_threads_of_a_process(self, monkeypatch):
        monkeypatch.setattr(processes, "_begin", int)
        with Processes(2, 5) as two:
            assert (two.threads, two.submit(os.getenv, "OMP_NUM_THREADS").result()) == (2, "2")
            assert two.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == "1"


class TestDeath:
    def test_an_image_that_ends_its_worker_is_skipped_by_name(self, home, tmp_path):
        executor = Inline(ends=lambda names: "55.png" in names)
        report = add(home, tmp_path / "c", executor)
        assert report.indexed == 99
        assert report.skipped == [("55.png", tasks._ENDS), ("broken.png", report.skipped[1][1])]
        assert executor.n_ends == 3  # with others twice, and alone
        with Collection.open(tmp_path / "c") as collection:
            assert collection.check() == []

    def test_a_pool_that_breaks_loses_all(self, home, tmp_path, monkeypatch):
        pools = []

        class Pools(Inline):
            """As `Processes`: all that is in hand is lost, and there is a new pool."""

            def __init__(self, n_workers=2):
                super().__init__(n_workers, lambda names: "55.png" in names, breaks=True)
                pools.append(self)

            def __exit__(self, *error):
                pass

            stop = __exit__

        monkeypatch.setattr(tasks, "Processes", Pools)
        report = add(home, tmp_path / "c", Pools())
        assert (report.indexed, len(pools)) == (99, 4)
        assert report.skipped[0] == ("55.png", tasks._ENDS)

    def test_a_worker_that_ends_once(self, home):
        ends = iter([False] * 7 + [True] + [False] * 99)
        add(home, "once.vlad", Inline(ends=lambda names: next(ends)))
        assert tables(home / "once.vlad") == tables(home / "one.vlad")

    def test_workers_that_end_whatever_they_do(self, home, tmp_path):
        with pytest.raises(WorkerError, match="before they have an image in hand"):
            add(home, tmp_path / "c", Inline(ends=lambda names: True))

    def test_an_image_that_ends_its_process(self, home, tmp_path, monkeypatch):
        (tmp_path / "photos").mkdir()
        for i in range(6):
            cv2.imwrite(str(tmp_path / "photos" / f"{i}.jpg"), textured(48, 36, seed=i))
        with open(tmp_path / "photos" / "5.jpg", "ab") as file:
            file.write(DEADLY)
        monkeypatch.setattr(processes, "_begin", begin)
        with Processes(1) as one:
            report = add(home, tmp_path / "c", one, photos=tmp_path / "photos")
        assert (report.indexed, report.skipped) == (5, [("5.jpg", tasks._ENDS)])


CLUSTER = """
import os, signal, sys
from distributed import Client, LocalCluster
from vladkit import Collection

def main(codebook, photos, path):
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        pids = list(client.run(os.getpid).values())

        def kill(step, done, total):
            if pids and step == "index":
                os.kill(pids.pop(), signal.SIGKILL)
                print("killed one of", len(pids) + 1)
                pids.clear()

        with Collection.create(path, codebook=codebook) as collection:
            report = collection.add(photos, executor=client, progress=kill)
            print(report.indexed, "indexed")

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_cluster_of_which_a_worker_is_killed(home, tmp_path):
    pytest.importorskip("distributed", reason="the test extra has it")
    script = tmp_path / "script.py"
    script.write_text(CLUSTER)
    words = home / "words.npz", home / "photos", home / "cluster.vlad"
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["killed one of 2", "100 indexed"]
    assert tables(home / "cluster.vlad") == tables(home / "one.vlad")


class LostClient(Inline):
    """Client of Dask whose scheduler goes when it has been asked for its workers some times."""

    status = "running"

    def __init__(self, n_asked):
        super().__init__(2, self._ends)
        self.left = n_asked

    def get_executor(self, *, pure):
        return self

    def nthreads(self):
        self._ask()
        return {"a worker": 2}

    def scatter(self, states, **options):
        self._ask()
        return states

    def _ask(self):
        self.left -= 1
        if not self.left:
            self.status = "closed"
        if self.status == "closed":
            raise OSError("ConnectionPool closing.")

    def _ends(self, names):
        return self.status == "closed"


@pytest.mark.parametrize(("n_asked", "n_images"), [(1, 0), (2, 0), (4, 0), (7, 32)])
def test_a_scheduler_that_is_gone_is_an_error(home, tmp_path, n_asked, n_images):
    """What was committed stays."""
    client = LostClient(n_asked)
    with pytest.raises(WorkerError, match="scheduler of the cluster does not answer any more"):
        add(home, tmp_path / "c", client)
    with Collection.open(tmp_path / "c") as collection:
        assert len(collection) == n_images


class TestRefused:
    def test_no_executor(self, home, tmp_path):
        with pytest.raises(ParameterError, match="executor=3 has no submit"):
            add(home, tmp_path / "c", 3)

    def test_by_the_command(self, home, tmp_path, monkeypatch):
        words = "index", home / "photos", "-o", tmp_path / "c"
        both = run(*words, "--workers", "2", "--cluster", "tcp://localhost:1", code=2)
        assert "--workers or --cluster, not both" in both.stderr
        assert "--workers" in run(*words, "--workers", "0", code=2).stderr
        pytest.importorskip("distributed", reason="the test extra has it")
        silent = run(*words, "--cluster", "tcp://127.0.0.1:1", code=1)
        assert "no scheduler of Dask answers at tcp://127.0.0.1:1" in silent.stderr
        with socket.create_server(("127.0.0.1", 0)) as other:  # which says nothing
            monkeypatch.setattr("vladkit.cli.workers._SECONDS", 0.5)
            address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
            none = run(*words, "--cluster", address, code=1)
            assert f"no scheduler of Dask answers at {address}" in none.stderr
        assert "'here' is no address" in run(*words, "--cluster", "here", code=2).stderr
        monkeypatch.setitem(sys.modules, "distributed", None)
        missing = run(*words, "--cluster", "tcp://127.0.0.1:1", code=1)
        assert "--cluster needs Dask: pip install 'vladkit[dask]'" in missing.stderr
        assert list(tmp_path.iterdir()) == []


RUN = """
import signal
from vladkit.cli import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is without
    main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("by", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_driver_that_is_stopped_goes_on_when_started_again(home, tmp_path, by, code):
    """And its workers end with it."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(400):
        os.link(home / "photos" / f"{i % 100:02}.png", photos / f"{i:03}.png")
    script = tmp_path / "script.py"
    script.write_text(RUN)
    words = "index", photos, "--codebook", home / "words.npz", "--workers", "2", "-o"
    command = [sys.executable, script, *words]
    path = tmp_path / "c.vlad"
    process = subprocess.Popen(
        [*command, path], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    seen = wait_for_rows(process, path, 32)
    workers = _children(process.pid)
    assert len(workers) >= 2
    os.killpg(process.pid, by) if by == signal.SIGINT else process.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert by == signal.SIGKILL or "images are in" in stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not any(map(_is_running, workers)))
    with Collection.open(path) as collection:
        assert seen <= len(collection) < 400
    for name in ("c.vlad", "whole.vlad"):
        subprocess.run([*command, tmp_path / name], check=True, capture_output=True)
    assert tables(path) == tables(tmp_path / "whole.vlad")


def _children(parent):
    return [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == parent
    ]


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
