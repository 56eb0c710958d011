"""From pictures to local features. Importing this imports no OpenCV; using it does."""

from vladkit.features.extractor import (
    Extractor,
    Features,
    Parameter,
    extractor_names,
    make_extractor,
)
from vladkit.features.picture import (
    MAX_BYTES,
    MAX_PIXELS,
    Picture,
    decode_gray,
    decoder_facts,
    is_picture_name,
    read_gray,
)
from vladkit.features.sift import Sift, one_opencv_thread

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "Extractor",
    "Features",
    "Parameter",
    "Picture",
    "Sift",
    "decode_gray",
    "decoder_facts",
    "extractor_names",
    "is_picture_name",
    "make_extractor",
    "one_opencv_thread",
    "read_gray",
]
