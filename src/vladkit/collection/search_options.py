"""`SearchOptions`: how a collection is searched, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vladkit.errors import ParameterError
from vladkit.images.region import Region

if TYPE_CHECKING:
    from vladkit.geometry.verification import Model

__all__ = ["RegionLike", "SearchOptions", "as_region"]

RegionLike: TypeAlias = Region | tuple[int, int, int, int] | None
"""Part of an image, in px: a `Region`, or its left, top, width and height; None is all of it."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of a search.

    Parameters
    ----------
    top : int, default 10
        Number of results; 0 ranks all images.
    rerank : int, default 0
        Number of first results that are matched with the query feature by feature, and ordered
        by how many matches fit one geometry (`vladkit.geometry.verification`). No image file is
        opened for it, but the collection has to keep features.
    expand : int, default 0
        Number of first results whose vectors are averaged with the query's for a second search;
        with `rerank` only the verified ones among them are.
    model : {"homography", "fundamental"}
        Geometry that matches have to fit: of a flat thing, or of one with depth.
    region : Region or None
        Part of the query image to search by. Places of matches are px of the whole image all the
        same.

    Raises
    ------
    ParameterError
        If a number is negative, or there is no such model.
    """

    top: int = 10
    rerank: int = 0
    expand: int = 0
    model: Model = "homography"
    region: Region | None = None

    def __post_init__(self) -> None:
        for name in ("top", "rerank", "expand"):
            value = getattr(self, name)
            if value < 0:
                raise ParameterError(f"{name}={value}: give a number of images, 0 or more")
        if self.model not in ("homography", "fundamental"):
            raise ParameterError(f"model={self.model!r}: use 'homography' or 'fundamental'")


def as_region(region: RegionLike) -> Region | None:
    """Region from its four numbers, left, top, width and height in px.

    Raises
    ------
    ParameterError
        If it is something else.

    Examples
    --------
    >>> as_region((100, 50, 640, 480))
    Region(left=100, top=50, width=640, height=480)
    """
    if region is None or isinstance(region, Region):
        return region
    try:
        left, top, width, height = (int(number) for number in region)
        whole = (left, top, width, height) == tuple(region)
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise ParameterError(
            f"region={region!r}: give four whole numbers of px, (left, top, width, height), or a "
            "vladkit.images.region.Region"
        )
    return Region(left, top, width, height)
