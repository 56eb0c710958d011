"""`encode`, by a method chosen by name or by what is loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit import kernels
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.backends import kind_of, like, to_numpy
from vladkit.core.memmap import BLOCK_BYTES
from vladkit.core.params import Interval, StrOptions, check_parameter
from vladkit.core.ragged import Ragged, as_centroids, as_ragged
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ParameterError
from vladkit.kernels import twin
from vladkit.kernels.loading import Code, is_switched_off
from vladkit.kernels.mixture import Mixture
from vladkit.kernels.nearest import check_overflow
from vladkit.kernels.pieces import is_for_one_thread

__all__ = [
    "METHOD",
    "aggregate",
    "aggregate_mixture",
    "aggregate_unit",
    "check_assign",
    "encode",
    "fastest",
    "warm_up",
]

METHOD: Final = StrOptions("auto", *kernels.METHODS)

_ASSIGN: Final = StrOptions("hard", "soft")

_LARGE_BYTES: Final = 4 * BLOCK_BYTES
"""Size of the descriptors as floats beyond which Numba is loaded at once: NumPy's passes take
longer (64 MB, k = 64: 1.2 s against 2.9 s with the loading; 256 MB: 7.6 s against 1.9 s)."""


def encode(
    local: Any,
    centroids: Any,
    *,
    method: str = "auto",
    assign: str = "hard",
    alpha: float | None = None,
    n_jobs: int | None = None,
) -> Any:
    """Sum, for each image and centroid, the residuals of the descriptors nearest to it.

    Parameters
    ----------
    local : (t, l, f) array, list of (l_i, f) arrays, or Ragged
        Local descriptors of t images. Any real dtype and memory layout; uint8 is read without
        a float copy of the whole. Arrays may be NumPy's, torch's or JAX's; the
        result is of the same kind.
    centroids : (k, f) array_like
        The codebook.
    method : {"auto", "fused", "reduceat", "scatter", "cumsum", "sparse", "mask", "loop", \
"jax", "torch"}
        Way to compute the sums; all agree to rounding. docs/explanation/scatter-reduce.md has more.
        `auto` is `torch` for tensors and `jax` for JAX's arrays; else `fused`, the fastest. Until
        that is loaded, in the background as soon as it pays, NumPy computes the same, to the bit.
    assign : {"hard", "soft"}
        Hard: to the nearest centroid. Soft: to each by the weight
        ``softmax_k(-alpha |v - c_k|^2)``; methods `fused`, `torch`, `jax` and `loop` have it.
    alpha : float, > 0
        Sharpness of soft assignment, in one over squared L2 distance; the larger, the harder.
    n_jobs : int or None
        Threads for `fused`: None is every core (or OMP_NUM_THREADS, if that is less), -1 every
        core, -2 all but one. torch and JAX have settings of their own.

    Returns
    -------
    residual_tkf : (t, k, f), float32 or float64
        ``sum(v - c_k for v in image with nearest centroid k)``, not normalised, in the
        input's dtype (float64 also for 32- and 64-bit integers, float32 for smaller
        integers and NumPy's float16). Zero where an image has no descriptor for a centroid.
        With soft assignment each term has its weight.

    Raises
    ------
    ShapeError
        If an array has the wrong number of axes, the list is empty, or the dimensions of
        descriptors and centroids differ.
    InputError
        If descriptors or centroids are not real numbers: complex, bool, objects, text, dates.
    NonFiniteError
        If a descriptor or centroid holds NaN or infinity, or sums overflow. (Not looked for in
        tensors and JAX's arrays: NaN then comes out as NaN, and a sum that overflows as infinity.)
    ParameterError
        If `method`, `assign`, `alpha` or `n_jobs` is none of those above.
    MemoryLimitError
        If `mask` would need too much.
    MissingDependencyError
        If `method` needs a library that is not installed.

    Notes
    -----
    Labels are ``argmin_k |v - c_k|^2``, ties to the lowest k, found as an arg-max of inner
    products. Of whole numbers (and halves, and these times a power of 2) a tie is a tie in every
    way, as long as products of a descriptor and a centroid sum to less than 2^22 in float32, as
    SIFT's do, or 2^51 in float64. Other distances that are equal to rounding may be decided
    otherwise by another way; by `auto` and `fused` alike, in every process and on any number of
    threads. Of descriptors that lie 10,000 times as far from 0 as they are spread, up to 2 in 1,000
    get another label in float32 than in float64, at 100,000 times 2 in 100, of two centroids that
    are almost as near: subtract the centroids' mean from both, or pass float64. Numbers may have
    any size that the dtype holds, except with JAX, which takes those below 1e-38 as 0 and refuses
    centroids close to that. Time is O(N k f) for the labels and O(N f) for the sums; memory beyond
    input and output is a few MB per thread with `fused`.

    References
    ----------
    Jégou, Douze, Schmid, Pérez: "Aggregating local descriptors into a compact image
    representation", CVPR 2010, eq. 1 (before normalisation). Soft assignment: Arandjelović,
    Gronat, Torii, Pajdla, Sivic: "NetVLAD", CVPR 2016, eq. 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> centroids = np.array([[0.5, 0.5], [0, 0], [1, 0], [-0.5, -0.5], [0, 1]])
    >>> image = np.array([[1.0, 0], [-1, 0], [1, 2]])
    >>> encode([image], centroids).tolist()
    [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-0.5, 0.5], [1.0, 1.0]]]
    """
    kind = kind_of(local)
    kind_of(centroids)  # refuses what is not dense
    if kind != "numpy" and method in ("auto", kind):
        return kernels.for_own_arrays(kind).encode(
            local, centroids, check_assign(assign, alpha, method)
        )
    batch = as_ragged(local if kind == "numpy" else to_numpy(local, method))
    centroids = to_numpy(centroids, method)
    options: dict[str, Any] = {"assign": assign, "alpha": alpha, "n_jobs": n_jobs}
    return like(aggregate(batch, centroids, method=method, **options)[0], local, kind)


def aggregate(
    batch: Ragged,
    centroids: npt.ArrayLike,
    *,
    method: str = "auto",
    assign: str = "hard",
    alpha: float | None = None,
    n_jobs: int | None = None,
) -> tuple[FloatArray, AnyArray]:
    """Residual sums (t, k, f) and counts (t, k): `encode` with the sufficient statistic whole.

    The counts say which cells are empty, and ``residual + count * centroid`` is the plain sum
    of each cell's descriptors, from which the vector for other centroids follows. With soft
    assignment they are masses: the sums of weights.
    """
    check_parameter("method", method, METHOD)
    sharpness = check_assign(assign, alpha, method)
    centroid_kf = as_centroids(centroids, batch.n_features, batch.float_dtype)
    is_little = is_for_one_thread(batch.n_local, *centroid_kf.shape)
    threads = 1 if n_jobs is None and is_little else resolve_n_jobs(n_jobs)
    chosen = method
    n_bytes = batch.n_local * batch.n_features * batch.float_dtype.itemsize
    if method == "auto" and sharpness is None:
        is_large = n_bytes > _LARGE_BYTES
        chosen = _choose(batch.float_dtype, is_large)
    begin = perf_counter()

    def run(some: Ragged) -> tuple[FloatArray, AnyArray]:
        if sharpness is not None:
            return _aggregate_soft(some, centroid_kf, chosen, sharpness, threads)
        kernel = kernels.load(chosen)
        if kernel.checks_finite:
            return kernel.aggregate(some, centroid_kf, threads)
        some.check_finite()
        return _checked(lambda: kernel.aggregate(some, centroid_kf, threads))

    # `fused` needs no memory for descriptors; the others that may be chosen need several times
    # the size of their input. A method asked for by name is used as it is.
    is_greedy = method == "auto" and chosen != "fused" and sharpness is None
    if n_bytes <= BLOCK_BYTES or not (is_greedy or batch.is_mapped()):
        result = run(batch)
    else:
        result = _in_blocks(batch, len(centroid_kf), run)
    if chosen == "fused" and sharpness is None:
        _code(batch.float_dtype.char).mark_ready()
    elif is_greedy:
        _code(batch.float_dtype.char).note(perf_counter() - begin)
    return result


def aggregate_unit(
    batch: Ragged, label_centroids: npt.ArrayLike, centroids: npt.ArrayLike
) -> tuple[FloatArray, Int64Array]:
    """Sums (t, k, f) of residuals of unit length each, and counts (t, k).

    Labels are found with `label_centroids`, residuals taken to `centroids`; a residual of zero
    length stays zero. In NumPy, in blocks; such sums do not follow from those of `aggregate`.

    References
    ----------
    Delhumeau, Gosselin, Jégou, Pérez, ACM Multimedia 2013, section 3.1 (RN).
    """
    from vladkit.kernels import buckets

    batch.check_finite()
    label_kf = as_centroids(label_centroids, batch.n_features, batch.float_dtype)
    centroid_kf = as_centroids(centroids, batch.n_features, batch.float_dtype)

    def run(some: Ragged) -> tuple[FloatArray, AnyArray]:
        return _checked(lambda: buckets.aggregate_unit(some, label_kf, centroid_kf))

    if not batch.is_mapped() or not batch.n_local:
        return run(batch)
    return _in_blocks(batch, len(centroid_kf), run)


def aggregate_mixture(
    batch: Ragged, mixture: Mixture, n_jobs: int | None
) -> tuple[FloatArray, FloatArray]:
    """Sums (t, k, 2 f) weighted by a mixture's posteriors, and masses (t, k).

    First f sums of residuals to the means, in standard deviations, then f of their squares less 1.
    Descriptors have been checked to be finite.
    """
    k, f = mixture.mean_kf.shape
    is_little = is_for_one_thread(batch.n_local, 2 * k, f)
    threads = 1 if n_jobs is None and is_little else resolve_n_jobs(n_jobs)
    aggregate_mixture = kernels.load("fused" if fastest() == "fused" else "loop").aggregate_mixture
    assert aggregate_mixture is not None, "these two have it"
    return _checked(lambda: aggregate_mixture(batch, mixture, threads))


def _checked(
    sums: Callable[[], tuple[FloatArray, AnyArray]],
) -> tuple[FloatArray, AnyArray]:
    """Sums of finite descriptors; NonFiniteError if they overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        residual_tkf, count_tk = sums()
    check_overflow(residual_tkf)
    return residual_tkf, count_tk


