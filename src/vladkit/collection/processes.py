"""`Processes`: processes of this machine that describe images."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, Final, Self, TypeVar

from vladkit.aggregation.encode import warm_up
from vladkit.core.allocator import keep_freed_memory
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ParameterError

__all__ = ["Processes"]

_Result = TypeVar("_Result")

_OWN_THREADS: Final = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Libraries that get one thread: nothing here needs more, and they take cores from extraction."""


class Processes:
    """Executor of processes that are started, not forked, and again where one has ended.

    Use it as a context manager or `stop` it: that ends the processes, whatever they do. They end
    by themselves when this process does, also if it is killed.

    Parameters
    ----------
    n_workers : int
        Number of processes.
    n_jobs : int or None
        Threads of all processes together; None is one for each core.

    Attributes
    ----------
    n_workers : int
    threads : int
        Threads of each process, at least 1.

    Raises
    ------
    ParameterError
        If `n_workers` is less than 1.

    Notes
    -----
    As with every executor of processes that are started, a script has to have its main part below
    ``if __name__ == "__main__":``.
    """

    def __init__(self, n_workers: int, n_jobs: int | None = None) -> None:
        if n_workers < 1:
            raise ParameterError(f"workers={n_workers}: give the number of processes, from 1")
        self.n_workers = n_workers
        self.threads = max(1, resolve_n_jobs(n_jobs) // n_workers)
        self._pool = self._start()

    def submit(self, function: Callable[..., _Result], /, *args: Any) -> Future[_Result]:
        """Have a process call a function."""
        try:
            return self._pool.submit(function, *args)
        except BrokenProcessPool:
            self.stop()
            self._pool = self._start()
            return self._pool.submit(function, *args)

    def stop(self) -> None:
        """End the processes; what they have in hand is lost."""
        # as kill_workers of Python 3.14, which others lack
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork has locks of other threads
        pool = ProcessPoolExecutor(self.n_workers, context, _begin)
        with _environment(
            dict.fromkeys(_OWN_THREADS, "1") | {"OMP_NUM_THREADS": f"{self.threads}"}
        ):
            for _ in range(self.n_workers):  # each starts a process
                pool.submit(int)
        return pool


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes that start in the block; some are read very early."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin() -> None:
    """Make a process ready, while others do what has to be done before."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: who started this one ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    with suppress(ImportError):
        warm_up()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a process that another one has started"
    parent.join()
    os._exit(1)
