"""Query expansion and database augmentation: vectors moved towards their neighbours.

Pure functions on arrays of unit-length vectors. The caller searches for the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, Int64Array, as_array
from vladkit.core.linalg import EPSILON, on_grid, to_unit_length
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import InputError, ShapeError

__all__ = [
    "alpha_query_expansion",
    "augment_database",
    "average_query_expansion",
    "neighbor_weights",
]

_ALPHA: Final = Interval(float, 0)


def average_query_expansion(query_qD: FloatArray, neighbor_qrD: AnyArray) -> Float32Array:
    """Average each query with its neighbours, to search again.

    Parameters
    ----------
    query_qD : (q, D), unit length
    neighbor_qrD : (q, r, D), unit length
        The first r results of each query.

    Returns
    -------
    expanded_qD : (q, D) float32, unit length
        ``(query + sum of its neighbours)``, to unit length. A query of zeros stays zeros.

    Raises
    ------
    ShapeError
        If the arrays do not fit together; InputError if they are not real numbers.

    References
    ----------
    Chum, Philbin, Sivic, Isard, Zisserman, "Total recall: automatic query expansion with a
    generative feature model for object retrieval", ICCV 2007, section 4 (average expansion; there
    of spatially verified results only).

    Examples
    --------
    >>> import numpy as np
    >>> query, neighbor = np.array([[1.0, 0]]), np.array([[[0.6, 0.8]]])
    >>> average_query_expansion(query, neighbor).round(4).tolist()
    [[0.8944000005722046, 0.4472000002861023]]
    """
    return alpha_query_expansion(query_qD, neighbor_qrD, alpha=0)


def alpha_query_expansion(
    query_qD: FloatArray, neighbor_qrD: AnyArray, *, alpha: float = 1.0
) -> Float32Array:
    """Average each query with its neighbours, weighted by a power of their similarity.

    Parameters
    ----------
    query_qD : (q, D), unit length
    neighbor_qrD : (q, r, D), unit length
        The first r results of each query.
    alpha : float, >= 0
        A neighbour of similarity s has weight ``max(s, 0) ^ alpha``, the query 1; 0 is
        `average_query_expansion`. The paper's 3 is for vectors of a network, whose matches are
        at 0.7 and more. VLAD vectors match at 0.03 to 0.22 (medians), the cube of which is
        nothing (docs/results/defaults.md).

    Returns
    -------
    expanded_qD : (q, D) float32, unit length

    Raises
    ------
    ShapeError
        If the arrays do not fit together; InputError if they are not real numbers, ParameterError
        if `alpha` is negative.

    References
    ----------
    Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", PAMI 2018,
    section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> query, neighbor = np.array([[1.0, 0]]), np.array([[[0.6, 0.8]]])
    >>> x, y = alpha_query_expansion(query, neighbor, alpha=1)[0]  # (1 + 0.36, 0.48), to length 1
    >>> round(float(x / y), 4)
    2.8333
    """
    check_parameter("alpha", alpha, _ALPHA)
    query_qD, neighbor_qrD = as_array(query_qD), as_array(neighbor_qrD)
    if query_qD.ndim != 2 or neighbor_qrD.ndim != 3:
        raise ShapeError(
            f"got queries {query_qD.shape} and neighbours {neighbor_qrD.shape}, wanted (q, D), "
            "(q, r, D)"
        )
    q, _, D = neighbor_qrD.shape
    if query_qD.shape != (q, D):
        raise ShapeError(
            f"queries have shape {query_qD.shape}, their neighbours {neighbor_qrD.shape}: wanted "
            "(q, D), (q, r, D)"
        )
    query, neighbor = _float32(query_qD), _float32(neighbor_qrD)
    weight_qr = _weights(np.einsum("qD,qrD->qr", query, neighbor), alpha)
    return _joined(query, np.einsum("qr,qrD->qD", weight_qr, neighbor))


def augment_database(
    blocks: Callable[[], Iterable[AnyArray]], *, n_neighbors: int = 2, alpha: float = 1.0
) -> Iterator[Float32Array]:
    """Replace each vector of a database by the weighted mean of itself and its nearest ones.

    Parameters
    ----------
    blocks : callable
        Gives the database each time it is called, as the same (n_i, D) blocks of unit-length
        vectors (float16 or float32).
    n_neighbors : int, >= 1
        Neighbours besides the vector itself.
    alpha : float, >= 0
        Weights, as in `alpha_query_expansion`.

    Yields
    ------
    augmented_nD : (n_i, D) float32, unit length
        One array for each block. All neighbours are from the database as it was. A vector of
        zeros stays zeros.

    Raises
    ------
    ParameterError
        If `n_neighbors` or `alpha` is out of range; InputError if vectors are not real numbers, or
        `blocks` is no function; ShapeError if a block is not (n_i, D).

    Notes
    -----
    Memory is three blocks and their products, whatever the size of the database. Time is
    O(n^2 D), and the database is read twice for each of its blocks: take large ones.

    References
    ----------
    Turcot, Lowe, "Better matching with fewer features", ICCV workshops 2009. The weights are those
    that Radenović et al. give queries (`alpha_query_expansion`). Gordo, Almazán, Revaud, Larlus,
    "End-to-end learning of deep visual representations for image retrieval", IJCV 2017, section
    5.3, weight by rank instead: ``(k - r) / k`` for the r-th of k.

    Examples
    --------
    >>> import numpy as np
    >>> database = np.array([[1.0, 0], [0.8, 0.6], [0, 1]])
    >>> (augmented,) = augment_database(lambda: [database], n_neighbors=1, alpha=0)
    >>> augmented.round(3).tolist()[0] == augmented.round(3).tolist()[1]  # each other's nearest
    True
    """
    return _augmented(_plain(blocks), *_checked(n_neighbors, alpha))


def neighbor_weights(
    blocks: Callable[[], Iterable[AnyArray]], *, n_neighbors: int = 2, alpha: float = 1.0
) -> Iterator[tuple[Int64Array, Float32Array]]:
    """Weights of `augment_database`, for searching without another set of vectors.

    Augmented vectors are sums of stored ones, so a query's similarity to them is the same sum of
    its similarities to the stored ones.

    Parameters
    ----------
    blocks, n_neighbors, alpha
        Parameters of `augment_database`.

    Yields
    ------
    place_nr : (n_i, 1 + r) int64, r = n_neighbors, at most the number of vectors
        For each vector of a block its own place in the database, and those of its nearest ones.
        If these are all others: its own again, last, with weight 0.
    weight_nr : (n_i, 1 + r) float32
        ``(weight_nr * score_n[place_nr]).sum(axis=1)`` is the similarity of a query with the
        augmented vector, score_n its similarities with all stored ones. 0 for a vector of zeros.

    Raises
    ------
    ParameterError
        If `n_neighbors` or `alpha` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> database = np.array([[1.0, 0], [0.8, 0.6], [0, 1]])
    >>> ((place_nr, weight_nr),) = neighbor_weights(lambda: [database], n_neighbors=1)
    >>> place_nr.tolist()
    [[0, 1], [1, 0], [2, 1]]
    >>> query = np.array([0.6, 0.8])
    >>> (augmented,) = augment_database(lambda: [database], n_neighbors=1, alpha=1)
    >>> np.allclose((weight_nr * (database @ query)[place_nr]).sum(axis=1), augmented @ query)
    True
    """
    return _weighted(_plain(blocks), *_checked(n_neighbors, alpha))


def _plain(blocks: Callable[[], Iterable[AnyArray]]) -> Callable[[], Iterable[AnyArray]]:
    """Blocks as NumPy's arrays, of one dimension."""
    if not callable(blocks):
        raise InputError(
            f"blocks is an object of type {type(blocks).__name__}, wanted a function that gives "
            "the database each time it is called: lambda: [vector_nD]"
        )

    def checked() -> Iterator[AnyArray]:
        D: int | None = None
        for block in blocks():
            vector_nD = as_array(block)
            if vector_nD.ndim != 2 or D not in (None, vector_nD.shape[1]):
                wanted = "(n, D)" if D is None else f"(n, {D}) as those before it"
                raise ShapeError(f"a block has shape {vector_nD.shape}, wanted {wanted}")
            D = vector_nD.shape[1]
            yield vector_nD

    return checked


