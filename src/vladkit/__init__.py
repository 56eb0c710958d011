"""vladkit: VLAD vectors from local descriptors, and image search from a folder.

Names are imported when they are first used: ``import vladkit`` loads nothing but itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vladkit.core.version import __version__

if TYPE_CHECKING:  # each name once more, so that editors and type checkers see them
    from vladkit.aggregation.aggregate import Aggregate as Aggregate
    from vladkit.aggregation.asmk import ASMK as ASMK
    from vladkit.aggregation.encode import encode as encode
    from vladkit.aggregation.fisher import Fisher as Fisher
    from vladkit.aggregation.multi import MultiVLAD as MultiVLAD
    from vladkit.aggregation.query_expansion import alpha_query_expansion as alpha_query_expansion
    from vladkit.aggregation.query_expansion import augment_database as augment_database
    from vladkit.aggregation.query_expansion import (
        average_query_expansion as average_query_expansion,
    )
    from vladkit.aggregation.segments import segment_reduce as segment_reduce
    from vladkit.aggregation.segments import segment_sum as segment_sum
    from vladkit.aggregation.vlad import VLAD as VLAD
    from vladkit.aggregation.whitening import Whitening as Whitening
    from vladkit.collection.collection import Collection as Collection
    from vladkit.collection.collection import Hit as Hit
    from vladkit.collection.where import Where as Where
    from vladkit.core.codes import Codes as Codes
    from vladkit.core.ragged import Ragged as Ragged
    from vladkit.geometry.matching import Matches as Matches
    from vladkit.geometry.matching import match as match
    from vladkit.geometry.same_shot import Difference as Difference
    from vladkit.geometry.same_shot import same_shot as same_shot
    from vladkit.geometry.verification import Verification as Verification
    from vladkit.geometry.verification import verify as verify
    from vladkit.geometry.verification import verify_all as verify_all

_HOME = {
    "ASMK": "vladkit.aggregation.asmk",
    "Aggregate": "vladkit.aggregation.aggregate",
    "Codes": "vladkit.core.codes",
    "Collection": "vladkit.collection.collection",
    "Difference": "vladkit.geometry.same_shot",
    "Fisher": "vladkit.aggregation.fisher",
    "Hit": "vladkit.collection.collection",
    "Matches": "vladkit.geometry.matching",
    "MultiVLAD": "vladkit.aggregation.multi",
    "Ragged": "vladkit.core.ragged",
    "VLAD": "vladkit.aggregation.vlad",
    "Verification": "vladkit.geometry.verification",
    "Where": "vladkit.collection.where",
    "Whitening": "vladkit.aggregation.whitening",
    "alpha_query_expansion": "vladkit.aggregation.query_expansion",
    "augment_database": "vladkit.aggregation.query_expansion",
    "average_query_expansion": "vladkit.aggregation.query_expansion",
    "encode": "vladkit.aggregation.encode",
    "match": "vladkit.geometry.matching",
    "same_shot": "vladkit.geometry.same_shot",
    "segment_reduce": "vladkit.aggregation.segments",
    "segment_sum": "vladkit.aggregation.segments",
    "verify": "vladkit.geometry.verification",
    "verify_all": "vladkit.geometry.verification",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vladkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
