"""Folders of indexed images that have moved to another place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from vladkit.core.remote import is_url
from vladkit.errors import NothingToIndexError, ParameterError
from vladkit.store.protocol import CollectionStore

__all__ = ["Relocation", "note_renamed", "relocate"]


@dataclass(frozen=True, slots=True)
class Relocation:
    """Outcome of `relocate`: numbers of images.

    ``moved`` have another folder now; of these ``found`` are there, of the size that they had.
    ``merged`` were in both folders, and are in the new one only.
    """

    moved: int
    found: int
    merged: int


def relocate(
    store: CollectionStore, old: str | os.PathLike[str], new: str | os.PathLike[str]
) -> Relocation:
    """Change the folder that images are looked for in; see `vladkit.Collection.relocate`."""
    if url := next((os.fspath(each) for each in (old, new) if is_url(each)), None):
        raise ParameterError(
            f"{url} is no folder of this machine, which relocate is for: index the images where "
            "they are now"
        )
    before, after = os.path.abspath(old), os.path.realpath(new)  # folders are kept without links
    if not os.path.isdir(after):
        raise NothingToIndexError(
            f"{new} is not a folder: give the one in which the images are now"
        )
    moved = found = merged = 0
    with store.writing():
        # as they were when indexed, or as they are found now if they moved with the file
        folders = [*store.folders(), *((s.source_id, s.folder) for s in store.sources().values())]
        inside: dict[int, str] = {}
        for above in (before, os.path.realpath(old)):
            inside |= {
                source_id: os.path.normpath(os.path.join(after, os.path.relpath(folder, above)))
                for source_id, folder in folders
                if os.path.join(folder, "").startswith(os.path.join(above, ""))
            }
        if not inside:
            known = ", ".join(dict.fromkeys(folder for _, folder in folders))
            raise ParameterError(f"{store.path} has no images of {before}: its folders are {known}")
        for source_id, folder in _in_order(inside, dict(store.folders())):
            rows = [row for row in store.images() if row.source_id == source_id]
            sizes = {row.path: _size(os.path.join(folder, row.path)) for row in rows}
            here = sum(sizes[row.path] == row.n_bytes for row in rows)
            if rows and not here:
                raise NothingToIndexError(
                    f"none of the {len(rows)} images of {before} is in {after}: nothing was changed"
                )
            merged += store.move_source(source_id, folder)
            moved, found = moved + len(rows), found + here
        if not moved:
            raise ParameterError(
                f"{store.path} has no images of {before} yet, or they were removed: nothing was "
                "changed"
            )
        note_renamed(store)
    return Relocation(moved, found, merged)


def note_renamed(store: CollectionStore) -> None:
    """Note that images have other paths or folders, by which clients ask again; in `writing`."""
    store.set_about(renamed=int.from_bytes(os.urandom(6)))


def _in_order(inside: dict[int, str], now: dict[int, str]) -> Iterator[tuple[int, str]]:
    """Sources and their new folders, each when no other is left that is to leave that folder."""
    left = dict(inside)
    while left:
        free = (i for i, new in left.items() if not any(now[j] == new for j in left if j != i))
        source_id = next(free)  # all gain, or lose, the same folders: they form no circle
        yield source_id, left.pop(source_id)


def _size(file: str) -> int | None:
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
