"""Key of axis letters, and array types for signatures.

An array's name ends in one letter per axis, in order; capitals are merged axes.

====== =====================================================================
letter axis
====== =====================================================================
``t``  images
``l``  local descriptors of one image
``f``  descriptor dimension
``k``  centroids (visual words)
``d``  dimension after a rotation or reduction
``q``  queries
``n``  indexed images
``r``  results of one query
``N``  all descriptors of all images, ``N = sum of l``
``T``  fence posts of the images in ``N``: ``t + 1`` offsets, first 0, last ``N``
``D``  a VLAD vector, ``D = k * f``
====== =====================================================================

Example: ``vlad_tkf`` is ``vlad_tD.reshape(t, k, f)``, and image ``i`` of a ragged
batch is ``local_Nf[start_T[i]:start_T[i + 1]]``.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vladkit.errors import InputError

__all__ = [
    "AnyArray",
    "Float32Array",
    "FloatArray",
    "Int64Array",
    "IntArray",
    "as_array",
    "is_made_by",
]

AnyArray: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Float32Array: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
Int64Array: TypeAlias = npt.NDArray[np.int64]


def as_array(values: Any) -> AnyArray:
    """NumPy's plain array of any values; not copied where they are in one.

    Raises
    ------
    InputError
        If values are masked (`numpy.ma`), as ``numpy.asarray`` gives the numbers below the mask;
        or they are an image of Pillow, whose pixels are no descriptors.

    Examples
    --------
    >>> as_array(np.ma.masked_equal([1, 2, 3], 2))
    Traceback (most recent call last):
    ...
    vladkit.errors.InputError: 1 of 3 values are masked: give x.filled(...), or leave their rows out
    """
    if type(values) is np.ndarray:
        return values
    masked: Any = np.ma if is_made_by("numpy.ma", "MaskedArray", values) else None
    if masked is not None and masked.is_masked(values):
        raise InputError(
            f"{masked.count_masked(values)} of {values.size} values are masked: give "
            "x.filled(...), or leave their rows out"
        )
    if is_made_by("PIL.Image", "Image", values):
        raise InputError(
            "got an image of Pillow, wanted its descriptors (vladkit.features.Sift); where pixels "
            "are meant, give numpy.asarray(image)"
        )
    return np.asarray(values)


def is_made_by(module: str, name: str, value: object) -> bool:
    """Whether a value is of a class of another library, without importing that.

    Whoever has such a value has imported what makes it. Another thread may be importing the module
    just now, as Numba does with ``numpy.ma``: then it lacks names, and no value is of its classes.
    """
    found = getattr(sys.modules.get(module), name, None)
    return found is not None and isinstance(value, found)
