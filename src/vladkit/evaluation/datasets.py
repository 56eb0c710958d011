"""Data sets of the field, read in their own layouts, with the figures of their own scripts."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from vladkit.core.names import on_disk
from vladkit.errors import FileFormatError, ParameterError, StorageError
from vladkit.evaluation.benchmark import Benchmark, Query, Relevance, read_json, recall_figures
from vladkit.evaluation.metrics import QueryRanks, mean, precision_at, trapezoid_precision
from vladkit.images import Region, is_image_name

__all__ = ["BenchmarkName", "read_benchmark"]

BenchmarkName: TypeAlias = Literal["vpr", "holidays", "roxford", "rparis", "ukbench"]

RADIUS: Final = 25.0
"""Metres within which two images show one place: the rule of Pitts, Tokyo 24/7, MSLS and most sets
named by UTM coordinates. Other benchmarks have their own, such as a number of frames (Nordland)."""

_PRECISION_AT: Final = (1, 5, 10)


def read_benchmark(name: str, path: str | os.PathLike[str]) -> Benchmark:
    """Read a data set of the field, in the layout that its own scripts expect.

    ============ ===================================================================
    ``vpr``      folder with ``images/{database,queries}`` or
                 ``images/test/{database,queries}``; names
                 ``@UTM_east@UTM_north@...@.jpg``
    ``holidays`` folder of ``SSSSNN.jpg``: series, number in it; 00 is the query
    ``roxford``  JSON with the keys of the revisited ground truth; images in
                 ``jpg/`` beside it
    ``rparis``   the same
    ``ukbench``  folder of ``ukbenchNNNNN.jpg``: four of each object in a row
    ============ ===================================================================

    Raises
    ------
    ParameterError
        If there is no benchmark of that name.
    StorageError
        If the path does not exist or cannot be read.
    FileFormatError
        If it has another layout.
    """
    readers: dict[str, Callable[[Path], Benchmark]] = {
        "vpr": _read_vpr,
        "holidays": _read_holidays,
        "roxford": _read_revisited,
        "rparis": _read_revisited,
        "ukbench": _read_ukbench,
    }
    if name not in readers:
        known = ", ".join(get_args(BenchmarkName))
        raise ParameterError(f"protocol {name!r} is not known: use {known}")
    where = Path(os.path.abspath(path))
    try:
        where.stat()
    except OSError as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise StorageError(f"cannot read {where}: {reason}") from error
    return readers[name](where)


# -- figures -------------------------------------------------------------------------


def _holidays(found: Sequence[QueryRanks]) -> dict[str, float]:
    return {
        "mAP": mean([trapezoid_precision(each.ranks, each.n_relevant) for each in found]),
        "mAP_sum": mean([each.average_precision for each in found]),
    }


def _revisited(found: Sequence[QueryRanks]) -> dict[str, float]:
    figures = {"mAP": mean([trapezoid_precision(each.ranks, each.n_relevant) for each in found])}
    for k in _PRECISION_AT:
        figures[f"mP@{k}"] = mean([precision_at(each.ranks, k) for each in found])
    return figures


def _ukbench(found: Sequence[QueryRanks]) -> dict[str, float]:
    """N-S: number of the first four images that show the query's object, itself among them."""
    return {"N-S": mean([sum(rank <= 4 for rank in each.ranks) for each in found])}


# -- layouts -------------------------------------------------------------------------


def _images(folder: Path) -> Iterator[str]:
    """Absolute paths of all images below a folder, sorted."""
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


def _read_vpr(where: Path) -> Benchmark:
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
    asked = tuple(
        Query(file, {"": Relevance(frozenset(database[i] for i in rows))})
        for file, rows in zip(queries, near, strict=True)
    )
    alone = sum(not rows for rows in near)
    remark = f"{alone} queries have no image within {RADIUS:g} m: they count as missed"
    remarks = (remark,) if alone else ()
    return Benchmark(asked, frozenset(database), recall_figures, every_query=True, remarks=remarks)