def _checked(n_neighbors: int, alpha: float) -> tuple[int, float]:
    n_neighbors = check_parameter("n_neighbors", n_neighbors, Interval(int, 1))
    return n_neighbors, check_parameter("alpha", alpha, _ALPHA)


def _weighted(
    blocks: Callable[[], Iterable[AnyArray]], r: int, alpha: float
) -> Iterator[tuple[Int64Array, Float32Array]]:
    begin = 0
    for own_nD in blocks():
        own, place_nr, weight_nr, total_nD = _joined_neighbors(own_nD, begin, blocks, r, alpha)
        length_n = np.linalg.norm(own + total_nD, axis=1, keepdims=True)
        itself_n1 = np.arange(begin, begin + len(own))[:, None]
        weight_nr = np.hstack([np.ones((len(own), 1), np.float32), weight_nr])
        weight_nr /= np.maximum(length_n, EPSILON).astype(np.float32)
        weight_nr[~own.any(axis=1)] = 0  # it stays zeros, whatever its neighbours are
        yield np.hstack([itself_n1, place_nr]), weight_nr
        begin += len(own)


def _augmented(
    blocks: Callable[[], Iterable[AnyArray]], r: int, alpha: float
) -> Iterator[Float32Array]:
    begin = 0
    for own_nD in blocks():
        own, _, _, total_nD = _joined_neighbors(own_nD, begin, blocks, r, alpha)
        yield _joined(own, total_nD)
        begin += len(own)


