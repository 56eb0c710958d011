"""`Aggregate`: residual sums and counts of images, from which vectors follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.ragged import as_centroids
from vladkit.errors import ParameterError, ShapeError

__all__ = ["Aggregate"]


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """What a codebook makes of t images, before normalisation: it adds up, and it can be moved.

    Parameters
    ----------
    residual_tkf : (t, k, f), float32 or float64
        Sum of (descriptor - centroid) over the descriptors of image and cell.
    count_tk : (t, k), integer; or floating, the masses of soft assignment
        How many those are.
    centroid_kf : (k, f)
        The centroids that labels were found with and residuals are taken to.

    Raises
    ------
    ShapeError
        If the three do not fit together.

    Notes
    -----
    With S the plain sums of descriptors, ``residual = S - n c``, and for other centroids c'
    ``residual + n (c - c')``: labels are kept, descriptors not needed. Residuals are kept and not
    S, because S - n c is a difference of large numbers where descriptors lie far from 0:
    around 1,000 with spread 1, float32 would be left with four of its seven digits.

    References
    ----------
    Arandjelović, Zisserman, "All about VLAD", CVPR 2013, section 3.2: sums and counts are enough to
    adapt a vocabulary.

    Examples
    --------
    >>> import numpy as np
    >>> sums = Aggregate(np.array([[[1.0, 2.0]]]), np.array([[2]]), np.array([[10.0, 10.0]]))
    >>> sums.sum_tkf.tolist(), (sums + sums).residual([[11.0, 11.0]]).tolist()
    ([[[21.0, 22.0]]], [[[-2.0, 0.0]]])
    """

    residual_tkf: FloatArray
    count_tk: AnyArray
    centroid_kf: FloatArray

    def __post_init__(self) -> None:
        shapes = self.residual_tkf.shape, self.count_tk.shape, self.centroid_kf.shape
        residual, count, centroid = shapes
        if len(residual) != 3 or count != residual[:2] or centroid != residual[1:]:
            raise ShapeError(
                f"got residuals {residual}, counts {count}, centroids {centroid}: wanted "
                "(t, k, f), (t, k), (k, f)"
            )

    def __len__(self) -> int:
        return len(self.residual_tkf)

    @property
    def sum_tkf(self) -> FloatArray:
        """The plain sums of descriptors S, (t, k, f) float64."""
        wide_tkf = self.residual_tkf.astype(np.float64)
        wide_tkf += self.count_tk[:, :, None] * self.centroid_kf.astype(np.float64)
        return wide_tkf

    def residual(self, centroids: npt.ArrayLike) -> FloatArray:
        """Residual sums S - n c' to other centroids (k, f), labels kept; a new array (t, k, f).

        Raises
        ------
        ShapeError, NonFiniteError
            If they are not k finite rows of f.
        """
        k, f = self.centroid_kf.shape
        dtype = self.residual_tkf.dtype
        to_kf = as_centroids(centroids, f, np.dtype(np.float64))
        if len(to_kf) != k:
            raise ShapeError(f"got {len(to_kf)} centroids, wanted {k}: as many as were summed to")
        step_kf = (self.centroid_kf.astype(np.float64) - to_kf).astype(dtype)
        moved_tkf: FloatArray = (
            self.residual_tkf + self.count_tk[:, :, None].astype(dtype) * step_kf
        )
        return moved_tkf

    def __add__(self, other: Aggregate) -> Aggregate:
        """The same images with the descriptors of both.

        Raises
        ------
        ParameterError
            If their centroids differ; ShapeError if the number of images does.
        """
        if not isinstance(other, Aggregate):
            return NotImplemented
        if not np.array_equal(self.centroid_kf, other.centroid_kf):
            raise ParameterError("sums to different centroids do not add up: use one codebook")
        if len(self) != len(other):
            raise ShapeError(
                f"sums of {len(self)} and of {len(other)} images do not add up: wanted more "
                "descriptors of the same images"
            )
        return Aggregate(
            self.residual_tkf + other.residual_tkf, self.count_tk + other.count_tk, self.centroid_kf
        )
