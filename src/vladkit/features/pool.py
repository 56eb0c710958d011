"""Features of many images: extracted on a pool of threads, one image to a core, or read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final, Self, TypeAlias

from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.features import Extractor, Features, wants_color
from vladkit.images import decode_image, one_opencv_thread, read_bytes
from vladkit.images.opencv import within_memory
from vladkit.images.region import RegionLike

__all__ = ["Extraction", "Result", "extract", "extract_data"]

Item: TypeAlias = Any
"""An image to extract: its file, or whatever `read` takes."""

Result: TypeAlias = Features | ImageError
"""Features of an image, or the reason why it has none."""

_AHEAD: Final = 40
"""Number of images extracted in advance, so that no thread waits while a batch is encoded."""


def extract(extractor: Extractor, file: str, region: RegionLike = None) -> Features:
    """Extract the features of an image file, or of a region of it.

    Raises
    ------
    ImageError
        The file cannot be used, or has no features.
    ParameterError
        The region is outside of the image.
    """
    with within_memory():
        return extract_data(extractor, read_bytes(file), region)


def extract_data(extractor: Extractor, data: bytes, region: RegionLike = None) -> Features:
    """Features of the bytes of an image file, or of a part of the image; see `extract`."""
    color = wants_color(extractor)
    side = extractor.max_side
    with within_memory():
        image = decode_image(data, max_side=side, region=region, color=color)
        return replace(extractor.extract(image), photo=image.photo)


class Extraction:
    """Pool of threads that extract features ahead of their use; make one with `on_threads`."""

    def __init__(
        self,
        read: Callable[[Item], Features],
        pool: ThreadPoolExecutor,
        threads: int,
        begin: Callable[[Item], None] | None = None,
    ) -> None:
        self._read = read
        self._begin = begin
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
        read: Callable[[Item], Features] | None = None,
        begin: Callable[[Item], None] | None = None,
    ) -> Iterator[Self]:
        """With a pool for `n` images; results not consumed when the block ends are dropped.

        `read` gives the features of an item; by default an item is an image file, from which
        `extractor` extracts. `begin` is called with each item when its turn is near.
        """
        threads = max(1, min(resolve_n_jobs(n_jobs), n))
        with one_opencv_thread(), ThreadPoolExecutor(threads, "vladkit-extract") as pool:
            try:
                yield cls(read or partial(extract, extractor), pool, threads, begin)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def run(
        self, items: Iterable[Item], ready: dict[Item, Result] | None = None
    ) -> Iterator[Result]:
        """Results in the order of `items`; results in `ready` are taken out of there instead.

        The first items are begun at once, before anything is consumed; one run at a time.
        """
        upcoming = iter(items)
        self._submit(upcoming, ready)
        return self._results(upcoming, ready)

    def _results(
        self, upcoming: Iterator[Item], ready: dict[Item, Result] | None
    ) -> Iterator[Result]:
        while self._pending:
            yield self._pending.popleft().result()
            self._submit(upcoming, ready)

    def _submit(self, upcoming: Iterator[Item], ready: dict[Item, Result] | None) -> None:
        for item in islice(upcoming, self._ahead - len(self._pending)):
            if ready and item in ready:
                future: Future[Result] = Future()
                future.set_result(ready.pop(item))
            else:
                if self._begin:
                    self._begin(item)
                future = self._pool.submit(self._try, item)
            self._pending.append(future)

    def stop(self) -> None:
        """Drop the work that has not begun."""
        while self._pending:
            self._pending.pop().cancel()

    def _try(self, item: Item) -> Result:
        try:
            with within_memory():
                return self._read(item)
        except ImageError as error:
            return error
