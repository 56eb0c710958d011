"""Evaluation: a collection is asked the queries of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Final, Literal, Self, TypeAlias

import numpy as np

from vladkit.collection.index import Index
from vladkit.collection.ranked import Ranked
from vladkit.collection.search_options import MODEL, check_number, check_rerank
from vladkit.collection.searching import SHORTLIST, by_vectors
from vladkit.core.arrays import FloatArray, Int64Array
from vladkit.core.names import identity, real
from vladkit.core.params import check_parameter
from vladkit.errors import ImageError, NothingToIndexError, ParameterError, StorageError
from vladkit.evaluation.benchmark import Benchmark, Query
from vladkit.evaluation.metrics import QueryRanks, find_ranks
from vladkit.features import Features
from vladkit.features.pool import Extraction, extract
from vladkit.features.vectors import imported
from vladkit.geometry.verification import Model
from vladkit.store.protocol import CollectionStore

__all__ = ["Answer", "RankedImage", "Verdict", "ask"]

Verdict: TypeAlias = Literal["right", "wrong", "open", "junk", "itself"]
"""Verdict of a benchmark on an image that was found; open: nothing is stated about the query."""

_BATCH: Final = 32
"""Queries whose scores are computed together, in one pass over all vectors."""


@dataclass(frozen=True, slots=True)
class RankedImage:
    """An image in the ranking of a benchmark's query.

    Parameters
    ----------
    path : str
        Path as it was when indexed.
    file : str
        File where the image is now, links resolved.
    verdict : {"right", "wrong", "open", "junk", "itself"}
    rank : int or None
        Rank from 1; None for junk and for the query itself, which are not counted.
    score, similarity, inliers
        See `vladkit.Hit`.
    """

    path: str
    file: str
    verdict: Verdict
    rank: int | None
    score: float
    similarity: float
    inliers: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Results of a collection for one query of a benchmark.

    Where a benchmark has several levels, all but `ranks` is about the first of them.

    Parameters
    ----------
    query : Query
    ranks : mapping
        Level to the ranks of the relevant images.
    first : tuple of RankedImage
        First images that count, as many as were asked for, and the uncounted ones between them.
    late : tuple of RankedImage
        Relevant images that came after those.
    missing : tuple of str
        Relevant files that were not ranked, as they are not indexed; links resolved.
    best_right, best_wrong : float or None
        Scores of the first image that is right and of the first that is wrong. Every image is
        wrong for a query that is stated to have no match.
    failed : str or None
        Reason why the query could not be read.
    """

    query: Query
    ranks: Mapping[str, QueryRanks]
    first: tuple[RankedImage, ...] = ()
    late: tuple[RankedImage, ...] = ()
    missing: tuple[str, ...] = ()
    best_right: float | None = None
    best_wrong: float | None = None
    failed: str | None = None

    @property
    def result(self) -> QueryRanks:
        """Ranks of the relevant images."""
        return next(iter(self.ranks.values()))


