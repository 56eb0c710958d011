"""`Indexer`: images of folders into a collection, whatever happens on the way.

A sample of the images (`vladkit.collection.sample`) is extracted and the codebook trained on it,
once or, as long as the collection is small, again (`vladkit.collection.learner`). Then every new
image, in the order of its path, is extracted by a pool of threads, one image to a core; the calling
thread encodes them in batches and commits each batch. So are, after them, those that were indexed
by what had been learned before. A kill loses at most the batch in hand, and because
neither the sample, nor the order, nor an image's vector depends on what was committed before,
running again ends in the same file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np

from vladkit.aggregation.encode import fastest, warm_up
from vladkit.collection.add_report import AddReport, Progress, none_usable
from vladkit.collection.describer import Describer
from vladkit.collection.discover import (
    SourceFile,
    check_fit,
    check_held,
    check_kind,
    discover,
    each_once,
    in_memory,
    with_vectors,
)
from vladkit.collection.extract import extracting
from vladkit.collection.index import ENOUGH_IMAGES, Index
from vladkit.collection.journal import LeftBehind
from vladkit.collection.known_images import known_images, names_of_known, respell
from vladkit.collection.learn_codebook import learn_from
from vladkit.collection.learned_vectors import LearnedVectors
from vladkit.collection.learner import Learner
from vladkit.collection.photos import fill_photos
from vladkit.collection.recoded import Recoded
from vladkit.collection.records import BATCH, make_records
from vladkit.collection.sample import Shard, check_shard, in_shard
from vladkit.collection.tasks import Tasks, check_executor
from vladkit.core.names import quoted, real
from vladkit.core.remote import is_url, joined
from vladkit.errors import (
    ImageError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
    StorageError,
)
from vladkit.features import Features
from vladkit.features.pool import Extraction, Result
from vladkit.features.readers import is_source
from vladkit.images import read_bytes
from vladkit.images.forms import InMemory
from vladkit.images.header import size_of
from vladkit.images.opencv import within_memory
from vladkit.kernels.loading import in_background
from vladkit.store.lance.state import ConflictError, retried
from vladkit.store.photos import put_photos
from vladkit.store.rows import ImageRow, Record, Source

__all__ = ["NO_CODEBOOK", "AddReport", "Indexer", "Progress"]

NO_CODEBOOK: Final = (
    "a shard needs the codebook of all shards, or their vectors could not be compared: make it "
    "with vladkit codebook SOURCE... -o words.npz, and give --codebook words.npz"
)
"""Why there is no shard of a collection that learns from its own images."""

_ROUNDED: Final = (2e-3, 2e-4)
"""Largest difference of a vector from itself in float16, relative and absolute."""

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
        self._filled: set[int] = set()  # of these, those that have had images
        self._held: list[Record] = []  # encoded, to be committed with others
        self._good: set[tuple[int, str]] = set()  # changed, of what is indexed
        self._again: set[tuple[int, str]] = set()  # unchanged, but extracted again
        self._n_new = 0  # images that the collection will have more
        self._method = "auto"  # a batch is not worth the loading of compiled code

    def add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        held: Mapping[str, InMemory] | None = None,
        *,
        prune: bool = False,
        images: str | os.PathLike[str] | None = None,
        force: bool = False,
        shard: Shard | None = None,
        n_jobs: int | None = None,
        executor: Any = None,
        vectors: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Index new and changed images of sources, or images that are held in memory, by name.

        See `vladkit.Collection.add`.
        """
        begin = time.perf_counter()
        report = AddReport()
        folder = None if images is None else os.fspath(images)
        recipe = self._describer.recipe
        check_kind(str(self._store.path), recipe, sources, folder)
        if not self._store.learns_again:
            self._check_recipe()
        if executor is not None:
            check_executor(executor, recipe)
        if held is not None:
            check_held(recipe, prune=prune, executor=executor)
        if shard is not None:
            check_shard(shard)
            if self._describer.learns and not self._describer.is_given:
                raise ParameterError(NO_CODEBOOK)
        with ExitStack() as opened:
            listed = report.unreadable.append
            own = os.path.realpath(self._store.beside)  # and what lies beside it

            def leave_out(file: str) -> None:
                if not file.startswith(own):
                    report.leave_out(file)

            found = discover(sources, opened, lambda folder, why: listed((folder, why)), leave_out)
            found += in_memory(held or {})
            check_fit(str(self._store.path), recipe, found)
            found = with_vectors(str(self._store.path), recipe, found, vectors, opened)
            if not force:
                self._check_not_moved(found)
            self._mark_sources(found)
            known = known_images(self._store)
            files = {each.file for each in found}
            respell(self._store, known, found, files)
            found, linked = each_once(found, known)
            others = {} if force else names_of_known(known, found)
            name_of = {link: row.path for link, row in others.items()}
            linked_to = [(link, name_of.get(each, each.printable)) for link, each in linked]
            report.linked += [(link.printable, name) for link, name in linked_to]
            report.linked += [(link.printable, name) for link, name in name_of.items()]
            found = [each for each in found if each not in others]
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
            self._n_new = sum(_is_new(file, known) for file, _ in work)
            again = self._learner.again(found, known, [file for file, _ in work], self._n_new)
            if work or again:
                self._sources = self._store.sources()
                self._again = {(row.source_id, row.path) for _, row in again}
                self._filled = {row.source_id for row in known.values()}
                path, extractor = self._store.beside, self._describer.extractor
                todo = [file for file, _ in (*work, *again)]
                tasks = None
                if executor is not None:
                    tasks = opened.enter_context(Tasks(executor, self._index))
                if not self._describer.is_ready and not self._store.learns_again:
                    report.learned_once = self._learn_once(todo, n_jobs, progress)
                extracted = extracting(path, extractor, todo, n_jobs, progress, self._measuring())
                with extracted as (extraction, spool):
                    given = ids, extraction, spool, tasks, report, n_jobs, progress
                    self._extract_and_commit(work, again, *given)
            else:
                LeftBehind(self._store.beside).remove()
                self._learner.shorten(is_last=True)  # a kill or a full disk leaves that undone
            fill_photos(self._store, found, known, progress)
        if (work or again) and self._describer.is_ready:
            self._store.freshen(self._describer.n_dimensions, recipe.seed)
        report.outgrown = self._learner.outgrown() if report.indexed else None
        report.seconds = time.perf_counter() - begin
        if not self._store.count()[0] and not (shard and files):
            _refuse_emptiness(report)
        return report

    def _measuring(self) -> Callable[[str, str], tuple[int, int] | None]:
        """Function that gives the size of an image by its source's root and its path in it.

        None where no folder of images is known, or the file is not there.
        """
        folder_of = {each.root: each.images for each in self._sources.values() if each.images}
        within = self._store.own_folders()

        def size(root: str, path: str) -> tuple[int, int] | None:
            if root not in folder_of:
                return None
            try:
                with within_memory():
                    return size_of(read_bytes(joined(folder_of[root], path), within=within))
            except ImageError:
                return None

        return size

    def _work(
        self, found: Sequence[SourceFile], known: Mapping[str, ImageRow], report: AddReport
    ) -> _Work:
        """The new and the changed among the files that were found, with their rows."""
        work: _Work = []
        others = self._with_other_vectors(found, known)
        for each in found:
            row = known.get(each.file)
            status = each.status()
            is_same = row and not row.transient and (row.n_bytes, row.mtime_ns) == status
            if row and is_same and row.image_id not in others:
                if row.skipped is None:
                    report.unchanged += 1
                else:
                    report.skipped.append((row.path, row.skipped))
                continue
            place = (row.source_id, row.path) if row else (0, each.printable)
            if row and row.skipped is None and each.reader is None:
                self._good.add(place)
            work.append((each, ImageRow(*place, *status)))
        return work

    def _with_other_vectors(
        self, found: Sequence[SourceFile], known: Mapping[str, ImageRow]
    ) -> set[int]:
        """Ids of photos whose vectors are given, and others by now: a photo tells nothing of them.

        (Where features are given, too, `SourceFile.status` has those of both.)
        """
        given = [
            (known[each.file].image_id, each)
            for each in found
            if each.vectors and each.reader is None and each.file in known
        ]
        others: set[int] = set()
        for begin in range(0, len(given), BATCH):
            stored = self._store.vectors([i for i, _ in given[begin : begin + BATCH]])
            now: dict[int, Features] = {}
            for image_id, each in given[begin : begin + BATCH]:
                with suppress(ImageError):  # it has none by now: the image stays as it is
                    if each.vectors and image_id in stored:
                        now[image_id] = each.vectors.read(each.path)
            n_dimensions = self._describer.recipe.vector_dimensions
            sizes = {i: 0 if f.vector_D is None else f.vector_D.size for i, f in now.items()}
            unfit = {i for i, size in sizes.items() if size != n_dimensions}
            others |= unfit  # why they are is said where they are read
            now = {i: features for i, features in now.items() if i not in unfit}
            made = self._describer.vectors(list(now.values())) if now else ()
            for (image_id, _), vector_D in zip(now.items(), made, strict=True):
                if not np.allclose(stored[image_id], vector_D, *_ROUNDED):
                    others.add(image_id)
        return others

    def _set_images(self, found: Sequence[SourceFile], folder: str) -> None:
        """Remember where the images are whose features were given."""

        def change() -> None:
            with self._store.writing():
                for root, name in {each.root: each.name for each in found}.items():
                    source = self._store.add_source(root, name)
                    self._store.set_images(source.source_id, os.path.realpath(folder))

        retried(change)

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
        listed = (os.fspath(s) for s in sources if is_url(s) or os.path.isdir(s))
        folders = tuple(_as_prefix(s) for s in listed) + tuple(of_features)
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
        """Raise if it looks as if a disk is not mounted, which leaves an empty folder or a link."""
        n, n_gone = (sum(file.startswith(folder) for file in files) for files in (known, gone))
        above = (f for f in _folders_above(gone) if os.path.join(f, "").startswith(folder))
        left = [f for f in above if _is_empty(f) or _leads_nowhere(f)]
        if 2 * n_gone > n or left:
            what = f"of {n} images of {folder}"
            if left:
                what = f"{left[0]} {'leads nowhere' if _leads_nowhere(left[0]) else 'is empty'} now"
            raise NothingToIndexError(
                f"{what}, {n_gone} are gone: nothing is forgotten; is a disk not mounted? If they "
                "are gone for good, give --force, or vladkit remove "
                f"{quoted(self._store.path)} {quoted(left[0] if left else folder)}"
            )

    def _check_not_moved(self, found: Sequence[SourceFile]) -> None:
        """Raise if images are found that the collection has from a folder that is no more.

        Or from one that is a link to theirs now, and was the folder itself.
        """
        known_roots = {source.root: source for source in self._store.sources().values()}
        new: dict[str, dict[str, tuple[int, int]]] = {}
        for each in found:
            if each.is_local and each.root not in known_roots:
                new.setdefault(each.root, {})[each.printable] = each.status()
        roots = {s.source_id: s.root for s in known_roots.values() if not is_url(s.root)}
        lost = {
            source_id: root
            for source_id, root in roots.items()
            if not os.path.exists(root) or real(root) in new
        }
        if not new or not lost:
            return
        rows: dict[int, list[ImageRow]] = {source_id: [] for source_id in lost}
        for row in self._store.images():
            if row.source_id in rows:
                rows[row.source_id].append(row)
        for root, files in new.items():
            for source_id, old in lost.items():
                is_link = os.path.exists(old)
                if is_link and real(old) != root:
                    continue
                known = rows[source_id]
                n = sum(files.get(row.path, (None,))[0] == row.n_bytes for row in known)
                if n and 2 * n > len(known):
                    way = quoted(self._store.path), quoted(old), quoted(root)
                    raise NothingToIndexError(
                        f"{root} holds {n} of the {len(known)} images that were indexed in {old}, "
                        f"which {'leads there now' if is_link else 'is gone'}: if they have moved, "
                        f"vladkit relocate {' '.join(way)}; to index them once more, give --force"
                    )

    def _extract_and_commit(
        self,
        new: _Work,
        again: _Work,
        source_ids: Mapping[str, int],
        extraction: Extraction,
        spool: dict[str, Result],
        tasks: Tasks | None,
        report: AddReport,
        n_jobs: int | None,
        progress: Progress | None,
    ) -> None:
        work = new + again
        sample = None
        if len(work) > BATCH:
            self._method = fastest()
        if self._learner.is_due(self._n_new):
            # numba's second of import passes while images are extracted
            warming = in_background(warm_up) if self._method == "fused" else None
            usable = [file for file, _ in work if file.file not in spool]
            sample = self._learner.sample(usable, extraction, spool, progress)
            if warming is not None:
                warming.join()
        rows = (replace(r, source_id=r.source_id or source_ids[f.root]) for f, r in work)
        files = (f.file for f, _ in work)
        if tasks is None:
            # From here on threads extract, while the sample is learned from and batches are encoded
            made = self._made_here(zip(rows, extraction.run(files, spool), strict=True))
        else:
            made = tasks.batches(zip(files, rows, strict=True), spool, self._learner.room)
        if sample is not None:
            self._learner.learn(sample, n_jobs, progress)
        done = 0
        for make in made:
            done += self._commit(make, report, left=len(work) - done)
            self._learner.shorten(is_last=False)
            if progress:
                if new:
                    progress("index", min(done, len(new)), len(new))
                if done > len(new):
                    progress("again", done - len(new), len(again))
        self._learner.shorten(is_last=True)

    def _made_here(
        self, results: Iterator[tuple[ImageRow, Result]]
    ) -> Iterator[Callable[[], list[Record]]]:
        """Functions that encode the next images as the codebook does now."""
        while batch := list(islice(results, BATCH)):
            yield partial(make_records, self._describer, batch, self._method, n_jobs=None)

    def _learn_once(
        self, files: Sequence[SourceFile], n_jobs: int | None, progress: Progress | None
    ) -> int:
        """Learn what a collection keeps for ever, unless another process is first.

        Returns `AddReport.learned_once`.
        """
        new = Describer(self._describer.recipe, self._describer.name, self._describer.extractor)
        about, arrays, _ = learn_from(new, files, self._store.beside, n_jobs, progress)
        about["learned"]["own"] = True
        with suppress(ConflictError), self._store.writing():
            self._check_recipe()
            if not self._store.about().keys() & {"codebook", "learned"}:
                self._store.set_about(**about)
                self._store.set_arrays(arrays)
        self._check_recipe()
        self._index.restore()
        n_images = int(self._describer.learned.get("images", ENOUGH_IMAGES))
        return n_images if n_images < ENOUGH_IMAGES else 0

    def _check_recipe(self) -> None:
        """Raise RecipeMismatchError if another process has made the collection by other rules."""
        if not self._describer.recipe.is_stored_as(self._store.about().get("recipe")):
            raise RecipeMismatchError(
                f"another process has changed the recipe of {self._store.path}: run again"
            )

    def _mark_sources(self, found: Sequence[SourceFile]) -> None:
        """Mark the folders that the user gave, where the collection has them from elsewhere.

        One that has moved together with the collection is there from now on, whatever will be at
        its old place; and is one with another that was indexed there.
        """
        given = {each.root: each.name for each in found}
        before = dict(self._store.folders())
        here = [s for s in self._store.sources().values() if s.root in given]
        moved = [s for s in here if s.images is None and before[s.source_id] != s.root]
        strange = [s for s in here if not s.is_own]

        def change() -> None:
            with self._store.writing():
                for source in moved:
                    self._store.move_source(source.source_id, source.root)
                for source in strange:
                    self._store.add_source(source.root, given[source.root])

        if moved or strange:
            retried(change)

    def _add_sources(self, new: Sequence[SourceFile]) -> dict[str, int]:
        """Ids of the sources of new images, by their roots."""
        roots = {each.root: each.name for each in new}

        def change() -> dict[str, int]:
            with self._store.writing():
                return {r: self._store.add_source(r, name).source_id for r, name in roots.items()}

        return retried(change) if roots else {}

    def _with_sources(self, records: list[Record]) -> list[Record]:
        """Records whose sources are there: `compact` drops those that have no images yet.

        Raises StorageError if one that has had some is elsewhere by now: `relocate` was told where.
        """
        there = self._store.sources()
        moved = {}
        for source_id in {record.row.source_id for record in records}:
            source = self._sources[source_id]
            if source_id not in there or there[source_id].root != source.root:
                if source_id in self._filled:
                    raise StorageError(
                        f"another process has moved the images of {source.root} to another folder, "
                        "or removed them: run again, and give the folder in which they are now"
                    )
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

    def _commit(self, make: Callable[[], list[Record]], report: AddReport, *, left: int) -> int:
        """Commit records, once there are as many as the store takes at a time; how many are new.

        They are made by what is learned then. `left` is the number of those not made yet.
        """
        is_kept = False
        while not is_kept:
            made = make()
            records = self._held + made
            if len(records) < self._store.batch_images and len(made) < left:
                self._held = records
                return len(made)
            with self._store.writing():
                is_kept = self._store.learned() == self._describer.learned
                if is_kept:
                    gone = self._removed(records)
                    new = [r for r in records if not self._stays(r.row) and r.row not in gone]
                    placed = self._with_sources(new)
                    ids = self._store.put(placed)
                    self._filled |= {record.row.source_id for record in placed}
                    Recoded.forget(self._store, ids)
                    LearnedVectors.forget(self._store, ids)
                    found = zip(ids, new, strict=True)
                    put_photos(self._store, [(i, r.photo) for i, r in found if r.photo])
            if not is_kept:  # another process has learned meanwhile
                self._index.restore()
        self._held = []
        for row in (record.row for record in records):
            if (row.source_id, row.path) in self._again:
                continue
            if row.skipped is None:
                report.indexed += 1
            elif self._stays(row):
                report.skipped.append((row.path, f"{row.skipped}; kept as it was indexed"))
            else:
                report.skipped.append((row.path, row.skipped))
        return len(made)

    def _removed(self, records: Sequence[Record]) -> list[ImageRow]:
        """Rows of images that were indexed, and that another process has removed or moved since."""
        rows = [each.row for each in records if each.row.image_id]
        now = self._store.images_by_id([row.image_id for row in rows]) if rows else {}
        place = {i: (row.source_id, row.path) for i, row in now.items()}
        return [row for row in rows if place.get(row.image_id) != (row.source_id, row.path)]

    def _stays(self, row: ImageRow) -> bool:
        """Tell whether an image stays as it was indexed: its file cannot be read now.

        A disk may be away, a permission be missing: nothing says that the image has changed.
        """
        place = row.source_id, row.path
        is_away = bool(row.transient) or row.n_bytes < 0
        stays = place in self._again or (is_away and place in self._good)
        return row.skipped is not None and stays


