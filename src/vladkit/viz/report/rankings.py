"""Data of an HTML report: answers of a collection, sorted and counted, and thresholds."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any, Final, Self

from vladkit.collection.changed import changed_images
from vladkit.collection.collection import Collection
from vladkit.collection.evaluation import Answer, RankedImage
from vladkit.collection.indexing import Progress
from vladkit.collection.ranked import Hit
from vladkit.collection.search_options import check_number
from vladkit.core.names import real
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import NothingToIndexError
from vladkit.evaluation.benchmark import Benchmark, Outcome, ground_truth, read_ground_truth
from vladkit.geometry.verification import Model
from vladkit.images import Region

__all__ = [
    "Asked",
    "Questions",
    "ReportData",
    "Threshold",
    "assess",
    "drawn",
    "firsts",
    "read",
    "split",
    "thresholds",
]

_SHARES: Final = (1.0, 0.99, 0.95, 0.9, 0.8)
"""Shares of accepted first results that shall be right, at least; one threshold for each."""

_MOST_SKIPPED: Final = 1000
"""Skipped images that are listed; their number is given in any case."""

_MOST_HITS: Final = 200
"""Results of a search that are shown."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Effect of accepting a query's first result from some score on, and none below.

    Parameters
    ----------
    score : float
        Lowest score that is accepted.
    accepted, right : int
        Number of queries whose first result is accepted, and of those where it is right.
    """

    score: float
    accepted: int
    right: int


@dataclass(frozen=True, eq=False)
class ReportData:
    """Content of the HTML report on a collection.

    Parameters
    ----------
    info : dict
        `Collection.info`.
    questions : Questions
    answers : list of Answer
    remarks : list of str
    top, rerank : int
    model : {"homography", "fundamental"}
    skipped : list of (path, reason)
        The first 1,000 images that could not be indexed.
    made : datetime
    within : list of str or None
        `vladkit.Collection.folders_to_show`.
    changed : frozenset of str
        Files of results that are other ones than were indexed.
    """

    info: dict[str, Any]
    questions: Questions
    answers: list[Answer]
    remarks: list[str]
    top: int
    rerank: int
    model: Model
    skipped: list[tuple[str, str]]
    made: datetime
    within: list[str] | None = None
    changed: frozenset[str] = frozenset()

    @cached_property
    def outcome(self) -> Outcome:
        """Figures, as `Collection.evaluate` gives them."""
        ranks = [answer.ranks for answer in self.answers]
        return self.questions.benchmark.outcome(ranks, self.remarks)

    @property
    def figures(self) -> dict[str, float]:
        """MAP and recall by name."""
        return next(iter(self.outcome.figures.values()))

    @cached_property
    def judged(self) -> list[Answer]:
        """Answers to queries that have something to find, the worst first."""
        judged = [answer for answer in self.answers if answer.result.n_relevant]
        return sorted(judged, key=lambda a: (a.result.average_precision, a.query.file))

    @cached_property
    def unknown(self) -> list[Answer]:
        """Answers to queries that are stated to have no match, the surest wrong answer first."""
        unknown = [a for a in self.answers if a.query.unknown and not a.result.n_relevant]
        return sorted(unknown, key=lambda a: (-(a.best_wrong or 0.0), a.query.file))

    @cached_property
    def open(self) -> list[Answer]:
        """Answers to queries of which nothing is stated, by name."""
        rest = [a for a in self.answers if not a.result.n_relevant and not a.query.unknown]
        return sorted(rest, key=lambda a: a.query.file)

    def name(self, file: str) -> str:
        """Name by which the HTML report shows a query, or a file to be found."""
        return self.questions.names.get(file) or os.path.basename(file)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A search: the query, the part of it that was asked for, and the results.

    `others` are further query images of the same thing. `files` has the file of each query that was
    given by the name of an image of the collection. `changed` are files of these, and of results,
    that are other ones than were indexed: what was found is of places in the images of before.
    """

    query: str
    region: Region | None = None
    hits: tuple[Hit, ...] = ()
    n_hits: int = 0
    failed: str | None = None
    others: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()

    @classmethod
    def found(
        cls,
        query: str,
        region: Region | None,
        hits: Sequence[Hit],
        others: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
    ) -> Self:
        """A search with its first 200 results; nobody looks at a million."""
        some = tuple(hits[:_MOST_HITS])
        return cls(query, region, some, len(hits), others=tuple(others), files=files or {})

    @property
    def queries(self) -> tuple[str, ...]:
        """All query images, in order."""
        return self.query, *self.others

    @property
    def title(self) -> str:
        """Names of the query images."""
        return ", ".join(self.queries)


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries, and the names by which an HTML report shows them.

    Parameters
    ----------
    benchmark : Benchmark
    source : str
        Origin of the queries, for people.
    stated : bool
        Whether a ground truth states what is to be found.
    names : dict
        File to its name in the HTML report.
    """

    benchmark: Benchmark
    source: str
    stated: bool
    names: dict[str, str]


def read(path: str | os.PathLike[str]) -> Questions:
    """Queries of a file; errors as `vladkit.evaluation.benchmark.read_ground_truth`."""
    benchmark = read_ground_truth(path)
    folder = os.path.dirname(os.path.abspath(path))
    names = {}
    for query in benchmark.queries:
        for file in (query.file, *query.relevance[""].relevant):
            short = os.path.relpath(file, folder)
            names[file] = file if short.startswith(os.pardir + os.sep) else short
    return Questions(benchmark, os.path.basename(path), True, names)


def drawn(collection: Collection, n: int, seed: int = 0) -> Questions:
    """`n` images of a collection, drawn at random, or all if there are fewer.

    Raises
    ------
    NothingToIndexError
        If the collection is empty.
    ParameterError
        If `n` or `seed` is negative.
    """
    check_number("n", n)
    check_parameter("seed", seed, Interval(int, 0))  # Python's takes -1 for 1
    rows = list(collection.images())
    if not rows:
        raise NothingToIndexError(f"{collection.path} holds no images yet")
    some = random.Random(seed).sample(rows, min(n, len(rows)))
    names = {row.file: row.path for row in some}
    source = f"drawn at random from its own images (seed {seed}), which do not find themselves"
    return Questions(ground_truth(dict.fromkeys(names, ())), source, False, names)


def assess(
    collection: Collection,
    questions: Questions,
    *,
    top: int = 10,
    rerank: int | None = None,
    model: Model = "homography",
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> ReportData:
    """Answers of a collection, for a report; parameters and errors as `Collection.assess`."""
    answers, remarks = collection.assess(
        questions.benchmark, top=top, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
    )
    _, rows = collection.page(0, _MOST_SKIPPED, skipped=True)
    shown = {found.file for answer in answers for found in (*answer.first, *answer.late)}
    rows_shown = {row: file for row in collection.images() if (file := real(row.file)) in shown}
    changed = changed_images(collection.index, rows_shown)
    return ReportData(
        info=collection.info(),
        questions=questions,
        answers=answers,
        remarks=remarks,
        top=top,
        rerank=collection.index.searcher.depth(rerank),
        model=model,
        skipped=[(row.path, row.skipped or "") for row in rows],
        made=datetime.now(UTC),
        within=collection.folders_to_show(),
        changed=frozenset(file for row, file in rows_shown.items() if row.image_id in changed),
    )


def firsts(answers: Sequence[Answer]) -> list[tuple[float, bool]]:
    """(score, whether it is right) of each query's first result, where that is known."""
    known = []
    for answer in answers:
        scores = [s for s in (answer.best_right, answer.best_wrong) if s is not None]
        if scores:
            known.append((max(scores), answer.result.first_rank == 1))
    return known


