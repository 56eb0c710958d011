"""Codes and kept features of images, from the columns that a store keeps them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.codes import Codes
from vladkit.store.database import damaged
from vladkit.store.geometry import unpack_geometry
from vladkit.store.rows import KeptFeatures

__all__ = ["CODED", "numbers", "unpack_codes", "unpack_features"]

CODED: Final = "code"
"""In the place of a dtype: kept descriptors are codes."""


def numbers(dtype: str) -> np.dtype[Any]:
    """Dtype of that name; TypeError unless it is of real numbers."""
    found = np.dtype(dtype)
    if found.kind not in "fiu":
        raise TypeError(f"{dtype!r} are no numbers")
    return found


def unpack_codes(rows: Sequence[Any], path: Path) -> tuple[list[int], Codes | None]:
    """Codes of images from rows (image_id, word, code, angle); see `Store.codes`."""
    if not rows:
        return [], None
    ids, word, code, angle = zip(*rows, strict=True)
    with damaged(path, "the codes of some images", repair=True):
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
        codes = Codes(start_T, word_N, code_Nb, angle_N if has_angles else None)
    return [int(i) for i in ids], codes


def unpack_features(
    rows: Iterable[Any], wanted: tuple[int, int], path: Path
) -> dict[int, KeptFeatures]:
    """Kept features by image id from rows; see `Store.features`.

    A row is (image_id, n, dtype, descriptor, geometry, width, height); `wanted` the dimensions of
    descriptors and the bytes of codes, 0 for any.
    """
    found = {}
    for image_id, n, dtype, descriptor, geometry, width, height in rows:
        with damaged(path, f"the features of image {image_id}", repair=True):
            is_coded = dtype == CODED
            kind = np.dtype(np.uint8) if is_coded else numbers(dtype)
            descriptor_lf = np.frombuffer(descriptor, kind).reshape(n, -1)
            if wanted[is_coded] not in (0, descriptor_lf.shape[1]):
                raise ValueError(f"{descriptor_lf.shape[1]} dimensions")
            geometry_l5 = unpack_geometry(geometry, n, width, height)
        found[int(image_id)] = KeptFeatures(descriptor_lf, geometry_l5, width, height, is_coded)
    return found
