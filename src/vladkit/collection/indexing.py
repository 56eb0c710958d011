"""`Indexer`: images of folders into a collection, whatever happens on the way.

A sample of the images (`vladkit.collection.sample`) is extracted and the codebook trained on it,
once or, as long as the collection is small, again (`vladkit.collection.learner`). Then every image,
in the order of its path, is extracted by a pool of threads, one image to a core; the calling thread
encodes them in batches and commits each batch. A kill loses at most the batch in hand, and because
neither the sample, nor the order, nor an image's vector depends on what was committed before,
running again ends in the same file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Final, TypeAlias

from vladkit.aggregation.encode import fastest, warm_up
from vladkit.collection.add_report import AddReport
from vladkit.collection.discover import (
    SourceFile,
    check_fit,
    check_kind,
    discover,
    each_once,
)
from vladkit.collection.extract import extracting
from vladkit.collection.index import Index
from vladkit.collection.journal import LeftBehind
from vladkit.collection.kept_features import pack_features
from vladkit.collection.known_images import known_images, respell
from vladkit.collection.learner import Learner
from vladkit.collection.sample import Shard, check_shard, in_shard
from vladkit.core.arrays import AnyArray, Float32Array
from vladkit.errors import (
    ImageError,
    NothingToIndexError,
    ParameterError,
)
from vladkit.features import Features
from vladkit.features.pool import Extraction, Result
from vladkit.features.readers import is_source
from vladkit.store.rows import ImageRow, Record, Source

__all__ = ["NO_CODEBOOK", "AddReport", "Indexer", "Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(step, done, total)``.

Steps of the methods of `Collection`: "try apart", "sample", "learn" and "index" of `add`; "queries"
of `evaluate` and `assess`; "pairs", "match" and "join" of `pairs`; others have one step of their
own name.
"""

_BATCH: Final = 32
"""Images encoded and committed together: 32 MB of float32 descriptors at 2,000 each."""

NO_CODEBOOK: Final = (
    "a shard needs the codebook of all shards, or their vectors could not be compared: make it "
    "with vladkit codebook SOURCE... -o words.npz, and give --codebook words.npz"
)
"""Why there is no shard of a collection that learns from its own images."""

_Work: TypeAlias = "list[tuple[SourceFile, ImageRow]]"
"""Images to be extracted, each with its row as its file was when it was found."""


