"""`Assessing`: how well a collection finds what a ground truth says is to be found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeAlias

import numpy as np

from vladkit.collection.index import Index
from vladkit.collection.searching import Ranked
from vladkit.core.arrays import Float32Array, FloatArray, Int64Array
from vladkit.errors import ImageError, NothingToIndexError
from vladkit.evaluation.metrics import GroundTruth, Query, QueryResult, judge
from vladkit.features import Features
from vladkit.features.imported import Imported
from vladkit.features.pool import Extraction
from vladkit.geometry.verification import Model

__all__ = ["Answer", "Assessing", "Found", "Verdict"]

Verdict: TypeAlias = Literal["right", "wrong", "open", "junk", "itself"]
"""What a ground truth says of an image that was found; open: of this query it says nothing."""

_BATCH: Final = 32
"""Queries that are ranked together."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image in the ranking of a query.

    Parameters
    ----------
    path : str
        As it was when indexed.
    file : str
        Where it is, without links.
    verdict : {"right", "wrong", "open", "junk", "itself"}
    rank : int or None
        From 1; None for junk and for the query itself, which are not counted.
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
    """What a collection found for one query of a ground truth.

    Parameters
    ----------
    query : Query
        As the ground truth has it.
    result : QueryResult
        Where what was to be found came; with real paths.
    first : tuple of Found
        The first so many that count, and what is not counted between them.
    late : tuple of Found
        What was to be found and came after those.
    missing : tuple of str
        Files that were to be found and were not ranked: they are not indexed.
    best_right, best_wrong : float or None
        Scores of the first image that is right and of the first that is wrong. Every image is
        wrong for a query that is stated to have no match.
    failed : str or None
        Why the query could not be read.
    """

    query: Query
    result: QueryResult
    first: tuple[Found, ...] = ()
    late: tuple[Found, ...] = ()
    missing: tuple[str, ...] = ()
    best_right: float | None = None
    best_wrong: float | None = None
    failed: str | None = None


