"""`Engine`: what the API asks of a collection."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from vladkit.collection.collection import Collection
from vladkit.collection.search_options import SearchOptions
from vladkit.collection.searching import Hit
from vladkit.errors import VladkitError
from vladkit.features import Features
from vladkit.geometry.verification import Model, Verification
from vladkit.images import Image, as_jpeg, decode_image, read_image
from vladkit.store.rows import ImageRow
from vladkit.web.cache import Cache
from vladkit.web.limits import Limits
from vladkit.web.pool import CollectionPool
from vladkit.web.problems import Problem
from vladkit.web.queries import Queries, QuerySource, SearchQuery, indexed_image
from vladkit.web.uploads import Uploads

__all__ = ["Engine", "SearchAnswer"]


@dataclass(frozen=True, slots=True, eq=False)
class SearchAnswer:
    """The hits of a search with the rows of their images; seconds by step."""

    query: SearchQuery
    hits: list[tuple[Hit, ImageRow]]
    n_images: int
    seconds: dict[str, float]


class Engine:
    """Searches a collection for many clients; `close` it.

    Parameters
    ----------
    path : path
        File of the collection.
    limits : Limits
    n_jobs : int or None
        Number of searches at one time; None is one for each core.
    """

    def __init__(
        self, path: str | os.PathLike[str], limits: Limits, *, n_jobs: int | None = None
    ) -> None:
        self.limits = limits
        self.pool = CollectionPool(path, limits, n_jobs)
        self.queries = Queries(limits)
        self.uploads = Uploads(limits)
        self._thumbnails = Cache[bytes](limits.cache_bytes)

    def warm_up(self) -> None:
        """Have the search threads open the file and load what a search needs, before the first.

        The first search took 0.43 s without it, and the second 0.13 s.
        """
        self.pool.warm_up(_search_noise)

    def close(self) -> None:
        """Wait for running tasks and close the file; a second call does nothing."""
        self.pool.close()

    async def search(self, source: QuerySource, options: SearchOptions) -> SearchAnswer:
        """Read the query and rank the collection."""
        return await self.pool.search(self._search, source, options)

    def _search(
        self, collection: Collection, source: QuerySource, options: SearchOptions
    ) -> SearchAnswer:
        begin = time.perf_counter()
        query = self.queries.read(collection, source)
        ready = time.perf_counter()
        image: Features | ImageRow | None = query.features
        if query.row is not None and (query.is_kept or image is None):
            image, options = query.row, replace(options, region=query.region)
        assert image is not None
        hits = collection.search(
            image,
            options.top,
            region=options.region,
            rerank=options.rerank,
            model=options.model,
            expand=options.expand,
        )
        seconds = {"features": ready - begin, "search": time.perf_counter() - ready}
        rows = [(hit, collection.image(hit.image_id)) for hit in hits]
        return SearchAnswer(query, rows, len(collection), seconds)

    async def match(
        self, source: QuerySource, other: int, model: Model
    ) -> tuple[SearchQuery, Verification]:
        """Match a query with one image of the collection."""
        return await self.pool.search(self._match, source, other, model)

    def _match(
        self, collection: Collection, source: QuerySource, other: int, model: Model
    ) -> tuple[SearchQuery, Verification]:
        indexed_image(collection, other)
        query = self.queries.read(collection, source)
        if query.features is None:
            raise Problem(422, "no features are kept of this image: it cannot be matched")
        return query, collection.verify(query.features, other, model=model)

    async def thumbnail(self, image_id: int, side: int) -> tuple[bytes, str]:
        """An image of the collection as a JPEG file of at most `side` px, and its ETag.

        Raises
        ------
        Problem
            404 if the collection has no such image.
        ImageError
            If its file cannot be read.
        """
        return await self.pool.lookup(self._thumbnail, image_id, side)

    def _thumbnail(self, collection: Collection, image_id: int, side: int) -> tuple[bytes, str]:
        file = indexed_image(collection, image_id).file
        tag = _tag(file, side)
        data = self._thumbnails.get((file, tag))
        if data is None:
            data = as_jpeg(read_image(file, max_side=side, color=True, longest=True))
            self._thumbnails.put((file, tag), data, len(data))
        return data, tag

    async def upload_preview(self, key: str, side: int) -> bytes:
        """An image that was sent, as a JPEG file of at most `side` px."""
        return await self.pool.lookup(self._upload_preview, key, side)

    def _upload_preview(self, _: Collection, key: str, side: int) -> bytes:
        data = self.queries.upload(key).data
        return as_jpeg(
            decode_image(
                data, max_side=side, max_pixels=self.limits.upload_pixels, color=True, longest=True
            )
        )


def _search_noise(collection: Collection) -> None:
    noise_yx = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    noise = Image(np.stack([noise_yx] * 3, axis=2), 64, 64)
    with suppress(VladkitError):  # an empty collection, or one that takes no image from outside
        collection.search(collection.extractor.extract(noise), 1)


def _tag(file: str, side: int) -> str:
    try:
        status = os.stat(file)
    except OSError as error:
        raise Problem(404, f"the file of this image cannot be read: {error.strerror}") from None
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{side}"'
