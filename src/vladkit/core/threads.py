"""Threads that help to encode, shared by the whole process, and their number."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from queue import SimpleQueue

from vladkit.core.cores import usable_cores
from vladkit.core.params import Interval
from vladkit.errors import ParameterError

__all__ = ["faiss_threads", "for_each", "resolve_n_jobs"]

_MOST_THREADS = 64
"""Most threads that are ever started, or four for each core if that is more: at 50,000 the
OpenMP library of faiss ends the process."""


def resolve_n_jobs(n_jobs: int | None) -> int:
    """Number of threads to use; None is every core that this process may use.

    ``OMP_NUM_THREADS`` caps None, so that inside joblib's or dask's worker processes,
    which set it, the cores are not claimed twice; of a list (``4,2``) its first number, and what
    is no number from 1 counts as not set. Negative counts from the end as in scikit-learn:
    -1 all, -2 all but one.

    Raises
    ------
    ParameterError
        For 0, or anything that is not an integer.
    """
    if n_jobs is not None and (n_jobs not in Interval(int) or n_jobs == 0):
        raise ParameterError(
            f"n_jobs={n_jobs!r}: wanted an integer other than 0, or None for every core"
        )
    n_jobs = None if n_jobs is None else int(n_jobs)
    cores = usable_cores()
    if n_jobs is None:
        limit = re.match(r"\s*\+?0*([1-9]\d{,8})\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
        return min(cores, int(limit[1])) if limit else cores
    if n_jobs < 0:
        return max(1, cores + 1 + n_jobs)
    return min(n_jobs, max(_MOST_THREADS, 4 * cores))


@contextmanager
def faiss_threads(n_jobs: int | None) -> Iterator[None]:
    """Give faiss `n_jobs` threads until the block ends, and 1 in a forked process.

    GNU's OpenMP waits for ever there for the threads that the fork left behind.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if _is_forked else resolve_n_jobs(n_jobs))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def for_each(task: Callable[[int], None], n_tasks: int, n_jobs: int) -> None:
    """Run ``task(0)`` to ``task(n_tasks - 1)`` on `n_jobs` threads, the caller's among them.

    A thread takes the next task when it has finished one. The first error stops the rest and
    is raised here. Tasks gain only where they release the GIL.
    """
    n_jobs = min(n_jobs, n_tasks)
    if n_jobs <= 1:
        for i in range(n_tasks):
            task(i)
        return
    ticket = count()  # next() on it is atomic
    errors: list[BaseException] = []

    def work() -> None:
        while not errors and (i := next(ticket)) < n_tasks:
            try:
                task(i)
            except BaseException as error:
                errors.append(error)

    job = _Job(work)
    queue = _queue_of_helpers(n_jobs - 1)
    for _ in range(n_jobs - 1):
        queue.put(job)
    work()
    job.wait_for_helpers()
    if errors:
        raise errors[0]


class _Job:
    """Work that several threads may join while it is open."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._open = True
        self._n_helpers = 0
        self._done: SimpleQueue[None] = SimpleQueue()

    def help(self) -> None:
        """Take part, unless the job is over: helpers may have been busy with another one."""
        with self._lock:
            if not self._open:
                return
            self._n_helpers += 1
        self._work()
        self._done.put(None)

    def wait_for_helpers(self) -> None:
        """Let no helper join any more, and wait for those that did."""
        with self._lock:
            self._open = False
        for _ in range(self._n_helpers):
            self._done.get()


_is_forked = False
_helpers: tuple[int, int, SimpleQueue[_Job]] | None = None  # process id, threads, their queue
_helpers_lock = threading.Lock()


def _queue_of_helpers(n_threads: int) -> SimpleQueue[_Job]:
    """Queue that at least `n_threads` daemon threads of this process read.

    A fork leaves threads behind, so the child gets a queue and threads of its own. Not a
    ThreadPoolExecutor: handing over takes 3 us instead of 22, and back again 23 instead of 50,
    which is 5 % of an encoding of 0.7 ms.
    """
    global _helpers
    with _helpers_lock:
        if _helpers is None or _helpers[0] != os.getpid():
            _helpers = (os.getpid(), 0, SimpleQueue())
        process, running, queue = _helpers
        for _ in range(running, n_threads):
            threading.Thread(target=_serve, args=(queue,), name="vladkit", daemon=True).start()
        _helpers = (process, max(running, n_threads), queue)
        return queue


def _serve(queue: SimpleQueue[_Job]) -> None:
    while True:
        queue.get().help()


def _after_fork() -> None:
    """Replace the lock: a thread that the child does not have may hold it."""
    global _helpers_lock, _is_forked
    _is_forked = True
    _helpers_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
