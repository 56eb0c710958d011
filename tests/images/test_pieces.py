"""Strips and tiles of a TIFF: a damaged one is no black band, and a sound one is no damage."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from families import tiff_file
from images import gray, scene, textured, to_bytes
from vladkit.errors import ImageError
from vladkit.images import decode_image

tifffile = pytest.importorskip("tifffile", reason="comes with scikit-image")

RGB = np.asarray(scene(321, 240))
GRAY = RGB[:, :, 0].copy()
UNPACKED = "TIFF cannot be decoded|damaged TIFF: a strip or tile cannot be unpacked"


def written(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def place(data, i=1):
    """Begin and length of a piece."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return page.dataoffsets[i], page.databytecounts[i]


def replaced(data, at, body):
    return data[:at] + body + data[at + len(body) :]


STRIPS, TILES = {"rowsperstrip": 40}, {"tile": (64, 64)}
DEFLATED = {
    "strips": (RGB, STRIPS),
    "a predictor": (RGB, STRIPS | {"predictor": True}),
    "tiles": (RGB, TILES),
    "gray": (GRAY, STRIPS),
    "planes": (RGB.transpose(2, 0, 1), STRIPS | {"photometric": "rgb", "planarconfig": "separate"}),
    "bits": (GRAY > 128, STRIPS),
    "a palette": (GRAY, STRIPS | {"colormap": np.arange(768).reshape(3, 256).astype("u2") * 85}),
    "gray and opacity": (np.dstack([GRAY, GRAY])[:, :, :2], STRIPS | {"extrasamples": [2]}),
    "16 bits": (GRAY.astype("u2") * 257, STRIPS),
}


