"""Data sets of the field, read as they are laid out, and their own measures.

A protocol says which queries are asked, what is to be found with each, and what the figures are.
`vladkit.collection.measuring` asks a collection.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal, TypeAlias, get_args

from vladkit.errors import FileFormatError, ParameterError, StorageError
from vladkit.images import Region, is_image_name

__all__ = [
    "Goal",
    "Outcome",
    "Protocol",
    "ProtocolName",
    "Ranks",
    "Task",
    "read_protocol",
    "trapezoid_precision",
]

ProtocolName: TypeAlias = Literal["vpr", "holidays", "roxford", "rparis", "ukbench"]

RADIUS: Final = 25.0
"""Metres within which two images show one place, in every benchmark of the field."""

_RECALL_AT: Final = (1, 5, 10, 20)
_PRECISION_AT: Final = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be found with a query, and what counts neither as right nor as wrong: files."""

    relevant: frozenset[str]
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Task:
    """A query: its file, the part of it that is asked with, and one goal for each level."""

    file: str
    goals: Mapping[str, Goal]
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where what was to be found came: ranks from 1, ascending, without what is ignored.

    ``n_relevant`` is how many there were to be found, ranked or not.
    """

    ranks: tuple[int, ...]
    n_relevant: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures by level ("" where a protocol has only one), and what they are means over.

    ``queries`` maps a level to how many were averaged; ``failed`` could not be read and found
    nothing.
    """

    figures: dict[str, dict[str, float]]
    queries: dict[str, int]
    failed: int
    remarks: list[str] = field(default_factory=list)


Measure: TypeAlias = Callable[[Sequence[Ranks]], tuple[dict[str, float], int]]
"""From the ranks of all queries to figures, and how many queries were averaged."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Queries and the files that they are to be found in; all paths absolute."""

    name: ProtocolName
    tasks: tuple[Task, ...]
    database: frozenset[str]
    measure: Measure
    remarks: tuple[str, ...] = ()


def read_protocol(name: str, path: str | os.PathLike[str]) -> Protocol:
    """Read a data set in the layout of its protocol.

    ===========  ===================================================================
    ``vpr``      folder with ``images/{database,queries}`` or
                 ``images/test/{database,queries}``; names
                 ``@UTM_east@UTM_north@...@.jpg``
    ``holidays`` folder of ``SSSSNN.jpg``: series, number in it; 00 is the query
    ``roxford``  JSON with the keys of the revisited ground truth; images in
    ``rparis``   ``jpg/`` beside it
    ``ukbench``  folder of ``ukbenchNNNNN.jpg``: four of each object in a row
    ===========  ===================================================================

    Raises
    ------
    ParameterError
        If there is no such protocol.
    StorageError
        If the path is not there or cannot be read.
    FileFormatError
        If it is laid out in another way.
    """
    readers: dict[str, Callable[[Path], Protocol]] = {
        "vpr": _read_vpr,
        "holidays": _read_holidays,
        "roxford": lambda where: _read_revisited("roxford", where),
        "rparis": lambda where: _read_revisited("rparis", where),
        "ukbench": _read_ukbench,
    }
    if name not in readers:
        known = ", ".join(get_args(ProtocolName))
        raise ParameterError(f"protocol {name!r} is not known: use {known}")
    where = Path(os.path.abspath(path))
    if not where.exists():
        raise StorageError(f"cannot read {where}: it does not exist")
    return readers[name](where)


# -- measures ------------------------------------------------------------------------


def trapezoid_precision(ranks: Sequence[int], n_relevant: int) -> float:
    """Area under the precision-recall curve by trapezoids: Holidays' and Oxford5k's AP.

    Parameters
    ----------
    ranks : sequence of int
        Of the relevant images that were found, from 1, ascending.
    n_relevant : int
        How many there are; at least 1.

    Notes
    -----
    Each relevant image adds the mean of the precision at its rank and of that at the rank before
    it (1 before the first), over `n_relevant`. `vladkit.evaluation.metrics.average_precision` takes
    the first of the two alone, and is never lower.

    Examples
    --------
    >>> trapezoid_precision([2, 3], 2)  # ((0/1 + 1/2) / 2 + (1/2 + 2/3) / 2) / 2
    0.41666666666666663
    """
    total = 0.0
    for found, rank in enumerate(ranks):
        before = found / (rank - 1) if rank > 1 else 1.0
        total += (before + (found + 1) / rank) / 2
    return total / n_relevant


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else float("nan")


