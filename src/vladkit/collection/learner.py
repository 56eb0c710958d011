"""`Learner`: what a collection learns from its images, and learns again as it grows.

A seeded sample of images is extracted, and the codebook of the vectors and the words of the match
codes are trained on it. As long as a collection is small, it learns again whenever it has twice as
many images as it has learned from. All images are then described again, in one transaction, by the
features that are kept of them; and, where their files are there and have not changed, once more by
all their features, which the caller extracts. So one that begins with one image ends as good as one
that is indexed at once. Once there are enough images, vectors become short by PCA; until then they
are whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from vladkit.collection.describer import Describer
from vladkit.collection.discover import SourceFile
from vladkit.collection.index import ENOUGH_IMAGES, Index
from vladkit.collection.learned_vectors import LearnedVectors
from vladkit.collection.recoded import Recoded
from vladkit.collection.reencode import shrink_learned, whiten, whiten_again
from vladkit.collection.sample import Sample
from vladkit.collection.train import OTHERS_CAME, short_length, train
from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.remote import is_url
from vladkit.errors import InputError, RecipeMismatchError, StorageError
from vladkit.features.pool import Extraction, Result
from vladkit.store.rows import ImageRow
from vladkit.store.store import new_state
from vladkit.store.whole import forget_whole

__all__ = ["Learner"]

_SAMPLE_IMAGES: Final = 500
_FEW_IMAGES: Final = 100
"""A collection learns from half of the images, from 100 (if there are) to 500."""

_SHORT_AT: Final = 2048
"""Images at which vectors become short while more are added: before that all are held whole."""

_GROWN: Final = 1.03
"""Share of the images that axes were learned from, up to which they stay as they are: with 2 in 100
others mAP is as without (docs/results/defaults.md)."""

_MEASURED: Final = 64
"""Images on which is measured what codes of kept features lose."""

_BATCH: Final = 32
"""Images that are described again together."""

_Progress = Callable[[str, int, int], None]


class Learner:
    """Learns for one open collection that is being added to."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._store = index.store
        self._describer = index.describer
        self._before: dict[str, Any] = {}

    def is_due(self, n_new: int) -> bool:
        """Whether something has to be learned before `n_new` images are added."""
        if not self._describer.is_ready:
            return True
        if self._describer.is_given or not self._describer.learns or self._is_short_by_hand():
            return False
        learned, recipe = self._describer.learned, self._describer.recipe
        n = learned.get("images", ENOUGH_IMAGES)
        can = recipe.keep_features and not recipe.keep_sums
        return bool(can and n < ENOUGH_IMAGES and self._store.count()[0] + n_new >= 2 * n)

    def _is_short_by_hand(self) -> bool:
        """Whether vectors are short as somebody has asked for (`vladkit whiten`): they stay so."""
        describer = self._describer
        if describer.whitening is None or describer.has_vectors:
            return False
        n = describer.whitening.n_samples_
        return not short_length(describer.recipe, n, describer.n_whole_dimensions)

    def again(
        self,
        found: Sequence[SourceFile],
        known: Mapping[str, ImageRow],
        work: Sequence[SourceFile],
        n_new: int,
    ) -> list[tuple[SourceFile, ImageRow]]:
        """Indexed images to extract again, by source and path, each with its row.

        Those that were described by kept features; and all, if something has to be learned before
        `n_new` images are added. Only those whose files are there as they were indexed. `found` are
        the files of this run, `work` those of them that are new or changed, and `known` the rows by
        file.
        """
        recoded = Recoded.read(self._store).image_ids
        is_due = self._describer.is_ready and self.is_due(n_new)
        if not recoded and not is_due:
            return []
        here = {each.file: each for each in found}
        left_out = {each.file for each in work}
        sources = self._store.sources()
        recipe = self._describer.recipe
        images_alone = not recipe.dimensions and not recipe.vector_dimensions
        again = []
        for file, row in known.items():
            if file in left_out or row.skipped is not None:
                continue
            if not is_due and row.image_id not in recoded:
                continue
            each, source = here.get(file), sources[row.source_id]
            if each is None and images_alone and source.is_own and not is_url(source.root):
                each = SourceFile(source.root, row.path, source.name)
            if each is not None and each.status() == (row.n_bytes, row.mtime_ns):
                again.append((each, row))
        return again

    def sample(
        self,
        new: Sequence[SourceFile],
        extraction: Extraction,
        spool: dict[str, Result],
        progress: _Progress | None,
    ) -> Sample | None:
        """Sample of images to learn from; None if there are none.

        `new` are those that are extracted, whether they are indexed or not. Features that were
        extracted are left in `spool`, as far as there is room.
        """
        self._before = self._describer.learned
        files = {each.file for each in new}
        old = [row for row in self._store.indexed() if row.file not in files]
        n_all = len(new) + len(old)
        n_wanted = min(n_all, max(_FEW_IMAGES, min(n_all // 2, _SAMPLE_IMAGES)))
        images = new, old, self._index.searcher.features
        return Sample.draw(
            self._describer, extraction, n_wanted, *images, spool=spool, progress=progress
        )

    def learn(self, sample: Sample, n_jobs: int | None, progress: _Progress | None) -> None:
        """Train codebook and words, and describe again what is indexed.

        In one transaction: a kill leaves everything as it was, and whoever searches meanwhile sees
        what was there before. Does nothing if another process was first.
        """
        recipe = self._describer.recipe
        new = Describer(recipe, self._describer.name, self._describer.extractor)
        learned, arrays = train(self._describer, sample.local_Nf, n_jobs)
        learned["learned"] = new_state(images=sample.n_images)
        new.restore(learned, arrays)  # as it will be read
        with self._store.writing():
            kept = self._store.about()
            if not recipe.is_stored_as(kept["recipe"]):
                raise RecipeMismatchError(
                    f"another process has changed the recipe of {self._store.path}: run again"
                )
            if kept.get("learned", {}) == self._before:
                if not new.has_vectors:
                    self._store.forget("whitening", "whitening.*")
                    forget_whole(self._store)
                    LearnedVectors.drop(self._store)
                self._store.forget("words", "words.*")
                self._store.set_about(**learned)
                self._store.set_arrays(arrays)
                self._describe_again(new, progress)
        self._index.restore()

    def _describe_again(self, new: Describer, progress: _Progress | None) -> None:
        """Give all images the vectors and codes that follow from what was learned now."""
        lost: list[int] = []
        done, n_images = 0, self._store.count()[0]

        agreements = self._agreements() if new.asmk else []
        again: list[int] = []  # described by kept features

        def change(image_id_n: Int64Array, stored_nD: AnyArray) -> AnyArray:
            nonlocal done
            vector_nD = stored_nD  # given ones stay
            if not new.has_vectors:
                vector_nD = np.zeros((len(image_id_n), new.n_dimensions), new.recipe.dtype)
            for begin in range(0, len(image_id_n), _BATCH):
                ids = image_id_n[begin : begin + _BATCH].tolist()
                kept = self._index.searcher.features(ids)
                lost.extend(i for i in ids if i not in kept)
                rows = [begin + row for row, i in enumerate(ids) if i in kept]
                features = [kept[i] for i in ids if i in kept]
                if features and not new.has_vectors:
                    vector_nD[rows] = new.vectors(features, n_jobs=None)
                codes = new.codes(features, n_jobs=None)
                for i, each in zip((i for i in ids if i in kept), codes, strict=True):
                    self._store.put_codes(i, each)
                    if each is not None or not new.has_vectors:
                        again.append(i)
                done += len(ids)
                if progress:
                    progress("learn", done, n_images)
            return vector_nD

        self._store.rewrite(change)
        if again:
            Recoded.write(self._store, again, agreements)
        for image_id in () if new.has_vectors else lost:
            self._store.drop_vector(image_id, "no features are kept of it: index again")

    def _agreements(self) -> list[float]:
        """Agreements of kept features with the codes of all features, of some images."""
        searcher, before = self._index.searcher, Recoded.read(self._store).image_ids
        exact = [row.image_id for row in self._store.indexed() if row.image_id not in before]
        return [each for i in exact[:_MEASURED] if (each := searcher.own_agreement(i)) is not None]

    def room(self) -> int:
        """Number of images that can be added before vectors become short."""
        describer = self._describer
        n = _SHORT_AT - self._store.count()[0]
        is_short = describer.whitening is not None and not describer.keeps_whole
        is_short |= describer.is_given
        return sys.maxsize if is_short or n <= 0 or not describer.recipe.n_components else n

    def shorten(self, *, is_last: bool) -> None:
        """Make vectors short by PCA, if they are whole and there are enough images.

        As long as there are few, whole ones are kept, too, from which PCA is learned again when
        more images have come. Of more, those that it was learned from are shrunk then.
        """
        self._index.refresh()
        describer = self._describer
        stays_whole = describer.vlad is None and describer.whitening is None  # given vectors
        if stays_whole or describer.is_given:
            return
        n = self._store.count()[0]
        n_components = short_length(describer.recipe, n, describer.n_whole_dimensions)
        keeps_whole = n < ENOUGH_IMAGES
        if not is_last and n < _SHORT_AT:
            return
        # another process may be first; without room for a copy the file is only not smaller; equal
        # vectors have no axes
        with suppress(StorageError, InputError):
            if describer.whitening is None:
                if not n_components:
                    return
                options = {"keeps_whole": keeps_whole, "will_grow": not is_last}
                whiten(self._index, n_components, **options, progress=None)
            else:
                share = n / max(1, describer.whitening.n_samples_)
                has_grown = is_last and share > _GROWN
                if is_last and share > OTHERS_CAME and not describer.keeps_whole:
                    shrink_learned(self._index)
                if not describer.keeps_whole or (keeps_whole and not has_grown):
                    return
                whiten_again(self._index, n_components, keeps_whole=keeps_whole)
            if not keeps_whole:
                self._store.compact()

    def outgrown(self) -> tuple[int, int] | None:
        """`AddReport.outgrown`, once images have been added."""
        if self._describer.vlad is None or self._describer.is_of_file:
            return None
        clusters = self._describer.n_clusters
        now = self._describer.recipe.clusters_for(self._store.count_local())
        return (clusters, now) if now >= 2 * clusters else None
