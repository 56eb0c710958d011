"""SIFT's points, found once for equal pixels: tests search the same photographs again and again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vladkit.features import Sift

detect = Sift._detect
_LITTLE = 50_000  # px: such images have few features, and are many


def detect_once(sift, gray_yx):
    """`Sift._detect`, which depends on its arguments alone: tests/features holds it to that."""
    if gray_yx.size < _LITTLE:
        return detect(sift, gray_yx)
    return _found(sift, gray_yx.tobytes(), gray_yx.shape)


@lru_cache(64)  # of 1.5 MB each
def _found(sift, data, shape):
    return detect(sift, np.frombuffer(data, np.uint8).reshape(shape))
