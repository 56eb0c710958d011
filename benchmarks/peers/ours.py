"""vladkit as its command does it by default, and by vectors and match codes only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vladkit import Collection


class Ours:
    """A collection of vladkit.

    Parameters
    ----------
    rerank : int or None
        Images that are matched feature by feature; None is the default.
    """

    def __init__(self, rerank: int | None = None) -> None:
        self.rerank = rerank

    def index(self, files: Sequence[str], folder: Path) -> None:
        """Index images."""
        self.path = folder / "photos.vlad"
        with Collection.create(self.path) as collection:
            collection.add(files)
        self.collection = Collection.open(self.path, read_only=True)
        self.files = {row.image_id: row.file for row in self.collection.images()}

    def n_bytes(self) -> int:
        """Size of the index on disk."""
        return self.path.stat().st_size

    def rank(self, query: str) -> list[str]:
        """Files, the most similar first."""
        options = {} if self.rerank is None else {"rerank": self.rerank}
        hits = self.collection.search(query, 0, **options)
        return [self.files[hit.image_id] for hit in hits]
