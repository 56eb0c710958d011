"""`Collection`: pictures in, ranked pictures out. The one module that knows all the others.

Indexing runs in three steps. A seeded sample of the new pictures is extracted and the codebook
trained on it (once in the life of a collection). Then every picture, in the order of its path,
is extracted by a pool of threads, one picture to a core; the calling thread encodes them in
batches and commits each batch. A kill loses at most the batch in hand, and because neither the
sample, nor the order, nor a picture's vector depends on what was committed before, running
again ends in the same file.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, Self, TypeAlias

import numpy as np

from vladkit.axes import Float32Array, FloatArray, Int64Array
from vladkit.codebook import Reservoir
from vladkit.collection.ranking import best, score_all
from vladkit.collection.store import PictureRow, Source, Store
from vladkit.discover import Found, discover
from vladkit.encoding import fastest, warm_up
from vladkit.errors import (
    FileFormatError,
    NothingToIndexError,
    ParameterError,
    PictureError,
    RecipeMismatchError,
)
from vladkit.estimators import VLAD
from vladkit.evaluate import GroundTruth, Query, Scores, summarize
from vladkit.extraction import Extraction, Result, extract
from vladkit.features import Features
from vladkit.ragged import Ragged
from vladkit.recipe import Recipe

__all__ = ["AddReport", "Collection", "Hit", "Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(step, done, total)``, with step "sample", "index" or "queries"."""

_BATCH: Final = 32
"""Pictures encoded and committed together: 32 MB of float32 descriptors at 2,000 each."""

_SAMPLE_PICTURES: Final = 500
_FEW_PICTURES: Final = 100
"""The codebook is learned from half of the pictures, from 100 (if there are) to 500."""

_SPOOL_BYTES: Final = 2**27
"""Features of sampled pictures are kept until their turn comes, up to this size; those that do
not fit are extracted again. (500 pictures of 2,000 SIFT features: 128 MB.)"""

_TURNED: Final = 0.8
"""What a match of a turned query counts. At 1 mixed-up directions cost upright queries .025 mAP,
at 0 queries on their side lose .2; at .8 they lose .05, and upright ones .003."""

_MIN_SHARE: Final = 200
"""Descriptors that a picture of the sample gives at least, drawn at random."""

_PER_CLUSTER: Final = 256
"""Descriptors that k-means sees for each cluster."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that was found.

    ``path`` is as it was when indexed (relative to the source where that is a folder),
    ``score`` the cosine similarity of the vectors, -1 to 1, ``file`` where the picture is now.
    """

    path: str
    score: float
    file: str


