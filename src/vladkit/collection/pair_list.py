"""`Pairs`: chosen pairs of images, and the lists that hloc and COLMAP read and write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.collection.sfm_model import SfmModel, is_model
from vladkit.core.arrays import Float32Array, Int64Array
from vladkit.core.files import replace_file
from vladkit.core.names import composed
from vladkit.errors import ParameterError, StorageError

__all__ = ["Names", "Pair", "Pairs", "chosen", "is_listed"]

Names: TypeAlias = str | os.PathLike[str] | Iterable[str] | None
"""Some images of a collection: what their names begin with; a file (a path, not a string) with a
name a line, or a folder with a model by COLMAP, those of its images that are in the collection; the
names; or None, all of them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images to be matched, the query or else what comes first in natural order as ``first``.

    ``similarity`` is the cosine of their vectors; ``inliers`` the number of matches that fit one
    geometry, or None where they were not matched.
    """

    first: str
    second: str
    similarity: float
    inliers: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Unordered pairs of images, each once, sorted by name; iterate for `Pair`.

    Parameters
    ----------
    root : str
        The folder that names are relative to, absolute: hloc's ``images``, COLMAP's ``image_path``.
    names : tuple of str
        Names of all images, in natural order.
    row_p2 : int64 array (p, 2)
        Rows of ``names``; the first of each is the query if only one is, else the smaller.
    similarity_p : float32 array (p,)
    inliers_p : int64 array (p,)
        -1 where a pair was not matched.
    n_components : int
        Groups of images that the pairs leave unconnected; an image without a pair is one.
    """

    root: str
    names: tuple[str, ...]
    row_p2: Int64Array
    similarity_p: Float32Array
    inliers_p: Int64Array
    n_components: int

    def __len__(self) -> int:
        return len(self.row_p2)

    def __iter__(self) -> Iterator[Pair]:
        columns = self.row_p2.tolist(), self.similarity_p.tolist(), self.inliers_p.tolist()
        for (a, b), similarity, inliers in zip(*columns, strict=True):
            found = None if inliers < 0 else inliers
            yield Pair(self.names[a], self.names[b], round(similarity, 6), found)

    def unlisted(self) -> list[str]:
        """Names in pairs that a list cannot hold: with white space, or a ``#`` at the beginning.

        hloc and COLMAP split lines at white space and know no quotes; for COLMAP # is a comment.
        """
        rows = np.unique(self.row_p2).tolist()
        return [name for name in map(self.names.__getitem__, rows) if not is_listed(name)]

    def lines(self) -> Iterator[str]:
        """``first second`` for each pair, as hloc and COLMAP's matches_importer read them.

        Pairs with a name of `unlisted` are left out.

        Raises
        ------
        ParameterError
            If that leaves none; raised before the first line.
        """
        is_listed_n = np.array([is_listed(name) for name in self.names], bool)
        kept_p2 = self.row_p2[is_listed_n[self.row_p2].all(axis=1)]
        if len(self) and not len(kept_p2):
            raise ParameterError(
                f"{self.unlisted()[0]!r}: a list of pairs cannot hold a name with white space or a "
                "# at its beginning, and each pair has one: rename the images and index them again"
            )
        return (f"{self.names[a]} {self.names[b]}\n" for a, b in kept_p2.tolist())

    def write(self, target: str | os.PathLike[str]) -> None:
        """Write `lines` to a file, whole or not at all; warns of names that are `unlisted`.

        Raises
        ------
        ParameterError
            See `lines`; nothing is written then.
        StorageError
            If it cannot be written.
        """
        lines = self.lines()
        if left_out := self.unlisted():
            text = f"pairs of {len(left_out)} images are left out, as of {left_out[0]!r}: see lines"
            warnings.warn(text, stacklevel=2)
        with replace_file(target) as file:
            file.writelines(map(os.fsencode, lines))


def is_listed(name: str) -> bool:
    """Whether a list of pairs can hold a name."""
    return not name.startswith("#") and name.split() == [name]


def chosen(names: Sequence[str], some: Names, what: str) -> npt.NDArray[np.bool_]:
    """Whether each image is among some of them, (n,).

    Names may be spelled with composed or decomposed letters; an image that is spelled as the name
    that is given comes first.

    Raises
    ------
    ParameterError
        If a name is unknown, or no image is meant; `what` names the parameter.
    StorageError
        If a file of names cannot be read.
    """
    if isinstance(some, str):
        if not some:
            raise ParameterError(f"{what}='': give the beginning of some names, or leave it out")
        is_chosen_n = np.array([name.startswith(some) for name in names], bool)
        if not is_chosen_n.any():  # spelled otherwise
            begin = composed(some)
            is_chosen_n = np.array([composed(name).startswith(begin) for name in names], bool)
        if not is_chosen_n.any():
            raise ParameterError(f"{what}: no name of the {len(names)} images begins with {some!r}")
        return is_chosen_n
    if some is None:
        return np.ones(len(names), bool)
    if not isinstance(some, Iterable | os.PathLike):
        raise ParameterError(
            f"{what}={some!r}: give the beginning of some names, a list of them, or the file of one"
        )
    row_of = _finder(names)
    wanted = _names_in(some, row_of, names, what) if isinstance(some, os.PathLike) else list(some)
    if not wanted:
        raise ParameterError(f"{what}: 0 of 0 names: give some, or leave it out")
    unknown = [name for name in wanted if row_of(name) is None]
    if unknown:
        raise ParameterError(
            f"{what}: {len(unknown)} of {len(wanted)} names are not in the collection, such as "
            f"{unknown[0]!r}: give names as they are in a list of pairs"
        )
    is_chosen_n = np.zeros(len(names), bool)
    is_chosen_n[[row for row in map(row_of, wanted) if row is not None]] = True
    return is_chosen_n


def _finder(names: Sequence[str]) -> Callable[[str], int | None]:
    """Function that gives the row of a name, by how it is spelled or else with composed letters."""
    exact = {name: row for row, name in enumerate(names)}
    spelled = {composed(name): row for row, name in enumerate(names) if not name.isascii()}

    def row_of(name: str) -> int | None:
        row = exact.get(name)
        return spelled.get(composed(name)) if row is None and isinstance(name, str) else row

    return row_of


def _names_in(
    path: os.PathLike[str],
    row_of: Callable[[str], int | None],
    known: Sequence[str],
    what: str,
) -> list[str]:
    """Names in a file, one a line, or in a model; hloc's lists have the camera after the name."""
    if is_model(path):
        names = list(SfmModel(path).names)
        found = [name for name in names if row_of(name) is not None]
        if names and not found:
            raise ParameterError(
                f"{what}: no image of the model {os.fspath(path)} is in the collection: names are "
                f"such as {names[0]!r} there and {next(iter(known), 'none')!r} here: give the "
                "folder of COLMAP's image_path as root (--root)"
            )
        return found
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise StorageError(f"cannot read {os.fspath(path)}: {error.strerror}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]  # names may hold U+2028
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [
        next((name for name in (line, line.strip()) if row_of(name) is not None), line.split()[0])
        for line in lines
    ]
