"""Shrinkage of PCA scores: what vectors lose that the axes were not learned from.

Of few vectors with many dimensions PCA also learns what is peculiar to each of them. They are long
along its axes; others are not, and least along the last ones. Where both are compared with a query
that is one of the others, in unit length, all others come first. Scores of the first kind that are
multiplied by this share are like those of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from vladkit.aggregation.whitening import Whitening
from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.linalg import to_unit_length

__all__ = ["score_shrinkage", "shrunk"]

_HELD_OUT: Final = 0.2
"""Share of the vectors that axes are not learned from, to see what they lose."""

_ROWS: Final = 128
"""Vectors that are projected together."""

_FEWEST: Final = 40
"""Vectors from which on that can be seen."""


def score_shrinkage(
    blocks: Callable[[], Iterable[AnyArray]], n_components: int, *, random_state: int | None = 0
) -> FloatArray | None:
    """Length along each axis of vectors that it was not learned from, as a share of others'.

    Axes are learned from four fifths of the vectors, and both parts are projected.

    Parameters
    ----------
    blocks : callable
        Gives the vectors (n, D) in blocks, the same each time.
    n_components : int
        d, the number of axes.
    random_state : int or None

    Returns
    -------
    (d,) float64 or None
        At most 1. None for fewer than 40 vectors, and for more than `Whitening` learns from
        (`sample_size`): which of them these are is not known then.

    References
    ----------
    Lee, Zou, Wright: "Convergence and prediction of principal component scores in high-dimensional
    settings", Annals of Statistics 2010. docs/results/defaults.md has what it is worth.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> vector_tD = rng.normal(size=(200, 1000)) * np.where(np.arange(1000) < 1, 50, 1)
    >>> score_shrinkage(lambda: [vector_tD], 3).round(1)
    array([1. , 0.3, 0.3])
    """
    whitening = Whitening(n_components, random_state=random_state)
    n = sum(len(vector_nD) for vector_nD in blocks())
    if not _FEWEST <= n <= whitening.sample_size:
        return None
    is_held_n = np.random.default_rng(random_state).random(n) < _HELD_OUT
    n_axes = min(n_components, int((~is_held_n).sum()) - 1)
    whitening.set_params(n_components=n_axes).fit(
        vector_nD[~held_n] for vector_nD, held_n in _with(blocks(), is_held_n)
    )
    square_2d, count_2 = np.zeros((2, n_axes)), np.zeros(2)
    for vector_nD, held_n in _with(_joined(blocks()), is_held_n):
        score_nd = (vector_nD.astype(np.float32) - whitening.mean_) @ whitening.components_.T
        for part, of_n in enumerate((held_n, ~held_n)):
            square_2d[part] += np.square(score_nd[of_n], dtype=np.float64).sum(axis=0)
            count_2[part] += of_n.sum()
    other_d, own_d = square_2d / np.maximum(count_2, 1)[:, None]
    share_d = np.sqrt(np.divide(other_d, own_d, out=np.ones(n_axes), where=own_d > 0))
    share_d = np.pad(share_d, (0, n_components - n_axes), mode="edge")
    return np.asarray(np.minimum(share_d, 1.0), np.float64)


def shrunk(short_nd: AnyArray, shrinkage_d: FloatArray, power: float) -> AnyArray:
    """Short vectors (n, d) that the axes were learned from, as if they were others.

    Parameters
    ----------
    short_nd : (n, d) array
        As `Whitening.transform` gives them.
    shrinkage_d : (d,) array
    power : float
        That of the whitening.

    Returns
    -------
    (n, d) array
        Rows of unit length, or zero.

    Examples
    --------
    >>> import numpy as np
    >>> shrunk(np.array([[0.6, 0.8]]), np.array([1.0, 0.5]), 1.0).round(3)
    array([[0.832, 0.555]])
    """
    row_nd: AnyArray = short_nd * (shrinkage_d**power).astype(short_nd.dtype)
    to_unit_length(row_nd)
    return row_nd


def _joined(blocks: Iterable[AnyArray]) -> Iterator[AnyArray]:
    """Blocks of `_ROWS` vectors or more: all axes are read for each."""
    some: list[AnyArray] = []
    for vector_nD in blocks:
        some.append(vector_nD)
        if sum(map(len, some)) >= _ROWS:
            yield np.concatenate(some)
            some = []
    if some:
        yield np.concatenate(some)


def _with(blocks: Iterable[AnyArray], of_n: AnyArray) -> Iterable[tuple[AnyArray, AnyArray]]:
    begin = 0
    for vector_nD in blocks:
        yield vector_nD, of_n[begin : begin + len(vector_nD)]
        begin += len(vector_nD)
