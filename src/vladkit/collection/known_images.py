"""Images that a collection knows, by the files that they were indexed from."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from vladkit.collection.discover import SourceFile
from vladkit.core.names import composed, identity
from vladkit.core.remote import joined
from vladkit.store.protocol import CollectionStore
from vladkit.store.relocate import note_renamed
from vladkit.store.rows import ImageRow

__all__ = ["known_images", "names_of_known", "respell"]


def known_images(store: CollectionStore) -> dict[str, ImageRow]:
    """Rows by file, or for features of other programs by where in their file they are."""
    roots = {i: source.root for i, source in store.sources().items()}
    return {
        joined(roots[row.source_id], row.path): row
        for row in store.images()
        if row.source_id in roots  # else the file is damaged, as `check` says
    }


def names_of_known(
    known: Mapping[str, ImageRow], found: Iterable[SourceFile]
) -> dict[SourceFile, ImageRow]:
    """Files that links make further names of images, with the rows by which these are known."""
    new = defaultdict(list)
    for each in found:
        if each.is_local and each.file not in known:
            new[each.status()].append(each)
    names: dict[SourceFile, ImageRow] = {}
    for file, row in known.items() if new else ():
        for each in new.get((row.n_bytes, row.mtime_ns), ()):
            if (key := identity(each.file)) is not None and key == identity(file):
                names.setdefault(each, row)
    return names


def respell(
    store: CollectionStore,
    known: dict[str, ImageRow],
    found: Iterable[SourceFile],
    files: Collection[str],
) -> None:
    """Recognise files whose names are spelled otherwise than when they were indexed.

    Letters may be composed or decomposed (NFC, NFD), as a file system or a copy has them. `files`
    are the paths of those that were `found`; `known` gets the row of each by its present name.
    """
    others = {composed(f): f for f in known if not f.isascii() and f not in files}
    roots = {i: source.root for i, source in store.sources().items()} if others else {}
    for each in found if others else ():
        old = others.get(composed(each.file))
        if old is None or each.file in known:
            continue
        row = known[old]
        if os.path.lexists(old):  # the file system knows both spellings; or it is another file
            if identity(old) == identity(each.file):
                known[each.file] = row
        elif roots[row.source_id] == each.root:
            with store.writing():
                is_there = store.images_by_id([row.image_id]).get(row.image_id) == row
                if is_there:  # its id may be that of another image by now
                    store.rename(row.image_id, each.path)
                    note_renamed(store)
            if is_there:
                known[each.file] = replace(known.pop(old), path=each.path)
