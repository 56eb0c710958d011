"""When compiled code is loaded: in a thread, once going without it has taken a while.

Importing Numba and loading code from its cache takes half a second, a call without it some
milliseconds. So a process begins without, and measures what that costs. Results do not depend on
it: what is chosen between gives the same bits.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

__all__ = ["Code", "as_one_call", "in_background", "is_switched_off", "wait_for_all"]

_PRICE: Final = 0.005
"""Seconds spent without the code before it is loaded, in two calls or more: who calls once, as a
search does, has no use for it."""

_GAIN: Final = 0.001
"""Seconds of a call that would gain."""

_PATIENCE: Final = 3
"""Calls that would gain and do not wait; the next one does, for what is left of the loading."""

_LONGEST: Final = 0.6
"""Seconds that a call waits. Where the code is not in the cache, compiling it takes longer."""


def is_switched_off() -> bool:
    """Whether Numba's compiler is (``NUMBA_DISABLE_JIT``): its loops would run in Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


class Code:
    """Compiled code of one function for one dtype.

    Parameters
    ----------
    load : callable
        Imports and runs it, on next to nothing.
    """

    _lock: ClassVar = threading.Lock()
    _loading: ClassVar[set[threading.Thread]] = set()
    _parts: ClassVar = threading.local()

    def __init__(self, load: Callable[[], object]) -> None:
        self._load = load
        self._thread: threading.Thread | None = None
        self._spent = 0.0
        self._n_calls = 0
        self._n_gaining = 0
        self._is_ready = False

    def is_ready(self) -> bool:
        """Whether to use it now. May wait for what is left of its loading."""
        if self._is_ready:
            return True
        if self._thread is not None and self._n_gaining >= _PATIENCE:
            self._n_gaining = 0  # the next that waits has as much patience
            self._thread.join(_LONGEST)
        return self._is_ready

    def mark_ready(self) -> None:
        """Note that it has run."""
        self._is_ready = True

    def note(self, seconds: float) -> None:
        """Note what a call without it took; begin to load it if that adds up."""
        self._spent += seconds
        seen: set[Code] | None = getattr(self._parts, "seen", None)
        self._n_calls += seen is None or self not in seen
        if seen is not None:
            seen.add(self)
        self._n_gaining += seconds > _GAIN
        if self._spent < _PRICE or self._n_calls < 2:
            return
        if self._thread is not None or is_switched_off():
            return
        if not self._lock.acquire(blocking=False):  # held during a fork: the next call sees to it
            return
        try:
            if self._thread is None:
                self._thread = in_background(self._run)  # now others may wait for it
        finally:
            self._lock.release()

    def _run(self) -> None:
        try:
            self._load()
        finally:  # an error is raised again where the code is used
            self._is_ready = True


@contextmanager
def as_one_call() -> Iterator[None]:
    """Count the calls within as one, as those of several codebooks for one query are."""
    before: set[Code] | None = getattr(Code._parts, "seen", None)
    Code._parts.seen = set() if before is None else before
    try:
        yield
    finally:
        Code._parts.seen = before


def in_background(load: Callable[[], object]) -> threading.Thread:
    """Load in a thread, which a fork and the end of the process wait for."""

    def run() -> None:
        try:
            load()
        finally:
            Code._loading.discard(threading.current_thread())

    _watch()
    thread = threading.Thread(target=run, name="vladkit", daemon=True)
    Code._loading.add(thread)
    thread.start()
    return thread


def wait_for_all() -> None:
    """Wait until nothing is being loaded."""
    for thread in tuple(Code._loading):
        if thread is not threading.current_thread():
            thread.join()


_LONGEST_WAIT: Final = 60.0
"""Seconds that a fork, or the end of the process, waits for threads that load: more than compiling
takes. That is 3, and more than 20 where six programs compile at once on two cores."""

_watches: list[bool] = []


def _watch() -> None:
    """Have threads finish loading before the process ends, and before a fork: the child, in which
    they do not run, would wait for their imports for ever.

    What was registered last is called first. logging and concurrent.futures hold their locks from
    there to the end of the fork, and the imports need these: so both come before us.
    """
    if _watches:
        return
    _watches.append(True)
    # A process that ends while LLVM compiles in a thread may crash, when all of its work is done.
    atexit.register(_wait)
    if not hasattr(os, "register_at_fork"):
        return
    import concurrent.futures.thread  # noqa: F401
    import logging  # noqa: F401

    os.register_at_fork(
        before=_before_fork, after_in_parent=Code._lock.release, after_in_child=Code._lock.release
    )


def _before_fork() -> None:
    """Begin no other loading until the fork is done, and wait for what has begun.

    Not for ever: the lock of yet another library may be held already, and needed by a thread.
    """
    Code._lock.acquire()
    _wait()


def _wait() -> None:
    end = time.monotonic() + _LONGEST_WAIT
    for thread in tuple(Code._loading):
        if thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))
