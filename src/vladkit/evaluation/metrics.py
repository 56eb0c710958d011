"""Retrieval metrics on rankings: average precision, recall and precision.

They need no files and no collection: a ranking is an array of database indices, the best first,
as `order_of` or a faiss search gives it. `recall_at`, `mean_average_precision` and
`mean_precision_at` take such arrays of many queries; the other functions take the ranks of the
relevant images, which `find_ranks` reads from one ranking.

Axes: ``q`` queries, ``n`` ranked images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import as_array
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import ParameterError

__all__ = [
    "QueryRanks",
    "average_precision",
    "find_ranks",
    "mean",
    "mean_average_precision",
    "mean_precision_at",
    "order_of",
    "precision_at",
    "precision_recall",
    "recall",
    "recall_at",
    "recall_curve",
    "trapezoid_precision",
]


@dataclass(frozen=True, slots=True)
class QueryRanks:
    """Ranks of one query's relevant images.

    Parameters
    ----------
    ranks : tuple of int
        Ranks from 1, ascending, of the relevant images that were ranked; ignored images are not
        counted.
    n_relevant : int
        Number of relevant images, ranked or not; 0 if there is nothing to find.
    failed : bool
        Whether the query could not be asked, and so found nothing.
    """

    ranks: tuple[int, ...]
    n_relevant: int
    failed: bool = False

    @property
    def first_rank(self) -> int | None:
        """Rank of the first relevant image, or None if there is none."""
        return self.ranks[0] if self.ranks else None

    @property
    def average_precision(self) -> float:
        """`average_precision` of the query; NaN if there is nothing to find."""
        return average_precision(self.ranks, self.n_relevant) if self.n_relevant else float("nan")


# -- arrays --------------------------------------------------------------------------


def order_of(similarity_qn: npt.ArrayLike, top: int = 0) -> npt.NDArray[np.int64]:
    """Database indices by similarity, the best first, of equals the lower index.

    Parameters
    ----------
    similarity_qn : real array (q, n)
        Similarity of each query to each image, such as ``query_qD @ vector_nD.T``; of distances
        give the negative.
    top : int, default=0
        Number of first indices, r; 0 is all.

    Returns
    -------
    order_qr : int64 array (q, r)

    Raises
    ------
    ParameterError
        If it has not two axes, holds NaN, or `top` is negative.

    Notes
    -----
    Time is O(q n log n).

    Examples
    --------
    >>> order_of([[0.1, 0.9, 0.2], [0.8, 0.3, 0.8]], top=2).tolist()
    [[1, 2], [0, 2]]
    """
    similarity_qn = as_array(similarity_qn)
    check_parameter("top", top, Interval(int, 0))
    if similarity_qn.ndim != 2 or similarity_qn.dtype.kind not in "fiub":
        raise ParameterError(
            f"similarity_qn is {similarity_qn.dtype} of shape {similarity_qn.shape}: wanted "
            "numbers, a row for each query and a column for each image"
        )
    if similarity_qn.dtype.kind == "f" and np.isnan(similarity_qn).any():
        row = int(np.isnan(similarity_qn).any(axis=1).argmax())
        raise ParameterError(f"similarities of query {row} hold NaN: such an image has no rank")
    n = similarity_qn.shape[1]  # from the last to the first, so that equals end up in their order
    order_qn = n - 1 - np.argsort(similarity_qn[:, ::-1], axis=1, kind="stable")[:, ::-1]
    return np.ascontiguousarray(order_qn[:, : top or None], np.int64)


def recall_at(
    order_qn: npt.ArrayLike,
    positives: Sequence[npt.ArrayLike],
    ks: Iterable[int] = (1, 5, 10, 20),
    ignored: Sequence[npt.ArrayLike] | None = None,
) -> dict[int, float]:
    """Recall@k of place recognition: share of queries with a positive among their first k.

    Parameters
    ----------
    order_qn : int array (q, n)
        Database indices from 0 for each query, the best first; the first ``max(ks)`` are enough.
        -1 is no image, as faiss fills up its results, and takes no rank.
    positives : sequence of int arrays
        Indices of the right images of each query. A query without any counts as missed, as in
        the field's benchmarks; leave it out of both arguments to average over the others.
    ks : iterable of int
    ignored : sequence of int arrays, optional
        Indices that count neither as right nor as wrong, and take no rank: junk, and the query
        itself where it is in the database. Then give ``max(ks)`` indices beside those.

    Returns
    -------
    dict
        Share from 0 to 1 by k; NaN if there are no queries. Also called success@k.

    Raises
    ------
    ParameterError
        If the arguments do not have one entry for each query, or are no indices; or a right one
        is twice in one ranking; or if a k is not an integer from 1.

    Examples
    --------
    >>> import numpy as np
    >>> similarity_qn = np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.4]])
    >>> order_qn = order_of(similarity_qn)  # 1, 2, 0 and 0, 2, 1
    >>> recall_at(order_qn, [[1, 2], [1]], ks=(1, 2, 3))
    {1: 0.5, 2: 0.5, 3: 1.0}
    >>> recall_at(order_qn, [[1, 2], [1]], ks=(1, 2), ignored=[[], [0]])
    {1: 0.5, 2: 1.0}
    """
    found = _find_all(order_qn, positives, ignored)
    return {k: recall(found, k) for k in _checked_ks(ks)}


def mean_precision_at(
    order_qn: npt.ArrayLike,
    positives: Sequence[npt.ArrayLike],
    ks: Iterable[int] = (1, 5, 10),
    ignored: Sequence[npt.ArrayLike] | None = None,
) -> dict[int, float]:
    """Mean share of right images among the first k, over the queries (mP@k).

    Parameters
    ----------
    order_qn, positives, ks, ignored
        See `recall_at`; but a query without positives is left out.

    Returns
    -------
    dict
        Share from 0 to 1 by k; NaN if no query has positives. A query with fewer than k positives
        does not reach 1; `precision_at` is the variant of the revisited Oxford and Paris, which
        ends at the last right image.

    Raises
    ------
    ParameterError
        As `recall_at`.

    Examples
    --------
    >>> mean_precision_at([[1, 2, 0], [0, 2, 1]], [[1, 2], [1]], ks=(1, 2))
    {1: 0.5, 2: 0.5}
    """
    found = [each for each in _find_all(order_qn, positives, ignored) if each.n_relevant]
    return {
        k: mean([sum(rank <= k for rank in each.ranks) / k for each in found])
        for k in _checked_ks(ks)
    }


def mean_average_precision(
    order_qn: npt.ArrayLike,
    positives: Sequence[npt.ArrayLike],
    ignored: Sequence[npt.ArrayLike] | None = None,
) -> float:
    """Mean of the queries' average precision (mAP).

    Parameters
    ----------
    order_qn : int array (q, n)
        Database indices from 0 for each query, the best first; -1 is no image. Positives that are
        not among them count as not found.
    positives : sequence of int arrays
        Indices of the right images of each query. A query without any is left out.
    ignored : sequence of int arrays, optional
        Indices that count neither as right nor as wrong: junk, and the query itself where it is
        in the database.

    Returns
    -------
    float
        From 0 to 1; NaN if no query has positives.

    Raises
    ------
    ParameterError
        As `recall_at`.

    Examples
    --------
    >>> mean_average_precision([[1, 2, 0], [0, 2, 1]], [[1, 2], [1]])  # (1 + 1/3) / 2
    0.6666666666666666
    >>> mean_average_precision([[1, 2, 0], [0, 2, 1]], [[1, 2], [1]], ignored=[[], [0, 2]])
    1.0
    """
    found = _find_all(order_qn, positives, ignored)
    return mean([each.average_precision for each in found if each.n_relevant])


def find_ranks(
    order_n: npt.ArrayLike, relevant: npt.ArrayLike, ignored: npt.ArrayLike = ()
) -> QueryRanks:
    """Ranks of the relevant images in one ranking.

    Parameters
    ----------
    order_n : int array (n,)
        Database indices from 0, the best first; -1 is no image, and takes no rank.
    relevant : int array
        Indices to be found.
    ignored : int array
        Indices that count neither as right nor as wrong, even if they are in `relevant`.

    Raises
    ------
    ParameterError
        If an argument is not one row of indices from 0, or a relevant one is ranked twice.

    Examples
    --------
    >>> find_ranks([7, 3, 5, 0], relevant=[0, 3, 9], ignored=[7])
    QueryRanks(ranks=(1, 3), n_relevant=3, failed=False)
    """
    order_n, ignored = _indices("order_n", order_n, least=-1), _indices("ignored", ignored)
    order_n = order_n[order_n >= 0]
    to_find = np.setdiff1d(_indices("relevant", relevant), ignored)
    right_n = np.isin(order_n, to_find)
    if len(np.unique(order_n[right_n])) < right_n.sum():
        index = Counter(order_n[right_n].tolist()).most_common(1)[0][0]
        raise ParameterError(f"index {index} is twice in one ranking: rank every image once")
    rank_n = np.cumsum(~np.isin(order_n, ignored))
    return QueryRanks(tuple(rank_n[right_n].tolist()), len(to_find))


def _checked_ks(ks: Iterable[int]) -> list[int]:
    if not isinstance(ks, Iterable):
        raise ParameterError(f"ks={ks!r}: wanted integers from 1, such as (1, 5, 10)")
    return [check_parameter("k", k, Interval(int, 1)) for k in ks]


def _find_all(
    order_qn: npt.ArrayLike,
    positives: Sequence[npt.ArrayLike],
    ignored: Sequence[npt.ArrayLike] | None,
) -> list[QueryRanks]:
    order_qn = as_array(order_qn)
    if order_qn.ndim == 0:
        raise ParameterError(
            f"order_qn has shape {order_qn.shape}: wanted (q, n), a ranking for each query"
        )
    ignored = [()] * len(order_qn) if ignored is None else ignored
    for name, lists in (("positives", positives), ("ignored", ignored)):
        if not hasattr(lists, "__len__"):
            raise ParameterError(f"{name}={lists!r:.100}: wanted a list of indices for each query")
    if not len(order_qn) == len(positives) == len(ignored):
        raise ParameterError(
            f"{len(order_qn)} rankings, {len(positives)} lists of positives, {len(ignored)} of "
            "ignored ones: give one of each for every query"
        )
    return [find_ranks(*each) for each in zip(order_qn, positives, ignored, strict=True)]


def _indices(name: str, values: npt.ArrayLike, least: int = 0) -> npt.NDArray[np.int64]:
    array = as_array(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ParameterError(
            f"{name} is {array.dtype} of shape {array.shape}: wanted one row of indices from 0, "
            "such as numpy.argsort(-score_n) or numpy.flatnonzero(is_right_n)"
        )
    index_n = array.astype(np.int64)
    if index_n.size and index_n.min() < least:
        raise ParameterError(f"{name} holds {index_n.min()}: wanted indices of images, from 0")
    return index_n


# -- ranks ---------------------------------------------------------------------------


def average_precision(ranks: Iterable[int], n_relevant: int) -> float:
    """Mean, over the relevant images, of the precision at the rank of each.

    Parameters
    ----------
    ranks : iterable of int
        Ranks from 1, rising, of the relevant images that were ranked.
    n_relevant : int
        Number of relevant images; those that were not ranked count as 0. At least 1.

    Raises
    ------
    ParameterError
        If a rank is below 1 or not above the one before, or there are more than `n_relevant`. (The
        field's scripts do not look: those of the revisited Oxford and Paris count each position,
        so that an image that was ranked twice gives more than 1.)

    Notes
    -----
    The finite sum; `trapezoid_precision`, which Oxford5k's and Holidays' scripts take, is a little
    lower.

    Examples
    --------
    >>> average_precision([1, 3], 2)  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    checked = _checked(ranks, n_relevant)
    return sum(hits / rank for hits, rank in enumerate(checked, start=1)) / n_relevant


