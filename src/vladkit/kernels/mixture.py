"""`Mixture`: Gaussians with diagonal covariances, as kernels take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vladkit.core.arrays import FloatArray
from vladkit.kernels.nearest import centered_codebook

__all__ = ["Mixture"]


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Weights, means and variances of k Gaussians; float64, finite, weights and variances above 0.

    Parameters
    ----------
    weight_k : (k,)
        Shares of the Gaussians, which sum to 1.
    mean_kf, variance_kf : (k, f)
    """

    weight_k: FloatArray
    mean_kf: FloatArray
    variance_kf: FloatArray

    def log_k(self) -> FloatArray:
        """Log density of each Gaussian at its mean, with its weight and without (2 pi)^(-f/2)."""
        log_k: FloatArray = np.log(self.weight_k) - 0.5 * np.log(self.variance_kf).sum(axis=1)
        return log_k

    def centered(self) -> tuple[FloatArray, FloatArray]:
        """An origin (f,) near the means, and the means from there (k, f).

        0 in dimensions where they surround it: a value near 0 keeps the digits that a small
        variance asks for.
        """
        origin_f, direction_kf, _, _ = centered_codebook(np, self.mean_kf, self.mean_kf)
        is_far_f = np.abs(origin_f) > 8 * np.abs(direction_kf).max(axis=0)
        origin_f = np.where(is_far_f, origin_f, 0)
        return origin_f, self.mean_kf - origin_f
