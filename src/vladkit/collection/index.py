"""`Index`: an open collection file, and what makes and ranks its vectors."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from typing import Any, Final, Self, cast

import numpy as np

from vladkit.collection.codebook_file import CodebookFile
from vladkit.collection.describer import Describer
from vladkit.collection.recipe import Recipe
from vladkit.collection.searching import Searcher
from vladkit.errors import ParameterError, RecipeMismatchError
from vladkit.features import Extractor
from vladkit.store.database import damaged
from vladkit.store.postgres.address import is_url, shown_url
from vladkit.store.postgres.store import PostgresStore
from vladkit.store.store import Store
from vladkit.store.trust import is_own, mark

__all__ = ["ENOUGH_IMAGES", "Index", "stored_recipe"]

ENOUGH_IMAGES: Final = 1000
"""Images from which on a collection does not learn again by itself."""


class Index:
    """An open collection file with its describer and its searcher; `close` it.

    Parameters
    ----------
    store : Store
    recipe, extractor
        The file's own, where they were made already.
    trust : bool
        Show images, and run the network, though another machine indexed with them.

    Attributes
    ----------
    store : Store
        Rows of the file.
    trust : bool
    describer : Describer
        Makes the vector of an image from its features.
    searcher : Searcher
        Ranks the images.
    """

    def __init__(
        self,
        store: Store,
        recipe: Recipe | None = None,
        extractor: Extractor | None = None,
        *,
        trust: bool = False,
    ) -> None:
        self.store = store
        self.trust = trust
        self.describer = Describer(recipe or stored_recipe(store), str(store.path), extractor)
        self.searcher = Searcher(store, self.describer)
        self.restore()
        if self.stranger() is not None and not trust:
            self.describer.extractor = replace(cast(Any, self.describer.extractor), in_place=False)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        given: dict[str, Any],
        recipe: Recipe | None = None,
        codebook: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Make a collection file, or open the one that is there; see `Collection.create`."""
        learned = None if codebook is None else CodebookFile.read(codebook)
        if recipe is not None and not given:
            given = asdict(recipe)
        if learned is not None:
            if given:
                wanted = Recipe.make(given) if recipe is None else recipe
                _check_same(learned.path, wanted, learned.recipe, list(given))
            recipe = learned.recipe
        elif recipe is None:
            recipe = Recipe.make(given)
        extractor = recipe.extractor()
        about = {"recipe": recipe.as_json(), "made_with": _made_with(extractor)}
        store = Store.create(path, **about)
        try:
            with store.writing():
                kept = store.about()
                # as long as nothing was learned with it, a recipe may be changed
                if (given or learned) and "codebook" not in kept:
                    store.set_about(**about)
                    if learned:
                        store.set_about(**learned.about)
                        store.set_arrays(learned.arrays)
                elif learned:
                    learned.check_is_of(store.path, kept)
            stored = None
            if not recipe.is_stored_as(store.about().get("recipe")):
                stored = stored_recipe(store)
                _check_same(str(store.path), recipe, stored, list(given))
            if recipe.network and "features" in given:  # the user gave it, just now
                with store.writing():
                    store.set_about(network_mark=mark("network", _sha256(recipe)))
            return cls(store, recipe, extractor) if stored is None else cls(store, stored)
        except BaseException:
            store.close()
            raise

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, read_only: bool = False, trust: bool = False
    ) -> Self:
        """Open a collection file; see `Collection.open`."""
        store = (
            _open_url(path, read_only) if is_url(path) else Store.open(path, read_only=read_only)
        )
        try:
            return cls(store, trust=trust)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def restore(self) -> None:
        """Take over the codebook and the whitening that are in the file now."""
        about, arrays = self.store.about(), self.store.arrays()
        with damaged(self.store.path, "what was learned for it"):
            self.describer.restore(about, arrays)
        self.store.layout = self.describer.layout
        self.store.local_dimensions = self.describer.extractor.n_dimensions

    def refresh(self) -> None:
        """Take over what another process has learned since."""
        if self.store.learned() != self.describer.learned:
            self.restore()

    def stranger(self) -> str | None:
        """Path of the network, if another machine indexed with it; else None."""
        recipe = self.describer.recipe
        if not recipe.network:
            return None
        given = self.store.about().get("network_mark")
        path = recipe.features.removeprefix("onnx:")
        return None if is_own("network", _sha256(recipe), given) else path

    def is_stale(self) -> bool:
        """Whether it has learned from few images, and has twice as many by now or more."""
        if self.describer.vlad is None or self.describer.is_given:
            return False
        clusters, learned_from = self.describer.n_clusters, self.describer.learned.get("images")
        if self.describer.recipe.clusters_for(self.store.count_local()) >= 2 * clusters:
            return True
        if learned_from is None or learned_from >= ENOUGH_IMAGES:
            return False
        return bool(self.store.count()[0] >= 2 * learned_from)

    def info(self) -> dict[str, Any]:
        """Size, sources, recipe and versions, JSON-able."""
        indexed, skipped = self.store.count()
        counts = self.store.count_by_source()
        describer = self.describer
        trained = describer.vlad is not None
        return {
            "file": str(self.store.path),
            "bytes": self.store.size(),
            "images": indexed,
            "skipped": skipped,
            "lifted": len(self.store.lifted()),
            "sources": [
                {"name": s.name, "root": s.root}
                | ({"images": s.images} if s.images else {})
                | dict(zip(("indexed", "skipped"), counts[s.source_id], strict=True))
                for s in self.store.sources().values()
                if s.source_id in counts  # else all its images were removed
            ],
            "dimensions": describer.n_dimensions if trained else None,
            "clusters": describer.n_clusters if trained else None,
            "words": 0 if describer.asmk is None else len(describer.asmk.centroids_),
            "learned_from": describer.learned.get("images"),
            "stale": self.is_stale(),
            "whitened": describer.whitening is not None,
            "augmented": self.searcher.augmentation() is not None,
            "approximate": self.searcher.ann() is not None,
            "recipe": describer.recipe.as_json(),
            "made_with": self.store.about().get("made_with", {}),
        }


