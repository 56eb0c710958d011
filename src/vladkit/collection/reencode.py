"""All vectors of a collection in another form: shorter, or by an adapted codebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from vladkit.aggregation.aggregate import Aggregate
from vladkit.aggregation.shrinkage import score_shrinkage
from vladkit.aggregation.vlad import VLAD
from vladkit.aggregation.whitening import Whitening
from vladkit.collection.index import Index
from vladkit.collection.learned_vectors import LearnedVectors
from vladkit.collection.train import IMAGES_PER_AXIS
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
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
        gram_nn = whitening._fit(vector_nD for _, vector_nD in store.vector_blocks())
        about, arrays = describer.whitening_state(whitening)
        whitening = describer.whitening_of(about, arrays)  # as it will be read
        if not keeps_whole:
            _note_learned(index, n_components, gram_nn)
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
        False where not all images have a whole vector that is theirs: axes stay as they are, and
        no whole vectors are kept any more.
    """
    store = index.store
    with store.writing():
        check_learned(index)
        whole = _own_whole_vectors(index)
        if whole is not None:
            _whiten_from(index, n_components, whole, keeps_whole=keeps_whole)
        store.set_about(learned=new_state(**store.learned()))
        if whole is None or not keeps_whole:
            forget_whole(store)
    index.restore()
    return whole is not None


def _own_whole_vectors(index: Index) -> dict[int, AnyArray] | None:
    """Whole vectors (D,) by image; None if they are not those of all short ones.

    A version that does not know of them has added images, or others in the place of some.
    """
    store, describer = index.store, index.describer
    assert describer.whitening is not None, "vectors are short"
    ids = [i for image_id_n, _ in store.vector_blocks() for i in image_id_n.tolist()]
    whole = whole_vectors(store, ids, describer.n_whole_dimensions)
    if whole is None:
        return None
    for image_id_n, stored_nd in store.vector_blocks():
        short_nd = describer.whitening.transform(_rows(whole, image_id_n))
        if not np.allclose(short_nd, stored_nd, atol=_ROUNDED):
            return None
    return whole


def _whiten_from(
    index: Index, n_components: int, whole: dict[int, AnyArray], *, keeps_whole: bool
) -> None:
    """Learn axes from whole vectors, and make all vectors by them; within `writing`."""
    store, describer = index.store, index.describer
    whitening = Whitening(n_components, random_state=describer.recipe.seed)
    gram_nn = whitening._fit(_rows(whole, image_id_n) for image_id_n, _ in store.vector_blocks())
    about, arrays = describer.whitening_state(whitening)
    whitening = describer.whitening_of(about, arrays)  # as it will be read
    if not keeps_whole:
        _note_learned(index, n_components, gram_nn, whole)

    def change(image_id_n: Int64Array, _: AnyArray) -> AnyArray:
        short_nd: AnyArray = whitening.transform(_rows(whole, image_id_n))
        return short_nd.astype(store.layout.dtype)

    store.rewrite(change)
    store.set_about(**about)
    store.set_arrays(arrays)


def _rows(vectors: dict[int, AnyArray], image_id_n: Int64Array) -> AnyArray:
    return np.stack([vectors[i] for i in image_id_n.tolist()])


def _note_learned(
    index: Index,
    n_components: int,
    gram_nn: FloatArray | None,
    whole: dict[int, AnyArray] | None = None,
) -> None:
    """Note which vectors axes are learned from, and what others lose.

    They are the stored ones, or `whole`; `gram_nn` are their inner products, where these are known.
    Of more than `Whitening` learns from, which these are is not.
    """
    store = index.store
    if gram_nn is None:
        if store.count()[0] > Whitening().sample_size:
            return
        # of fewer dimensions than vectors
        blocks = (n if whole is None else _rows(whole, i) for i, n in store.vector_blocks())
        wide_nD = np.concatenate(list(blocks)).astype(np.float64)
        gram_nn = wide_nD @ wide_nD.T
    seed = index.describer.recipe.seed
    shrinkage_d = score_shrinkage(gram_nn, n_components, random_state=seed)
    if shrinkage_d is not None:
        ids = [i for image_id_n, _ in store.vector_blocks() for i in image_id_n.tolist()]
        LearnedVectors.write(store, ids, shrinkage_d)


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
        shape = vlad.centroids_.shape
        if unfit := [i for i in ids.tolist() if i not in sums or sums[i][0].shape != shape]:
            raise FileFormatError(
                f"{store.path} is damaged: image {unfit[0]} has no sums of its codebook's size: "
                f"run vladkit check {quoted(store.path)} --repair, and index again"
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
