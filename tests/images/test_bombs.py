"""Small files that say that they are large: refused before time or memory is spent on them."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from images import scene, textured
from vladkit.errors import ImageError
from vladkit.features import Sift
from vladkit.features.pool import Extraction, extract_data
from vladkit.images import decode_image, directory

MANY = 25_000


def jpeg(width, height, *, in_scan, frame=0xC0, n_scans=1):
    """Three channels, of which a scan has `in_scan`; the pixels are all alike."""
    out = b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    channels = b"".join(bytes([i + 1, 0x11, 0]) for i in range(3))
    out += bytes([0xFF, frame]) + struct.pack(">HBHHB", 17, 8, height, width, 3) + channels
    for table in (0x00, 0x10):
        out += b"\xff\xc4" + struct.pack(">H", 20) + bytes([table, 1, *[0] * 16])
    names = b"".join(bytes([i + 1, 0]) for i in range(in_scan))
    scan = b"\xff\xda" + struct.pack(">HB", 6 + 2 * in_scan, in_scan) + names + bytes([0, 63, 0])
    return out + (scan + b"\0" * 200) * n_scans + b"\xff\xd9"


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND")


def blank_png(width, height, depth, kind):
    """All of one colour: a thousandth of the size in memory, or less."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", bytes(1000)) + chunk(b"IEND")


def blank_webp(width, height):
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(1000)
    parts = (b"VP8X", bytes(4) + size), (b"VP8 ", frame)
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d for k, d in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def entry(tag, count, value):
    return struct.pack("<HHII", tag, 4, count, value)


def tiff(*entries, rest=b""):
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + rest


def tiff_pages(n, *entries):
    """Directories one after the other, each with the same entries."""
    size = 2 + 12 * len(entries) + 4
    out = b"II*\0" + struct.pack("<I", 8)
    for i in range(n):
        following = 8 + size * (i + 1) if i < n - 1 else 0
        out += struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)
    return out


def tiff_within_each_other(size):
    """Directories of 65,535 entries, each of which begins 6 bytes after the last."""
    out, at, span = bytearray(b"\xff" * size), 8, 2 + 12 * 65535
    out[:8] = b"II*\0" + struct.pack("<I", 8)
    while at + 6 + span + 4 <= size:
        out[at + span : at + span + 4] = struct.pack("<I", at + 6)
        at += 6
    out[at + span : at + span + 4] = bytes(4)
    return bytes(out)


def webp(n):
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10) + (b"XXXX" + bytes(4)) * n
    return b"RIFF" + struct.pack("<I", len(body)) + body


SIZE = entry(256, 1, 10), entry(257, 1, 10)

