"""The article's loop, plain and obvious: the oracle for all other methods."""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.ragged import Ragged
from vladkit.kernels.mixture import Mixture

__all__ = ["aggregate", "aggregate_mixture", "aggregate_soft", "segment_sum"]


def aggregate(batch: Ragged, centroid_kf: FloatArray, n_jobs: int) -> tuple[FloatArray, Int64Array]:
    """Residual sums and counts, image by image and centroid by centroid.

    Distances and sums are computed in float64 for any input, so that the results that other
    methods are compared with are right to the last of their digits. `n_jobs` is not used.
    """
    k, f = centroid_kf.shape
    centroid_kf = centroid_kf.astype(np.float64)
    residual_tkf = np.zeros((len(batch), k, f), batch.float_dtype)
    count_tk = np.zeros((len(batch), k), np.int64)
    for i in range(len(batch)):
        local_lf = batch.image(i).astype(np.float64)
        label_l = np.array([_nearest(local_f, centroid_kf) for local_f in local_lf], np.int64)
        for j in range(k):
            member_lf = local_lf[label_l == j]
            residual_tkf[i, j] = np.sum(member_lf - centroid_kf[j], axis=0)
            count_tk[i, j] = len(member_lf)
    return residual_tkf, count_tk


def _nearest(local_f: FloatArray, centroid_kf: FloatArray) -> int:
    delta_kf = centroid_kf - local_f
    _, exponent = np.frexp(np.abs(delta_kf).max())
    # in a unit, a power of 2, whose squares neither overflow nor vanish
    distance_k = np.sum(np.ldexp(delta_kf, -exponent) ** 2, axis=1)
    return int(np.argmin(distance_k))  # ties: the lowest index


def aggregate_soft(
    batch: Ragged, centroid_kf: FloatArray, alpha: float, n_jobs: int
) -> tuple[FloatArray, FloatArray]:
    """Weighted residual sums and masses, image by image and centroid by centroid, in float64."""
    k, f = centroid_kf.shape
    centroid_kf = centroid_kf.astype(np.float64)
    residual_tkf = np.zeros((len(batch), k, f), batch.float_dtype)
    mass_tk = np.zeros((len(batch), k), batch.float_dtype)
    with np.errstate(under="ignore"):  # weights that are 0
        for i in range(len(batch)):
            local_lf = batch.image(i).astype(np.float64)
            weight_lk = np.array([_soft(v, centroid_kf, alpha) for v in local_lf]).reshape(-1, k)
            for j in range(k):
                residual_lf = weight_lk[:, j, None] * (local_lf - centroid_kf[j])
                residual_tkf[i, j] = np.sum(residual_lf, axis=0)
                mass_tk[i, j] = np.sum(weight_lk[:, j])
    return residual_tkf, mass_tk


def _soft(local_f: FloatArray, centroid_kf: FloatArray, alpha: float) -> FloatArray:
    distance_k = np.sum((centroid_kf - local_f) ** 2, axis=1)
    weight_k: FloatArray = np.exp(-alpha * (distance_k - distance_k.min()))
    weight_k /= weight_k.sum()
    return weight_k


def aggregate_mixture(
    batch: Ragged, mixture: Mixture, n_jobs: int
) -> tuple[FloatArray, FloatArray]:
    """Moments and masses by posteriors, image by image and Gaussian by Gaussian, in float64."""
    k, f = mixture.mean_kf.shape
    deviation_kf, log_k = np.sqrt(mixture.variance_kf), mixture.log_k()
    moment_tkm = np.zeros((len(batch), k, 2 * f), batch.float_dtype)
    mass_tk = np.zeros((len(batch), k), batch.float_dtype)
    with np.errstate(under="ignore"):
        for i in range(len(batch)):
            wide_km, wide_k = np.zeros(moment_tkm.shape[1:]), np.zeros(k)
            for local_f in batch.image(i).astype(np.float64):
                standard_kf = (local_f - mixture.mean_kf) / deviation_kf
                density_k = log_k - 0.5 * np.sum(standard_kf**2, axis=1)
                weight_k = np.exp(density_k - density_k.max())
                weight_k /= weight_k.sum()
                term_km = np.hstack([standard_kf, standard_kf**2 - 1])
                wide_km += weight_k[:, None] * term_km
                wide_k += weight_k
            moment_tkm[i], mass_tk[i] = wide_km, wide_k
    return moment_tkm, mass_tk


def segment_sum(
    values_Nf: AnyArray, segment_N: Int64Array, n_segments: int, n_jobs: int = 1
) -> AnyArray:
    """Sum rows into segments, segment after segment; floats are summed in float64."""
    wide_Nf = values_Nf.astype(np.float64) if values_Nf.dtype.kind == "f" else values_Nf
    total_sf = np.zeros((n_segments, values_Nf.shape[1]), values_Nf.dtype)
    for i in range(n_segments):
        total_sf[i] = np.sum(wide_Nf[segment_N == i], axis=0)
    return total_sf
