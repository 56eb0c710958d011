"""A collection that is open: how it is made, and what is in it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from vladkit.collection.describer import Codebook, Describer
from vladkit.collection.indexing import Indexing
from vladkit.collection.recipe import Recipe
from vladkit.collection.searching import Searching
from vladkit.errors import (
    FileFormatError,
    ParameterError,
    RecipeMismatchError,
)
from vladkit.features import Extractor, Features
from vladkit.store.store import ImageRow, Store, file_of

__all__ = ["Opened"]


class Opened:
    """An open collection file, and what works on it; the part of `Collection` that others share."""

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
            from vladkit.features.onnx.extractor import same_features

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
        """Images that have a vector."""
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
        """What finds its images' features."""
        return self._describer.extractor

    @property
    def vlad(self) -> Codebook | None:
        """The fitted estimator, or None before the first image is in."""
        return self._describer.vlad

    def info(self) -> dict[str, Any]:
        """Size, sources, recipe and versions, JSON-able."""
        indexed, skipped = self._store.count()
        counts = self._store.count_by_source()
        vlad = self.vlad
        return {
            "file": str(self._store.path),
            "bytes": self._store.path.stat().st_size,
            "images": indexed,
            "skipped": skipped,
            "sources": [
                {"name": s.name, "root": s.root}
                | ({"images": s.images} if s.images else {})
                | dict(zip(("indexed", "skipped"), counts[s.source_id], strict=True))
                for s in self._store.sources().values()
                if s.source_id in counts  # else all its images were removed
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

    def images(self) -> Iterator[ImageRow]:
        """All images that have a vector, by source and path."""
        return self._store.images("skipped IS NULL")

    def skipped(self) -> Iterator[ImageRow]:
        """All images that have none, with the reason."""
        return self._store.images("skipped IS NOT NULL")

    def page(
        self, offset: int = 0, limit: int = 100, *, contains: str = "", skipped: bool = False
    ) -> tuple[int, list[ImageRow]]:
        """Some images, by source and path, and how many there are.

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

    def image(self, image_id: int) -> ImageRow:
        """One image, by the key that `Hit` and `images` give.

        Raises
        ------
        ParameterError
            If there is none of that key.
        """
        row = self._store.images_by_id([image_id]).get(image_id)
        if row is None:
            raise ParameterError(f"{self._store.path} has no image {image_id}")
        return row

    def features_of(self, image_id: int) -> Features | None:
        """What is kept of an image's features, the strongest first; None if nothing is.

        See `Recipe.keep_features`; for all of them extract the image again.
        """
        return self._searching.features([image_id]).get(image_id)

    def file_of(self, row: ImageRow) -> str:
        """Where an image is now, absolute."""
        return file_of(row, self._store.sources())

    def find(self, name: str | os.PathLike[str]) -> ImageRow | None:
        """The image of that path, as it was indexed, or of that file; None if there is none.

        Raises
        ------
        ParameterError
            If several sources have an image of that path.
        """
        path = os.fspath(name).replace(os.sep, "/")
        rows = list(self._store.images("skipped IS NULL AND path = ?", path))
        if not rows:
            sources = self._store.sources()
            files = {os.path.abspath(name), os.path.realpath(name)}
            for source in sources.values():
                folder = os.path.join(source.images or source.root, "")
                inside = [f.removeprefix(folder) for f in files if f.startswith(folder)]
                for path in {each.replace(os.sep, "/") for each in inside}:
                    where = "skipped IS NULL AND source_id = ? AND path = ?"
                    rows += self._store.images(where, source.source_id, path)
        if len(rows) > 1:
            files = {self.file_of(row) for row in rows}
            if len(files) > 1:
                raise ParameterError(
                    f"{len(rows)} images of {self._store.path} are called {name}: give one of "
                    + ", ".join(sorted(files)[:3])
                )
        return rows[0] if rows else None


def _recipe_from(about: dict[str, Any], store: Store) -> Recipe:
    try:
        return Recipe.make(about["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{store.path} holds no recipe that can be read: {error}") from error


def _made_with(recipe: Recipe) -> dict[str, Any]:
    import faiss

    from vladkit.core.version import __version__

    return {
        "vladkit": __version__,
        "numpy": np.__version__,
        "faiss": faiss.__version__,
        "extractor": recipe.extractor().parameters(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