def ask(
    index: Index,
    benchmark: Benchmark,
    *,
    top: int,
    rerank: int | None,
    model: Model,
    n_jobs: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[list[Answer], list[str]]:
    """Answers to all queries, and remarks; see `vladkit.Collection.assess`."""
    check_number("top", top)
    check_rerank(rerank)
    check_parameter("model", model, MODEL)
    depth = index.searcher.depth(rerank)
    database, remarks = _Database.of(index.store, benchmark)
    id_q = _ids_of_queries(index, benchmark)
    extractor = index.describer.extractor
    answers: list[Answer] = []

    def read(query: Query) -> Features:
        try:
            return extract(extractor, query.file, query.region)
        except ParameterError as error:  # a region beyond the image: was that made smaller?
            raise ImageError(str(error)) from error

    n = len(benchmark.queries)
    asked = list(zip(benchmark.queries, id_q, strict=True))
    with Extraction.on_threads(extractor, n_jobs, n, read) as extraction:
        extracted = extraction.run(query for query, known in asked if known is None)
        found = ((query, next(extracted) if known is None else known) for query, known in asked)
        while batch := list(islice(found, _BATCH)):
            usable = [each for _, each in batch if not isinstance(each, ImageError)]
            with index.store.reading():
                index.refresh()  # another process may have learned since the last batch
                rankings = _rankings(index, usable, database, depth, model)
                for query, each in batch:
                    if isinstance(each, ImageError):
                        remarks.append(f"query {query.file}: {each.reason}")
                        nothing = database.ranks(query, np.empty(0, np.int64), failed=True)
                        answers.append(Answer(query, nothing, failed=each.reason))
                    else:
                        answers.append(_answer(database, query, next(rankings), top))
            if progress:
                progress("queries", len(answers), n)
    return answers, remarks


def _indexed(store: CollectionStore) -> list[tuple[str, str, int]]:
    """(file with its links resolved, path, id) of every image that has a vector, by file."""
    rows = store.indexed()
    return sorted((real(row.file), row.path, row.image_id) for row in rows)


def _resolver(indexed: Set[str]) -> Callable[[str], str]:
    """Function that follows a path, by links of either kind, to an indexed file if it is one.

    Of a file that is not indexed all names lead to the one that came first.
    """

    @cache
    def by_identity() -> dict[tuple[int, ...], str]:
        return {known: file for file in indexed if (known := identity(file))}

    @cache  # the lists of some data sets share most files, and links are slow to resolve
    def resolve(file: str) -> str:
        name = real(file)
        known = None if name in indexed else identity(name)
        return by_identity().setdefault(known, name) if known else name

    return resolve


def _ids_of_queries(index: Index, benchmark: Benchmark) -> list[int | None]:
    """Ids of queries that are asked by what is kept of them, as `Collection.search` does.

    These are images of the collection whose file is not there, or that have features there alone.
    """
    own_only = imported(index.describer.extractor)
    kept = [
        not query.region and (own_only or not os.path.lexists(query.file))
        for query in benchmark.queries
    ]
    if not any(kept):
        return [None] * len(kept)
    id_of = {file: image_id for file, _, image_id in _indexed(index.store)}
    resolve = _resolver(id_of.keys())
    return [
        id_of.get(resolve(query.file)) if is_kept else None
        for query, is_kept in zip(benchmark.queries, kept, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """The database in the order of one query.

    ``row_n`` are rows of the database, the best first, each file once; ``score_m`` and
    ``similarity_m`` belong to the database's rows, as do the keys of ``inliers``.
    """

    row_n: Int64Array
    score_m: FloatArray
    similarity_m: FloatArray
    inliers: dict[int, int]


class _Database:
    """Images to be ranked, a row for each in the order of their files.

    Files have numbers, ``number_m`` by row. A file that is indexed twice, through a link, has two
    rows and one number; one that is not indexed has a number that no row has, whatever its names.
    """

    def __init__(self, images: Sequence[tuple[str, str, int]]) -> None:
        self.files = [file for file, _, _ in images]
        self.paths = [path for _, path, _ in images]
        self.image_id_m = np.array([image_id for _, _, image_id in images], np.int64)
        number = {file: i for i, file in enumerate(dict.fromkeys(self.files))}
        self.number_m = np.array([number[file] for file in self.files], np.int64)
        self._is_once = len(number) == len(images)

        resolve = _resolver(frozenset(number))
        self.number_of: Callable[[str], int] = lambda file: number.setdefault(
            resolve(file), len(number)
        )

    @classmethod
    def of(cls, store: CollectionStore, benchmark: Benchmark) -> tuple[Self, list[str]]:
        """The images of a collection that the benchmark has in its database, and remarks."""
        images = _indexed(store)
        remarks = list(benchmark.remarks)
        wanted: set[str] = set()
        if benchmark.database is not None:
            indexed = {file for file, *_ in images}
            wanted = set(map(_resolver(indexed), benchmark.database))
            images = [each for each in images if each[0] in wanted]
            if missing := len(wanted - indexed):
                remarks.append(f"{missing} of {len(wanted)} database images are not indexed")
            if extra := len(indexed - wanted):
                remarks.append(f"{extra} indexed images are not in the database: left out")
        if not images:
            example = f", such as {min(wanted)}" if wanted else ""
            raise NothingToIndexError(
                f"{store.path} holds no image of the ground truth's database: index those images"
                f"{example}, or check the folder that its paths are relative to"
            )
        ranked = frozenset(file for file, *_ in images)
        relevant = {
            file
            for query in benchmark.queries
            for each in query.relevance.values()
            for file in each.relevant - each.ignored
        }
        if lost := set(map(_resolver(ranked), relevant)) - ranked - wanted:
            where = "indexed" if benchmark.database is None else "in the database"
            remarks.append(
                f"{len(lost)} relevant images are not {where}, such as {min(lost)}: they count as "
                "not found"
            )
        return cls(images), remarks

    def once(self, row_n: Int64Array) -> Int64Array:
        """Rows without those whose file came before: one indexed twice counts at its best rank."""
        if self._is_once:
            return row_n
        _, first = np.unique(self.number_m[row_n], return_index=True)
        return row_n[np.sort(first)]

    def numbers(self, files: Iterable[str]) -> Int64Array:
        """Numbers of files."""
        return np.array([self.number_of(file) for file in files], np.int64)

    def ranks(
        self, query: Query, number_n: Int64Array, failed: bool = False
    ) -> dict[str, QueryRanks]:
        """Ranks, by level, of what was to be found, in a ranking of numbers."""
        return {
            level: replace(
                find_ranks(number_n, self.numbers(each.relevant), self.numbers(each.ignored)),
                failed=failed,
            )
            for level, each in query.relevance.items()
        }


def _answer(database: _Database, query: Query, ranking: _Ranking, top: int) -> Answer:
    """Answer to a query that was ranked, with the first `top` images that count."""
    number_n = database.number_m[ranking.row_n]
    relevance = next(iter(query.relevance.values()))
    ignored = database.numbers(relevance.ignored)
    to_find = np.setdiff1d(database.numbers(relevance.relevant), ignored)
    counts_n, right_n = ~np.isin(number_n, ignored), np.isin(number_n, to_find)
    rank_n = np.cumsum(counts_n)
    others: Verdict = "wrong" if len(to_find) or query.unknown else "open"
    itself = database.number_of(query.file)

    def image(i: int) -> RankedImage:
        row = int(ranking.row_n[i])
        verdict: Verdict = "right" if right_n[i] else others
        if not counts_n[i]:
            verdict = "itself" if number_n[i] == itself else "junk"
        return RankedImage(
            path=database.paths[row],
            file=database.files[row],
            verdict=verdict,
            rank=int(rank_n[i]) if counts_n[i] else None,
            score=float(ranking.score_m[row]),
            similarity=float(ranking.similarity_m[row]),
            inliers=ranking.inliers.get(row),
        )

    def score(positions: Int64Array) -> float | None:
        return float(ranking.score_m[ranking.row_n[positions[0]]]) if len(positions) else None

    right, wrong = np.flatnonzero(right_n), np.flatnonzero(counts_n & ~right_n)
    late = right[rank_n[right] > top] if top else right[:0]
    name_of = {database.number_of(f): real(f) for f in sorted(relevance.relevant, reverse=True)}
    missed = [name_of[number] for number in np.setdiff1d(to_find, number_n).tolist()]
    return Answer(
        query,
        database.ranks(query, number_n),
        first=tuple(map(image, np.flatnonzero(rank_n - counts_n < top).tolist())),
        late=tuple(map(image, late.tolist())),
        missing=tuple(sorted(missed)),
        best_right=score(right),
        best_wrong=None if others == "open" else score(wrong),
    )


def _rankings(
    index: Index,
    queries: Sequence[Features | int],
    database: _Database,
    rerank: int,
    model: Model,
) -> Iterator[_Ranking]:
    """Rankings of the whole database; a query is its features, or the id of an indexed image."""
    if not queries:
        return
    asked = [
        index.searcher.of_image(query) if isinstance(query, int) else index.describer.query(query)
        for query in queries
    ]
    image_id_s, score_qs = index.searcher.scores_of([each.vector_vD for each in asked])
    ids_m = database.image_id_m
    if not np.isin(ids_m, image_id_s).all():
        raise StorageError(f"{index.store.path} lost images while it was evaluated: run again")
    sorted_s = np.argsort(image_id_s)
    place_m = sorted_s[np.searchsorted(image_id_s, ids_m, sorter=sorted_s)]
    for query, similarity_m in zip(asked, score_qs[:, place_m], strict=True):
        row_m = np.argsort(-similarity_m, kind="stable")  # equal scores stay in order of files
        score_m = similarity_m.copy() if query.codes is None else by_vectors(similarity_m)
        inliers = {}
        has_features = query.features is not None
        n = max(rerank if has_features else 0, 0 if query.codes is None else SHORTLIST)
        if n:
            row_of = {int(ids_m[row]): row for row in row_m[:n].tolist()}
            scored = [(i, float(similarity_m[row])) for i, row in row_of.items()]
            head = index.searcher.by_codes([query], [Ranked(i, s, s) for i, s in scored])
            if rerank and query.features is not None:
                head = index.searcher.reordered(query.features, head, rerank, model)
            row_m[: len(head)] = [row_of[each.image_id] for each in head]
            for each in head:
                row = row_of[each.image_id]
                score_m[row] = each.score
                if each.verification is not None:
                    inliers[row] = each.verification.n_inliers
        yield _Ranking(database.once(row_m), score_m, similarity_m, inliers)