def _joined_neighbors(
    own_nD: AnyArray, begin: int, blocks: Callable[[], Iterable[AnyArray]], r: int, alpha: float
) -> tuple[Float32Array, Int64Array, Float32Array, Float32Array]:
    """Float32 block, places and weights of its vectors' neighbours, and their weighted sums."""
    own = _float32(own_nD)
    score_nr, place_nr = _nearest(own, begin, blocks(), r)
    weight_nr = _weights(score_nr, alpha)
    total_nD = np.zeros_like(own)
    first = 0
    for other_mD in blocks():
        row_n, column_n = np.nonzero((place_nr >= first) & (place_nr < first + len(other_mD)))
        if len(row_n):
            # not a product: BLAS would decide about the last bits
            for column in range(place_nr.shape[1]):
                some_n = row_n[column_n == column]
                neighbor_nD = other_mD[place_nr[some_n, column] - first].astype(np.float32)
                total_nD[some_n] += weight_nr[some_n, column, None] * neighbor_nD
        first += len(other_mD)
    return own, place_nr, weight_nr, total_nD


def _nearest(
    own_nD: Float32Array, begin: int, blocks: Iterable[AnyArray], r: int
) -> tuple[Float32Array, Int64Array]:
    """Similarity and place in the database of the r nearest others, ties to the first.

    If there are fewer it is all vectors, and the similarity to itself is -infinity.
    """
    n = len(own_nD)
    score_nr = np.empty((n, 0), np.float32)
    place_nr = np.empty((n, 0), np.int64)
    grid_nD = on_grid(own_nD)  # equal vectors are equally near, on any processor
    first = 0
    for other_mD in blocks:
        score_nm = (grid_nD @ on_grid(other_mD).T).astype(np.float32)
        itself_n = np.arange(begin, begin + n) - first
        inside_n = np.flatnonzero((itself_n >= 0) & (itself_n < len(other_mD)))
        score_nm[inside_n, itself_n[inside_n]] = -np.inf
        place_nm = np.broadcast_to(np.arange(first, first + len(other_mD)), score_nm.shape)
        score_nx = np.hstack([score_nr, score_nm])
        place_nx = np.hstack([place_nr, place_nm])
        chosen_nr = np.argsort(-score_nx, axis=1, kind="stable")[:, :r]
        score_nr = np.take_along_axis(score_nx, chosen_nr, axis=1)
        place_nr = np.take_along_axis(place_nx, chosen_nr, axis=1)
        first += len(other_mD)
    return score_nr, place_nr


def _weights(score_nr: Float32Array, alpha: float) -> Float32Array:
    weight_nr: Float32Array = np.maximum(score_nr, 0) ** np.float32(alpha)
    weight_nr[np.isneginf(score_nr)] = 0  # no neighbour there
    return weight_nr


def _float32(vector: AnyArray) -> Float32Array:
    if vector.dtype.kind not in "fiu":
        raise InputError(f"vectors are {vector.dtype}, wanted real numbers")
    return vector.astype(np.float32)


def _joined(own_nD: Float32Array, total_nD: Float32Array) -> Float32Array:
    """Sums at unit length; zeros where the own vector is zeros."""
    total_nD += own_nD
    total_nD[~own_nD.any(axis=1)] = 0
    to_unit_length(total_nD)
    return total_nD
