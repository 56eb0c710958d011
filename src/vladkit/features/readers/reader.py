"""`Reader`: features that another program found, image by image; the base of this folder.

Axes: ``l`` features of one image, ``f`` descriptor dimension, ``2`` is x, y.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.files import time_of_change
from vladkit.errors import FileFormatError, ImageError, StorageError, VladkitError
from vladkit.features.types import Features, assumed_size

__all__ = [
    "HEAD_BYTES",
    "NamedErrors",
    "Reader",
    "SourceInfo",
    "digest",
    "features_from",
    "named_errors",
    "status_of_file",
]

HEAD_BYTES: Final = 4096
"""Bytes of descriptors and of keypoints that a digest covers: 32 SIFT descriptors."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Kind and contents of a source.

    Parameters
    ----------
    features : str
        Name for `vladkit.features.make_extractor`: "colmap:sift", "hloc", ...
    dimensions : int
        Dimension of the descriptors, f.
    compare : {"as-is", "unit", "rootsift"}
        Normalisation that fits them best, see `vladkit.features.imported.Imported`.
    places, directions, sizes : bool
        Whether the source has the places of features, their directions and their sizes.
    image_sizes : bool
        Whether the source has the sizes of the images, in px.
    """

    features: str
    dimensions: int
    compare: str
    places: bool = True
    directions: bool = False
    sizes: bool = False
    image_sizes: bool = False


class Reader(ABC):
    """One file, or folder, of features; several threads may `read`. Close it, or use ``with``.

    Only names are kept: each `read` goes to the file. ``path`` is the file or folder, absolute.
    """

    kind: str

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        self._lock = threading.Lock()
        if not os.path.exists(self.path):
            raise StorageError(f"cannot read {self.kind}:{os.fspath(path)}: there is no such file")

    @abstractmethod
    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features.

        Raises
        ------
        FileFormatError
            If there is none.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all images, sorted; with forward slashes."""

    @abstractmethod
    def status(self, name: str) -> tuple[int, int]:
        """Two numbers that change when the image's features do: their bytes, and a digest."""

    @abstractmethod
    def read(self, name: str) -> Features:
        """Read all features of one image, in their order.

        Raises
        ------
        ImageError
            If it has none, or they are damaged or of another kind.
        """

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class NamedErrors(Reader):
    """A reader whose errors are all ours.

    The libraries that read other programs' files raise whatever a damaged, or hostile, file leads
    to: errors of zip, zlib, HDF5, Arrow and SQLite, or of Python's own kinds.
    """

    def __init__(self, reader: Reader) -> None:
        self.kind, self.path = reader.kind, reader.path
        self._reader = reader

    def info(self) -> SourceInfo:
        """`Reader.info`."""
        with named_errors(self.path):
            return self._reader.info()

    def names(self) -> list[str]:
        """`Reader.names`."""
        with named_errors(self.path):
            return self._reader.names()

    def status(self, name: str) -> tuple[int, int]:
        """`Reader.status`."""
        with named_errors(self.path):
            return self._reader.status(name)

    def read(self, name: str) -> Features:
        """`Reader.read`."""
        try:
            return self._reader.read(name)
        except VladkitError:
            raise
        except MemoryError as error:
            raise ImageError("not enough memory for its features", transient=True) from error
        except Exception as error:
            raise ImageError(f"damaged: {_said(error)}") from error

    def close(self) -> None:
        """`Reader.close`."""
        self._reader.close()


@contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Raise whatever a library makes of a file of features as a FileFormatError."""
    try:
        yield
    except VladkitError:
        raise
    except Exception as error:
        raise FileFormatError(
            f"{path} is damaged, or no file of features: {_said(error)}"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def features_from(
    descriptor_lf: AnyArray,
    xy_l2: AnyArray | None = None,
    *,
    size_l: AnyArray | None = None,
    angle_l: AnyArray | None = None,
    score_l: AnyArray | None = None,
    image_size: Any = None,
) -> Features:
    """Make features from the arrays that a source has; missing values are 0, a size 1.

    `image_size` holds width and height in px.

    Without a size one is assumed, see `vladkit.features.types.assumed_size`.

    Raises
    ------
    ImageError
        If there are no descriptors, numbers do not agree, or one is NaN or infinite.
    """
    if descriptor_lf.ndim != 2 or descriptor_lf.dtype.kind not in "fiu":
        raise ImageError(
            f"its descriptors have shape {descriptor_lf.shape} and dtype {descriptor_lf.dtype}, "
            "wanted (features, dimensions) numbers"
        )
    l, f = descriptor_lf.shape
    if not l or not f:
        raise ImageError("no features found: it is listed without any")
    if xy_l2 is not None and l != f and xy_l2.shape in ((f, 2), (2, f)):
        raise ImageError(
            f"its descriptors are transposed: {f} keypoints, and {l} descriptors of {f} dimensions"
        )
    arrays = {"keypoints": xy_l2, "sizes": size_l, "angles": angle_l, "scores": score_l}
    for what, array in arrays.items():
        wanted = (l, 2) if what == "keypoints" else (l,)
        if array is not None and array.shape != wanted:
            hint = ": transpose them" if array.shape == wanted[::-1] and l != 1 else ""
            raise ImageError(
                f"{l} descriptors, and {what} of shape {array.shape}, not {wanted}{hint}"
            )
        if array is not None and array.dtype.kind not in "fiu":
            raise ImageError(f"{what} are {array.dtype}, wanted numbers")
    for what, array in {"descriptors": descriptor_lf, **arrays}.items():
        if array is None or array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            finite = np.isfinite(_float32(array) if array.dtype.itemsize > 4 else array)
        if not finite.all():
            bad_l = ~finite.reshape(l, -1).all(axis=1)
            raise ImageError(
                f"{what} of {bad_l.sum()} of {l} features hold NaN or infinity, or exceed float32"
            )
    place_l2 = np.zeros((l, 2), np.float32) if xy_l2 is None else _float32(xy_l2)
    width, height = assumed_size(place_l2)
    if image_size is not None:
        size_2 = np.asarray(image_size)
        is_size = size_2.shape == (2,) and size_2.dtype.kind in "fiu" and np.isfinite(size_2).all()
        if not is_size or not 1 <= size_2.min() <= size_2.max() < 2**31:
            raise ImageError(f"its image_size is {size_2.tolist()}, wanted width and height in px")
        width, height = (int(v) for v in size_2)
    return Features(
        descriptor_lf,
        place_l2,
        np.ones(l, np.float32) if size_l is None else _float32(size_l),
        np.zeros(l, np.float32) if angle_l is None else _float32(angle_l % 360),
        np.zeros(l, np.float32) if score_l is None else _float32(score_l),
        width=width,
        height=height,
        has_size=image_size is not None,
    )


def _float32(array: AnyArray) -> Any:
    return np.ascontiguousarray(array, np.float32)


def digest(*parts: bytes | str | int) -> int:
    """Hash of 63 bits, to tell two contents apart."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return int.from_bytes(found.digest(), "little") >> 1


def status_of_file(file: str | Path) -> tuple[int, int]:
    """Size and time of change of a file, (-1, -1) if it is missing."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return -1, -1
    return status.st_size, time_of_change(status)
