"""Shrinkage of PCA scores: what vectors lose that the axes were not learned from.

Of few vectors with many dimensions PCA also learns what is peculiar to each of them. They are long
along its axes; others are not, and least along the last ones. Where both are compared with a query
that is one of the others, in unit length, all others come first. Scores of the first kind that are
multiplied by this share are like those of the second.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vladkit.aggregation.whitening import strongest_axes
from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.linalg import to_unit_length

__all__ = ["score_shrinkage", "shrunk"]

_HELD_OUT: Final = 0.2
"""Share of the vectors that axes are not learned from, to see what they lose."""

_FEWEST: Final = 40
"""Vectors from which on that can be seen."""


def score_shrinkage(
    gram_nn: FloatArray, n_components: int, *, random_state: int | None = 0
) -> FloatArray | None:
    """Length along each axis of vectors that it was not learned from, as a share of others'.

    Axes are learned from four fifths of the vectors, and both parts are projected.

    Parameters
    ----------
    gram_nn : (n, n) float64
        Inner products of the vectors, or of the vectors less any one point. All that is asked of
        them follows from these: the vectors themselves, of many more numbers, are not read.
    n_components : int
        d, the number of axes.
    random_state : int or None

    Returns
    -------
    (d,) float64 or None
        At most 1. None for fewer than 40 vectors.

    References
    ----------
    Lee, Zou, Wright: "Convergence and prediction of principal component scores in high-dimensional
    settings", Annals of Statistics 2010. docs/results/defaults.md has what it is worth.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> vector_tD = rng.normal(size=(200, 1000)) * np.where(np.arange(1000) < 1, 50, 1)
    >>> score_shrinkage(vector_tD @ vector_tD.T, 3).round(1)
    array([1. , 0.3, 0.3])
    """
    n = len(gram_nn)
    if n < _FEWEST:
        return None
    is_held_n = np.random.default_rng(random_state).random(n) < _HELD_OUT
    own_o = np.flatnonzero(~is_held_n)
    product_no = gram_nn[:, own_o].astype(np.float64)
    product_no -= product_no.mean(axis=1, keepdims=True)  # less the mean of those of the axes
    product_no -= product_no[own_o].mean(axis=0)
    n_axes = min(n_components, len(own_o) - 1)
    square_d, axis_od = strongest_axes(product_no[own_o], n_axes)
    score_hd = product_no[is_held_n] @ axis_od
    with np.errstate(divide="ignore", invalid="ignore"):
        other_d = np.square(score_hd).mean(axis=0) / square_d if len(score_hd) else square_d
        share_d = np.sqrt(other_d / (square_d / len(own_o)))
    share_d[square_d <= 1e-12 * square_d[0]] = 1  # no axis
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
