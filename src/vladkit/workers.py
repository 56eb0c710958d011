"""One thread pool for the whole process, and how many threads to use."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from vladkit.errors import ParameterError

__all__ = ["for_each", "resolve_n_jobs"]

_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process id, threads, pool


def resolve_n_jobs(n_jobs: int | None) -> int:
    """Threads to use: None is every core that this process may run on.

    ``OMP_NUM_THREADS`` caps None, so that inside joblib's or dask's worker processes,
    which set it, the cores are not claimed twice. Negative counts from the end as in
    scikit-learn: -1 all, -2 all but one.

    Raises
    ------
    ParameterError
        For 0, or anything that is not an integer.
    """
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, int)):
        raise ParameterError(f"n_jobs={n_jobs!r}: wanted None or an integer other than 0")
    if n_jobs == 0:
        raise ParameterError("n_jobs=0: use None for every core, or a number from 1")
    cores = _cores()
    if n_jobs is None:
        limit = os.environ.get("OMP_NUM_THREADS", "")
        return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def for_each(task: Callable[[int], None], n_tasks: int, n_jobs: int) -> None:
    """Run ``task(0)`` to ``task(n_tasks - 1)`` on `n_jobs` threads, the caller's among them.

    Threads take the next task when they are done with one. The first error stops the
    rest and is raised here. Tasks must release the GIL to gain anything.
    """
    n_jobs = min(n_jobs, n_tasks)
    if n_jobs <= 1:
        for i in range(n_tasks):
            task(i)
        return
    ticket = count()  # next() on it is atomic
    failed = False

    def work() -> None:
        nonlocal failed
        while not failed and (i := next(ticket)) < n_tasks:
            try:
                task(i)
            except BaseException:
                failed = True
                raise

    helpers = [_get_pool(n_jobs - 1).submit(work) for _ in range(n_jobs - 1)]
    try:
        work()
    finally:
        # A helper that another caller keeps waiting finds no task left and ends at once.
        errors = [helper.exception() for helper in helpers if not helper.cancel()]
    for error in errors:
        if error is not None:
            raise error


def _get_pool(n_threads: int) -> ThreadPoolExecutor:
    """The pool, made anew after a fork (its threads stay behind) or when more are asked for."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < n_threads:
        # An outgrown pool is left to finish what other callers gave it.
        _pool = (
            os.getpid(),
            n_threads,
            ThreadPoolExecutor(n_threads, thread_name_prefix="vladkit"),
        )
    return _pool[2]