def _in_blocks(
    batch: Ragged, k: int, run: Callable[[Ragged], tuple[FloatArray, AnyArray]]
) -> tuple[FloatArray, AnyArray]:
    """Results of `run` for all images, some of them at a time."""
    residual_tkf = np.empty((len(batch), k, batch.n_features), batch.float_dtype)
    count_tk: AnyArray | None = None
    for begin, some in batch.blocks():
        residual_bkf, count_bk = run(some)
        if count_tk is None:
            count_tk = np.empty((len(batch), k), count_bk.dtype)
        residual_tkf[begin : begin + len(some)] = residual_bkf
        count_tk[begin : begin + len(some)] = count_bk
    assert count_tk is not None, "a batch of more than no bytes has a block"
    return residual_tkf, count_tk


def _aggregate_soft(
    batch: Ragged, centroid_kf: FloatArray, method: str, alpha: float, threads: int
) -> tuple[FloatArray, FloatArray]:
    if method == "auto":
        method = "fused" if fastest() == "fused" else "loop"
    kernel = kernels.load(method)
    assert kernel.aggregate_soft is not None, "check_assign has looked"
    batch.check_finite()
    aggregate_soft = kernel.aggregate_soft
    return _checked(lambda: aggregate_soft(batch, centroid_kf, alpha, threads))


