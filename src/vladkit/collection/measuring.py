"""`measure`: a collection held to a protocol of the field."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from vladkit.collection.collection import Collection, Progress
from vladkit.core.arrays import Int64Array
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError, NothingToIndexError, ParameterError, StorageError
from vladkit.evaluation.datasets import Goal, Outcome, Protocol, Ranks, Task
from vladkit.features import Features, one_opencv_thread
from vladkit.geometry.verification import Model, rescore

__all__ = ["measure"]

_BATCH: Final = 32
"""Queries that are compared with all vectors together."""


def measure(
    collection: Collection,
    protocol: Protocol,
    *,
    rerank: int = 0,
    model: Model = "homography",
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Ask a collection all queries of a protocol, and give the protocol's figures.

    Only the protocol's database is ranked, whatever else is indexed; images of equal score come
    in the order of their names. Every query is extracted from its file, or from the part of it
    that the protocol asks with.

    Parameters
    ----------
    collection : Collection
    protocol : Protocol
        Of `vladkit.evaluation.datasets.read_protocol`.
    rerank, model
        See `Collection.search`.
    n_jobs : int or None
        Threads that extract and match; None is one for each core.
    progress : callable or None
        See `Progress`; its step is "queries".

    Returns
    -------
    Outcome

    Raises
    ------
    NothingToIndexError
        If no image of the protocol's database is indexed.
    ParameterError
        If `rerank` does not fit.
    """
    if rerank < 0:
        raise ParameterError(f"rerank={rerank}: give a number of images, or 0 for none")
    if rerank and not collection.recipe.keep_features:
        raise ParameterError(
            f"{collection.path} keeps no features to match with: index the images into another "
            "file (--keep-features 1000), or measure without --rerank"
        )
    jobs = resolve_n_jobs(n_jobs)
    database = _Database.of(collection, protocol)
    levels = list(protocol.tasks[0].goals) if protocol.tasks else [""]
    found: dict[str, list[Ranks]] = {level: [] for level in levels}
    remarks = [*protocol.remarks, *database.remarks]
    failed = done = 0
    for batch in _extracted(collection, protocol.tasks, jobs):
        usable = [features for _, features in batch if isinstance(features, Features)]
        orders = _orders(collection, database, usable, rerank, model, jobs)
        for task, features in batch:
            order_n: Int64Array | None = None
            if isinstance(features, Features):
                order_n = next(orders)
            else:
                failed += 1
                remarks.append(f"query {task.file}: {features.reason}")
            for level, ranks in database.ranks(task.goals, order_n).items():
                found[level].append(ranks)
        done += len(batch)
        if progress:
            progress("queries", done, len(protocol.tasks))
    measured = {level: protocol.measure(ranks) for level, ranks in found.items()}
    return Outcome(
        figures={level: figures for level, (figures, _) in measured.items()},
        queries={level: n for level, (_, n) in measured.items()},
        failed=failed,
        remarks=remarks,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Database:
    """The images to be ranked, by name: their ids, and the row of each file."""

    image_id_n: Int64Array
    row_of: Mapping[str, int]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, collection: Collection, protocol: Protocol) -> _Database:
        wanted = {os.path.realpath(file) for file in protocol.database}
        id_of: dict[str, int] = {}
        extra = 0
        for row in collection.images():
            file = os.path.realpath(row.file)
            if file in wanted:
                id_of.setdefault(file, row.image_id)  # indexed twice, through a link: once here
            else:
                extra += 1
        if not id_of:
            raise NothingToIndexError(
                f"{collection.path} holds no image of the protocol's database: index those "
                f"images, such as {min(wanted, default='')}"
            )
        remarks = []
        if missing := len(wanted) - len(id_of):
            remarks.append(f"{missing} of {len(wanted)} database images are not indexed")
        if extra:
            remarks.append(f"{extra} indexed images are not in the database: left out")
        files = sorted(id_of)
        ids = np.array([id_of[file] for file in files], np.int64)
        return cls(ids, {file: row for row, file in enumerate(files)}, tuple(remarks))

    def rows(self, files: frozenset[str]) -> Int64Array:
        """Of those files that are indexed, each once."""
        real = {os.path.realpath(file) for file in files}
        return np.array(sorted(self.row_of[f] for f in real if f in self.row_of), np.int64)

    def ranks(self, goals: Mapping[str, Goal], order_n: Int64Array | None) -> dict[str, Ranks]:
        """For each goal, in a ranking of rows, or in none."""
        if order_n is None:
            return {level: Ranks((), len(goal.relevant)) for level, goal in goals.items()}
        position_n = np.empty(len(order_n), np.int64)
        position_n[order_n] = np.arange(len(order_n))
        found = {}
        for level, goal in goals.items():
            relevant = np.sort(position_n[self.rows(goal.relevant - goal.ignored)])
            ignored = np.sort(position_n[self.rows(goal.ignored)])
            rank_m = relevant + 1 - np.searchsorted(ignored, relevant)
            found[level] = Ranks(tuple(rank_m.tolist()), len(goal.relevant - goal.ignored))
        return found


def _extracted(
    collection: Collection, tasks: Sequence[Task], n_jobs: int
) -> Iterator[list[tuple[Task, Features | ImageError]]]:
    """Queries with their features, or why there are none, in batches."""

    def one(task: Task) -> Features | ImageError:
        try:
            return collection.extract(task.file, region=task.region)
        except ImageError as error:
            return error

    with one_opencv_thread(), ThreadPoolExecutor(n_jobs, "vladkit-extract") as pool:
        for begin in range(0, len(tasks), _BATCH):
            batch = tasks[begin : begin + _BATCH]
            yield list(zip(batch, pool.map(one, batch), strict=True))


def _orders(
    collection: Collection,
    database: _Database,
    queries: Sequence[Features],
    rerank: int,
    model: Model,
    n_jobs: int,
) -> Iterator[Int64Array]:
    """The rows of the database for each query, the best first."""
    if not queries:
        return
    query_qvD = collection.index.describer.query_vectors(queries)
    image_id_s, score_qs = collection.index.searcher.scores(query_qvD)
    if not np.isin(database.image_id_n, image_id_s).all():
        raise StorageError(f"{collection.path} has lost images while it was measured: run again")
    order_s = np.argsort(image_id_s)
    place_n = order_s[np.searchsorted(image_id_s, database.image_id_n, sorter=order_s)]
    for features, score_n in zip(queries, score_qs[:, place_n], strict=True):
        order_n = np.argsort(-score_n, kind="stable")  # rows are in the order of names
        if rerank:
            head_r, rest_m = order_n[:rerank], order_n[rerank:]
            ids = database.image_id_n[head_r].tolist()
            inliers_r = _inliers(collection, features, ids, model, n_jobs)
            matched_r = np.argsort(-rescore(score_n[head_r], inliers_r).round(6), kind="stable")
            order_n = np.concatenate([head_r[matched_r], rest_m])
        yield order_n


def _inliers(
    collection: Collection, query: Features, ids: Sequence[int], model: Model, n_jobs: int
) -> Int64Array:
    """Of the query with each image; 0 where nothing is kept of one."""
    kept = {i: each for i in ids if (each := collection.features_of(i)) is not None}
    others = list(kept.values())
    verified = collection.index.searcher.verify(query, others, model, n_jobs=n_jobs)
    count = {i: each.n_inliers for i, each in zip(kept, verified, strict=True)}
    return np.array([count.get(i, 0) for i in ids], np.int64)