@pytest.mark.parametrize("form", DEFLATED)
@pytest.mark.parametrize("way", ["nonsense", "a checksum", "zeros to its end"])
def test_a_damaged_deflate_is_named(form, way):
    pixels, options = DEFLATED[form]
    data = written(np.ascontiguousarray(pixels), compression="zlib", **options)
    assert decode_image(data).width == 321
    begin, length = place(data)
    if way == "nonsense":
        data = replaced(data, begin + length // 2, b"\xff" * 20)
    elif way == "zeros to its end":
        data = replaced(data, begin + length // 2, bytes(length - length // 2))
    else:
        data = replaced(data, begin + length - 1, bytes([data[begin + length - 1] ^ 1]))
    with pytest.raises(ImageError, match=UNPACKED) as caught:
        decode_image(data)
    assert not caught.value.transient


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK"])
def test_a_damaged_lzw_is_named(mode):
    image = PilImage.fromarray(textured(321, 240)).convert("RGB").convert(mode)
    data = to_bytes(image, "TIFF", compression="tiff_lzw", strip_size=8000)
    assert decode_image(data).width == 321
    begin, length = place(data, 0)
    with pytest.raises(ImageError, match=UNPACKED):
        decode_image(replaced(data, begin + length // 2, b"\xff" * 20))


def test_packed_bytes_that_end_early_are_named():
    data = to_bytes(scene(321, 240), "TIFF", compression="packbits", strip_size=8000)
    begin, length = place(data)
    assert decode_image(data).width == 321
    with pytest.raises(ImageError, match=UNPACKED):
        decode_image(replaced(data, begin + length // 2, b"\x80" * (length - length // 2)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("where", "body", "reason"),
    [
        (0.0, b"no JPEG", "TIFF with JPEG compression cannot be decoded"),
        (0.7, bytes(100_000), "truncated TIFF: a JPEG in it has no end-of-image marker"),
        (0.0, b"\xff\xd8\xff\xda", "TIFF with JPEG compression cannot be decoded"),
        (0.7, b"\xff\xd8\xff\xe0", UNPACKED),
        (0.7, b"\xff\x02", UNPACKED),
    ],
)
def test_a_damaged_jpeg_is_named(mode, where, body, reason):
    image = PilImage.fromarray(textured(321, 240)).convert(mode)
    data = to_bytes(image, "TIFF", compression="jpeg", strip_size=321 * 3 * 48)
    assert decode_image(data).width == 321
    begin, length = place(data, 1)
    at = int(where * length)
    with pytest.raises(ImageError, match=reason):
        decode_image(replaced(data, begin + at, body[: length - at]))


def strips(*bodies, rows, compression=1, lengths=None):
    tags = {
        256: (4, [40]), 257: (4, [30]), 258: (3, [8]), 259: (3, [compression]), 262: (3, [1]),
        277: (3, [1]), 278: (4, [rows]),
    }  # fmt: skip
    if lengths:
        tags[279] = 4, lengths
    return tiff_file((tags, bodies, (273, 279)))


def test_strips_that_are_missing_or_short_are_named():
    body = bytes(range(200)) * 2  # 10 rows
    np.testing.assert_array_equal(
        decode_image(strips(body, body, body, rows=10)).gray_yx.reshape(-1), [*body * 3]
    )
    for bodies, rows in (([body, body], 10), ([body * 2], 30)):
        with pytest.raises(ImageError, match="TIFF cannot be decoded"):
            decode_image(strips(*bodies, rows=rows))
    with pytest.raises(ImageError, match="truncated TIFF: a strip or tile is too short"):
        decode_image(strips((body * 2)[:700], body, rows=20))


@pytest.mark.parametrize("compression", [1, 8])
def test_what_libtiff_finds_by_itself_is_read(compression):
    body = bytes(range(200)) * 6
    packed = zlib.compress(body) if compression == 8 else body
    for lengths in [[0], [len(packed)]] + [[17]] * (compression == 1):
        got = decode_image(strips(packed, rows=30, compression=compression, lengths=lengths))
        np.testing.assert_array_equal(got.gray_yx.reshape(-1), [*body])


def test_rows_past_the_end_do_not_matter():
    """Some writers fill the last strip up."""
    rows = np.zeros((32, 40), np.uint8)
    rows[:30] = textured(40, 30)
    bodies = [zlib.compress(part.tobytes()) for part in (rows[:16], rows[16:])]
    got = decode_image(strips(*bodies, rows=16, compression=8))
    np.testing.assert_array_equal(got.gray_yx, rows[:30])


def test_a_deflate_that_was_not_ended_is_read():
    """No checksum; libtiff does not ask for it."""
    packer = zlib.compressobj()
    rows = textured(40, 30)
    body = packer.compress(rows.tobytes()) + packer.flush(zlib.Z_SYNC_FLUSH)
    for each in (body, zlib.compress(rows.tobytes())[:-4]):
        got = decode_image(strips(each, rows=30, compression=8))
        np.testing.assert_array_equal(got.gray_yx, rows)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_piece_that_is_left_out_is_named(compression, kind):
    """GDAL leaves blank ones out if it may; OpenCV has the file's first bytes in their place."""
    data = written(GRAY.astype(kind), compression=compression, **TILES)
    assert decode_image(data).width == 321
    begin, _ = place(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags[324].valueoffset + 4
    assert struct.unpack_from("<I", data, at) == (begin,)
    with pytest.raises(ImageError, match=r"TIFF without all of its strips or tiles \(sparse\)"):
        decode_image(replaced(data, at, bytes(4)))


def test_a_strip_that_is_there_several_times():
    """Some writers keep equal ones once; but each is not the whole file."""
    body = zlib.compress(bytes(400))
    n = len(body)
    tags = {
        256: (4, [40]), 257: (4, [900]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1]),
        277: (3, [1]), 278: (4, [10]), 273: (4, [8] * 90), 279: (4, [n] * 90),
    }  # fmt: skip
    assert not decode_image(tiff_file((tags, [body], (273, 279)))).gray_yx.any()
    tags[279] = 4, [n + i for i in range(90)]
    with pytest.raises(ImageError, match="damaged TIFF: its strips or tiles overlap"):
        decode_image(tiff_file((tags, [body], (273, 279))))


COMPRESSIONS = ["tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "jpeg"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA"])
def test_sound_ones_are_read(compression, mode):
    sizes = [(321, 240), (1, 1), (1, 9), (3, 1)]
    for width, height in sizes + [(1901, 1301)] * (mode == "L"):  # a strip of more than 2 MB
        image = scene(width, height).convert(mode)
        for strip_size in (1, 8000, 1 << 30):
            if compression == "jpeg" and (mode in ("1", "P") or strip_size == 1):
                continue
            try:
                data = to_bytes(image, "TIFF", compression=compression, strip_size=strip_size)
            except OSError:  # a form that libtiff does not write
                continue
            read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
            if (mode, compression) == ("LA", "jpeg"):  # what is not seen is not told apart
                with pytest.raises(ImageError, match="TIFF of JPEG with opacity"):
                    decode_image(data)
            elif mode in ("RGBA", "LA"):
                assert decode_image(data).width == width
            else:
                np.testing.assert_array_equal(decode_image(data, max_side=None).gray_yx, read)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_blocks_of_colours_are_read(subsampling):
    """YCbCr without loss: for each block its gray levels, and then two numbers of colour."""
    across, down = subsampling
    w, h, rows = 42, 30, 16
    gray_yx = gray(scene(44, 32))
    bodies = []
    for top in (0, rows):
        part = gray_yx[top : top + (rows if not top else -(-(h - rows) // down) * down)]
        n_across, n_down = -(-w // across), len(part) // down
        blocks = part[:, : n_across * across].reshape(n_down, down, n_across, across)
        blocks = blocks.swapaxes(1, 2).reshape(n_down, n_across, -1)
        blocks = np.dstack([blocks, np.full((n_down, n_across, 2), 128, np.uint8)])
        bodies.append(zlib.compress(blocks.tobytes()))
    tags = {
        256: (4, [w]), 257: (4, [h]), 258: (3, [8, 8, 8]), 259: (3, [8]), 262: (3, [6]),
        277: (3, [3]), 278: (4, [rows]), 530: (3, [across, down]),
    }  # fmt: skip
    got = decode_image(tiff_file((tags, bodies, (273, 279)))).gray_yx
    assert np.abs(got.astype(int) - gray_yx[:h, :w]).max() <= 1
    with pytest.raises(ImageError, match=UNPACKED):
        decode_image(tiff_file((tags, [bodies[0], bodies[1][:-30]], (273, 279))))
