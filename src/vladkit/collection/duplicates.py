"""Near-duplicates in a collection: groups of images that show the same shot."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit.collection.compared import Compared
from vladkit.collection.describer import Describer
from vladkit.collection.index import Index
from vladkit.collection.search_options import check_number
from vladkit.collection.searching import MOST
from vladkit.collection.verdicts import apart_of, digest_of, read_row
from vladkit.core.arrays import AnyArray, Float32Array
from vladkit.core.linalg import on_grid
from vladkit.core.names import identity
from vladkit.core.params import StrOptions, check_parameter
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Features
from vladkit.geometry.photometric import (
    PAGE_SIDE,
    READ_SIDE,
    agrees,
    compare_print,
    is_page,
    retouching,
)
from vladkit.geometry.same_shot import Difference, mirroring, same_shot
from vladkit.images import Image, decode_image
from vladkit.store.rows import ImageRow

__all__ = ["INDIRECT", "KEEP", "KINDS", "Duplicate", "DuplicateGroup", "find_duplicates"]

Pair: TypeAlias = tuple[int, int]
"""Ids of two images, the lower one first."""

_BATCH: Final = 32
"""Number of images compared with all others at a time: each batch reads all vectors once."""

_WORTH_WRITING: Final = 20_000
"""Pairs after which those that were compared are written: a minute and more of comparing."""

_IDENTICAL: Final = ("identical",)

INDIRECT: Final = "indirect"
"""Kind of an image that is a copy of a copy, and by itself is not like the reference."""

KINDS: Final = (
    "identical", "flipped", "rotated", "resized", "cropped", "brightness", "watermarked",
    "re-compressed", "altered", INDIRECT,
)  # fmt: skip
"""Ways in which a copy differs from its reference, see `Duplicate`."""

KEEP: Final = ("largest", "oldest", "first")
"""Rules by which one image of a group is its reference; see `_first_by`."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image that shows the same shot as its group's reference.

    Parameters
    ----------
    path, file : str
        As in `vladkit.Hit`.
    kinds : tuple of str
        How it differs from the reference: "identical", or one or more of "flipped", "rotated",
        "resized", "cropped", "brightness", "watermarked", "re-compressed" ("altered" where a file
        cannot be read to tell the last three apart). With "indirect" it is like another copy, in
        that way, and by itself not like the reference: a crop of a crop, or a wrong guess.
    similarity : float
        Cosine of the two vectors; 1 for identical files that have none, as they have no features.
    width, height : int or None
        Size in px, upright.
    n_bytes : int
        Size of the file.
    """

    path: str
    file: str
    kinds: tuple[str, ...]
    similarity: float
    width: int | None
    height: int | None
    n_bytes: int


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images of one shot: the reference, and the others.

    Parameters
    ----------
    path, file : str
        The reference, which `keep` of `Collection.duplicates` chooses. As in `vladkit.Hit`.
    others : tuple of Duplicate
        By path.
    width, height : int or None
        Size of the reference in px, upright.
    n_bytes : int
        Size of the reference's file.
    mtime_ns : int
        Time of its change when it was indexed, in ns since 1970.
    """

    path: str
    file: str
    others: tuple[Duplicate, ...]
    width: int | None
    height: int | None
    n_bytes: int
    mtime_ns: int


