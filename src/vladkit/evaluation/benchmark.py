"""Benchmarks: queries with what is to be found, and the figures of a retrieval experiment.

A benchmark says which queries are asked, what is to be found with each, and how its figures are
computed. `vladkit.Collection.evaluate` asks a collection; `vladkit.evaluation.datasets` reads the
data sets of the field.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from vladkit.core.names import on_disk
from vladkit.errors import FileFormatError, StorageError
from vladkit.evaluation.metrics import QueryRanks, mean, recall
from vladkit.images.region import Region, as_region

__all__ = [
    "Benchmark",
    "Measure",
    "Outcome",
    "Query",
    "Relevance",
    "ground_truth",
    "read_ground_truth",
    "read_json",
    "recall_figures",
]

_RECALL_AT: Final = (1, 5, 10, 20)
"""Ranks that place-recognition benchmarks report."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """Files to be found with a query, and files that count neither as right nor as wrong."""

    relevant: frozenset[str]
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Query:
    """A query image, and what is to be found with it.

    Parameters
    ----------
    file : str
    relevance : mapping
        Level ("" where a benchmark has only one) to `Relevance`.
    region : Region, (left, top, width, height) or None
        Part of the image that is the query; None is all of it.
    unknown : bool
        Whether the ground truth states that the database has no match.
    """

    file: str
    relevance: Mapping[str, Relevance]
    region: Region | None = None
    unknown: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "region", as_region(self.region))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of a benchmark, and the counts behind them.

    Parameters
    ----------
    figures : dict
        Level ("" where a benchmark has only one) to figures by name, such as "mAP". All are NaN
        at a level where there is nothing to average, or where every query failed.
    queries : dict
        Level to the number of queries averaged. Failed ones are among them: they found nothing.
    asked, failed : int
        Number of all queries, and of those that could not be read.
    remarks : list of str
        What did not fit, and why queries failed.
    """

    figures: dict[str, dict[str, float]]
    queries: dict[str, int]
    asked: int
    failed: int
    remarks: list[str]


Measure: TypeAlias = Callable[[Sequence[QueryRanks]], dict[str, float]]
"""Figures by name from the ranks of all queries that count."""


def recall_figures(found: Sequence[QueryRanks]) -> dict[str, float]:
    """recall@1, 5, 10 and 20 by name."""
    return {f"recall@{k}": recall(found, k) for k in _RECALL_AT}


def _mean_average_precision_and_recall(found: Sequence[QueryRanks]) -> dict[str, float]:
    return {"mAP": mean([each.average_precision for each in found])} | recall_figures(found)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Queries, the images that they are to be found in, and the figures.

    Parameters
    ----------
    queries : tuple of Query
    database : frozenset of str or None
        Files that are ranked; None is whatever is indexed.
    measure : callable
        Figures from the `vladkit.evaluation.metrics.QueryRanks` of the queries that count.
    every_query : bool
        Whether queries with nothing to find count, as missed; else they are left out.
    remarks : tuple of str
        What is unusual about the data set.
    """

    queries: tuple[Query, ...]
    database: frozenset[str] | None = None
    measure: Measure = _mean_average_precision_and_recall
    every_query: bool = False
    remarks: tuple[str, ...] = ()

    def outcome(
        self, found: Sequence[Mapping[str, QueryRanks]], remarks: Sequence[str] = ()
    ) -> Outcome:
        """Figures from the ranks, by level, of every query.

        Examples
        --------
        >>> asked = ground_truth({"q.jpg": ["a.jpg"], "r.jpg": ["b.jpg"]})
        >>> outcome = asked.outcome([{"": QueryRanks((1,), 1)}, {"": QueryRanks((4,), 1)}])
        >>> outcome.figures[""]["mAP"], outcome.figures[""]["recall@1"]
        (0.625, 0.5)
        """
        figures, queries = {}, {}
        for level in self.queries[0].relevance if self.queries else [""]:
            counted = [r[level] for r in found if self.every_query or r[level].n_relevant]
            queries[level] = len(counted)
            figures[level] = self.measure([] if all(r.failed for r in counted) else counted)
        failed = sum(any(each.failed for each in ranks.values()) for ranks in found)
        return Outcome(figures, queries, len(found), failed, list(remarks))


def ground_truth(
    relevant: Mapping[str, Iterable[str]], database: Iterable[str] | None = None
) -> Benchmark:
    """Benchmark from the relevant files of each query.

    Its figures are those of `vladkit eval`: mAP (the finite sum) and recall@1, 5, 10 and 20, over
    the queries that have something to find. A query is dropped from its own ranking.

    Examples
    --------
    >>> len(ground_truth({"query.jpg": ["a.jpg", "b.jpg"], "other.jpg": []}).queries)
    2
    """
    queries = tuple(_query(file, files) for file, files in relevant.items())
    return Benchmark(queries, None if database is None else frozenset(database))


def _query(
    file: str, relevant: Iterable[str], junk: Iterable[str] = (), unknown: bool = False
) -> Query:
    relevance = Relevance(frozenset(relevant), frozenset(junk) | {file})
    return Query(file, {"": relevance}, unknown=unknown)


def read_ground_truth(path: str | os.PathLike[str]) -> Benchmark:
    """Read ``{"database": [path], "queries": [{"query", "relevant", "junk"?, "unknown"?}]}``.

    Paths are relative to the file's folder. Figures as `ground_truth`.

    Raises
    ------
    StorageError
        If the file cannot be read.
    FileFormatError
        If it is not of that form.
    """
    where = Path(path)
    content = read_json(where)
    folder = os.path.abspath(where.parent)

    def absolute(path: str) -> str:
        if "\0" in path:
            raise ValueError(f"a path with a NUL character: {path!r}")
        os.fsencode(path)  # UnicodeEncodeError for what no file can be called
        return on_disk(os.path.normpath(os.path.join(folder, path)))

    def files(paths: Sequence[str]) -> frozenset[str]:
        if isinstance(paths, str):
            raise TypeError(f"{paths!r} is one path, wanted a list")
        return frozenset(map(absolute, paths))

    def flag(value: object) -> bool:
        if value not in (True, False, None):
            raise TypeError(f"unknown is {value!r}, wanted true or false")
        return bool(value)

    try:
        queries = tuple(
            _query(
                absolute(q["query"]),
                files(q["relevant"]),
                files(q.get("junk") or ()),
                flag(q.get("unknown")),
            )
            for q in content["queries"]
        )
        database: Any = content.get("database")
        return Benchmark(queries, None if database is None else files(database))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f'{where} is not a ground truth: wanted {{"database": [path], "queries": '
            f'[{{"query": path, "relevant": [path]}}]}}; {type(error).__name__}: {error}'
        ) from error


def read_json(where: Path) -> Any:
    """Content of a JSON file; StorageError or FileFormatError if there is none."""
    try:
        return json.loads(where.read_text("utf-8-sig"))  # some editors put a mark before it
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where} is not JSON in UTF-8: {error}") from error
