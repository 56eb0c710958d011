"""A colour for every visual word, the same in every image."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array, IntArray

__all__ = ["N_COLORS", "word_colors"]

N_COLORS: Final = 256
"""Beyond them words share: word i has the colour of word i modulo 256."""

_STEPS: Final = 24
_LIGHT: Final = (0.66, 0.93)
_LEAST_CHROMA: Final = 0.09
"""In OKLab: neither dark nor gray, for circles on a darkened image."""


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
    """256 colours, each as far as can be from those before it, in OKLab.

    So the first few, of a small codebook, are as different as colours get; 256 are more than any
    eye tells apart.

    References
    ----------
    Glasbey et al., *Colour displays for categorical images*, 2007 (one colour after the other).
    Ottosson, *A perceptual color space for image processing*, 2020 (OKLab).
    """
    axis = np.linspace(0, 1, _STEPS)
    rgb_n3 = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    lab_n3 = _oklab(rgb_n3)
    chroma_n = np.hypot(lab_n3[:, 1], lab_n3[:, 2])
    usable_n = (lab_n3[:, 0] > _LIGHT[0]) & (lab_n3[:, 0] < _LIGHT[1]) & (chroma_n > _LEAST_CHROMA)
    rgb_n3, lab_n3 = rgb_n3[usable_n], lab_n3[usable_n]
    chosen = [int(np.hypot(lab_n3[:, 1], lab_n3[:, 2]).argmax())]
    near_n = np.full(len(lab_n3), np.inf)
    while len(chosen) < N_COLORS:
        near_n = np.minimum(near_n, ((lab_n3 - lab_n3[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(near_n.argmax()))
    return rgb_n3[chosen].astype(np.float32)


def _oklab(rgb_n3: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear_n3 = np.where(rgb_n3 <= 0.04045, rgb_n3 / 12.92, ((rgb_n3 + 0.055) / 1.055) ** 2.4)
    to_lms_33 = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab_33 = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.asarray(np.cbrt(linear_n3 @ to_lms_33.T) @ to_lab_33.T)
