"""Pairs of images that are worth matching with each other, for reconstruction.

Axes: ``n`` images, in the natural order of their names (rows); ``p`` pairs; ``m`` candidates,
each a pair and who asks for it. A pair's key is ``first * n + second``, of rows.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.collection.index import Index
from vladkit.collection.pair_list import Names, Pair, Pairs, chosen, is_listed
from vladkit.collection.positions import Positions, nearest_places, places_of
from vladkit.collection.ranked import Ranked
from vladkit.collection.search_options import MODEL, check_number
from vladkit.collection.searching import SHORTLIST
from vladkit.collection.sequences import following
from vladkit.core.arrays import Float32Array, Int64Array
from vladkit.core.names import quoted
from vladkit.core.params import Interval, check_parameter
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.errors import FileFormatError, ParameterError
from vladkit.features import Features
from vladkit.geometry.verification import Model, rescore
from vladkit.store.exact import best, score_all
from vladkit.store.naming import names_below

if TYPE_CHECKING:
    from vladkit.collection.indexing import Progress

Float64Array: TypeAlias = npt.NDArray[np.float64]

__all__ = ["Pair", "Pairs", "select_pairs"]

_MOST_QUERIES: Final = 256
"""Images compared with all others at a time: each batch reads all vectors once."""

_VALUES: Final = 2**24
"""Most values in a batch's vectors and in its scores: 64 MB each."""

_Other: TypeAlias = tuple[float, int, float]
"""Score, negative, row of another image, and similarity: sorted, the best comes first, ties by row.
"""

_MATCHED: Final = 4
"""Images whose features are held at a time, for each thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Pairs with those who ask for them (rows or components), an asker's best first."""

    key_m: Int64Array
    similarity_m: Float32Array
    score_m: Float64Array
    asker_m: Int64Array

    @classmethod
    def join(cls, parts: Sequence[_Candidates]) -> _Candidates:
        if not parts:
            none = np.empty(0)
            none_i = none.astype(np.int64)
            return cls(none_i, none.astype(np.float32), none, none_i)
        return cls(
            np.concatenate([part.key_m for part in parts]),
            np.concatenate([part.similarity_m for part in parts]),
            np.concatenate([part.score_m for part in parts]),
            np.concatenate([part.asker_m for part in parts]),
        )

    def __getitem__(self, chosen: Int64Array) -> _Candidates:
        return _Candidates(
            self.key_m[chosen],
            self.similarity_m[chosen],
            self.score_m[chosen],
            self.asker_m[chosen],
        )


def select_pairs(
    index: Index,
    top: int,
    *,
    rerank: int,
    model: Model,
    min_score: float | None,
    sequential: int,
    quadratic: bool,
    rigs: bool,
    gps: int,
    positions: Positions,
    connected: bool,
    rotated: bool,
    queries: Names,
    database: Names,
    root: str | os.PathLike[str] | None,
    n_jobs: int | None,
    progress: Progress | None,
) -> Pairs:
    """Choose pairs; see `vladkit.Collection.pairs`. Within `Store.reading`."""
    index.check_ready()
    numbers = {"top": top, "rerank": rerank, "sequential": sequential, "gps": gps}
    for name, value in numbers.items():
        check_number(name, value)
    check_parameter("model", model, MODEL)
    if not top and (rerank or not sequential + gps):
        raise ParameterError("top=0 leaves no similar images: give top, or sequential or gps alone")
    if (quadratic or rigs) and not sequential:
        raise ParameterError("quadratic and rigs say which images follow: give sequential, too")
    if min_score is not None and min_score not in Interval(float, -1, 1):
        raise ParameterError(f"min_score={min_score!r}: give a cosine, -1 to 1")
    if connected and (queries is not None or database is not None):
        raise ParameterError("connected joins all images: leave queries and database out")
    if rotated and index.describer.has_vectors:
        raise ParameterError(
            f"rotated: vectors of {index.store.path} are of the images as they are: leave it out"
        )
    if rerank or rotated:
        index.searcher.check_keeps_features()
    images = _Images(index, root, rotated, queries, database, progress)
    matching = _Matching(images, model, resolve_n_jobs(n_jobs))
    found = []
    if top:
        nearest = images.nearest(max(top, rerank), min_score)
        found.append(matching.best(nearest, top, rerank))
    if sequential:
        found.append(images.compared(following(images.names, sequential, quadratic, rigs)))
    if gps:
        place_n3 = places_of(images.names, positions)
        near = nearest_places(place_n3, gps, images.asks_n, images.answers_n)
        found.append(images.compared(near))
    joined = _Candidates.join(found)
    is_any_n, is_listed_n = np.ones(images.n, bool), np.array([*map(is_listed, images.names)], bool)
    for among_n in (is_any_n, is_listed_n) if connected else ():
        label_n = _labels(joined, among_n)
        while label_n.max(initial=0) > 0:
            crossing = images.crossing(label_n, max(top, rerank, 1))
            found.append(matching.best(crossing, max(top, 1), rerank))
            joined = _Candidates.join(found)
            before, label_n = label_n, _labels(joined, among_n)
            assert label_n.max() < before.max(), "every group but one was joined to another"
    key_p, first_p = np.unique(joined.key_m, return_index=True)
    row_p2 = np.stack(np.divmod(key_p, max(images.n, 1)), axis=1)
    second_p = images.asks_n[row_p2[:, 1]] & ~images.asks_n[row_p2[:, 0]]
    row_p2[second_p] = row_p2[second_p, ::-1]
    order_p = np.lexsort((row_p2[:, 1], row_p2[:, 0]))
    inliers_p = np.array([matching.inliers.get(key, -1) for key in key_p.tolist()], np.int64)
    return Pairs(
        root=images.root,
        names=tuple(images.names),
        row_p2=row_p2[order_p],
        similarity_p=joined.similarity_m[first_p][order_p],
        inliers_p=inliers_p[order_p],
        n_components=int(_labels(joined, is_any_n).max(initial=-1)) + 1,
    )


