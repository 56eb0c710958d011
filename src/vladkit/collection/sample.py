"""Sample of images that a collection learns from, and its shards, by a key of each image.

The key follows from the seed and the image's path alone. So neither the order of sources, nor
threads, nor a division into shards changes which images are drawn, nor which of their descriptors:
each shard can draw those of its own images whose key is small enough, and together these are the
sample of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np

from vladkit.aggregation.codebook import Reservoir
from vladkit.collection.describer import Describer
from vladkit.collection.discover import SourceFile
from vladkit.collection.recipe import Recipe
from vladkit.collection.train import sample_size
from vladkit.core.arrays import FloatArray
from vladkit.core.names import image_key
from vladkit.core.ragged import Ragged
from vladkit.errors import ImageError, ParameterError
from vladkit.features import Extractor, Features
from vladkit.features.pool import Extraction, Result
from vladkit.store.rows import ImageRow

__all__ = ["Drawing", "Sample", "Shard", "check_shard", "in_shard", "order_of"]

Shard: TypeAlias = tuple[int, int]
"""Number of a shard, from 1, and how many shards there are."""

_SPOOL_BYTES: Final = 2**27
"""Most bytes of sampled images' features that are kept until they are indexed; those that do not
fit are extracted again. (500 images of 2,000 SIFT features: 128 MB.)"""

_BATCH: Final = 32
"""Images whose kept features are read together."""

_Image: TypeAlias = SourceFile | ImageRow
_KeptFeatures: TypeAlias = Callable[[Sequence[int]], Mapping[int, Features]]

_MIN_SHARE: Final = 200
"""Fewest descriptors that are drawn from an image of the sample."""


def order_of(path: str, file: str, seed: int) -> tuple[int, str, str]:
    """Place of an image among all: those that come first are the sample.

    By key; images of one path, in several sources, by their files.
    """
    return image_key(path, seed), path, file


def check_shard(shard: Shard) -> None:
    """Raise ParameterError unless there is such a shard."""
    i, n = shard
    if not 1 <= i <= n:
        raise ParameterError(f"shard={i}/{n}: give I/N, with I from 1 to N")


def in_shard(path: str, seed: int, shard: Shard) -> bool:
    """Whether an image belongs to a shard: each one does to exactly one of N."""
    i, n = shard
    return image_key(path, seed) % n == i - 1


class Drawing:
    """Descriptors that are drawn from images, which are to be added in the order of `order_of`.

    Parameters
    ----------
    recipe : Recipe
    extractor : Extractor
    size : int
        Most rows that are drawn from all images.
    n_images : int
        Number of images that are to be drawn from.
    """

    def __init__(self, recipe: Recipe, extractor: Extractor, size: int, n_images: int) -> None:
        self._recipe = recipe
        self._extractor = extractor
        self._reservoir = Reservoir(size, recipe.seed)
        self._share = max(_MIN_SHARE, 5 * size // (4 * max(1, n_images)))
        self.n_images = 0

    def add(self, path: str, features: Features) -> None:
        """Draw from one image."""
        random = np.random.default_rng(image_key(path, self._recipe.seed))
        local_lf = self._recipe.local(self._extractor, features.some(self._share, random))
        self._reservoir.add(Ragged.from_list([local_lf]), random)
        self.n_images += 1

    def rows(self) -> FloatArray:
        """Descriptors (N, f) that were drawn."""
        return self._reservoir.rows()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Outcome of `draw`: descriptors, and the images that they are of.

    ``local_Nf`` are rows to train on, ``files`` the new images among those that were drawn, and
    ``n_images`` how many images they stand for: all, without those that seem not to be usable.
    ``failed`` are images that cannot be used, with the reason.
    """

    local_Nf: FloatArray
    files: list[SourceFile]
    failed: list[tuple[SourceFile, ImageError]]
    n_images: int

    @classmethod
    def draw(
        cls,
        describer: Describer,
        extraction: Extraction,
        n_wanted: int,
        new: Sequence[SourceFile],
        old: Sequence[ImageRow] = (),
        kept: _KeptFeatures = lambda ids: {},
        *,
        spool: dict[str, Result],
        progress: Callable[[str, int, int], None] | None,
    ) -> Self | None:
        """Draw from images that are extracted, and from indexed ones by their kept features.

        Parameters
        ----------
        describer : Describer
        extraction : Extraction
        n_wanted : int
            Number of images to draw from; more are tried in the place of those that fail.
        new, old : sequence
        kept : callable
            Gives kept features of indexed images by their ids.
        spool : dict
            Gets the features that were extracted, as far as there is room.
        progress : callable or None

        Returns
        -------
        Sample or None
            None if no image can be used, or none of those that are new.
        """
        recipe = describer.recipe
        drawing = Drawing(recipe, describer.extractor, sample_size(recipe), n_wanted)
        rest: list[_Image] = [*new, *old]
        rest.sort(key=lambda each: order_of(each.path, each.file, recipe.seed))
        room = _SPOOL_BYTES
        files: list[SourceFile] = []
        failed: list[tuple[SourceFile, ImageError]] = []
        while rest and drawing.n_images < n_wanted:
            # just as many as are missing: what runs ahead of the last would be extracted twice
            n = n_wanted - drawing.n_images
            some, rest = rest[:n], rest[n:]
            for each, result in _results(some, extraction, kept):
                if isinstance(result, Features):
                    drawing.add(each.path, result)
                if isinstance(each, SourceFile):
                    if isinstance(result, ImageError):
                        failed.append((each, result))
                    elif result is not None:
                        room -= result.descriptor_lf.nbytes
                        files.append(each)
                    if room >= 0 and result is not None:
                        spool[each.file] = result
                if progress:
                    progress("sample", drawing.n_images, n_wanted)
        if not drawing.n_images or (failed and not files):
            return None
        share = len(files) / (len(files) + len(failed)) if files else 1
        return cls(drawing.rows(), files, failed, len(old) + round(len(new) * share))


def _results(
    some: Sequence[_Image], extraction: Extraction, kept: _KeptFeatures
) -> Iterator[tuple[_Image, Result | None]]:
    """Features of images in their order; None of an indexed one that has lost them."""
    new = extraction.run(each.file for each in some if isinstance(each, SourceFile))
    for begin in range(0, len(some), _BATCH):
        batch = some[begin : begin + _BATCH]
        found = kept([each.image_id for each in batch if isinstance(each, ImageRow)])
        for each in batch:
            yield each, next(new) if isinstance(each, SourceFile) else found.get(each.image_id)
