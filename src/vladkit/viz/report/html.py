"""HTML reports: templates are filled, each image is embedded once, one file is written."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vladkit.collection.indexing import Progress
from vladkit.core.files import check_writable, replace_file
from vladkit.core.names import one_line
from vladkit.errors import MissingDependencyError
from vladkit.viz.report.matched import Side, alone, matched
from vladkit.viz.report.rankings import Asked, ReportData, firsts, thresholds
from vladkit.viz.report.thumbnails import LARGE, SMALL, Thumbnail, thumbnails

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from vladkit.collection.evaluation import Answer
    from vladkit.collection.ranked import Hit

__all__ = ["check_target", "write_report", "write_search"]

_TEMPLATES: Final = Path(__file__).parent / "templates"

_MOST_LATE: Final = 5
"""Late right images of a query that are shown; only ranks are given of the rest."""

_MOST_LINES: Final = 5000
"""Queries listed in a line each, after those that are shown with images."""

_MOST_MATCHED: Final = 10
"""Hits of a search whose matches are drawn: each takes some 40 kB more than a plain one."""


def check_target(
    path: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]] = (),
    *,
    figures: bool = True,
) -> None:
    """Refuse, before the work, an HTML report that could not be made or written after it.

    Parameters
    ----------
    path : path
    inputs : iterable of path
        Files that the report is made from.
    figures : bool
        Whether the report has figures.

    Raises
    ------
    MissingDependencyError
        If Jinja2 or matplotlib is not installed.
    ParameterError
        If the path is one of `inputs`.
    StorageError
        If nothing can be written there.
    """
    try:
        import jinja2  # noqa: F401

        if figures:
            import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"an HTML report needs {error.name}, which is not installed: "
            "pip install 'vladkit[report]'",
            name=error.name,
        ) from error
    check_writable(path, inputs)


def write_report(
    path: str | os.PathLike[str],
    data: ReportData,
    *,
    queries: int = 50,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the HTML report on a collection, and return its size in bytes.

    Parameters
    ----------
    path : path
    data : ReportData
        Answers that `assess` collected.
    queries : int
        Number of queries shown with their images, the worst first, both of those with something
        to find and of those stated to have no match; the figures count all.
    n_jobs : int or None
        Threads that read images; None is one for each core.
    progress : callable or None
        See `Progress`; its step is "thumbnails".

    Raises
    ------
    MissingDependencyError, StorageError
        As `check_target`.
    """
    check_target(path)
    from vladkit.viz.report.curves import curves

    shown = {
        "judged": data.judged[:queries],
        "unknown": data.unknown[:queries],
        "open": data.open[:queries],
    }
    files = _files(answer for answers in shown.values() for answer in answers)
    step = None if progress is None else partial(progress, "thumbnails")
    given = {answer.query.file for answer in data.answers} if data.questions.stated else ()
    sides = dict.fromkeys(files, SMALL)
    made = thumbnails(sides, within=data.within, given=given, n_jobs=n_jobs, progress=step)
    template = _environment().get_template("report.html")
    known = firsts(data.judged + data.unknown)
    text = template.render(
        data=data,
        title=f"{'Retrieval' if data.questions.stated else 'Collection'} report: "
        f"{os.path.basename(data.info['file'])}",
        shown=shown,
        rest=data.judged[queries : queries + _MOST_LINES],
        most_late=_MOST_LATE,
        curves=curves(data),
        n_first=len(known),
        thresholds=thresholds(known),
        reasons=Counter(reason for _, reason in data.skipped).most_common(),
        **_common(data.made, made),
    )
    return _write(path, text)


