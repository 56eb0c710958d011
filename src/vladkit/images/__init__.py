"""Images as pixels: files, headers, decoding, regions and thumbnails.

Importing this imports no OpenCV; decoding does.
"""

from vladkit.images.decode import MAX_PIXELS, decode_image, decoder_facts, read_image
from vladkit.images.exif import Photo
from vladkit.images.files import MAX_BYTES, is_image_name, read_bytes
from vladkit.images.image import Image
from vladkit.images.opencv import one_opencv_thread
from vladkit.images.region import Region
from vladkit.images.thumbnail import as_jpeg

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "Image",
    "Photo",
    "Region",
    "as_jpeg",
    "decode_image",
    "decoder_facts",
    "is_image_name",
    "one_opencv_thread",
    "read_bytes",
    "read_image",
]
