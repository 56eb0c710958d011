"""`Engine`: what the API asks of a collection, on a bounded number of threads."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from vladkit.collection.collection import Collection
from vladkit.collection.searching import Hit
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import (
    ImageError,
    MissingDependencyError,
    ModelError,
    ParameterError,
    VladkitError,
)
from vladkit.features import (
    Features,
    Image,
    Region,
    decode_image,
    decode_rgb,
    read_rgb,
    wants_color,
)
from vladkit.geometry.verification import Model, Verification
from vladkit.images.thumbnail import as_jpeg
from vladkit.store.rows import ImageRow
from vladkit.web.cache import Cache
from vladkit.web.limits import Limits
from vladkit.web.problems import Problem

__all__ = ["Engine", "Found", "Query", "Upload"]

Result = TypeVar("Result")

_LOOKERS: Final = 2
"""Threads for thumbnails and lists, so that they do not wait behind searches."""


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """An image that a client sent."""

    key: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What is searched with: a sent image, or one of the collection, or a part of either.

    `region` is the part as it was read (see `vladkit.features.decode_gray`); `row` is of an image
    of the collection. `is_kept`: it is searched by what the collection keeps of it; `features` is
    None if that is its vector alone.
    """

    features: Features | None
    width: int
    height: int
    key: str | None = None
    row: ImageRow | None = None
    is_kept: bool = False

    @property
    def region(self) -> Region | None:
        """The part that is searched by; None for all of it."""
        return None if self.features is None else self.features.region

    @property
    def shown(self) -> Region:
        """The part, or the whole."""
        return self.region or Region(0, 0, self.width, self.height)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The answer to a search: hits with the rows of their images."""

    query: Query
    hits: list[tuple[Hit, ImageRow]]
    n_images: int
    seconds: dict[str, float]


class Engine:
    """Searches a collection for many clients; `close` it.

    Every thread has the collection open for itself. It opens it again when another process has
    changed or replaced the file.

    Parameters
    ----------
    path
        Of the collection.
    limits : Limits
    n_jobs : int or None
        Searches at one time; None is one for each core.
    """

    def __init__(
        self, path: str | os.PathLike[str], limits: Limits, *, n_jobs: int | None = None
    ) -> None:
        self.path = path
        self.limits = limits
        threads = resolve_n_jobs(n_jobs)
        self._searchers = ThreadPoolExecutor(threads, "vladkit-search")
        self._lookers = ThreadPoolExecutor(_LOOKERS, "vladkit-look")
        self._pools = (self._searchers, threads), (self._lookers, _LOOKERS)
        self._most_admitted = threads + limits.queue
        self._n_admitted = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._local = threading.local()
        self._uploads = Cache[Upload](limits.cache_bytes)
        self._features = Cache[Query](limits.cache_bytes)
        self._thumbnails = Cache[bytes](limits.cache_bytes)

    def warm_up(self) -> None:
        """Have the search threads open the file and load what a search needs, before the first.

        The first search took .43 s without it, as the second .13 s.
        """
        pool, threads = self._pools[0]
        for _ in range(threads):
            pool.submit(self._with, _search_noise)

    def close(self) -> None:
        """Wait for what runs, and have every thread close the file; once more does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for pool, threads in self._pools:
            together = threading.Barrier(threads)
            for _ in range(threads):
                pool.submit(self._close_own, together)
            pool.shutdown()

    def _close_own(self, together: threading.Barrier) -> None:
        together.wait()  # no thread takes two of these tasks
        collection: Collection | None = getattr(self._local, "collection", None)
        if collection is not None:
            collection.close()

    # -- threads ----------------------------------------------------------------------

    async def search_thread(self, task: Callable[[Collection], Result]) -> Result:
        """Run a search; a `Problem` of 503 if too many wait already, or if it takes too long."""
        self.check_free()
        with self._lock:
            self._n_admitted += 1
        # Counted until its thread is free, not until somebody gives up: a thread cannot be stopped.
        future = self._searchers.submit(self._with, task)
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self.limits.search_seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Problem(503, "the search took too long", retry_after=10) from None

    def check_free(self) -> None:
        """Raise a `Problem` of 503 if a search would be refused now."""
        if self._n_admitted >= self._most_admitted:
            raise Problem(503, "too many searches at once: try again", retry_after=1)

    def _release(self, _: Future[Any]) -> None:
        with self._lock:
            self._n_admitted -= 1

    async def look_thread(self, task: Callable[[Collection], Result]) -> Result:
        """Run what is quick."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._lookers, self._with, task)

    def _with(self, task: Callable[[Collection], Result]) -> Result:
        return task(self._collection())

    def _collection(self) -> Collection:
        """The thread's own, as the file is now."""
        collection: Collection | None = getattr(self._local, "collection", None)
        status = os.stat(self.path)
        state = status.st_dev, status.st_ino
        if collection is not None:
            if self._local.state == (*state, collection.stamp()):
                return collection
            self._local.collection = None
            collection.close()
        collection = Collection.open(self.path, read_only=True)
        self._local.collection = collection
        self._local.state = (*state, collection.stamp())
        return collection

    # -- queries; these run on a search thread ------------------------------------------

    def upload(self, collection: Collection, data: bytes, region: Region | None) -> Query:
        """An image that was sent; it is kept for a while under the query's key."""
        key = secrets.token_urlsafe(12)
        query = self._extract(collection, data, region, key)
        self._uploads.put(key, Upload(key, data, query.width, query.height), len(data))
        self._keep((key, region, collection.stamp()), query)
        return query

    def uploaded(self, collection: Collection, key: str, region: Region | None) -> Query:
        """One that was sent before; a `Problem` of 404 if it is forgotten."""
        upload = self._upload(key)
        cached = self._features.get((key, region, collection.stamp()))
        if cached is not None:
            return cached
        query = self._extract(collection, upload.data, region, key)
        self._keep((key, region, collection.stamp()), query)
        return query

    def stored(self, collection: Collection, image_id: int, region: Region | None) -> Query:
        """An image of the collection; from what is kept of it where its file cannot serve."""
        row = indexed(collection, image_id)
        key = image_id, region, collection.stamp()
        cached = self._features.get(key)
        if cached is not None:
            return cached
        size = row.width or 1, row.height or 1
        try:
            features = collection.extract(row.file, region=region)
            query = Query(features, *size, row=row)
        except (ImageError, ModelError, MissingDependencyError):
            # it is gone, or what found its features is not here
            kept = collection.features_of(image_id)
            if region is not None:
                if kept is None:
                    raise  # its vector is of all of it
                kept = kept.within(region)
            query = Query(kept, *size, row=row, is_kept=True)
        self._keep(key, query)
        return query

    def _extract(
        self, collection: Collection, data: bytes, region: Region | None, key: str
    ) -> Query:
        extractor = collection.extractor
        most = self.limits.upload_pixels
        image = decode_image(
            data,
            max_side=extractor.max_side,
            region=region,
            color=wants_color(extractor),
            max_pixels=most,
        )
        features = extractor.extract(image)
        return Query(features, *(image.whole or (image.width, image.height)), key)

    def _keep(self, key: tuple[object, ...], query: Query) -> None:
        features = query.features
        n_bytes = 0 if features is None else features.descriptor_lf.nbytes + 20 * len(features)
        self._features.put(key, query, n_bytes + 1000)

    def _upload(self, key: str) -> Upload:
        upload = self._uploads.get(key)
        if upload is None:
            raise Problem(404, "this image was forgotten meanwhile: send it again")
        return upload

    def search(
        self,
        collection: Collection,
        make_query: Callable[[Collection], Query],
        *,
        top: int,
        rerank: int,
        expand: int,
        model: Model,
    ) -> Found:
        """Read the query and rank the collection."""
        begin = time.perf_counter()
        query = make_query(collection)
        ready = time.perf_counter()
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        if query.row is not None and (query.is_kept or query.features is None):
            hits = collection.search(query.row, top, region=query.region, **options)
        else:
            assert query.features is not None
            hits = collection.search(query.features, top, **options)
        seconds = {"features": ready - begin, "search": time.perf_counter() - ready}
        rows = [(hit, collection.image(hit.image_id)) for hit in hits]
        return Found(query, rows, len(collection), seconds)

    def match(
        self,
        collection: Collection,
        make_query: Callable[[Collection], Query],
        other: int,
        model: Model,
    ) -> tuple[Query, Verification]:
        """Match a query with one image of the collection."""
        indexed(collection, other)
        query = make_query(collection)
        if query.features is None:
            raise Problem(422, "no features are kept of this image: it cannot be matched")
        return query, collection.verify(query.features, other, model=model)

    # -- images; these run on a looking thread ----------------------------------------

    def thumbnail(self, collection: Collection, image_id: int, side: int) -> tuple[bytes, str]:
        """A JPEG file and its ETag; ImageError where the file cannot be read."""
        file = indexed(collection, image_id).file
        tag = _tag(file, side)
        data = self._thumbnails.get((file, tag))
        if data is None:
            data = as_jpeg(read_rgb(file, max_side=side))
            self._thumbnails.put((file, tag), data, len(data))
        return data, tag

    def preview(self, key: str, side: int) -> bytes:
        """A JPEG file of an image that was sent."""
        upload = self._upload(key)
        most = self.limits.upload_pixels
        return as_jpeg(decode_rgb(upload.data, max_side=side, max_pixels=most))


def _search_noise(collection: Collection) -> None:
    noise_yx = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    noise = Image(noise_yx, 64, 64, rgb_yx3=np.stack([noise_yx] * 3, axis=2))
    with suppress(VladkitError):  # nothing is in it, or a query has to be one of its images
        collection.search(collection.extractor.extract(noise), 1)


def indexed(collection: Collection, image_id: int) -> ImageRow:
    """An image that has a vector; a `Problem` of 404 for any other."""
    try:
        row = collection.image(image_id)
    except ParameterError:
        row = None
    if row is None or row.skipped is not None:
        raise Problem(404, f"the collection has no image {image_id}")
    return row


def _tag(file: str, side: int) -> str:
    try:
        status = os.stat(file)
    except OSError as error:
        raise Problem(404, f"the file of this image cannot be read: {error.strerror}") from None
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{side}"'
