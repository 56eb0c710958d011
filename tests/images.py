"""Images to test with: one scene, written in every format that vladkit reads."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

ORIENTATION = 0x112


def scene(width: int = 320, height: int = 240, seed: int = 0) -> PilImage.Image:
    """Smooth colours over the full range, with corners marked so that no turn looks like another.

    Smooth, so that lossy formats and scaling stay close; a white and a black patch at the top left.
    """
    rng = np.random.default_rng(seed)
    coarse = PilImage.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    rgb = np.asarray(coarse.resize((width, height), PilImage.Resampling.BICUBIC)).copy()
    rgb[: height // 4, : width // 4] = 255
    rgb[height // 4 : height // 2, : width // 4] = 0
    return PilImage.fromarray(rgb)


def textured(width: int = 320, height: int = 240, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Gray blobs of many sizes: plenty of SIFT features, as a real image has."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cells in (8, 20, 50, 120):
        layer = rng.standard_normal((cells * height // width + 2, cells + 2)).astype(np.float32)
        total += np.asarray(
            PilImage.fromarray(layer).resize((width, height), PilImage.Resampling.BICUBIC)
        )
    total = (total - total.min()) / (total.max() - total.min())
    return (total * 255).astype(np.uint8)


def to_bytes(image: PilImage.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    """The file that Pillow would write."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gray(image: PilImage.Image) -> npt.NDArray[np.uint8]:
    """Pillow's gray of an image: the independent reference."""
    return np.asarray(image.convert("L"))


def with_orientation(image: PilImage.Image, format: str, orientation: int) -> bytes:  # noqa: A002
    """A file whose pixels are stored as `image` and marked to be turned."""
    if format == "TIFF":
        return to_bytes(image, format, tiffinfo={ORIENTATION: orientation})
    exif = PilImage.Exif()
    exif[ORIENTATION] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    return to_bytes(image, format, exif=exif, **options)


def every_format(image: PilImage.Image) -> dict[str, tuple[bytes, PilImage.Image]]:
    """Name of a variant -> its file, and the image that the file really holds."""
    one_bit, palette = image.convert("1"), image.convert("P")
    deep_yx = gray(image).astype(np.uint16) * 257
    deep = PilImage.fromarray(deep_yx)
    turned = image.transpose(PilImage.Transpose.ROTATE_180)
    h, w = deep_yx.shape
    animated = {"save_all": True, "append_images": [turned]}
    gif = to_bytes(image, "GIF")
    return {
        "JPEG": (to_bytes(image, "JPEG", quality=95), image),
        "JPEG progressive": (to_bytes(image, "JPEG", quality=95, progressive=True), image),
        "JPEG gray": (to_bytes(image.convert("L"), "JPEG", quality=95), image),
        "JPEG CMYK": (to_bytes(image.convert("CMYK"), "JPEG", quality=95), image),
        "PNG": (to_bytes(image, "PNG"), image),
        "PNG RGBA": (to_bytes(image.convert("RGBA"), "PNG"), image),
        "PNG LA": (to_bytes(image.convert("LA"), "PNG"), image),
        "PNG palette": (to_bytes(palette, "PNG"), palette.convert("RGB")),
        "PNG 1 bit": (to_bytes(one_bit, "PNG"), one_bit),
        "PNG 16 bit": (to_bytes(deep, "PNG"), image),
        "PNG animated": (to_bytes(image, "PNG", **animated), image),
        "WebP": (to_bytes(image, "WEBP", quality=95), image),
        "WebP lossless": (to_bytes(image, "WEBP", lossless=True), image),
        "WebP RGBA": (to_bytes(image.convert("RGBA"), "WEBP", lossless=True), image),
        "WebP animated": (to_bytes(image, "WEBP", lossless=True, **animated), image),
        "TIFF": (to_bytes(image, "TIFF"), image),
        "TIFF LZW": (to_bytes(image, "TIFF", compression="tiff_lzw"), image),
        "TIFF deflate": (to_bytes(image, "TIFF", compression="tiff_adobe_deflate"), image),
        "TIFF JPEG": (to_bytes(image, "TIFF", compression="jpeg", quality=95), image),
        "TIFF fax": (to_bytes(one_bit, "TIFF", compression="group4"), one_bit),
        "TIFF 1 bit": (to_bytes(one_bit, "TIFF"), one_bit),
        "TIFF palette": (to_bytes(palette, "TIFF"), palette.convert("RGB")),
        "TIFF 16 bit": (to_bytes(deep, "TIFF"), image),
        "TIFF CMYK": (to_bytes(image.convert("CMYK"), "TIFF"), image),
        "TIFF RGBA": (to_bytes(image.convert("RGBA"), "TIFF"), image),
        "TIFF pages": (to_bytes(image, "TIFF", **animated), image),
        "GIF": (gif, PilImage.open(io.BytesIO(gif)).convert("RGB")),
        "GIF animated": (to_bytes(palette, "GIF", **animated), palette.convert("RGB")),
        "BMP": (to_bytes(image, "BMP"), image),
        "BMP palette": (to_bytes(palette, "BMP"), palette.convert("RGB")),
        "BMP 1 bit": (to_bytes(one_bit, "BMP"), one_bit),
        "BMP run-length": (run_length_bmp(gray(image)), image),
        "PPM": (to_bytes(image, "PPM"), image),
        "PGM": (to_bytes(image.convert("L"), "PPM"), image),
        "PGM 16 bit": (b"P5 %d %d 65535\n" % (w, h) + deep_yx.astype(">u2").tobytes(), image),
        "PBM": (to_bytes(one_bit, "PPM"), one_bit),
    }


def run_length_bmp(gray_yx: npt.NDArray[np.uint8]) -> bytes:
    """A BMP of kind RLE8, which Pillow cannot write: each px as a run of one."""
    h, w = gray_yx.shape
    rows = b"".join(b"".join(bytes((1, v)) for v in row) + b"\0\0" for row in gray_yx[::-1])
    pixels = rows[:-2] + b"\0\1"
    palette = b"".join(bytes((v, v, v, 0)) for v in range(256))
    start = 14 + 40 + len(palette)
    return (
        struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
        + struct.pack("<IiiHHIIiiII", 40, w, h, 1, 8, 1, len(pixels), 2835, 2835, 256, 256)
        + palette
        + pixels
    )


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
