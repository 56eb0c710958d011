"""vladkit: VLAD vectors from local descriptors, and image search from a folder.

Names are resolved when first used: ``import vladkit`` loads nothing but itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vladkit.core.version import __version__

if TYPE_CHECKING:
    from vladkit.aggregation.aggregate import Aggregate
    from vladkit.aggregation.encode import encode, segment_sum
    from vladkit.aggregation.multi import MultiVLAD
    from vladkit.aggregation.query_expansion import (
        alpha_query_expansion,
        augment_database,
        average_query_expansion,
    )
    from vladkit.aggregation.vlad import VLAD
    from vladkit.aggregation.whitening import Whitening
    from vladkit.collection.collection import Collection, Hit
    from vladkit.core.ragged import Ragged
    from vladkit.geometry.matching import Matches, match
    from vladkit.geometry.same_shot import Difference, same_shot
    from vladkit.geometry.verification import Verification, verify, verify_all

__all__ = [
    "VLAD",
    "Aggregate",
    "Collection",
    "Difference",
    "Hit",
    "Matches",
    "MultiVLAD",
    "Ragged",
    "Verification",
    "Whitening",
    "__version__",
    "alpha_query_expansion",
    "augment_database",
    "average_query_expansion",
    "encode",
    "match",
    "same_shot",
    "segment_sum",
    "verify",
    "verify_all",
]

_HOME = {
    "Aggregate": "vladkit.aggregation.aggregate",
    "Collection": "vladkit.collection.collection",
    "Difference": "vladkit.geometry.same_shot",
    "Hit": "vladkit.collection.collection",
    "Matches": "vladkit.geometry.matching",
    "MultiVLAD": "vladkit.aggregation.multi",
    "Ragged": "vladkit.core.ragged",
    "VLAD": "vladkit.aggregation.vlad",
    "Verification": "vladkit.geometry.verification",
    "Whitening": "vladkit.aggregation.whitening",
    "alpha_query_expansion": "vladkit.aggregation.query_expansion",
    "augment_database": "vladkit.aggregation.query_expansion",
    "average_query_expansion": "vladkit.aggregation.query_expansion",
    "encode": "vladkit.aggregation.encode",
    "match": "vladkit.geometry.matching",
    "same_shot": "vladkit.geometry.same_shot",
    "segment_sum": "vladkit.aggregation.encode",
    "verify": "vladkit.geometry.verification",
    "verify_all": "vladkit.geometry.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vladkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
