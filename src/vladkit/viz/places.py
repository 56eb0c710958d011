"""A reconstruction from above: its points, its cameras, and places that were found in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.viz.axes import PLAIN, NotebookFigure
from vladkit.viz.shown_image import printable

if TYPE_CHECKING:
    from vladkit.collection.localize import Pose
    from vladkit.collection.sfm_model import SfmModel

__all__ = ["draw_places"]

_POINTS: Final = 50_000
_AROUND: Final = 2.0
"""Per cent of the points, at each end, that may lie outside of the drawing."""

_FARTHEST: Final = 1e30

_CAMERA, _FOUND = "#0072b2", "#d55e00"


def draw_places(model: SfmModel, places: Mapping[str, Pose]) -> NotebookFigure:
    """Draw a model from above, with the places of queries and the way that they look.

    Parameters
    ----------
    model : SfmModel
    places : mapping of str to Pose
        Poses by the names of the queries.

    Notes
    -----
    Up is what most cameras have up. Circles have the radius of two standard deviations.
    """
    from matplotlib.patches import Circle

    seen = [image.cam_from_world() for image in model.names.values()]
    centre_n3 = np.array([each.inverse().translation for each in seen]).reshape(-1, 3)
    look_n33 = np.array([each.rotation.matrix() for each in seen]).reshape(-1, 3, 3)
    plane_23 = _plane(look_n33)
    points = list(model.reconstruction.points3D.values())
    points = points[:: max(1, len(points) // _POINTS)]
    point_n2 = _placed(np.array([each.xyz for each in points]).reshape(-1, 3) @ plane_23.T)
    figure = NotebookFigure(figsize=(8, 8), layout="constrained")
    ax = figure.add_subplot()
    ax.plot(*point_n2.T, ",", color="0.6", zorder=0)
    found_q3 = np.array([each.centre for each in places.values()]).reshape(-1, 3)
    look_q3 = np.array([_looks(each.qvec) for each in places.values()]).reshape(-1, 3)
    shown_n2 = _placed(np.vstack([centre_n3, found_q3]) @ plane_23.T)
    length = _limit(ax, point_n2, shown_n2) / 25
    _draw(ax, centre_n3, look_n33[:, 2], plane_23, length, _CAMERA)
    _draw(ax, found_q3, look_q3, plane_23, length, _FOUND)
    for (name, pose), place_2 in zip(places.items(), found_q3 @ plane_23.T, strict=True):
        ax.add_patch(Circle(place_2, 2 * pose.position_error, color=_FOUND, fill=False))
        text = printable(os.path.basename(name))
        ax.annotate(text, place_2, (5, 5), textcoords="offset points", color=_FOUND, **PLAIN)
    ax.set_title(f"{len(seen)} cameras, {len(places)} found", loc="left", fontsize=11, **PLAIN)
    ax.set_aspect("equal")
    return figure


def _plane(rotation_n33: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Axes (2, 3) of the drawing: to the right and ahead of most cameras, level."""
    up_3 = -rotation_n33[:, 1].sum(axis=0)
    up_3 /= max(np.linalg.norm(up_3), 1e-12)
    ahead_3 = rotation_n33[:, 2].sum(axis=0)
    ahead_3 = ahead_3 - (ahead_3 @ up_3) * up_3
    if np.linalg.norm(ahead_3) < 1e-6:  # they look all ways
        ahead_3 = np.cross(up_3, np.eye(3)[abs(up_3).argmin()])
    ahead_3 /= np.linalg.norm(ahead_3)
    return np.stack([np.cross(ahead_3, up_3), ahead_3])


def _placed(place_n2: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Places that a drawing has room for: a model may hold any number."""
    is_near_n = (np.abs(place_n2) < _FARTHEST).all(axis=1)  # NaN is not
    near_n2: npt.NDArray[Any] = place_n2[is_near_n]
    return near_n2


def _limit(ax: Any, point_n2: npt.NDArray[Any], shown_n2: npt.NDArray[Any]) -> float:
    """Limit the axes to all cameras and most points; returns the longer side."""
    if len(point_n2):
        most_22 = np.percentile(point_n2, [_AROUND, 100 - _AROUND], axis=0)
        shown_n2 = np.vstack([shown_n2, most_22])
    if not len(shown_n2):
        shown_n2 = np.zeros((1, 2))
    low_2, high_2 = shown_n2.min(axis=0), shown_n2.max(axis=0)
    side = float((high_2 - low_2).max()) or 1.0
    for limit, low, high in zip((ax.set_xlim, ax.set_ylim), low_2, high_2, strict=True):
        limit(low - 0.05 * side, high + 0.05 * side)
    return side


def _looks(qvec: tuple[float, ...]) -> npt.NDArray[Any]:
    """Direction in the world that a camera looks, of unit length."""
    w, x, y, z = qvec
    return np.array([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z])


def _draw(
    ax: Any,
    centre_n3: npt.NDArray[Any],
    look_n3: npt.NDArray[Any],
    plane_23: npt.NDArray[Any],
    length: float,
    color: str,
) -> None:
    from_n2, to_n2 = centre_n3 @ plane_23.T, (centre_n3 + length * look_n3) @ plane_23.T
    ax.plot(*np.stack([from_n2, to_n2]).transpose(2, 0, 1), "-", color=color, linewidth=1)
    ax.plot(*from_n2.T, "o", color=color, markersize=4)