def _recall(found: Sequence[Ranks]) -> tuple[dict[str, float], int]:
    """Share of all queries, those with nothing to find among them, with a right image early."""
    figures = {
        f"recall@{k}": _mean([bool(each.ranks) and each.ranks[0] <= k for each in found])
        for k in _RECALL_AT
    }
    return figures, len(found)


def _holidays(found: Sequence[Ranks]) -> tuple[dict[str, float], int]:
    asked = [each for each in found if each.n_relevant]
    figures = {
        "mAP": _mean([trapezoid_precision(each.ranks, each.n_relevant) for each in asked]),
        "mAP_sum": _mean([_sum_precision(each) for each in asked]),
    }
    return figures, len(asked)


def _sum_precision(each: Ranks) -> float:
    """As `vladkit.evaluation.metrics.average_precision`."""
    return sum((i + 1) / rank for i, rank in enumerate(each.ranks)) / each.n_relevant


def _revisited(found: Sequence[Ranks]) -> tuple[dict[str, float], int]:
    asked = [each for each in found if each.n_relevant]
    figures = {"mAP": _mean([trapezoid_precision(each.ranks, each.n_relevant) for each in asked])}
    for k in _PRECISION_AT:
        figures[f"mP@{k}"] = _mean([_precision(each.ranks, k) for each in asked])
    return figures, len(asked)


def _precision(ranks: Sequence[int], k: int) -> float:
    """Of the first k, or of those up to the last relevant one if that comes earlier."""
    if not ranks:
        return 0.0
    k = min(k, ranks[-1])
    return sum(rank <= k for rank in ranks) / k


def _ukbench(found: Sequence[Ranks]) -> tuple[dict[str, float], int]:
    """N-S: how many of the four images of an object, itself among them, are the first four."""
    return {"N-S": _mean([sum(rank <= 4 for rank in each.ranks) for each in found])}, len(found)


# -- layouts -------------------------------------------------------------------------


def _images(folder: Path) -> Iterator[str]:
    """Absolute paths of all images below a folder, by name."""
    try:
        found = [
            os.path.join(where, name)
            for where, _, names in os.walk(folder, followlinks=True, onerror=_refuse)
            for name in names
            if is_image_name(name) and not name.startswith(".")
        ]
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {error.strerror or error}") from error
    return iter(sorted(found))


def _refuse(error: OSError) -> None:
    raise error


def _read_vpr(where: Path) -> Protocol:
    layouts = (where / "images" / "test", where / "images", where)
    for folder in layouts:
        if (folder / "database").is_dir() and (folder / "queries").is_dir():
            break
    else:
        raise FileFormatError(
            f"{where} has no folders images/test/database and images/test/queries, nor "
            "images/database and images/queries: give the folder of one data set"
        )
    database, queries = (list(_images(folder / name)) for name in ("database", "queries"))
    if not database or not queries:
        empty = folder / ("queries" if database else "database")
        raise FileFormatError(f"{empty} holds no image")
    near = _within([_place(file) for file in database], [_place(file) for file in queries])
    tasks = tuple(
        Task(file, {"": Goal(frozenset(database[i] for i in rows))})
        for file, rows in zip(queries, near, strict=True)
    )
    alone = sum(not rows for rows in near)
    remark = f"{alone} queries have no image within {RADIUS:g} m: they count as missed"
    return Protocol("vpr", tasks, frozenset(database), _recall, (remark,) if alone else ())


def _place(file: str) -> tuple[float, float]:
    """UTM east and north of ``@east@north@...@.jpg``."""
    try:
        _, east, north, *_ = os.path.basename(file).split("@")
        place = float(east), float(north)
        if not all(abs(x) < float("inf") for x in place):
            raise ValueError("not finite")
    except ValueError as error:
        raise FileFormatError(
            f"{file} does not say where it was taken: wanted @UTM_east@UTM_north@...@.jpg"
        ) from error
    return place


def _within(
    database: Sequence[tuple[float, float]], queries: Sequence[tuple[float, float]]
) -> list[list[int]]:
    from scipy.spatial import cKDTree

    found: list[list[int]] = list(cKDTree(database).query_ball_point(queries, RADIUS))
    return found