def find_duplicates(
    index: Index,
    *,
    candidates: int,
    flips: bool,
    keep: str = "largest",
    against: Index | None = None,
    n_jobs: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[DuplicateGroup]:
    """Find the images of a collection that show the same shot; see `Collection.duplicates`.

    One name of a file stands for all (links are no copies), and then one of the files of the same
    bytes, those without features among them. Each image is then compared with its nearest ones,
    feature by feature.
    """
    check_number("candidates", candidates, 1)
    check_parameter("keep", keep, StrOptions(*KEEP))
    finder: _Finder
    if against is None:
        index.searcher.check_keeps_features()
        finder = _Finder(index, _rows(index), _within([index]), flips, resolve_n_jobs(n_jobs))
    else:
        finder = _FinderAgainst(index, against, flips, resolve_n_jobs(n_jobs))
    rows = finder.rows
    finder.leave_out_links()
    finder.join_equal_files()
    ids = [
        i for i, row in rows.items() if i > 0 and row.skipped is None and i not in finder.first_of
    ]
    try:
        for begin in range(0, len(ids), _BATCH):
            finder.join_copies(ids[begin : begin + _BATCH], candidates)
            finder.compared.write(least=_WORTH_WRITING)
            if progress:
                progress(len(rows) - max(0, len(ids) - begin - _BATCH), len(rows))
    finally:  # also when interrupted
        finder.compared.write()
    members = map(finder.told_apart, finder.groups.members())
    groups = [finder.described(*each, keep) for each in members if all(each)]
    return sorted(groups, key=lambda each: (each.path, each.file))


def _within(indexes: Sequence[Index]) -> list[str] | None:
    """URLs below which images are fetched, among folders that this user gave; None for any."""
    if all(index.trust for index in indexes):
        return None
    return [folder for index in indexes for folder in index.store.own_folders()]


def _rows(index: Index) -> dict[int, ImageRow]:
    """Images by id, without empty files, which are all alike."""
    rows = index.store.images()
    return {row.image_id: row for row in rows if row.skipped is None or row.n_bytes > 0}


_NOTHING: Final[frozenset[int]] = frozenset()


class _Groups:
    """Images joined into groups pair by pair, and how the images of each pair differ.

    `apart` are images, by the id of another, that are never in one group with it.
    """

    def __init__(self, apart: Mapping[int, set[int]]) -> None:
        self.kinds: dict[Pair, tuple[str, ...]] = {}
        self._apart = apart
        self._group_of: dict[int, list[int]] = {}

    def are_joined(self, a: int, b: int) -> bool:
        """Whether two images are in one group."""
        return a in self._group_of and self._group_of[a] is self._group_of.get(b)

    def join(self, a: int, b: int, kinds: tuple[str, ...]) -> None:
        """Make one group of the groups of two images, unless some of them are to be apart."""
        if self._apart:
            first, second = self._group_of.get(a, [a]), self._group_of.get(b, [b])
            if any(not self._apart.get(i, _NOTHING).isdisjoint(second) for i in first):
                return
        self.kinds[_pair(a, b)] = kinds
        if not self.are_joined(a, b):
            group = self._group_of.setdefault(a, [a])
            group += self._group_of.get(b, [b])
            self._group_of.update(dict.fromkeys(group, group))

    def members(self) -> list[list[int]]:
        """Image ids of each group, ascending."""
        groups = {id(group): group for group in self._group_of.values()}
        return [sorted(group) for group in groups.values()]


class _Finder:
    """State of one search for duplicates."""

    def __init__(
        self,
        index: Index,
        rows: Mapping[int, ImageRow],
        within: Sequence[str] | None,
        flips: bool,
        n_threads: int,
    ) -> None:
        self._store = index.store
        self._describer = index.describer
        self._searcher = index.searcher
        self.rows = rows
        self._flips = flips
        self._n_threads = n_threads
        self.compared = self._compared()
        self._within = within
        self._sure: set[Pair] = set()  # pairs that were believed, and joined two groups
        self._tried: set[tuple[Pair, bool]] = set(self.compared.different)
        self.groups = _Groups(apart_of(index.store, rows, self._within))
        # of files with the same bytes, and of names of one file; the first has no entry
        self.first_of: dict[int, int] = {}

    def _compared(self) -> Compared:
        """Pairs that are known to be no copies."""
        return Compared.read(self._store, self.rows)

    def leave_out_links(self) -> None:
        """Let one name of each file stand for all: nobody may take a file for a copy of itself."""
        names = defaultdict(list)
        for i, row in self.rows.items():
            names[identity(row.file) or i].append(i)
        for ids in names.values():
            if len(ids) > 1:
                first, *links = sorted(
                    ids, key=lambda i: (i > 0, os.path.islink(self.rows[i].file))
                )
                self.first_of |= dict.fromkeys(links, first)

    def join_equal_files(self) -> None:
        """Join images whose files have the same bytes, as they were indexed.

        Only files of equal size and equal vectors, or without one, are read to tell.
        """
        alike = defaultdict(list)
        for i, row in self.rows.items():
            if i not in self.first_of:
                alike[row.n_bytes, row.width, row.height].append(i)
        ids = [i for each in alike.values() if len(each) > 1 for i in each]
        same = defaultdict(list)
        for begin in range(0, len(ids), _BATCH):
            some = ids[begin : begin + _BATCH]
            for i, mark in self._marks(some).items():
                same[self.rows[i].n_bytes, mark].append(i)
        for some in same.values():
            first_with: dict[bytes, int] = {}
            for i in some if len(some) > 1 else ():
                found = digest_of(self.rows[i], self._within)
                first = first_with.setdefault(found, i) if found else i
                if first != i:
                    self.first_of[i] = first
                    self.groups.join(first, i, _IDENTICAL)
        self.first_of = {i: self.first_of.get(first, first) for i, first in self.first_of.items()}

    def _marks(self, ids: Sequence[int]) -> dict[int, int]:
        """Number for each image, equal where files of the same bytes have been indexed."""
        vectors = self._vectors(ids)
        return {i: hash(vectors[i].tobytes() if i in vectors else b"") for i in ids}

    def join_copies(self, ids: Sequence[int], candidates: int) -> None:
        """Compare some images with the nearest ones of each, and join the copies."""
        batch = self._features(ids)
        for flipped in (False, True)[: 1 + self._flips] if batch else ():
            nearest = self._nearest(batch, flipped, candidates)
            for (image_id, features), near in zip(batch.items(), nearest, strict=True):
                for other_id, difference in self._copies(image_id, features, near, flipped):
                    if self._is_sure(image_id, other_id, difference):
                        self.groups.join(image_id, other_id, difference.kinds)

    def _nearest(
        self, batch: dict[int, Features], flipped: bool, candidates: int
    ) -> list[list[int]]:
        """Ids of images that are near each one, or near it mirrored; in any quarter turn.

        Of vectors that are given only those of the images as they are, for mirrored copies, too.
        """
        query_qvD = self._queries(batch, flipped, self._describer)
        top = candidates + 1  # itself is among them
        ranked = self._searcher.nearest(query_qvD, top)
        return [
            [
                self.first_of.get(r.image_id, r.image_id)
                for r in self._searcher.settled(first, top)[:top]
            ]
            for first in ranked
        ]

    def _queries(
        self, batch: dict[int, Features], flipped: bool, describer: Describer
    ) -> Float32Array:
        """Vectors (q, v, D) of images to find near ones by."""
        features = list(batch.values())
        if describer.has_vectors:
            stored = self._store.vectors(list(batch))
            zeros_D = np.zeros(describer.n_dimensions, np.float32)
            rows = [stored.get(i, zeros_D) for i in batch]
            return np.stack(rows).astype(np.float32)[:, None]
        if flipped:
            mirrored = mirroring(self._describer.extractor)
            features = [mirrored(each) for each in features]
        return describer.query_vectors(features)

    def _copies(
        self, image_id: int, features: Features, near: Sequence[int], flipped: bool
    ) -> list[tuple[int, Difference]]:
        """Near images that are copies, the best match first; each pair is tried once each way."""
        pairs = {i: (_pair(image_id, i), flipped) for i in near if i != image_id}
        other_ids = [
            i for i, (pair, _) in pairs.items()
            if (pair, flipped) not in self._tried and pair not in self.groups.kinds
        ]  # fmt: skip
        self._tried.update(pairs.values())
        others = self._features(other_ids)
        extractor = self._describer.extractor
        found: dict[int, Difference] = {}

        def one(n: int) -> None:
            other = others.get(other_ids[n])
            if other is None:
                return
            difference = same_shot(features, other, extractor, plain=not flipped, flips=flipped)
            if difference is None:
                self.compared.different.add(pairs[other_ids[n]])
            else:
                found[other_ids[n]] = difference

        for_each(one, len(other_ids), self._n_threads)
        copies = [(i, found[i]) for i in other_ids if i in found]
        return sorted(copies, key=lambda each: -each[1].n_close)

    def _is_sure(self, a: int, b: int, difference: Difference) -> bool:
        """Whether a pair of like features is to be believed.

        One wrong pair would make one group of two. So a pair that joins images of different groups
        has to agree in its pixels, too, where the files can be read.
        """
        if self.groups.are_joined(a, b):
            return True
        pair = self._images(a, b, READ_SIDE)
        if pair is not None:  # or else the features alone decide
            flipped = "flipped" in difference.kinds
            if not agrees(*pair, difference.affine_23, flipped=flipped):
                return False
            if self._print(a, b, pair, difference) == "different":
                return False
        self._sure.add(_pair(a, b))
        return True

    def _print(self, a: int, b: int, pair: tuple[Image, Image], difference: Difference) -> str:
        """Difference of what is written on two images, as `compare_print`, if both are pages."""
        if not all(map(is_page, pair)):
            return "same"
        pages = self._images(a, b, PAGE_SIDE) or pair
        flipped = "flipped" in difference.kinds
        return compare_print(*pages, difference.affine_23, flipped=flipped)

    def _images(self, a: int, b: int, max_side: int) -> tuple[Image, Image] | None:
        """Two images, gray; None if one cannot be read."""
        try:
            first, second = (
                decode_image(read_row(self.rows[i], self._within), max_side=max_side)
                for i in (a, b)
            )
        except ImageError:
            return None
        return first, second

    def told_apart(self, ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """Images of a group that may be its reference, and those that may be copies."""
        return list(ids), list(ids)

    def described(
        self, references: Sequence[int], copies: Sequence[int], keep: str
    ) -> DuplicateGroup:
        """A group, each copy compared with the reference that `keep` chooses."""
        first = min(references, key=lambda i: _first_by(keep, self.rows[i]))
        rest = [i for i in copies if i != first]
        found = self._vectors([first, *rest]).items()
        vector_of = {i: on_grid(vector_D) for i, vector_D in found}
        others = []
        for i in sorted(rest, key=lambda i: (self.rows[i].path, self.rows[i].source_id)):
            similarity = 1.0
            if {first, i} <= vector_of.keys():
                similarity = float(vector_of[first] @ vector_of[i])
                # -1 for a damaged vector, as in every ranking
                similarity = round(similarity, 6) if abs(similarity) < MOST else -1.0
            row, kinds = self.rows[i], self._kinds(first, i)
            size = row.width, row.height, row.n_bytes
            others.append(Duplicate(row.path, row.file, kinds, similarity, *size))
        row = self.rows[first]
        size = row.width, row.height, row.n_bytes
        return DuplicateGroup(row.path, row.file, tuple(others), *size, row.mtime_ns)

    def _kinds(self, a: int, b: int) -> tuple[str, ...]:
        """How two images of a group differ, as the pixels tell, or else the features."""
        if self._are_equal(a, b):
            return _IDENTICAL
        features = self._features([a, b])
        difference = None
        if len(features) == 2:
            extractor = self._describer.extractor
            difference = same_shot(features[a], features[b], extractor, flips=self._flips)
        found = _pair(self.first_of.get(a, a), self.first_of.get(b, b))
        is_sure = found in self._sure
        if difference is None:  # too different: as from the one that it was found by
            return self.groups.kinds[found] if is_sure else self._indirect(b)
        if difference.kinds == _IDENTICAL:
            return _IDENTICAL
        pair = self._images(a, b, READ_SIDE)
        if pair is None:
            return difference.kinds
        flipped = "flipped" in difference.kinds
        if not is_sure and not agrees(*pair, difference.affine_23, flipped=flipped):
            return self._indirect(b)
        printed = self._print(a, b, pair, difference)
        if printed == "different":  # each is a copy of the form without what is written on it
            return self._indirect(b)
        seen = retouching(*pair, difference.affine_23, flipped=flipped)
        if "watermarked" not in seen and printed == "added":
            seen += ("watermarked",)
        rest = tuple(kind for kind in difference.kinds if kind != "altered")
        return rest + seen or ("re-compressed",)

    def _indirect(self, b: int) -> tuple[str, ...]:
        """How an image differs from the one that it was found by."""
        b = self.first_of.get(b, b)
        found_by = (
            kinds
            for pair, kinds in self.groups.kinds.items()
            if b in pair and not self._are_equal(*pair)
        )
        return (*next(found_by), INDIRECT)

    def _are_equal(self, a: int, b: int) -> bool:
        """Whether the files of two images have the same bytes."""
        return self.first_of.get(a, a) == self.first_of.get(b, b)

    def _vectors(self, ids: Sequence[int]) -> dict[int, AnyArray]:
        return self._store.vectors(ids)

    def _features(self, ids: Sequence[int]) -> dict[int, Features]:
        return self._searcher.features(ids)


class _FinderAgainst(_Finder):
    """State of a search for copies of another collection's images, whose ids are below 0 here."""

    def __init__(self, index: Index, reference: Index, flips: bool, n_threads: int) -> None:
        for each in (index, reference):
            each.searcher.check_keeps_features()
        own, theirs = index.describer, reference.describer
        compared = ("features", "dimensions", "compare", "network")
        for name in (*compared, "vectors", "vector_network", "vector_dimensions"):
            if getattr(own.recipe, name) != getattr(theirs.recipe, name):
                raise ParameterError(
                    f"{own.name} has features of {own.recipe.features}, {theirs.name} those of "
                    f"{theirs.recipe.features}: they cannot be compared"
                )
        if own.has_vectors and (own.whitening or theirs.whitening):
            raise ParameterError(
                f"{own.name} and {theirs.name} have vectors that are whitened each in its own way: "
                "compare collections with the vectors as they were given"
            )
        rows = {-i: row for i, row in _rows(reference).items()} | _rows(index)
        super().__init__(index, rows, _within([index, reference]), flips, n_threads)
        self._reference = reference

    def _compared(self) -> Compared:
        return Compared.none()  # ids of two collections

    def _marks(self, ids: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(ids, 0)  # vectors are those of two codebooks

    def _nearest(
        self, batch: dict[int, Features], flipped: bool, candidates: int
    ) -> list[list[int]]:
        query_qvD = self._queries(batch, flipped, self._reference.describer)
        searcher = self._reference.searcher
        ranked = searcher.nearest(query_qvD, candidates)
        return [
            [
                self.first_of.get(-r.image_id, -r.image_id)
                for r in searcher.settled(first, candidates)[:candidates]
            ]
            for first in ranked
        ]

    def told_apart(self, ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """Images of a group that are the reference's, and the others."""
        return [i for i in ids if i < 0], [i for i in ids if i > 0]

    def _vectors(self, ids: Sequence[int]) -> dict[int, AnyArray]:
        found = self._reference.store.vectors([-i for i in ids if i < 0])
        vectors = {-i: vector_D for i, vector_D in found.items()}
        if self._describer.has_vectors:
            return vectors | super()._vectors([i for i in ids if i > 0])
        features = super()._features([i for i in ids if i > 0])
        if features:
            vector_tD = self._reference.describer.vectors(list(features.values()))
            vectors |= dict(zip(features, vector_tD, strict=True))
        return vectors

    def _features(self, ids: Sequence[int]) -> dict[int, Features]:
        found = self._reference.searcher.features([-i for i in ids if i < 0])
        own = super()._features([i for i in ids if i > 0])
        both = {-i: features for i, features in found.items()} | own
        return {i: both[i] for i in ids if i in both}


def _first_by(keep: str, row: ImageRow) -> tuple[Any, ...]:
    """Key to sort by: images of the most pixels and then bytes first; by age; or by path."""
    size = -(row.width or 0) * (row.height or 0), -row.n_bytes
    order = {"largest": size, "oldest": (row.mtime_ns, *size), "first": (row.source_id,)}
    return *order[keep], row.path


def _pair(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)
