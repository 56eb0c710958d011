"""Indexing that is killed, interrupted, or done twice at once ends in the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import cv2
import pytest

from images import textured
from small import make
from vladkit import Collection
from vladkit.errors import (
    FileFormatError,
)
from waiting import wait_for_rows, wait_until

SLOW = """
import os
import time
import cv2
decode = cv2.imdecode
def slow(*a):
    time.sleep(0.03)  # so that nobody comes too late
    with open(os.environ.get("DECODED", os.devnull), "a") as file:
        file.write(".")
    return decode(*a)
cv2.imdecode = slow
"""

RUN = """
import signal
from vladkit.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started without
main()
"""

RECIPE = {"n_clusters": 16, "enlarge_to": 0}  # small images stay small, and fast

KILLED = f"""
import sys
from vladkit import Collection
with Collection.create(sys.argv[1], **{RECIPE}) as collection:
    collection.add([sys.argv[2]])
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 110 small images, some dozens of features each: four batches."""
    folder = tmp_path_factory.mktemp("kill") / "many"
    folder.mkdir()
    for i in range(110):
        cv2.imwrite(str(folder / f"{i:03}.png"), textured(64, 48, seed=i))
    return folder


@pytest.fixture(scope="module")
def undisturbed(many):
    """What a run over them ends in that nothing interrupts."""
    make(many.parent / "undisturbed", many, **RECIPE)
    return everything(many.parent / "undisturbed", many)


def everything(path, folder):
    """Rankings of some queries, and the rows of all images."""
    queries = sorted(folder.iterdir())[::37]
    with Collection.open(path) as collection:
        rankings = [collection.search(query, top=0) for query in queries]
        images = list(collection.images())
    return [[(h.path, h.score) for h in hits] for hits in rankings], images


class TestKill:
    @pytest.mark.parametrize(
        "at_least",
        [
            -1,
            pytest.param(0, marks=pytest.mark.slow),
            pytest.param(1, marks=pytest.mark.slow),
            33,
            pytest.param(64, marks=pytest.mark.slow),
        ],
    )
    def test_running_again_ends_in_the_same(self, many, undisturbed, tmp_path, at_least):
        path = tmp_path / "c"
        process = subprocess.Popen([sys.executable, "-c", SLOW + KILLED, path, many])
        seen = self.wait(process, path, at_least)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if seen >= 0:
            with Collection.open(path) as collection:
                committed = len(collection)
            assert committed >= seen  # what was seen as committed is there
            assert committed < 110, "killed too late to tell"
        else:  # at the very beginning: nothing, or an empty collection
            with suppress(FileFormatError), Collection.open(path) as collection:
                assert len(collection) == 0
        report = make(path, many, **RECIPE)
        assert report.indexed < 110 or seen <= 0
        assert everything(path, many) == undisturbed

    def wait(self, process, path, at_least):
        """Until so many images are committed; 0: until it learns; -1: until the file is there."""
        if at_least < 0:
            wait_until(path.exists, 60)
            return -1
        if at_least == 0:  # recipe and versions are committed
            wait_for_rows(process, path, 2, "SELECT count(*) FROM about")
            return 0
        return wait_for_rows(process, path, at_least)

    @pytest.mark.parametrize(
        "at_least", [0, pytest.param(33, marks=pytest.mark.slow)]
    )  # while it learns, and compiles; and later
    def test_interrupt_keeps_what_is_committed(
        self, many, tmp_path, tmp_path_factory, monkeypatch, at_least
    ):
        path = tmp_path / "c"
        decoded = tmp_path_factory.mktemp("decoded") / "dots"
        monkeypatch.setenv("DECODED", str(decoded))
        words = ["index", many, "-o", path, "--n-clusters", "16", "--enlarge-to", "0"]
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW + RUN, *words], stderr=subprocess.PIPE, text=True
        )
        self.wait(process, path, at_least)
        wait_until(lambda: decoded.exists() and decoded.stat().st_size >= 20, 60)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert "vladkit: interrupted: " in stderr
        assert "; run again to " in stderr
        assert "Traceback" not in stderr
        assert "FATAL" not in stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]
        assert make(path, many, **RECIPE).indexed > 0

    def test_two_at_once(self, many, undisturbed, tmp_path):
        path = tmp_path / "c"
        command = [sys.executable, "-c", SLOW + KILLED, path, many]
        processes = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(120) for process in processes] == [0, 0]
        rankings, images = everything(path, many)
        # the one that ends first makes vectors short, by those that are there then
        assert [hits[0][0] for hits in rankings] == [hits[0][0] for hits in undisturbed[0]]
        assert len(images) == 110


@pytest.mark.slow  # 40 s
def test_memory_does_not_grow_with_the_images(tmp_path):
    pytest.importorskip("resource", reason="needs Linux's peak of resident memory")
    source = tmp_path / "one.png"
    cv2.imwrite(str(source), textured(320, 240))
    few_kept = (  # or the sample that the codebook is learned from grows, until it is full
        "from vladkit.collection import learner, sample\n"
        "assert sample._SPOOL_BYTES and learner._SAMPLE_IMAGES and learner._FEW_IMAGES\n"
        "sample._SPOOL_BYTES, learner._SAMPLE_IMAGES, learner._FEW_IMAGES = 1 << 20, 20, 20\n"
    )
    peak_kb = "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

    def peak(n):
        folder = tmp_path / str(n)
        folder.mkdir()
        for i in range(n):
            os.link(source, folder / f"{i}.png")
        code = few_kept + KILLED + peak_kb
        command = [sys.executable, "-c", code, tmp_path / f"{n}.vlad", folder]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # 400 images of 2,000 descriptors are 100 MB of uint8, 400 MB of float32.
    few, many = peak(60), peak(460)
    assert many - few < 50_000, f"peak went from {few} to {many} kB"