def _numbered(where: Path, pattern: str, example: str) -> dict[int, str]:
    """Images by the number that their name is; others are left out."""
    if not where.is_dir():
        raise FileFormatError(f"{where} is not a folder: give the one that holds the images")
    found: dict[int, str] = {}
    for file in _images(where):
        match = re.fullmatch(pattern, Path(file).stem, re.ASCII)
        if match and found.setdefault(int(match[1]), file) != file:
            first = found[int(match[1])]
            raise FileFormatError(f"{first} and {file} have one number: give one copy of the set")
    if not found:
        raise FileFormatError(f"{where} holds no image named like {example}")
    return dict(sorted(found.items()))


def _read_holidays(where: Path) -> Protocol:
    files = _numbered(where, r"(\d{6})", "100000.jpg")
    series: dict[int, list[str]] = defaultdict(list)
    for number, file in files.items():
        series[number // 100].append(file)
    tasks = tuple(
        Task(file, {"": Goal(frozenset(series[number // 100]) - {file}, frozenset({file}))})
        for number, file in files.items()
        if number % 100 == 0
    )
    if not tasks:
        raise FileFormatError(f"{where} holds no query: no image's name ends in 00")
    return Protocol("holidays", tasks, frozenset(files.values()), _holidays)


def _read_ukbench(where: Path) -> Protocol:
    files = _numbered(where, r"(?:ukbench)?(\d{5})", "ukbench00000.jpg")
    objects: dict[int, list[str]] = defaultdict(list)
    for number, file in files.items():
        objects[number // 4].append(file)
    tasks = tuple(
        Task(file, {"": Goal(frozenset(objects[number // 4]))}) for number, file in files.items()
    )
    fewer = sum(len(group) < 4 for group in objects.values())
    remark = f"{fewer} of {len(objects)} objects have fewer than four images: N-S is lower for it"
    return Protocol(
        "ukbench", tasks, frozenset(files.values()), _ukbench, (remark,) if fewer else ()
    )


def _read_revisited(name: ProtocolName, where: Path) -> Protocol:
    wanted = (
        '{"imlist": [name], "qimlist": [name], "gnd": [{"easy": [index], "hard": [index], '
        '"junk": [index], "bbx": [left, top, right, bottom]}]}'
    )
    if where.is_dir() or where.suffix == ".pkl":
        raise FileFormatError(
            f"{where}: give the ground truth as JSON, {wanted}; docs/evaluation.md has the lines "
            "that convert the .pkl, which is never opened here, as it can run any program"
        )
    try:
        content = json.loads(where.read_text("utf-8"))
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror}") from error
    except ValueError as error:
        raise FileFormatError(f"{where} is not JSON: {error}") from error
    folder = where.parent / "jpg"
    folder = folder if folder.is_dir() else where.parent
    try:
        database = [_file(folder, each) for each in content["imlist"]]
        tasks = tuple(
            _revisited_task(_file(folder, query), truth, database)
            for query, truth in zip(content["qimlist"], content["gnd"], strict=True)
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{where} is not a ground truth: wanted {wanted}; {type(error).__name__}: {error}"
        ) from error
    return Protocol(name, tasks, frozenset(database), _revisited)


def _file(folder: Path, name: str) -> str:
    """Where an image is; the lists have names without .jpg."""
    if "\0" in name:
        raise ValueError(f"a name with a NUL character: {name!r}")
    return str(folder / (name if is_image_name(name) else f"{name}.jpg"))


def _revisited_task(file: str, truth: Mapping[str, Any], database: Sequence[str]) -> Task:
    def files(*keys: str) -> frozenset[str]:
        rows = [int(row) for key in keys for row in truth[key]]
        if rows and min(rows) < 0:
            raise IndexError(f"{min(rows)} is no place in imlist")
        return frozenset(database[row] for row in rows)

    left, top, right, bottom = (round(float(x)) for x in truth["bbx"])
    left, top = max(left, 0), max(top, 0)
    goals = {
        "easy": Goal(files("easy"), files("junk", "hard")),
        "medium": Goal(files("easy", "hard"), files("junk")),
        "hard": Goal(files("hard"), files("junk", "easy")),
    }
    return Task(file, goals, Region(left, top, right - left, bottom - top))
