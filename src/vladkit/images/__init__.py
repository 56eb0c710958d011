"""Images: decoding, headers, regions and thumbnails."""