def _is_new(file: SourceFile, known: Mapping[str, ImageRow]) -> bool:
    """Whether an image comes to those that are indexed, as far as can be told without reading it.

    One that has changed is there already; one that cannot be opened would be new in every run.
    """
    row = known.get(file.file)
    if row is not None and row.skipped is None:
        return False
    return not file.is_local or os.access(file.file, os.R_OK)


def _by_path(found: Sequence[SourceFile]) -> list[SourceFile]:
    """Files by source, as these were given, and path."""
    place = {root: i for i, root in enumerate(dict.fromkeys(each.root for each in found))}
    return sorted(found, key=lambda each: (place[each.root], each.printable))


def _refuse_emptiness(report: AddReport) -> None:
    if not report.skipped:
        others = f" (left out {report.left_out_text()})" if report.left_out else ""
        raise NothingToIndexError(f"no images found{others}: give folders or files that hold some")
    raise none_usable(reason for _, reason in report.skipped)


def _as_prefix(folder: str | os.PathLike[str]) -> str:
    return os.path.join(real(folder), "")


def _is_gone(file: str) -> bool:
    """Whether the file certainly does not exist: one that cannot be looked at may.

    A URL does not exist here: its source was listed, all of it, and does not have it any more.
    """
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in it
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


def _leads_nowhere(folder: str) -> bool:
    return os.path.islink(folder) and not os.path.exists(folder)
