"""fvecs, bvecs, ivecs and siftgeo files (texmex, INRIA), little-endian.

A vector is int32 d, then d float32 (fvecs), uint8 (bvecs) or int32 (ivecs: ground truth). These
files know no images: the number of rows of each image comes from a file beside
(`vladkit.features.readers.stacked`); or a folder has one file for each image. siftgeo is a folder
of files, 168 bytes per feature: 9 float32 (x, y, scale, angle, 4 for the affine shape, cornerness),
int32 128, 128 uint8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.params import StrOptions, check_parameter
from vladkit.errors import FileFormatError, ImageError, StorageError
from vladkit.features.readers.folder import FolderReader
from vladkit.features.readers.reader import Reader, SourceInfo, features_from
from vladkit.features.readers.stacked import StackedReader, rows_beside
from vladkit.features.types import Features

__all__ = ["SiftgeoReader", "map_vecs", "open_vecs"]

_KINDS: Final = {"f4": "fvecs", "u1": "bvecs", "i4": "ivecs"}
"""Suffixes by type of the values."""

_SIFTGEO: Final = np.dtype(
    [("xysa", "<f4", 4), ("affine", "<f4", 4), ("score", "<f4"), ("d", "<i4"), ("v", "u1", 128)]
)


def map_vecs(path: str | os.PathLike[str], dtype: str | None = None) -> AnyArray:
    """Map the vectors of a fvecs, bvecs or ivecs file into memory; they are read when needed.

    Parameters
    ----------
    path : path
    dtype : {"f4", "u1", "i4"} or None
        Type of the values; None goes by the suffix, .fvecs, .bvecs or .ivecs in small letters or
        capitals, and is float32 for others.

    Returns
    -------
    vector_Nf : (N, f), float32, uint8 or int32, read-only

    Raises
    ------
    ParameterError
        If `dtype` is another one.
    FileFormatError
        If the file is empty, or not rows of one size.
    StorageError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = np.array([(2, (1.0, 0.5)), (2, (3.0, 4.0))], [("d", "<i4"), ("v", "<f4", 2)])
    ...     row.tofile(f"{folder}/a.fvecs")
    ...     map_vecs(f"{folder}/a.fvecs").tolist()
    [[1.0, 0.5], [3.0, 4.0]]
    """
    where = os.fspath(path)
    check_parameter("dtype", dtype, (StrOptions(*_KINDS), None))
    value = np.dtype(f"<{dtype or _dtype_by_suffix(where) or 'f4'}")
    try:
        n_bytes = os.path.getsize(where)
        with open(where, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror}") from error
    f = int.from_bytes(head, "little")
    row_bytes = 4 + f * value.itemsize
    if len(head) < 4 or not 0 < f <= 2**20 or n_bytes % row_bytes:
        raise FileFormatError(
            f"{where} is not {_KINDS[value.str[1:]]}, or truncated: its {n_bytes} bytes are not "
            f"rows of one size (the first says {f} dimensions)"
        )
    n = n_bytes // row_bytes
    # Read, not mapped: each mapped row that is looked at may make 2 MB around it resident.
    with open(where, "rb", buffering=0) as file:
        for row in (*range(0, n, max(1, n // 1024)), n - 1):
            file.seek(row * row_bytes)
            if file.read(4) != head:
                raise FileFormatError(f"{where}: rows differ in dimension, the first has {f}")
    raw_Nb: AnyArray = np.memmap(where, np.uint8, "r").reshape(-1, row_bytes)
    return raw_Nb[:, 4:].view(value)


def _dtype_by_suffix(path: str) -> str | None:
    end = os.path.splitext(path)[1].lower()
    return next((dtype for dtype, kind in _KINDS.items() if end == f".{kind}"), None)


class SiftgeoReader(FolderReader):
    """SIFT of INRIA's programs, compared as RootSIFT; x, y and the scale are px of its images."""

    kind = "siftgeo"
    ends = (".siftgeo",)

    def describe(self, features: Features) -> SourceInfo:
        """Contents of the folder, told from the features of one image."""
        return SourceInfo(self.kind, 128, "rootsift", directions=True, sizes=True)

    def read(self, name: str) -> Features:
        """Read the features of one image; the file has angles in radian."""
        file = self.file(name)
        try:
            raw = Path(file).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read: {error.strerror}", transient=True) from error
        if len(raw) % _SIFTGEO.itemsize:
            raise ImageError(f"truncated siftgeo: {len(raw)} bytes are not rows of 168")
        row_l = np.frombuffer(raw, _SIFTGEO)
        if (row_l["d"] != 128).any():
            raise ImageError("not siftgeo: a row does not say 128 dimensions")
        x_l, y_l, scale_l, angle_l = row_l["xysa"].T
        return features_from(
            row_l["v"].copy(),
            np.stack([x_l, y_l], axis=1),
            size_l=2 * scale_l,
            angle_l=np.rad2deg(angle_l),
            score_l=row_l["score"],
        )


class VectorFolder(FolderReader):
    """A fvecs or bvecs file for each image."""

    def __init__(self, kind: str, path: str | os.PathLike[str]) -> None:
        self.kind, self.ends = kind, (f".{kind}",)
        super().__init__(path)

    def read(self, name: str) -> Features:
        """Read the features of one image."""
        file = self.file(name)
        if not os.path.getsize(file):
            raise ImageError("no features found: an empty file")
        try:
            return features_from(np.array(map_vecs(file)))
        except (FileFormatError, StorageError) as error:
            raise ImageError(str(error).replace(file, "the file")) from error


class VectorReader(StackedReader):
    """One fvecs or bvecs file with all images' vectors, and the rows of each image beside it."""

    def __init__(self, kind: str, path: str | os.PathLike[str]) -> None:
        self.kind = kind
        super().__init__(path)
        by_name = _dtype_by_suffix(self.path)
        if by_name and _KINDS[by_name] != kind:
            raise FileFormatError(f"{self.path} is {_KINDS[by_name]} by its name, wanted {kind}")
        local_Nf = map_vecs(self.path, "u1" if kind == "bvecs" else "f4")
        self._stack(local_Nf, *rows_beside(self.path, len(local_Nf)))


def open_vecs(kind: str, path: str | os.PathLike[str]) -> Reader:
    """Open a folder of files, or one file, of kind "fvecs" or "bvecs"."""
    return VectorFolder(kind, path) if os.path.isdir(path) else VectorReader(kind, path)
