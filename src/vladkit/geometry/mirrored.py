"""Mirror images: an image flipped left to right, and its matches brought back to the image.

Axes: ``m`` matches, ``2`` is x, y.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vladkit.features import Features
from vladkit.geometry.verification import Verification
from vladkit.images import Image, Region

__all__ = ["flipped", "mirrored_part", "unmirrored"]


def flipped(image: Image) -> Image:
    """An image flipped left to right; a part of an image becomes an image of its own."""
    pixels = np.ascontiguousarray(image.pixels[:, ::-1])
    return replace(image, pixels=pixels, region=None, whole=None)


def mirrored_part(features: Features) -> Region:
    """The part of the original image that features are of, and those of its mirror image."""
    return features.region or Region(0, 0, features.width, features.height)


def unmirrored(found: Verification, part: Region) -> Verification:
    """Matches of the mirror image of a query, in px of the query itself.

    Parameters
    ----------
    found : Verification
        Of a query's mirror image, flipped left to right, with another image.
    part : Region
        The part of the query that was flipped, see `mirrored_part`.

    Returns
    -------
    Verification
        The same inliers; the transform takes px of the query to px of the other image, and
        mirrors them.

    Examples
    --------
    >>> xy_m2 = np.array([[0, 5], [9, 5]], np.float32)
    >>> found = Verification(2, np.eye(3), xy_m2, xy_m2, "homography")
    >>> back = unmirrored(found, Region(0, 0, 10, 8))
    >>> back.query_xy_m2.tolist(), back.transform_33.tolist()
    ([[9.0, 5.0], [0.0, 5.0]], [[-1.0, 0.0, 9.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    right = part.left + part.width - 1
    sign_2, corner_2 = np.array([-1, 1], np.float32), np.array([right, part.top], np.float32)
    query_xy_m2 = found.query_xy_m2 * sign_2 + corner_2
    transform_33 = found.transform_33
    if transform_33 is not None:
        to_mirror_33 = np.array([[-1, 0, right], [0, 1, -part.top], [0, 0, 1]], np.float64)
        transform_33 = transform_33 @ to_mirror_33
        if found.model == "fundamental":
            transform_33 = transform_33 / np.linalg.norm(transform_33)
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                transform_33 = transform_33 / transform_33[2, 2]
            if not np.isfinite(transform_33).all():  # the top-left pixel is on the horizon
                transform_33 = None
    return replace(found, query_xy_m2=query_xy_m2, transform_33=transform_33)
