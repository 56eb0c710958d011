"""Training of a mixture of diagonal Gaussians: faiss's k-means, then scikit-learn's EM."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from vladkit.aggregation.codebook import train_centroids
from vladkit.core.arrays import FloatArray
from vladkit.core.seeds import seed_of_31_bits
from vladkit.errors import InputError, MissingDependencyError, NonFiniteError
from vladkit.kernels.mixture import Mixture
from vladkit.kernels.nearest import nearest

__all__ = ["train_mixture"]

_LEAST_VARIANCE: Final = 1e-4
"""Added to each variance, as a share of the mean variance of the descriptors: a dimension that is
constant in a cell would else outweigh all others."""


def train_mixture(
    local_Nf: FloatArray, n_components: int, *, seed: int, n_iter: int, n_jobs: int | None
) -> tuple[Mixture, float]:
    """Train a mixture of Gaussians by expectation maximisation, on all rows.

    Parameters
    ----------
    local_Nf : (N, f) floating, finite
    n_components : int
        k, at most N.
    seed : int
    n_iter : int
        Most iterations of EM.
    n_jobs : int or None
        Threads of k-means; EM's are those of NumPy's BLAS.

    Returns
    -------
    mixture : Mixture
    log_likelihood : float
        Mean over the rows of the natural logarithm of the mixture's density.

    Raises
    ------
    InputError
        As `vladkit.aggregation.codebook.train_centroids`, or if there is only one row;
        NonFiniteError if their variances overflow float64, or vanish in it.
    MissingDependencyError
        If scikit-learn is not installed.

    Notes
    -----
    scikit-learn and not OpenCV, whose `cv2.ml.EM` is gone from OpenCV 5. It starts from faiss's
    k-means, as codebooks do.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise MissingDependencyError(
            "Fisher.fit needs scikit-learn: pip install 'vladkit[fisher]', or give a mixture that "
            "was learned elsewhere to Fisher.from_mixture",
            name=error.name,
        ) from error
    if len(local_Nf) == 1:
        raise InputError("got 1 descriptor, wanted at least 2 to find a variance: give more images")
    centroid_kf, _ = train_centroids(local_Nf, n_components, seed=seed, n_iter=25, n_jobs=n_jobs)
    label_N = nearest(local_Nf, centroid_kf)
    # from their mean and in their spread, so that a mixture does not depend on the unit
    row_Nf = local_Nf.astype(np.float64)
    mean_f = row_Nf.mean(axis=0)
    is_same_f = (row_Nf == row_Nf[0]).all(axis=0)
    mean_f[is_same_f] = row_Nf[0, is_same_f]  # or rounding would be all their spread
    row_Nf -= mean_f
    with np.errstate(over="ignore", under="ignore"):  # what overflows or vanishes is found below
        variance = float(np.mean(row_Nf**2))
    least = np.finfo(np.float64).tiny / _LEAST_VARIANCE
    if not least < variance < np.inf and row_Nf.any():
        raise NonFiniteError(
            f"descriptors differ from their mean by up to {np.abs(row_Nf).max():.3g}: their "
            "variances overflow float64, or vanish in it; scale the descriptors"
        )
    unit = float(np.sqrt(variance)) or 1.0
    row_Nf /= unit
    count_k = np.bincount(label_N, minlength=n_components)
    start_kf = (centroid_kf.astype(np.float64) - mean_f) / unit
    residual_Nf = row_Nf - start_kf[label_N]
    variance_kf = np.full(start_kf.shape, _LEAST_VARIANCE)
    for i in np.flatnonzero(count_k):
        variance_kf[i] += np.mean(residual_Nf[label_N == i] ** 2, axis=0)
    share_k = np.maximum(count_k, 1.0)
    gmm = GaussianMixture(
        n_components,
        covariance_type="diag",
        reg_covar=_LEAST_VARIANCE,
        max_iter=n_iter,
        init_params="random_from_data",  # not used, and does not run k-means once more
        weights_init=share_k / share_k.sum(),
        means_init=start_kf,
        precisions_init=1 / variance_kf,
        random_state=seed_of_31_bits(seed),
    )
    with warnings.catch_warnings():  # it ends after n_iter, as k-means does
        warnings.simplefilter("ignore", ConvergenceWarning)
        gmm.fit(row_Nf)
    mixture = Mixture(gmm.weights_, gmm.means_ * unit + mean_f, gmm.covariances_ * unit**2)
    return mixture, float(gmm.lower_bound_) - row_Nf.shape[1] * float(np.log(unit))
