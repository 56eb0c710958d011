"""`Aggregate`: residual sums and counts of images, from which vectors and centroids follow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray, as_array
from vladkit.core.backends import on_host
from vladkit.core.ragged import as_centroids, float_dtype_for
from vladkit.errors import InputError, ParameterError, ShapeError

__all__ = ["Aggregate", "adapted_centroids"]


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """Residual sums and counts of t images, before normalisation; they add up and can be moved.

    Parameters
    ----------
    residual_tkf : (t, k, f), float32 or float64
        Sum of (descriptor - centroid) over the descriptors of image and cell; integers become
        floats, as descriptors do.
    count_tk : (t, k), integer; or floating, the masses of soft assignment
        Number of those descriptors.
    centroid_kf : (k, f)
        Centroids that labels were found with and residuals are taken to.

    Raises
    ------
    ShapeError
        If the three do not fit together; InputError if they are not real numbers.

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
    >>> sums.residual([[11.0, 11.0]]).tolist(), (sums + sums).residual([[11.0, 11.0]]).tolist()
    ([[[-1.0, 0.0]]], [[[-2.0, 0.0]]])
    """

    residual_tkf: FloatArray
    count_tk: AnyArray
    centroid_kf: FloatArray

    def __post_init__(self) -> None:
        for name in ("residual_tkf", "count_tk", "centroid_kf"):
            array = as_array(on_host(getattr(self, name)))
            if array.dtype.kind not in "fiu":
                raise InputError(f"{name} is {array.dtype}, wanted real numbers")
            if name == "residual_tkf":
                array = array.astype(float_dtype_for(array.dtype), copy=False)
            elif name == "count_tk" and array.dtype.kind != "f":
                array = array.astype(np.int64, copy=False)  # of bytes sums would wrap
            object.__setattr__(self, name, array)
        shapes = self.residual_tkf.shape, self.count_tk.shape, self.centroid_kf.shape
        residual, count, centroid = shapes
        if len(residual) != 3 or count != residual[:2] or centroid != residual[1:]:
            raise ShapeError(
                f"got residuals {residual}, counts {count}, centroids {centroid}: wanted "
                "(t, k, f), (t, k), (k, f)"
            )

    def __len__(self) -> int:
        return len(self.residual_tkf)

    def residual(self, centroids: npt.ArrayLike) -> FloatArray:
        """Residual sums S - n c' to other centroids (k, f), with the same labels; a new array.

        Raises
        ------
        ShapeError, NonFiniteError
            If they are not k finite rows of f.
        """
        k, f = self.centroid_kf.shape
        dtype = self.residual_tkf.dtype
        to_kf = as_centroids(centroids, f, np.dtype(np.float64))
        if len(to_kf) != k:
            raise ShapeError(f"got {len(to_kf)} centroids, wanted {k}: as many as sums")
        step_kf = (self.centroid_kf.astype(np.float64) - to_kf).astype(dtype)
        moved_tkf: FloatArray = (
            self.residual_tkf + self.count_tk[:, :, None].astype(dtype) * step_kf
        )
        return moved_tkf

    def __add__(self, other: Aggregate) -> Aggregate:
        """Sums of the same images over the descriptors of both.

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


def adapted_centroids(aggregates: Iterable[Aggregate], centroid_kf: FloatArray) -> FloatArray:
    """Means of the descriptors of each cell, over all images of all aggregates.

    Parameters
    ----------
    aggregates : iterable of Aggregate
        Sums to the same centroids; read once, one after the other.
    centroid_kf : (k, f)
        Centroids of cells that have no descriptor, and the dtype of the result.

    Returns
    -------
    mean_kf : (k, f)

    Raises
    ------
    ParameterError
        If there is no aggregate at all.

    References
    ----------
    Arandjelović, Zisserman, "All about VLAD", CVPR 2013, section 3.2.
    """
    total_kf, count_k = np.zeros(centroid_kf.shape), np.zeros(len(centroid_kf))
    label_kf = None
    for each in aggregates:
        total_kf += each.residual_tkf.sum(axis=0, dtype=np.float64)
        count_k += each.count_tk.sum(axis=0, dtype=np.float64)
        label_kf = each.centroid_kf
    if label_kf is None:
        raise ParameterError("no aggregate to adapt to: give those of some images")
    used_k = count_k > 0
    mean_kf = centroid_kf.astype(np.float64)
    mean_kf[used_k] = label_kf[used_k] + total_kf[used_k] / count_k[used_k, None]
    return mean_kf.astype(centroid_kf.dtype)
