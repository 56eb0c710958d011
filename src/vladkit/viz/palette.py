"""A colour for every visual word, the same in every image."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from vladkit.core.arrays import Float32Array, IntArray

__all__ = ["N_COLORS", "word_colors"]

N_COLORS: Final = 256
"""Number of colours; word i has the colour of word i modulo 256."""

_STEPS: Final = 24
_LIGHTNESS: Final = (55, 92)
_MIN_CHROMA: Final = 30
"""Steps of each of R, G, B to choose from; of these neither dark nor gray ones (in CIELAB, where
lightness goes to 100), because circles are drawn on a darkened gray image."""


def word_colors(label_l: IntArray) -> Float32Array:
    """RGB (l, 3), 0 to 1, of words; a word's colour depends on its number alone.

    Examples
    --------
    >>> import numpy as np
    >>> color_l3 = word_colors(np.array([0, 7, 7, 256]))
    >>> bool((color_l3[1] == color_l3[2]).all()), bool((color_l3[0] == color_l3[3]).all())
    (True, True)
    """
    return _palette()[np.asarray(label_l) % N_COLORS]


@lru_cache(maxsize=1)
def _palette() -> Float32Array:
    """256 colours, each as far as possible from those before it, in CIELAB.

    So the first few, of a small codebook, are as different as colours get: the nearest two of the
    first 12 are 47 apart, of hues at golden-ratio steps 14, of matplotlib's tab20 17.

    References
    ----------
    Glasbey et al., *Colour displays for categorical images*, 2007 (one colour after the other).
    """
    import cv2

    axis = np.linspace(0, 1, _STEPS, dtype=np.float32)
    rgb_n3 = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    lab_n3 = cv2.cvtColor(rgb_n3[None], cv2.COLOR_RGB2LAB)[0]
    chroma_n = np.hypot(lab_n3[:, 1], lab_n3[:, 2])
    low, high = _LIGHTNESS
    usable_n = (lab_n3[:, 0] > low) & (lab_n3[:, 0] < high) & (chroma_n > _MIN_CHROMA)
    rgb_n3, lab_n3 = rgb_n3[usable_n], lab_n3[usable_n]
    chosen = [int(chroma_n[usable_n].argmax())]
    near_n = np.full(len(lab_n3), np.inf)
    while len(chosen) < N_COLORS:
        near_n = np.minimum(near_n, ((lab_n3 - lab_n3[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(near_n.argmax()))
    return np.asarray(rgb_n3[chosen])
