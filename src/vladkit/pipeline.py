"""`Collection`: pictures in, ranked pictures out. The one module that knows all the others.

What it does is done by `indexing`, `searching` and the modules of `collection/`; here they meet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from vladkit.assessing import Answer, Assessing
from vladkit.augmentation import Augmentation
from vladkit.axes import Float32Array, Int64Array
from vladkit.collection.ann import AnnReport, build_ann
from vladkit.collection.check import Problem, check
from vladkit.collection.export import check_target, export
from vladkit.collection.naming import names_below
from vladkit.collection.store import PictureRow, Store, file_of
from vladkit.describe import Codebook, Describer
from vladkit.errors import (
    FileFormatError,
    ParameterError,
    PictureError,
    RecipeMismatchError,
)
from vladkit.evaluate import GroundTruth, Scores, mean_scores
from vladkit.extraction import extract, extract_data
from vladkit.features import Extractor, Features, Region, match_rule
from vladkit.features.imported import Imported
from vladkit.grouping import DuplicateGroup, Grouping
from vladkit.indexing import AddReport, Indexing, Progress
from vladkit.pairing import Pairing, Pairs
from vladkit.recipe import Recipe
from vladkit.rewriting import adapt, check_whitening, whiten
from vladkit.searching import Hit, Searching, ann_path
from vladkit.verification import Model, Verification, verify_all

__all__ = ["AddReport", "Collection", "Hit", "Progress"]


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
        self._describer = Describer(_recipe_from(about, store), str(store.path))
        self._describer.restore(about, store.arrays())
        self._indexing = Indexing(store, self._describer)
        self._searching = Searching(store, self._describer)

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
        if wanted.network and self.recipe.network:  # a network may lie elsewhere by now
            from vladkit.features.onnx import same_features

            if not same_features(wanted.network, self.recipe.network):
                raise RecipeMismatchError(
                    f"{self._store.path} was made with another network than {wanted.features}, or "
                    f"with another description of it: {self.recipe.features}, see `vladkit info`"
                )
            given = {name: value for name, value in given.items() if name != "features"}
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
    def path(self) -> Path:
        """Of the file, absolute."""
        return self._store.path

    def stamp(self) -> str:
        """Names the state that the vectors are in, in all processes: the same, nothing changed."""
        return self._store.stamp()

    @property
    def recipe(self) -> Recipe:
        """How its vectors are made."""
        return self._describer.recipe

    @property
    def extractor(self) -> Extractor:
        """What finds its pictures' features."""
        return self._describer.extractor

    @property
    def vlad(self) -> Codebook | None:
        """The fitted estimator, or None before the first picture is in."""
        return self._describer.vlad

    def info(self) -> dict[str, Any]:
        """Size, sources, recipe and versions, JSON-able."""
        indexed, skipped = self._store.count()
        vlad = self.vlad
        return {
            "file": str(self._store.path),
            "bytes": self._store.path.stat().st_size,
            "pictures": indexed,
            "skipped": skipped,
            "sources": [
                {"name": s.name, "root": s.root} | ({"images": s.images} if s.images else {})
                for s in self._store.sources().values()
            ],
            "dimensions": self.n_dimensions if vlad else None,
            "clusters": self._describer.n_clusters if vlad else None,
            "whitened": self._describer.whitening is not None,
            "augmented": self._searching.augmentation() is not None,
            "approximate": self._searching.ann() is not None,
            "recipe": self.recipe.as_json(),
            "made_with": self._store.about().get("made_with", {}),
        }

    @property
    def n_dimensions(self) -> int:
        """D, of a vector."""
        return self._describer.n_dimensions

    def pictures(self) -> Iterator[PictureRow]:
        """All pictures that have a vector, by source and path."""
        return self._store.pictures("skipped IS NULL")

    def skipped(self) -> Iterator[PictureRow]:
        """All pictures that have none, with the reason."""
        return self._store.pictures("skipped IS NOT NULL")

    def page(
        self, offset: int = 0, limit: int = 100, *, contains: str = "", skipped: bool = False
    ) -> tuple[int, list[PictureRow]]:
        """Some pictures, by source and path, and how many there are.

        Parameters
        ----------
        offset, limit : int
            So many are passed over, and so many given at most.
        contains : str
            Only paths with this text in them; upper and lower case of ASCII are the same.
        skipped : bool
            Those that have no vector instead of those that have one.

        Raises
        ------
        ParameterError
            If a number is negative.
        """
        if offset < 0 or limit < 0:
            raise ParameterError(f"offset={offset}, limit={limit}: give numbers from 0")
        return self._store.page(offset, limit, contains, skipped=skipped)

    def picture(self, picture_id: int) -> PictureRow:
        """One picture, by the key that `Hit` and `pictures` give.

        Raises
        ------
        ParameterError
            If there is none of that key.
        """
        row = self._store.pictures_by_id([picture_id]).get(picture_id)
        if row is None:
            raise ParameterError(f"{self._store.path} has no picture {picture_id}")
        return row

    def features_of(self, picture_id: int) -> Features | None:
        """What is kept of a picture's features, the strongest first; None if nothing is.

        See `Recipe.keep_features`; for all of them extract the picture again.
        """
        return self._searching.features([picture_id]).get(picture_id)

    def file_of(self, row: PictureRow) -> str:
        """Where a picture is now, absolute."""
        return file_of(row, self._store.sources())

    # -- changing ---------------------------------------------------------------------

    def add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        prune: bool = False,
        images: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Index the pictures of folders and files: the new, and those that have changed.

        Parameters
        ----------
        sources : sequence of path
            Folders are searched with their subfolders. Or, in a collection that was made with the
            recipe of `vladkit.importing.recipe_for`, features that another program found:
            ``colmap:database.db``, ``hloc:features.h5``, ... (docs/features.md).
        prune : bool
            Forget pictures below the given folders whose file is gone.
        images : path or None
            Where the pictures are whose features are given; they are not needed for searching.
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
        RecipeMismatchError
            If the features given are not of the kind that the collection holds.
        StorageError
            If the file cannot be written; what was committed before is kept.
        """
        folder = None if images is None else os.fspath(images)
        return self._indexing.add(
            sources, prune=prune, images=folder, n_jobs=n_jobs, progress=progress
        )

    def remove(self, paths: Iterable[str | os.PathLike[str]]) -> int:
        """Forget pictures; the files stay where they are.

        Parameters
        ----------
        paths : iterable of path
            As they were indexed, or where they are; a folder stands for all that is below it.

        Returns
        -------
        int
            How many were forgotten.

        Raises
        ------
        ParameterError
            If one is not in the collection; nothing is forgotten then.
        StorageError
            If the file cannot be written.
        """
        wanted = list(dict.fromkeys(os.fspath(p) for p in paths))
        ids: set[int] = set()
        unknown = set(wanted)
        with self._store.writing():
            sources = self._store.sources()
            rows = [(row, file_of(row, sources)) for row in self._store.pictures()]
            for given in wanted:
                name = given.replace(os.sep, "/").rstrip("/")
                file = os.path.abspath(given)
                below = os.path.join(file, ""), os.path.join(os.path.realpath(file), "")
                found = {
                    row.picture_id
                    for row, where in rows
                    if row.path == name
                    or row.path.startswith(name + "/")
                    or where == file
                    or where.startswith(below)
                }
                ids |= found
                if found:
                    unknown.discard(given)
            if unknown:
                some = ", ".join(sorted(unknown)[:3]) + (", ..." if len(unknown) > 3 else "")
                raise ParameterError(
                    f"not in {self._store.path}: {some}: give paths as `vladkit info --pictures` "
                    "lists them, or files; nothing was removed"
                )
            self._store.delete(ids)
        return len(ids)

    def check(self, *, repair: bool = False, progress: Progress | None = None) -> list[Problem]:
        """Look whether every page, row, vector and feature is as it should be.

        Parameters
        ----------
        repair : bool
            Drop what is damaged; pictures that lose their vector are indexed again by the next
            `add`.
        progress : callable or None
            See `Progress`; its step is "check".

        Returns
        -------
        list of Problem
            Empty if all is well.
        """
        step = None if progress is None else partial(progress, "check")
        d = self.n_dimensions if self.vlad else 1
        return check(self._store, self._describer.dtype, d, repair=repair, progress=step)

    def compact(self) -> int:
        """Give back the space of what was removed; how many bytes smaller the file became.

        Needs room on the disk for a second copy of the file while it runs.

        Raises
        ------
        StorageError
            If there is no room, or the file cannot be written; it is then as before.
        """
        d = self.n_dimensions if self.vlad else 1
        return self._store.compact(self._describer.dtype, d)

    def copy(self, target: str | os.PathLike[str]) -> None:
        """Write the collection as it is now to another file, whole or not at all.

        Raises
        ------
        StorageError
            If there is something at `target`, or it cannot be written.
        """
        self._store.copy(target)

    def adapt(self, *, progress: Progress | None = None) -> None:
        """Move the centroids to the means of what all pictures have in their cells.

        For a collection that has grown by pictures of another kind than those that its codebook
        was learned from. No picture is opened: all vectors are made anew from kept sums
        (``keep_sums``).

        Parameters
        ----------
        progress : callable or None
            See `Progress`; its step is "adapt".

        Raises
        ------
        ParameterError
            If no sums are kept, or the vectors are whitened: adapt first.
        NothingToIndexError
            If the collection is empty.
        StorageError
            If the file cannot be written; it is then as before.

        References
        ----------
        Arandjelović, Zisserman, "All about VLAD", CVPR 2013, section 3.2.
        """
        step = None if progress is None else partial(progress, "adapt")
        adapt(self._store, self._describer, progress=step)

    def check_whitening(self, n_components: int | None) -> int:
        """The dimensions that `whiten` would give; raises what it would refuse from the start."""
        return check_whitening(self._store, self._describer, n_components)

    def whiten(
        self,
        n_components: int | None = None,
        *,
        exponent: float | None = None,
        power: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Bring all vectors to fewer dimensions by PCA, learned from themselves.

        Pictures that are added later, and queries, go through the same. The long vectors are
        gone then (`copy` first to keep them); `compact` gives their space back.

        Parameters
        ----------
        n_components : int or None
            Dimensions, fewer than there are pictures. None is 128, or half as many as there are
            pictures: the weakest of n - 1 axes are single pictures.
        exponent, power
            See `vladkit.Whitening`, whose defaults None stands for.
        progress : callable or None
            See `Progress`; its step is "whiten".

        Raises
        ------
        ParameterError
            If there are not more pictures than `n_components`, or the vectors are whitened
            already, or a value is out of range; nothing is changed then.
        NothingToIndexError
            If the collection is empty.
        StorageError
            If the file cannot be written; it is then as before.
        """
        step = None if progress is None else partial(progress, "whiten")
        whiten(
            self._store,
            self._describer,
            n_components,
            exponent=exponent,
            power=power,
            progress=step,
        )

    def augment(self, n_neighbors: int = 2, *, alpha: float = 1.0) -> None:
        """Let pictures be found through those of the collection that look like them.

        From then on `search` compares a query not with a picture's vector alone but with the
        mean of it and its nearest ones (database-side augmentation), as long as no picture is
        added, changed or removed; then augment again. Vectors stay as they are. Approximate
        search does without it.

        Parameters
        ----------
        n_neighbors : int
            Nearest pictures that each is joined with; 0 takes the augmentation back.
        alpha : float
            They count as their similarity to this power.

        Raises
        ------
        ParameterError
            If a value is out of range.
        NothingToIndexError
            If the collection is empty.
        StorageError
            If the file cannot be written; it is then as before.

        Notes
        -----
        Takes O(n^2 D). docs/quality.md says what it brings.
        """
        d, dtype = self.n_dimensions, self._describer.dtype
        with self._store.writing():
            if n_neighbors == 0:
                Augmentation.drop(self._store)
                return
            made = Augmentation.make(self._store, dtype, d, n_neighbors=n_neighbors, alpha=alpha)
            made.write(self._store, {"n_neighbors": n_neighbors, "alpha": alpha})

    def build_ann(self) -> AnnReport:
        """Make an index for approximate search, in FILE.ann beside the collection.

        `search` uses it as long as no picture is added, changed or removed; then build it
        again. It is a cache and may be deleted at any time. See docs/scale.md for from which
        size on it helps.

        Returns
        -------
        AnnReport
            With the recall against exact search, measured on stored vectors.

        Raises
        ------
        NothingToIndexError
            If the collection is empty.
        StorageError
            If the file cannot be written.
        """
        d, dtype = self.n_dimensions, self._describer.dtype
        with self._store.reading():
            return build_ann(
                lambda: self._store.vector_blocks(dtype, d),
                len(self),
                d,
                ann_path(self._store.path),
                stamp=self._store.stamp(),
                seed=self.recipe.seed,
            )

    def export(
        self, target: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
    ) -> list[Path]:
        """Write all vectors for other programs; which files came of it.

        Parameters
        ----------
        target : path
            What its name ends in is the format: .npz, .fvecs, .faiss or .h5, see
            `vladkit.collection.export`.
        root : path or None
            For .h5 the folder that names are relative to, as in `pairs`. The others have the paths
            that pictures were indexed by.

        Raises
        ------
        ParameterError
            If it ends in something else, or `root` does not fit.
        MissingDependencyError
            If the library that writes the format is not installed.
        NothingToIndexError
            If the collection is empty.
        StorageError
            If a file cannot be written.
        """
        dtype, d = self._describer.dtype, self.n_dimensions
        with self._store.reading():
            if check_target(target) == ".h5":
                path_of = names_below(self.pictures(), self._store.sources(), root)[1]
            elif root is not None:
                raise ParameterError(f"root={root} is for .h5, {target} has paths as indexed")
            else:
                path_of = {row.picture_id: row.path for row in self.pictures()}
            return export(target, lambda: self._store.vector_blocks(dtype, d), path_of, dtype, d)

    # -- searching --------------------------------------------------------------------

    def search(
        self,
        image: str | os.PathLike[str],
        top: int = 10,
        *,
        region: Region | None = None,
        rerank: int = 0,
        model: Model = "homography",
        expand: int = 0,
    ) -> list[Hit]:
        """The pictures most similar to one picture, the best first.

        Parameters
        ----------
        image : path
            Any picture file; it need not be in the collection, and if it is, it is found like
            any other. Or, if there is no such file, the path of a picture of the collection, as
            `pictures` lists it: see `search_picture`. Where features were found by another
            program, an indexed picture is always searched by those.
        top : int
            How many; 0 ranks all.
        region : Region or None
            Search by this part of the picture only. What is matched is given in px of the whole
            picture all the same.
        rerank : int
            So many of the first are matched with the query feature by feature, and come in the
            order of what fits one geometry (see `vladkit.verification`); 0 does not. No picture
            is opened for it.
        model : {"homography", "fundamental"}
            That geometry.
        expand : int
            Search again with the mean of the query and so many of its nearest pictures; with
            `rerank` of those among them that were verified. 0 does not.

        Raises
        ------
        PictureError
            If the picture cannot be used.
        NothingToIndexError
            If the collection is empty.
        ParameterError
            If a number is negative, `rerank` is asked for and no features are kept, or the region
            is outside of the picture.
        """
        self._describer.trained()
        if rerank:
            self._searching.check_keeps_features()
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        if isinstance(self.extractor, Imported) or not os.path.lexists(image):
            row = self.find(image)
            if row is not None:
                return self.search_picture(row.picture_id, top, region=region, **options)
        return self.search_features(self.extract(image, region=region), top, **options)

    def find(self, name: str | os.PathLike[str]) -> PictureRow | None:
        """The picture of that path, as it was indexed, or of that file; None if there is none.

        Raises
        ------
        ParameterError
            If several sources have a picture of that path.
        """
        path = os.fspath(name).replace(os.sep, "/")
        rows = list(self._store.pictures("skipped IS NULL AND path = ?", path))
        if not rows:
            sources = self._store.sources()
            files = {os.path.abspath(name), os.path.realpath(name)}
            for source in sources.values():
                folder = os.path.join(source.images or source.root, "")
                inside = [f.removeprefix(folder) for f in files if f.startswith(folder)]
                for path in {each.replace(os.sep, "/") for each in inside}:
                    where = "skipped IS NULL AND source_id = ? AND path = ?"
                    rows += self._store.pictures(where, source.source_id, path)
        if len(rows) > 1:
            files = {self.file_of(row) for row in rows}
            if len(files) > 1:
                raise ParameterError(
                    f"{len(rows)} pictures of {self._store.path} are called {name}: give one of "
                    + ", ".join(sorted(files)[:3])
                )
        return rows[0] if rows else None

    def search_picture(
        self,
        picture_id: int,
        top: int = 10,
        *,
        region: Region | None = None,
        rerank: int = 0,
        model: Model = "homography",
        expand: int = 0,
    ) -> list[Hit]:
        """`search` by a picture of the collection, from what is kept of it; no file is opened.

        Turned queries, `rerank` and `region` need kept features, and take those: a part of a
        picture is described by the strongest of all its features.

        Raises
        ------
        ParameterError
            As `search`; or if there is no such picture, or no features are kept of it where they
            are needed.
        PictureError
            If no kept feature is in the region.
        """
        row = self.picture(picture_id)
        if row.skipped is not None:
            raise ParameterError(f"{row.path} has no vector: {row.skipped}")
        if region is not None:
            self._searching.check_keeps_features()
        query_vD, features = self._searching.of_picture(picture_id)
        if features is not None and region is not None:
            features = features.within(region)
            if not len(features):
                raise PictureError(f"no feature that is kept of {row.path} is in {region}")
            query_vD = self.query_vectors([features])[0]
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        return self._search(query_vD, features, top, **options)

    def extract(
        self, image: str | os.PathLike[str] | bytes, *, region: Region | None = None
    ) -> Features:
        """Features of a picture, or of a part of it, as the collection's are found.

        Parameters
        ----------
        image : path or bytes
            A picture file, or what is in one.
        region : Region or None

        Raises
        ------
        PictureError
            If the picture cannot be used.
        ParameterError
            If the region is outside of the picture.
        """
        if isinstance(image, bytes):
            return extract_data(self.extractor, image, region)
        return extract(self.extractor, os.fspath(image), region)

    def words(
        self,
        image: str | os.PathLike[str] | bytes | Features,
        *,
        region: Region | None = None,
        vocabulary: int = 0,
    ) -> tuple[Features, Int64Array]:
        """The features of a picture, and the visual word that each is summed into.

        Parameters
        ----------
        image : path, bytes or Features
            A picture, which need not be in the collection, as `extract` takes it; or features that
            are there already, such as `features_of` gives.
        region : Region or None
            Only this part of the picture; not with features.
        vocabulary : int
            Which codebook, where there are several (``n_vocabularies``).

        Returns
        -------
        features : Features
        label_l : int64 array (l,)
            Rows of the codebook's centroids, 0 to k - 1; `vladkit.plot.draw_words` draws them.

        Raises
        ------
        PictureError
            If the picture cannot be used.
        NothingToIndexError
            If the collection is empty: it has no codebook yet.
        ParameterError
            If there is no such codebook, or the region does not fit.
        """
        self._describer.trained()
        if isinstance(image, Features):
            if region is not None:
                raise ParameterError("features are given: extract them with that region instead")
            features = image
        else:
            features = self.extract(image, region=region)
        return features, self._describer.words(features, vocabulary)

    def search_features(
        self,
        features: Features,
        top: int = 10,
        *,
        rerank: int = 0,
        model: Model = "homography",
        expand: int = 0,
    ) -> list[Hit]:
        """`search` for a picture, or a part of one, whose features are there already."""
        options: dict[str, Any] = {"rerank": rerank, "model": model, "expand": expand}
        return self._search(self.query_vectors([features])[0], features, top, **options)

    def _search(
        self,
        query_vD: Float32Array,
        features: Features | None,
        top: int,
        *,
        rerank: int,
        model: Model,
        expand: int,
    ) -> list[Hit]:
        for name, value in (("top", top), ("rerank", rerank), ("expand", expand)):
            if value < 0:
                raise ParameterError(f"{name}={value}: give a number of pictures, 0 or more")
        n = max(top, rerank, expand) if top else 0
        if rerank and features is None:
            raise ParameterError("rerank: no features are kept of the query")
        with self._store.reading():
            (ranked,) = self._searching.nearest(query_vD[None], n)
            if rerank and features is not None:
                ranked = self._searching.reordered(features, ranked, rerank, model)
            if expand:
                near = self._searching.neighbors(ranked, expand)
                query_1D = self._searching.expanded(query_vD, near)
                (ranked,) = self._searching.nearest(query_1D[None], n)
                if rerank and features is not None:
                    ranked = self._searching.reordered(features, ranked, rerank, model)
            hits = self._searching.hits(ranked)
        return hits[:top] if top else hits

    def verify(
        self, features: Features, picture_id: int, *, model: Model = "homography"
    ) -> Verification:
        """Match a query with one picture, feature by feature; see `vladkit.verify`.

        Raises
        ------
        ParameterError
            If there is no such picture, or no features are kept of it.
        """
        self._searching.check_keeps_features()
        other = self.features_of(picture_id)
        if other is None:
            row = self.picture(picture_id)
            raise ParameterError(f"no features are kept of {row.path}")
        rule = match_rule(self.extractor)
        return verify_all(
            features,
            [other],
            self.extractor.metric,
            model=model,
            ratio=rule.ratio,
            min_cosine=rule.min_cosine,
            n_jobs=1,
        )[0]

    def duplicates(
        self,
        *,
        flips: bool = False,
        candidates: int = 30,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> list[DuplicateGroup]:
        """Groups of pictures that show the same shot: copies that were altered.

        Resized, re-compressed, cropped, turned, written over, brightened: not the same scene taken
        again. Nothing is changed or deleted.

        Parameters
        ----------
        flips : bool
            Look for mirrored copies, too; takes about twice as long.
        candidates : int
            Pictures of the nearest vectors that each is compared with, feature by feature.
        n_jobs : int or None
            Threads; None is one for each core.
        progress : callable or None
            See `Progress`; its step is "duplicates".

        Returns
        -------
        list of DuplicateGroup
            By the path of their reference, the largest picture of each.

        Raises
        ------
        ParameterError
            If the collection keeps no features, or `candidates` is less than 1.
        NothingToIndexError
            If it is empty.

        Notes
        -----
        Found from what the collection keeps; only copies are opened, to say how they differ. Takes
        O(n^2 D) for the candidates, and some 5 ms for each of ``n * candidates / 2`` comparisons.
        """
        self._describer.trained()
        step = None if progress is None else partial(progress, "duplicates")
        with self._store.reading():
            grouping = Grouping(
                self._store,
                self._describer,
                self._searching,
                candidates=candidates,
                flips=flips,
                n_jobs=n_jobs,
            )
            return grouping.run(step)

    def pairs(
        self,
        top: int = 20,
        *,
        rerank: int = 0,
        model: Model = "homography",
        min_score: float | None = None,
        sequential: int = 0,
        connected: bool = False,
        turned: bool = False,
        root: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> Pairs:
        """Pictures worth matching with each other, for a reconstruction: each pair once.

        Parameters
        ----------
        top : int
            So many of the most similar others of each picture; 0 for `sequential` alone. A picture
            is in more pairs if more others chose it.
        rerank : int
            The first so many candidates of each picture are matched with it feature by feature, as
            in `search`, and its `top` are the first in the order that comes of it; 0 does not.
        model : {"homography", "fundamental"}
            See `search`.
        min_score : float or None
            Pairs of less similarity of their vectors (cosine) are left out, and not matched.
        sequential : int
            The so many pictures that follow each one in its folder, too, in natural order of names:
            for videos and walks.
        connected : bool
            Where the pairs leave groups of pictures unconnected, add the `top` best pairs that
            leave each group, whatever their similarity, until all are one.
        turned : bool
            Pictures may lie on their side or head relative to each other without an EXIF entry that
            says so: compare in all quarter turns. Four times the work; needs kept features.
        root : path or None
            The folder that names are relative to: where hloc or COLMAP look for images. None is the
            indexed folder, or the deepest that holds all pictures if several were indexed.
        n_jobs : int or None
            Threads that match; None is one for each core.
        progress : callable or None
            See `Progress`; its steps are "pairs", "match" and "join".

        Returns
        -------
        Pairs
            `Pairs.write` makes the file for hloc and COLMAP.

        Raises
        ------
        ParameterError
            If a value is out of range or does not fit the others, features are needed and none are
            kept, or a picture is not below `root`.
        NothingToIndexError
            If the collection is empty.

        Notes
        -----
        O(n^2 D), in batches whose vectors and scores take 64 MB each, whatever n; an index made by
        `build_ann` is used instead if it is there. Matching takes some 5 ms a pair.
        """
        with self._store.reading():
            pairing = Pairing(
                self._store,
                self._describer,
                self._searching,
                root=root,
                model=model,
                turned=turned,
                n_jobs=n_jobs,
                progress=progress,
            )
            return pairing.run(
                top,
                rerank=rerank,
                min_score=min_score,
                sequential=sequential,
                connected=connected,
            )

    def query_vectors(self, features: Sequence[Features]) -> Float32Array:
        """Vectors (q, v, D) of query pictures: upright and, where that matters, turned.

        v is 4, for quarter turns (of the features: nothing is extracted again), or 1 where a
        picture and the picture turned have the same vector anyway.
        """
        return self._describer.query_vectors(features)

    def rank(self, query_qvD: Float32Array, top: int = 10) -> list[list[Hit]]:
        """The best pictures for each query; pictures of equal score in the order of their path.

        Raises
        ------
        ParameterError
            If `top` is negative.
        """
        with self._store.reading():
            ranked = self._searching.nearest(query_qvD, top)
            hits = [self._searching.hits(each) for each in ranked]
        return [each[:top] if top else each for each in hits]

    def scores(self, query_qvD: Float32Array) -> tuple[Int64Array, Float32Array]:
        """(picture_id_n, score_qn): similarity of each query to every picture.

        The larger of the upright vector's cosine and .8 times the best turned one's, to six
        digits.
        """
        return self._searching.scores(query_qvD)

    # -- evaluating -------------------------------------------------------------------

    def evaluate(
        self,
        truth: GroundTruth,
        *,
        rerank: int = 0,
        model: Model = "homography",
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[Scores, list[str]]:
        """Scores of this collection for a ground truth, and remarks on what did not fit.

        Only pictures of the ground truth's database are ranked, whatever else is indexed.
        Every query is extracted from its file, as `search` does; where features were found by
        another program, an indexed query is taken as it is in the collection.

        Parameters
        ----------
        truth : GroundTruth
        rerank, model
            See `search`.
        n_jobs : int or None
            Threads that extract; None is one for each core.
        progress : callable or None
            See `Progress`.

        Raises
        ------
        NothingToIndexError
            If no picture of the ground truth's database is indexed.
        ParameterError
            If `rerank` does not fit.
        """
        answers, remarks = self.assess(
            truth, top=0, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
        return mean_scores([answer.result for answer in answers]), remarks

    def assess(
        self,
        truth: GroundTruth,
        *,
        top: int = 10,
        rerank: int = 0,
        model: Model = "homography",
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[Answer], list[str]]:
        """What is found for each query of a ground truth, and remarks on what did not fit.

        As `evaluate`, query by query. Of a ranking its first pictures are kept, and the ranks of
        those that were to be found.

        Parameters
        ----------
        truth : GroundTruth
        top : int
            Of each ranking so many pictures are kept, junk and the query itself not counted.
        rerank, model, n_jobs, progress
            See `evaluate`.

        Raises
        ------
        NothingToIndexError
            If no picture of the ground truth's database is indexed.
        ParameterError
            If `top` is negative, or `rerank` does not fit.
        """
        if top < 0:
            raise ParameterError(f"top={top}: give a number of pictures, 0 or more")
        step = None if progress is None else partial(progress, "queries")
        return Assessing(self._store, self._describer, self._searching).run(
            truth, top=top, rerank=rerank, model=model, n_jobs=n_jobs, progress=step
        )


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
