"""Reductions within segments, whichever library computes them: checks, dtypes, empty segments."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, as_array
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import InputError, ParameterError, ShapeError

__all__ = [
    "MOST_SEGMENTS",
    "check_fill",
    "check_range",
    "check_rows",
    "outside",
    "result_dtype",
    "worst",
]

MOST_SEGMENTS: Final = 2**48
"""Most segments: no memory holds more results, nor can NumPy count their bytes."""


def check_rows(
    values: Any,
    segment: Any,
    n_segments: int | None,
    weights: Any,
    *,
    is_real: Callable[[Any], bool],
    is_whole: Callable[[Any], bool],
) -> None:
    """Raise if a library's arrays are no values, segments and weights of the same rows."""
    if not is_real(values):
        raise InputError(f"values are {values.dtype}, wanted real numbers")
    if values.ndim == 0:
        raise ShapeError("values have shape (), wanted (N, ...)")
    if segment is None:
        raise ParameterError("segment=None: wanted the segment of each row")
    n = len(values)
    if tuple(segment.shape) != (n,) or not (is_whole(segment) or n == 0):
        raise ShapeError(
            f"segment has shape {tuple(segment.shape)} and dtype {segment.dtype}, wanted one "
            f"integer for each of {n} rows"
        )
    is_usual = type(n_segments) is int and 0 <= n_segments <= MOST_SEGMENTS
    if n_segments is not None and not is_usual:
        check_parameter("n_segments", n_segments, Interval(int, 0, MOST_SEGMENTS))
    if weights is None:
        return
    if not is_real(weights):
        raise InputError(f"weights are {weights.dtype}, wanted real numbers")
    if tuple(weights.shape) != (n,):
        shape = tuple(weights.shape)
        raise ShapeError(f"weights have shape {shape}, wanted one for each of {n} rows")


def check_range(segment_N: AnyArray, n_segments: int) -> None:
    """Raise ParameterError, with the row, if a segment does not exist."""
    if segment_N.size and not 0 <= segment_N.min() <= segment_N.max() < n_segments:
        row = int(np.argmax((segment_N < 0) | (segment_N >= n_segments)))
        raise outside(segment_N, row, n_segments)


def check_fill(op: str, fill_value: Any, dtype: np.dtype[Any]) -> AnyArray:
    """Value of segments without rows, for results of a dtype; ParameterError if it does not fit."""
    if op == "softmax":
        raise ParameterError("op='softmax' has no segments to fill: leave fill_value out")
    fill = as_array(fill_value)
    if fill.ndim or fill.dtype.kind not in "fiub":
        raise ParameterError(f"fill_value={fill_value!r}: wanted a number")
    with np.errstate(over="ignore", invalid="ignore"):
        held = fill.astype(dtype)
        fits = np.array_equal(held, fill, equal_nan=fill.dtype.kind == "f")
    if dtype.kind == "f":  # rounded, as numbers are; but not to infinity
        fits = bool(np.isinf(fill) or not np.isinf(held))
    if not fits:
        raise ParameterError(f"fill_value={fill_value!r} is no {dtype}, as the result is")
    return fill


def result_dtype(op: str, value: np.dtype[Any], weight: np.dtype[Any] | None) -> np.dtype[Any]:
    """Dtype of the results of whole numbers, and of `count`; not of extremes.

    That of values times weights, 64 bits wide: bytes are counted by masks as int64 or uint64.
    """
    if op not in ("count", "sum", "prod"):
        return np.dtype(np.float64)
    own = np.dtype(np.int8) if op == "count" else value
    kind = (own if weight is None else np.result_type(own, weight)).kind
    return np.dtype({"f": np.float64, "u": np.uint64}.get(kind, np.int64))


@lru_cache
def worst(dtype: np.dtype[Any], least: bool) -> Any:
    """Extreme of no rows."""
    if dtype.kind == "f":
        return np.inf if least else -np.inf
    if dtype.kind == "b":
        return least
    return np.iinfo(dtype).max if least else np.iinfo(dtype).min


def outside(segment_N: AnyArray, row: int, n_segments: int) -> ParameterError:
    """Error for a row whose segment does not exist."""
    if n_segments == 0:
        return ParameterError(
            f"segment[{row}] is {segment_N[row]}, wanted no rows, as there are no segments: number "
            "them from 0, n_segments is how many there are"
        )
    is_low = segment_N[row] < 0  # whatever n_segments is, or without it
    fix = "number segments from 0" if is_low else "n_segments is the number of buckets"
    return ParameterError(
        f"segment[{row}] is {segment_N[row]}, wanted 0 to {n_segments - 1}: {fix}"
    )
