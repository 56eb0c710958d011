"""How good a ranking is: average precision and recall, from a ground-truth file."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection as Container
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from vladkit.errors import FileFormatError, StorageError

__all__ = [
    "RECALL_AT",
    "GroundTruth",
    "Query",
    "QueryResult",
    "Scores",
    "average_precision",
    "judge",
    "mean_scores",
    "precision_recall",
    "read_ground_truth",
    "recall_curve",
    "summarize",
]

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Query:
    """A query image and what is to be found with it; absolute paths.

    Images in ``junk`` count neither as right nor as wrong. ``unknown``: stated to have no
    match in the database.
    """

    file: str
    relevant: frozenset[str]
    junk: frozenset[str] = frozenset()
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Queries, and the database that they are to be found in (None: whatever is indexed)."""

    queries: tuple[Query, ...]
    database: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Where a ranking has what was to be found.

    Parameters
    ----------
    rank_of : dict
        Rank, from 1, of each relevant image that was ranked, the best first; the query itself
        and junk are not counted.
    n_relevant : int
        How many there are to find; 0 is a query that is not averaged.
    failed : bool
        The query could not be read and found nothing.
    """

    rank_of: dict[str, int]
    n_relevant: int
    failed: bool = False

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of the relevant images, rising."""
        return tuple(self.rank_of.values())

    @property
    def first_rank(self) -> int | None:
        """Of the first relevant image, or None if there is none."""
        return next(iter(self.rank_of.values()), None)

    @property
    def average_precision(self) -> float:
        """See `average_precision`; NaN if there is nothing to find."""
        return _mean_precision(self.ranks, self.n_relevant) if self.n_relevant else float("nan")


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the queries that have something to find.

    ``recall`` maps k to the share of queries with a relevant image among the first k.
    ``not_averaged`` queries have none (unknown ones among them); ``failed`` ones could not be
    read and count as having found nothing.
    """

    mean_average_precision: float
    recall: dict[int, float]
    queries: int
    not_averaged: int
    failed: int


def read_ground_truth(path: str | os.PathLike[str]) -> GroundTruth:
    """Read ``{"database": [path], "queries": [{"query", "relevant", "junk"?, "unknown"?}]}``.

    Paths are relative to the file's folder.

    Raises
    ------
    StorageError
        If the file cannot be read.
    FileFormatError
        If it is not of that form.
    """
    where = Path(path)
    try:
        text = where.read_text("utf-8")
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where} is not a ground truth: not UTF-8 text") from error
    try:
        content = json.loads(text)
        folder = os.path.abspath(where.parent)

        def absolute(path: str) -> str:
            if "\0" in path:
                raise ValueError(f"a path with a NUL character: {path!r}")
            return os.path.normpath(os.path.join(folder, path))

        def files(paths: Sequence[str]) -> frozenset[str]:
            if isinstance(paths, str):
                raise TypeError(f"{paths!r} is one path, wanted a list")
            return frozenset(map(absolute, paths))

        queries = tuple(
            Query(
                absolute(q["query"]),
                files(q["relevant"]),
                files(q.get("junk") or ()),
                bool(q.get("unknown", False)),
            )
            for q in content["queries"]
        )
        database: Any = content.get("database")
        return GroundTruth(queries, None if database is None else files(database))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f'{where} is not a ground truth: wanted {{"database": [path], "queries": '
            f'[{{"query": path, "relevant": [path]}}]}}; {type(error).__name__}: {error}'
        ) from error


def average_precision(ranking: Sequence[str], relevant: Container[str], n_relevant: int) -> float:
    """Mean, over the relevant images, of the precision at the rank of each.

    Parameters
    ----------
    ranking : sequence of str
        The best first, without junk and without the query itself.
    relevant : container of str
    n_relevant : int
        How many there are; those that the ranking lacks count as 0. At least 1.

    Notes
    -----
    The finite sum, not the trapezoid of Oxford5k's and Holidays' scripts, which is a little lower.

    Examples
    --------
    >>> average_precision(["a", "x", "b"], {"a", "b"}, 2)  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    ranks = [rank for rank, name in enumerate(ranking, start=1) if name in relevant]
    return _mean_precision(ranks, n_relevant)