class Assessing:
    """Ranks the queries of a ground truth in one open collection."""

    def __init__(self, index: Index) -> None:
        self._store = index.store
        self._describer = index.describer
        self._searching = index.searcher

    def run(
        self,
        truth: GroundTruth,
        *,
        top: int,
        rerank: int,
        model: Model,
        n_jobs: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[list[Answer], list[str]]:
        """See `vladkit.Collection.assess`."""
        if rerank:
            self._searching.check_keeps_features()
        database, remarks = self._database(truth)
        answers: list[Answer] = []
        real = [_real_query(query) for query in truth.queries]
        files = [query.file for query in real]
        indexed = self._indexed(files)
        with Extraction.on_threads(self._describer.extractor, n_jobs, len(files)) as extraction:
            extracted = extraction.run(file for file in files if file not in indexed)
            sought = (indexed[file] if file in indexed else next(extracted) for file in files)
            results = zip(truth.queries, real, sought, strict=True)
            while batch := list(islice(results, _BATCH)):
                usable = [found for _, _, found in batch if not isinstance(found, ImageError)]
                rankings = self._rankings(usable, database, rerank, model)
                with self._store.reading():
                    for query, wanted, found in batch:
                        if not isinstance(found, ImageError):
                            answers.append(self._answer(query, wanted, next(rankings), top))
                        else:
                            remarks.append(f"query {wanted.file}: {found.reason}")
                            judged = judge(wanted, None)
                            answers.append(Answer(query, judged, failed=found.reason))
                if progress:
                    progress(len(answers), len(files))
        return answers, remarks

    def _indexed(self, files: Sequence[str]) -> dict[str, int]:
        """Queries that are images of the collection, where those alone have such features."""
        if not isinstance(self._describer.extractor, Imported):
            return {}
        ids = {_real(row.file): row.image_id for row in self._store.indexed()}
        return {file: ids[file] for file in files if file in ids}

    def _views(self, query: Features | int) -> tuple[Float32Array, Features | None]:
        """Vectors (v, D) of extracted features or of an indexed image, and its features."""
        if isinstance(query, int):
            return self._searching.of_image(query)
        return self._describer.query_vectors([query])[0], query

    def _scores(self, views: Sequence[Float32Array]) -> tuple[Int64Array, FloatArray]:
        """`Searcher.scores`; an indexed image without kept features has fewer views."""
        if len({query_vD.shape for query_vD in views}) == 1:
            return self._searching.scores(np.stack(views))
        scored = [self._searching.scores(query_vD[None]) for query_vD in views]
        return scored[0][0], np.concatenate([score_1n for _, score_1n in scored])

    def _database(self, truth: GroundTruth) -> tuple[_Database, list[str]]:
        """The images to be ranked, and remarks."""
        file_by_id = {row.image_id: _real(row.file) for row in self._store.indexed()}
        remarks = []
        if truth.database is not None:
            indexed = set(file_by_id.values())
            wanted = {_real(f) for f in truth.database}
            file_by_id = {i: file for i, file in file_by_id.items() if file in wanted}
            if missing := len(wanted - indexed):
                remarks.append(f"{missing} of {len(wanted)} database images are not indexed")
            if extra := len(indexed - wanted):
                remarks.append(f"{extra} indexed images are not in the database: left out")
        if not file_by_id:
            raise NothingToIndexError(
                f"{self._store.path} holds no image of the ground truth's database: index those "
                "images, or check the folder that its paths are relative to"
            )
        return _Database(file_by_id), remarks

    def _rankings(
        self,
        queries: Sequence[Features | int],
        database: _Database,
        rerank: int,
        model: Model,
    ) -> Iterator[_Ranking]:
        """The whole database for each query, one ranking at a time.

        A query is its features, or the id of an indexed image.
        """
        if not queries:
            return
        views = [self._views(query) for query in queries]
        image_id_n, score_qn = self._scores([query_vD for query_vD, _ in views])
        known_n = np.array([i in database.file_by_id for i in image_id_n.tolist()], bool)
        image_id_n = image_id_n[known_n]  # others: added just now, or not in the database
        order_n = np.array([database.order_by_id[i] for i in image_id_n.tolist()], np.int64)
        for (_, query), score_n in zip(views, score_qn[:, known_n], strict=True):
            best_n = np.lexsort((order_n, -score_n))  # ties by name
            head: list[Ranked] = []
            if rerank and query is not None:
                pairs = zip(
                    image_id_n[best_n[:rerank]].tolist(),
                    score_n[best_n[:rerank]].tolist(),
                    strict=True,
                )
                head = [Ranked(i, score, score) for i, score in pairs]
                head = self._searching.reordered(query, head, rerank, model)
            rest_n = best_n[len(head) :]
            yield _Ranking(database, head, image_id_n[rest_n], score_n[rest_n])

    def _answer(self, query: Query, real: Query, ranking: _Ranking, top: int) -> Answer:
        """What is kept of a ranking."""
        result = judge(real, ranking.files)
        late = [file for file, rank in result.rank_of.items() if rank > top] if top else []
        chosen = ranking.until(real, top) + [ranking.files.index(file) for file in late]
        found = self._found(real, result, ranking, chosen)
        best_right = best_wrong = None
        if result.rank_of:
            best_right = ranking.at(ranking.files.index(next(iter(result.rank_of)))).score
        if result.n_relevant or real.unknown:
            uncounted = real.junk | {real.file}
            wrong = (
                i
                for i, file in enumerate(ranking.files)
                if file not in result.rank_of and file not in uncounted
            )
            position = next(wrong, None)
            best_wrong = None if position is None else ranking.at(position).score
        return Answer(
            query,
            result,
            first=found[: len(chosen) - len(late)],
            late=found[len(chosen) - len(late) :],
            missing=tuple(sorted(real.relevant - real.junk - {real.file} - result.rank_of.keys())),
            best_right=best_right,
            best_wrong=best_wrong,
        )

    def _found(
        self, query: Query, result: QueryResult, ranking: _Ranking, chosen: list[int]
    ) -> tuple[Found, ...]:
        ranked = [ranking.at(i) for i in chosen]
        rows = self._store.images_by_id([each.image_id for each in ranked])
        uncounted = query.junk | {query.file}
        others: Verdict = "wrong" if result.n_relevant or query.unknown else "open"
        found, before = [], 0
        for i, each in zip(chosen, ranked, strict=True):
            file = ranking.files[i]
            verdict: Verdict = others
            rank: int | None = None
            if file == query.file:
                verdict = "itself"
            elif file in query.junk:
                verdict = "junk"
            elif file in result.rank_of:
                verdict = "right"
            if file not in uncounted:
                before += 1  # those in `chosen` are the first of all, or have a rank of their own
                rank = result.rank_of.get(file, before)
            inliers = None if each.verification is None else each.verification.n_inliers
            path = rows[each.image_id].path
            found.append(Found(path, file, verdict, rank, each.score, each.similarity, inliers))
        return tuple(found)


class _Database:
    """Images to be ranked: their files, without links, and where these come by name."""

    def __init__(self, file_by_id: dict[int, str]) -> None:
        self.file_by_id = file_by_id
        order = {file: i for i, file in enumerate(sorted(set(file_by_id.values())))}
        self.order_by_id = {i: order[file] for i, file in file_by_id.items()}
        self.once = len(order) == len(file_by_id)
        """Whether no file is indexed twice, through a link."""


class _Ranking:
    """A database in the order of one query: some that were matched, then the rest."""

    def __init__(
        self,
        database: _Database,
        head: list[Ranked],
        image_id_n: Int64Array,
        score_n: Float32Array,
    ) -> None:
        self._head = head
        self._image_id_n = image_id_n
        self._score_n = score_n
        ids = [each.image_id for each in head] + image_id_n.tolist()
        self.files = [database.file_by_id[i] for i in ids]
        self._position: list[int] | None = None
        if not database.once:  # its best rank counts
            position = {file: i for i, file in reversed(list(enumerate(self.files)))}
            self.files = list(dict.fromkeys(self.files))
            self._position = [position[file] for file in self.files]

    def at(self, i: int) -> Ranked:
        """What came at a position of `files`."""
        if self._position is not None:
            i = self._position[i]
        if i < len(self._head):
            return self._head[i]
        i -= len(self._head)
        score = float(self._score_n[i])
        return Ranked(int(self._image_id_n[i]), score, score)

    def until(self, query: Query, top: int) -> list[int]:
        """Positions up to the `top`-th image that counts."""
        uncounted = query.junk | {query.file}
        left = top
        for i, file in enumerate(self.files):
            if left == 0:
                return list(range(i))
            left -= file not in uncounted
        return list(range(len(self.files)))


def _real(file: str) -> str:
    return os.path.realpath(file)


def _real_query(query: Query) -> Query:
    relevant = frozenset(map(_real, query.relevant))
    return Query(_real(query.file), relevant, frozenset(map(_real, query.junk)), query.unknown)