def _checked(ranks: Iterable[int], n_relevant: int) -> Sequence[int]:
    if not isinstance(ranks, Iterable):
        raise ParameterError(f"ranks={ranks!r}: wanted ranks from 1, rising, one for each image")
    ranks = list(ranks)
    if n_relevant not in Interval(int, 1) or len(ranks) > n_relevant:
        raise ParameterError(
            f"{len(ranks)} ranks for n_relevant={n_relevant!r}: wanted at most one for each "
            "relevant image, of which there is at least one"
        )
    for before, rank in pairwise([0, *ranks]):
        if (type(rank) is not int and rank not in Interval(int)) or rank <= before:
            raise ParameterError(
                f"rank {rank!r} follows {before}: wanted ranks from 1, rising, one for each image"
            )
    return ranks


def trapezoid_precision(ranks: Iterable[int], n_relevant: int) -> float:
    """Area under the precision-recall curve by trapezoids: Holidays' and Oxford5k's AP.

    Parameters
    ----------
    ranks, n_relevant
        See `average_precision`, which has the errors, too.

    Notes
    -----
    Each relevant image adds the mean of the precision at its rank and of that at the rank before
    it (1 before the first), over `n_relevant`. `average_precision` takes the first of the two
    alone, and is never lower.

    Examples
    --------
    >>> trapezoid_precision([2, 3], 2)  # ((0/1 + 1/2) / 2 + (1/2 + 2/3) / 2) / 2
    0.41666666666666663
    """
    total = 0.0
    for found, rank in enumerate(_checked(ranks, n_relevant)):
        before = found / (rank - 1) if rank > 1 else 1.0
        total += (before + (found + 1) / rank) / 2
    return total / n_relevant