@dataclass(slots=True)
class AddReport:
    """What became of the pictures that `Collection.add` was given.

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


class Collection:
    """Pictures with their vectors in one file, to be searched with a picture.

    Make one with `create`, open it with `open`; use it as a context manager or `close` it.

    Examples
    --------
    >>> import tempfile, cv2, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> rng = np.random.default_rng(0)
    >>> for i in range(3):
    ...     _ = cv2.imwrite(f"{folder}/{i}.png", rng.integers(0, 256, (96, 96), dtype=np.uint8))
    >>> with Collection.create(f"{folder}/all.vlad", n_clusters=8) as collection:
    ...     report = collection.add([folder])
    ...     hits = collection.search(f"{folder}/1.png", top=2)
    >>> report.indexed, hits[0].path, round(hits[0].score, 2)
    (3, '1.png', 1.0)
    """

    def __init__(self, store: Store) -> None:
        about = store.about()
        self._store = store
        self.recipe = _recipe_from(about, store)
        self.extractor = self.recipe.extractor()
        self._vlad: VLAD | None = None
        if "codebook" in about:
            self._vlad = VLAD.from_state(about["codebook"], store.arrays())

    # -- opening ----------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | os.PathLike[str], **recipe: Any) -> Self:
        """Make a collection file, or open the one that is there.

        Parameters
        ----------
        path : path
        **recipe
            Fields of `Recipe` that are to differ from its defaults.

        Raises
        ------
        RecipeMismatchError
            If a collection is there that was made with other values than those given.
        FileFormatError
            If there is another kind of file at `path`; it is left as it is.
        ParameterError
            If a field does not exist or a value does not fit.
        StorageError
            If the file cannot be written.
        """
        wanted = Recipe.make(recipe)
        about = {"recipe": wanted.as_json(), "made_with": _made_with(wanted)}
        store = Store.create(path, **about)
        try:
            with store.writing():
                # as long as nothing was learned with it, a recipe may be changed
                if recipe and "codebook" not in store.about():
                    store.set_about(**about)
            self = cls(store)
            self._check_recipe(recipe)
        except BaseException:
            store.close()
            raise
        return self

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open a collection; with `read_only` also one that may not be written.

        Raises
        ------
        FileFormatError
            If there is no collection at `path`, or one of another format version.
        StorageError
            If it cannot be read.
        """
        store = Store.open(path, read_only=read_only)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check_recipe(self, given: dict[str, Any]) -> None:
        wanted = Recipe.make(given)
        for name in given:
            if getattr(wanted, name) != getattr(self.recipe, name):
                raise RecipeMismatchError(
                    f"{self._store.path} was made with {name}={getattr(self.recipe, name)!r}, "
                    f"asked for is {getattr(wanted, name)!r}: leave the option out, or index into "
                    "another file"
                )

    # -- looking ----------------------------------------------------------------------

    def __len__(self) -> int:
        """Pictures that have a vector."""
        return self._store.count()[0]

    @property
    def vlad(self) -> VLAD | None:
        """The fitted estimator, or None before the first picture is in."""
        return self._vlad

    def info(self) -> dict[str, Any]:
        """Size, sources, recipe and versions, JSON-able."""
        indexed, skipped = self._store.count()
        vlad = self._vlad
        return {
            "file": str(self._store.path),
            "bytes": self._store.path.stat().st_size,
            "pictures": indexed,
            "skipped": skipped,
            "sources": [{"name": s.name, "root": s.root} for s in self._store.sources()],
            "dimensions": self.n_dimensions if vlad else None,
            "clusters": vlad.n_clusters if vlad else None,
            "recipe": self.recipe.as_json(),
            "made_with": self._store.about().get("made_with", {}),
        }

    @property
    def n_dimensions(self) -> int:
        """D, of a vector."""
        vlad = self._trained()
        d = vlad.n_features_in_ if vlad.rotation_ is None else vlad.rotation_.shape[1]
        return len(vlad.centroids_) * d

    def pictures(self) -> Iterator[PictureRow]:
        """All pictures that have a vector, by source and path."""
        return self._store.pictures("skipped IS NULL")

    def skipped(self) -> Iterator[PictureRow]:
        """All pictures that have none, with the reason."""
        return self._store.pictures("skipped IS NOT NULL")

    def file_of(self, row: PictureRow) -> str:
        """Where a picture is now, absolute."""
        return _file_of(row, {s.source_id: s for s in self._store.sources()})

    # -- adding -----------------------------------------------------------------------

    def add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        prune: bool = False,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Index the pictures of folders and files: the new, and those that have changed.

        Parameters
        ----------
        sources : sequence of path
            Folders are searched with their subfolders.
        prune : bool
            Forget pictures below the given folders whose file is gone.
        n_jobs : int or None
            Threads that decode and extract; None is one for each core.
        progress : callable or None
            See `Progress`.

        Returns
        -------
        AddReport

        Raises
        ------
        NothingToIndexError
            If a source does not exist, or no picture was found or none can be used and the
            collection is empty.
        StorageError
            If the file cannot be written; what was committed before is kept.
        """
        begin = time.perf_counter()
        report = AddReport()
        found = discover(sources, lambda folder, why: report.unreadable.append((folder, why)))
        known = self._known()
        work = []
        for each in found:
            row = known.get(each.file)
            status = _status(each.file)
            if row and not row.transient and (row.n_bytes, row.mtime_ns) == status:
                report.unchanged += 1
                if row.skipped is not None:
                    report.skipped.append((row.path, row.skipped))
            else:
                work.append(_Task(each, *status, known=row))
        if prune:
            unlisted = [folder for folder, _ in report.unreadable]
            report.pruned = self._prune(sources, unlisted, known, {each.file for each in found})
        if work:
            with Extraction.on_threads(self.extractor, n_jobs, len(work)) as extraction:
                self._index(work, extraction, report, progress)
        report.seconds = time.perf_counter() - begin
        if not len(self):
            self._refuse_emptiness(report)
        return report

    def _known(self) -> dict[str, PictureRow]:
        sources = {s.source_id: s for s in self._store.sources()}
        return {_file_of(row, sources): row for row in self._store.pictures()}

    def _prune(
        self,
        sources: Sequence[str | os.PathLike[str]],
        unlisted: Sequence[str],
        known: dict[str, PictureRow],
        found: set[str],
    ) -> int:
        folders = tuple(_as_prefix(s) for s in sources if os.path.isdir(s))
        closed = tuple(_as_prefix(folder) for folder in unlisted)
        gone = [
            row.picture_id
            for file, row in known.items()
            if file not in found
            and file.startswith(folders)
            and not file.startswith(closed)
            and _is_gone(file)
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
        unnamed = PictureError("its name is not valid UTF-8: rename it")
        spool: dict[str, Result] = {t.found.file: unnamed for t in work if not t.found.is_text}
        sample = None
        if self._vlad is None:
            # numba's second of import passes while pictures are extracted
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
        """Descriptors (N, f) of some pictures to learn from; None if no picture has any.

        What was extracted is left in `spool` for its turn, as far as there is room.
        """
        rng = np.random.default_rng(self.recipe.seed)
        chosen = [files[i] for i in rng.permutation(len(files))]
        n_wanted = max(_FEW_PICTURES, min(len(files) // 2, _SAMPLE_PICTURES))
        reservoir = Reservoir(_PER_CLUSTER * self.recipe.n_clusters, self.recipe.seed)
        share = max(_MIN_SHARE, 5 * reservoir.size // (4 * min(len(files) or 1, n_wanted)))
        room, n_sampled = _SPOOL_BYTES, 0
        while chosen and n_sampled < n_wanted:
            # just as many as are missing: what runs ahead of the last would be extracted twice
            some, chosen = chosen[: n_wanted - n_sampled], chosen[n_wanted - n_sampled :]
            for file, features in zip(some, extraction.run(some), strict=True):
                if isinstance(features, Features):
                    local_lf = self.recipe.local(self.extractor, features.some(share, rng))
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
        vlad = self.recipe.vlad(*local_Nf.shape).fit(Ragged(local_Nf, [0, len(local_Nf)]))
        with self._store.writing():
            kept = self._store.about()
            if Recipe.make(kept["recipe"]) != self.recipe:
                raise RecipeMismatchError(
                    f"another process has changed the recipe of {self._store.path}: run again"
                )
            if "codebook" not in kept:
                about, arrays = vlad.to_state()
                self._store.set_about(codebook=about)
                self._store.set_arrays(arrays)
        self._vlad = VLAD.from_state(self._store.about()["codebook"], self._store.arrays())

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
        usable = [f for _, f in batch if isinstance(f, Features)]
        vectors = iter(self._encode(usable, fastest(), n_jobs=None)) if usable else iter(())
        with self._store.writing():
            for task, features in batch:
                row = task.row(source_ids)
                if isinstance(features, PictureError):
                    row = replace(row, skipped=features.reason, transient=features.transient)
                    report.skipped.append((row.path, features.reason))
                    self._store.put(row, None)
                else:
                    row = replace(
                        row, width=features.width, height=features.height, n_local=len(features)
                    )
                    self._store.put(row, next(vectors).astype(self.recipe.dtype))
                    report.indexed += 1

    def _encode(
        self,
        features: Sequence[Features],
        method: str = "auto",
        *,
        turns: int = 0,
        n_jobs: int | None = 1,
    ) -> Float32Array:
        vlad = self._trained()
        vlad.set_params(method=method, n_jobs=n_jobs)
        batch = Ragged.from_list([self.recipe.local(self.extractor, f, turns) for f in features])
        vector_tD: Float32Array = vlad.transform(batch)
        return vector_tD

    def _trained(self) -> VLAD:
        if self._vlad is None:
            raise NothingToIndexError(f"{self._store.path} holds no pictures yet")
        return self._vlad

    def _refuse_emptiness(self, report: AddReport) -> None:
        if not report.skipped:
            raise NothingToIndexError("no pictures found: give folders or files that hold some")
        some = "; ".join(f"{n} x {reason}" for reason, n in report.reasons()[:3])
        raise NothingToIndexError(f"none of the {len(report.skipped)} pictures can be used: {some}")

    def remove(self, paths: Iterable[str | os.PathLike[str]]) -> int:
        """Forget pictures, given as they were indexed or by where they are; how many were there."""
        wanted = {os.fspath(p) for p in paths}
        files = {os.path.abspath(p) for p in wanted}
        ids = [
            row.picture_id
            for file, row in self._known().items()
            if row.path in wanted or file in files
        ]
        with self._store.writing():
            self._store.delete(ids)
        return len(ids)

    # -- searching --------------------------------------------------------------------

    def search(self, image: str | os.PathLike[str], top: int = 10) -> list[Hit]:
        """The pictures most similar to one picture, the best first.

        Parameters
        ----------
        image : path
            Any picture file; it need not be in the collection, and if it is, it is found like
            any other.
        top : int
            How many; 0 ranks all.

        Raises
        ------
        PictureError
            If the picture cannot be used.
        NothingToIndexError
            If the collection is empty.
        """
        self._trained()
        features = extract(self.extractor, os.fspath(image))
        return self.rank(self.query_vectors([features]), top)[0]

    def query_vectors(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (q, v, D) of query pictures: upright and, where that matters, turned.

        v is 4, for quarter turns (of the features: nothing is extracted again), or 1 where a
        picture and the picture turned have the same vector anyway.
        """
        turns = range(4 if self.recipe.is_directional else 1)
        return np.stack([self._encode(features, turns=i) for i in turns], axis=1)

    def rank(self, query_qvD: Float32Array, top: int = 10) -> list[list[Hit]]:
        """The best pictures for each query; pictures of equal score in the order of their path.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        if top < 0:
            raise ParameterError(f"top={top}: give a number of pictures, or 0 for all")
        picture_id_n, score_qn = self.scores(query_qvD)
        sources = {s.source_id: s for s in self._store.sources()}
        ranked = []
        for score_n in score_qn:
            chosen = best(score_n, top)
            rows = self._store.pictures_by_id(picture_id_n[chosen].tolist())
            hits = []
            for i in chosen:
                row = rows.get(int(picture_id_n[i]))
                if row is not None:  # else it was removed by another process just now
                    hits.append(Hit(row.path, float(score_n[i]), _file_of(row, sources)))
            hits.sort(key=lambda hit: (-hit.score, hit.path, hit.file))
            ranked.append(hits[:top] if top else hits)
        return ranked

    def scores(self, query_qvD: Float32Array) -> tuple[Int64Array, Float32Array]:
        """(picture_id_n, score_qn): similarity of each query to every picture.

        The larger of the upright vector's cosine and `_TURNED` times the best turned one's.
        Rounded to six digits: beyond them it depends on the order of summation.
        """
        q, v, _ = query_qvD.shape
        dtype = np.dtype(self.recipe.dtype)
        blocks = self._store.vector_blocks(dtype, self.n_dimensions)
        picture_id_n, score_mn = score_all(query_qvD.reshape(q * v, -1), blocks)
        score_qvn = score_mn.reshape(q, v, -1)
        score_qvn[:, 1:] *= _TURNED
        return picture_id_n, score_qvn.max(axis=1).round(6)

    # -- evaluating -------------------------------------------------------------------

    def evaluate(
        self, truth: GroundTruth, *, n_jobs: int | None = None, progress: Progress | None = None
    ) -> tuple[Scores, list[str]]:
        """Scores of this collection for a ground truth, and remarks on what did not fit.

        Only pictures of the ground truth's database are ranked, whatever else is indexed.
        Every query is extracted from its file, as `search` does.

        Raises
        ------
        NothingToIndexError
            If no picture of the ground truth's database is indexed.
        """
        sources = {s.source_id: s for s in self._store.sources()}
        names = {row.picture_id: _real(_file_of(row, sources)) for row in self.pictures()}
        indexed = set(names.values())
        remarks = []
        database = set(indexed)
        if truth.database is not None:
            wanted = {_real(f) for f in truth.database}
            database &= wanted
            if missing := len(wanted - database):
                remarks.append(f"{missing} of {len(wanted)} database pictures are not indexed")
            if extra := len(indexed) - len(database):
                remarks.append(f"{extra} indexed pictures are not in the database: left out")
        if not database:
            raise NothingToIndexError(
                f"{self._store.path} holds no picture of the ground truth's database: index those "
                "pictures, or check the folder that its paths are relative to"
            )
        queries = [_real_query(query) for query in truth.queries]
        rankings: list[list[str] | None] = []
        files = [query.file for query in queries]
        with Extraction.on_threads(self.extractor, n_jobs, len(files)) as extraction:
            results = zip(files, extraction.run(files), strict=True)
            while batch := list(islice(results, _BATCH)):
                usable = [features for _, features in batch if isinstance(features, Features)]
                ranked = iter(self._rank_files(usable, names, database))
                for file, features in batch:
                    if isinstance(features, Features):
                        rankings.append(next(ranked))
                    else:
                        rankings.append(None)
                        remarks.append(f"query {file}: {features.reason}")
                if progress:
                    progress("queries", len(rankings), len(files))
        return summarize(queries, rankings), remarks

    def _rank_files(
        self, features: Sequence[Features], names: dict[int, str], database: set[str]
    ) -> list[list[str]]:
        """All files of the database for each query, the best first, ties by name."""
        if not features:
            return []
        picture_id_n, score_qn = self.scores(self.query_vectors(features))
        file_n = [names.get(i, "") for i in picture_id_n.tolist()]  # "": added just now
        ranked = (sorted(zip((-score_n).tolist(), file_n, strict=True)) for score_n in score_qn)
        # a file may be indexed twice, through a link: its best rank counts
        return [list(dict.fromkeys(f for _, f in pairs if f in database)) for pairs in ranked]


@dataclass(frozen=True, slots=True)
class _Task:
    """One picture to be extracted, as its file was when it was looked at."""

    found: Found
    n_bytes: int
    mtime_ns: int
    known: PictureRow | None

    def row(self, source_ids: dict[str, int]) -> PictureRow:
        if self.known is not None:
            source_id, path = self.known.source_id, self.known.path
        else:
            source_id, path = source_ids[self.found.root], self.found.printable
        return PictureRow(source_id, path, self.n_bytes, self.mtime_ns)


def _real(file: str) -> str:
    return os.path.realpath(file)


def _real_query(query: Query) -> Query:
    relevant = frozenset(map(_real, query.relevant))
    return Query(_real(query.file), relevant, frozenset(map(_real, query.junk)), query.unknown)


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


def _status(file: str) -> tuple[int, int]:
    """Size and time of change, (-1, -1) for what is not there."""
    try:
        status = os.stat(file)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _file_of(row: PictureRow, sources: dict[int, Source]) -> str:
    return os.path.normpath(os.path.join(sources[row.source_id].root, row.path))


def _recipe_from(about: dict[str, Any], store: Store) -> Recipe:
    try:
        return Recipe.make(about["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{store.path} holds no recipe that can be read: {error}") from error


def _made_with(recipe: Recipe) -> dict[str, Any]:
    import faiss

    from vladkit import __version__

    return {
        "vladkit": __version__,
        "numpy": np.__version__,
        "faiss": faiss.__version__,
        "extractor": recipe.extractor().parameters(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
