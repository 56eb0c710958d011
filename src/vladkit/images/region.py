"""`Region`: a rectangle of an image, such as a person marks to search by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeAlias

from vladkit.errors import ParameterError

__all__ = ["Region", "RegionLike", "as_region"]


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of an image, in px of the original after EXIF orientation.

    Parameters
    ----------
    left, top : int
        First column and row, from 0.
    width, height : int
        Size in px, at least 1.

    Raises
    ------
    ParameterError
        A number is negative, or the region is empty.

    Examples
    --------
    >>> Region.parse("100,50,640,480")
    Region(left=100, top=50, width=640, height=480)
    """

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.left, self.top) < 0 or min(self.width, self.height) < 1:
            raise ParameterError(
                f"region {self}: give the left column and top row, from 0, and a width and height "
                "of 1 px or more"
            )

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``left,top,width,height``.

        Raises
        ------
        ParameterError
            The text is something else.
        """
        try:
            left, top, width, height = (int(number) for number in text.split(","))
        except ValueError:
            raise ParameterError(
                f"region {text!r}: give left,top,width,height in whole px"
            ) from None
        return cls(left, top, width, height)

    def within(self, width: int, height: int) -> Self:
        """Part of the region that lies in an image of that size.

        Raises
        ------
        ParameterError
            It lies outside altogether.
        """
        if self.left >= width or self.top >= height:
            raise ParameterError(f"region {self} is outside of the image of {width}x{height} px")
        w, h = min(self.width, width - self.left), min(self.height, height - self.top)
        return type(self)(self.left, self.top, w, h)


RegionLike: TypeAlias = Region | tuple[int, int, int, int] | None
"""Part of an image, in px: a `Region`, or its left, top, width and height; None is all of it."""


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
