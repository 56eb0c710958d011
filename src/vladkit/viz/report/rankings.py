"""What a report says: answers sorted, counted, and thresholds drawn from them."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any, Final, Self

from vladkit.collection.assessing import Answer, Found
from vladkit.collection.collection import Collection
from vladkit.collection.indexing import Progress
from vladkit.collection.searching import Hit
from vladkit.errors import NothingToIndexError, ParameterError
from vladkit.evaluation.metrics import GroundTruth, Query, Scores, mean_scores, read_ground_truth
from vladkit.features import Region
from vladkit.geometry.verification import Model

__all__ = [
    "Asked",
    "Questions",
    "Ranks",
    "Threshold",
    "assess",
    "drawn",
    "firsts",
    "read",
    "split",
    "thresholds",
]

_SHARES: Final = (1.0, 0.99, 0.95, 0.9, 0.8)
"""Of accepted first results that shall be right, at least; a threshold for each."""

_MOST_SKIPPED: Final = 1000
_MOST_HITS: Final = 200


@dataclass(frozen=True, slots=True)
class Threshold:
    """What comes of accepting a query's first result from some score on, and none below.

    Parameters
    ----------
    score : float
        The lowest that is accepted.
    accepted, right : int
        Queries whose first result is accepted, and of those whose is right.
    """

    score: float
    accepted: int
    right: int


@dataclass(frozen=True, eq=False)
class Ranks:
    """Everything that a page about a collection says.

    Parameters
    ----------
    info : dict
        Of `Collection.info`.
    questions : Questions
    answers : list of Answer
    remarks : list of str
    top, rerank : int
    model : {"homography", "fundamental"}
    skipped : list of (path, reason)
        Of images that could not be indexed, the first 1,000.
    made : datetime
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

    @cached_property
    def scores(self) -> Scores:
        """As `Collection.evaluate` gives them."""
        return mean_scores([answer.result for answer in self.answers])

    @cached_property
    def judged(self) -> list[Answer]:
        """Of queries that have something to find, the worst first."""
        judged = [answer for answer in self.answers if answer.result.n_relevant]
        return sorted(judged, key=lambda a: (a.result.average_precision, a.query.file))

    @cached_property
    def unknown(self) -> list[Answer]:
        """Of queries that are stated to have no match: the surest wrong answer first."""
        unknown = [a for a in self.answers if a.query.unknown and not a.result.n_relevant]
        return sorted(unknown, key=lambda a: (-(a.best_wrong or 0.0), a.query.file))

    @cached_property
    def open(self) -> list[Answer]:
        """Of queries of which nothing is stated, by name."""
        rest = [a for a in self.answers if not a.result.n_relevant and not a.query.unknown]
        return sorted(rest, key=lambda a: a.query.file)

    def name(self, file: str) -> str:
        """A query's file, or one to be found, as the page shows it."""
        return self.questions.names.get(file) or os.path.basename(file)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One search: the query, the part of it that was asked for, and what was found."""

    query: str
    region: Region | None = None
    hits: tuple[Hit, ...] = ()
    n_hits: int = 0
    failed: str | None = None

    @classmethod
    def found(cls, query: str, region: Region | None, hits: Sequence[Hit]) -> Self:
        """With the first 200 hits: who ranks a million does not look at them all."""
        return cls(query, region, tuple(hits[:_MOST_HITS]), len(hits))


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries, and how a page names them.

    Parameters
    ----------
    truth : GroundTruth
    source : str
        Where they come from.
    stated : bool
        Whether a ground truth says what is to be found.
    names : dict
        Of files, as the page shows them.
    """

    truth: GroundTruth
    source: str
    stated: bool
    names: dict[str, str]


def read(ground_truth: str | os.PathLike[str]) -> Questions:
    """The queries of a file; errors of `vladkit.evaluation.metrics.read_ground_truth`."""
    truth = read_ground_truth(ground_truth)
    folder = os.path.dirname(os.path.abspath(ground_truth))
    names = {}
    for query in truth.queries:
        for file in (query.file, *query.relevant):
            short = os.path.relpath(file, folder)
            names[file] = file if short.startswith(os.pardir + os.sep) else short
    return Questions(truth, os.path.basename(ground_truth), True, names)


def drawn(collection: Collection, n: int, seed: int = 0) -> Questions:
    """`n` images of a collection, drawn at random, or all if there are fewer.

    Raises
    ------
    NothingToIndexError
        If there are none.
    ParameterError
        If `n` is negative.
    """
    if n < 0:
        raise ParameterError(f"n={n}: give a number of images, 0 or more")
    rows = list(collection.images())
    if not rows:
        raise NothingToIndexError(f"{collection.path} holds no images yet")
    some = random.Random(seed).sample(rows, min(n, len(rows)))
    names = {row.file: row.path for row in some}
    truth = GroundTruth(tuple(Query(file, frozenset()) for file in names), None)
    source = f"drawn at random from its own images (seed {seed}), which do not find themselves"
    return Questions(truth, source, False, names)


def assess(
    collection: Collection,
    questions: Questions,
    *,
    top: int = 10,
    rerank: int = 0,
    model: Model = "homography",
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Ranks:
    """What a collection answers; parameters and errors of `Collection.assess`."""
    answers, remarks = collection.assess(
        questions.truth, top=top, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
    )
    _, rows = collection.page(0, _MOST_SKIPPED, skipped=True)
    return Ranks(
        info=collection.info(),
        questions=questions,
        answers=answers,
        remarks=remarks,
        top=top,
        rerank=rerank,
        model=model,
        skipped=[(row.path, row.skipped or "") for row in rows],
        made=datetime.now(UTC),
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
    """The lowest scores from which at least 100, 99, 95, 90, 80 % of first results are right.

    And what comes of accepting them all, last. The highest score first; a share that no score
    reaches is left out.

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


def split(answers: Sequence[Answer]) -> tuple[list[Found], list[Found]]:
    """(right, wrong) results: all right ones, and the wrong ones among the first of each query."""
    everything = [found for answer in answers for found in (*answer.first, *answer.late)]
    right = [found for found in everything if found.verdict == "right"]
    wrong = [found for found in everything if found.verdict == "wrong"]
    return right, wrong
