"""Sample of images that a collection learns from, and its shards, by a key of each image.

The key follows from the seed and the image's path alone. So neither the order of sources, nor
threads, nor a division into shards changes which images are drawn, nor which of their descriptors:
each shard can draw those of its own images whose key is small enough, and together these are the
sample of all.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import numpy as np

from vladkit.aggregation.codebook import Reservoir
from vladkit.collection.recipe import Recipe
from vladkit.core.arrays import FloatArray
from vladkit.core.names import composed
from vladkit.core.ragged import Ragged
from vladkit.errors import ParameterError
from vladkit.features import Extractor, Features

__all__ = ["Drawing", "Shard", "check_shard", "image_key", "in_shard", "order_of"]

Shard: TypeAlias = tuple[int, int]
"""Number of a shard, from 1, and how many shards there are."""

_MIN_SHARE: Final = 200
"""Fewest descriptors that are drawn from an image of the sample."""


def image_key(path: str, seed: int) -> int:
    """Key of an image, 64 bits: BLAKE2b of the seed and the path, its letters composed (NFC).

    Examples
    --------
    >>> image_key("holiday/1.jpg", 0), image_key("holiday/1.jpg", 1)
    (582502454454267757, 12409558755089727090)
    """
    text = f"{seed}\0{composed(path)}".encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


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
