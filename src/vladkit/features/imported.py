"""Features that another program found: how they are compared, and what a query needs.

Axes: ``l`` features of one image, ``f`` descriptor dimension.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError, ParameterError
from vladkit.features.sift import Sift
from vladkit.features.types import Features, Parameter
from vladkit.images import Image, decoder_facts

__all__ = ["COMPARE", "ColmapSift", "Imported", "make_imported"]

COMPARE: Final = ("as-is", "unit", "rootsift")

_ROOTED: Final = 512.0
"""What COLMAP multiplies the values of RootSIFT with."""

_MAKER: Final = {"colmap": "COLMAP", "hloc": "hloc"}


@dataclass(frozen=True)
class Imported:
    """What a collection knows of features that were read from a file.

    Parameters
    ----------
    name : str
        Where they come from: "colmap:aliked-n16rot", "hloc", "npz", ...
    dimensions : int
        f, of their descriptors.
    compare : {"as-is", "unit", "rootsift"}
        Descriptors are compared by L2 distance as they are; brought to unit length; or as RootSIFT
        of SIFT (Arandjelovic and Zisserman 2012).
    max_features : int, default=2000
        Most features of an image; the strongest are used.
    max_side, enlarge_to, contrast_threshold
        Of `Sift`, for queries, where it makes the same kind of features.

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

    def __post_init__(self) -> None:
        if isinstance(self.dimensions, bool) or not isinstance(self.dimensions, int):
            raise ParameterError(f"dimensions={self.dimensions!r}, wanted a whole number")
        if self.dimensions < 1:
            raise ParameterError(
                f"features {self.name!r} need the dimensions of their descriptors: take the "
                "recipe from vladkit.collection.import_recipe.recipe_for"
            )
        if self.compare not in COMPARE:
            raise ParameterError(f"compare={self.compare!r}: use {', '.join(COMPARE)}")
        self._sift()  # checks the rest

    @property
    def n_dimensions(self) -> int:
        """Of a descriptor, ``f``."""
        return self.dimensions

    def parameters(self) -> dict[str, Parameter]:
        """All that changes vectors; see `Extractor.parameters`."""
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
        """Features that were read, as a collection takes them: the strongest, of f dimensions.

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
            length_l1 = np.sqrt(np.einsum("lf,lf->l", local_lf, local_lf))[:, None]
            return np.asarray(local_lf / np.maximum(length_l1, 1e-12), np.float32)
        if self.compare == "rootsift":
            if len(local_lf) and local_lf.min() < 0:
                raise ImageError("rootsift is for descriptors without negative values")
            sum_l1 = local_lf.sum(axis=1, keepdims=True)
            return np.asarray(np.sqrt(local_lf / np.maximum(sum_l1, 1e-12)), np.float32)
        return local_lf

    def _sift(self) -> Sift:
        return Sift(
            max_features=self.max_features,
            max_side=self.max_side,
            enlarge_to=self.enlarge_to,
            contrast_threshold=self.contrast_threshold,
        )


@dataclass(frozen=True)
class ColmapSift(Imported):
    """COLMAP's SIFT. OpenCV's is near enough that images can be searched for.

    Of a building's photograph (kth_buildings) two in three of COLMAP's features have one of
    OpenCV's at the same place (to .001 px on average), in direction (to 2 degrees) and size
    (to .3 %), whose descriptor has a cosine of .996 with it. Of larger images the largest 2,000
    of COLMAP's features are about those that are found at 640 px (docs/features.md).
    """

    def parameters(self) -> dict[str, Parameter]:
        """All that changes the output; see `Extractor.parameters`."""
        own: dict[str, Parameter] = {
            "max_side": self.max_side,
            "enlarge_to": self.enlarge_to,
            "contrast_threshold": self.contrast_threshold,
        }
        return {**super().parameters(), **own, **decoder_facts()}

    def extract(self, image: Image) -> Features:
        """OpenCV's SIFT, with descriptors as COLMAP stores them: RootSIFT times 512, as uint8.

        Raises
        ------
        ImageError
            For the reasons of `Sift.extract`.
        """
        sift = self._sift()
        found = sift.extract(image)
        rooted_lf = np.rint(_ROOTED * sift.metric(found.descriptor_lf)).clip(0, 255)
        return _with_descriptors(found, rooted_lf.astype(np.uint8))

    def mirrored(self, features: Features) -> Features:
        """As `Sift.mirrored`: the layout of the descriptors is the same."""
        return self._sift().mirrored(features)


def _with_descriptors(features: Features, descriptor_lf: npt.NDArray[Any]) -> Features:
    return Features(
        descriptor_lf,
        features.xy_l2,
        features.size_l,
        features.angle_l,
        features.score_l,
        width=features.width,
        height=features.height,
        region=features.region,
    )


def make_imported(name: str, parameters: dict[str, Any]) -> Imported:
    """The extractor of that name; see `vladkit.features.make_extractor`."""
    cls: Callable[..., Imported] = ColmapSift if name == "colmap:sift" else Imported
    accepted = list(inspect.signature(Imported).parameters)[1:]
    for key in parameters:
        if key not in accepted:
            raise ParameterError(
                f"features {name!r} have no parameter {key!r}: they have {', '.join(accepted)}"
            )
    return cls(name, **parameters)
