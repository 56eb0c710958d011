"""Merging of collections that were made with one codebook, such as shards, into one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from vladkit.collection.index import Index, stored_recipe
from vladkit.collection.learned_vectors import LearnedVectors
from vladkit.collection.learner import Learner
from vladkit.collection.recoded import Recoded
from vladkit.collection.verdicts import merge_verdicts
from vladkit.core.arrays import AnyArray
from vladkit.core.files import as_collection, refuse_url
from vladkit.errors import NothingToIndexError, ParameterError, RecipeMismatchError
from vladkit.store.lance.place import is_lance
from vladkit.store.merge import (
    choose_images,
    chosen_ids,
    copy_images,
    copy_sources,
    new_store,
)
from vladkit.store.store import Store
from vladkit.store.whole import WHOLE, copy_whole

__all__ = ["MergeReport", "merge"]

_LEARNED: Final = ("codebook", "words", "whitening", "learned")


@dataclass(frozen=True, slots=True)
class MergeReport:
    """Outcome of `merge`: numbers of files, of images with a vector, and of skipped ones.

    ``twice`` are rows of images that another file has as well, and that were left out.
    """

    files: int
    images: int
    skipped: int
    twice: int
    seconds: float


def merge(
    target: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> MergeReport:
    """Merge collections into a new file; see `vladkit.Collection.merge`."""
    begin = time.perf_counter()
    if not files:
        raise NothingToIndexError("no collections to merge: give some")
    for name in (target, *files):
        refuse_url(name)
    if lance := [os.fspath(name) for name in (target, *files) if is_lance(name)]:
        raise ParameterError(
            f"{lance[0]} is a collection of Lance, which is not merged: several writers add to one "
            "at once (vladkit add), from all folders"
        )
    with ExitStack() as opened, new_store(as_collection(target)) as out:
        first = Index.open(files[0], read_only=True)
        opened.callback(first.close)
        first.describer.check_ready()  # it may have no image itself
        opened.enter_context(first.store.reading())
        about, arrays = first.store.about(), first.store.arrays()
        assert isinstance(first.store, Store)
        shards = [first.store]
        for file in files[1:]:
            shard = opened.enter_context(Store.open(file, read_only=True))
            opened.enter_context(shard.reading())
            _check_same(first, about, arrays, shard)
            shard.layout = first.store.layout
            shards.append(shard)
        kept = ("recipe", "made_with", "network_mark", *_LEARNED)
        with out.writing():
            out.set_about(**{name: about[name] for name in kept if name in about})
            out.set_arrays(arrays)
            merge_verdicts(out, shards)
            n, twice = choose_images(out, shards, copy_sources(out, shards))
            copy_images(out, shards, n, partial(progress, "merge") if progress else None)
            Recoded.merge(out, shards, partial(chosen_ids, out))
            LearnedVectors.merge(out, shards, partial(chosen_ids, out))
            if about.get(WHOLE):
                for number, shard in enumerate(shards):
                    copy_whole(shard, out, chosen_ids(out, number))
        indexed, skipped = out.count()
    # a file like any other, and short vectors of many may be others than those of few
    with closing(Index.open(target)) as merged:
        Learner(merged).shorten(is_last=True)
    return MergeReport(len(shards), indexed, skipped, twice, time.perf_counter() - begin)


def _check_same(
    first: Index, about: dict[str, Any], arrays: dict[str, AnyArray], shard: Store
) -> None:
    """Raise RecipeMismatchError unless the vectors of two collections can be compared."""
    recipe, theirs = first.describer.recipe, shard.about()
    if not recipe.is_stored_as(theirs.get("recipe")):
        other = stored_recipe(shard)
        wanted, got = asdict(recipe), asdict(other)
        same_files = recipe.networks() == other.networks()  # they may lie elsewhere
        for name in wanted.keys() - (recipe.networks().keys() if same_files else ()):
            if wanted[name] != got[name]:
                raise RecipeMismatchError(
                    f"{shard.path} was made with {name}={got[name]!r}, {first.store.path} with "
                    f"{wanted[name]!r}: index both with one codebook (vladkit codebook)"
                )
    own = shard.arrays()
    unlike = [name for name in _LEARNED if about.get(name) != theirs.get(name)]
    unlike += [
        name
        for name in sorted(arrays.keys() | own.keys())
        if name not in arrays or name not in own or not np.array_equal(arrays[name], own[name])
    ]
    if unlike:
        raise RecipeMismatchError(
            f"{shard.path} has another codebook than {first.store.path} ({', '.join(unlike[:3])}): "
            "index both with one (vladkit codebook)"
        )
