"""`Indexing`: images of folders into a collection, whatever happens on the way.

It runs in three steps. A seeded sample of the new images is extracted and the codebook
trained on it (once in the life of a collection). Then every image, in the order of its path,
is extracted by a pool of threads, one image to a core; the calling thread encodes them in
batches and commits each batch. A kill loses at most the batch in hand, and because neither the
sample, nor the order, nor an image's vector depends on what was committed before, running
again ends in the same file.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, TypeAlias

import numpy as np

from vladkit.aggregation.codebook import Reservoir
from vladkit.aggregation.encode import fastest, warm_up
from vladkit.collection.describer import Describer
from vladkit.collection.discover import Found, discover
from vladkit.collection.recipe import Recipe
from vladkit.core.arrays import AnyArray, Float32Array, FloatArray
from vladkit.core.ragged import Ragged
from vladkit.errors import (
    ImageError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
)
from vladkit.features import Features
from vladkit.features.imported import Imported
from vladkit.features.pool import Extraction, Result
from vladkit.features.readers import is_source
from vladkit.store.store import ImageRow, KeptFeatures, Record, Store, file_of

__all__ = ["AddReport", "Indexing", "Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(step, done, total)``, with step "sample", "index" or "queries"."""

_BATCH: Final = 32
"""Images encoded and committed together: 32 MB of float32 descriptors at 2,000 each."""

_SAMPLE_IMAGES: Final = 500
_FEW_IMAGES: Final = 100
"""The codebook is learned from half of the images, from 100 (if there are) to 500."""

_SPOOL_BYTES: Final = 2**27
"""Features of sampled images are kept until their turn comes, up to this size; those that do
not fit are extracted again. (500 images of 2,000 SIFT features: 128 MB.)"""

_MIN_SHARE: Final = 200
"""Descriptors that an image of the sample gives at least, drawn at random."""

_PER_CLUSTER: Final = 256
"""Descriptors that k-means sees for each cluster."""


@dataclass(slots=True)
class AddReport:
    """What became of the images that `Collection.add` was given.

    ``skipped`` holds (path, reason) of those that could not be used now, ``unreadable``
    (folder, reason) of folders that could not be listed.
    """

    indexed: int = 0
    unchanged: int = 0
    pruned: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def reasons(self) -> list[tuple[str, int]]:
        """Reasons for skipping and how often each, the most frequent first."""
        return Counter(reason for _, reason in self.skipped).most_common()


