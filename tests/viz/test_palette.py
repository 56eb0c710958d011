"""The colours of visual words."""

from __future__ import annotations

import cv2
import numpy as np

from vladkit.viz.palette import N_COLORS, word_colors


def test_the_palette():
    color_n3 = word_colors(np.arange(N_COLORS))
    assert color_n3.min() >= 0
    assert color_n3.max() <= 1
    assert len(np.unique(color_n3, axis=0)) == N_COLORS
    lab_n3 = cv2.cvtColor(color_n3[None], cv2.COLOR_RGB2LAB)[0]  # CIELAB: L is 0 to 100
    assert lab_n3[:, 0].min() > 45
    apart_nn = np.linalg.norm(lab_n3[:12, None] - lab_n3[None, :12], axis=2)
    assert apart_nn[~np.eye(12, dtype=bool)].min() > 25
    np.testing.assert_array_equal(word_colors(np.array([300])), word_colors(np.array([44])))
