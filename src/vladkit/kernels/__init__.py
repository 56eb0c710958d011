"""Ways to compute residual sums: one file for each, all with one signature.

A kernel module has

``segment_sum(values_Nf, segment_N, n_segments, n_jobs)`` -> total_sf : (n_segments, f)
    Rows summed into segments. Both dtypes are final: the sum has that of the values.
``aggregate(batch, centroid_kf, n_jobs)`` -> residual_tkf, count_tk
    Sum over the image's descriptors with label k of (descriptor - centroid), (t, k, f) in
    ``batch.float_dtype``, and how many those are, (t, k) int64. A module without it is a way to
    sum, and `vladkit.kernels.buckets` does the rest.
``aggregate_soft(batch, centroid_kf, alpha, n_jobs)`` -> residual_tkf, mass_tk
    Sums and masses where each descriptor belongs to every centroid by a weight; in some modules.
``aggregate_mixture(batch, mixture, n_jobs)`` -> moment_tkm, mass_tk
    The same where the weights are posteriors of a `Mixture`, and residuals are in its standard
    deviations; behind them sums of their squares less 1. In `fused` and `loop`.
``encode(local, centroids, alpha)``,
``segment_reduce_of(values, segment, n_segments, op, weights, fill_value)``
    Functions for arrays of the library itself, checked there: in `torch` and `jax`.
``CHECKS_FINITE``
    True where `aggregate` itself finds NaN and infinity (and raises NonFiniteError), so that the
    caller need not look.

Kernels validate nothing else: `vladkit.core.ragged` has.
"""

from __future__ import annotations

from functools import lru_cache, partial
from importlib import import_module
from typing import cast

from vladkit.errors import MissingDependencyError
from vladkit.kernels.kernel import Kernel, OwnArrays

__all__ = ["METHODS", "SOFT_METHODS", "Kernel", "for_own_arrays", "load"]

METHODS: tuple[str, ...] = (
    "loop", "mask", "scatter", "cumsum", "reduceat", "sparse", "fused", "jax", "torch",
)  # fmt: skip

SOFT_METHODS: tuple[str, ...] = ("loop", "fused", "jax", "torch")


@lru_cache
def load(method: str) -> Kernel:
    """Import the kernel of one of `METHODS`, and nothing that the others need.

    Raises
    ------
    MissingDependencyError
        If it needs a library that is not installed; says how to install it.
    """
    try:
        module = import_module(f"vladkit.kernels.{method}")
    except ImportError as error:
        if error.name not in (method, f"{method}lib"):
            raise
        raise MissingDependencyError(
            f"method={method!r} needs {method}, which is not installed: "
            f"pip install 'vladkit[{method}]'",
            name=error.name,
        ) from error
    aggregate = getattr(module, "aggregate", None)
    if aggregate is None:
        buckets = import_module("vladkit.kernels.buckets")
        aggregate = partial(buckets.aggregate_by, module.segment_sum)
    soft = getattr(module, "aggregate_soft", None)
    mixture = getattr(module, "aggregate_mixture", None)
    finite = getattr(module, "CHECKS_FINITE", False)
    return Kernel(aggregate, module.segment_sum, soft, mixture, finite)


def for_own_arrays(kind: str) -> OwnArrays:
    """Module for arrays of torch or jax; they exist, so the library is imported already."""
    return cast(OwnArrays, import_module(f"vladkit.kernels.{kind}"))
