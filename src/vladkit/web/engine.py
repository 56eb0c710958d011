"""`Engine`: what the API asks of a collection."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import BinaryIO, Final

import numpy as np

from vladkit.collection.changed import changed_images
from vladkit.collection.collection import Collection
from vladkit.collection.query import QueryImage
from vladkit.collection.ranked import Hit
from vladkit.collection.search_options import SearchOptions
from vladkit.core.remote import is_url
from vladkit.errors import ImageError, VladkitError
from vladkit.features import Features
from vladkit.geometry.verification import Model, Verification
from vladkit.images import Image, as_jpeg
from vladkit.images.exif import Photo
from vladkit.images.files import open_file
from vladkit.images.header import image_kind
from vladkit.store.photos import photos
from vladkit.store.rows import ImageRow
from vladkit.web.cache import Cache
from vladkit.web.decoder import Decoder
from vladkit.web.limits import Limits
from vladkit.web.pool import CollectionPool
from vladkit.web.problems import Problem
from vladkit.web.queries import Queries, QuerySource, SearchQuery, indexed_image
from vladkit.web.uploads import Uploads

__all__ = ["MEDIA_TYPES", "Engine", "SearchAnswer", "version_of"]


MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "PNM": "image/x-portable-anymap",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
    "JPEG XL": "image/jxl",
    "RAF": "image/x-fuji-raf",
    "CR3": "image/x-canon-cr3",
    "RW2": "image/x-panasonic-rw2",
}
"""Formats that the file of an image may have, in `vladkit.images.header`'s words."""