def precision_at(ranks: Sequence[int], k: int) -> float:
    """Precision@k of the revisited Oxford and Paris: share of right images among the first k.

    Or among those up to the last relevant image, if that comes earlier; 0 if none was ranked.

    Raises
    ------
    ParameterError
        If `k` or a rank is below 1, or a rank not above the one before.

    Examples
    --------
    >>> precision_at([1, 3, 4], 2), precision_at([1, 3, 4], 10)
    (0.5, 0.75)
    """
    check_parameter("k", k, Interval(int, 1))
    if not len(ranks):
        return 0.0
    ranks = _checked(ranks, len(ranks))
    k = min(k, ranks[-1])
    return sum(rank <= k for rank in ranks) / k


def recall(found: Sequence[QueryRanks], k: int) -> float:
    """Share of the queries with a relevant image among their first k; NaN if there are none.

    ParameterError unless `k` is an integer from 1.

    Examples
    --------
    >>> recall([QueryRanks((2,), 1), QueryRanks((), 1)], k=2)
    0.5
    """
    check_parameter("k", k, Interval(int, 1))
    return mean([bool(each.ranks) and each.ranks[0] <= k for each in found])


def recall_curve(found: Sequence[QueryRanks], n: int) -> list[float]:
    """`recall` at k = 1 to `n`, an integer from 0.

    Examples
    --------
    >>> recall_curve([QueryRanks((2,), 1), QueryRanks((), 1)], 3)
    [0.0, 0.5, 0.5]
    """
    check_parameter("n", n, Interval(int, 0))
    if not found:
        return [float("nan")] * n
    found_at = Counter(each.first_rank for each in found)
    return [hits / len(found) for hits in accumulate(found_at[k] for k in range(1, n + 1))]


