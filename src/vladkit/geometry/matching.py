"""Matching of descriptors of two images: nearest neighbours that pass the ratio test.

Axes: ``l`` descriptors of one image (the query's and the other's differ), ``f`` descriptor
dimension, ``m`` matches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array, IntArray, as_array
from vladkit.core.backends import on_host
from vladkit.core.linalg import unit_for
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import InputError, NonFiniteError, ShapeError

__all__ = ["MIN_COSINE", "MUTUAL", "RATIO", "Matcher", "Matches", "match"]

RATIO: Final = 0.9
"""Ratio test's limit: from 0.85 to 0.95, with the mutual test, the mAP of re-ranked results is the
same within 0.003."""

MUTUAL: Final = True
"""Whether each of two that match has to be the other's nearest."""

MIN_COSINE: Final = -1.0
"""Least cosine of two that match: none is too low, as SIFT's matches need the ratio test alone."""

_BLOCK_BYTES: Final = 2**21
"""Size of the scores computed at a time: 512 rows against 1,000 descriptors, read three times while
in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Descriptors of a query and of another image that belong together, the clearest first.

    Parameters
    ----------
    query_m, other_m : int64 array (m,)
        Rows of the query's descriptors, and of the other image's; neither has one twice.
    ratio_m : float32 array (m,)
        Distance to the match over the distance to the second nearest, 0 to 1; the lower, the
        clearer. 0 where there is no second.

    Examples
    --------
    >>> import numpy as np
    >>> len(match(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2]))
    2
    """

    query_m: IntArray
    other_m: IntArray
    ratio_m: Float32Array

    def __len__(self) -> int:
        return len(self.query_m)


def match(
    query_lf: Float32Array,
    other_lf: Float32Array,
    *,
    ratio: float = RATIO,
    mutual: bool = MUTUAL,
    min_cosine: float = MIN_COSINE,
) -> Matches:
    """Match each descriptor of a query with the nearest one of another image, where it is clear.

    Parameters
    ----------
    query_lf, other_lf : float32 arrays (l, f)
        Compared by L2 distance, as `Extractor.metric` makes them.
    ratio : float, default=0.9
        The nearest has to be nearer than this share of the distance to the second nearest
        (Lowe's test); 1 asks only that there is no tie.
    mutual : bool, default=True
        Each has to be the other's nearest.
    min_cosine : float, default=-1
        Least cosine of two that match, for descriptors of length 1. Networks need it instead of
        the ratio test: their second nearest is often nearly as near.

    Returns
    -------
    Matches
        One to one, sorted by rising ratio; ties in the order of the query's rows.

    Raises
    ------
    ShapeError
        An array has not two axes, or the two have unequal dimensions.
    InputError
        Descriptors are not real numbers; NonFiniteError if they hold NaN or infinity.
    ParameterError
        ``ratio`` is not above 0 and at most 1, ``min_cosine`` not from -1 to 1, or ``mutual`` not
        True or False.

    Notes
    -----
    A blocked product, about 2 l l f operations; memory for 2 MB of scores whatever the sizes.
    Distances come from ``|a|^2 - 2 a.b + |b|^2`` in float32, good to about 1e-3 for unit
    descriptors: two that are equal have a ratio near 0, not exactly 0.

    References
    ----------
    Lowe, *Distinctive image features from scale-invariant keypoints*, IJCV 2004, section 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> query_lf = np.array([[1, 0], [0, 1], [0.7, 0.7]], np.float32)
    >>> other_lf = np.array([[0, 1], [1, 0.1]], np.float32)
    >>> found = match(query_lf, other_lf)
    >>> found.query_m, found.other_m
    (array([1, 0]), array([0, 1]))
    """
    query_lf, other_lf = (_as_floats(each) for each in (query_lf, other_lf))
    if query_lf.ndim != 2 or other_lf.ndim != 2 or query_lf.shape[1] != other_lf.shape[1]:
        raise ShapeError(
            f"query_lf is {query_lf.shape}, other_lf {other_lf.shape}: give two arrays (l, f) "
            "of one f, made by one extractor"
        )
    _check(ratio, mutual, min_cosine)
    unit = unit_for(max(float(np.abs(each).max(initial=0)) for each in (query_lf, other_lf)))
    if unit != 1:  # or squares would overflow or vanish
        dtype = np.result_type(query_lf, other_lf)
        query_lf, other_lf = (each / dtype.type(unit) for each in (query_lf, other_lf))
    return _match(_as_query(query_lf), _as_other(other_lf), ratio, mutual, min_cosine)


