"""`Assessing`: how well a collection finds what a ground truth says is to be found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import numpy as np

from vladkit.collection.store import Store, file_of
from vladkit.describe import Describer
from vladkit.errors import NothingToIndexError
from vladkit.evaluate import GroundTruth, Query, Scores, summarize
from vladkit.extraction import Extraction
from vladkit.features import Features
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
        with Extraction.on_threads(self._describer.extractor, n_jobs, len(files)) as extraction:
            results = zip(files, extraction.run(files), strict=True)
            while batch := list(islice(results, _BATCH)):
                usable = [features for _, features in batch if isinstance(features, Features)]
                ranked = iter(self._rank_files(usable, names, rerank, model))
                for file, features in batch:
                    if isinstance(features, Features):
                        rankings.append(next(ranked))
                    else:
                        rankings.append(None)
                        remarks.append(f"query {file}: {features.reason}")
                if progress:
                    progress(len(rankings), len(files))
        return summarize(queries, rankings), remarks

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
        self, features: Sequence[Features], names: dict[int, str], rerank: int, model: Model
    ) -> list[list[str]]:
        """All files of the database for each query, the best first, ties by name."""
        if not features:
            return []
        rankings = []
        with self._store.reading():
            picture_id_n, score_qn = self._searching.scores(self._describer.query_vectors(features))
            known_n = np.array([i in names for i in picture_id_n.tolist()], bool)
            ids = picture_id_n[known_n].tolist()  # others: added just now, or not in the database
            for query, score_n in zip(features, score_qn[:, known_n], strict=True):
                pairs = zip(score_n.tolist(), ids, strict=True)
                ranked = [Ranked(i, score, score) for score, i in pairs]
                ranked.sort(key=lambda each: (-each.score, names[each.picture_id]))
                if rerank:
                    ranked = self._searching.reordered(query, ranked, rerank, model)
                rankings.append([names[each.picture_id] for each in ranked])
        # a file may be indexed twice, through a link: its best rank counts
        return [list(dict.fromkeys(ranking)) for ranking in rankings]


def _real(file: str) -> str:
    return os.path.realpath(file)


def _real_query(query: Query) -> Query:
    relevant = frozenset(map(_real, query.relevant))
    return Query(_real(query.file), relevant, frozenset(map(_real, query.junk)), query.unknown)
