"""Names of images for programs that know one folder of images: hloc, COLMAP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from vladkit.core.names import real
from vladkit.core.remote import is_url
from vladkit.errors import ParameterError
from vladkit.store.rows import ImageRow

__all__ = ["SortKey", "names_below", "natural"]

SortKey: TypeAlias = "tuple[tuple[tuple[int, str], ...], str]"


def names_below(
    rows: Iterable[ImageRow],
    root: str | os.PathLike[str] | None = None,
    *,
    all_below: bool = True,
) -> tuple[str, dict[int, str]]:
    """Name images by their paths from one folder; returns the folder and the names.

    Parameters
    ----------
    rows : iterable of ImageRow
    root : path or None
        That folder. None is the one that they were indexed from, where there is only one, and names
        are then as indexed, such as those of a file of features; else the deepest folder that holds
        them all: images of two sources then differ in name as their files do.
    all_below : bool
        Whether all have to be below `root`; others are left out else.

    Returns
    -------
    root : str
        The folder, absolute: hloc's ``images``, COLMAP's ``image_path``.
    names : dict
        Names by image id, with forward slashes, in natural order. A file that is indexed twice,
        through two sources, is here once.

    Raises
    ------
    ParameterError
        If an image is not below `root`, or without one no folder holds them all.
    """
    listed = list(rows)
    files = {row.image_id: row.file for row in listed}
    folders = {row.folder for row in listed}
    if root is None and len(folders) == 1:
        folder = folders.pop()
        found = {row.image_id: row.path for row in listed}
    else:
        folder = _common(list(files.values())) if root is None else real(root)
        found = {image_id: _relative(file, folder) for image_id, file in files.items()}
    seen: set[str] = set()
    names: dict[int, str] = {}
    for image_id, name in sorted(found.items()):
        if root is not None and name.startswith("../"):
            if not all_below:
                continue
            raise ParameterError(
                f"{files[image_id]} is not below {folder}: give a root that all images are below, "
                "or none"
            )
        if name not in seen:
            seen.add(name)
            names[image_id] = name
    return folder, dict(sorted(names.items(), key=lambda item: natural(item[1])))


def _common(files: list[str]) -> str:
    if not files:
        return os.getcwd()
    if all(map(is_url, files)):
        levels = zip(*(file.split("/")[:-1] for file in files), strict=False)
        shared = [some[0] for some in takewhile(lambda some: len(set(some)) == 1, levels)]
        if len(shared) > 2:  # a scheme, nothing, and a bucket or host
            return "/".join(shared)
        raise ParameterError("no folder holds all images: they are in several buckets")
    if any(map(is_url, files)):
        raise ParameterError("no folder holds all images: some are in a bucket, others here")
    try:
        return os.path.commonpath([os.path.dirname(file) for file in files])
    except ValueError as error:  # Windows' drives
        raise ParameterError(f"no folder holds all images: {error}") from error


def _relative(file: str, folder: str) -> str:
    """Path of a file from a folder, with forward slashes."""
    if is_url(file):
        return file.removeprefix(f"{folder}/") if file.startswith(f"{folder}/") else f"../{file}"
    return Path(os.path.relpath(file, folder)).as_posix()


def natural(name: str) -> SortKey:
    """Sort key that orders numbers in names by value, img2 before img10, and folder by folder.

    Examples
    --------
    >>> sorted(["b/1.jpg", "a10.jpg", "a2.jpg"], key=natural)
    ['a2.jpg', 'a10.jpg', 'b/1.jpg']
    """
    # text and numbers alternate, text first, so that like is compared with like; [0-9], as int()
    # of other digits may fail
    parts = re.split(r"([0-9]+)", name.replace("/", "\0"))
    # a number by the number of its digits: int() refuses thousands of them
    bare = (part.lstrip("0") for part in parts)
    keys = (
        (len(b), b) if i % 2 else (0, p) for i, (b, p) in enumerate(zip(bare, parts, strict=True))
    )
    return tuple(keys), name
