"""`Learner`: what a collection learns from its images, and learns again as it grows.

A seeded sample of images is extracted, and the codebook of the vectors and the words of the match
codes are trained on it. As long as a collection is small, it learns again whenever it has twice as
many images as it has learned from: from the features that it keeps, together with the new images,
so that one that begins with one image ends as good as one that is indexed at once. Once there are
enough images, vectors become short by PCA; until then they are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from vladkit.collection.describer import Describer
from vladkit.collection.discover import SourceFile
from vladkit.collection.index import ENOUGH_IMAGES, Index
from vladkit.collection.reencode import whiten
from vladkit.collection.sample import Drawing, order_of
from vladkit.collection.train import sample_size, train
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.errors import RecipeMismatchError, StorageError
from vladkit.features import Features
from vladkit.features.pool import Extraction, Result
from vladkit.store.rows import ImageRow
from vladkit.store.store import new_state

__all__ = ["Learner"]

_SAMPLE_IMAGES: Final = 500
_FEW_IMAGES: Final = 100
"""A collection learns from half of the images, from 100 (if there are) to 500."""

_SHORT_FROM: Final = 64
"""Fewest images from which the axes of short vectors are learned."""

_SHORT_AT: Final = 2048
"""Images at which vectors become short while more are added: before that all are held whole."""

_SPOOL_BYTES: Final = 2**27
"""Most bytes of sampled images' features that are kept until they are indexed; those that do not
fit are extracted again. (500 images of 2,000 SIFT features: 128 MB.)"""

_BATCH: Final = 32
"""Images that are described again together."""

_Progress = Callable[[str, int, int], None]


class Learner:
    """Learns for one open collection that is being added to."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._store = index.store
        self._describer = index.describer
        self._n_images = 0
        self._before: dict[str, Any] = {}

    def is_due(self, n_new: int) -> bool:
        """Whether something has to be learned before `n_new` images are added."""
        if self._describer.vlad is None:
            return True
        learned, recipe = self._describer.learned, self._describer.recipe
        n = learned.get("images", ENOUGH_IMAGES)
        can = recipe.keep_features and not recipe.keep_sums
        return bool(can and n < ENOUGH_IMAGES and self._store.count()[0] + n_new >= 2 * n)

    def sample(
        self,
        found: Sequence[SourceFile],
        extraction: Extraction,
        spool: dict[str, Result],
        progress: _Progress | None,
    ) -> FloatArray | None:
        """Descriptors (N, f) of some images, new and old, to learn from; None if there are none.

        Features that were extracted are left in `spool`, as far as there is room.
        """
        self._before = self._describer.learned
        old = list(self._store.indexed())
        n_all = len(found) + len(old)
        n_wanted = min(n_all, max(_FEW_IMAGES, min(n_all // 2, _SAMPLE_IMAGES)))
        recipe = self._describer.recipe
        drawing = Drawing(recipe, self._describer.extractor, sample_size(recipe), n_wanted)
        rest: list[SourceFile | ImageRow] = [*found, *old]
        rest.sort(key=lambda each: order_of(each.path, each.file, recipe.seed))
        room, n_tried, n_usable = _SPOOL_BYTES, 0, 0
        while rest and drawing.n_images < n_wanted:
            # just as many as are missing: what runs ahead of the last would be extracted twice
            n = n_wanted - drawing.n_images
            some, rest = rest[:n], rest[n:]
            for each, features in self._features(some, extraction):
                if isinstance(features, Features):
                    drawing.add(each.path, features)
                if isinstance(each, SourceFile):
                    n_tried += 1
                    if isinstance(features, Features):
                        room -= features.descriptor_lf.nbytes
                        n_usable += 1
                    if room >= 0 and features is not None:
                        spool[each.file] = features
                if progress:
                    progress("sample", drawing.n_images, n_wanted)
        if not drawing.n_images or (n_tried and not n_usable):
            return None
        self._n_images = len(old) + round(len(found) * (n_usable / n_tried if n_tried else 1))
        return drawing.rows()

    def _features(
        self, some: Sequence[SourceFile | ImageRow], extraction: Extraction
    ) -> Iterator[tuple[SourceFile | ImageRow, Result | None]]:
        """Features of images in their order: new ones extracted, old ones as they are kept."""
        new = extraction.run(each.file for each in some if isinstance(each, SourceFile))
        for begin in range(0, len(some), _BATCH):
            batch = some[begin : begin + _BATCH]
            ids = [each.image_id for each in batch if isinstance(each, ImageRow)]
            kept = self._index.searcher.features(ids)
            for each in batch:
                yield each, next(new) if isinstance(each, SourceFile) else kept.get(each.image_id)

    def learn(self, local_Nf: FloatArray, progress: _Progress | None) -> None:
        """Train codebook and words, and describe again what is indexed.

        In one transaction: a kill leaves everything as it was, and whoever searches meanwhile sees
        what was there before. Does nothing if another process was first.
        """
        recipe = self._describer.recipe
        new = Describer(recipe, self._describer.name, self._describer.extractor)
        learned, arrays = train(self._describer, local_Nf)
        learned["learned"] = new_state(images=self._n_images)
        new.restore(learned, arrays)  # as it will be read
        with self._store.writing():
            kept = self._store.about()
            if not recipe.is_stored_as(kept["recipe"]):
                raise RecipeMismatchError(
                    f"another process has changed the recipe of {self._store.path}: run again"
                )
            if kept.get("learned", {}) == self._before:
                self._store.forget("whitening", "whitening.*")
                self._store.forget("words", "words.*")
                self._store.set_about(**learned)
                self._store.set_arrays(arrays)
                self._describe_again(new, progress)
        self._index.restore()

    def _describe_again(self, new: Describer, progress: _Progress | None) -> None:
        """Give all images the vectors and codes that follow from what was learned now."""
        lost: list[int] = []
        done, n_images = 0, self._store.count()[0]

        def change(image_id_n: Int64Array, _: AnyArray) -> AnyArray:
            nonlocal done
            vector_nD = np.zeros((len(image_id_n), new.n_dimensions), new.recipe.dtype)
            for begin in range(0, len(image_id_n), _BATCH):
                ids = image_id_n[begin : begin + _BATCH].tolist()
                kept = self._index.searcher.features(ids)
                lost.extend(i for i in ids if i not in kept)
                rows = [begin + row for row, i in enumerate(ids) if i in kept]
                features = [kept[i] for i in ids if i in kept]
                if features:
                    vector_nD[rows] = new.vectors(features, n_jobs=None)
                codes = new.codes(features, n_jobs=None)
                for i, each in zip((i for i in ids if i in kept), codes, strict=True):
                    self._store.put_codes(i, each)
                done += len(ids)
                if progress:
                    progress("learn", done, n_images)
            return vector_nD

        self._store.rewrite(change)
        for image_id in lost:
            self._store.drop_vector(image_id, "no features are kept of it: index again")

    def shorten(self, *, is_last: bool) -> None:
        """Make vectors short by PCA, if they are whole and there are enough images."""
        self._index.refresh()
        recipe, describer = self._describer.recipe, self._describer
        if not recipe.n_components or describer.vlad is None or describer.whitening is not None:
            return
        n = self._store.count()[0]
        if n < (_SHORT_FROM if is_last else _SHORT_AT):
            return
        most = min(n // 2, self._describer.n_dimensions)
        if recipe.n_components < self._describer.n_dimensions:
            # another process may be first; without room for a copy the file is only not smaller
            with suppress(StorageError):
                whiten(self._index, min(recipe.n_components, most), progress=None)
                self._store.compact()

    def outgrown(self) -> tuple[int, int] | None:
        """`AddReport.outgrown`, once images have been added."""
        if self._describer.vlad is None:
            return None
        clusters = self._describer.n_clusters
        now = self._describer.recipe.clusters_for(self._store.count_local())
        return (clusters, now) if now >= 2 * clusters else None
