"""Features that another program found: how they are compared, and how queries get theirs.

Axes: ``l`` features of one image, ``f`` descriptor dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.linalg import root_sift, unit_rows
from vladkit.core.params import Constraints, Interval, StrOptions, store_checked
from vladkit.errors import ImageError, ParameterError
from vladkit.features.sift import Sift
from vladkit.features.types import Features, Parameter
from vladkit.images import Image, decoder_facts

__all__ = ["ColmapSift", "Imported"]

_ROOTED: Final = 512.0
"""Factor with which COLMAP multiplies RootSIFT to store it as uint8."""

_OF_SIFT: Final = ("max_features", "max_side", "enlarge_to", "contrast_threshold")

_MAKER: Final = {"colmap": "COLMAP", "hloc": "hloc"}


@dataclass(frozen=True)
class Imported:
    """Features that were read from a file: how a collection compares them.

    Parameters
    ----------
    name : str
        Kind of the source: "colmap:aliked-n16rot", "hloc", "npz", ...
    dimensions : int
        Dimension of the descriptors, f.
    compare : {"as-is", "unit", "rootsift"}
        Normalisation before descriptors are compared by L2 distance: none; to unit length; or
        RootSIFT (Arandjelovic and Zisserman 2012).
    max_features : int, default=2000
        Most features of an image; the strongest are used.
    max_side, enlarge_to, contrast_threshold
        Parameters of `Sift`, for queries, where it makes the same kind of features.

    Raises
    ------
    ParameterError
        A value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> Imported("npz", dimensions=2, compare="unit").metric(np.array([[3, 4]], np.uint8))
    array([[0.6, 0.8]], dtype=float32)
    """

    name: str
    dimensions: int = 0
    compare: str = "as-is"
    max_features: int = 2000
    max_side: int | None = 640
    enlarge_to: int = 320
    contrast_threshold: float = 0.02

    _constraints: ClassVar[dict[str, Constraints]] = {
        "dimensions": Interval(int, 0),
        "compare": StrOptions("as-is", "unit", "rootsift"),
        **{name: Sift._constraints[name] for name in _OF_SIFT},
    }

    def __post_init__(self) -> None:
        store_checked(self, self._constraints)
        if not self.dimensions:
            raise ParameterError(
                f"features {self.name!r} need the dimensions of their descriptors: take the "
                "recipe from vladkit.collection.import_recipe.recipe_for"
            )

    @property
    def n_dimensions(self) -> int:
        """Dimension of a descriptor, ``f``."""
        return self.dimensions

    def parameters(self) -> dict[str, Parameter]:
        """Everything that changes vectors; see `Extractor.parameters`."""
        return {
            "dimensions": self.dimensions,
            "compare": self.compare,
            "max_features": self.max_features,
        }

    def extract(self, image: Image) -> Features:
        """Refuse: the program that found the features is not here.

        Raises
        ------
        ImageError
            Always.
        """
        kind, _, variant = self.name.partition(":")
        maker = _MAKER.get(kind, "the program that made those") + (f" ({variant})" * bool(variant))
        raise ImageError(
            f"its features would have to be made by {maker}, as those of the collection were: "
            "search by an image of the collection, `vladkit search FILE NAME`, or add its "
            "features to the source and index again"
        )

    def accept(self, features: Features) -> Features:
        """Check features that were read, and keep the strongest.

        Raises
        ------
        ImageError
            If their descriptors have another dimension.
        """
        f = features.descriptor_lf.shape[1]
        if f != self.dimensions:
            raise ImageError(
                f"its descriptors have {f} dimensions, those of the collection {self.dimensions}"
            )
        return features.strongest(self.max_features)

    def metric(self, descriptor_lf: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Descriptors as float32 (l, f), to be compared by L2 distance; zero rows stay zero."""
        local_lf = np.asarray(descriptor_lf, np.float32)
        if self.compare == "unit":
            return unit_rows(local_lf)
        if self.compare == "rootsift":
            if len(local_lf) and local_lf.min() < 0:
                raise ImageError("rootsift is for descriptors without negative values")
            return root_sift(local_lf)
        return local_lf

    def _sift(self) -> Sift:
        # the program that made the collection's features has no second try
        return Sift(**{name: getattr(self, name) for name in _OF_SIFT}, lift_below=0)


@dataclass(frozen=True)
class ColmapSift(Imported):
    """COLMAP's SIFT; OpenCV's is close enough to search for images with it.

    In a photograph of a building (kth_buildings) two in three of COLMAP's features have one of
    OpenCV's at the same place (to 0.001 px on average), in direction (to 2 degrees) and size
    (to 0.3 %), whose descriptor has a cosine of 0.996 with it. In larger images the largest 2,000
    of COLMAP's features are about those that are found at 640 px (docs/how-to/features.md).
    """

    def parameters(self) -> dict[str, Parameter]:
        """Everything that changes the output; see `Extractor.parameters`."""
        own: dict[str, Parameter] = {
            "max_side": self.max_side,
            "enlarge_to": self.enlarge_to,
            "contrast_threshold": self.contrast_threshold,
        }
        return {**super().parameters(), **own, **decoder_facts()}

    def extract(self, image: Image) -> Features:
        """Extract OpenCV's SIFT, with descriptors as COLMAP stores them: RootSIFT * 512, uint8.

        Raises
        ------
        ImageError
            For the reasons of `Sift.extract`.
        """
        sift = self._sift()
        found = sift.extract(image)
        rooted_lf = np.rint(_ROOTED * sift.metric(found.descriptor_lf)).clip(0, 255)
        return replace(found, descriptor_lf=rooted_lf.astype(np.uint8))

    def mirrored(self, features: Features) -> Features:
        """Features of the image flipped left to right; descriptors have the layout of `Sift`'s."""
        return self._sift().mirrored(features)