def _place(file: str) -> tuple[float, float]:
    """(UTM east, UTM north) in metres, from a name ``@east@north@...@.jpg``."""
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
    """Images by the number in their name; images without one are left out."""
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


def _groups(files: Mapping[int, str], size: int) -> dict[int, frozenset[str]]:
    """Images whose numbers have the same quotient by `size`."""
    groups: dict[int, set[str]] = defaultdict(set)
    for number, file in files.items():
        groups[number // size].add(file)
    return {key: frozenset(group) for key, group in groups.items()}


def _read_holidays(where: Path) -> Benchmark:
    files = _numbered(where, r"(\d{6})", "100000.jpg")
    series = _groups(files, 100)
    queries = tuple(
        Query(file, {"": Relevance(series[number // 100], frozenset({file}))})
        for number, file in files.items()
        if number % 100 == 0
    )
    if not queries:
        raise FileFormatError(f"{where} holds no query: no image's name ends in 00")
    return Benchmark(queries, frozenset(files.values()), _holidays)


def _read_ukbench(where: Path) -> Benchmark:
    files = _numbered(where, r"(?:ukbench)?(\d{5})", "ukbench00000.jpg")
    objects = _groups(files, 4)
    queries = tuple(
        Query(file, {"": Relevance(objects[number // 4])}) for number, file in files.items()
    )
    fewer = sum(len(group) < 4 for group in objects.values())
    remark = f"{fewer} of {len(objects)} objects have fewer than four images: N-S is lower for it"
    remarks = (remark,) if fewer else ()
    return Benchmark(
        queries, frozenset(files.values()), _ukbench, every_query=True, remarks=remarks
    )


def _read_revisited(where: Path) -> Benchmark:
    wanted = (
        '{"imlist": [name], "qimlist": [name], "gnd": [{"easy": [index], "hard": [index], '
        '"junk": [index], "bbx": [left, top, right, bottom]}]}'
    )
    if where.is_dir() or where.suffix == ".pkl":
        raise FileFormatError(
            f"{where}: give the ground truth as JSON, {wanted}; docs/how-to/evaluation.md has the "
            "lines that convert the .pkl, which is never opened here, as it can run any program"
        )
    content = read_json(where)
    folder = where.parent / "jpg"
    folder = folder if folder.is_dir() else where.parent
    try:
        database = [_file(folder, each) for each in content["imlist"]]
        queries = tuple(
            _revisited_query(_file(folder, query), truth, database)
            for query, truth in zip(content["qimlist"], content["gnd"], strict=True)
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{where} is not a ground truth: wanted {wanted}; {type(error).__name__}: {error}"
        ) from error
    return Benchmark(queries, frozenset(database), _revisited)


def _file(folder: Path, name: str) -> str:
    """Path of an image; the lists have names without .jpg."""
    if "\0" in name:
        raise ValueError(f"a name with a NUL character: {name!r}")
    os.fsencode(name)  # UnicodeEncodeError for what no file can be called
    return on_disk(str(folder / (name if is_image_name(name) else f"{name}.jpg")))


def _revisited_query(file: str, truth: Mapping[str, Any], database: Sequence[str]) -> Query:
    def files(*keys: str) -> frozenset[str]:
        rows = [int(row) for key in keys for row in truth[key]]
        if rows and min(rows) < 0:
            raise IndexError(f"{min(rows)} is no place in imlist")
        return frozenset(database[row] for row in rows)

    left, top, right, bottom = (round(float(x)) for x in truth["bbx"])
    left, top = max(left, 0), max(top, 0)
    relevance = {
        "easy": Relevance(files("easy"), files("junk", "hard")),
        "medium": Relevance(files("easy", "hard"), files("junk")),
        "hard": Relevance(files("hard"), files("junk", "easy")),
    }
    return Query(file, relevance, Region(left, top, right - left, bottom - top))
