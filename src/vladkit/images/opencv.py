"""OpenCV's settings, one for the whole process: its threads and its log; and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

from vladkit.core.settings import Setting
from vladkit.errors import ImageError, VladkitError

__all__ = ["is_out_of_memory", "one_opencv_thread", "silent_opencv", "within_memory"]


def _limit_threads() -> Callable[[], object]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    return partial(cv2.setNumThreads, before)


def _hold_back_log() -> Callable[[], object]:
    import cv2

    logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has it at the top
    before: int = logging.setLogLevel(0)
    return partial(logging.setLogLevel, before)


_one_thread: Final = Setting(_limit_threads)
_silence: Final = Setting(_hold_back_log)


def one_opencv_thread() -> AbstractContextManager[None]:
    """Let OpenCV use one thread for each call, in the whole process, until the block ends.

    For programs that read images or extract features in several threads of their own: one image
    per core is faster than several cores per image. It is a block and not an effect of `Sift`,
    because the setting belongs to the process: a program that uses OpenCV for other work, or
    extracts from a single image, keeps all its cores. Blocks may nest and overlap; the last one to
    end restores the number of threads that the first one found. Results are the same inside and
    outside.

    Examples
    --------
    >>> import cv2
    >>> before = cv2.getNumThreads()
    >>> with one_opencv_thread():
    ...     cv2.getNumThreads()
    1
    >>> cv2.getNumThreads() == before
    True
    """
    return _one_thread.held()


def silent_opencv() -> AbstractContextManager[None]:
    """Hold back OpenCV's log in the whole process until the block ends; then as it was.

    The reason that matters reaches the caller as an `ImageError`; OpenCV's lines about the same
    file would tear a progress bar.
    """
    return _silence.held()


@contextmanager
def within_memory() -> Iterator[None]:
    """Make a lack of memory, wherever in the block, an `ImageError` that may pass."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) and not isinstance(error, VladkitError):
            raise ImageError("not enough memory for it", transient=True) from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether OpenCV raised an error for lack of memory, and not because of the image."""
    return isinstance(error, MemoryError) or getattr(error, "code", 0) == -4  # cv2.Error.StsNoMem
