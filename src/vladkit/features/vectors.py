"""One vector of an image beside its local features: by a network, or from a file of them.

Axes: ``l`` features of one image, ``f`` descriptor dimension, ``D`` dimension of the vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Final, cast

import numpy as np
import numpy.typing as npt

from vladkit.core.params import Constraints, Interval, store_checked
from vladkit.errors import ImageError, ParameterError
from vladkit.features.imported import Imported
from vladkit.features.types import (
    Extractor,
    Features,
    MatchRule,
    Parameter,
    match_rule,
    wants_color,
)
from vladkit.images import Image

__all__ = [
    "HLOC_GLOBAL",
    "ImportedVectors",
    "WithVectors",
    "devices_of",
    "imported",
    "not_in_place",
    "placed",
]

HLOC_GLOBAL: Final = "hloc-global"
"""Name of hloc's global descriptors as features; versions that do not know them refuse it."""


@dataclass(frozen=True)
class ImportedVectors:
    """Vectors that were read from a file, one for an image; compared by cosine.

    Parameters
    ----------
    name : str
        Kind of the source: "hloc-global".
    dimensions : int
        Dimension of a vector, D.

    Examples
    --------
    >>> ImportedVectors("hloc-global", 4096).vector_dimensions
    4096
    """

    name: str
    dimensions: int = 0

    has_local: ClassVar[bool] = False
    n_dimensions: ClassVar[int] = 0
    max_side: ClassVar[int | None] = 640

    _constraints: ClassVar[dict[str, Constraints]] = {"dimensions": Interval(int, 1)}

    def __post_init__(self) -> None:
        store_checked(self, self._constraints)

    @property
    def vector_dimensions(self) -> int:
        """Dimension of a vector, D."""
        return self.dimensions

    def parameters(self) -> dict[str, Parameter]:
        """Everything that changes vectors; see `Extractor.parameters`."""
        return {"dimensions": self.dimensions}

    def extract(self, image: Image) -> Features:
        """Refuse: the network that found the vectors is not here.

        Raises
        ------
        ImageError
            Always.
        """
        raise ImageError(
            "its vector would have to be made by hloc, as those of the collection were: search by "
            "an image of the collection, `vladkit search FILE NAME`, or add its vector to the "
            "source and index again"
        )

    def accept(self, features: Features) -> Features:
        """Check a vector that was read; ImageError if it is of another dimension."""
        vector_D = features.vector_D
        n = 0 if vector_D is None else vector_D.size
        if n != self.dimensions:
            raise ImageError(
                f"its vector has {n} dimensions, those of the collection {self.dimensions}"
            )
        return features

    def metric(self, descriptor_lf: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Descriptors as they are: there are none."""
        return np.asarray(descriptor_lf, np.float32)


@dataclass(frozen=True)
class WithVectors:
    """Local features of one extractor, and the one vector that another gives of the image.

    Both see one decoded image, read at the size that the local features want.

    Parameters
    ----------
    local, vectors : Extractor
        `vectors` may be `ImportedVectors`: each image's is then read, and no other has any.

    Examples
    --------
    >>> from vladkit.features import Sift
    >>> both = WithVectors(Sift(), ImportedVectors("hloc-global", 4096))
    >>> both.n_dimensions, both.vector_dimensions
    (128, 4096)
    """

    local: Extractor
    vectors: Extractor

    has_local: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name of the local features, for `vladkit.features.make_extractor`."""
        return self.local.name

    @property
    def n_dimensions(self) -> int:
        """Dimension of a descriptor, ``f``."""
        return self.local.n_dimensions

    @property
    def vector_dimensions(self) -> int:
        """Dimension of the vector, ``D``."""
        return int(cast(Any, self.vectors).vector_dimensions)

    @property
    def max_side(self) -> int | None:
        """Longest side in px at which images are read, for both."""
        return self.local.max_side

    @property
    def wants_color(self) -> bool:
        """Whether one of them reads colour."""
        return wants_color(self.local) or wants_color(self.vectors)

    @property
    def match_rule(self) -> MatchRule:
        """Rule by which the local features match."""
        return match_rule(self.local)

    @property
    def has_directions(self) -> bool:
        """Whether local features state directions."""
        return bool(getattr(self.local, "has_directions", True))

    @property
    def batch_size(self) -> int:
        """Number of images that are best given to `extract_many` at a time."""
        return max(int(getattr(each, "batch_size", 1)) for each in (self.local, self.vectors))

    def parameters(self) -> dict[str, Parameter]:
        """Parameters of both; those of the vectors begin with ``vectors_``."""
        theirs = {f"vectors_{name}": v for name, v in self.vectors.parameters().items()}
        return {**self.local.parameters(), "vectors": self.vectors.name, **theirs}

    def extract(self, image: Image) -> Features:
        """Local features and the vector of one image; ImageError if one of them fails."""
        (found,) = self.extract_many([image])
        if isinstance(found, ImageError):
            raise found
        return found

    def extract_many(self, images: Sequence[Image]) -> list[Features | ImageError]:
        """Features of each image, or the error that `extract` raises for it."""
        both = zip(_each(self.local, images), _each(self.vectors, images), strict=True)
        return [_joined(*each) for each in both]

    def metric(self, descriptor_lf: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Local descriptors as float32, to be compared by L2 distance."""
        return self.local.metric(descriptor_lf)

    def mirrored(self, features: Features) -> Features:
        """Local features of the image flipped left to right; their vector is not known.

        Raises
        ------
        ParameterError
            If the local features have no such form.
        """
        mirrored: Callable[[Features], Features] | None = getattr(self.local, "mirrored", None)
        if mirrored is None:
            raise ParameterError(f"features {self.local.name!r} cannot be mirrored")
        return replace(mirrored(features), vector_D=None)

    def accept(self, features: Features) -> Features:
        """Check features and a vector that were read from files; ImageError if they do not fit."""
        for each in (self.local, self.vectors):
            if isinstance(each, Imported | ImportedVectors):
                features = each.accept(features)
        return features


def imported(extractor: Extractor) -> bool:
    """Whether no image can be a query, because another program made features or vectors."""
    if isinstance(extractor, WithVectors):
        return imported(extractor.local) or imported(extractor.vectors)
    return isinstance(extractor, Imported | ImportedVectors)


def placed(extractor: Extractor, device: str | None, batch: int | None) -> Extractor:
    """Move the networks of an extractor to a device, with `batch` images of a run; None: as is.

    Raises
    ------
    ParameterError
        If there is no network, or no such device.
    """
    if device is None and batch is None:
        return extractor
    found = _changed(extractor, lambda network: network.placed(device, batch))
    if found is extractor:
        raise ParameterError(
            f"device and batch are for networks, and {extractor.name!r} is none: leave them out"
        )
    return found


def devices_of(extractor: Extractor) -> list[str]:
    """Devices that the networks of an extractor run on."""
    parts = (extractor.local, extractor.vectors) if isinstance(extractor, WithVectors) else ()
    found = (getattr(each, "device", None) for each in parts or (extractor,))
    return list(dict.fromkeys(each for each in found if each))


def not_in_place(extractor: Extractor) -> Extractor:
    """The extractor with networks that are not read at the paths that their collection names."""
    return _changed(extractor, lambda network: replace(network, in_place=False))


def _changed(extractor: Extractor, change: Any) -> Extractor:
    """An extractor with its networks changed; the same one if it has none."""
    if isinstance(extractor, WithVectors):
        parts = _changed(extractor.local, change), _changed(extractor.vectors, change)
        same = parts[0] is extractor.local and parts[1] is extractor.vectors
        return extractor if same else WithVectors(*parts)
    is_network = is_dataclass(extractor) and "in_place" in {f.name for f in fields(extractor)}
    return cast(Extractor, change(extractor)) if is_network else extractor


def _each(extractor: Extractor, images: Sequence[Image]) -> list[Features | ImageError]:
    many = getattr(extractor, "extract_many", None)
    if many is not None:
        return cast("list[Features | ImageError]", many(images))
    found: list[Features | ImageError] = []
    for image in images:
        try:
            found.append(extractor.extract(image))
        except ImageError as error:
            found.append(error)
    return found


def _joined(local: Features | ImageError, vector: Features | ImageError) -> Features | ImageError:
    for each in (local, vector):
        if isinstance(each, ImageError):
            return each
    assert isinstance(local, Features)
    assert isinstance(vector, Features)
    return replace(local, vector_D=vector.vector_D)