def precision_recall(found: Sequence[QueryRanks], n: int = 10) -> list[tuple[float, float]]:
    """(recall, precision) at recall 0, 1/n, ..., 1: means over the queries, interpolated.

    Queries with nothing to find are left out; NaN if no other is there.

    Notes
    -----
    The precision of a query at a recall is the highest that it has there or at any higher recall
    (TREC's interpolation), 0 where it never gets there. `n` = 10 are the usual eleven points.

    References
    ----------
    Manning, Raghavan, Schütze, *Introduction to Information Retrieval*, 2008, section 8.4.

    Examples
    --------
    >>> precision_recall([QueryRanks((1, 4), 2)], n=2)  # 1/1, then 2/4
    [(0.0, 1.0), (0.5, 1.0), (1.0, 0.5)]
    """
    check_parameter("n", n, Interval(int, 1))
    levels = [_interpolated(each, n) for each in found if each.n_relevant]
    return [(i / n, mean([level[i] for level in levels])) for i in range(n + 1)]


def _interpolated(found: QueryRanks, n: int) -> list[float]:
    precision = [0.0] * (n + 1)
    for hits, rank in enumerate(_checked(found.ranks, found.n_relevant), start=1):
        reached = hits * n // found.n_relevant  # in whole numbers: 3/10 is not 0.3
        precision[reached] = max(precision[reached], hits / rank)
    for i in range(n - 1, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return precision


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return fmean(values) if values else float("nan")