BOMBS = {
    "JPEG, a scan for each channel": (lambda: jpeg(56000, 56000, in_scan=1), "too many pixels"),
    "JPEG, the same of 12 bits": (
        lambda: jpeg(56000, 56000, in_scan=1, frame=0xC1),
        "too many pixels",
    ),
    "JPEG, progressive": (lambda: jpeg(56000, 56000, in_scan=3, frame=0xC2), "too many pixels"),
    "JPEG, 2,000 scans": (
        lambda: jpeg(7000, 7000, in_scan=1, frame=0xC2, n_scans=2000),
        "2,000 scans of 7000x7000 px, too many",
    ),
    "JPEG, segments": (lambda: b"\xff\xd8" + b"\xff\xe0\0\2" * MANY, "JPEG: more than 20,000"),
    "JPEG, filling": (lambda: b"\xff\xd8" + b"\xff" * (8 << 20), "truncated JPEG"),
    "PNG, empty chunks": (lambda: png(*[chunk(b"IDAT")] * MANY), "PNG: more than 20,000 parts"),
    "PNG, optional chunks": (lambda: png(*[chunk(b"teXt")] * MANY), "PNG: more than 20,000 parts"),
    "WebP, empty chunks": (lambda: webp(MANY), "WebP: more than 20,000 parts"),
    "TIFF, empty pages": (lambda: tiff_pages(MANY), "TIFF: more than 20,000 parts"),
    "TIFF, pages with the whole file": (
        lambda: tiff_pages(3000, entry(273, 3000 * 18 // 4, 8)),
        "TIFF: its parts overlap",
    ),
    "TIFF, pages within each other": (
        lambda: tiff_within_each_other(1_600_000),
        "TIFF: (its parts overlap|more than 20,000 parts)",
    ),
    "TIFF, width twice": (
        lambda: tiff(entry(256, 1, 30000), *SIZE),
        "TIFF: tag 256 is there twice",
    ),
    "TIFF, height twice": (lambda: tiff(*SIZE, entry(257, 1, 9)), "TIFF: tag 257 is there twice"),
    "TIFF, a tile": (
        lambda: tiff(*SIZE, entry(322, 1, 40000), entry(323, 1, 40000)),
        "a tile of 1600 million pixels",
    ),
    "PNG, deep and blank": (
        lambda: blank_png(12_000, 12_000, 16, 2),
        "12000x12000 px take 1,728 MB, too much for a file of 1 kB",
    ),
    "WebP, blank": (
        lambda: blank_webp(14_000, 14_000),
        "14000x14000 px take 784 MB, too much for a file of 1 kB",
    ),
    "PNM, blanks": (lambda: b"P5" + b" " * (8 << 20), "PNM: no size in its first 65,536 bytes"),
    "PNM, comments": (lambda: b"P5\n" + b"#\n" * (4 << 20), "PNM: no size in its first"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_is_refused_from_its_header(name, monkeypatch):
    monkeypatch.setattr(directory, "_MOST_PARTS", 20_000)  # a tenth: tracing memory takes long
    make, reason = BOMBS[name]
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=reason):
            decode_image(data, max_side=640)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_what_comes_out_is_measured_too(monkeypatch):
    """Whatever the header says, and the decoder makes of it."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((300, 300), np.uint8))
    with pytest.raises(ImageError, match="too many pixels: 300x300"):
        decode_image(png(chunk(b"IDAT", zlib.compress(bytes(65 * 64)))), max_pixels=10_000)


class TestWhatIsNoBomb:
    def test_jpeg_with_a_scan_for_each_channel(self):
        assert decode_image(jpeg(64, 48, in_scan=1), color=True).width == 64

    def test_large_jpeg_that_is_decoded_row_by_row(self):
        data = jpeg(4096, 2048, in_scan=3)  # at 1/8: 512 x 256
        assert decode_image(data, max_side=256, max_pixels=140_000).width == 4096

    def test_jpeg_with_filling(self):
        plain = io.BytesIO()
        scene().save(plain, format="JPEG")
        data = plain.getvalue()
        filled = data[:2] + b"\xff" * 100_000 + data[2:]
        np.testing.assert_array_equal(decode_image(filled).gray_yx, decode_image(data).gray_yx)

    def test_progressive_jpeg_with_many_scans(self):
        plain = io.BytesIO()
        scene().save(plain, format="JPEG", progressive=True)
        assert decode_image(plain.getvalue()).width == 320

    def test_png_in_pieces(self):
        data = cv2.imencode(".png", textured(64, 64))[1].tobytes()
        at = data.index(b"IDAT") + 4
        (n,) = struct.unpack(">I", data[at - 8 : at - 4])
        pieces = []
        for i in range(n):  # with something optional, or nothing, between
            pieces += [chunk(b"IDAT", data[at + i : at + i + 1]), chunk(b"IDAT"), chunk(b"teXt")]
        np.testing.assert_array_equal(
            decode_image(png(*pieces)).gray_yx, decode_image(data).gray_yx
        )

    def test_tiff_of_many_pages_and_strips(self):
        pages = [PilImage.fromarray(textured(40, 200, seed=i)) for i in range(60)]
        file = io.BytesIO()
        pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], tiffinfo={278: 1})
        np.testing.assert_array_equal(decode_image(file.getvalue()).gray_yx, textured(40, 200))


class TestMemory:
    """Where it does not suffice, an image is skipped, and may be tried again."""

    @pytest.mark.parametrize("error", [MemoryError(), cv2.error("no memory")])
    def test_is_a_reason(self, monkeypatch, error):
        def fail(*_, **__):
            raise error

        if isinstance(error, cv2.error):
            error.code = cv2.Error.StsNoMem
        monkeypatch.setattr(cv2, "resize", fail)
        data = cv2.imencode(".png", textured(900, 700))[1].tobytes()
        with pytest.raises(ImageError, match="not enough memory") as caught:
            extract_data(Sift(), data)
        assert caught.value.transient

    def test_of_one_image_leaves_the_others(self):
        def read(item):
            if item == 1:
                raise MemoryError
            return item

        with Extraction.on_threads(Sift(), 2, 3, read) as extraction:
            found = list(extraction.run(range(3)))
        assert found[::2] == [0, 2]
        assert isinstance(found[1], ImageError)
        assert found[1].transient

    def test_other_errors_are_not_hidden(self):
        def read(item):
            raise RuntimeError("mine")

        with (
            Extraction.on_threads(Sift(), 1, 1, read) as extraction,
            pytest.raises(RuntimeError, match="mine"),
        ):
            list(extraction.run([0]))