class Matcher:
    """Matcher of one query with many images; may be used by several threads at once.

    Parameters
    ----------
    query_lf : array (l, f)
        Descriptors as stored; made ready once.
    metric : callable
        `Extractor.metric` of the extractor that made them.
    ratio, mutual, min_cosine
        See `match`.

    Examples
    --------
    >>> import numpy as np
    >>> from vladkit.features import Sift
    >>> stored_lf = np.eye(4, dtype=np.uint8) * 200
    >>> matcher = Matcher(stored_lf, Sift().metric)
    >>> [len(matcher.match(each)) for each in (stored_lf, stored_lf[:2])]
    [4, 2]
    """

    def __init__(
        self,
        query_lf: AnyArray,
        metric: Callable[[AnyArray], Float32Array],
        *,
        ratio: float = RATIO,
        mutual: bool = MUTUAL,
        min_cosine: float = MIN_COSINE,
    ) -> None:
        _check(ratio, mutual, min_cosine)
        self._metric = metric
        self._ratio = ratio
        self._mutual = mutual
        self._min_cosine = min_cosine
        self._query_lf = _as_query(metric(query_lf))

    def match(self, other_lf: AnyArray) -> Matches:
        """Match with one image, given its descriptors as stored."""
        other_lg = _as_other(self._metric(other_lf))
        if other_lg.shape[1] != self._query_lf.shape[1]:
            raise ShapeError(
                f"descriptors have {other_lg.shape[1] - 2} dimensions, those of the query "
                f"{self._query_lf.shape[1] - 2}: use one extractor for both"
            )
        return _match(self._query_lf, other_lg, self._ratio, self._mutual, self._min_cosine)


def _check(ratio: float, mutual: bool, min_cosine: float) -> None:
    check_parameter("ratio", ratio, Interval(float, 0, 1, closed="right"))
    check_parameter("mutual", mutual, bool)
    check_parameter("min_cosine", min_cosine, Interval(float, -1, 1))


# Two more columns make the product itself minus half the squared distance. They cost less than
# another pass over the scores.


def _as_floats(local_lf: AnyArray) -> Float32Array:
    """Descriptors in a type in which their products do not overflow: floats, 32 bits or more."""
    local_lf = as_array(on_host(local_lf))
    if local_lf.dtype.kind not in "fiu":
        raise InputError(f"descriptors are {local_lf.dtype}, wanted real numbers")
    if not np.isfinite(local_lf).all():
        raise NonFiniteError("descriptors hold NaN or infinity: drop such rows, or fix them")
    return local_lf.astype(np.result_type(local_lf.dtype, np.float32), copy=False)


def _as_query(query_lf: Float32Array) -> Float32Array:
    """Descriptors (l, g), g = f + 2, with minus half their squared length and 1 appended."""
    half_l = np.einsum("lf,lf->l", query_lf, query_lf) * np.float32(-0.5)
    return np.hstack([query_lf, half_l[:, None], np.ones((len(query_lf), 1), np.float32)])


def _as_other(other_lf: Float32Array) -> Float32Array:
    """Descriptors (l, g) of `_as_query`, the last two columns swapped."""
    query_lg = _as_query(other_lf)
    query_lg[:, -2:] = query_lg[:, :-3:-1].copy()
    return query_lg


def _match(
    query_lg: Float32Array, other_lg: Float32Array, ratio: float, mutual: bool, min_cosine: float
) -> Matches:
    """Match descriptors that `_as_query` and `_as_other` made ready."""
    n_query, n_other = len(query_lg), len(other_lg)
    if not n_query or not n_other:
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    nearest_l = np.empty(n_query, np.int64)
    first_l = np.empty(n_query, np.float32)
    second_l = np.full(n_query, -np.inf, np.float32)
    best_of_other = np.full(n_other, -np.inf, np.float32)
    n_rows = max(16, min(n_query, _BLOCK_BYTES // (4 * n_other)))
    block = np.empty((n_rows, n_other), np.float32)
    for begin in range(0, n_query, n_rows):
        rows = slice(begin, min(begin + n_rows, n_query))
        row_b = np.arange(rows.stop - begin)
        score_bl = np.matmul(query_lg[rows], other_lg.T, out=block[: len(row_b)])
        nearest_b = score_bl.argmax(axis=1)
        nearest_l[rows] = nearest_b
        first_l[rows] = score_bl[row_b, nearest_b]
        if mutual:
            np.maximum(best_of_other, score_bl.max(axis=0), out=best_of_other)
        if n_other > 1:
            score_bl[row_b, nearest_b] = -np.inf
            second_l[rows] = score_bl.max(axis=1)
    keep_l = first_l >= best_of_other[nearest_l] if mutual else np.ones(n_query, bool)
    if min_cosine > -1:
        keep_l &= first_l >= min_cosine - 1  # a score is minus half the squared distance
    return _tested(nearest_l, first_l, second_l, keep_l, ratio)


def _tested(
    nearest_l: IntArray,
    first_l: Float32Array,
    second_l: Float32Array,
    keep_l: AnyArray,
    ratio: float,
) -> Matches:
    """Matches among `keep_l` that pass the ratio test, one to one, the clearest first."""
    query_m = np.flatnonzero(keep_l)
    near_m = np.maximum(-2 * first_l[query_m], 0)
    far_m = -2 * second_l[query_m]  # infinite where there is no second
    ratio_m = np.ones(len(query_m), np.float32)  # ties, also of two at distance 0
    np.divide(near_m, far_m, out=ratio_m, where=near_m < far_m)
    np.sqrt(ratio_m, out=ratio_m)
    order_m = np.argsort(ratio_m, kind="stable")
    order_m = order_m[ratio_m[order_m] < ratio]
    other_m = nearest_l[query_m[order_m]]
    _, once = np.unique(other_m, return_index=True)
    order_m = order_m[np.sort(once)]
    return Matches(query_m[order_m], nearest_l[query_m[order_m]], ratio_m[order_m])
