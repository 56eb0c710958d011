"""Signatures of the functions that a kernel module offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.kernels.mixture import Mixture

__all__ = ["Aggregate", "AggregateMixture", "AggregateSoft", "Kernel", "OwnArrays", "SegmentSum"]


class Aggregate(Protocol):
    """Residual sums and counts."""

    def __call__(
        self, batch: Ragged, centroid_kf: FloatArray, n_jobs: int
    ) -> tuple[FloatArray, Int64Array]:
        """Sums (t, k, f) and counts (t, k)."""


class AggregateSoft(Protocol):
    """Weighted residual sums and masses."""

    def __call__(
        self, batch: Ragged, centroid_kf: FloatArray, alpha: float, n_jobs: int
    ) -> tuple[FloatArray, FloatArray]:
        """Sums (t, k, f) and masses (t, k)."""


class AggregateMixture(Protocol):
    """Standardised moments and masses, weighted by a mixture's posteriors."""

    def __call__(
        self, batch: Ragged, mixture: Mixture, n_jobs: int
    ) -> tuple[FloatArray, FloatArray]:
        """Moments (t, k, 2 f) and masses (t, k)."""


class SegmentSum(Protocol):
    """Rows summed into segments."""

    def __call__(
        self, values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int
    ) -> AnyArray:
        """Sums (n_segments, f)."""


class OwnArrays(Protocol):
    """Functions that `torch` and `jax` have for arrays of their own."""

    @staticmethod
    def encode(local: Any, centroids: Any, alpha: float | None) -> Any:
        """Residual sums of a (t, l, f) array or a list of (l_i, f), checked here."""

    @staticmethod
    def segment_reduce_of(
        values: Any, segment: Any, n_segments: int | None, op: str, weights: Any, fill_value: Any
    ) -> Any:
        """Rows (N, ...) reduced within segments, checked here."""


@dataclass(frozen=True)
class Kernel:
    """Functions of a kernel module."""

    aggregate: Aggregate
    segment_sum: SegmentSum
    aggregate_soft: AggregateSoft | None
    aggregate_mixture: AggregateMixture | None
    checks_finite: bool
