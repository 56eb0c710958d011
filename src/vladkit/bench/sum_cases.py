"""Rows, labels and operations of the benchmark of sums by themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Int64Array
from vladkit.errors import ParameterError

__all__ = ["ARTICLE_SUMS", "OTHER_OPERATIONS", "SUMS", "SumCase"]

_PER_IMAGE: Final = 128
"""Rows of an image where labels are the article's."""

_IN_A_ROW: Final = 32
"""Rows with one label, where labels are clustered."""

_ORDERS: Final = ("random", "sorted", "clustered", "by image")


@dataclass(frozen=True)
class SumCase:
    """N rows of f values, to be reduced into segments.

    Parameters
    ----------
    n, f, n_segments : int, >= 1
    dtype : {"float32", "float64", "int64", "bool"}
    order : {"random", "sorted", "clustered", "by image"}
        Order of the labels: `clustered` are runs of 32; `by image` are those of the article, where
        each 128 rows have the same share of the labels to themselves.
    op : {"sum", "mean", "min", "max"}
    """

    n: int
    f: int
    n_segments: int
    dtype: str = "float32"
    order: str = "random"
    op: str = "sum"

    def __post_init__(self) -> None:
        if min(self.n, self.f, self.n_segments) < 1 or self.order not in _ORDERS:
            raise ParameterError(f"case {self}: wanted sizes of 1 or more, and a known order")

    @property
    def name(self) -> str:
        """Name in the tables, such as ``1,000,000 into 1,000 float64 sorted``."""
        rows = f"{self.n:,}" + (f" x {self.f:,}" if self.f > 1 else "")
        order = "" if self.order == "random" else f" {self.order}"
        return f"{rows} into {self.n_segments:,} {self.dtype}{order}"

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """Dtype of the result: whole numbers and booleans are summed in 64 bits."""
        is_whole = self.dtype in ("int64", "bool")
        return np.dtype(np.int64 if is_whole and self.op == "sum" else self.dtype)

    def arrays(self) -> tuple[AnyArray, Int64Array]:
        """Random values (N,), or (N, f) if f > 1, and the segment (N,) of each row; seeded."""
        rng = np.random.default_rng(1234)
        shape = (self.n,) if self.f == 1 else (self.n, self.f)
        values: AnyArray
        if self.dtype == "int64":
            values = rng.integers(-1000, 1000, shape)
        elif self.dtype == "bool":
            values = rng.random(shape, np.float32) < 0.5
        else:
            double = self.dtype == "float64"
            values = rng.standard_normal(shape, np.float64 if double else np.float32)
        return values, self._segments(rng)

    def _segments(self, rng: np.random.Generator) -> Int64Array:
        if self.order == "clustered":
            runs = rng.integers(0, self.n_segments, -(-self.n // _IN_A_ROW))
            segment_N: Int64Array = np.repeat(runs, _IN_A_ROW)[: self.n]
            return segment_N
        if self.order == "by image":
            k = max(1, self.n_segments * _PER_IMAGE // self.n)
            segment_N = rng.integers(0, k, self.n) + np.arange(self.n) // _PER_IMAGE * k
            return np.minimum(segment_N, self.n_segments - 1)
        segment_N = rng.integers(0, self.n_segments, self.n)
        return np.sort(segment_N) if self.order == "sorted" else segment_N


_MILLION: Final = 1_000_000

SUMS: Final = (
    SumCase(32_768, 64, 4096, "float64", "by image"),  # the article's
    SumCase(32_768, 64, 4096),
    SumCase(200_000, 128, 64),
    SumCase(_MILLION, 8, 100_000),
    SumCase(_MILLION, 3, 1000),
    SumCase(100_000, 64, 100_000),
    SumCase(20_000, 1024, 100),
    SumCase(100_000, 16, 1000, "int64"),
    SumCase(_MILLION, 1, 1000, "float64"),
    SumCase(_MILLION, 1, 300_000, "float64"),
    SumCase(_MILLION, 1, 1000, "int64"),
    SumCase(_MILLION, 1, 1000, "bool"),
    SumCase(_MILLION, 1, 1, "float64"),
    SumCase(_MILLION, 1, 2, "float64"),
    SumCase(_MILLION, 1, 1000, "float64", "sorted"),
    SumCase(100_000, 64, 1000, order="sorted"),
    SumCase(_MILLION, 1, 1000, "float64", "clustered"),
    SumCase(100_000, 64, 1000, order="clustered"),
    SumCase(100, 1, 10, "float64"),
    SumCase(10_000, 1, 100, "float64"),
    SumCase(100 * _MILLION, 1, 1000),
    SumCase(100 * _MILLION // 64, 64, 1000),
)
"""Cases of ``benchmarks/segments.py``: wide and narrow, many and few segments, in any order."""

OTHER_OPERATIONS: Final = tuple(
    replace(case, op=op)
    for op in ("min", "max", "mean")
    for case in (SUMS[1], SUMS[3], SUMS[8], SUMS[14], SUMS[7], SUMS[19])
)
"""Cases of ``benchmarks/segments.py`` for other reductions."""

ARTICLE_SUMS: Final = (SUMS[0], SUMS[1], SUMS[3], SUMS[8], SUMS[14], SUMS[19])
"""Cases of ``vladkit bench --article``."""
