"""What changes a collection, and what writes it to other files."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from vladkit.collection.augmentation import Augmentation
from vladkit.collection.indexing import AddReport, Progress
from vladkit.collection.opened import Opened
from vladkit.collection.reencode import adapt, check_whitening, whiten
from vladkit.collection.searching import ann_path
from vladkit.errors import (
    ParameterError,
)
from vladkit.store.ann import AnnReport, build_ann
from vladkit.store.check import Problem, check
from vladkit.store.export import check_target, export
from vladkit.store.naming import names_below
from vladkit.store.store import file_of

__all__ = ["Changing"]


class Changing(Opened):
    """Adding, removing, keeping in order, and bringing vectors to another form."""

    def add(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        prune: bool = False,
        images: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Index the images of folders and files: the new, and those that have changed.

        Parameters
        ----------
        sources : sequence of path
            Folders are searched with their subfolders. Or, in a collection that was made with the
            recipe of `vladkit.collection.import_recipe.recipe_for`, features that another program
            found: ``colmap:database.db``, ``hloc:features.h5``, ... (docs/features.md).
        prune : bool
            Forget images below the given folders whose file is gone.
        images : path or None
            Where the images are whose features are given; they are not needed for searching.
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
            If a source does not exist, or no image was found or none can be used and the
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
        """Forget images; the files stay where they are.

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
            rows = [(row, file_of(row, sources)) for row in self._store.images()]
            for given in wanted:
                name = given.replace(os.sep, "/").rstrip("/")
                file = os.path.abspath(given)
                below = os.path.join(file, ""), os.path.join(os.path.realpath(file), "")
                found = {
                    row.image_id
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
                    f"not in {self._store.path}: {some}: give paths as `vladkit info --images` "
                    "lists them, or files; nothing was removed"
                )
            self._store.delete(ids)
        return len(ids)

    def check(self, *, repair: bool = False, progress: Progress | None = None) -> list[Problem]:
        """Look whether every page, row, vector and feature is as it should be.

        Parameters
        ----------
        repair : bool
            Drop what is damaged; images that lose their vector are indexed again by the next
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
        """Move the centroids to the means of what all images have in their cells.

        For a collection that has grown by images of another kind than those that its codebook
        was learned from. No image is opened: all vectors are made anew from kept sums
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

        Images that are added later, and queries, go through the same. The long vectors are
        gone then (`copy` first to keep them); `compact` gives their space back.

        Parameters
        ----------
        n_components : int or None
            Dimensions, fewer than there are images. None is 128, or half as many as there are
            images: the weakest of n - 1 axes are single images.
        exponent, power
            See `vladkit.Whitening`, whose defaults None stands for.
        progress : callable or None
            See `Progress`; its step is "whiten".

        Raises
        ------
        ParameterError
            If there are not more images than `n_components`, or the vectors are whitened
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
        """Let images be found through those of the collection that look like them.

        From then on `search` compares a query not with an image's vector alone but with the
        mean of it and its nearest ones (database-side augmentation), as long as no image is
        added, changed or removed; then augment again. Vectors stay as they are. Approximate
        search does without it.

        Parameters
        ----------
        n_neighbors : int
            Nearest images that each is joined with; 0 takes the augmentation back.
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

        `search` uses it as long as no image is added, changed or removed; then build it
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
            `vladkit.store.export`.
        root : path or None
            For .h5 the folder that names are relative to, as in `pairs`. The others have the paths
            that images were indexed by.

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
                path_of = names_below(self.images(), self._store.sources(), root)[1]
            elif root is not None:
                raise ParameterError(f"root={root} is for .h5, {target} has paths as indexed")
            else:
                path_of = {row.image_id: row.path for row in self.images()}
            return export(target, lambda: self._store.vector_blocks(dtype, d), path_of, dtype, d)
