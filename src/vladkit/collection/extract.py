"""Extraction of the images that were found, whatever they do to the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from vladkit.collection.discover import SourceFile
from vladkit.collection.journal import Journal, LeftBehind, reason_against
from vladkit.collection.read_ahead import ReadAhead
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.features import Extractor, Features
from vladkit.features.imported import Imported
from vladkit.features.pool import Extraction, Result, extract, extract_data
from vladkit.images.files import check_size

__all__ = ["extracting"]


@contextmanager
def extracting(
    path: Path,
    extractor: Extractor,
    found: Sequence[SourceFile],
    n_jobs: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> Iterator[tuple[Extraction, dict[str, Result]]]:
    """With a pool of threads that extract files, and results of those that need no extracting.

    These cannot be used: their name is no text, or they have ended a process. `path` is the file
    that is made of the images: the journal is beside it.
    """
    left = LeftBehind(path)
    results = _try_apart(extractor, found, left.files, progress)
    unnamed = ImageError("its name is not valid UTF-8: rename it")
    results |= {each.file: unnamed for each in found if not each.is_text}
    n_bytes = {each.file: each.listed[0] for each in found if each.listed}
    results |= _too_large(n_bytes)
    read = _reading(extractor, found)
    begin = None
    with ExitStack() as stack:
        if n_bytes:
            ahead = stack.enter_context(ReadAhead.on_threads(n_bytes))
            read, begin = partial(_extract_ahead, ahead, extractor), ahead.begin
        journal = stack.enter_context(Journal.kept(path, resolve_n_jobs(n_jobs)))
        reading = partial(_noted, journal, read)
        yield (
            stack.enter_context(
                Extraction.on_threads(extractor, n_jobs, len(found), reading, begin)
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


def _extract_held(
    held_of: Mapping[str, bytes | ImageError], extractor: Extractor, file: str
) -> Features:
    held = held_of[file]
    if isinstance(held, ImageError):
        raise held
    return extract_data(extractor, held)


def _extract_ahead(ahead: ReadAhead, extractor: Extractor, file: str) -> Features:
    return extract_data(extractor, ahead.read(file))


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
    suspects = [file for file in files if file in here and not isinstance(extractor, Imported)]
    results: dict[str, Result] = {}
    for i, file in enumerate(suspects, 1):
        reason = reason_against(extractor, file)
        if reason:
            results[file] = ImageError(reason)
        if progress:
            progress("try apart", i, len(suspects))
    return results


def _reading(extractor: Extractor, found: Sequence[SourceFile]) -> Callable[[str], Features]:
    """Function that gives the features of a file: extracted here, or another program's."""
    if not isinstance(extractor, Imported):
        held_of = {each.file: each.held for each in found if each.held is not None}
        return (
            partial(_extract_held, held_of, extractor) if held_of else partial(extract, extractor)
        )
    by_file = {each.file: each for each in found}

    def read(file: str) -> Features:
        each = by_file[file]
        assert each.reader is not None
        return extractor.accept(each.reader.read(each.path))

    return read


def _noted(journal: Journal, read: Callable[[str], Features], file: str) -> Features:
    with journal.hand(file):
        return read(file)
