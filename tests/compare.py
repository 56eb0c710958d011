"""One table of methods, and one of batches, that tests and benchmarks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from vladkit.kernels import METHODS, SOFT_METHODS

ORACLE = "loop"


def _ways(methods: tuple[str, ...]) -> list[Any]:
    """All methods but the oracle; jax and torch are skipped where they are not installed."""
    return [
        pytest.param(m, marks=pytest.mark.skipif(not find_spec(m), reason=f"{m} is not installed"))
        if m in ("jax", "torch")
        else m
        for m in methods
        if m != ORACLE
    ]


WAYS = _ways(METHODS)
SOFT_WAYS = _ways(SOFT_METHODS)


@dataclass(frozen=True)
class Case:
    """A batch as a user would pass it, and centroids."""

    name: str
    make: Callable[[np.random.Generator], tuple[Any, np.ndarray]]

    def __call__(self) -> tuple[Any, np.ndarray]:
        return self.make(np.random.default_rng(len(self.name)))


def dense(t: int, l: int, f: int, k: int, dtype: str = "float32", scale: float = 1.0) -> Case:
    def make(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        local_tlf = rng.normal(size=(t, l, f)) * scale
        if np.dtype(dtype).kind in "ui":
            local_tlf = np.clip(local_tlf + scale * 2, 0, 255)
        return local_tlf.astype(dtype), rng.normal(size=(k, f)) * scale + scale * (
            2 if np.dtype(dtype).kind in "ui" else 0
        )

    return Case(f"{t}x{l}x{f} k={k} {dtype}", make)


def ragged(lengths: list[int], f: int, k: int, dtype: str = "float32") -> Case:
    def make(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        images = [rng.normal(size=(l, f)).astype(dtype) for l in lengths]
        return images, rng.normal(size=(k, f))

    return Case(f"lengths={lengths} f={f} k={k} {dtype}", make)


def far_away(dtype: str) -> Case:
    """Descriptors around 1,000 with spread 1: where x.c - |c|^2/2 as it stands loses its digits."""

    def make(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        return (1000 + rng.normal(size=(3, 60, 17))).astype(dtype), 1000 + rng.normal(size=(5, 17))

    return Case(f"around 1000, {dtype}", make)


def unused(k: int, used: list[int]) -> Case:
    """Only some centroids have descriptors near: empty clusters at either end and in between."""

    def make(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        centroid_kf = np.zeros((k, 3))
        centroid_kf[:, 0] = 100.0 * np.arange(k)
        near = centroid_kf[rng.choice(used, size=(4, 25))]
        return near + rng.normal(size=near.shape), centroid_kf

    return Case(f"clusters {used} of {k} in use", make)


CASES = [
    dense(5, 40, 16, 8),
    dense(5, 40, 16, 8, "float64"),
    dense(3, 37, 128, 64),
    dense(3, 33, 64, 16, "float64"),
    dense(2, 30, 128, 300),  # k > 256
    dense(2, 30, 128, 257, "float64"),  # k no multiple of anything
    dense(2, 50, 768, 32),
    dense(1, 40, 1536, 7),
    dense(4, 20, 1, 5),  # f = 1
    dense(3, 20, 6, 1),  # k = 1
    dense(1, 1, 17, 5),  # one descriptor; f and k as below: JAX compiles for each pair, a second
    dense(7, 1, 17, 5),
    dense(2, 5000, 12, 10),  # several blocks of rows for one image
    dense(3, 50, 17, 5, "uint8", 40),
    dense(3, 50, 17, 5, "int16", 40),
    dense(3, 50, 10, 6, "int32", 40),
    dense(3, 50, 10, 6, "int64", 40),
    dense(3, 50, 17, 5, "float16"),
    dense(2, 40, 17, 5, ">f4"),
    dense(2, 40, 17, 5, ">f8"),
    dense(2, 40, 17, 5, ">i2", 40),
    ragged([5, 0, 3, 130, 1], 17, 5),
    ragged([0, 0, 20], 17, 5),
    ragged([20, 0, 0], 17, 5, "float64"),
    ragged([0, 0], 17, 5),
    ragged([1] * 60, 33, 17),
    far_away("float32"),
    far_away("float64"),
    unused(12, [3]),
    unused(12, [0, 11]),
    unused(40, [5, 6, 20]),
]


def tolerance(local: Any, centroids: np.ndarray, wanted_tkf: np.ndarray) -> float:
    """How far a correct sum may be from the oracle's, which is exact to the last digit.

    A cell adds up at most l terms; each addition rounds by eps / 2 of the running sum, which is
    no larger than about the largest term or the final sum. l roundings of random sign grow as
    sqrt(l); four times that is allowed, and a few eps for the terms themselves.
    """
    images = [np.asarray(image, np.float64) for image in local]
    l = max((len(image) for image in images), default=0)
    term = max((np.abs(i).max() for i in images if i.size), default=0.0) + np.abs(centroids).max()
    size = max(float(term), float(np.abs(wanted_tkf).max(initial=0.0)))
    return float(np.finfo(wanted_tkf.dtype).eps) * (2 * np.sqrt(l) + 4) * size


def segments(n: int, n_segments: int, shape: tuple[int, ...] = (5,), dtype: str = "float32",
             low: int = 0, high: int | None = None) -> Case:  # fmt: skip
    """Unsorted rows for segments `low` to `high`; those before and after stay empty."""

    def make(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        values = (rng.normal(size=(n, *shape)) * 50).astype(dtype)
        return values, rng.integers(low, n_segments if high is None else high, n)

    return Case(f"{n} rows {shape} {dtype}, segments {low}-{high} of {n_segments}", make)


SEGMENT_CASES = [
    (segments(300, 20), 20),
    (segments(300, 20, dtype="float64"), 20),
    (segments(300, 20, (), "float64"), 20),
    (segments(200, 9, (3, 4)), 9),
    (segments(200, 9, (1,), "int32"), 9),
    (segments(200, 9, (2,), "uint8"), 9),
    (segments(200, 9, (2,), "uint64"), 9),
    (segments(200, 9, (2,), "float16"), 9),
    (segments(200, 30, low=5, high=20), 30),  # empty at both ends
    (segments(40, 300), 300),  # most are empty
    (segments(1, 3), 3),
    (segments(0, 3), 3),
    (segments(50, 1, (1,)), 1),
    (segments(5000, 7, (33,)), 7),  # several blocks of rows for one segment
    (segments(600, 600, (65,), "float64"), 600),
]
