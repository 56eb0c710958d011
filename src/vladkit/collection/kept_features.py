"""Features as a collection file keeps them, and back."""

from __future__ import annotations

import numpy as np

from vladkit.features import Features
from vladkit.store.rows import KeptFeatures

__all__ = ["pack_features", "unpack_features"]


def pack_features(features: Features) -> KeptFeatures:
    """Arrange features for the file."""
    columns = features.xy_l2, features.size_l, features.angle_l, features.score_l
    size = features.width, features.height
    return KeptFeatures(features.descriptor_lf, np.column_stack(columns), *size)


def unpack_features(kept: KeptFeatures) -> Features:
    """Features as an extractor gives them, from what `pack_features` made."""
    xy_l2, (size_l, angle_l, score_l) = kept.geometry_l5[:, :2], kept.geometry_l5[:, 2:].T
    return Features(
        kept.descriptor_lf, xy_l2, size_l, angle_l, score_l, width=kept.width, height=kept.height
    )
