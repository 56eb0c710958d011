"""Features of many images: extracted on a pool of threads, one image to a core, or read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final, Self, TypeAlias

from vladkit.core.settings import one_blas_thread
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.features import Extractor, Features, wants_color
from vladkit.images import Image, decode_image, one_opencv_thread, read_bytes
from vladkit.images.opencv import within_memory
from vladkit.images.region import RegionLike

__all__ = [
    "Extraction",
    "Result",
    "batch_size",
    "decoded",
    "extract",
    "extract_data",
    "extract_many",
    "features_of_images",
]

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


def extract_many(extractor: Extractor, files: Sequence[str]) -> list[Result]:
    """Features of image files, or the errors of those that cannot be used; see `batch_size`."""
    return features_of_images(extractor, [_decoded(extractor, file) for file in files])


def features_of_images(extractor: Extractor, images: Sequence[Image | ImageError]) -> list[Result]:
    """Features of decoded images, by an extractor that takes several at a time."""
    many: Callable[[list[Image]], list[Result]] = getattr(extractor, "extract_many")  # noqa: B009
    given = [each for each in images if isinstance(each, Image)]
    try:
        with within_memory():
            found = iter(many(given))
    except ImageError as error:
        found = iter([error] * len(given))
    results: list[Result] = []
    for image in images:
        result = image if isinstance(image, ImageError) else next(found)
        if isinstance(result, Features) and isinstance(image, Image):
            result = replace(result, photo=image.photo)
        results.append(result)
    return results


def decoded(extractor: Extractor, data: bytes) -> Image:
    """An image as an extractor wants it."""
    color = wants_color(extractor)
    return decode_image(data, max_side=extractor.max_side, color=color)


def _decoded(extractor: Extractor, file: str) -> Image | ImageError:
    try:
        with within_memory():
            return decoded(extractor, read_bytes(file))
    except ImageError as error:
        return error


def batch_size(extractor: Extractor) -> int:
    """Number of images that are given to an extractor at a time; 1 unless it says more."""
    return int(getattr(extractor, "batch_size", 1))


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
        read_many: Callable[[list[Item]], list[Result]] | None = None,
        batch: int = 1,
        ahead: int = _AHEAD,
    ) -> None:
        self._read = read
        self._begin = begin
        self._pool = pool
        self._read_many, self._batch = read_many, batch
        self._ahead = max(4 * threads + ahead, 2 * threads * batch)
        self._pending: deque[tuple[Future[list[Result]], int]] = deque()

    @classmethod
    @contextmanager
    def on_threads(
        cls,
        extractor: Extractor,
        n_jobs: int | None,
        n: int,
        read: Callable[[Item], Features] | None = None,
        begin: Callable[[Item], None] | None = None,
        read_many: Callable[[list[Item]], list[Result]] | None = None,
        ahead: int = _AHEAD,
    ) -> Iterator[Self]:
        """With a pool for `n` images; results not consumed when the block ends are dropped.

        `read` gives the features of an item; by default an item is an image file, from which
        `extractor` extracts. `read_many` gives those of several, where the extractor takes a batch
        of them (`batch_size`). `begin` is called with each item when its turn is near. `ahead`
        items are extracted in advance, beside four for each thread.
        """
        batch = batch_size(extractor)
        if batch > 1 and read is None:
            read_many = partial(extract_many, extractor)
        batch = batch if read_many else 1
        threads = max(1, min(resolve_n_jobs(n_jobs), n))
        pool = ThreadPoolExecutor(threads, "vladkit-extract")
        with one_opencv_thread(), one_blas_thread(), pool:
            try:
                each = read or partial(extract, extractor)
                yield cls(each, pool, threads, begin, read_many, batch, ahead)
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
            future, i = self._pending.popleft()
            yield future.result()[i]
            self._submit(upcoming, ready)

    def _submit(self, upcoming: Iterator[Item], ready: dict[Item, Result] | None) -> None:
        n = self._ahead - len(self._pending)
        found: list[tuple[Item, Result | None]] = [
            (item, ready.pop(item) if ready and item in ready else None)
            for item in islice(upcoming, n // self._batch * self._batch)  # whole batches
        ]
        todo = [item for item, result in found if result is None]
        begun = iter(self._begun(todo))
        for _, result in found:
            if result is None:
                self._pending.append(next(begun))
            else:
                future: Future[list[Result]] = Future()
                future.set_result([result])
                self._pending.append((future, 0))

    def _begun(self, items: Sequence[Item]) -> Iterator[tuple[Future[list[Result]], int]]:
        """Futures of the results of items, and their places in these."""
        for first in range(0, len(items), self._batch):
            some = list(items[first : first + self._batch])
            for item in some if self._begin else ():
                self._begin(item)  # type: ignore[misc]
            future = self._pool.submit(self._try, some)
            yield from ((future, i) for i in range(len(some)))

    def stop(self) -> None:
        """Drop the work that has not begun."""
        while self._pending:
            self._pending.pop()[0].cancel()

    def _try(self, items: list[Item]) -> list[Result]:
        if self._read_many and len(items) > 1:
            return self._read_many(items)
        results: list[Result] = []
        for item in items:
            try:
                with within_memory():
                    results.append(self._read(item))
            except ImageError as error:
                results.append(error)
        return results
