"""`Decoder`: images that anybody may have made, decoded in processes that can be stopped."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from pebble import ProcessExpired, ProcessPool

from vladkit.errors import ImageError
from vladkit.images import Image, decode_image
from vladkit.web.limits import Limits

__all__ = ["Decoder"]


class Decoder:
    """A bounded number of processes that decode; `close` it.

    Decoders are compiled code: a file may end the process, or keep it for minutes. Here it ends or
    keeps a process that has nothing else to do, and another takes its place. A photograph of 72 kB
    takes 7.2 ms instead of 3.6.

    Parameters
    ----------
    limits : Limits
        `decode_seconds` and `decode_bytes` bound each image.
    n_jobs : int
        Number of processes.
    """

    def __init__(self, limits: Limits, n_jobs: int) -> None:
        self._seconds = limits.decode_seconds
        self._pool = ProcessPool(
            n_jobs,
            initializer=_begin,
            initargs=(limits.decode_bytes,),
            context=multiprocessing.get_context("spawn"),  # a fork has locks of other threads
        )

    def warm_up(self) -> None:
        """Start the processes, before the first image comes."""
        self._pool.schedule(_nothing)

    def decode(self, data: bytes, **options: Any) -> Image:
        """`vladkit.images.decode_image`, with its options.

        Raises
        ------
        ImageError
            As `decode_image`; or if the decoder takes too long, or ends.
        """
        decoded = self._pool.schedule(decode_image, (data,), options, timeout=self._seconds)
        try:
            image: Image = decoded.result()
        except FutureTimeoutError:
            raise ImageError(f"takes more than {self._seconds:g} s to decode") from None
        except MemoryError:
            raise ImageError("not enough memory to decode it", transient=True) from None
        except ProcessExpired:
            raise ImageError("damaged: the decoder ended without an answer") from None
        return image

    def close(self) -> None:
        """Stop the processes, whatever they do."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _begin(n_bytes: int) -> None:
    """Limit the process that decodes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the server ends this one
    try:
        import resource
    except ImportError:  # Windows: decode_image's own limits and the time hold
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _nothing() -> None:
    """Task that only starts a process."""
