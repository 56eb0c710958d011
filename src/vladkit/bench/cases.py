"""Sizes to measure: the case of the article, then one axis at a time around a usual size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from vladkit.core.arrays import FloatArray
from vladkit.errors import ParameterError

__all__ = ["ARTICLE", "AXIS_TITLES", "CASES", "QUICK_CASES", "SWEEP_AXES", "Case", "parse_case"]

AXIS_TITLES: Final = {
    "t": "T, images",
    "l": "L, descriptors of an image",
    "f": "F, dimensions of a descriptor",
    "k": "K, centroids",
}
SWEEP_AXES: Final = tuple(AXIS_TITLES)


@dataclass(frozen=True)
class Case:
    """Sizes of a batch: t images of l descriptors with f dimensions, and k centroids.

    Parameters
    ----------
    t, l, f, k : int, >= 1
        Sizes; k is at most t l, because the centroids are some of the descriptors.
    dtype : {"float32", "float64"}
    sweeps : tuple of {"t", "l", "f", "k"}
        Sweeps that the case is a point of; none for the article's case and a user's own.

    Raises
    ------
    ParameterError
        If the sizes do not fit.
    """

    t: int
    l: int
    f: int
    k: int
    dtype: str = "float32"
    sweeps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.t, self.l, self.f, self.k) < 1:
            raise ParameterError(f"case {self.name}: wanted sizes of 1 or more")
        if self.dtype not in ("float32", "float64"):
            raise ParameterError(f"case {self.name}: wanted float32 or float64")
        if self.k > self.t * self.l:
            raise ParameterError(
                f"case {self.name}: {self.k} centroids are taken from {self.t * self.l} "
                "descriptors: use fewer, or more descriptors"
            )

    @property
    def name(self) -> str:
        """Name in the tables, such as ``256x128x64 k=16 float64``."""
        return f"{self.t}x{self.l}x{self.f} k={self.k} {self.dtype}"

    @property
    def floor_bytes(self) -> int:
        """Bytes that every way must move: descriptors and centroids read once, sums written."""
        values = self.t * self.l * self.f + self.k * self.f + self.t * self.k * self.f
        return values * np.dtype(self.dtype).itemsize

    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """Random descriptors (t, l, f), and some of them, halved, as centroids (k, f); seeded."""
        rng = np.random.default_rng(1234)
        dtype = np.float64 if self.dtype == "float64" else np.float32
        local_tlf: FloatArray = rng.standard_normal((self.t, self.l, self.f), dtype=dtype)
        row_k = rng.choice(self.t * self.l, self.k, replace=False)
        return local_tlf, local_tlf.reshape(-1, self.f)[row_k] * dtype(0.5)


ARTICLE: tuple[Case, ...] = (Case(256, 128, 64, 16, "float64"), Case(256, 128, 64, 16, "float32"))
"""Benchmark of the article (it uses 16 centroids, not the 512 that it names)."""

_BASE: Final = Case(64, 500, 128, 64, sweeps=SWEEP_AXES)
"""Centre of the sweeps: SIFT features of some images, a usual codebook."""


def _sweeps(values: Mapping[str, Sequence[int]]) -> tuple[Case, ...]:
    base = asdict(_BASE)
    around = [
        Case(**base | {axis: value, "sweeps": (axis,)})
        for axis in SWEEP_AXES
        for value in values[axis]
    ]
    return (_BASE, *around)


CASES: tuple[Case, ...] = ARTICLE + _sweeps(
    {
        "t": (1, 4, 16, 256, 1024),
        "l": (20, 100, 2000, 8000),
        "f": (16, 32, 64, 256, 768),
        "k": (4, 16, 256, 1024),
    }
)
"""Cases of ``vladkit bench``: the article's, the base, then T, L, F and K around it."""

QUICK_CASES: tuple[Case, ...] = ARTICLE + _sweeps(
    {"t": (8, 256), "l": (100, 1000), "f": (32, 256), "k": (16, 256)}
)
"""Cases of ``vladkit bench --quick``."""


def parse_case(text: str) -> Case:
    """Parse ``T,L,F,K`` or ``T,L,F,K,DTYPE``.

    Raises
    ------
    ParameterError
        If the text has another form, or the sizes do not fit.

    Examples
    --------
    >>> parse_case("256,128,64,16").name
    '256x128x64 k=16 float32'
    """
    size, dtype = text.split(",")[:4], text.split(",")[4:]
    if len(size) < 4 or len(dtype) > 1 or not all(s.strip().isdecimal() for s in size):
        raise ParameterError(
            f"case {text!r}: wanted T,L,F,K or T,L,F,K,DTYPE, such as 256,128,64,16,float64"
        )
    t, l, f, k = map(int, size)
    return Case(t, l, f, k, dtype[0].strip() if dtype else "float32")
