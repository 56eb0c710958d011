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

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["AnyArray", "Float32Array", "FloatArray", "Int64Array", "IntArray"]

AnyArray: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Float32Array: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
Int64Array: TypeAlias = npt.NDArray[np.int64]