def check_assign(assign: str, alpha: float | None, method: str) -> float | None:
    """Sharpness `alpha` of soft assignment, None for hard; ParameterError if they do not fit."""
    if assign == "hard" and alpha is None:
        return None
    check_parameter("assign", assign, _ASSIGN)
    if assign == "hard":
        raise ParameterError(f"alpha={alpha!r} is for soft assignment only: set assign='soft'")
    if alpha is None:
        raise ParameterError(
            "assign='soft' needs alpha, in one over squared distance: 1 over the mean squared "
            "distance of descriptors to their centroid (VLAD.inertia_) is a start"
        )
    if method not in ("auto", *kernels.SOFT_METHODS):
        raise ParameterError(
            f"method={method!r} has no soft assignment: use auto or one of "
            f"{', '.join(kernels.SOFT_METHODS)}"
        )
    sharpness: float = check_parameter("alpha", alpha, Interval(float, 0, closed="neither"))
    return sharpness


def fastest() -> str:
    """Name of the fastest method: `fused`; `reduceat` where Numba's compiler is switched off."""
    return "reduceat" if is_switched_off() else "fused"


def warm_up() -> None:
    """Load the compiled code of `fused` for float32; in a thread, for callers that use it soon."""
    if fastest() != "fused":
        return
    aggregate(as_ragged(np.zeros((1, 1, 1), np.float32)), [[0.0]], method="fused", n_jobs=1)
    aggregate(Ragged.from_list([np.zeros((1, 1), np.float32)]), [[0.0]], method="fused", n_jobs=1)


def _choose(dtype: np.dtype[Any], is_large: bool) -> str:
    """Kernel of `auto`: `fused`, or its twin while that is not loaded."""
    if _code(dtype.char).is_ready():
        return "fused"
    is_fused = (is_large or twin.rounds_once() is None) and not is_switched_off()
    return "fused" if is_fused else "twin"


@lru_cache
def _code(dtype: str) -> Code:
    """Compiled code of `fused` for descriptors of a dtype."""

    def load() -> None:
        batch = as_ragged(np.zeros((1, 1, 1), dtype))
        aggregate(batch, [[0.0]], method="fused", n_jobs=1)

    return Code(load)
