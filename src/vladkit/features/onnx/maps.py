"""Points and descriptors from a network's outputs.

Axes: ``y, x`` px or cells, ``f`` descriptor dimension, ``l`` points, ``h`` channels of one cell.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array, IntArray
from vladkit.core.linalg import EPSILON, unit_rows
from vladkit.errors import ModelError
from vladkit.features.onnx.spec import OutputSpec

__all__ = ["Points", "cell_heat", "decode", "peaks", "sampled", "spread_scores"]

Points: TypeAlias = tuple[Float32Array, Float32Array, Float32Array]
"""Places (l, 2) in px of the canvas, unit descriptors (l, f), scores (l,)."""

Maps: TypeAlias = dict[str, Float32Array]
"""Outputs by their role in `OutputSpec`, without the axis of the batch."""


def decode(maps: Maps, output: OutputSpec, size: tuple[int, int]) -> Points:
    """Points on a canvas from the outputs of a network.

    Parameters
    ----------
    maps : dict
        Finite arrays by role, without the axis of the batch.
    output : OutputSpec
        Description of the outputs.
    size : (int, int)
        Height and width of the canvas in px.

    Raises
    ------
    ModelError
        If an output does not have the shape that the description asks for.
    """
    return _DECODERS[output.kind](maps, output, *size)


def _from_keypoints(maps: Maps, output: OutputSpec, h: int, w: int) -> Points:
    xy_l2, local_lf, score_l = maps["keypoints"], maps["descriptors"], maps["scores"].ravel()
    if xy_l2.ndim != 2 or xy_l2.shape[1] != 2:
        raise _misfit(output, "keypoints", xy_l2, "(1, n, 2)")
    if local_lf.ndim != 2 or len(local_lf) != len(xy_l2):
        raise _misfit(output, "descriptors", local_lf, f"(1, {len(xy_l2)}, f)")
    if len(score_l) != len(xy_l2):
        raise _misfit(output, "scores", score_l, f"(1, {len(xy_l2)})")
    if output.coordinates == "normalized":
        last_2 = np.array([w - 1, h - 1], np.float32)
        xy_l2 = np.asarray((xy_l2 + 1) / 2 * last_2, np.float32)
    margin = output.border - 0.5
    keep_l = (score_l > output.threshold) & (xy_l2 > margin).all(axis=1)
    keep_l &= (xy_l2 < np.array([w, h]) - 1 - margin).all(axis=1)
    return xy_l2[keep_l], unit_rows(local_lf[keep_l]), score_l[keep_l]


def _from_tokens(maps: Maps, output: OutputSpec, height: int, width: int) -> Points:
    h, w = height // output.stride, width // output.stride
    local_lf = maps["descriptors"]
    if local_lf.ndim != 2 or len(local_lf) != h * w + output.skip:
        wanted = f"(1, {output.skip} + {h} * {w}, f), patches of {output.stride} px"
        raise _misfit(output, "descriptors", local_lf, wanted)
    xy_l2 = _cell_places(h, w, output.stride)
    return xy_l2, unit_rows(local_lf[output.skip :]), np.ones(h * w, np.float32)


def _from_map(maps: Maps, output: OutputSpec, height: int, width: int) -> Points:
    h, w = -(-height // output.stride), -(-width // output.stride)
    map_fyx = maps["descriptors"]
    if map_fyx.ndim != 3 or map_fyx.shape[1:] != (h, w):
        wanted = f"(1, f, {h}, {w}), cells of {output.stride} px"
        raise _misfit(output, "descriptors", map_fyx, wanted)
    length_yx = np.sqrt(np.einsum("fyx,fyx->yx", map_fyx, map_fyx))
    map_yxf = (map_fyx / np.maximum(length_yx, EPSILON)).transpose(1, 2, 0)
    reliability = maps.get("reliability")
    if reliability is not None and reliability.size != h * w:
        raise _misfit(output, "reliability", reliability, f"(1, 1, {h}, {w})")
    if not (output.logits or output.heatmap):
        xy_l2 = _cell_places(h, w, output.stride)
        score_l = np.ones(h * w, np.float32) if reliability is None else reliability.ravel()
        keep_l = score_l > output.threshold
        return xy_l2[keep_l], map_yxf.reshape(h * w, -1)[keep_l], score_l[keep_l]
    heat_yx = _heat(maps, output, height, width)
    point_l2 = peaks(heat_yx, output.radius, output.threshold, output.border)
    cell_l2 = (point_l2 + 0.5) / output.stride - 0.5
    score_l = heat_yx[point_l2[:, 1], point_l2[:, 0]]
    if reliability is not None:
        score_l = score_l * sampled(reliability.reshape(h, w, 1), cell_l2)[:, 0]
    return point_l2.astype(np.float32), unit_rows(sampled(map_yxf, cell_l2)), score_l


_DECODERS: Final = {"keypoints": _from_keypoints, "tokens": _from_tokens, "map": _from_map}


def _heat(maps: Maps, output: OutputSpec, h: int, w: int) -> Float32Array:
    """Score (y, x) of each px of the canvas, from a heatmap or from logits."""
    if "heatmap" in maps:
        heat = maps["heatmap"]
        if heat.size != h * w:
            raise _misfit(output, "heatmap", heat, f"(1, 1, {h}, {w})")
        return np.ascontiguousarray(heat.reshape(h, w))
    logits = maps["logits"]
    n_px = round((len(logits) - 1) ** 0.5)
    if logits.ndim != 3 or n_px * n_px + 1 != len(logits):
        raise _misfit(output, "logits", logits, "(1, c * c + 1, h, w)")
    heat = cell_heat(logits, n_px)
    if heat.shape != (h, w):
        raise _misfit(output, "logits", logits, f"cells of {n_px} px for {w}x{h} px")
    return heat


def _misfit(output: OutputSpec, key: str, value: npt.NDArray[Any], wanted: str) -> ModelError:
    return ModelError(
        f"the network gives {output.names()[key]!r} ({key}) of shape {value.shape} after the "
        f"batch, its description asks for {wanted}: fix its TOML file (docs/how-to/networks.md)"
    )


def _cell_places(h: int, w: int, stride: int) -> Float32Array:
    """Centres (h * w, 2) of cells, row by row, in px of the canvas."""
    y_l, x_l = np.divmod(np.arange(h * w), w)
    return np.asarray((np.stack([x_l, y_l], axis=1) + 0.5) * stride - 0.5, np.float32)


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
    """Points (l, 2), x and y, above the threshold and the largest within `radius` px.

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
    """Values (l, f) of a map between its cells, by linear interpolation; clamped to its edge.

    Parameters
    ----------
    map_yxf : array (y, x, f)
    xy_l2 : array (l, 2)
        Places in cells, the origin at the centre of the first.

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


def spread_scores(n: int) -> Float32Array:
    """Scores for n points that are equally good, so that the best m lie all over the image.

    Equal for equal n. Without them "the strongest" would be the topmost rows.
    """
    order_l: IntArray = np.random.default_rng(n).permutation(n)
    return np.asarray(1 - order_l / max(n, 1), np.float32)