class Indexer:
    """Adds images to one open collection; trains its codebook if it has none."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._store = index.store
        self._describer = index.describer
        self._learner = Learner(index)
        self._sources: dict[int, Source] = {}
        self._method = "auto"  # a batch is not worth the loading of compiled code

    def add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        prune: bool = False,
        images: str | os.PathLike[str] | None = None,
        force: bool = False,
        shard: Shard | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Index new and changed images of sources; see `vladkit.Collection.add`."""
        begin = time.perf_counter()
        report = AddReport()
        folder = None if images is None else os.fspath(images)
        recipe = self._describer.recipe
        check_kind(str(self._store.path), recipe, sources, folder)
        if shard is not None:
            check_shard(shard)
            if not self._describer.is_given:
                raise ParameterError(NO_CODEBOOK)
        with ExitStack() as readers:
            listed = report.unreadable.append
            own = os.path.realpath(self._store.path)  # and what lies beside it

            def leave_out(file: str) -> None:
                if not file.startswith(own):
                    report.leave_out(file)

            found = discover(sources, readers, lambda folder, why: listed((folder, why)), leave_out)
            check_fit(str(self._store.path), recipe, found)
            if not force:
                self._check_not_moved(found)
            self._mark_sources(found)
            known = known_images(self._store)
            files = {each.file for each in found}
            respell(self._store, known, found, files)
            found, linked = each_once(found, known)
            report.linked += [(link.printable, each.printable) for link, each in linked]
            found = _by_path(found)
            # a shard has all sources, so that those of all shards have one order
            ids = self._add_sources([each for each in found if each.file not in known])
            if shard is not None:
                found = [f for f in found if in_shard(f.printable, recipe.seed, shard)]
            work = self._work(found, known, report)
            if prune:
                unlisted = [folder for folder, _ in report.unreadable]
                report.pruned = self._prune(sources, unlisted, known, files, force=force)
            if folder is not None:
                self._set_images(found, folder)
            if work:
                self._sources = self._store.sources()
                path, extractor = self._store.path, self._describer.extractor
                todo = [file for file, _ in work]
                with extracting(path, extractor, todo, n_jobs, progress) as (extraction, spool):
                    self._extract_and_commit(work, ids, extraction, spool, report, progress)
            else:
                LeftBehind(self._store.path).remove()
        report.outgrown = self._learner.outgrown() if report.indexed else None
        report.seconds = time.perf_counter() - begin
        if not self._store.count()[0] and not (shard and files):
            _refuse_emptiness(report)
        return report

    def _work(
        self, found: Sequence[SourceFile], known: Mapping[str, ImageRow], report: AddReport
    ) -> _Work:
        """The new and the changed among the files that were found, with their rows."""
        work: _Work = []
        for each in found:
            row = known.get(each.file)
            status = each.status()
            if row and not row.transient and (row.n_bytes, row.mtime_ns) == status:
                if row.skipped is None:
                    report.unchanged += 1
                else:
                    report.skipped.append((row.path, row.skipped))
                continue
            place = (row.source_id, row.path) if row else (0, each.printable)
            work.append((each, ImageRow(*place, *status)))
        return work

    def _set_images(self, found: Sequence[SourceFile], folder: str) -> None:
        """Remember where the images are whose features were given."""
        with self._store.writing():
            for root, name in {each.root: each.name for each in found}.items():
                source = self._store.add_source(root, name)
                self._store.set_images(source.source_id, os.path.realpath(folder))

    def _prune(
        self,
        sources: Sequence[str | os.PathLike[str]],
        unlisted: Sequence[str],
        known: dict[str, ImageRow],
        found: set[str],
        *,
        force: bool,
    ) -> int:
        of_features = {_as_prefix(os.fspath(s).partition(":")[2]) for s in sources if is_source(s)}
        folders = tuple(_as_prefix(s) for s in sources if os.path.isdir(s)) + tuple(of_features)
        closed = tuple(_as_prefix(folder) for folder in unlisted)
        gone = [
            file
            for file in known
            if file not in found
            and file.startswith(folders)
            and not file.startswith(closed)
            and (of_features or _is_gone(file))
        ]
        for folder in () if force else folders:
            self._check_prune(folder, list(known), gone)
        gone_ids = {known[f].image_id: (known[f].source_id, known[f].path) for f in gone}
        with self._store.writing():
            # another process may have removed some, and their ids may be those of others
            now = self._store.images_by_id(list(gone_ids)).items()
            ids = [i for i, row in now if gone_ids[i] == (row.source_id, row.path)]
            self._store.delete(ids)
        return len(ids)

    def _check_prune(self, folder: str, known: Sequence[str], gone: Sequence[str]) -> None:
        """Raise if it looks as if a disk is not mounted, which leaves an empty folder behind."""
        n, n_gone = (sum(file.startswith(folder) for file in files) for files in (known, gone))
        above = (f for f in _folders_above(gone) if os.path.join(f, "").startswith(folder))
        empty = [f for f in above if _is_empty(f)]
        if 2 * n_gone > n or empty:
            what = f"{empty[0]} is empty now" if empty else f"of {n} images of {folder}"
            raise NothingToIndexError(
                f"{what}, {n_gone} are gone: nothing is forgotten; is a disk not mounted? If they "
                "are gone for good, give --force, or vladkit remove "
                f"{self._store.path} {empty[0] if empty else folder}"
            )

    def _check_not_moved(self, found: Sequence[SourceFile]) -> None:
        """Raise if images are found that the collection has from a folder that is no more."""
        held = {source.root: source for source in self._store.sources().values()}
        new: dict[str, dict[str, tuple[int, int]]] = {}
        for each in found:
            if each.reader is None and each.root not in held:
                new.setdefault(each.root, {})[each.printable] = each.status()
        lost = {s.source_id: s.root for s in held.values() if not os.path.exists(s.root)}
        if not new or not lost:
            return
        rows: dict[int, list[ImageRow]] = {source_id: [] for source_id in lost}
        for row in self._store.images():
            if row.source_id in rows:
                rows[row.source_id].append(row)
        for root, files in new.items():
            for source_id, old in lost.items():
                known = rows[source_id]
                n = sum(files.get(row.path, (None,))[0] == row.n_bytes for row in known)
                if n and 2 * n > len(known):
                    raise NothingToIndexError(
                        f"{root} holds {n} of the {len(known)} images that were indexed in {old}, "
                        "which is gone: if they have moved, vladkit relocate "
                        f"{self._store.path} {old} {root}; to index them once more, give --force"
                    )

    def _extract_and_commit(
        self,
        work: _Work,
        source_ids: Mapping[str, int],
        extraction: Extraction,
        spool: dict[str, Result],
        report: AddReport,
        progress: Progress | None,
    ) -> None:
        sample = None
        if len(work) > _BATCH:
            self._method = fastest()
        if self._learner.is_due(len(work)):
            # numba's second of import passes while images are extracted
            warming = threading.Thread(target=warm_up, daemon=True)
            if self._method == "fused":
                warming.start()
            usable = [file for file, _ in work if file.file not in spool]
            sample = self._learner.sample(usable, extraction, spool, progress)
            if self._method == "fused":
                warming.join()
        rows = (replace(r, source_id=r.source_id or source_ids[f.root]) for f, r in work)
        # From here on threads extract, while the sample is learned from and batches are encoded.
        results = zip(rows, extraction.run((f.file for f, _ in work), spool), strict=True)
        if sample is not None:
            self._learner.learn(sample, progress)
        done = 0
        while batch := list(islice(results, _BATCH)):
            self._commit(batch, report)
            self._learner.shorten(is_last=False)
            done += len(batch)
            if progress:
                progress("index", done, len(work))
        self._learner.shorten(is_last=True)

    def _mark_sources(self, found: Sequence[SourceFile]) -> None:
        """Mark the folders that the user gave, where the collection has them from elsewhere."""
        given = {each.root: each.name for each in found}
        strange = [s for s in self._store.sources().values() if s.root in given and not s.is_own]
        if strange:
            with self._store.writing():
                for source in strange:
                    self._store.add_source(source.root, given[source.root])

    def _add_sources(self, new: Sequence[SourceFile]) -> dict[str, int]:
        """Ids of the sources of new images, by their roots."""
        roots = {each.root: each.name for each in new}
        if not roots:
            return {}
        with self._store.writing():
            return {r: self._store.add_source(r, name).source_id for r, name in roots.items()}

    def _with_sources(self, records: list[Record]) -> list[Record]:
        """Records whose sources are there: `compact` drops those that have no images yet."""
        there = self._store.sources()
        moved = {}
        for source_id in {record.row.source_id for record in records}:
            source = self._sources[source_id]
            if source_id not in there or there[source_id].root != source.root:
                moved[source_id] = self._store.add_source(source.root, source.name).source_id
                if source.images:
                    self._store.set_images(moved[source_id], source.images)
        if not moved:
            return records
        ids = [moved.get(each.row.source_id, each.row.source_id) for each in records]
        return [
            replace(each, row=replace(each.row, source_id=i))
            for each, i in zip(records, ids, strict=True)
        ]

    def _commit(self, batch: list[tuple[ImageRow, Result]], report: AddReport) -> None:
        for row, features in batch:
            if isinstance(features, ImageError):
                report.skipped.append((row.path, features.reason))
            else:
                report.indexed += 1
        is_kept = False
        while not is_kept:
            records = self._records(batch)
            with self._store.writing():
                is_kept = self._store.learned() == self._describer.learned
                if is_kept:
                    self._store.put(self._with_sources(records))
            if not is_kept:  # another process has learned meanwhile
                self._index.restore()

    def _records(self, batch: list[tuple[ImageRow, Result]]) -> list[Record]:
        recipe = self._describer.recipe
        usable = [f for _, f in batch if isinstance(f, Features)]
        coded = self._describer.codes(usable, n_jobs=None) if usable else []
        described = zip(self._described(usable), coded, strict=True)
        records = []
        for row, features in batch:
            if isinstance(features, ImageError):
                row = replace(row, skipped=features.reason, transient=features.transient)
                records.append(Record(row))
                continue
            row = replace(row, width=features.width, height=features.height, n_local=len(features))
            kept = None
            if recipe.keep_features:
                strongest = features.strongest(recipe.keep_features)
                kept = pack_features(strongest, self._describer.quantizer)
            (vector_D, sums), codes = next(described)
            vector_D = vector_D.astype(recipe.dtype)
            records.append(Record(row, vector_D, kept, sums, features.lifted, codes))
        return records

    def _described(
        self, features: list[Features]
    ) -> Iterator[tuple[Float32Array, tuple[AnyArray, AnyArray] | None]]:
        """Vector of each image, and its sums and counts where they are kept."""
        if not features:
            return
        if not self._describer.recipe.keep_sums:
            vector_tD = self._describer.vectors(features, self._method, n_jobs=None)
            yield from ((vector_D, None) for vector_D in vector_tD)
            return
        sums = self._describer.aggregates(features, self._method, n_jobs=None)
        vector_tD = self._describer.vectors_of(sums)
        for vector_D, residual_kf, count_k in zip(
            vector_tD, sums.residual_tkf, sums.count_tk, strict=True
        ):
            yield vector_D, (residual_kf, count_k)