def judge(query: Query, ranking: Sequence[str] | None) -> QueryResult:
    """What one ranking is worth; all files, the best first, or None if the query failed.

    The query is dropped from its own ranking, and junk is ignored.

    Examples
    --------
    >>> query = Query("q", frozenset({"a", "b", "q"}), junk=frozenset({"j"}))
    >>> judge(query, ["q", "j", "x", "a"])
    QueryResult(rank_of={'a': 2}, n_relevant=2, failed=False)
    """
    relevant = query.relevant - query.junk - {query.file}
    kept = (file for file in ranking or () if file != query.file and file not in query.junk)
    rank_of = {file: rank for rank, file in enumerate(kept, start=1) if file in relevant}
    return QueryResult(rank_of, len(relevant), failed=ranking is None)


def summarize(queries: Sequence[Query], rankings: Sequence[Sequence[str] | None]) -> Scores:
    """Scores of one ranking (all files, the best first) per query; None for one that failed.

    A query is dropped from its own ranking, junk is ignored, and a query with nothing relevant
    is not averaged.

    Examples
    --------
    >>> query = Query("q", frozenset({"a", "q"}), junk=frozenset({"j"}))
    >>> summarize([query], [["q", "j", "a"]]).mean_average_precision
    1.0
    """
    return mean_scores([judge(q, r) for q, r in zip(queries, rankings, strict=True)])


def mean_scores(results: Sequence[QueryResult]) -> Scores:
    """Means over the queries that have something to find; NaN if none has."""
    averaged = [result for result in results if result.n_relevant]
    curve = recall_curve(results, max(RECALL_AT))
    precision = [result.average_precision for result in averaged]
    return Scores(
        mean_average_precision=fmean(precision) if precision else float("nan"),
        recall={k: curve[k - 1] for k in RECALL_AT},
        queries=len(averaged),
        not_averaged=len(results) - len(averaged),
        failed=sum(result.failed for result in averaged),
    )


def recall_curve(results: Sequence[QueryResult], n: int) -> list[float]:
    """Share of the queries with a relevant image among the first k, for k = 1 to `n`.

    Queries with nothing to find are left out; NaN if no other is there.

    Examples
    --------
    >>> second, never = QueryResult({"a": 2}, 1), QueryResult({}, 1)
    >>> recall_curve([second, never], 3)
    [0.0, 0.5, 0.5]
    """
    first = [result.first_rank for result in results if result.n_relevant]
    if not first:
        return [float("nan")] * n
    found_at = Counter(first)
    return [found / len(first) for found in accumulate(found_at[k] for k in range(1, n + 1))]


def precision_recall(results: Sequence[QueryResult], n: int = 10) -> list[tuple[float, float]]:
    """(recall, precision) at recall 0, 1/n, ..., 1: means over the queries, interpolated.

    Notes
    -----
    The precision of a query at a recall is the highest that it has there or at any higher recall
    (TREC's interpolation), 0 where it never gets there. `n` = 10 are the usual eleven points.

    References
    ----------
    Manning, Raghavan, Schütze, *Introduction to Information Retrieval*, 2008, section 8.4.

    Examples
    --------
    >>> precision_recall([QueryResult({"a": 1, "b": 4}, 2)], n=2)  # 1/1, then 2/4
    [(0.0, 1.0), (0.5, 1.0), (1.0, 0.5)]
    """
    averaged = [result for result in results if result.n_relevant]
    if not averaged:
        return [(i / n, float("nan")) for i in range(n + 1)]
    levels = [_interpolated(result, n) for result in averaged]
    return [(i / n, fmean(level[i] for level in levels)) for i in range(n + 1)]


def _interpolated(result: QueryResult, n: int) -> list[float]:
    precision = [0.0] * (n + 1)
    for hits, rank in enumerate(result.ranks, start=1):
        reached = hits * n // result.n_relevant  # in whole numbers: 3/10 is not .3
        precision[reached] = max(precision[reached], hits / rank)
    for i in range(n - 1, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return precision


def _mean_precision(ranks: Iterable[int], n_relevant: int) -> float:
    return sum(hits / rank for hits, rank in enumerate(ranks, start=1)) / n_relevant
