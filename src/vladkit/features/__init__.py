"""From images to local features. Importing this imports no OpenCV; using it does."""

from vladkit.features.registry import extractor_names, make_extractor
from vladkit.features.sift import Sift, one_opencv_thread
from vladkit.features.types import (
    Extractor,
    Features,
    MatchRule,
    Parameter,
    match_rule,
    wants_color,
)
from vladkit.images.decode import (
    MAX_BYTES,
    MAX_PIXELS,
    ColorImage,
    Image,
    decode_gray,
    decode_image,
    decode_rgb,
    decoder_facts,
    is_image_name,
    read_gray,
    read_rgb,
)
from vladkit.images.region import Region

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "ColorImage",
    "Extractor",
    "Features",
    "Image",
    "MatchRule",
    "Parameter",
    "Region",
    "Sift",
    "decode_gray",
    "decode_image",
    "decode_rgb",
    "decoder_facts",
    "extractor_names",
    "is_image_name",
    "make_extractor",
    "match_rule",
    "one_opencv_thread",
    "read_gray",
    "read_rgb",
    "wants_color",
]
