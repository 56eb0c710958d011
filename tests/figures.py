"""Figures that tests look into, and what is drawn in them."""

from __future__ import annotations

import io

import cv2
import numpy as np

from vladkit import Verification
from vladkit.features import Features

H_33 = np.array([[0.62, -0.21, 120.0], [0.19, 0.66, 5.0], [1e-5, -3e-5, 1.0]])
GRAY = np.full((200, 300, 3), 120, np.uint8)


def mapped(h_33, xy_m2):
    h_m3 = np.c_[xy_m2, np.ones(len(xy_m2))] @ h_33.T
    return h_m3[:, :2] / h_m3[:, 2:]


def found(xy_m2, h_33=H_33, model="homography"):
    xy_m2 = np.asarray(xy_m2, np.float32)
    other_m2 = mapped(h_33, xy_m2).astype(np.float32)
    return Verification(len(xy_m2), h_33, xy_m2, other_m2, model)


def nothing(model="homography"):
    none_m2 = np.empty((0, 2), np.float32)
    return Verification(0, None, none_m2, none_m2, model)


def pixels(figure):
    """RGB (y, x, 3) of the figure, and a function from data of its first axes to (column, row)."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), 1), cv2.COLOR_BGR2RGB)

    def at(xy, ax=figure.axes[0]):
        x, y = ax.transData.transform(xy)
        return round(x - 0.5), round(len(rgb) - y - 0.5)

    return rgb.astype(int), at


def of_kind(ax, kind):
    return [each for each in (*ax.collections, *ax.patches) if type(each) is kind]


def some_features(n, width=300, height=200, region=None, f=4):
    rng = np.random.default_rng(n)
    xy_l2 = rng.uniform((10, 10), (width - 10, height - 10), (n, 2)).astype(np.float32)
    size_l, angle_l = rng.uniform(4, 30, n), rng.uniform(0, 360, n)
    arrays = (a.astype(np.float32) for a in (size_l, angle_l, rng.uniform(0, 1, n)))
    descriptor_lf = rng.integers(0, 256, (n, f), dtype=np.uint8)
    return Features(descriptor_lf, xy_l2, *arrays, width=width, height=height, region=region)
