"""`encode`: residual sums of a batch of images, by a way chosen by name or by the work."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit import kernels
from vladkit.axes import FloatArray, Int64Array
from vladkit.ragged import Ragged, as_centroids, as_ragged
from vladkit.workers import resolve_n_jobs

__all__ = ["aggregate", "encode", "fastest", "warm_up"]

_PATIENCE: Final = 2e10
"""Multiply-adds done without Numba before `auto` imports it: about what NumPy does in the time
that the import costs (1.2 s and some .3 s to load compiled code)."""

_done_without_numba = 0.0


def encode(
    local: Any, centroids: npt.ArrayLike, *, method: str = "auto", n_jobs: int | None = None
) -> FloatArray:
    """Sum, for each image and centroid, what its nearest descriptors differ from it by.

    Parameters
    ----------
    local : (t, l, f) array, list of (l_i, f) arrays, or Ragged
        Local descriptors of t images. Any real dtype and memory layout; uint8 is read as
        it is, without a float copy of the whole.
    centroids : (k, f) array_like
        The codebook.
    method : {"auto", "fused", "reduceat", "loop"}
        The way to compute it; all agree to rounding. `auto` starts with `reduceat` (NumPy,
        nothing to load) and goes over to `fused` (Numba, the fastest) for a large batch, or
        once the small ones of this process add up to as much as loading Numba costs.
    n_jobs : int or None
        Threads for `fused`: None is every core (or OMP_NUM_THREADS, if that is less), -1 every
        core, -2 all but one.

    Returns
    -------
    residual_tkf : (t, k, f), float32 or float64
        ``sum(v - c_k for v in image with nearest centroid k)``, not normalised, in the
        input's dtype (float64 also for 32- and 64-bit integers, float32 for smaller
        integers and float16). Zero where an image has no descriptor for a centroid.

    Raises
    ------
    ShapeError
        If an array has the wrong number of axes, the list is empty, or the dimensions of
        descriptors and centroids differ.
    NonFiniteError
        If a descriptor or centroid holds NaN or infinity, or products overflow.
    ParameterError
        If `method` or `n_jobs` is not one of those above.

    Notes
    -----
    Labels are ``argmin_k |v - c_k|^2``, ties to the lowest k, found as an arg-max of inner
    products; two distances that are equal to rounding may be decided either way. Time is
    O(N k f) for the labels and O(N f) for the sums; memory beyond input and output is a few
    MB per thread with `fused`.

    References
    ----------
    Jégou, Douze, Schmid, Pérez: "Aggregating local descriptors into a compact image
    representation", CVPR 2010, eq. 1 (before normalisation).

    Examples
    --------
    >>> import numpy as np
    >>> centroids = np.array([[0.5, 0.5], [0, 0], [1, 0], [-0.5, -0.5], [0, 1]])
    >>> image = np.array([[1.0, 0], [-1, 0], [1, 2]])
    >>> encode([image], centroids).tolist()
    [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-0.5, 0.5], [1.0, 1.0]]]
    """
    return aggregate(as_ragged(local), centroids, method=method, n_jobs=n_jobs)[0]


def aggregate(
    batch: Ragged, centroids: npt.ArrayLike, *, method: str = "auto", n_jobs: int | None = None
) -> tuple[FloatArray, Int64Array]:
    """Residual sums (t, k, f) and counts (t, k): `encode` with the sufficient statistic whole.

    The counts say which cells are empty, and ``residual + count * centroid`` is the plain sum
    of each cell's descriptors, from which the vector for other centroids follows.
    """
    centroid_kf = as_centroids(centroids, batch.n_features, batch.float_dtype)
    threads = resolve_n_jobs(n_jobs)
    if method == "auto":
        method = _choose(batch.n_local * centroid_kf.size)
    kernel = kernels.load(method)
    if not kernel.CHECKS_FINITE:
        batch.check_finite()
    return kernel.aggregate(batch, centroid_kf, threads)


def fastest() -> str:
    """`fused`; `reduceat` where Numba's compiler is switched off."""
    return "reduceat" if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0") else "fused"


def warm_up() -> None:
    """Load what `fused` needs for float32, compiled: for who will use it soon, in a thread."""
    if fastest() != "fused":
        return
    aggregate(as_ragged(np.zeros((1, 1, 1), np.float32)), [[0.0]], method="fused", n_jobs=1)
    aggregate(Ragged.from_list([np.zeros((1, 1), np.float32)]), [[0.0]], method="fused", n_jobs=1)


def _choose(work: int) -> str:
    """`fused` if it is loaded already or worth loading, else `reduceat`.

    As with renting skis: once the rent paid adds up to the price, buy.
    """
    global _done_without_numba
    if "vladkit.kernels.fused" in sys.modules:
        return fastest()
    _done_without_numba += work
    return fastest() if _done_without_numba > _PATIENCE else "reduceat"
