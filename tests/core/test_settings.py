"""Settings of the process that blocks hold."""

from __future__ import annotations

import os
import subprocess
import sys

import faiss  # noqa: F401 - for its BLAS, as SciPy's
import numpy as np
import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_info, threadpool_limits

from vladkit import Collection
from vladkit.core import settings
from vladkit.core.settings import Setting, one_blas_thread


def blas_threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Three threads, and a setting of our own: that of the process may be held by a server."""
    np.ones((2, 2)) @ np.ones((2, 2))
    monkeypatch.setattr(settings, "_one_blas_thread", Setting(settings._limit_blas))
    if not blas_threads():
        pytest.skip("threadpoolctl does not know this BLAS")
    with threadpool_limits(3, user_api="blas"):
        yield


def test_overlapping_blocks_end_with_the_last():
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == {3}


def test_an_error_ends_a_block():
    with pytest.raises(ValueError, match="within"), one_blas_thread():
        raise ValueError("within")
    assert blas_threads() == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_fork_while_another_thread_changes_the_setting():
    code = (
        "import os, threading\n"
        "from vladkit.core.settings import Setting\n"
        "begun, end = threading.Event(), threading.Event()\n"
        "def change():\n"
        "    begun.set()\n"
        "    end.wait()\n"
        "    return int\n"
        "setting = Setting(change)\n"
        "def hold():\n"
        "    with setting.held():\n"
        "        pass\n"
        "thread = threading.Thread(target=hold)\n"
        "thread.start()\n"
        "begun.wait()\n"
        "child = os.fork()\n"
        "end.set()\n"
        "if not child:\n"
        "    hold()\n"
        "    os._exit(7)\n"
        "thread.join()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "7\n"


def test_it_is_held_while_images_are_indexed_and_searched(photos, tmp_path, monkeypatch):
    seen = []

    def note(*_):
        seen.append(blas_threads())

    with Collection.create(tmp_path / "c.vlad", n_clusters=8) as collection:
        collection.add(photos, progress=note)
        assert seen
        assert blas_threads() == {3}
        search = type(collection._searcher).search

        def searching(*given):
            note()
            return search(*given)

        monkeypatch.setattr(type(collection._searcher), "search", searching)
        n = len(seen)
        collection.search(next(photos.iterdir()))
        collection.pairs(2, progress=note)
        collection.duplicates(progress=note)
        assert len(seen) >= n + 3
    assert seen == [{1}] * len(seen)
    assert blas_threads() == {3}
