"""`Index`: an open collection file, and what makes and ranks its vectors."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from functools import partial
from typing import Any, Final, Self

import numpy as np

from vladkit.collection.codebook_file import CodebookFile
from vladkit.collection.describer import Describer
from vladkit.collection.recipe import Recipe
from vladkit.collection.searching import Searcher
from vladkit.errors import NothingToIndexError, ParameterError, RecipeMismatchError
from vladkit.features import Extractor, make_extractor
from vladkit.features.vectors import not_in_place, placed
from vladkit.store.database import damaged
from vladkit.store.lance.state import retried
from vladkit.store.opening import create_store, open_store
from vladkit.store.protocol import CollectionStore
from vladkit.store.trust import is_own, mark

__all__ = ["ENOUGH_IMAGES", "Index", "stored_recipe"]

ENOUGH_IMAGES: Final = 1000
"""Images from which on a collection does not learn again by itself."""


class Index:
    """An open collection file with its describer and its searcher; `close` it.

    Parameters
    ----------
    store : CollectionStore
    recipe, extractor
        The file's own, where they were made already.
    trust : bool
        Show images, and run the network, though another machine indexed with them.
    device, batch
        See `Collection.create`.

    Attributes
    ----------
    store : CollectionStore
        Rows of the file.
    trust : bool
    describer : Describer
        Makes the vector of an image from its features.
    searcher : Searcher
        Ranks the images.
    """

    def __init__(
        self,
        store: CollectionStore,
        recipe: Recipe | None = None,
        extractor: Extractor | None = None,
        *,
        trust: bool = False,
        device: str | None = None,
        batch: int | None = None,
    ) -> None:
        self.store = store
        self.trust = trust
        self.describer = Describer(recipe or stored_recipe(store), str(store.path), extractor)
        self.searcher = Searcher(store, self.describer)
        self.restore()
        if self.strange_networks() and not trust:
            self.describer.extractor = not_in_place(self.describer.extractor)
        self.describer.extractor = placed(self.describer.extractor, device, batch)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        given: dict[str, Any],
        recipe: Recipe | None = None,
        codebook: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        batch: int | None = None,
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
        extractor = placed(recipe.extractor(), device, batch)
        about = {"recipe": recipe.as_json(), "made_with": _made_with(extractor)}
        store = create_store(path, **about)
        try:
            if recipe.keep_sums:
                store.check_can("keep sums of images (keep_sums)")
            retried(partial(_take_over, store, about, learned, is_given=bool(given or learned)))
            stored = None
            if not recipe.is_stored_as(store.about().get("recipe")):
                stored = stored_recipe(store)
                _check_same(str(store.path), recipe, stored, list(given))
            networks = (stored or recipe).networks()
            if networks and networks.keys() <= given.keys():  # the user gave them, just now
                retried(partial(_mark_networks, store, recipe))
            if stored is None:
                return cls(store, recipe, extractor)
            return cls(store, stored, device=device, batch=batch)
        except BaseException:
            store.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        trust: bool = False,
        device: str | None = None,
        batch: int | None = None,
    ) -> Self:
        """Open a collection file; see `Collection.open`."""
        store = open_store(path, read_only=read_only)
        try:
            return cls(store, trust=trust, device=device, batch=batch)
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

    def check_ready(self) -> None:
        """Raise NothingToIndexError unless images have been indexed; all may be removed again."""
        self.describer.check_ready()
        if self.describer.has_vectors:  # ready without any image
            self.check_not_empty()

    def check_not_empty(self) -> None:
        """Raise NothingToIndexError unless there is an image to compare with."""
        if not self.store.count()[0]:
            raise NothingToIndexError(f"{self.store.path} holds no images")

    def strange_networks(self) -> list[str]:
        """Paths of the networks, if another machine indexed with them."""
        recipe = self.describer.recipe
        networks = recipe.networks()
        given = self.store.about().get("network_mark")
        if not networks or is_own("network", _sha256(recipe), given):
            return []
        return [getattr(recipe, name).removeprefix("onnx:") for name in networks]

    def is_stale(self) -> bool:
        """Whether it has learned from few images, and has twice as many by now or more."""
        if not self.describer.is_ready or self.describer.is_of_file:
            return False
        clusters, learned_from = self.describer.n_clusters, self.describer.learned.get("images")
        if (
            clusters
            and self.describer.recipe.clusters_for(self.store.count_local()) >= 2 * clusters
        ):
            return True
        if learned_from is None or learned_from >= ENOUGH_IMAGES:
            return False
        return bool(self.store.count()[0] >= 2 * learned_from)

    def info(self) -> dict[str, Any]:
        """Size, sources, recipe and versions, JSON-able."""
        indexed, skipped = self.store.count()
        counts = self.store.count_by_source()
        describer = self.describer
        trained = describer.is_ready
        return {
            "file": str(self.store.path),
            "bytes": self.store.n_bytes(),
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
            "whole_dimensions": describer.n_whole_dimensions if describer.keeps_whole else None,
            "clusters": (describer.n_clusters or None) if trained else None,
            "vectors_from": describer.recipe.vectors_from,
            "words": 0 if describer.asmk is None else len(describer.asmk.centroids_),
            "learned_from": describer.learned.get("images"),
            "stale": self.is_stale(),
            "whitened": describer.whitening is not None,
            "augmented": self.searcher.augmentation() is not None,
            "approximate": self.searcher.ann() is not None,
            "recipe": describer.recipe.as_json(),
            "made_with": self.store.about().get("made_with", {}),
        }


def _take_over(
    store: CollectionStore, about: dict[str, Any], learned: CodebookFile | None, *, is_given: bool
) -> None:
    """Give a new collection its recipe and codebook; check that an older one has this codebook.

    As long as nothing was learned with it, a recipe may be changed, if one is given.
    """
    with store.writing():
        kept = store.about()
        is_new = not kept.keys() & {"codebook", "learned"} and not store.count()[0]
        if is_given and is_new:
            store.set_about(**about)
            if learned:
                store.set_about(**learned.about)
                store.set_arrays(learned.arrays)
        elif learned:
            learned.check_is_of(store.path, kept)


def _mark_networks(store: CollectionStore, recipe: Recipe) -> None:
    with store.writing():
        store.set_about(network_mark=mark("network", _sha256(recipe)))


def _sha256(recipe: Recipe) -> str:
    """Hashes of the networks of a recipe, in one text."""
    return "+".join(str(json.loads(each)["sha256"]) for each in recipe.networks().values())


def stored_recipe(store: CollectionStore) -> Recipe:
    """Recipe that a file holds; FileFormatError if it cannot be read."""
    about = store.about()
    with damaged(store.path, "it holds no recipe that can be read"):
        try:
            recipe = Recipe.stored(about["recipe"])
        except ParameterError as error:
            raise ValueError(error) from error
        for network in recipe.networks().values():  # all that is asked of it must be there
            made: Any = make_extractor("onnx:", network=network)
            asked = made.description, made.about["f"] + 0, made.about["bytes"] + 0
            if asked[1] < 1 or not isinstance(made.about["sha256"], str):
                raise ValueError("its network has no dimensions, or no sha256")
        return recipe


def _check_same(path: str, wanted: Recipe, stored: Recipe, given: list[str]) -> None:
    """Raise RecipeMismatchError unless the fields that were given are those of the file."""
    theirs = stored.networks()
    for field, network in wanted.networks().items():  # a network may lie elsewhere by now
        from vladkit.features.onnx.extractor import same_features

        if field not in theirs:
            continue
        if not same_features(network, theirs[field]):
            raise RecipeMismatchError(
                f"{path} was made with another network than {getattr(wanted, field)}, or with "
                f"another description of it: {getattr(stored, field)}, see `vladkit info`"
            )
        given = [name for name in given if name != field]
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