def _by_path(found: Sequence[SourceFile]) -> list[SourceFile]:
    """Files by source, as these were given, and path."""
    place = {root: i for i, root in enumerate(dict.fromkeys(each.root for each in found))}
    return sorted(found, key=lambda each: (place[each.root], each.printable))


def _refuse_emptiness(report: AddReport) -> None:
    if not report.skipped:
        others = f" (left out {report.left_out_text()})" if report.left_out else ""
        raise NothingToIndexError(f"no images found{others}: give folders or files that hold some")
    some = "; ".join(f"{n} x {reason}" for reason, n in report.reasons()[:3])
    raise NothingToIndexError(f"none of the {len(report.skipped)} images can be used: {some}")


def _as_prefix(folder: str | os.PathLike[str]) -> str:
    return os.path.join(os.path.realpath(folder), "")


def _is_gone(file: str) -> bool:
    """Whether the file certainly does not exist: one that cannot be looked at may."""
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _folders_above(files: Sequence[str]) -> list[str]:
    """Folders that files are in, and those that these are in, sorted."""
    folders: set[str] = set()
    for file in files:
        folder = os.path.dirname(file)
        while folder not in folders and folder != os.path.dirname(folder):
            folders.add(folder)
            folder = os.path.dirname(folder)
    return sorted(folders)


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:  # gone with its images
        return False
