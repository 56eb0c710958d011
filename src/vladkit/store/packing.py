"""Bytes of what is kept of an image, and of arrays, in every kind of store."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray
from vladkit.core.codes import Codes
from vladkit.store.geometry import pack_geometry, unpack_geometry
from vladkit.store.rows import KeptFeatures

__all__ = [
    "array_shape",
    "check_value",
    "number_type",
    "pack_array",
    "pack_codes",
    "pack_kept",
    "unpack_codes",
    "unpack_kept",
    "unpack_value",
]

_CODED: Final = "code"
"""In the place of a dtype: kept descriptors are codes."""

_KINDS: Final = {
    "id": str,
    "revision": int,
    "last_id": int,
    "renamed": int,
    "network_mark": str,
    "lifted": list,
    "told_apart": list,
} | dict.fromkeys(
    ("recipe", "made_with", "images", "learned", "codebook", "words", "whitening", "augmentation"),
    dict,
)
"""Types of the values about a collection."""


def number_type(dtype: str) -> np.dtype[Any]:
    """Dtype of that name; TypeError unless it is of real numbers."""
    found = np.dtype(dtype)
    if found.kind not in "fiu":
        raise TypeError(f"{dtype!r} are no numbers")
    return found


def unpack_value(name: str, text: str) -> Any:
    """Value about a collection from its JSON; TypeError if it is of another type than it has."""
    value = json.loads(text)
    check_value(name, value)
    return value


def check_value(name: str, value: object) -> None:
    """Raise TypeError if a value about a collection is of another type than it has."""
    if not isinstance(value, _KINDS.get(name, object)):
        raise TypeError(f"it is a {type(value).__name__}")
    if name == "learned" and isinstance(value, dict):
        operator.index(value.get("images", 0))


def pack_array(array: AnyArray) -> tuple[str, str, bytes]:
    """Dtype, shape (JSON) and little-endian bytes of an array."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.dtype.str, json.dumps(array.shape), little.tobytes()


def array_shape(dtype: str, shape: str, n_bytes: int) -> list[int]:
    """Shape of a packed array; ValueError if it does not fit the number of bytes."""
    dims = [operator.index(n) for n in json.loads(shape)]
    if math.prod(dims) * number_type(dtype).itemsize != n_bytes or min(dims, default=0) < 0:
        raise ValueError(f"{n_bytes} bytes for {shape[:100]} of {dtype[:10]}")
    return dims


def pack_kept(features: KeptFeatures) -> tuple[int, str, bytes, bytes]:
    """Number, dtype, descriptors and geometry of the kept features of an image."""
    descriptor_lf = features.descriptor_lf
    little_lf = np.ascontiguousarray(descriptor_lf, descriptor_lf.dtype.newbyteorder("<"))
    dtype = _CODED if features.is_coded else little_lf.dtype.str
    geometry = features.packed
    if geometry is None:
        size = features.width, features.height
        geometry = pack_geometry(features.geometry_l5, *size, short=features.is_coded)
    return len(little_lf), dtype, little_lf.tobytes(), geometry


def unpack_kept(
    packed: Sequence[Any], width: int, height: int, *, n_dimensions: int, code_bytes: int
) -> KeptFeatures:
    """Kept features from what `pack_kept` made.

    Parameters
    ----------
    packed : (n, dtype, descriptor, geometry)
    width, height : int
        Size of the image in px.
    n_dimensions, code_bytes : int
        Length of a descriptor, and of a code, that is wanted; 0: any.

    Raises
    ------
    ValueError
        If their sizes do not fit.
    """
    n, dtype, descriptor, geometry = packed
    is_coded = dtype == _CODED
    numbers = np.dtype(np.uint8) if is_coded else number_type(dtype)
    descriptor_lf = np.frombuffer(descriptor, numbers).reshape(n, -1)
    wanted = code_bytes if is_coded else n_dimensions
    if wanted not in (0, descriptor_lf.shape[1]):
        raise ValueError(f"{descriptor_lf.shape[1]} dimensions")
    geometry_l5 = unpack_geometry(geometry, n, width, height)
    return KeptFeatures(descriptor_lf, geometry_l5, width, height, is_coded)


def pack_codes(codes: Codes) -> tuple[bytes, bytes, bytes]:
    """Words, codes and angles of the codes of one image."""
    angle = b"" if codes.angle_N is None else codes.angle_N.tobytes()
    return codes.word_N.astype("<u2").tobytes(), codes.code_Nb.tobytes(), angle


def unpack_codes(packed: Iterable[tuple[bytes, bytes, bytes]]) -> Codes:
    """Codes of some images, one at least, from what `pack_codes` made.

    Raises
    ------
    ValueError
        If their sizes do not fit, or words do not rise.
    """
    word, code, angle = zip(*packed, strict=True)
    length_n = np.array([len(each) // 2 for each in word])
    word_N = np.frombuffer(b"".join(word), "<u2")
    angle_N = np.frombuffer(b"".join(angle), np.uint8)
    n_bytes, rest = divmod(sum(map(len, code)), max(1, len(word_N)))
    if rest or any(len(c) != n_bytes * n for c, n in zip(code, length_n, strict=True)):
        raise ValueError("the codes are not of one size")
    if len(angle_N) and any(len(a) != n for a, n in zip(angle, length_n, strict=True)):
        raise ValueError("there is not an angle for each code")
    code_Nb = np.frombuffer(b"".join(code), np.uint8).reshape(len(word_N), n_bytes or 8)
    start_T = np.append(0, np.cumsum(length_n))
    has_angles = len(angle_N) or not len(word_N)
    return Codes(start_T, word_N, code_Nb, angle_N if has_angles else None)
