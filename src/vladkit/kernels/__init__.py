"""The ways of computing residual sums: one file per way, one signature.

Every kernel module has ``aggregate(batch, centroid_kf, n_jobs)``, which returns

residual_tkf : (t, k, f), ``batch.float_dtype``
    Sum over the image's descriptors with label k of (descriptor - centroid).
count_tk : (t, k), int64
    How many descriptors those are.

and ``CHECKS_FINITE``: whether it finds NaN and infinity on the way (then it raises
NonFiniteError) or relies on the caller to have looked. Kernels validate nothing else:
`vladkit.ragged` has.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from vladkit.axes import FloatArray, Int64Array
from vladkit.errors import ParameterError
from vladkit.ragged import Ragged

__all__ = ["METHODS", "Kernel", "load"]

METHODS: tuple[str, ...] = ("loop", "reduceat", "fused")


class Kernel(Protocol):
    """What a kernel module offers."""

    CHECKS_FINITE: bool

    @staticmethod
    def aggregate(
        batch: Ragged, centroid_kf: FloatArray, n_jobs: int
    ) -> tuple[FloatArray, Int64Array]:
        """Residual sums and counts."""
        ...


def load(method: str) -> Kernel:
    """Import one kernel, and nothing that the others need."""
    if method not in METHODS:
        raise ParameterError(
            f"method={method!r} is not known: use one of {', '.join((*METHODS, 'auto'))}"
        )
    return cast(Kernel, import_module(f"vladkit.kernels.{method}"))