def thresholds(first: Sequence[tuple[float, bool]]) -> list[Threshold]:
    """The lowest scores from which at least 100, 99, 95, 90 and 80 % of first results are right.

    The highest score comes first, and the one that accepts all results last; a share that no
    score reaches is left out.

    Examples
    --------
    >>> thresholds([(0.9, True), (0.5, True), (0.4, False), (0.3, True)])
    [Threshold(score=0.5, accepted=2, right=2), Threshold(score=0.3, accepted=4, right=3)]
    """
    steps: list[Threshold] = []
    accepted = right = 0
    for score, equal in groupby(sorted(first, reverse=True), key=lambda each: each[0]):
        verdicts = [is_right for _, is_right in equal]
        accepted += len(verdicts)
        right += sum(verdicts)
        steps.append(Threshold(score, accepted, right))
    chosen = {}
    for share in _SHARES:
        enough = [step for step in steps if step.right >= share * step.accepted]
        if enough:
            chosen[enough[-1].score] = enough[-1]
    if steps:
        chosen[steps[-1].score] = steps[-1]
    return sorted(chosen.values(), key=lambda step: -step.score)


def split(answers: Sequence[Answer]) -> tuple[list[RankedImage], list[RankedImage]]:
    """(right, wrong) results: all right ones, and the wrong ones among the first of each query."""
    everything = [found for answer in answers for found in (*answer.first, *answer.late)]
    right = [found for found in everything if found.verdict == "right"]
    wrong = [found for found in everything if found.verdict == "wrong"]
    return right, wrong
