"""Images of a collection that show the same shot, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vladkit.collection.index import Index
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Features, read_gray
from vladkit.geometry.photometric import SIDE, agrees, retouching
from vladkit.geometry.same_shot import Difference, group, mirroring, same_shot
from vladkit.store.rows import ImageRow

__all__ = ["Duplicate", "DuplicateGroup", "Grouping"]

_BATCH: Final = 32
"""Images compared with all others at a time: each batch reads all vectors once."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image that shows the same shot as its group's reference.

    ``kinds`` says how it differs: "identical", or of "flipped", "rotated", "resized", "cropped",
    "brightness", "watermarked", "re-compressed" ("altered" where a file cannot be read to tell
    the last three apart). ``similarity`` is the cosine of their vectors; ``path`` and ``file`` as
    in `vladkit.Hit`.
    """

    path: str
    file: str
    kinds: tuple[str, ...]
    similarity: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images of one shot: as reference the one of most pixels, then bytes; the others by path."""

    path: str
    file: str
    others: tuple[Duplicate, ...]


class Grouping:
    """One search for duplicates in an open collection."""

    def __init__(
        self,
        index: Index,
        *,
        candidates: int,
        flips: bool,
        n_jobs: int | None,
    ) -> None:
        if candidates < 1:
            raise ParameterError(f"candidates={candidates}: give a number of images from 1")
        index.searcher.check_keeps_features()
        self._store = index.store
        self._describer = index.describer
        self._searching = index.searcher
        self._candidates = candidates
        self._flips = flips
        self._n_jobs = resolve_n_jobs(n_jobs)
        self._tried: set[tuple[int, int, bool]] = set()
        self._found: dict[tuple[int, int], Difference] = {}
        self._parent: dict[int, int] = {}  # of an image in its group
        self._files: dict[int, str] = {}

    def run(self, progress: Callable[[int, int], None] | None) -> list[DuplicateGroup]:
        """All groups, by the path of their reference."""
        rows = {row.image_id: row for row in self._store.indexed()}
        ids = list(rows)
        self._files = {i: row.file for i, row in rows.items()}
        for begin in range(0, len(ids), _BATCH):
            batch = self._searching.features(ids[begin : begin + _BATCH])
            for flipped in (False, True)[: 1 + self._flips] if batch else ():
                near = self._near(list(batch.values()), flipped)
                for some, (image_id, features) in zip(near, batch.items(), strict=True):
                    self._compare(image_id, features, some, flipped)
            if progress:
                progress(min(begin + _BATCH, len(ids)), len(ids))
        groups = [self._described([rows[i] for i in members]) for members in group(self._found)]
        return sorted(groups, key=lambda each: (each.path, each.file))

    def _near(self, features: Sequence[Features], flipped: bool) -> list[list[int]]:
        """Images that are near each one, or near it mirrored; in any of four turns."""
        if flipped:
            mirrored = mirroring(self._describer.extractor)
            features = [mirrored(each) for each in features]
        query_qvD = self._describer.query_vectors(features)
        top = self._candidates + 1  # itself is among them
        ranked = self._searching.nearest(query_qvD, top)
        return [[each.image_id for each in first[:top]] for first in ranked]

    def _compare(
        self, image_id: int, features: Features, near: Sequence[int], flipped: bool
    ) -> None:
        """Look at each near image that it was not compared with in this way yet."""
        pairs = [_pair(image_id, i) for i in near if i != image_id]
        pairs = [p for p in pairs if (*p, flipped) not in self._tried and p not in self._found]
        self._tried.update((*pair, flipped) for pair in pairs)
        others = self._searching.features([sum(pair) - image_id for pair in pairs])
        extractor = self._describer.extractor

        accepted: dict[tuple[int, int], Difference] = {}

        def one(i: int) -> None:
            other = others.get(sum(pairs[i]) - image_id)
            if other is None:
                return
            found = same_shot(features, other, extractor, plain=not flipped, flips=flipped)
            if found is not None:
                accepted[pairs[i]] = found

        for_each(one, len(pairs), self._n_jobs)
        for pair in sorted(accepted, key=lambda each: -accepted[each].n_close):
            other_id = sum(pair) - image_id
            if self._joins(image_id, other_id, accepted[pair]):
                self._found[pair] = accepted[pair]

    def _joins(self, a: int, b: int, difference: Difference) -> bool:
        """Whether a pair of like features is to be believed.

        One wrong pair would make one group of two. So whatever joins images that are not in one
        group yet has to agree in its pixels, too, where the files can be read.
        """
        root_a, root_b = self._root(a), self._root(b)
        if root_a == root_b:
            return True
        flipped = "flipped" in difference.kinds
        try:
            first, second = (read_gray(self._files[i], max_side=SIDE) for i in (a, b))
            if not agrees(first, second, difference.affine_23, flipped=flipped):
                return False
        except ImageError:
            pass  # the features alone decide
        self._parent[root_b] = root_a
        return True

    def _root(self, i: int) -> int:
        while (parent := self._parent.get(i, i)) != i:
            self._parent[i] = self._parent.get(parent, parent)
            i = parent
        return i

    def _difference(self, a: Features, b: Features) -> Difference | None:
        return same_shot(a, b, self._describer.extractor, flips=self._flips)

    def _described(self, rows: Sequence[ImageRow]) -> DuplicateGroup:
        """A group, each member compared with the largest image of it."""
        reference, *rest = sorted(rows, key=_by_size)
        features = self._searching.features([reference.image_id])[reference.image_id]
        ids = [row.image_id for row in rows]
        vector_of = self._store.vectors(ids)
        own_D = vector_of[reference.image_id].astype(np.float32)
        others = []
        for row in sorted(rest, key=lambda each: (each.path, each.source_id)):
            other = self._searching.features([row.image_id])[row.image_id]
            difference = self._difference(features, other)
            if difference is None:
                kinds = self._any_found(row.image_id).kinds
            else:
                kinds = self._kinds(reference.file, row.file, difference)
            similarity = round(float(own_D @ vector_of[row.image_id].astype(np.float32)), 6)
            where = row.file
            others.append(Duplicate(row.path, where, kinds, similarity))
        return DuplicateGroup(reference.path, reference.file, tuple(others))

    def _kinds(self, a: str, b: str, difference: Difference) -> tuple[str, ...]:
        """With what the pixels say; where the files cannot be read, what the features said."""
        if difference.kinds == ("identical",):
            return difference.kinds
        try:
            images = read_gray(a, max_side=SIDE), read_gray(b, max_side=SIDE)
        except ImageError:
            return difference.kinds
        flipped = "flipped" in difference.kinds
        found = retouching(*images, difference.affine_23, flipped=flipped)
        rest = tuple(kind for kind in difference.kinds if kind != "altered")
        return rest + found or ("re-compressed",)

    def _any_found(self, image_id: int) -> Difference:
        """How it differs from the member that it was found by: the reference is too different."""
        return next(found for pair, found in self._found.items() if image_id in pair)


def _by_size(row: ImageRow) -> tuple[int, int, str]:
    """The most pixels first, then the largest file."""
    return -(row.width or 0) * (row.height or 0), -row.n_bytes, row.path


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)
