"""Queries: images in the forms that people have them, as vectors and features to search with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from vladkit.collection.describer import Query
from vladkit.collection.index import Index
from vladkit.collection.search_options import SearchOptions
from vladkit.core.remote import without_query
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Extractor, Features, vector_dimensions, wants_color
from vladkit.features.pool import Extraction, Result, extract, extract_data
from vladkit.features.vectors import imported
from vladkit.geometry.mirrored import flipped, mirrored_part
from vladkit.images import Image, decode_image, read_bytes
from vladkit.images.forms import FORMS, InMemory, file_data
from vladkit.images.opencv import within_memory
from vladkit.images.region import Region, RegionLike
from vladkit.store.paths import find_image
from vladkit.store.rows import ImageRow

__all__ = [
    "QueryImage",
    "QueryImages",
    "extract_query",
    "extract_with_mirror",
    "extracted_ahead",
    "features_from",
    "mirror_of",
    "mirrors",
    "queries_of",
    "query_of",
]

QueryImage: TypeAlias = str | os.PathLike[str] | InMemory
"""Path, or an image in memory."""

_One: TypeAlias = QueryImage | Features | ImageRow

QueryImages: TypeAlias = _One | Sequence[_One]
"""An image to search with, or several of one thing."""


@contextmanager
def extracted_ahead(
    index: Index, images: Sequence[_One], options: SearchOptions, n_jobs: int | None = None
) -> Iterator[Iterator[Result | None]]:
    """With the features of each of many images, or its error, extracted on threads in advance.

    None for images that are not extracted: given as features, or kept in the collection.
    """
    _check(index, options)
    todo = [i for i, image in enumerate(images) if len(images) > 1 and _is_read(index, image)]
    if len(todo) < 2:  # OpenCV has all threads for one
        yield iter([None] * len(images))
        return
    extractor = index.describer.extractor

    def read(image: QueryImage) -> Features:
        try:
            return extract_query(extractor, image, options.region)
        except ParameterError as error:  # of this image: its region, its form
            raise ImageError(str(error)) from error

    with Extraction.on_threads(extractor, n_jobs, len(todo), read, ahead=0) as extraction:
        results = extraction.run([images[i] for i in todo])
        are_read = set(todo)
        yield (next(results) if i in are_read else None for i in range(len(images)))


def queries_of(
    index: Index, image: QueryImages, options: SearchOptions, features: Features | None = None
) -> list[Query]:
    """Queries of an image, or of several; parameters and errors of `Collection.search`.

    `features` are those of the one image, if they are extracted already.
    """
    images = image if isinstance(image, list | tuple) else [image]
    if isinstance(image, list | tuple) and not options.together:
        raise ParameterError(
            f"image is a {type(image).__name__}: give together=True if these are images of one "
            f"thing, or use search_many; an image is a path, {FORMS}, or Features"
        )
    if not images:
        raise ParameterError("no image to search with: give one, or several of one thing")
    queries = []
    ahead = (
        nullcontext(iter([features]))
        if features is not None
        else extracted_ahead(index, images, options)
    )
    with ahead as results:
        for each, result in zip(images, results, strict=True):
            queries.append(_named(index, each, options, len(images) > 1, result))
    if options.mirrored:
        pairs = zip(images, queries, strict=True)
        queries += [_mirrored(index, *pair, options.region) for pair in pairs]
    return queries


def _named(
    index: Index, image: _One, options: SearchOptions, several: bool, result: Result | None
) -> Query:
    """`query_of`; of several images the error names the one that cannot be used."""
    try:
        if isinstance(result, ImageError):
            raise result
        return query_of(index, image, options, result)
    except ImageError as error:
        if several and isinstance(image, str | os.PathLike):
            reason = f"{without_query(os.fspath(image))}: {error.reason}"
            raise ImageError(reason, transient=error.transient) from error
        raise


def query_of(
    index: Index, image: _One, options: SearchOptions, features: Features | None = None
) -> Query:
    """Query of an image, or of features of it that are extracted; see `queries_of`."""
    _check(index, options)
    if features is None:
        row = _row_of(index, image)
        if row is not None:
            return _query_of_row(index, row, options.region)
        assert not isinstance(image, ImageRow)
        features = features_from(index.describer.extractor, image, options.region)
    return index.describer.query(features)


def _check(index: Index, options: SearchOptions) -> None:
    index.check_ready()
    index.check_not_empty()
    if options.rerank:
        index.searcher.check_keeps_features()


def _is_read(index: Index, image: _One) -> bool:
    """Tell whether the pixels of an image are read."""
    try:
        return not isinstance(image, Features) and _row_of(index, image) is None
    except ParameterError:  # several images have its name: said when it is its turn
        return False


def _row_of(index: Index, image: _One) -> ImageRow | None:
    """Row of an image that is searched by what is kept of it; None if its pixels are read."""
    if isinstance(image, ImageRow):
        return image
    own_only = imported(index.describer.extractor)
    if isinstance(image, str | os.PathLike) and (own_only or not os.path.lexists(image)):
        return find_image(index.store, image)
    return None


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
    return replace(index.describer.query(features), of_kept=True)


def _mirrored(index: Index, image: _One, query: Query, region: RegionLike) -> Query:
    """Query of the mirror image of an image whose query is known."""
    extractor = index.describer.extractor
    row = image if isinstance(image, ImageRow) else None
    if row is None and isinstance(image, str | os.PathLike) and not os.path.lexists(image):
        row = find_image(index.store, image)
    if row is not None and (query.features is None or mirrors(extractor) is None):
        within = None if index.trust else index.store.own_folders()
        try:
            image = read_bytes(row.file, within=within)
        except ImageError as error:
            raise ImageError(
                f"{row.path} cannot be mirrored without its file: {error.reason}",
                transient=error.transient,
            ) from error
    mirror, part = mirror_of(extractor, image, region, query.features)
    of_kept = query.of_kept and mirrors(extractor) is not None  # else it is of the pixels
    return replace(index.describer.query(mirror), mirrored=part, of_kept=of_kept)


def mirrors(extractor: Extractor) -> Callable[[Features], Features] | None:
    """Function that mirrors features; a vector beside them needs the pixels."""
    if vector_dimensions(extractor):
        return None
    mirrored: Callable[[Features], Features] | None = getattr(extractor, "mirrored", None)
    return mirrored


def mirror_of(
    extractor: Extractor,
    image: _One,
    region: RegionLike,
    known: Features | None = None,
) -> tuple[Features, Region]:
    """Features of the mirror image of a query, and the part of the query that was flipped.

    Features that are known are mirrored where that can be done; else the pixels are.

    Raises
    ------
    ImageError
        If the image cannot be used.
    ParameterError
        If there are no pixels, but features that cannot be mirrored; or as `extract_query`.
    """
    if isinstance(image, _FeaturesWithMirror):
        return image.mirror, image.part
    mirrored = mirrors(extractor)
    if known is None and (mirrored or isinstance(image, Features)):
        known = features_from(extractor, image, region)
    if mirrored and known is not None:
        return mirrored(known), mirrored_part(known)
    if isinstance(image, Features):
        raise ParameterError(
            f"features of {extractor.name!r} cannot be mirrored: give the image instead"
        )
    color, side = wants_color(extractor), extractor.max_side
    with within_memory():
        decoded = decode_image(_bytes_of(image), max_side=side, region=region, color=color)
        return extractor.extract(flipped(decoded)), _part_of(decoded)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _FeaturesWithMirror(Features):
    """Features of an image that is not there any more, those of its mirror image, and the part of
    the image that was flipped.
    """

    mirror: Features
    part: Region


def extract_with_mirror(extractor: Extractor, image: Image) -> Features:
    """Features of a decoded image, from which `mirror_of` then has those of its mirror image.

    Raises
    ------
    ImageError
        If the image cannot be used.
    """
    features, mirror = extractor.extract(image), extractor.extract(flipped(image))
    own = (getattr(features, each.name) for each in fields(features))
    return _FeaturesWithMirror(*own, mirror=mirror, part=_part_of(image))


def _part_of(image: Image) -> Region:
    """The part of the original that a decoded image is of."""
    return image.region or Region(0, 0, image.width, image.height)


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
    return extract_data(extractor, _bytes_of(image), region)


def _bytes_of(image: QueryImage) -> bytes:
    data = (
        read_bytes(os.fspath(image)) if isinstance(image, str | os.PathLike) else file_data(image)
    )
    if data is None:
        raise ParameterError(
            f"image is a {type(image).__name__}: give a path, {FORMS}, or Features"
        )
    return data
