"""Gray levels and colours from samples of any depth, sign and range, and from transparency.

The one way from the numbers of a file to the 256 levels that features are found in:

- Samples of 8 bits and fewer take the whole range of their type, or up to the file's own maximum.
- Deeper ones, and floats, take the range of the shallowest depth that holds them (8, 10, 12, 14,
  16, 32 bits; for floats also 0 to 1) if they use half of it, and otherwise the range that they
  use, as viewers of thermal and scientific images do. 0.1 % at either end do not count: a dead
  pixel would set the range. A step of a whole number is never more than one level: a stretched
  noise would have features.
- Transparent pixels are seen over white, as a page shows them; over black if over white nothing
  would be seen. NaN is no sample, and transparent; so is the number that stands for none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["SampleForm", "form_of", "to_levels"]

_DEPTHS: Final = (255, 1023, 4095, 16383, 65535, 2**32 - 1)
"""Largest samples of the depths that cameras and scanners write."""
_UNSEEN: Final = 230
"""Level from which on everything over white counts as not seen: a tenth of the range is left."""
_BLOCK: Final = 1 << 18
"""Samples that are worked on at a time: some MB in floats."""
_DRAWN: Final = 500
"""Rows and columns that the range is measured in: fewer than twice as many."""


@dataclass(frozen=True, slots=True)
class SampleForm:
    """Meaning of the channels of a decoded file.

    Parameters
    ----------
    colors : tuple of int
        Channels of blue, green and red, or the one of gray.
    alpha : int or None
        Channel of opacity, if there is one.
    premultiplied : bool
        Colours are multiplied by opacity already.
    white_is_zero : bool
        The smallest sample is white.
    most : int
        Largest sample that the file allows for; 0: what the type holds.
    transparent : float or None
        Sample of transparent pixels, in each of their colours.
    """

    colors: tuple[int, ...] = ()
    alpha: int | None = None
    premultiplied: bool = False
    white_is_zero: bool = False
    most: int = 0
    transparent: float | None = None


def form_of(form: SampleForm, n_channels: int) -> SampleForm:
    """Form of samples as OpenCV gives them: gray, BGR, or BGRA."""
    if form.colors:
        return form
    colors, alpha = ((0, 1, 2), 3 if n_channels == 4 else None) if n_channels > 1 else ((0,), None)
    return replace(form, colors=colors, alpha=alpha)


@np.errstate(all="ignore")
def to_levels(
    sample_yxc: npt.NDArray[Any], form: SampleForm, *, color: bool
) -> npt.NDArray[np.uint8]:
    """Gray (h, w) or BGR (h, w, 3), uint8, of samples (h, w, c) of any real type."""
    h, w, c = sample_yxc.shape
    low, high = _range(sample_yxc, form)
    if sample_yxc.dtype == np.uint8 and (low, high) == (0, 255) and _is_plain(sample_yxc, form):
        return _converted(sample_yxc[:, :, form.colors], color)
    out = np.empty((h, w, 3) if color else (h, w), np.uint8)
    n_rows = max(1, _BLOCK // (w * c))
    for background in (255, 0):
        is_seen = False
        for top in range(0, h, n_rows):
            rows = slice(top, top + n_rows)
            level_yxc, alpha_yx1 = _colors(sample_yxc[rows], form)
            level_yxc -= low
            level_yxc *= 255 / (high - low)
            np.clip(level_yxc, 0, 255, out=level_yxc)
            if form.white_is_zero:
                np.subtract(255, level_yxc, out=level_yxc)
            if alpha_yx1 is not None:
                level_yxc -= background
                level_yxc *= alpha_yx1
                level_yxc += background
                is_seen = is_seen or bool(alpha_yx1.any())
            out[rows] = _converted(np.rint(level_yxc, out=level_yxc).astype(np.uint8), color)
        if not is_seen or out.min() < _UNSEEN:
            break
    return out


def _is_plain(sample_yxc: npt.NDArray[Any], form: SampleForm) -> bool:
    """Whether levels of 8 bits are seen as they are stored."""
    opaque = form.alpha is None or sample_yxc[:, :, form.alpha].min() == 255
    return opaque and form.transparent is None and not form.white_is_zero


def _converted(level_yxc: npt.NDArray[Any], color: bool) -> npt.NDArray[np.uint8]:
    """Levels of one channel or three as gray or BGR."""
    import cv2

    level_yxc = np.ascontiguousarray(level_yxc)
    if level_yxc.shape[2] == 1:
        return np.repeat(level_yxc, 3, axis=2) if color else level_yxc[:, :, 0]
    return level_yxc if color else np.asarray(cv2.cvtColor(level_yxc, cv2.COLOR_BGR2GRAY))


def _colors(
    sample_yxc: npt.NDArray[Any], form: SampleForm
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Colours, as floats, and opacity 0 .. 1; None where all pixels are opaque."""
    dtype = sample_yxc.dtype
    kind: Any = np.float32 if dtype.itemsize < 4 else np.float64
    color_yxc: npt.NDArray[Any] = sample_yxc[:, :, form.colors].astype(kind)
    alpha_yx1: npt.NDArray[Any] | None = None
    if form.alpha is not None:
        full = 1 if dtype.kind == "f" else form.most or np.iinfo(dtype).max
        alpha_yx1 = np.nan_to_num(sample_yxc[:, :, [form.alpha]].astype(kind) / kind(full))
        np.clip(alpha_yx1, 0, 1, out=alpha_yx1)
        if form.premultiplied:
            color_yxc /= np.where(alpha_yx1 > 0, alpha_yx1, 1)
    if form.transparent is not None and _holds(dtype, form.transparent):
        key = dtype.type(form.transparent)
        seen_yx1 = (sample_yxc[:, :, form.colors] != key).any(axis=2, keepdims=True)
        alpha_yx1 = seen_yx1.astype(kind) if alpha_yx1 is None else alpha_yx1 * seen_yx1
    if dtype.kind == "f":
        unknown_yx1 = np.isnan(color_yxc).any(axis=2, keepdims=True)
        alpha_yx1 = np.where(unknown_yx1, kind(0), kind(1) if alpha_yx1 is None else alpha_yx1)
        np.copyto(color_yxc, 0, where=unknown_yx1)
    return color_yxc, alpha_yx1


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Whether a sample of that type can be that number."""
    if dtype.kind == "f":
        return True
    is_whole = math.isfinite(number) and int(number) == number
    return is_whole and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


def _range(sample_yxc: npt.NDArray[Any], form: SampleForm) -> tuple[float, float]:
    """Samples that become level 0 and level 255."""
    h, w, _ = sample_yxc.shape
    dtype = sample_yxc.dtype
    is_float = dtype.kind == "f"
    if is_float:
        least, most, depths = -np.inf, np.inf, [1, *_DEPTHS]
    else:
        least, most = np.iinfo(dtype).min, form.most or np.iinfo(dtype).max
        depths = [*(depth for depth in _DEPTHS if depth < most), most]
        if dtype.itemsize == 1 or most <= 255:
            return least, most
    drawn_yxc = sample_yxc[:: max(1, h // _DRAWN), :: max(1, w // _DRAWN)]
    color_yxc, alpha_yx1 = _colors(drawn_yxc, form)
    seen = np.isfinite(color_yxc)
    if alpha_yx1 is not None:
        seen &= alpha_yx1 > 0
    if not seen.any():
        return 0, 1
    value_n = np.clip(color_yxc[seen], -1e300, 1e300)  # so that differences are finite
    low, high = (float(each) for each in np.quantile(value_n, (0.001, 0.999)))
    if low == high:
        low, high = float(value_n.min()), float(value_n.max())
    if low >= 0:
        least, most = 0, next((depth for depth in depths if high <= depth), np.inf)
    if high - low >= (most - least) / 2:
        return least, most
    if is_float:
        return low, high if high > low else low + 1
    return low, max(high, low + 255)
