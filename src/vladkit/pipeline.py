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
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, Self, TypeAlias

import numpy as np

from vladkit.axes import Float32Array
from vladkit.codebook import Reservoir
from vladkit.collection.ranking import best, score_all
from vladkit.collection.store import PictureRow, Source, Store
from vladkit.discover import Found, discover
from vladkit.errors import (
    FileFormatError,
    NothingToIndexError,
    ParameterError,
    PictureError,
    RecipeMismatchError,
)
from vladkit.estimators import VLAD
from vladkit.evaluate import GroundTruth, Query, Scores, summarize
from vladkit.extraction import Extraction, extract
from vladkit.features import Features
from vladkit.ragged import Ragged
from vladkit.recipe import Recipe

__all__ = ["AddReport", "Collection", "Hit", "Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(step, done, total)``, with step "learn" or "index"."""

_BATCH: Final = 32
"""Pictures encoded and committed together: 32 MB of float32 descriptors at 2,000 each."""

_SAMPLE_PICTURES: Final = 500
_SPOOL_BYTES: Final = 2**27
"""Features of sampled pictures are kept until their turn comes, up to this size; those that do
not fit are extracted again. (500 pictures of 2,000 SIFT features: 128 MB.)"""

_QUERIES: Final = 64
"""Queries that are scored together in an evaluation."""

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
        store = Store.create(path)
        try:
            with store.writing():
                if "recipe" not in store.about():
                    store.set_about(recipe=wanted.as_json(), made_with=_made_with(wanted))
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
                    report.skipped.append((each.path, row.skipped))
            else:
                work.append(_Task(each, *status, known=row))
        if prune:
            report.pruned = self._prune(sources, known, {each.file for each in found})
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
        known: dict[str, PictureRow],
        found: set[str],
    ) -> int:
        folders = [os.path.join(os.path.abspath(s), "") for s in sources if os.path.isdir(s)]
        gone = [
            row.picture_id
            for file, row in known.items()
            if file not in found
            and any(file.startswith(folder) for folder in folders)
            and not os.path.lexists(file)
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
        spool: dict[str, Features | PictureError] = {}
        if self._vlad is None:
            spool = self._learn(work, extraction, progress)
        source_ids = self._add_sources(work)
        results = zip(work, extraction.run((task.found.file for task in work), spool), strict=True)
        done = 0
        while batch := list(islice(results, _BATCH)):
            self._commit(batch, source_ids, report)
            done += len(batch)
            if progress:
                progress("index", done, len(work))

    def _learn(
        self, work: list[_Task], extraction: Extraction, progress: Progress | None
    ) -> dict[str, Features | PictureError]:
        """Train the codebook on a sample of pictures; what was extracted for it, by file."""
        chosen = np.random.default_rng(self.recipe.seed).permutation(len(work))
        spool: dict[str, Features | PictureError] = {}
        room = _SPOOL_BYTES
        sample = Reservoir(_PER_CLUSTER * self.recipe.n_clusters, self.recipe.seed)
        n_sampled = 0
        total = min(len(work), _SAMPLE_PICTURES)
        files = [work[i].found.file for i in chosen]
        for file, features in zip(files, extraction.run(files), strict=True):
            if isinstance(features, Features):
                metric_lf = self.extractor.metric(features.descriptor_lf)
                sample.add(Ragged.from_list([metric_lf]))
                room -= features.descriptor_lf.nbytes
                n_sampled += 1
            if room >= 0:
                spool[file] = features
            if progress:
                progress("learn", min(len(spool), total), total)
            if n_sampled >= _SAMPLE_PICTURES:
                break
        extraction.stop()
        if not n_sampled:
            return spool
        row_Nf = sample.rows()
        vlad = self.recipe.vlad(*row_Nf.shape).fit(Ragged(row_Nf, [0, len(row_Nf)]))
        with self._store.writing():
            if "codebook" not in self._store.about():  # else another process was first
                about, arrays = vlad.to_state()
                self._store.set_about(codebook=about)
                self._store.set_arrays(arrays)
        about, arrays = self._store.about()["codebook"], self._store.arrays()
        self._vlad = VLAD.from_state(about, arrays)
        return spool

    def _add_sources(self, work: list[_Task]) -> dict[str, int]:
        with self._store.writing():
            return {
                root: self._store.add_source(root, name).source_id
                for root, name in {task.found.root: task.found.name for task in work}.items()
            }

    def _commit(
        self,
        batch: list[tuple[_Task, Features | PictureError]],
        source_ids: dict[str, int],
        report: AddReport,
    ) -> None:
        usable = [f for _, f in batch if isinstance(f, Features)]
        vectors = iter(self._encode(usable, method="fused")) if usable else iter(())
        with self._store.writing():
            for task, features in batch:
                row = task.row(source_ids)
                if isinstance(features, PictureError):
                    row = replace(row, skipped=features.reason, transient=features.transient)
                    report.skipped.append((task.found.path, features.reason))
                    self._store.put(row, None)
                else:
                    row = replace(
                        row, width=features.width, height=features.height, n_local=len(features)
                    )
                    self._store.put(row, next(vectors).astype(self.recipe.dtype))
                    report.indexed += 1

    def _encode(self, features: Sequence[Features], method: str = "auto") -> Float32Array:
        vlad = self._trained()
        vlad.set_params(method=method, n_jobs=1)
        batch = Ragged.from_list([self.extractor.metric(f.descriptor_lf) for f in features])
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
        return self.rank(self.vectors_of([image]), top)[0]

    def vectors_of(self, images: Sequence[str | os.PathLike[str]]) -> Float32Array:
        """Vectors (q, D) of picture files as this collection would hold them.

        Raises
        ------
        PictureError
            If a picture cannot be used.
        """
        self._trained()
        return self._encode([extract(self.extractor, os.fspath(image)) for image in images])

    def rank(self, query_qD: Float32Array, top: int = 10) -> list[list[Hit]]:
        """The best pictures for each vector; pictures of equal score in the order of their path.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        if top < 0:
            raise ParameterError(f"top={top}: give a number of pictures, or 0 for all")
        picture_id_n, score_qn = self.scores(query_qD)
        sources = {s.source_id: s for s in self._store.sources()}
        ranked = []
        for score_n in score_qn:
            chosen = best(score_n, top)
            rows = self._store.pictures_by_id(picture_id_n[chosen].tolist())
            hits = []
            for i in chosen:
                row = rows[int(picture_id_n[i])]
                hits.append(Hit(row.path, float(score_n[i]), _file_of(row, sources)))
            hits.sort(key=lambda hit: (-hit.score, hit.path, hit.file))
            ranked.append(hits[:top] if top else hits)
        return ranked

    def scores(self, query_qD: Float32Array) -> tuple[Any, Float32Array]:
        """(picture_id_n, score_qn): similarity of each vector to every picture, by picture.

        Rounded to six digits: beyond them it depends on the order of summation.
        """
        dtype = np.dtype(self.recipe.dtype)
        blocks = self._store.vector_blocks(dtype, self.n_dimensions)
        picture_id_n, score_qn = score_all(query_qD, blocks)
        return picture_id_n, score_qn.round(6)

    def stored_vectors(self, picture_ids: Sequence[int]) -> Float32Array:
        """Vectors (q, D) of pictures that are in the collection."""
        position = {picture_id: i for i, picture_id in enumerate(picture_ids)}
        vector_qD = np.zeros((len(picture_ids), self.n_dimensions), np.float32)
        dtype = np.dtype(self.recipe.dtype)
        for picture_id_n, vector_nD in self._store.vector_blocks(dtype, self.n_dimensions):
            for picture_id, vector_D in zip(picture_id_n.tolist(), vector_nD, strict=True):
                if picture_id in position:
                    vector_qD[position[picture_id]] = vector_D
        return vector_qD

    # -- evaluating -------------------------------------------------------------------

    def evaluate(
        self, truth: GroundTruth, *, n_jobs: int | None = None, progress: Progress | None = None
    ) -> tuple[Scores, list[str]]:
        """Scores of this collection for a ground truth, and remarks on what did not fit.

        Only pictures of the ground truth's database are ranked, whatever else is indexed. The
        stored vector of a query that is indexed is used, others are extracted now.

        Raises
        ------
        NothingToIndexError
            If no picture of the ground truth's database is indexed.
        """
        indexed = {_real(self.file_of(row)): row for row in self.pictures()}
        names = {row.picture_id: file for file, row in indexed.items()}
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
        vectors = self._query_vectors(queries, indexed, n_jobs, progress, remarks)
        rankings: list[list[str] | None] = [None] * len(queries)
        for begin in range(0, len(queries), _QUERIES):
            at = [i for i in range(begin, min(begin + _QUERIES, len(queries))) if i in vectors]
            if not at:
                continue
            picture_id_n, score_qn = self.scores(np.stack([vectors[i] for i in at]))
            file_n = [names[i] for i in picture_id_n.tolist()]
            for i, score_n in zip(at, score_qn, strict=True):
                order = sorted(zip((-score_n).tolist(), file_n, strict=True))
                rankings[i] = [file for _, file in order if file in database]
        return summarize(queries, rankings), remarks

    def _query_vectors(
        self,
        queries: Sequence[Query],
        indexed: dict[str, PictureRow],
        n_jobs: int | None,
        progress: Progress | None,
        remarks: list[str],
    ) -> dict[int, Float32Array]:
        """Vector (D,) of each query by position; those that cannot be read are left out."""
        inside = [i for i, q in enumerate(queries) if q.file in indexed]
        stored_qD = self.stored_vectors([indexed[queries[i].file].picture_id for i in inside])
        vectors = dict(zip(inside, stored_qD, strict=True))
        outside = [i for i, q in enumerate(queries) if q.file not in indexed]
        files = [queries[i].file for i in outside]
        with Extraction.on_threads(self.extractor, n_jobs, len(files)) as extraction:
            results = zip(outside, extraction.run(files), strict=True)
            while batch := list(islice(results, _BATCH)):
                usable = []
                for i, features in batch:
                    if isinstance(features, Features):
                        usable.append((i, features))
                    else:
                        remarks.append(f"query {queries[i].file}: {features.reason}")
                if usable:
                    encoded = self._encode([features for _, features in usable])
                    vectors |= {i: v for (i, _), v in zip(usable, encoded, strict=True)}
                if progress:
                    progress("queries", len(inside) + batch[-1][0] + 1, len(queries))
        return vectors


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
            source_id, path = source_ids[self.found.root], self.found.path
        return PictureRow(source_id, path, self.n_bytes, self.mtime_ns)


def _real(file: str) -> str:
    return os.path.realpath(file)


def _real_query(query: Query) -> Query:
    relevant = frozenset(map(_real, query.relevant))
    return Query(_real(query.file), relevant, frozenset(map(_real, query.junk)), query.unknown)


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
