"""Local features of images: extractors, SIFT, and features of other programs.

Importing this imports no OpenCV; using it does.
"""

from vladkit.features.registry import extractor_names, make_extractor
from vladkit.features.sift import Sift
from vladkit.features.types import (
    Extractor,
    Features,
    MatchRule,
    Parameter,
    check_features,
    has_local,
    match_rule,
    vector_dimensions,
    wants_color,
)

__all__ = [
    "Extractor",
    "Features",
    "MatchRule",
    "Parameter",
    "Sift",
    "check_features",
    "extractor_names",
    "has_local",
    "make_extractor",
    "match_rule",
    "vector_dimensions",
    "wants_color",
]
