"""Threads that search a collection, each with the file open for itself."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from vladkit.collection.collection import Collection
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import FileFormatError, StorageError
from vladkit.store.lance.place import is_remote
from vladkit.web.limits import Limits
from vladkit.web.problems import Problem

__all__ = ["CollectionPool"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LOOKUP_THREADS: Final = 2
"""Threads for thumbnails and lists, so that these do not wait behind searches."""


class CollectionPool:
    """A bounded number of threads with an open collection; `close` it.

    A thread opens the collection again when another process has changed or replaced the file.

    Parameters
    ----------
    path : path
        File of the collection; it is opened for reading only.
    limits : Limits
        `queue` and `search_seconds` bound the searches.
    n_jobs : int or None
        Number of searches at one time; None is one for each core.
    trust, device
        See `vladkit.Collection.open`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: Limits,
        n_jobs: int | None,
        *,
        trust: bool = False,
        device: str | None = None,
    ) -> None:
        self._path = path
        self._trust, self._device = trust, device
        self._limits = limits
        self.n_threads = resolve_n_jobs(n_jobs)
        self._searchers = ThreadPoolExecutor(self.n_threads, "vladkit-search")
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, "vladkit-lookup")
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self.n_admitted = 0  # searches that run or wait
        self._is_closed = False
        self._local = threading.local()

    def warm_up(self, task: Callable[[Collection], object]) -> None:
        """Start a task for every search thread, which opens the file for it."""
        for _ in range(self.n_threads):
            self._searchers.submit(lambda: task(self._collection()))

    def close(self) -> None:
        """Wait for running tasks, then close the file in every thread; a second call does nothing.

        SQLite objects can only be closed in the thread that opened them. One after another: of two
        that close at once, each sees the other still there, and neither removes the `-wal` file.
        """
        if self._is_closed:
            return
        self._is_closed = True
        for executor, n in ((self._searchers, self.n_threads), (self._lookups, _LOOKUP_THREADS)):
            together = threading.Barrier(n)
            for _ in range(n):
                executor.submit(self._close_own, together)
            executor.shutdown()

    def _close_own(self, together: threading.Barrier) -> None:
        together.wait()  # no thread takes two of these tasks
        collection: Collection | None = getattr(self._local, "collection", None)
        if collection is not None:
            with self._closing:
                collection.close()

    async def search(
        self,
        task: Callable[Concatenate[Collection, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Run a task that takes long on a search thread.

        Raises
        ------
        Problem
            503 if too many searches wait already, or if this one takes too long.
        """
        self.check_free()
        with self._lock:
            self.n_admitted += 1
        # Counted until its thread is free, not until the client gives up: nothing stops a thread.
        future = self._searchers.submit(lambda: task(self._collection(), *args, **kwargs))
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self._limits.search_seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Problem(503, "the search took too long", retry_after=10) from None

    def check_free(self) -> None:
        """Raise a `Problem` of 503 if a search would be refused now."""
        if self.n_admitted >= self.n_threads + self._limits.queue:
            raise Problem(503, "too many searches at once: try again", retry_after=1)

    def _release(self, _: Future[Any]) -> None:
        with self._lock:
            self.n_admitted -= 1

    async def lookup(
        self,
        task: Callable[Concatenate[Collection, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Run a quick task on a lookup thread."""
        future = self._lookups.submit(lambda: task(self._collection(), *args, **kwargs))
        return await asyncio.wrap_future(future)

    def _file_state(self) -> tuple[int, ...]:
        """Which file is at the path: it may be replaced by another. Nothing for an address."""
        if is_remote(self._path):
            return ()
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}") from error
        return status.st_dev, status.st_ino

    def _collection(self) -> Collection:
        """The collection of this thread, as the file is now."""
        try:
            return self._current()
        except FileFormatError as error:  # another is being put where one could be opened
            raise StorageError(str(error)) from error

    def _current(self) -> Collection:
        collection: Collection | None = getattr(self._local, "collection", None)
        file_state = self._file_state()
        if collection is not None:
            if self._local.state == (*file_state, collection.stamp()):
                return collection
            self._local.collection = None
            collection.close()
        collection = Collection.open(
            self._path, read_only=True, trust=self._trust, device=self._device
        )
        self._local.collection = collection
        self._local.state = (*file_state, collection.stamp())
        return collection