def write_search(
    path: str | os.PathLike[str],
    collection: str | os.PathLike[str],
    asked: Sequence[Asked],
    *,
    within: Sequence[str] | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the HTML report on one or more searches, and return its size in bytes.

    Parameters
    ----------
    path : path
    collection : path
        Collection that was searched.
    asked : sequence of Asked
    within : sequence of str or None
        `vladkit.Collection.folders_to_show`.
    n_jobs, progress
        See `write_report`.

    Raises
    ------
    MissingDependencyError, StorageError
        As `check_target`.
    """
    check_target(path, figures=False)
    side_of: dict[str, int] = {}
    for each in asked:
        if each.failed is None:
            side_of |= {each.files.get(query, query): LARGE for query in each.queries}
            drawn = {hit.file for hit in _to_draw(each.hits)}
            for hit in each.hits:
                side = LARGE if hit.file in drawn else SMALL
                side_of[hit.file] = max(side, side_of.get(hit.file, 0))
    step = None if progress is None else partial(progress, "thumbnails")
    given = {query for each in asked for query in each.queries if query not in each.files}
    made = thumbnails(side_of, within=within, given=given, n_jobs=n_jobs, progress=step)
    text = (
        _environment()
        .get_template("search.html")
        .render(
            title=f"Search in {os.path.basename(collection)}",
            searches=[_Search.of(each, made) for each in asked],
            **_common(datetime.now(UTC), made),
        )
    )
    return _write(path, text)


@dataclass(frozen=True, slots=True)
class _Search:
    """A search as the template wants it: results drawn with their matches, and the rest.

    ``queries`` are query images, each by its name and drawn by itself, or None without an image.
    """

    asked: Asked
    queries: list[tuple[str, Markup | None]]
    drawn: list[tuple[int, Hit, Markup]]
    plain: list[tuple[int, Hit]]

    @classmethod
    def of(cls, asked: Asked, made: dict[str, Thumbnail]) -> _Search:
        drawn, plain = [], []
        sides = [_side(made.get(asked.files.get(query, query))) for query in asked.queries]
        changed = [asked.files.get(query) in asked.changed for query in asked.queries]
        parts = [None if each else asked.region for each in changed]
        queries = [
            (query, None if side is None else alone(side, part, one_line(f"Query {query}")))
            for query, side, part in zip(asked.queries, sides, parts, strict=True)
        ]
        to_draw = {hit.image_id for hit in _to_draw(asked.hits)}
        for rank, hit in enumerate(asked.hits, start=1):
            left, right = sides[hit.query], _side(made[hit.file])
            is_changed = changed[hit.query] or hit.file in asked.changed
            if not is_changed and hit.image_id in to_draw and hit.verification and left and right:
                label = f"{hit.inliers} matches of {asked.queries[hit.query]} and {hit.path}"
                svg = matched(left, right, hit.verification, asked.region, one_line(label))
                drawn.append((rank, hit, svg))
            else:
                plain.append((rank, hit))
        return cls(asked, queries, drawn, plain)


def _side(image: Thumbnail | None) -> Side | None:
    return Side(image.key, image.width, image.height) if image and image.data else None


def _to_draw(hits: Sequence[Hit]) -> list[Hit]:
    return [hit for hit in hits if hit.verified][:_MOST_MATCHED]


def _files(answers: Iterable[Answer]) -> Iterator[str]:
    for answer in answers:
        if answer.failed is None:
            yield answer.query.file
        for found in (*answer.first, *answer.late[:_MOST_LATE]):
            yield found.file


def _common(made: datetime, thumbnails: dict[str, Thumbnail]) -> dict[str, Any]:
    from vladkit.core.version import __version__

    return {
        "thumbnails": thumbnails,
        "images": list({each.key: each for each in thumbnails.values()}.values()),
        "style": (_TEMPLATES / "style.css").read_text("utf-8"),
        "version": __version__,
        "made": made.strftime("%Y-%m-%d %H:%M UTC"),
    }


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["worth"] = _worth
    environment.filters["score"] = _score
    return environment


def _readable(value: Any) -> Any:
    """Text of which every character is seen, as the command prints names; markup as it is."""
    return one_line(value) if type(value) is str else value


def _worth(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _score(value: float | None, digits: int = 3) -> str:
    """A score: with match codes those of wrong images are small."""
    if value is None or not 0 < abs(value) < 0.1:
        return _worth(value, digits)
    return f"{value:#.{digits - 1}g}"


def _write(path: str | os.PathLike[str], text: str) -> int:
    data = text.encode("utf-8", "replace")  # names of files may hold bytes that are no text
    with replace_file(path) as file:
        file.write(data)
    return len(data)
