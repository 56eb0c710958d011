"""Queries: images that clients send, images of the collection, and regions of either."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from vladkit.collection.changed import is_as_indexed
from vladkit.collection.collection import Collection
from vladkit.collection.query import extract_with_mirror, mirrors
from vladkit.errors import ImageError, MissingDependencyError, ModelError, ParameterError
from vladkit.features import Features, wants_color
from vladkit.images import Image, Region, read_bytes
from vladkit.store.rows import ImageRow
from vladkit.web.cache import Cache
from vladkit.web.decoder import Decoder
from vladkit.web.limits import Limits
from vladkit.web.problems import Problem

__all__ = ["Queries", "QuerySource", "SearchQuery", "indexed_image"]


@dataclass(frozen=True, slots=True, eq=False)
class QuerySource:
    """The image that a client asks to search with.

    Parameters
    ----------
    image : bytes, str or int
        The content of an image file that is sent now, the key of one that was sent before, or the
        id of an image of the collection.
    region : Region or None
        The part to search by; None is all of it.
    """

    image: bytes | str | int
    region: Region | None


@dataclass(frozen=True, slots=True, eq=False)
class SearchQuery:
    """An image to search with, and its features.

    Parameters
    ----------
    features : Features or None
        Of the image or its region, and of its mirror image if that was asked for and takes the
        pixels; None if the collection keeps only the vector of the image.
    width, height : int or None
        Size of the whole image in px, where it is known.
    key : str or None
        Name of an image that was sent.
    row : ImageRow or None
        Row of an image of the collection.
    is_kept : bool
        Whether `features` are those that the collection keeps, and not read from the file now.
    """

    features: Features | None
    width: int | None
    height: int | None
    key: str | None = None
    row: ImageRow | None = None
    is_kept: bool = False

    @property
    def region(self) -> Region | None:
        """The part that is searched by, as it was read; None for all of it."""
        return None if self.features is None else self.features.region

    @property
    def region_or_whole(self) -> Region:
        """The part that is searched by, or the whole image; as if its features filled it where its
        size is not known.
        """
        if self.region is None and self.features is not None and not self.width:
            return Region(0, 0, self.features.width, self.features.height)
        return self.region or Region(0, 0, self.width or 1, self.height or 1)


class Queries:
    """Reads queries; keeps images that were sent, and features, for a while.

    Parameters
    ----------
    limits : Limits
        `cache_bytes` bounds the images and, once more, the features; `upload_pixels` the size of
        an image.
    decoder : Decoder
    """

    def __init__(self, limits: Limits, decoder: Decoder) -> None:
        self._decoder = decoder
        self._max_pixels = limits.upload_pixels
        self._uploads = Cache[bytes](limits.cache_bytes)
        self._queries = Cache[SearchQuery](limits.cache_bytes)

    def read(
        self, collection: Collection, source: QuerySource, mirrored: bool = False
    ) -> SearchQuery:
        """Extract the features of a query, or find them in the cache; `mirrored`: of both ways.

        Raises
        ------
        Problem
            404 if an image that was sent is forgotten, or if the collection has no such image.
        ImageError
            If the image cannot be used.
        """
        image, region = source.image, source.region
        mirrored = mirrored and mirrors(collection.extractor) is None  # else by the features
        if isinstance(image, bytes):
            query = self._send(collection, image, region, mirrored)
            return self._keep(collection, query, region, mirrored)
        cached = self._queries.get((image, region, mirrored, collection.stamp()))
        if isinstance(image, str):
            data = self.upload(image)
            if cached is not None:
                return cached
            query = self._extract(collection, data, region, image, mirrored)
        else:
            row = indexed_image(collection, image)
            if cached is not None:
                return cached
            query = self._of_collection(collection, row, region, mirrored)
        return self._keep(collection, query, region, mirrored)

    def upload(self, key: str) -> bytes:
        """The file of an image that was sent before; a `Problem` of 404 if it is forgotten."""
        upload = self._uploads.get(key)
        if upload is None:
            raise Problem(404, "this image was forgotten meanwhile: send it again")
        return upload

    def _send(
        self, collection: Collection, data: bytes, region: Region | None, mirrored: bool
    ) -> SearchQuery:
        """The query of an image that is sent now; the image is kept under a new key."""
        key = secrets.token_urlsafe(12)
        query = self._extract(collection, data, region, key, mirrored)
        self._uploads.put(key, data, len(data))
        return query

    def _extract(
        self,
        collection: Collection,
        data: bytes,
        region: Region | None,
        key: str,
        mirrored: bool,
    ) -> SearchQuery:
        image = self._decoded(collection, data, region, max_pixels=self._max_pixels)
        width, height = image.whole or (image.width, image.height)
        return SearchQuery(_features_of(collection, image, mirrored), width, height, key)

    def _decoded(
        self, collection: Collection, data: bytes, region: Region | None, **options: int
    ) -> Image:
        extractor = collection.extractor
        color = wants_color(extractor)
        side = extractor.max_side
        return self._decoder.decode(data, max_side=side, region=region, color=color, **options)

    def _of_collection(
        self, collection: Collection, row: ImageRow, region: Region | None, mirrored: bool
    ) -> SearchQuery:
        """The query of an indexed image, by what is kept of it where its file is no help."""
        size = row.width, row.height
        try:
            if not is_as_indexed(row):
                raise ImageError("changed since it was indexed")
            data = read_bytes(row.file, within=collection.folders_to_show())
            image = self._decoded(collection, data, region)
            features = _features_of(collection, image, mirrored)
        except (ImageError, ModelError, MissingDependencyError):
            # The file is gone or another, or the network that found its features is not here.
            kept = collection.features_of(row.image_id)
            if region is not None:
                if kept is None:
                    raise  # the vector is of the whole image
                kept = kept.within(region)
            return SearchQuery(kept, *size, row=row, is_kept=True)
        return SearchQuery(features, *size, row=row)

    def _keep(
        self, collection: Collection, query: SearchQuery, region: Region | None, mirrored: bool
    ) -> SearchQuery:
        name = query.key if query.row is None else query.row.image_id
        features = query.features
        # 20 bytes: the five float32 of each feature beside its descriptor; 1000: the objects
        n_bytes = 0 if features is None else features.descriptor_lf.nbytes + 20 * len(features)
        if features is not None and features.vector_D is not None:
            n_bytes += features.vector_D.nbytes
        n_bytes = n_bytes * (1 + mirrored) + 1000
        self._queries.put((name, region, mirrored, collection.stamp()), query, n_bytes)
        return query


def _features_of(collection: Collection, image: Image, mirrored: bool) -> Features:
    extractor = collection.extractor
    return extract_with_mirror(extractor, image) if mirrored else extractor.extract(image)


def indexed_image(collection: Collection, image_id: int) -> ImageRow:
    """The row of an image that has a vector; a `Problem` of 404 for any other id."""
    try:
        row = collection.image(image_id)
    except ParameterError:
        row = None
    if row is None or row.skipped is not None:
        raise Problem(404, f"the collection has no image {image_id}")
    return row
