"""Features as a collection file keeps them, and back."""

from __future__ import annotations

import numpy as np

from vladkit.collection.descriptor_quantizer import DescriptorQuantizer
from vladkit.features import Features
from vladkit.features.types import assumed_size
from vladkit.store.rows import KeptFeatures

__all__ = ["pack_features", "unpack_features"]


def pack_features(features: Features, quantizer: DescriptorQuantizer | None = None) -> KeptFeatures:
    """Arrange features for the file: as codes, if there is a quantizer that suits them."""
    columns = features.xy_l2, features.size_l, features.angle_l, features.score_l
    geometry_l5 = np.column_stack(columns)
    size = (features.width, features.height) if features.has_size else (0, 0)
    code_lb = quantizer.encode(features.descriptor_lf) if quantizer else None
    if code_lb is None:
        return KeptFeatures(features.descriptor_lf, geometry_l5, *size)
    return KeptFeatures(code_lb, geometry_l5, *size, is_coded=True)


def unpack_features(kept: KeptFeatures, quantizer: DescriptorQuantizer | None = None) -> Features:
    """Features nearly as an extractor gave them, from what `pack_features` made.

    Exactly so, unless they are coded: these need the quantizer that made the codes.
    """
    descriptor_lf = kept.descriptor_lf
    if kept.is_coded:
        assert quantizer is not None, "what encoded descriptors is kept as long as these"
        descriptor_lf = quantizer.decode(descriptor_lf)
    xy_l2, (size_l, angle_l, score_l) = kept.geometry_l5[:, :2], kept.geometry_l5[:, 2:].T
    has_size = kept.width > 0 and kept.height > 0
    width, height = (kept.width, kept.height) if has_size else assumed_size(xy_l2)
    columns = xy_l2, size_l, angle_l, score_l
    return Features(descriptor_lf, *columns, width=width, height=height, has_size=has_size)