class Indexing:
    """Adds to one open collection; makes the codebook of `describer` if it has none."""

    def __init__(self, store: Store, describer: Describer) -> None:
        self._store = store
        self._describer = describer

    def add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        prune: bool = False,
        images: str | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """See `vladkit.Collection.add`."""
        with ExitStack() as readers:
            return self._add(sources, readers, prune, images, n_jobs, progress)

    def _add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        readers: ExitStack,
        prune: bool,
        images: str | None,
        n_jobs: int | None,
        progress: Progress | None,
    ) -> AddReport:
        begin = time.perf_counter()
        report = AddReport()
        self._check_kind(sources, images)
        unreadable = report.unreadable
        found = discover(sources, readers, lambda folder, why: unreadable.append((folder, why)))
        self._check_fit(found)
        known = self._known()
        work = []
        for each in found:
            row = known.get(each.file)
            status = each.status()
            if row and not row.transient and (row.n_bytes, row.mtime_ns) == status:
                report.unchanged += 1
                if row.skipped is not None:
                    report.skipped.append((row.path, row.skipped))
            else:
                work.append(_Task(each, *status, known=row))
        if prune:
            unlisted = [folder for folder, _ in report.unreadable]
            report.pruned = self._prune(sources, unlisted, known, {each.file for each in found})
        if images is not None:
            self._set_images(found, images)
        if work:
            extractor, read = self._describer.extractor, self._reading(work)
            with Extraction.on_threads(extractor, n_jobs, len(work), read) as extraction:
                self._index(work, extraction, report, progress)
        report.seconds = time.perf_counter() - begin
        if not self._store.count()[0]:
            _refuse_emptiness(report)
        return report

    def _check_kind(self, sources: Sequence[str | os.PathLike[str]], images: str | None) -> None:
        """Raise unless the sources are of the collection's kind: images, or features."""
        is_imported = isinstance(self._describer.extractor, Imported)
        for source in (os.fspath(each) for each in sources):
            if is_source(source) != is_imported:
                holds = f"features of {self._describer.recipe.features!r}"
                raise RecipeMismatchError(
                    f"{self._store.path} holds {holds}, {source} does not: index it into another "
                    "file"
                    if is_imported
                    else f"{self._store.path} is made for {holds} found here, {source} holds those "
                    "of another program: index it into another file, by `vladkit index` or with "
                    "the recipe of vladkit.collection.import_recipe.recipe_for"
                )
        if images is not None and not is_imported:
            raise ParameterError("images is for sources of features: images are where they are")
        if images is not None and not os.path.isdir(images):
            raise NothingToIndexError(f"images: {images} is not a folder")

    def _check_fit(self, found: Sequence[Found]) -> None:
        recipe = self._describer.recipe
        for reader, name in {each.reader: each.name for each in found if each.reader}.items():
            held = reader.info()
            if (held.features, held.dimensions) != (recipe.features, recipe.dimensions):
                raise RecipeMismatchError(
                    f"{self._store.path} was made of {recipe.features} features of "
                    f"{recipe.dimensions} dimensions, {name} holds {held.features} of "
                    f"{held.dimensions}: index it into another file"
                )

    def _reading(self, work: Sequence[_Task]) -> Callable[[str], Features] | None:
        """How features are read where they are read; None for images."""
        extractor = self._describer.extractor
        if not isinstance(extractor, Imported):
            return None
        found = {task.found.file: task.found for task in work}

        def read(file: str) -> Features:
            each = found[file]
            assert each.reader is not None
            return extractor.accept(each.reader.read(each.path))

        return read

    def _set_images(self, found: Sequence[Found], folder: str) -> None:
        """Remember where the images are whose features were given."""
        with self._store.writing():
            for root, name in {each.root: each.name for each in found}.items():
                source = self._store.add_source(root, name)
                self._store.set_images(source.source_id, os.path.realpath(folder))

    def _known(self) -> dict[str, ImageRow]:
        sources = {i: replace(each, images=None) for i, each in self._store.sources().items()}
        return {file_of(row, sources): row for row in self._store.images()}

    def _prune(
        self,
        sources: Sequence[str | os.PathLike[str]],
        unlisted: Sequence[str],
        known: dict[str, ImageRow],
        found: set[str],
    ) -> int:
        of_features = {_as_prefix(os.fspath(s).partition(":")[2]) for s in sources if is_source(s)}
        folders = tuple(_as_prefix(s) for s in sources if os.path.isdir(s)) + tuple(of_features)
        closed = tuple(_as_prefix(folder) for folder in unlisted)
        gone = [
            row.image_id
            for file, row in known.items()
            if file not in found
            and file.startswith(folders)
            and not file.startswith(closed)
            and (of_features or _is_gone(file))
        ]
        with self._store.writing():
            self._store.delete(gone)
        return len(gone)

    def _index(
        self,
        work: list[_Task],
        extraction: Extraction,
        report: AddReport,
        progress: Progress | None,
    ) -> None:
        unnamed = ImageError("its name is not valid UTF-8: rename it")
        spool: dict[str, Result] = {t.found.file: unnamed for t in work if not t.found.is_text}
        sample = None
        if self._describer.vlad is None:
            # numba's second of import passes while images are extracted
            warming = threading.Thread(target=warm_up, daemon=True)
            warming.start()
            files = [task.found.file for task in work if task.found.is_text]
            sample = self._sample(files, extraction, spool, progress)
            warming.join()
        source_ids = self._add_sources(work)
        # From here on threads extract, while the sample is learned from and batches are encoded.
        results = zip(work, extraction.run((t.found.file for t in work), spool), strict=True)
        if sample is not None:
            self._learn(sample)
        done = 0
        while batch := list(islice(results, _BATCH)):
            self._commit(batch, source_ids, report)
            done += len(batch)
            if progress:
                progress("index", done, len(work))

    def _sample(
        self,
        files: list[str],
        extraction: Extraction,
        spool: dict[str, Result],
        progress: Progress | None,
    ) -> FloatArray | None:
        """Descriptors (N, f) of some images to learn from; None if no image has any.

        What was extracted is left in `spool` for its turn, as far as there is room.
        """
        recipe = self._describer.recipe
        rng = np.random.default_rng(recipe.seed)
        chosen = [files[i] for i in rng.permutation(len(files))]
        n_wanted = max(_FEW_IMAGES, min(len(files) // 2, _SAMPLE_IMAGES))
        reservoir = Reservoir(_PER_CLUSTER * recipe.n_clusters, recipe.seed)
        share = max(_MIN_SHARE, 5 * reservoir.size // (4 * min(len(files) or 1, n_wanted)))
        room, n_sampled = _SPOOL_BYTES, 0
        while chosen and n_sampled < n_wanted:
            # just as many as are missing: what runs ahead of the last would be extracted twice
            some, chosen = chosen[: n_wanted - n_sampled], chosen[n_wanted - n_sampled :]
            for file, features in zip(some, extraction.run(some), strict=True):
                if isinstance(features, Features):
                    local_lf = recipe.local(self._describer.extractor, features.some(share, rng))
                    reservoir.add(Ragged.from_list([local_lf]))
                    room -= features.descriptor_lf.nbytes
                    n_sampled += 1
                if room >= 0:
                    spool[file] = features
                if progress:
                    progress("sample", n_sampled, min(n_wanted, len(files)))
        return reservoir.rows() if n_sampled else None

    def _learn(self, local_Nf: FloatArray) -> None:
        """Train the codebook, unless another process was first."""
        describer = self._describer
        vlad = describer.recipe.vlad(*local_Nf.shape)
        describer.vlad = vlad.fit(Ragged(local_Nf, [0, len(local_Nf)]))
        with self._store.writing():
            kept = self._store.about()
            if Recipe.make(kept["recipe"]) != describer.recipe:
                raise RecipeMismatchError(
                    f"another process has changed the recipe of {self._store.path}: run again"
                )
            if "codebook" not in kept:
                about, arrays = describer.codebook_state()
                self._store.set_about(**about)
                self._store.set_arrays(arrays)
        describer.restore(self._store.about(), self._store.arrays())

    def _add_sources(self, work: list[_Task]) -> dict[str, int]:
        with self._store.writing():
            return {
                root: self._store.add_source(root, name).source_id
                for root, name in {task.found.root: task.found.name for task in work}.items()
            }

    def _commit(
        self,
        batch: list[tuple[_Task, Result]],
        source_ids: dict[str, int],
        report: AddReport,
    ) -> None:
        recipe = self._describer.recipe
        usable = [f for _, f in batch if isinstance(f, Features)]
        described = iter(self._described(usable))
        records = []
        for task, features in batch:
            row = task.row(source_ids)
            if isinstance(features, ImageError):
                row = replace(row, skipped=features.reason, transient=features.transient)
                report.skipped.append((row.path, features.reason))
                records.append(Record(row))
                continue
            row = replace(row, width=features.width, height=features.height, n_local=len(features))
            kept = None
            if recipe.keep_features:
                kept = _kept(features.strongest(recipe.keep_features))
            vector_D, sums = next(described)
            records.append(Record(row, vector_D.astype(recipe.dtype), kept, sums))
            report.indexed += 1
        with self._store.writing():
            self._store.put(records)

    def _described(
        self, features: list[Features]
    ) -> Iterator[tuple[Float32Array, tuple[AnyArray, AnyArray] | None]]:
        """Vector, and where they are kept sums and counts, of each image."""
        if not features:
            return
        if not self._describer.recipe.keep_sums:
            vector_tD = self._describer.vectors(features, fastest(), n_jobs=None)
            yield from ((vector_D, None) for vector_D in vector_tD)
            return
        sums = self._describer.aggregates(features, fastest(), n_jobs=None)
        vector_tD = self._describer.vectors_of(sums)
        for vector_D, residual_kf, count_k in zip(
            vector_tD, sums.residual_tkf, sums.count_tk, strict=True
        ):
            yield vector_D, (residual_kf, count_k)


def _refuse_emptiness(report: AddReport) -> None:
    if not report.skipped:
        raise NothingToIndexError("no images found: give folders or files that hold some")
    some = "; ".join(f"{n} x {reason}" for reason, n in report.reasons()[:3])
    raise NothingToIndexError(f"none of the {len(report.skipped)} images can be used: {some}")


def _kept(features: Features) -> KeptFeatures:
    columns = features.xy_l2, features.size_l, features.angle_l, features.score_l
    return KeptFeatures(features.descriptor_lf, np.column_stack(columns))


@dataclass(frozen=True, slots=True)
class _Task:
    """One image to be extracted, as its file was when it was looked at."""

    found: Found
    n_bytes: int
    mtime_ns: int
    known: ImageRow | None

    def row(self, source_ids: dict[str, int]) -> ImageRow:
        if self.known is not None:
            source_id, path = self.known.source_id, self.known.path
        else:
            source_id, path = source_ids[self.found.root], self.found.printable
        return ImageRow(source_id, path, self.n_bytes, self.mtime_ns)


def _as_prefix(folder: str | os.PathLike[str]) -> str:
    return os.path.join(os.path.realpath(folder), "")


def _is_gone(file: str) -> bool:
    """Whether the file is known not to be there: one that cannot be looked at is not gone."""
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
