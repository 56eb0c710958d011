"""Images that are rows of one array, and the files beside it with the rows of each image."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.files import is_special_file
from vladkit.errors import FileFormatError
from vladkit.features.readers.reader import HEAD_BYTES, Reader, SourceInfo, digest, features_from
from vladkit.features.types import Features

__all__ = [
    "StackedReader",
    "checked_names",
    "checked_start",
    "numbered",
    "rows_beside",
    "starts_of",
]


def rows_beside(path: str, n_rows: int) -> tuple[list[str], Int64Array]:
    """Names and fence posts of the images whose rows are stacked in a file.

    Beside ``X`` lies ``X.lengths`` (rows of each image) or ``X.offsets`` (where each begins, and
    last the number of rows), as text, one number a line, or as ``.npy``; and where images have
    names ``X.names``, one a line; else they are called by their number.

    Returns
    -------
    names : list of str
    start_T : int64 array (t + 1,)

    Raises
    ------
    FileFormatError
        If both are missing, or the numbers do not fit.
    """
    for kind in ("lengths", "offsets"):
        for end in (f".{kind}", f".{kind}.npy"):
            if _is_there(path + end):
                numbers = _numbers(path + end)
                if kind == "lengths":
                    numbers = starts_of(numbers)
                names = _names(path + ".names", len(numbers) - 1)
                return names, checked_start(numbers, n_rows, path + end)
    raise FileFormatError(
        f"{path} does not tell which of its {n_rows} rows belong to which image: put "
        f"{path}.lengths (rows of each image, one number per line) beside it, or give a folder of "
        "files"
    )


def starts_of(length_t: AnyArray) -> AnyArray:
    """Fence posts of images of these numbers of rows."""
    if length_t.dtype.kind not in "iu":
        return length_t  # `checked_start` refuses it
    return np.concatenate([[0], np.cumsum(length_t, dtype=np.int64)])


def checked_start(start_T: AnyArray, n_rows: int, where: str) -> Int64Array:
    """Fence posts as int64; FileFormatError unless they rise from 0 to the number of rows."""
    if start_T.ndim != 1 or not len(start_T) or start_T.dtype.kind not in "iu":
        raise FileFormatError(f"{where}: wanted a list of integers")
    start_T = start_T.astype(np.int64)
    if start_T[0] != 0 or start_T[-1] != n_rows or (np.diff(start_T) < 0).any():
        raise FileFormatError(
            f"{where} says {start_T[-1]} rows in all, there are {n_rows}; the first begins at "
            f"{start_T[0]}"
        )
    return start_T


def checked_names(names: Sequence[str], t: int, where: str) -> list[str]:
    """Names of t images; FileFormatError if they are not t different ones."""
    if len(names) != t:
        raise FileFormatError(f"{where} has {len(names)} names for {t} images")
    if len(set(names)) != t or not all(names):
        twice = next((n for n in names if not n or list(names).count(n) > 1), "")
        raise FileFormatError(f"{where}: the name {twice!r} is empty or occurs twice")
    return list(names)


def numbered(t: int) -> list[str]:
    """Numbers from 0, as names for t images that have none."""
    return [f"{i:0{len(str(max(t - 1, 1)))}}" for i in range(t)]


def _is_there(path: str) -> bool:
    if is_special_file(path):
        raise FileFormatError(f"{path} is no regular file")
    return os.path.exists(path)


def _numbers(path: str) -> AnyArray:
    try:
        if path.endswith(".npy"):
            return np.asarray(np.load(path, allow_pickle=False))
        with open(path, encoding="utf-8-sig") as file:
            return np.array([int(line) for line in file.read().split()], np.int64)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: wanted one number per line ({error})") from error


def _names(path: str, t: int) -> list[str]:
    if not _is_there(path):
        return numbered(t)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        lines = text.removesuffix("\n").split("\n") if text else []  # names may hold U+2028
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: wanted one name per line, UTF-8 ({error})") from error
    return checked_names(lines, t, path)


class StackedReader(Reader):
    """Images that are rows of one array (N, f), which is mapped and not in memory."""

    def _stack(
        self,
        local_Nf: AnyArray,
        names: list[str],
        start_T: Int64Array,
        image_size_t2: AnyArray | None = None,
        **columns: AnyArray,
    ) -> None:
        """Set the array, names, fence posts, and further arrays (N, ...) by `Features` field."""
        self._local_Nf = local_Nf
        self._columns = columns
        self._image_sizes = (
            None if image_size_t2 is None else dict(zip(names, image_size_t2, strict=True))
        )
        self._bounds = dict(zip(names, itertools.pairwise(start_T), strict=True))

    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features."""
        return SourceInfo(
            features=self.kind,
            dimensions=int(self._local_Nf.shape[1]),
            compare="as-is",
            places="xy_l2" in self._columns,
            directions="angle_l" in self._columns,
            sizes="size_l" in self._columns,
            image_sizes=self._image_sizes is not None,
        )

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted(self._bounds)

    def status(self, name: str) -> tuple[int, int]:
        """Bytes of the image's features, and a digest of them."""
        first, last = self._bounds[name]
        row_bytes = self._local_Nf.shape[1] * self._local_Nf.dtype.itemsize
        head = self._local_Nf[first : min(last, first + max(1, HEAD_BYTES // row_bytes))]
        return int(last - first) * row_bytes, digest(head.tobytes())

    def read(self, name: str) -> Features:
        """Read the features of one image."""
        first, last = self._bounds[name]
        columns: dict[str, Any] = {
            what: np.array(array[first:last]) for what, array in self._columns.items()
        }
        return features_from(
            np.array(self._local_Nf[first:last]),
            columns.pop("xy_l2", None),
            image_size=None if self._image_sizes is None else self._image_sizes[name],
            **columns,
        )
