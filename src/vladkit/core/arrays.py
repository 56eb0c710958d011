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

from vladkit.errors import InputError, ShapeError

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

    Frames and series of pandas whose dtypes may lack values (Int64, Arrow's) are arrays of NumPy's
    dtypes, too.

    Raises
    ------
    InputError
        If values are masked (`numpy.ma`), as ``numpy.asarray`` gives the numbers below the mask;
        values of pandas or polars are missing, which it gives as NaN or objects;
        they are an image of Pillow, whose pixels are no descriptors, or sparse (`scipy.sparse`),
        which it gives as one object; or their own library cannot
        make an array of them, as torch of a sparse tensor, or of one on another device.
    ShapeError
        If rows of a list have unlike lengths.

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
    if any(is_made_by("scipy.sparse", name, values) for name in ("spmatrix", "sparray")):
        raise InputError(
            f"got a sparse array ({type(values).__name__} of SciPy), wanted a dense one: "
            "x.toarray()"
        )
    if any(is_made_by("pandas", name, values) for name in ("DataFrame", "Series", "Index")):
        return _of_pandas(values)
    if is_made_by("polars", "DataFrame", values) or is_made_by("polars", "Series", values):
        return _of_polars(values)
    try:
        return np.asarray(values)
    except ValueError as error:
        if not isinstance(values, (list, tuple)):
            raise
        raise ShapeError(
            f"a list of {len(values)} has rows of unlike lengths, wanted an array: give them one "
            "length"
        ) from error
    except (TypeError, RuntimeError) as error:
        raise InputError(
            f"{type(values).__name__} is no array that NumPy reads: {error}"
        ) from error


def _of_pandas(values: Any) -> AnyArray:
    dtypes = [*values.dtypes] if values.ndim == 2 else [values.dtype]
    if not any(hasattr(dtype, "numpy_dtype") for dtype in dtypes):  # all are NumPy's
        return np.asarray(values)
    _check_none_missing(int(np.sum(np.asarray(values.isna()))), values, "fillna")
    dtype = np.result_type(*(getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes))
    array: AnyArray = values.to_numpy(dtype)
    return array


def _of_polars(values: Any) -> AnyArray:
    columns = values.get_columns() if hasattr(values, "get_columns") else [values]
    n = sum(each.null_count() for each in columns if not each.dtype.is_nested())
    _check_none_missing(n, values, "fill_null")
    return np.asarray(values)


def _check_none_missing(n: int, values: Any, fill: str) -> None:
    if n:
        raise InputError(
            f"{n} of {np.prod(values.shape)} values are missing: give x.{fill}(...), or leave "
            "their rows out"
        )


def is_made_by(module: str, name: str, value: object) -> bool:
    """Whether a value is of a class of another library, without importing that.

    Whoever has such a value has imported what makes it. Another thread may be importing the module
    just now, as Numba does with ``numpy.ma``: then it lacks names, and no value is of its classes.
    """
    found = getattr(sys.modules.get(module), name, None)
    return found is not None and isinstance(value, found)
