"""Processes that are forked: what was open before is refused by name, and work goes on."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork here"
)

# Of its own, so that it has neither the threads nor the libraries of the other tests.
START = """
import gc, multiprocessing, sqlite3, sys, warnings
import numpy as np
from vladkit import VLAD, Collection
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
path, query = sys.argv[1:]

def forked(work):
    def child(queue):
        try:
            queue.put(work())
        except Exception as error:
            queue.put(f"{type(error).__name__}: {error}")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    found = queue.get(timeout=60)
    process.join(20)
    assert process.exitcode == 0, process.exitcode
    return found
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", START + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def path(home, tmp_path):
    return shutil.copy(home / "photos.vlad", tmp_path / "c.vlad")


USES = {
    "search": "collection.search(query, 1)",
    "count": "len(collection)",
    "images": "list(collection.images())",
    "add": "collection.add([query])",
    "remove": "collection.remove([query])",
    "check": "collection.check()",
    "copy": "collection.copy(path + '.copy')",
    "compact": "collection.compact()",
    "whiten": "collection.whiten(4)",
    "export": "collection.export(path + '.npz')",
}


@pytest.mark.parametrize("read_only", [False, True])
def test_an_open_collection_is_refused(home, path, read_only):
    run(
        f"""
with Collection.open(path, read_only={read_only}) as collection:
    n = len(collection)
    for use in {list(USES.values())}:
        said = forked(lambda: eval(use))
        assert said.startswith("StorageError: ") and "forked" in said and path in said, (use, said)
    assert len(collection) == n > 0
    if not {read_only}:
        assert collection.add([query]).indexed == 1
""",
        path,
        home / "query.png",
    )


def test_the_child_opens_it_again_and_the_parent_keeps_its_locks(home, path):
    run(
        """
def work():
    with Collection.open(path) as own:
        return own.search(query, 1)[0].path, own.add([query]).indexed

def leave():
    global collection
    collection.close()  # does nothing: it is the parent's
    del collection
    gc.collect()

def alone():
    with sqlite3.connect(path, timeout=0) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")

with Collection.open(path) as collection:
    n = len(collection)
    assert forked(leave) is None
    assert forked(work) == ("coffee.jpg", 1)
    assert len(collection) == n + 1
    assert "locked" in forked(alone)
assert forked(alone) is None
""",
        path,
        home / "query.png",
    )


def test_a_codebook_is_trained(path):
    run(
        """
rng = np.random.default_rng(0)
images = rng.normal(size=(20, 300, 16)).astype("f4")
def train():
    return VLAD(16, n_iter=5, n_jobs=2).fit(images).centroids_.sum()
wanted = train()
assert forked(train) == wanted
assert train() == wanted
""",
        path,
        path,
    )


@pytest.mark.parametrize("threads", ["numba", "blas", "opencv", "encode"])
def test_beside_threads_of_other_libraries(path, threads):
    """What the fork left behind of them is not waited for."""
    run(
        """
from vladkit import encode
rng = np.random.default_rng(0)
images = rng.normal(size=(20, 300, 16)).astype("f4")

def work():
    vlad = VLAD(8, n_iter=2, n_jobs=2, rotation=8).fit(images)
    sums = encode(images, vlad.centroids_, method="fused", n_jobs=2)
    return vlad.transform(images).sum(), sums.sum()

def start_numba():
    import numba
    numba.njit(parallel=True)(lambda x: x + x)(np.ones(10_000))

def start_blas():
    np.ones((500, 500)) @ np.ones((500, 500))

def start_opencv():
    import cv2
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), None, 5)

def start_encode():
    work()

globals()["start_" + path]()
got = forked(work)
assert got == work()
""",
        threads,
        threads,
    )


def test_a_collection_is_not_sent_to_another_process(path):
    run(
        """
import copy, os, pickle
from vladkit.errors import ParameterError
with Collection.open(path) as collection, multiprocessing.get_context("fork").Pool(1) as pool:
    for use in (lambda: pool.map(len, [collection]), lambda: pickle.dumps(collection),
                lambda: copy.copy(collection), lambda: copy.deepcopy(collection)):
        try:
            use()
        except ParameterError as error:
            assert path in str(error) and str(error).endswith("send the path, and open it there")
        else:
            raise AssertionError
    assert len(collection) > 0
""",
        path,
        path,
    )


@pytest.mark.parametrize("use", ["build_ann()", "export(path + '.faiss')"])
def test_faiss_is_used(path, use):
    run(
        f"""
def work():
    with Collection.open(path) as collection:
        collection.{use}
work()
assert forked(work) is None
""",
        path,
        path,
    )
