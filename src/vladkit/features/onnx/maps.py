"""Points and descriptors from a network's maps.

Axes: ``y, x`` px or cells, ``f`` descriptor dimension, ``l`` points, ``h`` channels of one cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array, IntArray

__all__ = ["cell_heat", "peaks", "sampled", "spread_scores", "unit_rows"]


def cell_heat(logit_hyx: Float32Array, n_px: int) -> Float32Array:
    """Scores (y n, x n) of px from logits of cells of n x n px.

    Parameters
    ----------
    logit_hyx : float32 array (n * n + 1, y, x)
        A channel for each px of a cell, row by row; the last is for none of them.
    n_px : int
        n.

    Examples
    --------
    >>> import numpy as np
    >>> logit_hyx = np.zeros((5, 1, 1), np.float32)
    >>> logit_hyx[2] = 9  # second row, first column
    >>> cell_heat(logit_hyx, 2).round(2)
    array([[0., 0.],
           [1., 0.]], dtype=float32)
    """
    _, h, w = logit_hyx.shape
    share_hyx = np.exp(logit_hyx - logit_hyx.max(axis=0))
    share_hyx /= share_hyx.sum(axis=0)
    cell_iyjx = share_hyx[: n_px * n_px].reshape(n_px, n_px, h, w)
    heat = cell_iyjx.transpose(2, 0, 3, 1).reshape(h * n_px, w * n_px)
    return np.ascontiguousarray(heat, np.float32)


def peaks(
    heat_yx: Float32Array, radius: int, threshold: float, border: int
) -> npt.NDArray[np.int64]:
    """Points (l, 2), x and y, above the threshold that are the largest within `radius` px.

    In the order of rows; those nearer than `border` px to the edge are dropped.
    """
    import cv2

    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    largest_yx: Any = cv2.dilate(heat_yx, window)
    chosen_yx = (heat_yx == largest_yx) & (heat_yx > threshold)
    if border:
        inner_yx = np.zeros_like(chosen_yx)
        inner_yx[border:-border, border:-border] = True
        chosen_yx &= inner_yx
    y_l, x_l = np.nonzero(chosen_yx)
    return np.stack([x_l, y_l], axis=1)


def sampled(map_yxf: npt.NDArray[Any], xy_l2: npt.NDArray[Any]) -> Float32Array:
    """Values (l, f) of a map between its cells, linearly; beyond its edge as on it.

    Parameters
    ----------
    map_yxf : array (y, x, f)
    xy_l2 : array (l, 2)
        In cells, the origin at the centre of the first.

    Examples
    --------
    >>> import numpy as np
    >>> map_yxf = np.array([[[0.0], [4.0]]], np.float32)
    >>> sampled(map_yxf, np.array([[0.25, 0], [7, -3]])).ravel()
    array([1., 4.], dtype=float32)
    """
    h, w, _ = map_yxf.shape
    x_l = np.clip(xy_l2[:, 0], 0, w - 1)
    y_l = np.clip(xy_l2[:, 1], 0, h - 1)
    x0_l, y0_l = np.floor(x_l).astype(np.int64), np.floor(y_l).astype(np.int64)
    x1_l, y1_l = np.minimum(x0_l + 1, w - 1), np.minimum(y0_l + 1, h - 1)
    right_l1 = (x_l - x0_l)[:, None].astype(np.float32)
    down_l1 = (y_l - y0_l)[:, None].astype(np.float32)
    upper_lf = map_yxf[y0_l, x0_l] * (1 - right_l1) + map_yxf[y0_l, x1_l] * right_l1
    lower_lf = map_yxf[y1_l, x0_l] * (1 - right_l1) + map_yxf[y1_l, x1_l] * right_l1
    return np.asarray(upper_lf * (1 - down_l1) + lower_lf * down_l1, np.float32)


def unit_rows(row_lf: npt.NDArray[Any]) -> Float32Array:
    """Each row brought to length 1; rows of zeros stay."""
    row_lf = np.asarray(row_lf, np.float32)
    length_l1 = np.sqrt(np.einsum("lf,lf->l", row_lf, row_lf))[:, None]
    return np.asarray(row_lf / np.maximum(length_l1, np.float32(1e-12)), np.float32)


def spread_scores(n: int) -> Float32Array:
    """Scores for points that are all equally good, so that the best m lie all over the image.

    The same for the same n. Without them "the strongest" would be the topmost rows.
    """
    order_l: IntArray = np.random.default_rng(n).permutation(n)
    return np.asarray(1 - order_l / max(n, 1), np.float32)
