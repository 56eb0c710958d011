"""Opening of collections by their paths: the kind of store that is there, or that the name asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from vladkit.errors import ParameterError
from vladkit.store.check import Finding, check
from vladkit.store.lance.check import check_lance
from vladkit.store.lance.place import is_lance, is_remote
from vladkit.store.lance.store import LanceStore
from vladkit.store.postgres.address import is_database, shown_url
from vladkit.store.postgres.store import PostgresStore
from vladkit.store.protocol import CollectionStore
from vladkit.store.store import Store

__all__ = ["check_store", "create_store", "is_there", "open_store"]


def create_store(path: str | os.PathLike[str], **about: Any) -> CollectionStore:
    """Make a collection with some values for `about`, or open the one that is there.

    One of Lance if the path ends in ``.lance`` or is the address of an object store, else a file.
    Raises what `Store.create` raises, and MissingDependencyError without Lance.
    """
    return LanceStore.create(path, **about) if is_lance(path) else Store.create(path, **about)


def open_store(path: str | os.PathLike[str], *, read_only: bool = False) -> CollectionStore:
    """Open an existing collection; raises what `Store.open` and `create_store` raise."""
    if is_database(path):
        if not read_only:
            raise ParameterError(
                f"{shown_url(path)} is in PostgreSQL, where a collection can be searched but not "
                "changed: change its file and export it again, or open it with read_only=True"
            )
        return cast(CollectionStore, PostgresStore.open(os.fspath(path)))
    kind = LanceStore if is_lance(path) else Store
    return kind.open(path, read_only=read_only)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether something is at the path, or a collection at the address, that `create_store` opens.

    Raises
    ------
    StorageError
        If an object store does not answer.
    """
    return LanceStore.is_there(path) if is_remote(path) else os.path.exists(path)


def check_store(
    store: CollectionStore,
    *,
    repair: bool = False,
    begin: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Check a collection, see `vladkit.store.check.check`."""
    if isinstance(store, LanceStore):
        return check_lance(store, repair=repair, progress=progress)
    return check(cast(Store, store), repair=repair, begin=begin, progress=progress)
