"""`SearchOptions`: how a collection is searched, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vladkit.collection.where import Where
from vladkit.core.params import Interval, StrOptions, check_parameter
from vladkit.errors import ParameterError
from vladkit.images.region import RegionLike, as_region

if TYPE_CHECKING:
    from vladkit.geometry.verification import Model

__all__ = ["MODEL", "RERANK", "SearchOptions", "check_number", "check_rerank"]

RERANK: Final = 100
"""First results that are matched with the query where nothing else is said."""

MODEL: Final = StrOptions("homography", "fundamental")
"""Geometries that matches may have to fit; `vladkit.geometry.verification.Model`."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of a search.

    Parameters
    ----------
    top : int, default 10
        Number of results; 0 ranks all images.
    rerank : int or None, default None
        Number of first results that are matched with the query feature by feature, and ordered
        by how many matches fit one geometry (`vladkit.geometry.verification`). No image file is
        opened for it, but the collection has to keep features. None is 100 where it does, and 0
        where it does not.
    expand : int, default 0
        Number of first results whose vectors are averaged with the query's for a second search;
        with `rerank` only the verified ones among them are.
    model : {"homography", "fundamental"}
        Geometry that matches have to fit: of a flat thing, or of one with depth.
    region : Region, (left, top, width, height) or None
        Part of the query image to search by. Places of matches are px of the whole image all the
        same.
    where : Where or None
        Images that are ranked: of a folder, a time, a place. None ranks all.
    together : bool, default False
        Whether the query is several images of one thing. Similarities and match codes count by
        their mean over the query images, and the matches with the one that most fit with; `region`
        holds for each.
    mirrored : bool, default False
        Search with the mirror image of the query (left and right exchanged), too: an image has the
        better of its two scores. Twice the time, beside the features of the query.

    Raises
    ------
    ParameterError
        If a number is negative, the region is something else, or there is no such model.
    """

    top: int = 10
    rerank: int | None = None
    expand: int = 0
    model: Model = "homography"
    region: RegionLike = None
    where: Where | None = None
    together: bool = False
    mirrored: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "region", as_region(self.region))
        check_rerank(self.rerank)
        if self.where is not None and not isinstance(self.where, Where):
            raise ParameterError(f"where={self.where!r}: give a Where, such as Where(under='trip')")
        for name in ("top", "expand"):
            check_number(name, getattr(self, name))
        check_parameter("model", self.model, MODEL)


def check_rerank(rerank: int | None) -> None:
    """Raise ParameterError unless it is None or a number of images."""
    if rerank is not None:
        check_number("rerank", rerank)


def check_number(name: str, value: int, least: int = 0) -> None:
    """Raise ParameterError unless it is a number of images from the least on."""
    if value not in Interval(int, least):
        rest = "" if value in Interval(int) else f", not a {type(value).__name__}"
        raise ParameterError(f"{name}={value}: give a number of images, {least} or more{rest}")
