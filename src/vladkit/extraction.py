"""Pictures to features on a pool of threads, one picture to a core."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Final, Self

from vladkit.errors import PictureError
from vladkit.features import Extractor, Features, one_opencv_thread, read_gray
from vladkit.workers import resolve_n_jobs

__all__ = ["Extraction", "extract"]

_AHEAD: Final = 40
"""Pictures extracted before they are asked for: no thread waits while a batch is encoded."""


class Extraction:
    """Extracts files on a pool, some ahead of who consumes them, in the order given."""

    def __init__(self, extractor: Extractor, pool: ThreadPoolExecutor, threads: int) -> None:
        self._extractor = extractor
        self._pool = pool
        self._ahead = 4 * threads + _AHEAD
        self._pending: deque[Future[Features | PictureError]] = deque()

    @classmethod
    @contextmanager
    def on_threads(cls, extractor: Extractor, n_jobs: int | None, n: int) -> Iterator[Self]:
        """With a pool for `n` files; what is not consumed when the block ends is dropped."""
        threads = max(1, min(resolve_n_jobs(n_jobs), n))
        with one_opencv_thread(), ThreadPoolExecutor(threads, "vladkit-extract") as pool:
            extraction = cls(extractor, pool, threads)
            try:
                yield extraction
            finally:
                extraction.stop()

    def run(
        self, files: Iterable[str], ready: dict[str, Features | PictureError] | None = None
    ) -> Iterator[Features | PictureError]:
        """Features of each file, or why not; what is in `ready` is taken out of there instead."""
        upcoming = iter(files)
        while True:
            for file in islice(upcoming, self._ahead - len(self._pending)):
                if ready and file in ready:
                    future: Future[Features | PictureError] = Future()
                    future.set_result(ready.pop(file))
                else:
                    future = self._pool.submit(self._try, file)
                self._pending.append(future)
            if not self._pending:
                return
            yield self._pending.popleft().result()

    def stop(self) -> None:
        """Drop what is still to be done."""
        while self._pending:
            self._pending.pop().cancel()

    def _try(self, file: str) -> Features | PictureError:
        try:
            return extract(self._extractor, file)
        except PictureError as error:
            return error


def extract(extractor: Extractor, file: str) -> Features:
    """Features of one picture file; PictureError if it cannot be used."""
    return extractor.extract(read_gray(file, max_side=extractor.max_side))
