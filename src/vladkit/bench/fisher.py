"""Fisher vectors: `vladkit.Fisher` against scikit-image's, and the four products that it needs."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vladkit.aggregation.fisher import Fisher
from vladkit.bench.cases import Case
from vladkit.bench.results import FisherMeasured
from vladkit.bench.timing import Plan, turns
from vladkit.bench.ways import held_to
from vladkit.core.arrays import FloatArray

__all__ = ["FISHER", "measure_fisher"]

FISHER: Final = Case(32, 500, 64, 64)

_SPREAD: Final = 0.8
"""Deviation of descriptors around means of deviation 1: some three posteriors of 64 are not 0, as
of SIFT and a mixture learned from it."""


def measure_fisher(plan: Plan, threads: int, case: Case = FISHER) -> FisherMeasured:
    """Time improved Fisher vectors of the images of a case; scikit-image's one by one.

    The products are those of posteriors and of sums, `[X, X^2] @ A` and `P.T @ [X, X^2]`, in the
    dtype of the descriptors.
    """
    rng = np.random.default_rng(0)
    mean_kf = rng.normal(size=(case.k, case.f))
    variance_kf = np.full(mean_kf.shape, _SPREAD**2)
    share_k = np.full(case.k, 1 / case.k)
    near_tl = rng.integers(0, case.k, (case.t, case.l))
    noise_tlf = _SPREAD * rng.normal(size=(case.t, case.l, case.f))
    local_tlf: FloatArray = (mean_kf[near_tl] + noise_tlf).astype(case.dtype)
    fisher = Fisher.from_mixture(share_k, mean_kf, variance_kf, n_jobs=threads)

    both_tlm = np.concatenate([local_tlf, local_tlf**2], axis=2)
    panel_mk = np.ones((2 * case.f, case.k), case.dtype)

    def products() -> None:
        for both_lm in both_tlm:
            weight_lk = both_lm @ panel_mk
            weight_lk.T @ both_lm

    ways = {"vladkit": lambda: fisher.transform(local_tlf), "products": products}
    error = None
    try:
        from skimage import feature
        from sklearn.mixture import GaussianMixture
    except ImportError:
        pass
    else:
        fisher_vector: Any = feature.fisher_vector
        gmm = GaussianMixture(case.k, covariance_type="diag")
        gmm.weights_, gmm.means_, gmm.covariances_ = share_k, mean_kf, variance_kf
        gmm.precisions_cholesky_ = 1 / np.sqrt(variance_kf)

        def theirs() -> FloatArray:
            return np.array([fisher_vector(x_lf, gmm, improved=True) for x_lf in local_tlf])

        wanted_tD = theirs()
        difference_tD = ways["vladkit"]() - wanted_tD
        lengths = np.linalg.norm(difference_tD, axis=1) / np.linalg.norm(wanted_tD, axis=1)
        error = float(lengths.max())
        ways["scikit-image"] = theirs
    with held_to(threads):
        times = turns(ways, dict.fromkeys(ways, 3), plan.least_turns, plan.burn)
    ms = {way: 1e3 * float(np.median(seconds)) for way, seconds in times.items()}
    return FisherMeasured(case.name, ms, error)
