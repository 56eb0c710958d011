"""vladkit: VLAD vectors from local descriptors, and picture search from a folder.

Names are resolved when first used: ``import vladkit`` loads nothing but itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vladkit.duplicates import Difference, same_shot
    from vladkit.encoding import encode, segment_sum
    from vladkit.estimators import VLAD
    from vladkit.matching import Matches, match
    from vladkit.pipeline import Collection, Hit
    from vladkit.ragged import Ragged
    from vladkit.verification import Verification, verify, verify_all

__all__ = [
    "VLAD",
    "Collection",
    "Difference",
    "Hit",
    "Matches",
    "Ragged",
    "Verification",
    "__version__",
    "encode",
    "match",
    "same_shot",
    "segment_sum",
    "verify",
    "verify_all",
]

__version__ = "0.1.0"

_HOME = {
    "Collection": "vladkit.pipeline",
    "Difference": "vladkit.duplicates",
    "Hit": "vladkit.pipeline",
    "Matches": "vladkit.matching",
    "Ragged": "vladkit.ragged",
    "VLAD": "vladkit.estimators",
    "Verification": "vladkit.verification",
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
