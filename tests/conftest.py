"""What tests of several rooms start from: photographs, and a collection of them."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

# The key by which collections are known as made here is not that of whoever runs the tests.
if "VLADKIT_STATE" not in os.environ:
    os.environ["VLADKIT_STATE"] = tempfile.mkdtemp(prefix="vladkit-tests-")
    atexit.register(shutil.rmtree, os.environ["VLADKIT_STATE"], ignore_errors=True)

# As the command has it, and before NumPy is loaded: one thread of BLAS. The last bits of a rotation
# depend on the number, and several tests at once with two each would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Threads of faiss and torch sleep where they wait: with a process of tests on each core they would
# only take its time from the other, some 10 % of a k-means.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# OpenCV's spin instead: up to a third of the time of tests that search.
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import cv2
import pytest

from cloud import s3_server
from photos import cropped, photo, write_photos
from remembered import detect_once
from vladkit import Collection
from vladkit.features import Sift

# Files that each test of a family makes; `--fuzz N` makes N times as many.
N_FUZZ = {
    "test_orientation": 400,
    "test_samples": 400,
    "test_transparency": 200,
    "test_mutated_headers": 1000,
}
# Files of a test: with one each, pytest took twice as long as what it tests.
N_BLOCK = 50


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=1, metavar="N", help="N times as many files")
    parser.addoption("--number", type=int, metavar="I", help="file I of each family alone")


def pytest_generate_tests(metafunc):
    if "number_block" in metafunc.fixturenames:
        n = N_FUZZ[metafunc.function.__name__] * metafunc.config.getoption("fuzz")
        blocks = [range(i, min(i + N_BLOCK, n)) for i in range(0, n, N_BLOCK)]
        if (one := metafunc.config.getoption("number")) is not None:
            blocks = [range(one, one + 1)]
        metafunc.parametrize("number_block", blocks, ids=[f"{b[0]}-{b[-1]}" for b in blocks])


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Thousands of tests and their modules stay: the garbage collector is not to look at them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _points_found_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sift, "_detect", detect_once)
        yield


@pytest.fixture(scope="session")
def s3_of_all():
    """A server that speaks like S3, for all tests: moto takes seconds to import."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_all):
    s3_of_all.reset()
    yield s3_of_all
    s3_of_all.reset()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """The folder of scikit-image's photographs; not to be changed, it is that of all tests."""
    folder = tmp_path_factory.mktemp("home") / "photos"
    write_photos(folder)
    return folder


@pytest.fixture(scope="session")
def home(photos):
    """Photographs in photos/, photos.vlad of them, query.png: a part of the coffee.

    All tests of a process read these: one that changes anything changes a copy. Modules whose
    images or recipe differ have a `home` of their own.
    """
    home = photos.parent
    with Collection.create(home / "photos.vlad", n_clusters=32) as collection:
        collection.add([photos])
    cv2.imwrite(str(home / "query.png"), cropped(photo("coffee")))
    return home


@pytest.fixture(scope="module")
def collection(home):
    """The collection, open for reading."""
    with Collection.open(home / "photos.vlad", read_only=True) as collection:
        yield collection
