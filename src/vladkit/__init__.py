"""vladkit: VLAD vectors from local descriptors, and picture search from a folder.

Names are resolved when first used: ``import vladkit`` loads nothing but itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vladkit.version import __version__

if TYPE_CHECKING:
    from vladkit.aggregates import Aggregate
    from vladkit.duplicates import Difference, same_shot
    from vladkit.encoding import encode, segment_sum
    from vladkit.estimators import VLAD
    from vladkit.expansion import alpha_query_expansion, augment_database, average_query_expansion
    from vladkit.matching import Matches, match
    from vladkit.pipeline import Collection, Hit
    from vladkit.ragged import Ragged
    from vladkit.verification import Verification, verify, verify_all
    from vladkit.vocabularies import MultiVLAD
    from vladkit.whitening import Whitening

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
    "Aggregate": "vladkit.aggregates",
    "Collection": "vladkit.pipeline",
    "Difference": "vladkit.duplicates",
    "Hit": "vladkit.pipeline",
    "Matches": "vladkit.matching",
    "MultiVLAD": "vladkit.vocabularies",
    "Ragged": "vladkit.ragged",
    "VLAD": "vladkit.estimators",
    "Verification": "vladkit.verification",
    "Whitening": "vladkit.whitening",
    "alpha_query_expansion": "vladkit.expansion",
    "augment_database": "vladkit.expansion",
    "average_query_expansion": "vladkit.expansion",
    "encode": "vladkit.encoding",
    "match": "vladkit.matching",
    "same_shot": "vladkit.duplicates",
    "segment_sum": "vladkit.encoding",
    "verify": "vladkit.verification",
    "verify_all": "vladkit.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vladkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
