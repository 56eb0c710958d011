"""All vectors of a collection in another form: shorter, or by an adapted codebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import numpy as np

from vladkit.aggregation.aggregate import Aggregate
from vladkit.aggregation.shrinkage import score_shrinkage
from vladkit.aggregation.vlad import VLAD
from vladkit.aggregation.whitening import Whitening
from vladkit.collection.index import Index
from vladkit.collection.learned_vectors import LearnedVectors
from vladkit.collection.train import IMAGES_PER_AXIS
from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.core.names import quoted
from vladkit.errors import FileFormatError, ParameterError, StorageError
from vladkit.store.store import new_state
from vladkit.store.whole import forget_whole, keep_whole, whole_vectors

__all__ = [
    "adapt",
    "check_learned",
    "check_whitening",
    "shrink_learned",
    "whiten",
    "whiten_again",
]

_WHITENED: Final = 128
"""Default of `n_components`; docs/results/defaults.md has the figures."""

_BLOCK: Final = 64
"""Whole vectors that are looked at together."""

_ROUNDED: Final = 1e-2
"""Largest difference of values of a short vector from those of the whole one, made short."""

_Step: TypeAlias = Callable[[int, int], None]


def check_whitening(index: Index, n_components: int | None) -> int:
    """Dimensions that `whiten` would give; raises what it would."""
    describer, path = index.describer, index.store.path
    index.store.check_can("whiten")
    if describer.whitening is not None:
        raise ParameterError(
            f"{path} is whitened to {describer.n_dimensions} dimensions already: index "
            "into another file for another whitening"
        )
    index.check_not_empty()
    n, d = index.store.count()[0], describer.n_dimensions
    most = min(n - 1, d)
    if n_components is None:
        n_components = max(1, min(_WHITENED, n // IMAGES_PER_AXIS, most))
    if not 1 <= n_components <= most:
        raise ParameterError(
            f"n_components={n_components}: {n} vectors of {d} dimensions have {most} axes at most"
        )
    return n_components


def whiten(
    index: Index,
    n_components: int | None,
    *,
    exponent: float | None = None,
    power: float | None = None,
    keeps_whole: bool = False,
    will_grow: bool = False,
    progress: _Step | None,
) -> None:
    """Whiten all vectors in one transaction; see `vladkit.Collection.whiten`.

    `keeps_whole` is whether the whole ones are kept beside the short ones, and `will_grow` whether
    other images follow at once.
    """
    n_components = check_whitening(index, n_components)
    store, describer = index.store, index.describer
    whitening = Whitening(n_components, random_state=describer.recipe.seed)
    given = {"exponent": exponent, "power": power}
    whitening.set_params(**{name: v for name, v in given.items() if v is not None})
    with store.writing():
        check_learned(index)
        whitening.fit(vector_nD for _, vector_nD in store.vector_blocks())
        about, arrays = describer.whitening_state(whitening)
        whitening = describer.whitening_of(about, arrays)  # as it will be read
        if not keeps_whole:
            _note_learned(index, n_components, lambda: (v for _, v in store.vector_blocks()))
        learned = LearnedVectors.read(store) if will_grow else None

        def change(image_id_n: Int64Array, vector_nD: AnyArray) -> AnyArray:
            if keeps_whole:
                keep_whole(store, dict(zip(image_id_n.tolist(), vector_nD, strict=True)))
            short_nd: AnyArray = whitening.transform(vector_nD)
            if learned is not None:
                short_nd = learned.shrunk(image_id_n, short_nd, whitening.power)
            return short_nd.astype(store.layout.dtype)

        store.rewrite(change, progress)
        if learned is not None:
            LearnedVectors.drop(store)
        store.set_about(**about, learned=new_state(**store.learned()))
        store.set_arrays(arrays)
    index.restore()


def whiten_again(index: Index, n_components: int, *, keeps_whole: bool) -> bool:
    """Learn the axes of short vectors again, from the whole ones, in one transaction.

    Returns
    -------
    bool
        False, and vectors are as they were, where not all images have a whole one that is theirs.
    """
    store, describer = index.store, index.describer
    before = describer.whitening
    assert before is not None, "vectors are short"
    whitening = Whitening(n_components, random_state=describer.recipe.seed)
    with store.writing():
        check_learned(index)
        ids = [i for image_id_n, _ in store.vector_blocks() for i in image_id_n.tolist()]
        whole = whole_vectors(store, ids, describer.n_whole_dimensions)
        if whole is None:
            if not keeps_whole:
                forget_whole(store)
                store.set_about(learned=new_state(**store.learned()))
            return False

        def whole_of(image_id_n: Int64Array) -> AnyArray:
            return np.stack([whole[i] for i in image_id_n.tolist()])

        for image_id_n, short_nd in store.vector_blocks():
            if not np.allclose(before.transform(whole_of(image_id_n)), short_nd, atol=_ROUNDED):
                return False  # changed by a version that does not know of whole vectors
        whitening.fit(whole_of(image_id_n) for image_id_n, _ in store.vector_blocks())
        about, arrays = describer.whitening_state(whitening)
        whitening = describer.whitening_of(about, arrays)  # as it will be read

        def change(image_id_n: Int64Array, _: AnyArray) -> AnyArray:
            short_nd: AnyArray = whitening.transform(whole_of(image_id_n))
            return short_nd.astype(store.layout.dtype)

        if not keeps_whole:
            parts = [np.array(ids[i : i + _BLOCK]) for i in range(0, len(ids), _BLOCK)]
            _note_learned(index, n_components, lambda: map(whole_of, parts))
            forget_whole(store)
        store.rewrite(change)
        store.set_about(**about, learned=new_state(**store.learned()))
        store.set_arrays(arrays)
    index.restore()
    return True


def _note_learned(
    index: Index, n_components: int, blocks: Callable[[], Iterable[AnyArray]]
) -> None:
    """Note what vectors lose that axes were not learned from; `blocks` gives those they were."""
    seed = index.describer.recipe.seed
    if index.store.count()[0] > Whitening().sample_size:
        return  # it has learned from some of them
    shrinkage_d = score_shrinkage(blocks, n_components, random_state=seed)
    if shrinkage_d is not None:
        last = max(int(image_id_n.max()) for image_id_n, _ in index.store.vector_blocks())
        LearnedVectors.write(index.store, last, shrinkage_d)


def shrink_learned(index: Index) -> None:
    """Shrink the vectors that axes were learned from, in one transaction, if that is not done."""
    store, whitening = index.store, index.describer.whitening
    with store.writing():
        check_learned(index)
        learned = LearnedVectors.read(store)
        if learned is None or whitening is None:
            return

        def change(image_id_n: Int64Array, short_nd: AnyArray) -> AnyArray:
            return learned.shrunk(image_id_n, short_nd, whitening.power)

        store.rewrite(change)
        LearnedVectors.drop(store)


def check_learned(index: Index) -> None:
    """Raise StorageError if another process has learned since; within `Store.writing`."""
    if index.store.learned() != index.describer.learned:
        raise StorageError(f"another process has changed {index.store.path}: run again")


def adapt(index: Index, *, progress: _Step | None) -> None:
    """Adapt the codebook and all vectors in one transaction; see `vladkit.Collection.adapt`."""
    store, describer = index.store, index.describer
    store.check_can("adapt")
    vlad = describer.trained()
    if not describer.recipe.keep_sums:
        raise ParameterError(
            f"{store.path} keeps no sums: index into another file with --keep-sums"
        )
    if describer.whitening is not None:
        raise ParameterError(f"{store.path} is whitened: adapt before that")
    index.check_not_empty()
    assert isinstance(vlad, VLAD)
    sums_to_kf = describer.sums_to()

    def aggregate(ids: Int64Array) -> Aggregate:
        sums = store.sums(ids.tolist())
        if missing := [i for i in ids.tolist() if i not in sums]:
            raise FileFormatError(
                f"{store.path}: image {missing[0]} has no sums: run vladkit check "
                f"{quoted(store.path)}"
            )
        residual_tkf = np.stack([sums[i][0] for i in ids.tolist()])
        return Aggregate(residual_tkf, np.stack([sums[i][1] for i in ids.tolist()]), sums_to_kf)

    with store.writing():
        check_learned(index)
        ids = [i for i, _ in store.vector_blocks()]
        adapted = vlad.adapt(aggregate(each) for each in ids)

        def change(ids: Int64Array, _: AnyArray) -> AnyArray:
            vector_nD: AnyArray = adapted.transform_aggregate(aggregate(ids))
            return vector_nD.astype(store.layout.dtype)

        store.rewrite(change, progress)
        about, arrays = describer.codebook_state(adapted)
        store.set_about(**about, learned=new_state(**store.learned()))
        store.set_arrays(arrays)
    index.restore()
