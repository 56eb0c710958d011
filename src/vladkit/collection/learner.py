"""`Learner`: what a collection learns from its images, and learns again as it grows.

A seeded sample of images is extracted, and the codebook of the vectors and the words of the match
codes are trained on it. As long as a collection is small, it learns again whenever it has twice as
many images as it has learned from: from the features that it keeps, together with the new images,
so that one that begins with one image ends as good as one that is indexed at once. Once there are
enough images, vectors become short by PCA; until then they are whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np

from vladkit.aggregation.codebook import Reservoir
from vladkit.collection.describer import Describer
from vladkit.collection.index import ENOUGH_IMAGES, Index
from vladkit.collection.recipe import ROWS_PER_WORD
from vladkit.collection.reencode import whiten
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.errors import RecipeMismatchError, StorageError
from vladkit.features import Features
from vladkit.features.pool import Extraction, Result
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

_MIN_SHARE: Final = 200
"""Fewest descriptors that are drawn from an image of the sample."""

_PER_CLUSTER: Final = 256
"""Descriptors that k-means sees for each cluster."""

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
        files: list[str],
        extraction: Extraction,
        spool: dict[str, Result],
        progress: _Progress | None,
    ) -> FloatArray | None:
        """Descriptors (N, f) of some images, new and old, to learn from; None if there are none.

        Features that were extracted are left in `spool`, as far as there is room.
        """
        recipe = self._describer.recipe
        self._before = self._describer.learned
        rng = np.random.default_rng(recipe.seed)
        chosen = [files[i] for i in rng.permutation(len(files))]
        old = [row.image_id for row in self._store.indexed()]
        n_all = len(files) + len(old)
        n_wanted = max(_FEW_IMAGES, min(n_all // 2, _SAMPLE_IMAGES))
        n_new, n_old = len(files), len(old)
        if n_all > n_wanted:
            n_new = round(n_wanted * len(files) / n_all)
            n_old = n_wanted - n_new
        size = max(_PER_CLUSTER * recipe.n_clusters, ROWS_PER_WORD * recipe.n_words)
        reservoir = Reservoir(size, recipe.seed)
        share = max(_MIN_SHARE, 5 * reservoir.size // (4 * min(n_all or 1, n_wanted)))

        def draw(features: Features) -> None:
            local_lf = recipe.local(self._describer.extractor, features.some(share, rng))
            reservoir.add(Ragged.from_list([local_lf]))

        room, n_sampled, n_tried = _SPOOL_BYTES, 0, 0
        while chosen and n_sampled < n_new:
            # just as many as are missing: what runs ahead of the last would be extracted twice
            some, chosen = chosen[: n_new - n_sampled], chosen[n_new - n_sampled :]
            n_tried += len(some)
            for file, features in zip(some, extraction.run(some), strict=True):
                if isinstance(features, Features):
                    draw(features)
                    room -= features.descriptor_lf.nbytes
                    n_sampled += 1
                if room >= 0:
                    spool[file] = features
                if progress:
                    progress("sample", n_sampled, n_new)
        if old and n_sampled:
            some_old = [old[i] for i in np.sort(rng.permutation(len(old))[:n_old])]
            for begin in range(0, len(some_old), _BATCH):
                kept = self._index.searcher.features(some_old[begin : begin + _BATCH])
                for features in kept.values():
                    draw(features)
        self._n_images = len(old) + round(len(files) * n_sampled / max(1, n_tried))
        return reservoir.rows() if n_sampled else None

    def learn(self, local_Nf: FloatArray, progress: _Progress | None) -> None:
        """Train codebook and words, and describe again what is indexed.

        In one transaction: a kill leaves everything as it was, and whoever searches meanwhile sees
        what was there before. Does nothing if another process was first.
        """
        recipe, extractor = self._describer.recipe, self._describer.extractor
        new = Describer(recipe, self._describer.name, extractor)
        learned: dict[str, Any] = {"learned": new_state(images=self._n_images)}
        arrays: dict[str, AnyArray] = {}
        if recipe.n_words:
            plain_Nf = np.ascontiguousarray(local_Nf[:, : extractor.n_dimensions or None])
            asmk = recipe.asmk(len(plain_Nf))._train_on(plain_Nf)
            about, arrays = new.words_state(asmk)
            learned |= about
            del plain_Nf
        arrays |= self._describer.quantizer_arrays(local_Nf)
        local_Nf = _some(local_Nf, _PER_CLUSTER * recipe.n_clusters, recipe.seed)
        vlad = recipe.vlad(*local_Nf.shape).fit(Ragged(local_Nf, [0, len(local_Nf)]))
        about, more = new.codebook_state(vlad)
        learned, arrays = learned | about, arrays | more
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


def _some(row_Nf: FloatArray, most: int, seed: int) -> FloatArray:
    """At most `most` of the rows, drawn at random."""
    if len(row_Nf) <= most:
        return row_Nf
    chosen = np.random.default_rng(seed).choice(len(row_Nf), most, replace=False)
    return row_Nf[np.sort(chosen)]
