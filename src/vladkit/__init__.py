"""vladkit: VLAD vectors from local descriptors, and picture search from a folder.

Names are resolved when first used: ``import vladkit`` loads nothing but itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vladkit.encoding import encode, segment_sum
    from vladkit.estimators import VLAD
    from vladkit.pipeline import Collection, Hit
    from vladkit.ragged import Ragged

__all__ = ["VLAD", "Collection", "Hit", "Ragged", "__version__", "encode", "segment_sum"]

__version__ = "0.1.0"

_HOME = {
    "Collection": "vladkit.pipeline",
    "Hit": "vladkit.pipeline",
    "Ragged": "vladkit.ragged",
    "VLAD": "vladkit.estimators",
    "encode": "vladkit.encoding",
    "segment_sum": "vladkit.encoding",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vladkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
