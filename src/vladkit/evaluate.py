"""How good a ranking is: average precision and recall, from a ground-truth file."""

from __future__ import annotations

import json
import os
from collections.abc import Collection as Container
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vladkit.errors import FileFormatError, StorageError

__all__ = ["GroundTruth", "Query", "Scores", "average_precision", "read_ground_truth", "summarize"]

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Query:
    """A query picture and what is to be found with it; absolute paths.

    Pictures in ``junk`` count neither as right nor as wrong. ``unknown``: stated to have no
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
class Scores:
    """Means over the queries that have something to find.

    ``recall`` maps k to the share of queries with a relevant picture among the first k.
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
    """Mean, over the relevant pictures, of the precision at the rank of each.

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
    hits = 0
    total = 0.0
    for rank, name in enumerate(ranking, start=1):
        if name in relevant:
            hits += 1
            total += hits / rank
    return total / n_relevant


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
    precision: list[float] = []
    first: list[float] = []
    failed = 0
    for query, ranking in zip(queries, rankings, strict=True):
        relevant = query.relevant - query.junk - {query.file}
        if not relevant:
            continue
        if ranking is None:
            failed += 1
        kept = [f for f in ranking or () if f != query.file and f not in query.junk]
        precision.append(average_precision(kept, relevant, len(relevant)))
        first.append(next((i for i, f in enumerate(kept) if f in relevant), float("inf")))
    return Scores(
        mean_average_precision=fmean(precision) if precision else float("nan"),
        recall={k: fmean([i < k for i in first]) if first else float("nan") for k in RECALL_AT},
        queries=len(precision),
        not_averaged=len(queries) - len(precision),
        failed=failed,
    )
