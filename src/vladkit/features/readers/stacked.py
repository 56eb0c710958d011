"""Images that are rows of one array, and the files beside it that say which rows are whose."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.errors import FileFormatError
from vladkit.features.readers.reader import HEAD_BYTES, Held, Reader, digest, features_from
from vladkit.features.types import Features

__all__ = ["StackedReader", "checked_names", "checked_start", "numbered", "rows_beside"]


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
        If neither is there, or it does not fit.
    """
    for kind in ("lengths", "offsets"):
        for end in (f".{kind}", f".{kind}.npy"):
            if os.path.exists(path + end):
                numbers = _numbers(path + end)
                if kind == "lengths":
                    numbers = np.concatenate([[0], np.cumsum(numbers)])
                names = _names(path + ".names", len(numbers) - 1)
                return names, checked_start(numbers, n_rows, path + end)
    raise FileFormatError(
        f"which of its {n_rows} rows belong to which image is not said: put {path}.lengths "
        "(rows of each image, a number a line) beside it, or give a folder of files"
    )


def checked_start(start_T: AnyArray, n_rows: int, where: str) -> Int64Array:
    """Fence posts as int64; FileFormatError unless they rise from 0 to the number of rows."""
    if start_T.ndim != 1 or not len(start_T) or start_T.dtype.kind not in "iu":
        raise FileFormatError(f"{where}: wanted a list of whole numbers")
    start_T = start_T.astype(np.int64)
    if start_T[0] != 0 or start_T[-1] != n_rows or (np.diff(start_T) < 0).any():
        raise FileFormatError(
            f"{where} says {start_T[-1]} rows in all, there are {n_rows}; the first begins at "
            f"{start_T[0]}"
        )
    return start_T


def checked_names(names: Sequence[str], t: int, where: str) -> list[str]:
    """As many as there are images, each once; FileFormatError if not."""
    if len(names) != t:
        raise FileFormatError(f"{where} has {len(names)} names for {t} images")
    if len(set(names)) != t or not all(names):
        twice = next((n for n in names if not n or list(names).count(n) > 1), "")
        raise FileFormatError(f"{where}: the name {twice!r} is empty or there twice")
    return list(names)


def numbered(t: int) -> list[str]:
    """Names for images that have none: their number, from 0."""
    return [f"{i:0{len(str(max(t - 1, 1)))}}" for i in range(t)]


def _numbers(path: str) -> AnyArray:
    try:
        if path.endswith(".npy"):
            return np.asarray(np.load(path, allow_pickle=False))
        with open(path, encoding="utf-8") as file:
            return np.array([int(line) for line in file.read().split()], np.int64)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: wanted a number a line ({error})") from error


def _names(path: str, t: int) -> list[str]:
    if not os.path.exists(path):
        return numbered(t)
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: wanted a name a line, UTF-8 ({error})") from error
    return checked_names(lines, t, path)


class StackedReader(Reader):
    """Images that are rows of one array (N, f), which is mapped and not in memory."""

    compare: ClassVar[str] = "as-is"

    def _stack(
        self, local_Nf: AnyArray, names: list[str], start_T: Int64Array, **columns: AnyArray
    ) -> None:
        """Say what there is: the array, names, fence posts, and arrays (N, ...) beside."""
        self._local_Nf = local_Nf
        self._columns = columns
        self._bounds = dict(zip(names, itertools.pairwise(start_T), strict=True))

    def held(self) -> Held:
        """See `Reader.held`."""
        return Held(
            features=self.kind,
            dimensions=int(self._local_Nf.shape[1]),
            compare=self.compare,
            places="xy_l2" in self._columns,
            directions="angle_l" in self._columns,
            sizes="size_l" in self._columns,
        )

    def names(self) -> list[str]:
        """See `Reader.names`."""
        return sorted(self._bounds)

    def status(self, name: str) -> tuple[int, int]:
        """See `Reader.status`."""
        first, last = self._bounds[name]
        row_bytes = self._local_Nf.shape[1] * self._local_Nf.dtype.itemsize
        head = self._local_Nf[first : min(last, first + max(1, HEAD_BYTES // row_bytes))]
        return int(last - first) * row_bytes, digest(head.tobytes())

    def read(self, name: str) -> Features:
        """See `Reader.read`."""
        first, last = self._bounds[name]
        columns: dict[str, Any] = {
            what: np.array(array[first:last]) for what, array in self._columns.items()
        }
        return features_from(
            np.array(self._local_Nf[first:last]), columns.pop("xy_l2", None), **columns
        )
