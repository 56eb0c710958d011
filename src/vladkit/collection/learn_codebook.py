"""Learning of a codebook file: what the images of many machines are to be encoded with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from vladkit.aggregation.encode import fastest
from vladkit.aggregation.shrinkage import score_shrinkage
from vladkit.aggregation.whitening import Whitening
from vladkit.collection.add_report import none_usable
from vladkit.collection.codebook_file import CodebookFile
from vladkit.collection.describer import Describer
from vladkit.collection.discover import (
    SourceFile,
    check_fit,
    check_kind,
    discover,
    each_once,
)
from vladkit.collection.extract import extracting
from vladkit.collection.learned_vectors import SampleOfAxes
from vladkit.collection.recipe import Recipe
from vladkit.collection.sample import Sample
from vladkit.collection.train import OTHERS_CAME, short_length, train
from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.files import check_writable
from vladkit.core.names import image_key
from vladkit.core.remote import exists, is_url, local_path
from vladkit.errors import ImageError, NothingToIndexError, ParameterError, StorageError
from vladkit.features import Features
from vladkit.features.pool import Extraction, Result
from vladkit.store.store import new_state

__all__ = ["CodebookReport", "learn_codebook", "learn_from"]

_SAMPLE_IMAGES: Final = 2048
"""Most images that are learned from: axes of 256 dimensions want twice as many and more."""

_BATCH: Final = 32
"""Images encoded together."""

_Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CodebookReport:
    """Outcome of `Collection.learn`.

    ``images`` is how many were learned from; ``skipped`` holds (path, reason) of those that were
    drawn and could not be used. ``clusters`` are those of one codebook, ``words`` those of match
    codes, ``dimensions`` those of a vector.
    """

    images: int
    skipped: list[tuple[str, str]]
    clusters: int
    words: int
    dimensions: int
    seconds: float


def learn_codebook(
    target: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    recipe: Recipe,
    *,
    n_jobs: int | None = None,
    progress: _Progress | None = None,
) -> CodebookReport:
    """Learn from images and write the file; see `vladkit.Collection.learn`."""
    begin = time.perf_counter()
    target = local_path(os.fspath(target))
    check_writable(target)
    url = is_url(target)
    if exists(target) if url else os.path.lexists(target):
        raise StorageError(
            f"{target} is there already, and shards may have been made with it: give another name, "
            "or remove it first"
        )
    describer = Describer(recipe, target)
    if not describer.learns:
        raise ParameterError(
            f"nothing is learned for vectors of {recipe.vectors_from}: index without a codebook; "
            "collections of them, and shards, are merged as they are"
        )
    check_kind(describer.name, recipe, sources)
    with ExitStack() as readers:
        found = discover(sources, readers)
        check_fit(describer.name, recipe, found)
        found, _ = each_once(found, ())
        if not found:
            raise NothingToIndexError("no images found: give folders or files that hold some")
        # the journal is beside the file; of one elsewhere it is for this run alone
        above = readers.enter_context(TemporaryDirectory()) if url else os.getcwd()
        path = Path(above, Path(target).name if url else target)
        about, arrays, sample = learn_from(
            describer, found, path, n_jobs, progress, others_come=True
        )
    CodebookFile(describer.name, recipe, about, arrays).write()
    return CodebookReport(
        images=len(sample.files),
        skipped=[(each.printable, error.reason) for each, error in sample.failed],
        clusters=describer.n_clusters,
        words=0 if describer.asmk is None else len(describer.asmk.centroids_),
        dimensions=describer.n_dimensions,
        seconds=time.perf_counter() - begin,
    )


def learn_from(
    describer: Describer,
    found: Sequence[SourceFile],
    beside: Path,
    n_jobs: int | None,
    progress: _Progress | None,
    *,
    others_come: bool = False,
) -> tuple[dict[str, Any], dict[str, AnyArray], Sample]:
    """Values and arrays that are learned from a sample of images, once; and that sample.

    `describer` has them then. `beside` is what files of the run are named after. `others_come` is
    whether images are to be expected that are not among `found`.
    """
    recipe = describer.recipe
    with extracting(beside, describer.extractor, found, n_jobs, progress) as (extraction, spool):
        unusable = dict(spool)
        usable = [each for each in found if each.file not in unusable]
        n_wanted = min(len(usable), _SAMPLE_IMAGES)
        drawn = describer, extraction, n_wanted, usable
        sample = Sample.draw(*drawn, spool=spool, progress=progress)
        if sample is None:
            raise none_usable(e.reason for e in spool.values() if isinstance(e, ImageError))
        about, arrays = train(describer, sample.local_Nf, n_jobs)
        about["learned"] = new_state(images=sample.n_images, given=True)
        describer.restore(about, arrays)
        if n_components := short_length(recipe, len(sample.files), describer.n_dimensions):
            files = [each.file for each in sample.files]
            whitening = Whitening(n_components, random_state=recipe.seed)
            gram_nn = whitening._fit(_vectors(describer, files, extraction, spool, progress))
            more, axes = describer.whitening_state(whitening)
            about, arrays = about | more, arrays | axes
            if others_come or len(usable) > OTHERS_CAME * len(files):
                arrays |= _sample_of_axes(recipe.seed, sample, gram_nn, n_components)
            describer.restore(about, arrays)
    return about, arrays, sample


def _sample_of_axes(
    seed: int, sample: Sample, gram_nn: FloatArray | None, n_components: int
) -> dict[str, AnyArray]:
    """Arrays of `SampleOfAxes`; none of more vectors than dimensions, which lose little."""
    shrinkage_d = None
    if gram_nn is not None:
        shrinkage_d = score_shrinkage(gram_nn, n_components, random_state=seed)
    if shrinkage_d is None:
        return {}
    keys = frozenset(image_key(each.printable, seed) for each in sample.files)
    return SampleOfAxes(keys, shrinkage_d).arrays()


def _vectors(
    describer: Describer,
    files: Sequence[str],
    extraction: Extraction,
    spool: dict[str, Result],
    progress: _Progress | None,
) -> Iterator[AnyArray]:
    """Vectors of the sampled images, as they would be stored."""
    results = extraction.run(files, spool)
    done = 0
    while batch := list(islice(results, _BATCH)):
        features = [each for each in batch if isinstance(each, Features)]
        yield describer.vectors(features, fastest(), n_jobs=None).astype(describer.recipe.dtype)
        done += len(batch)
        if progress:
            progress("whiten", done, len(files))