_CHECKED_SIDE: Final = 64
"""Side in px at which a file is decoded before it is sent: JPEG then decodes an eighth."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchAnswer:
    """The hits of a search with the rows of their images; seconds by step."""

    queries: list[SearchQuery]
    hits: list[tuple[Hit, ImageRow]]
    n_images: int
    n_matched: int
    n_verified: int | None
    seconds: dict[str, float]
    photos: dict[int, Photo]
    left_out: dict[str, int]  # see `Where.unknown`
    changed: set[int]  # see `changed_images`
    state: str  # see `vladkit.collection.searching.Searcher.state`


class Engine:
    """Searches a collection for many clients; `close` it.

    Parameters
    ----------
    path : path
        File of the collection.
    limits : Limits
    n_jobs : int or None
        Number of searches at one time; None is one for each core.
    trust, device
        See `vladkit.Collection.open`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: Limits,
        *,
        n_jobs: int | None = None,
        trust: bool = False,
        device: str | None = None,
    ) -> None:
        self.limits = limits
        self.pool = CollectionPool(path, limits, n_jobs, trust=trust, device=device)
        self.decoder = Decoder(limits, self.pool.n_threads)
        self.queries = Queries(limits, self.decoder)
        self.uploads = Uploads(limits)
        self._thumbnails = Cache[bytes](limits.cache_bytes)

    def warm_up(self) -> None:
        """Have the search threads open the file and load what a search needs, before the first.

        The first search took 0.43 s without it, and the second 0.13 s.
        """
        self.decoder.warm_up()
        self.pool.warm_up(_search_noise)

    def close(self) -> None:
        """Wait for running tasks and close the file; a second call does nothing."""
        self.pool.close()
        self.decoder.close()

    async def search(self, sources: Sequence[QuerySource], options: SearchOptions) -> SearchAnswer:
        """Read the queries, images of one thing, and rank the collection."""
        return await self.pool.search(self._search, sources, options)

    async def keep(self, data: bytes) -> SearchQuery:
        """Read an image that is to be searched with later."""
        return await self.pool.search(self.queries.read, QuerySource(data, None))

    def _search(
        self, collection: Collection, sources: Sequence[QuerySource], options: SearchOptions
    ) -> SearchAnswer:
        begin, state = time.perf_counter(), collection.index.searcher.state()
        queries = [self.queries.read(collection, source, options.mirrored) for source in sources]
        ready = time.perf_counter()
        images: list[QueryImage | Features | ImageRow] = []
        for query in queries:
            if query.row is None or not query.is_kept:
                assert query.features is not None
                images.append(query.features)
            elif query.region is None:
                images.append(query.row)
            else:
                if query.features is None or not len(query.features):
                    where = f"no feature that is kept of {query.row.path} is in {query.region}"
                    raise ImageError(where)
                images.append(query.features)
        searcher = collection.index.searcher
        depth = searcher.depth(options.rerank)
        hits = collection.search(
            images,
            max(options.top, depth),
            rerank=options.rerank,
            model=options.model,
            expand=options.expand,
            where=options.where,
            together=True,
            mirrored=options.mirrored,
        )
        seconds = {"features": ready - begin, "search": time.perf_counter() - ready}
        rows = [(hit, collection.image(hit.image_id)) for hit in hits[: options.top]]
        known = [hit.verified for hit in hits if hit.verified is not None]
        n_verified = sum(known) if known else None
        store = collection.index.store
        photo_of = photos(store, [hit.image_id for hit, _ in rows])
        left_out, n_images = {}, len(collection)
        if options.where:
            left_out, n_images = options.where.unknown(store), len(searcher.allowed(options.where))
        counts = n_images, len(known), n_verified
        shown = [row for _, row in rows] + [query.row for query in queries if query.row]
        changed = changed_images(collection.index, shown)
        return SearchAnswer(queries, rows, *counts, seconds, photo_of, left_out, changed, state)

    async def match(
        self, source: QuerySource, other: int, model: Model, mirrored: bool = False
    ) -> tuple[SearchQuery, Verification]:
        """Match a query, or its mirror image, with one image of the collection."""
        return await self.pool.search(self._match, source, other, model, mirrored)

    def _match(
        self, collection: Collection, source: QuerySource, other: int, model: Model, mirrored: bool
    ) -> tuple[SearchQuery, Verification]:
        indexed_image(collection, other)
        query = self.queries.read(collection, source, mirrored)
        if query.features is None or not len(query.features):
            raise Problem(422, "no features are kept of this image: it cannot be matched")
        return query, collection.verify(query.features, other, model=model, mirrored=mirrored)

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
        row = indexed_image(collection, image_id)
        file, within = row.file, collection.folders_to_show()
        tag = _tag(version_of(row), side)  # as indexed: a URL is not asked again
        data = self._thumbnails.get(tag) if is_url(file) else None
        if data is not None:
            return data, tag
        with open_file(file, within=within) as opened:
            tag = tag if is_url(file) else _tag(_version_now(file, opened), side)
            data = self._thumbnails.get(tag)
            if data is None:
                image = self.decoder.decode(opened.read(), max_side=side, color=True, longest=True)
                data = as_jpeg(image)
                self._thumbnails.put(tag, data, len(data))
        return data, tag

    async def image(self, image_id: int) -> tuple[ImageRow, set[int]]:
        """Row of an image, and `changed_images` of it.

        A size that the collection does not know is that of the file, if it can be read.
        """
        return await self.pool.lookup(self._image, image_id)

    def _image(self, collection: Collection, image_id: int) -> tuple[ImageRow, set[int]]:
        row = indexed_image(collection, image_id)
        changed = changed_images(collection.index, [row])
        if row.width is None or row.height is None:
            within = collection.folders_to_show()
            with suppress(ImageError), open_file(row.file, within=within) as opened:
                image = self.decoder.decode(opened.read(), max_side=_CHECKED_SIDE)
                row = replace(row, width=image.width, height=image.height)
        return row, changed

    async def file(self, image_id: int) -> tuple[BinaryIO, str, str]:
        """The file of an image of the collection, open and just decoded, its media type and name.

        Raises
        ------
        Problem
            404 if the collection has no such image.
        ImageError
            If its file cannot be read, or is no image any more.
        """
        return await self.pool.lookup(self._file, image_id)

    def _file(self, collection: Collection, image_id: int) -> tuple[BinaryIO, str, str]:
        file = indexed_image(collection, image_id).file
        opened = open_file(file, within=collection.folders_to_show())
        try:
            media_type = self._checked_type(opened, file)
        except BaseException:
            opened.close()
            raise
        return opened, media_type, file

    def _checked_type(self, opened: BinaryIO, name: str) -> str:
        """Media type of a file that decodes: whatever begins as an image does may be a letter."""
        data = opened.read()
        media_type = MEDIA_TYPES.get(image_kind(data[:64]) or "")
        if media_type is None:  # whatever was put in its place
            raise ImageError("it is no image any more")
        checked = sha256(data).hexdigest() if is_url(name) else _version_now(name, opened)
        if self._thumbnails.get(checked) is None:
            self.decoder.decode(data, max_side=_CHECKED_SIDE)
            self._thumbnails.put(checked, b"checked", 1000)
        opened.seek(0)
        return media_type

    async def upload_preview(self, key: str, side: int) -> bytes:
        """An image that was sent, as a JPEG file of at most `side` px."""
        return await self.pool.lookup(self._upload_preview, key, side)

    def _upload_preview(self, _: Collection, key: str, side: int) -> bytes:
        data = self.queries.upload(key)
        options = {"max_side": side, "max_pixels": self.limits.upload_pixels}
        return as_jpeg(self.decoder.decode(data, color=True, longest=True, **options))


def _search_noise(collection: Collection) -> None:
    noise_yx = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    noise = Image(np.stack([noise_yx] * 3, axis=2), 64, 64)
    with suppress(VladkitError):  # an empty collection, or one that takes no image from outside
        collection.search(collection.extractor.extract(noise), 1)


def version_of(row: ImageRow) -> str:
    """Name of the file of an image as it was indexed: another one for any other file.

    Browsers keep thumbnails by it, also those of another collection that was served at the same
    address.
    """
    return _version(row.file, row.n_bytes, row.mtime_ns)


def _version_now(file: str, opened: BinaryIO) -> str:
    """`version_of` the file as it is now."""
    status = os.fstat(opened.fileno())
    return _version(file, status.st_size, status.st_mtime_ns)


def _version(file: str, n_bytes: int, mtime_ns: int) -> str:
    named = f"{file}\0{n_bytes}\0{mtime_ns}".encode(errors="surrogateescape")
    return sha256(named).hexdigest()[:16]


def _tag(version: str, side: int) -> str:
    """ETag of an image that was made smaller."""
    return f'"{version}-{side}"'