def _open_url(url: str, read_only: bool) -> Store:
    if not read_only:
        raise ParameterError(
            f"{shown_url(url)} is in PostgreSQL, where a collection can be searched but not "
            "changed: change its file and export it again, or open it with read_only=True"
        )
    return cast(Store, PostgresStore.open(url))


def _sha256(recipe: Recipe) -> str:
    return str(json.loads(recipe.network)["sha256"])


def stored_recipe(store: Store) -> Recipe:
    """Recipe that a file holds; FileFormatError if it cannot be read."""
    about = store.about()
    with damaged(store.path, "it holds no recipe that can be read"):
        try:
            recipe = Recipe.stored(about["recipe"])
        except ParameterError as error:
            raise ValueError(error) from error
        if recipe.network:  # all that is asked of it must be there
            network: Any = recipe.extractor()
            asked = network.description, network.n_dimensions, network.about["bytes"] + 0
            if asked[1] < 1 or not isinstance(network.about["sha256"], str):
                raise ValueError("its network has no dimensions, or no sha256")
        return recipe


def _check_same(path: str, wanted: Recipe, stored: Recipe, given: list[str]) -> None:
    """Raise RecipeMismatchError unless the fields that were given are those of the file."""
    if wanted.network and stored.network:  # a network may lie elsewhere by now
        from vladkit.features.onnx.extractor import same_features

        if not same_features(wanted.network, stored.network):
            raise RecipeMismatchError(
                f"{path} was made with another network than {wanted.features}, or with "
                f"another description of it: {stored.features}, see `vladkit info`"
            )
        given = [name for name in given if name != "features"]
    for name in given:
        if getattr(wanted, name) != getattr(stored, name):
            raise RecipeMismatchError(
                f"{path} was made with {name}={getattr(stored, name)!r}, "
                f"asked for is {getattr(wanted, name)!r}: leave the option out, or make "
                "another file"
            )


def _made_with(extractor: Extractor) -> dict[str, Any]:
    import faiss

    from vladkit.core.version import __version__

    return {
        "vladkit": __version__,
        "numpy": np.__version__,
        "faiss": faiss.__version__,
        "extractor": extractor.parameters(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
