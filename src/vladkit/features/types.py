"""Local features of one image, and the protocol of the extractors that find them.

Axes: ``l`` features of one image, ``f`` descriptor dimension, ``2`` is x, y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.params import Constraints, Interval, check_parameter, check_type
from vladkit.errors import ShapeError
from vladkit.images import Image, Photo, Region
from vladkit.images.exif import UNKNOWN
from vladkit.images.region import RegionLike, as_region

__all__ = [
    "IMAGE_PARAMETERS",
    "MIN_SIDE",
    "Extractor",
    "Features",
    "MatchRule",
    "Parameter",
    "assumed_size",
    "check_features",
    "check_image",
    "has_local",
    "match_rule",
    "vector_dimensions",
    "wants_color",
]

Parameter: TypeAlias = int | float | str | bool | None
"""A value in `Extractor.parameters`: whatever JSON gives back unchanged."""

MIN_SIDE: Final = 16
"""Shortest side in px of an image that has features. OpenCV's SIFT ignores 5 px along the border:
at 16 px it has 6x6 px left."""

IMAGE_PARAMETERS: Final[dict[str, Constraints]] = {
    "max_features": Interval(int, 1, 1_000_000),
    "max_side": (Interval(int, MIN_SIDE, 100_000), None),
    "enlarge_to": Interval(int, 0, 10_000),
}
"""Parameters that all extractors share; the upper bounds are far beyond any sensible use."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Local features of one image.

    Parameters
    ----------
    descriptor_lf : array (l, f)
        Descriptors in the form that is stored (SIFT: uint8); `Extractor.metric` makes them
        comparable.
    xy_l2 : float32 array (l, 2)
        Position in px of the original image after EXIF orientation; x to the right, y down, the
        origin at the centre of the top-left pixel.
    size_l : float32 array (l,)
        Diameter of the region, in px of the original image.
    angle_l : float32 array (l,)
        Direction of the region in degrees, 0 to 360, from x towards y (clockwise on screen).
    score_l : float32 array (l,)
        Strength; higher is stronger, comparable within one extractor only.
    width, height : int
        Size of the original image in px, after EXIF orientation.
    region : Region or None
        Part of an image to which the features are limited; it then is "the original image"
        above.
    lifted : bool
        Whether they were found by a second try, with lifted contrast; see `Sift`.
    photo : Photo
        Date, position and camera of the image.
    vector_D : float32 array (D,) or None
        Vector of the whole image, by a network that gives one; `descriptor_lf` may then be empty.
    has_size : bool
        Whether width and height are known; else they are assumed, see `assumed_size`.

    Raises
    ------
    ShapeError
        The arrays do not agree on the number of features.

    Examples
    --------
    >>> import numpy as np
    >>> score_l = np.array([0.1, 0.9, 0.5], np.float32)
    >>> features = Features(
    ...     np.zeros((3, 128), np.uint8), np.zeros((3, 2), np.float32), score_l, score_l, score_l,
    ...     width=640, height=480,
    ... )
    >>> len(features)
    3
    >>> features.strongest(2).score_l
    array([0.9, 0.5], dtype=float32)
    """

    descriptor_lf: npt.NDArray[Any]
    xy_l2: npt.NDArray[np.float32]
    size_l: npt.NDArray[np.float32]
    angle_l: npt.NDArray[np.float32]
    score_l: npt.NDArray[np.float32]
    width: int
    height: int
    region: Region | None = None
    lifted: bool = False
    photo: Photo = UNKNOWN
    vector_D: npt.NDArray[np.float32] | None = None
    has_size: bool = True

    def __post_init__(self) -> None:
        shapes = {
            "descriptor_lf": self.descriptor_lf.shape,
            "xy_l2": self.xy_l2.shape,
            "size_l": self.size_l.shape,
            "angle_l": self.angle_l.shape,
            "score_l": self.score_l.shape,
        }
        l = self.descriptor_lf.shape[0] if self.descriptor_lf.ndim == 2 else -1
        if list(shapes.values())[1:] != [(l, 2), (l,), (l,), (l,)]:
            raise ShapeError(
                "features need descriptor_lf (l, f), xy_l2 (l, 2) and size_l, angle_l, score_l "
                f"(l,) with one l; got {shapes}"
            )

    def __len__(self) -> int:
        return int(self.descriptor_lf.shape[0])

    @classmethod
    def of_vector(
        cls,
        vector_D: npt.NDArray[np.float32],
        width: int,
        height: int,
        region: Region | None = None,
    ) -> Self:
        """Make features of an image that has one vector, and no local features."""
        none_l = np.zeros(0, np.float32)
        return cls(
            np.zeros((0, 0), np.float16),
            np.zeros((0, 2), np.float32),
            *(none_l, none_l, none_l),
            width=width,
            height=height,
            region=region,
            vector_D=vector_D,
        )

    def strongest(self, m: int) -> Features:
        """Keep the ``m`` features of highest score, in their order.

        Parameters
        ----------
        m : int
            Most features to keep. Among equal scores at the limit the earlier ones stay.

        Returns
        -------
        Features
            ``self`` where there are no more than ``m``.

        Raises
        ------
        ParameterError
            ``m`` is negative.
        """
        check_parameter("m", m, Interval(int, 0))
        if m >= len(self):
            return self
        return self._take(np.sort(np.argsort(-self.score_l, kind="stable")[:m]))

    def some(self, m: int, rng: np.random.Generator) -> Features:
        """Draw ``m`` features at random, in their order; all if there are no more."""
        if m >= len(self):
            return self
        return self._take(np.sort(rng.choice(len(self), m, replace=False)))

    def within(self, region: RegionLike) -> Features:
        """Keep the features inside a part of the image, as if that part were the image.

        Raises
        ------
        ParameterError
            The region is outside of the image.
        """
        whole = Region(0, 0, self.width, self.height)
        region = (as_region(region) or whole).within(self.width, self.height)
        corner_2 = np.array([region.left, region.top], np.float32)
        size_2 = np.array([region.width, region.height], np.float32)
        inside_l2 = (self.xy_l2 >= corner_2 - 0.5) & (self.xy_l2 < corner_2 + size_2 - 0.5)
        some = self._take(np.flatnonzero(inside_l2.all(axis=1)))
        return replace(
            some,
            xy_l2=some.xy_l2 - corner_2,
            width=region.width,
            height=region.height,
            region=region,
            vector_D=None,  # that is of the whole image
        )

    def _take(self, keep_m: npt.NDArray[np.integer[Any]]) -> Features:
        return replace(
            self,
            descriptor_lf=self.descriptor_lf[keep_m],
            xy_l2=self.xy_l2[keep_m],
            size_l=self.size_l[keep_m],
            angle_l=self.angle_l[keep_m],
            score_l=self.score_l[keep_m],
        )


def assumed_size(xy_l2: npt.NDArray[np.floating[Any]]) -> tuple[int, int]:
    """Width and height of an image of which none is known: it ends just beyond its last feature.

    Examples
    --------
    >>> import numpy as np
    >>> assumed_size(np.array([[39, 3], [7, 20.4]]))
    (40, 21)
    """
    width, height = (int(v) for v in xy_l2.max(axis=0, initial=0).clip(0, 2**31) + 1.5)
    return width, height


@dataclass(frozen=True, slots=True)
class MatchRule:
    """Conditions on which descriptors of two images match, besides being each other's nearest.

    Parameters
    ----------
    ratio : float, default=0.9
        Largest ratio of the distances to the nearest and the second nearest descriptor (Lowe's
        ratio test); 1 asks only that there is no tie.
    min_cosine : float, default=-1
        Smallest cosine of the two; for descriptors of length 1.
    """

    ratio: float = 0.9
    min_cosine: float = -1.0

    _constraints: ClassVar[dict[str, Constraints]] = {
        "ratio": Interval(float, 1e-6, 1),
        "min_cosine": Interval(float, -1, 1),
    }


class Extractor(Protocol):
    """Turns images into local features.

    Implementations can be pickled, are used by several threads at once, and give the same features
    in the same order for the same image, whatever else runs.

    They may also have: ``wants_color`` (see `wants_color`), ``match_rule`` (see `match_rule`),
    ``has_directions`` (False: features state no direction and no size; ``angle_l`` and ``size_l``
    are then the same for all), ``mirrored`` (see `Sift.mirrored`), ``vector_dimensions`` and
    ``has_local`` (see `vector_dimensions` and `has_local`).
    """

    @property
    def name(self) -> str:
        """Name for `make_extractor`."""
        ...

    @property
    def n_dimensions(self) -> int:
        """Dimension of a descriptor, ``f``."""
        ...

    @property
    def max_side(self) -> int | None:
        """Longest side in px at which images are to be read; None: as they are."""
        ...

    def parameters(self) -> dict[str, Parameter]:
        """Everything that changes the output: equal parameters mean interchangeable features.

        The dict has the arguments of `make_extractor` and facts such as the version of the
        decoder. `make_extractor` ignores facts, so ``make_extractor(name, **stored)`` rebuilds an
        extractor, and comparing ``parameters()`` with ``stored`` tells which facts have changed.
        """
        ...

    def extract(self, image: Image) -> Features:
        """Find and describe the features of one image.

        Raises
        ------
        ImageError
            The image is too small, or nothing was found in it.
        """
        ...

    def metric(self, descriptor_lf: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Stored descriptors as a float32 array (l, f), to be compared by L2 distance."""
        ...


def check_features(name: str, value: object) -> None:
    """Raise ParameterError, with the argument's name, unless it is `Features`."""
    check_type(name, value, Features, "an extractor's extract")


def check_image(image: object) -> None:
    """Raise ParameterError unless what is to be extracted is an `Image`."""
    check_type("image", image, Image, "vladkit.images.read_image")


def wants_color(extractor: Extractor) -> bool:
    """Whether an extractor reads colour images; gray unless it says so."""
    return bool(getattr(extractor, "wants_color", False))


def vector_dimensions(extractor: Extractor) -> int:
    """Dimension D of the one vector that an extractor gives of an image; 0 where it gives none."""
    return int(getattr(extractor, "vector_dimensions", 0))


def has_local(extractor: Extractor) -> bool:
    """Whether an extractor gives local features; all do but those of one vector alone."""
    return bool(getattr(extractor, "has_local", True))


def match_rule(extractor: Extractor) -> MatchRule:
    """Rule by which an extractor's descriptors match; SIFT's unless it has its own."""
    rule = getattr(extractor, "match_rule", None)
    return rule if isinstance(rule, MatchRule) else MatchRule()
