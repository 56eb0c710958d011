"""Images of a collection file by the paths that people give: as indexed, or where they are now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from vladkit.core.names import absolute, composed, is_text, real
from vladkit.core.remote import is_url, local_path
from vladkit.errors import ParameterError
from vladkit.store.protocol import CollectionStore
from vladkit.store.rows import ImageRow

__all__ = ["find_image", "ids_below", "ids_under"]


def find_image(store: CollectionStore, name: str | os.PathLike[str]) -> ImageRow | None:
    """Find the image that was indexed by a path, or that is at it now; None if there is none.

    Raises
    ------
    ParameterError
        If several sources have an image of that path.
    """
    rows = _rows_at(store, os.fspath(name))
    if not rows and not os.fspath(name).isascii():
        rows = _rows_at(store, os.fspath(name), composed)
    files = {row.file for row in rows}
    if len(files) > 1:
        raise ParameterError(
            f"{len(rows)} images of {store.path} are called {name}: give one of "
            + ", ".join(sorted(files)[:3])
        )
    return rows[0] if rows else None


def _rows_at(
    store: CollectionStore, name: str, spelled: Callable[[str], str] | None = None
) -> list[ImageRow]:
    """Images whose path or file that is, or is when both are `spelled` in one way."""
    rows = store.by_path(_with_slashes(name), spelled=spelled)
    if rows:
        return rows
    spell = spelled or str
    files = {spell(absolute(name)), spell(real(name))}
    for source in store.sources().values():
        folder = spell(os.path.join(source.folder, ""))
        inside = {f.removeprefix(folder) for f in files if f.startswith(folder)}
        for path in map(_with_slashes, inside):
            rows += store.by_path(path, source.source_id, spelled=spelled)
    return rows


def ids_below(store: CollectionStore, paths: Iterable[str | os.PathLike[str]]) -> set[int]:
    """Ids of images by path; a folder stands for all that is below it.

    Raises
    ------
    ParameterError
        If no image, skipped ones included, is at one of the paths.
    """
    ids, unknown = _found_below(store, paths)
    if unknown:
        some = ", ".join(sorted(unknown)[:3]) + (", ..." if len(unknown) > 3 else "")
        raise ParameterError(
            f"not in {store.path}: {some}: give paths as `vladkit info --images` "
            "lists them, or files; nothing was done"
        )
    return ids


def _found_below(
    store: CollectionStore, paths: Iterable[str | os.PathLike[str]], *, from_here: bool = True
) -> tuple[set[int], list[str]]:
    """Ids of the images at paths or below them, and the paths that have none."""
    rows = [(row.image_id, row.path, row.file) for row in store.images()]
    ids: set[int] = set()
    unknown: list[str] = []
    for given in dict.fromkeys(os.fspath(path) for path in paths):
        found = _below(given, rows, _files(given, from_here))
        if not found and not given.isascii():
            spelled = [(i, composed(path), composed(file)) for i, path, file in rows]
            found = _below(composed(given), spelled, _files(composed(given), from_here))
        ids |= found
        if not found:
            unknown.append(given)
    return ids, unknown


def ids_under(
    store: CollectionStore, folder: str | os.PathLike[str], *, from_here: bool = True
) -> set[int]:
    """Ids of the images of a folder, as `ids_below`; by ranges of paths, so that it takes no time
    for the other images.

    Without `from_here` a path is a name alone: neither the current folder nor links count, and
    nothing is asked of the disk.

    Raises
    ------
    ParameterError
        If no image, skipped ones included, is there; or if it is the name of several folders, and
        none is there from the current one.
    """
    name = _with_slashes(os.fspath(folder)).rstrip("/")
    files = _files(folder, from_here)
    ids: set[int] = set()
    named: dict[str, set[int]] = {}
    for source in store.sources().values():
        below = os.path.join(source.folder, "")
        if any(below.startswith(os.path.join(file, "")) for file in files):
            ids |= store.ids_in(source.source_id, "")
            continue
        inside = {f.removeprefix(below) for f in files if f.startswith(below)}
        for path in filter(is_text, map(_with_slashes, inside)):
            ids |= store.ids_in(source.source_id, path)
        if is_text(name) and (found := store.ids_in(source.source_id, name)):
            named.setdefault(below, set()).update(found)
    ids = ids or _named_once(name, named)
    if not ids:  # spelled otherwise
        ids, unknown = _found_below(store, [folder], from_here=from_here)
        if unknown:
            raise ParameterError(
                f"under={unknown[0]}: not in {store.path}: give paths as `vladkit info --images` "
                "lists them, or as they are on disk"
            )
    return ids


def _files(path: str | os.PathLike[str], from_here: bool) -> tuple[str, ...]:
    """Absolute paths that a path may stand for, itself before where it leads; see `ids_under`."""
    if from_here:
        return tuple(dict.fromkeys((absolute(path), real(path))))
    name = local_path(os.fspath(path))
    return (absolute(name),) if is_url(name) or os.path.isabs(name) else ()


def _below(given: str, rows: Sequence[tuple[int, str, str]], files: Sequence[str]) -> set[int]:
    """Ids of the rows (id, path, file) that are at a path, or below it.

    That is the first of `files` that there are rows of: a link may be indexed, and where it leads.

    Raises
    ------
    ParameterError
        If that is the path of images in several folders, and of no file.
    """
    name = _with_slashes(given).rstrip("/")
    for file in files:
        below = os.path.join(file, "")
        there = {i for i, _, where in rows if where == file or where.startswith(below)}
        if there:
            return there
    named: dict[str, set[int]] = {}
    for image_id, path, where in rows:
        if path == name or path.startswith(name + "/"):
            named.setdefault(where[: len(where) - len(path)], set()).add(image_id)
    return _named_once(name, named)


def _named_once(name: str, named: dict[str, set[int]]) -> set[int]:
    """Ids of the one folder that has a name; ParameterError if several have it."""
    if len(named) > 1:
        raise ParameterError(
            f"{name} is in several folders: give one of "
            + ", ".join(sorted(folder + name for folder in named)[:3])
        )
    return set().union(*named.values())


def _with_slashes(path: str) -> str:
    return path.replace(os.sep, "/")
