"""`Assessing`: how well a collection finds what a ground truth says is to be found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import numpy as np

from vladkit.axes import Float32Array, Int64Array
from vladkit.collection.store import Store, file_of
from vladkit.describe import Describer
from vladkit.errors import NothingToIndexError, PictureError
from vladkit.evaluate import GroundTruth, Query, Scores, summarize
from vladkit.extraction import Extraction
from vladkit.features import Features
from vladkit.features.imported import Imported
from vladkit.searching import Ranked, Searching
from vladkit.verification import Model

__all__ = ["Assessing"]

_BATCH: Final = 32
"""Queries that are ranked together."""


class Assessing:
    """Ranks the queries of a ground truth in one open collection."""

    def __init__(self, store: Store, describer: Describer, searching: Searching) -> None:
        self._store = store
        self._describer = describer
        self._searching = searching

    def evaluate(
        self,
        truth: GroundTruth,
        *,
        rerank: int,
        model: Model,
        n_jobs: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[Scores, list[str]]:
        """See `vladkit.Collection.evaluate`."""
        if rerank:
            self._searching.check_keeps_features()
        names, remarks = self._database(truth)
        queries = [_real_query(query) for query in truth.queries]
        rankings: list[list[str] | None] = []
        files = [query.file for query in queries]
        indexed = self._indexed(files)
        with Extraction.on_threads(self._describer.extractor, n_jobs, len(files)) as extraction:
            others = (file for file in files if file not in indexed)
            extracted = extraction.run(others)
            results = (
                (file, indexed[file] if file in indexed else next(extracted)) for file in files
            )
            while batch := list(islice(results, _BATCH)):
                usable = [each for _, each in batch if not isinstance(each, PictureError)]
                ranked = iter(self._rank_files(usable, names, rerank, model))
                for file, features in batch:
                    if not isinstance(features, PictureError):
                        rankings.append(next(ranked))
                    else:
                        rankings.append(None)
                        remarks.append(f"query {file}: {features.reason}")
                if progress:
                    progress(len(rankings), len(files))
        return summarize(queries, rankings), remarks

    def _indexed(self, files: Sequence[str]) -> dict[str, int]:
        """Queries that are pictures of the collection, where those alone have such features."""
        if not isinstance(self._describer.extractor, Imported):
            return {}
        sources = self._store.sources()
        ids = {
            _real(file_of(row, sources)): row.picture_id
            for row in self._store.pictures("skipped IS NULL")
        }
        return {file: ids[file] for file in files if file in ids}

    def _database(self, truth: GroundTruth) -> tuple[dict[int, str], list[str]]:
        """Real paths of the pictures to be ranked, by id, and remarks."""
        sources = self._store.sources()
        names = {
            row.picture_id: _real(file_of(row, sources))
            for row in self._store.pictures("skipped IS NULL")
        }
        remarks = []
        if truth.database is not None:
            indexed = set(names.values())
            wanted = {_real(f) for f in truth.database}
            names = {i: file for i, file in names.items() if file in wanted}
            if missing := len(wanted - indexed):
                remarks.append(f"{missing} of {len(wanted)} database pictures are not indexed")
            if extra := len(indexed - wanted):
                remarks.append(f"{extra} indexed pictures are not in the database: left out")
        if not names:
            raise NothingToIndexError(
                f"{self._store.path} holds no picture of the ground truth's database: index those "
                "pictures, or check the folder that its paths are relative to"
            )
        return names, remarks

    def _rank_files(
        self,
        queries: Sequence[Features | int],
        names: dict[int, str],
        rerank: int,
        model: Model,
    ) -> list[list[str]]:
        """All files of the database for each query, the best first, ties by name."""
        if not queries:
            return []
        rankings = []
        with self._store.reading():
            views = [self._views(query) for query in queries]
            picture_id_n, score_qn = self._scores([query_vD for query_vD, _ in views])
            known_n = np.array([i in names for i in picture_id_n.tolist()], bool)
            ids = picture_id_n[known_n].tolist()  # others: added just now, or not in the database
            for (_, query), score_n in zip(views, score_qn[:, known_n], strict=True):
                pairs = zip(score_n.tolist(), ids, strict=True)
                ranked = [Ranked(i, score, score) for score, i in pairs]
                ranked.sort(key=lambda each: (-each.score, names[each.picture_id]))
                if rerank and query is not None:
                    ranked = self._searching.reordered(query, ranked, rerank, model)
                rankings.append([names[each.picture_id] for each in ranked])
        # a file may be indexed twice, through a link: its best rank counts
        return [list(dict.fromkeys(ranking)) for ranking in rankings]

    def _scores(self, views: Sequence[Float32Array]) -> tuple[Int64Array, Float32Array]:
        """`Searching.scores`; an indexed picture without kept features has fewer views."""
        if len({query_vD.shape for query_vD in views}) == 1:
            return self._searching.scores(np.stack(views))
        scored = [self._searching.scores(query_vD[None]) for query_vD in views]
        return scored[0][0], np.concatenate([score_1n for _, score_1n in scored])

    def _views(self, query: Features | int) -> tuple[Float32Array, Features | None]:
        """Vectors (v, D) of extracted features or of an indexed picture, and its features."""
        if isinstance(query, int):
            return self._searching.of_picture(query)
        return self._describer.query_vectors([query])[0], query


def _real(file: str) -> str:
    return os.path.realpath(file)


def _real_query(query: Query) -> Query:
    relevant = frozenset(map(_real, query.relevant))
    return Query(_real(query.file), relevant, frozenset(map(_real, query.junk)), query.unknown)
