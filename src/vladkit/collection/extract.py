"""Extraction of the images that were found, whatever they do to the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

from vladkit.collection.discover import SourceFile
from vladkit.collection.journal import Journal, LeftBehind, reason_against
from vladkit.collection.read_ahead import ReadAhead
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.features import Extractor, Features
from vladkit.features.pool import (
    Extraction,
    Result,
    decoded,
    extract,
    extract_data,
    features_of_images,
)
from vladkit.features.vectors import WithVectors, imported
from vladkit.images import Image, read_bytes
from vladkit.images.files import check_size
from vladkit.images.opencv import within_memory

__all__ = ["extracting"]

_Load: TypeAlias = Callable[[str], bytes] | None
"""Gives the bytes of a file that is elsewhere or in memory; None reads those of this machine."""


@contextmanager
def extracting(
    path: Path,
    extractor: Extractor,
    found: Sequence[SourceFile],
    n_jobs: int | None,
    progress: Callable[[str, int, int], None] | None,
    measure: Callable[[str, str], tuple[int, int] | None] | None = None,
) -> Iterator[tuple[Extraction, dict[str, Result]]]:
    """With a pool of threads that extract files, and results of those that need no extracting.

    These cannot be used: their name is no text, or they have ended a process. `path` is the file
    that is made of the images: the journal is beside it. `measure` gives the size of an image, by
    root and path, whose features are given without; None where it is not known.
    """
    left = LeftBehind(path)
    results = _try_apart(extractor, found, left.files, progress)
    unnamed = ImageError("its name is not valid UTF-8: rename it")
    results |= {each.file: unnamed for each in found if not each.is_text}
    n_bytes = {each.file: each.listed[0] for each in found if each.listed}
    results |= _too_large(n_bytes)
    begin = None
    with ExitStack() as stack:
        load: _Load = None
        if n_bytes:
            ahead = stack.enter_context(ReadAhead.on_threads(n_bytes))
            load, begin = ahead.read, ahead.begin
        held_of = {each.file: each.held for each in found if each.held is not None}
        if held_of:
            load = partial(_held, held_of)
        journal = stack.enter_context(Journal.kept(path, resolve_n_jobs(n_jobs)))
        reading = partial(_noted, journal, _reading(extractor, found, load, measure))
        several = None
        if not imported(extractor):
            several = partial(_extract_several, journal, extractor, load)
        yield (
            stack.enter_context(
                Extraction.on_threads(extractor, n_jobs, len(found), reading, begin, several)
            ),
            results,
        )
    left.remove()


def _too_large(n_bytes: Mapping[str, int]) -> dict[str, Result]:
    """Results of those files elsewhere that are not read, by their sizes as listed."""
    results: dict[str, Result] = {}
    for file, n in n_bytes.items():
        try:
            check_size(n)
        except ImageError as error:
            results[file] = error
    return results


def _held(held_of: Mapping[str, bytes | ImageError], file: str) -> bytes:
    held = held_of[file]
    if isinstance(held, ImageError):
        raise held
    return held


def _extract_loaded(extractor: Extractor, load: _Load, file: str) -> Features:
    if load is None:
        return extract(extractor, file)
    with within_memory():
        return extract_data(extractor, load(file))


def _extract_several(
    journal: Journal, extractor: Extractor, load: _Load, files: Sequence[str]
) -> list[Result]:
    """Features of several files, by an extractor that takes images together."""
    images: list[Image | ImageError] = []
    for file in files:
        try:
            with journal.hand(file), within_memory():
                data = read_bytes(file) if load is None else load(file)
                images.append(decoded(extractor, data))
        except ImageError as error:
            images.append(error)
    return features_of_images(extractor, images)


def _try_apart(
    extractor: Extractor,
    found: Sequence[SourceFile],
    files: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, Result]:
    """Results of those files that the process had in hand when it ended, if they are to blame.

    Features of other programs are not tried: it is not images that are read then.
    """
    here = {each.file for each in found}
    local = extractor.local if isinstance(extractor, WithVectors) else extractor
    suspects = [file for file in files if file in here and not imported(local)]
    results: dict[str, Result] = {}
    for i, file in enumerate(suspects, 1):
        reason = reason_against(extractor, file)
        if reason:
            results[file] = ImageError(reason)
        if progress:
            progress("try apart", i, len(suspects))
    return results


def _reading(
    extractor: Extractor,
    found: Sequence[SourceFile],
    load: _Load,
    measure: Callable[[str, str], tuple[int, int] | None] | None,
) -> Callable[[str], Features]:
    """Function that gives the features of a file: extracted here, or another program's."""
    if not imported(extractor):
        return partial(_extract_loaded, extractor, load)
    accepted = cast(Any, extractor)
    has_both = isinstance(extractor, WithVectors)
    local: Extractor = accepted.local if has_both else extractor
    by_file = {each.file: each for each in found}

    def read(file: str) -> Features:
        each = by_file[file]
        vector_D = None if each.vectors is None else each.vectors.read(each.path).vector_D
        if each.reader is None:
            features = _extract_loaded(local, load, file)
        else:
            features = each.reader.read(each.path)
            if measure and not features.has_size and (size := measure(each.root, each.path)):
                features = replace(features, width=size[0], height=size[1], has_size=True)
        if has_both:
            features = replace(features, vector_D=vector_D)
        accept: Callable[[Features], Features] = accepted.accept
        return accept(features)

    return read


def _noted(journal: Journal, read: Callable[[str], Features], file: str) -> Features:
    with journal.hand(file):
        return read(file)