def _labels(chosen: _Candidates, among_n: npt.NDArray[np.bool_]) -> Int64Array:
    """Component of each row, from 0, by pairs of such rows alone; -1 for others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(among_n)
    a, b = np.divmod(np.unique(chosen.key_m), max(n, 1))
    place_n = np.cumsum(among_n) - 1
    ends = tuple(place_n[each[among_n[a] & among_n[b]]] for each in (a, b))
    m = int(among_n.sum())
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(m, m))
    label_n = np.full(n, -1)
    label_n[among_n] = connected_components(graph, directed=False)[1]
    return label_n


class _Images:
    """The images of a collection in natural order of their names, compared by their vectors."""

    def __init__(
        self,
        index: Index,
        root: str | os.PathLike[str] | None,
        rotated: bool,
        queries: Names,
        database: Names,
        progress: Progress | None,
    ) -> None:
        store = index.store
        self.index = index
        self.progress = progress
        self._rotated = rotated
        self._shortlist = 0 if index.describer.asmk is None else SHORTLIST
        self.root, name_of = names_below(store.indexed(), root)
        self._spare = store.count()[0] - len(name_of)  # files that are indexed twice
        self.ids = list(name_of)
        self.names = list(name_of.values())
        self.n = len(self.ids)
        self.row_of = {image_id: row for row, image_id in enumerate(self.ids)}
        self.asks_n = chosen(self.names, queries, "queries")
        self.answers_n = chosen(self.names, database, "database")

    def _batches(self, rows: Sequence[int], name: str = "") -> Iterator[Sequence[int]]:
        """Batches whose vectors and scores stay small; with a name their progress is reported."""
        views = 4 if self._rotated else 1
        values = views * max(self.index.store.layout.n_dimensions, self.n)
        step = max(1, min(_MOST_QUERIES, _VALUES // values))
        for begin in range(0, len(rows), step):
            yield rows[begin : begin + step]
            if self.progress and name:
                self.progress(name, min(begin + step, len(rows)), len(rows))

    def _vectors(self, rows: Iterable[int]) -> dict[int, Float32Array]:
        """Stored vectors by row."""
        wanted = {self.ids[row]: row for row in rows}
        found = self.index.store.vectors(list(wanted))
        if len(found) != len(wanted):
            raise FileFormatError(
                f"{self.index.store.path} lacks vectors of {len(wanted) - len(found)} images: run "
                f"vladkit check {quoted(self.index.store.path)} --repair"
            )
        return {wanted[i]: vector_D.astype(np.float32) for i, vector_D in found.items()}

    def _queries(self, rows: Sequence[int]) -> Float32Array:
        """Stored vectors of images, with `rotated` also in quarter turns: (q, v, D)."""
        vector_of = self._vectors(rows)
        stored_qvD = np.stack([vector_of[row] for row in rows])[:, None]
        if not self._rotated or not self.index.describer.recipe.is_directional:
            return stored_qvD
        query_qvD = np.repeat(stored_qvD, 4, axis=1)
        features = self.index.searcher.features([self.ids[row] for row in rows])
        known_q = [q for q, row in enumerate(rows) if self.ids[row] in features]
        if known_q:
            made_qvD = self.index.describer.query_vectors(
                [features[self.ids[rows[q]]] for q in known_q]
            )
            query_qvD[known_q, 1:] = made_qvD[:, 1:]
        return query_qvD

    def _candidates(
        self, found: Sequence[tuple[int, int, float, float]], asker: int
    ) -> _Candidates:
        """Candidates of one asker from (row, row, similarity, score)."""
        row_m2 = np.array([each[:2] for each in found], np.int64).reshape(-1, 2)
        return _Candidates(
            row_m2.min(axis=1, initial=self.n) * self.n + row_m2.max(axis=1, initial=0),
            np.array([each[2] for each in found], np.float32),
            np.array([each[3] for each in found], np.float64),
            np.full(len(found), asker, np.int64),
        )

    def nearest(self, n: int, min_score: float | None) -> _Candidates:
        """The `n` most similar images of the database of each query, but itself."""
        parts = []
        for rows in self._batches(np.flatnonzero(self.asks_n).tolist(), "pairs"):
            if self.answers_n.all():
                ranked = self._ranked(rows, n + 1 + self._spare)
            else:
                ranked = self._scored(rows, n + 1, lambda row: self.answers_n)
            for row, some in ranked:
                others = sorted(  # ties by name
                    each
                    for each in some
                    if each[1] != row and (min_score is None or each[2] >= min_score)
                )
                found = [(row, other, similar, -s) for s, other, similar in others[:n]]
                parts.append(self._candidates(found, row))
        return _Candidates.join(parts)

    def _ranked(self, rows: Sequence[int], n: int) -> Iterator[tuple[int, list[_Other]]]:
        """Each row with the `n` most similar of all images, itself too."""
        ranked = self.index.searcher.nearest(self._queries(rows), max(n, self._shortlist))
        for row, each in zip(rows, ranked, strict=True):
            yield row, self._ordered(row, [r for r in each if r.image_id in self.row_of], n)

    def _ordered(self, row: int, ranked: Sequence[Ranked], n: int) -> list[_Other]:
        """The first `n` for an image, by vectors and by the codes that are kept of it.

        Of images that tie those are first whose names are.
        """
        ranked = sorted(ranked, key=lambda each: (-each.score, self.row_of[each.image_id]))
        query = self.index.searcher.of_codes(self.ids[row], np.empty((0, 0), np.float32))
        some = self.index.searcher.by_codes([query], ranked)[:n]
        return [(-r.score, self.row_of[r.image_id], r.similarity) for r in some]

    def _scored(
        self, rows: Sequence[int], n: int, allowed: Callable[[int], npt.NDArray[np.bool_]]
    ) -> Iterator[tuple[int, list[_Other]]]:
        """Each row with the `n` most similar of the rows that are allowed for it, and ties."""
        image_id_s, score_qs = self.index.searcher.scores(self._queries(rows))
        row_s = np.array([self.row_of.get(i, -1) for i in image_id_s.tolist()], np.int64)
        for row, score_s in zip(rows, score_qs, strict=True):
            inside_s = np.flatnonzero((row_s >= 0) & allowed(row)[row_s])
            near_s = inside_s[best(score_s[inside_s], max(n, self._shortlist))]
            pairs = zip(image_id_s[near_s].tolist(), score_s[near_s].tolist(), strict=True)
            yield row, self._ordered(row, [Ranked(i, s, s) for i, s in pairs], n)

    def compared(self, asked: Sequence[tuple[int, list[int]]]) -> _Candidates:
        """Candidates of rows with the others that each asks for, whatever their similarity."""
        parts = []
        for place in self._batches(range(len(asked))):
            some = [asked[i] for i in place if asked[i][1]]
            vector_of = self._vectors({row for a, others in some for row in (a, *others)})
            for a, others in some:
                other_nD = np.stack([vector_of[b] for b in others])
                query_qD = vector_of[a][None]
                _, score_qn = score_all(query_qD, [(np.array(others), other_nD)])
                score_qn = self.index.searcher.last_if_damaged(score_qn, query_qD)
                score_n = score_qn[0].round(6).tolist()
                pairs = zip(repeat(a), others, score_n, score_n, strict=False)
                parts.append(self._candidates([p for p in pairs if self._asked(*p[:2])], a))
        return _Candidates.join(parts)

    def _asked(self, a: int, b: int) -> bool:
        one_way, other_way = ((self.asks_n[x] & self.answers_n[y]) for x, y in ((a, b), (b, a)))
        return bool(one_way or other_way)

    def crossing(self, label_n: Int64Array, n: int) -> _Candidates:
        """The `n` best pairs that leave each component but the largest, to rows of others.

        The largest need not be asked: whatever leaves it enters one that is.
        """
        among_n = label_n >= 0
        largest = int(np.bincount(label_n[among_n]).argmax())
        found: dict[int, list[tuple[float, int, int, float]]] = defaultdict(list)

        def outside(row: int) -> npt.NDArray[np.bool_]:
            others_n: npt.NDArray[np.bool_] = among_n & (label_n != label_n[row])
            return others_n

        for rows in self._batches(np.flatnonzero(among_n & (label_n != largest)).tolist(), "join"):
            for row, some in self._scored(rows, n, outside):
                own = int(label_n[row])
                some_of_row = [(s, other, row, similar) for s, other, similar in some]
                found[own] = sorted([*found[own], *some_of_row])[:n]
        return _Candidates.join(
            [
                self._candidates([(r, o, similar, -s) for s, o, r, similar in found[own]], own)
                for own in sorted(found)
            ]
        )


class _Matching:
    """Inliers of pairs of images, by the pair's key; each pair is matched once."""

    def __init__(self, images: _Images, model: Model, n_jobs: int) -> None:
        self._images = images
        self._model: Model = model
        self._n_jobs = n_jobs
        self.inliers: dict[int, int] = {}

    def best(self, candidates: _Candidates, top: int, rerank: int) -> _Candidates:
        """The first `top` of each asker, after its first `rerank` were matched and reordered."""
        begin_m = np.searchsorted(candidates.asker_m, candidates.asker_m)  # sorted by askers
        rank_m = np.arange(len(begin_m)) - begin_m
        if rerank:
            matched_m = rank_m < rerank
            self._match(np.unique(candidates.key_m[matched_m]).tolist())
            inliers_m = np.array([self.inliers.get(k, 0) for k in candidates.key_m.tolist()], int)
            least = self._images.index.searcher.least
            score_m = rescore(candidates.score_m, inliers_m, least=least)
            # the rest stays behind in its order, as in a search
            order_m = np.lexsort((rank_m, -np.where(matched_m, score_m, -1), candidates.asker_m))
            candidates = candidates[order_m]
        return candidates[np.flatnonzero(rank_m < top)]

    def _match(self, keys: Sequence[int]) -> None:
        """Count the inliers of pairs, each pair once."""
        images = self._images
        wanted: dict[int, list[int]] = defaultdict(list)
        for key in keys:
            if key not in self.inliers:
                first, second = divmod(key, images.n)
                wanted[first].append(second)
        total, done = sum(map(len, wanted.values())), 0
        step = _MATCHED * self._n_jobs
        todo = list(wanted.items())
        for begin in range(0, len(todo), step):
            part = todo[begin : begin + step]
            rows = sorted({row for first, others in part for row in (first, *others)})
            features = images.index.searcher.features([images.ids[row] for row in rows])
            self._count(part, {images.row_of[i]: each for i, each in features.items()})
            done += sum(len(others) for _, others in part)
            if images.progress:
                images.progress("match", done, total)

    def _count(
        self, part: Sequence[tuple[int, list[int]]], features: Mapping[int, Features]
    ) -> None:
        """Match each first image with its others, on threads; those without features have 0."""

        def one(i: int) -> None:
            first, others = part[i]
            count = dict.fromkeys(others, 0)
            if first in features:
                known = [row for row in others if row in features]
                verified = self._images.index.searcher.verify(
                    features[first], [features[row] for row in known], self._model, n_jobs=1
                )
                count |= {row: v.n_inliers for row, v in zip(known, verified, strict=True)}
            # one key has one writer, and dict's update holds the lock
            self.inliers.update({first * self._images.n + row: n for row, n in count.items()})

        for_each(one, len(part), self._n_jobs)
