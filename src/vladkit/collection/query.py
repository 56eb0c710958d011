"""Queries: images in the forms that people have them, as vectors and features to search with."""

from __future__ import annotations

import os
from typing import TypeAlias

from vladkit.collection.describer import Query
from vladkit.collection.index import Index
from vladkit.collection.search_options import SearchOptions
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Extractor, Features
from vladkit.features.pool import extract, extract_data
from vladkit.features.vectors import imported
from vladkit.images.forms import FORMS, InMemory, file_data
from vladkit.images.region import RegionLike
from vladkit.store.paths import find_image
from vladkit.store.rows import ImageRow

__all__ = ["QueryImage", "extract_query", "features_from", "query_of"]

QueryImage: TypeAlias = str | os.PathLike[str] | InMemory
"""Path, or an image in memory."""


def query_of(
    index: Index, image: QueryImage | Features | ImageRow, options: SearchOptions
) -> Query:
    """Query of an image; parameters and errors of `Collection.search`."""
    index.check_ready()
    if options.rerank:
        index.searcher.check_keeps_features()
    row = image if isinstance(image, ImageRow) else None
    own_only = imported(index.describer.extractor)
    if isinstance(image, str | os.PathLike) and (own_only or not os.path.lexists(image)):
        row = find_image(index.store, image)
    if row is not None:
        return _query_of_row(index, row, options.region)
    features = features_from(index.describer.extractor, image, options.region)
    return index.describer.query(features)


def _query_of_row(index: Index, row: ImageRow, region: RegionLike) -> Query:
    """A query by what is kept of an image: a part is described by its strongest features."""
    if row.skipped is not None:
        raise ParameterError(f"{row.path} has no vector: {row.skipped}")
    if region is not None:
        if index.describer.has_vectors:
            raise ParameterError(
                f"region: the vector of a part is made of pixels, and {row.path} is kept without: "
                "give its file"
            )
        index.searcher.check_keeps_features()
    query = index.searcher.of_image(row.image_id)
    if query.features is None or region is None:
        return query
    features = query.features.within(region)
    if not len(features):
        raise ImageError(f"no feature that is kept of {row.path} is in {region}")
    return index.describer.query(features)


def features_from(
    extractor: Extractor, image: QueryImage | Features, region: RegionLike
) -> Features:
    """`extract_query`, or the features that are given."""
    if not isinstance(image, Features):
        return extract_query(extractor, image, region)
    if region is not None:
        raise ParameterError("features are given: extract them with that region instead")
    return image


def extract_query(extractor: Extractor, image: QueryImage, region: RegionLike) -> Features:
    """Features of an image, or of a part of it.

    Pixels give the same features as a PNG file of them; Pillow's EXIF orientation is applied.

    Raises
    ------
    ImageError
        If the image cannot be used.
    ParameterError
        If it is of another form, or the region is outside of it.
    """
    if isinstance(image, str | os.PathLike):
        return extract(extractor, os.fspath(image), region)
    data = file_data(image)
    if data is not None:
        return extract_data(extractor, data, region)
    raise ParameterError(f"image is a {type(image).__name__}: give a path, {FORMS}, or Features")
