"""Features of many images: extracted on a pool of threads, one image to a core, or read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Final, Self, TypeAlias

from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.features import Extractor, Features, wants_color
from vladkit.images import Region, decode_image, one_opencv_thread, read_bytes

__all__ = ["Extraction", "Result", "extract", "extract_data"]

Result: TypeAlias = Features | ImageError
"""Features of an image, or the reason why it has none."""

_AHEAD: Final = 40
"""Number of images extracted before they are asked for, besides four for each thread: no thread
waits while a batch is encoded."""


def extract(extractor: Extractor, file: str, region: Region | None = None) -> Features:
    """Extract the features of an image file, or of a region of it.

    Raises
    ------
    ImageError
        The file cannot be used, or has no features.
    ParameterError
        The region is outside of the image.
    """
    return extract_data(extractor, read_bytes(file), region)


def extract_data(extractor: Extractor, data: bytes, region: Region | None = None) -> Features:
    """Extract the features of the bytes of an image file; errors of `extract`."""
    color = wants_color(extractor)
    side = extractor.max_side
    return extractor.extract(decode_image(data, max_side=side, region=region, color=color))


class Extraction:
    """Pool of threads that extract features ahead of their use; make one with `on_threads`."""

    def __init__(
        self, read: Callable[[str], Features], pool: ThreadPoolExecutor, threads: int
    ) -> None:
        self._read = read
        self._pool = pool
        self._ahead = 4 * threads + _AHEAD
        self._pending: deque[Future[Result]] = deque()

    @classmethod
    @contextmanager
    def on_threads(
        cls,
        extractor: Extractor,
        n_jobs: int | None,
        n: int,
        read: Callable[[str], Features] | None = None,
    ) -> Iterator[Self]:
        """Make a pool for `n` files; results that are not consumed when the block ends are dropped.

        `read` returns the features of a file, where they are not to be extracted from an image.
        """
        threads = max(1, min(resolve_n_jobs(n_jobs), n))
        with one_opencv_thread(), ThreadPoolExecutor(threads, "vladkit-extract") as pool:
            try:
                yield cls(read or partial(extract, extractor), pool, threads)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def run(self, files: Iterable[str], ready: dict[str, Result] | None = None) -> Iterator[Result]:
        """Results in the order of `files`; those in `ready` are taken from there, and removed.

        Work on the first files begins at once, before anything is consumed; one run at a time.
        """
        upcoming = iter(files)
        self._submit(upcoming, ready)
        return self._results(upcoming, ready)

    def _results(
        self, upcoming: Iterator[str], ready: dict[str, Result] | None
    ) -> Iterator[Result]:
        while self._pending:
            yield self._pending.popleft().result()
            self._submit(upcoming, ready)

    def _submit(self, upcoming: Iterator[str], ready: dict[str, Result] | None) -> None:
        for file in islice(upcoming, self._ahead - len(self._pending)):
            if ready and file in ready:
                future: Future[Result] = Future()
                future.set_result(ready.pop(file))
            else:
                future = self._pool.submit(self._try, file)
            self._pending.append(future)

    def _try(self, file: str) -> Result:
        try:
            return self._read(file)
        except ImageError as error:
            return error
