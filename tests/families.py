"""Image files made by the thousand: each by a seed, with the pixels that it holds.

Writers of our own, so that every place, depth and order is at hand: those of Pillow write what is
usual. Nothing here reads a file.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from images import png_chunk, scene, to_bytes

Rng = np.random.Generator
Array = npt.NDArray[Any]


def small_scene(rng: Rng) -> PilImage.Image:
    """A scene of odd sizes; no turn of it looks like another."""
    return scene(int(rng.integers(40, 90)), int(rng.integers(30, 80)), int(rng.integers(100)))


# TIFF


def tiff_page(sample_yxc: Array, rng: Rng, *, order: str, bits: int = 0, **tags: Any) -> Any:
    """Tags and pieces of a page, in strips or tiles, plain or packed, with a predictor or none."""
    h, w, c = sample_yxc.shape
    dtype = sample_yxc.dtype
    predictors = [1] if bits else [1, 2] if dtype.kind != "f" else [1, 3]
    predictor = int(rng.choice(predictors))
    packed = bool(predictor > 1 or rng.random() < 0.5)
    separate = c > 1 and rng.random() < 0.3
    tile = rng.random() < 0.4
    sides = (int(side) for side in rng.choice([16, 48, 64, 112], 2))
    tile_w, tile_h = sides if tile else (w, int(rng.integers(1, h + 1)))
    planes = [sample_yxc[:, :, i : i + 1] for i in range(c)] if separate else [sample_yxc]
    pieces = []
    for plane in planes:
        for y in range(0, h, tile_h):
            for x in range(0, w, tile_w):
                piece = plane[y : y + tile_h, x : x + tile_w]
                if tile:
                    rest = tile_h - piece.shape[0], tile_w - piece.shape[1]
                    piece = np.pad(piece, ((0, rest[0]), (0, rest[1]), (0, 0)))
                body = _rows(piece, predictor, order, bits)
                pieces.append(zlib.compress(body) if packed else body)
    kind = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    entries = {
        256: (4, [w]),
        257: (4, [h]),
        258: (3, [bits or 8 * dtype.itemsize] * c),
        259: (3, [8 if packed else 1]),
        262: (3, [tags.get("photometric", 2 if c >= 3 else 1)]),
        277: (3, [c]),
        284: (3, [2 if separate else 1]),
        317: (3, [predictor]),
        339: (3, [kind] * c),
    }
    entries |= {322: (3, [tile_w]), 323: (3, [tile_h])} if tile else {278: (4, [tile_h])}
    if tags.get("extra"):
        entries[338] = 3, tags["extra"]
    if tags.get("orientation"):
        entries[274] = 3, [tags["orientation"]]
    if tags.get("xmp"):
        entries[700] = 7, tags["xmp"]
    if tags.get("nothing"):
        entries[42113] = 2, tags["nothing"]
    if tags.get("subfile"):
        entries[254] = 4, [tags["subfile"]]
    return entries, pieces, (324, 325) if tile else (273, 279)


def _rows(piece_yxc: Array, predictor: int, order: str, bits: int) -> bytes:
    h = len(piece_yxc)
    if bits:
        bit = piece_yxc.reshape(h, -1, 1).astype(int) >> np.arange(bits)[::-1] & 1
        return np.packbits(bit.reshape(h, -1).astype(np.uint8), axis=1).tobytes()
    size = piece_yxc.dtype.itemsize
    number = np.ascontiguousarray(piece_yxc).view(f"u{size}")
    if predictor == 2:
        number = np.diff(number, axis=1, prepend=np.zeros_like(number[:, :1]))
    if predictor == 3:
        byte = number.astype(f">u{size}").reshape(h, -1, 1).view(np.uint8).swapaxes(1, 2)
        byte = byte.reshape(h, -1, piece_yxc.shape[2])
        return np.diff(byte, axis=1, prepend=np.zeros_like(byte[:, :1])).tobytes()
    return number.astype(f"{order}u{size}").tobytes()


TIFF_LETTERS = {
    1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I",
    16: "Q", 17: "q", 18: "Q",
}  # fmt: skip


def tiff_file(*pages: Any, order: str = "<", big: bool = False) -> bytes:
    """A TIFF or BigTIFF of such pages."""
    word, n_head = ("Q", 16) if big else ("I", 8)
    body, link, links = b"", n_head - struct.calcsize(word), {}
    for tags, pieces, names in pages:
        starts = []
        for piece in pieces:
            starts.append(n_head + len(body))
            body += piece + bytes(len(piece) % 2)
        code = 16 if big else 4
        entries = {names[0]: (code, starts), names[1]: (code, [len(p) for p in pieces])} | tags
        directory = struct.pack(order + ("Q" if big else "H"), len(entries))
        for tag, (kind, values) in sorted(entries.items()):
            letter = TIFF_LETTERS[kind]
            value = struct.pack(f"{order}{len(values)}{letter}", *values)
            if len(value) > struct.calcsize(word):
                where = n_head + len(body)
                body += value + bytes(len(value) % 2)
                value = struct.pack(order + word, where)
            value = value.ljust(struct.calcsize(word), b"\0")
            directory += struct.pack(order + "HH" + word, tag, kind, len(values)) + value
        links[link] = n_head + len(body)
        link = n_head + len(body) + len(directory)
        body += directory + bytes(struct.calcsize(word) + len(directory) % 2)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HH", 8, 0) if big else b""
    data = bytearray(head + bytes(struct.calcsize(word)) + body)
    for at, target in links.items():
        struct.pack_into(order + word, data, at, target)
    return bytes(data)


# PNG and PNM


def png_file(sample_yxc: Array, depth: int, color_type: int, *before: bytes) -> bytes:
    """A PNG of any depth and kind, with chunks before its pixels."""
    h, w, _ = sample_yxc.shape
    rows = _rows(
        sample_yxc.astype("u2" if depth == 16 else "u1"), 1, ">", depth if depth < 8 else 0
    )
    step = len(rows) // h
    raw = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(h))
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, color_type, 0, 0, 0))
    body = head + b"".join(before) + png_chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def pnm_file(sample_yxc: Array, most: int) -> bytes:
    """A binary PGM or PPM of any largest sample."""
    h, w, c = sample_yxc.shape
    head = b"P%d %d %d %d\n" % (5 if c == 1 else 6, w, h, most)
    return head + sample_yxc.astype("u1" if most < 256 else ">u2").tobytes()


# Orientation: a block of EXIF or XMP, and the places that files have for it


def exif_block(orientation: int, order: str, *, more: bytes = b"") -> bytes:
    mark = struct.pack("<2sH" if order == "<" else ">2sH", b"II" if order == "<" else b"MM", 42)
    entries = [struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)]
    entries.insert(0, struct.pack(order + "HHII", 0x100, 4, 1, 7))
    return mark + struct.pack(order + "IH", 8, 2) + b"".join(entries) + bytes(4) + more


def xmp_packet(orientation: int, *, element: bool) -> bytes:
    stated = b"<tiff:Orientation>%d</tiff:Orientation>" if element else b'tiff:Orientation="%d"'
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + stated % orientation + b"</x:xmpmeta>"


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, len(body) + 2) + body


def raw_profile(block: bytes) -> bytes:
    digits = (b"Exif\0\0" + block).hex().encode()
    lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return b"\nexif\n%8d\n" % (len(block) + 6) + lines + b"\n"


JPEG_PLACES = ["first", "later", "second", "split", "XMP", "XMP later", "both"]
PNG_PLACES = ["before", "after", "zTXt", "tEXt", "iTXt", "iTXt packed", "XMP", "XMP packed"]
WEBP_PLACES = ["EXIF", "EXIF with prefix", "XMP"]


def jpeg_segments(place: str, orientation: int, rng: Rng) -> list[bytes]:
    """Segments that state an orientation, among others, with junk between them."""
    block = b"Exif\0\0" + exif_block(orientation, "<>"[int(rng.integers(2))])
    xmp = segment(
        0xE1,
        b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet(orientation, element=bool(rng.integers(2))),
    )
    other = [segment(0xE2, b"ICC?"), segment(0xFE, b"a comment"), segment(0xE1, b"something")]
    if place == "first":
        return [segment(0xE1, block), *other]
    if place == "later":
        return [*other, segment(0xE1, block)]
    if place == "second":  # of 64 kB and more: the rest goes on in a second segment
        return [segment(0xE1, block + bytes(3000)), segment(0xE1, b"Exif\0\0" + b"more" * 99)]
    if place == "split":  # the directory itself
        long = block[:10] + struct.pack("<>"[block[6:7] == b"M"] + "I", 3000)
        long = long.ljust(3006, b"\0") + block[14:]
        return [segment(0xE1, long[:2000]), *other, segment(0xE1, b"Exif\0\0" + long[2000:])]
    if place == "both":  # EXIF comes before XMP, wherever it is
        wrong = xmp_packet(orientation % 8 + 1, element=False)
        xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + wrong)
        return [xmp, segment(0xE1, block)]
    return [xmp, *other] if place == "XMP" else [*other, xmp]


def junk(rng: Rng) -> bytes:
    """Bytes that are no marker, as webcams leave between segments; often none."""
    n = int(rng.choice([0, 0, 1, 2, 26]))
    body = bytes(rng.integers(0, 255, n).astype(np.uint8))
    return body + [b"", b"", b"\xff\0", b"\xff\0\xff\0", b"\xff" * 3][int(rng.integers(5))]


def jpeg_with(data: bytes, segments: list[bytes], rng: Rng) -> bytes:
    """A JPEG with segments, and junk before each of its own."""
    out, at = data[:2] + b"".join(each + junk(rng) for each in segments), 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        out += data[at : at + 2 + length] + junk(rng)
        at += 2 + length
    return out + data[at:]


def png_place(place: str, orientation: int, rng: Rng) -> bytes:
    """A chunk that states an orientation."""
    block = exif_block(orientation, "<>"[int(rng.integers(2))])
    text, key = raw_profile(block), b"Raw profile type exif\0"
    if place.startswith("XMP"):
        text, key = xmp_packet(orientation, element=bool(rng.integers(2))), b"XML:com.adobe.xmp\0"
    if place in ("before", "after"):
        return png_chunk(b"eXIf", block)
    if place == "zTXt":
        return png_chunk(b"zTXt", key + b"\0" + zlib.compress(text))
    if place == "tEXt":
        return png_chunk(b"tEXt", key + text)
    packed = place.endswith("packed")
    return png_chunk(
        b"iTXt", key + bytes([packed, 0]) + b"\0\0" + (zlib.compress(text) if packed else text)
    )


def webp_with(data: bytes, width: int, height: int, kind: bytes, body: bytes) -> bytes:
    """An extended WebP of a plain one, with a chunk behind its pixels."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    flags = bytes([8 if kind == b"EXIF" else 4, 0, 0, 0])
    chunks = b"VP8X" + struct.pack("<I", 10) + flags + sides + data[12:]
    chunks += kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def orientation_file(rng: Rng) -> tuple[str, bytes, PilImage.Image]:
    """Name, file and stored pixels of an image that states its orientation somewhere."""
    image, orientation = small_scene(rng), int(rng.integers(1, 9))
    kind = str(rng.choice(["JPEG", "PNG", "WEBP", "TIFF"]))
    places = {"JPEG": JPEG_PLACES, "PNG": PNG_PLACES, "WEBP": WEBP_PLACES, "TIFF": ["tag", "XMP"]}
    place = str(rng.choice(places[kind]))
    name = f"{kind}, {place}, orientation {orientation}"
    if kind == "JPEG":
        plain = to_bytes(image, "JPEG", quality=95, progressive=bool(rng.integers(2)))
        return name, jpeg_with(plain, jpeg_segments(place, orientation, rng), rng), image
    if kind == "PNG":
        plain, chunk = to_bytes(image, "PNG"), png_place(place, orientation, rng)
        at = len(plain) - 12 if place == "after" else 33
        return name, plain[:at] + chunk + plain[at:], image
    if kind == "WEBP":
        prefix = b"Exif\0\0" if place.endswith("prefix") else b""
        body = prefix + exif_block(orientation, "<>"[int(rng.integers(2))])
        if place == "XMP":
            body = xmp_packet(orientation, element=bool(rng.integers(2)))
        plain = to_bytes(image, "WEBP", lossless=True)
        four = b"XMP " if place == "XMP" else b"EXIF"
        return name, webp_with(plain, *image.size, four, body), image
    order, big = "<>"[int(rng.integers(2))], bool(rng.integers(2))
    deep = bool(rng.integers(2))
    sample_yxc = np.asarray(image) * np.uint16(257) if deep else np.asarray(image)
    state = {"orientation": orientation}
    if place == "XMP":
        state = {"xmp": xmp_packet(orientation, element=bool(rng.integers(2)))}
    page = tiff_page(sample_yxc, rng, order=order, **state)
    name += f", {order}{' big' * big}{' deep' * deep} {'tiles' if 324 in page[2] else 'strips'}"
    return name, tiff_file(page, order=order, big=big), image


# Samples: gray levels or colours, as numbers of any kind


def numbers(level_yxc: Array, rng: Rng, kind: str) -> tuple[str, Array, int]:
    """Name, numbers that mean such levels 0 .. 255, and their bits if they fill no bytes."""
    bits = 0
    if kind == "bits":
        bits = int(rng.choice([2, 4, 6, 10, 12, 14]))
        sample_yxc = np.rint(level_yxc / 255 * (2**bits - 1)).astype("u1" if bits < 8 else "u2")
        return f"{bits} bits", sample_yxc, bits
    if kind == "whole":
        dtype = np.dtype(str(rng.choice(["u1", "i1", "u2", "i2", "u4", "i4"])))
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    elif kind == "few bits":
        dtype = np.dtype(str(rng.choice(["u2", "i2", "u4", "i4", "f4"])))
        low, high = 0, int(rng.choice([255, 1023, 4095, 16383]))
    elif kind == "narrow":
        dtype = np.dtype(str(rng.choice(["u2", "i2", "u4", "i4"])))
        low = int(rng.integers(5000, 20000)) * (-1 if dtype.kind == "i" and rng.integers(2) else 1)
        high = low + int(rng.integers(256, 3000))
    else:
        dtype = np.dtype(str(rng.choice(["f2", "f4", "f8"])))
        low, high = [(0, 1), (0, 255), (-1, 1), (0, 0.01), (-40, 120)][int(rng.integers(5))]
    number_yxc = low + level_yxc.astype(float) / 255 * (float(high) - low)
    if dtype.kind != "f":
        number_yxc = np.clip(np.rint(number_yxc), low, high)
    return f"{kind} {dtype} {low} to {high}", number_yxc.astype(dtype), bits


def with_alpha(level_yxc: Array, rng: Rng) -> tuple[Array, Array]:
    """Opacity 0 .. 1 (h, w, 1), and levels with other ones where nothing is seen."""
    h, w, _ = level_yxc.shape
    alpha_yx1 = np.zeros((h, w, 1))
    alpha_yx1[:, w // 5 :] = 1
    alpha_yx1[h // 2 :, w // 2 :] = 0.6
    hidden = rng.integers(0, 256, level_yxc.shape)
    return alpha_yx1, np.where(alpha_yx1 > 0, level_yxc, hidden)


def over_white(level_yxc: Array, alpha_yx1: Array) -> Array:
    return level_yxc * alpha_yx1 + 255 * (1 - alpha_yx1)


def sample_file(rng: Rng) -> tuple[str, bytes, Array, float]:
    """Name, file, levels (h, w, c) that are seen, and how far rounding may take them."""
    image = small_scene(rng)
    colored = bool(rng.integers(2))
    level_yxc = np.atleast_3d(np.asarray(image if colored else image.convert("L"))).astype(float)
    container = str(rng.choice(["PNG", "PNM", "TIFF", "TIFF", "TIFF"]))
    c = level_yxc.shape[2]
    if container == "PNM":
        most = int(rng.choice([1, 15, 100, 255, 256, 1023, 4095, 65535]))
        sample_yxc = np.rint(level_yxc / 255 * most).astype(int)
        return f"PNM {most}, {c}", pnm_file(sample_yxc, most), level_yxc, 255 / most
    if container == "PNG":
        depth = int(rng.choice([8, 16] if colored else [1, 2, 4, 8, 16]))
        alpha = depth >= 8 and bool(rng.integers(2))
        most, stored_yxc, seen_yxc = 2**depth - 1, level_yxc, level_yxc
        if alpha:
            alpha_yx1, stored_yxc = with_alpha(level_yxc, rng)
            seen_yxc = over_white(level_yxc, alpha_yx1)
            stored_yxc = np.concatenate([stored_yxc, alpha_yx1 * 255], axis=2)
        sample_yxc = np.rint(stored_yxc / 255 * most).astype(int)
        data = png_file(sample_yxc, depth, 2 * colored + 4 * alpha)
        return f"PNG {depth} bits, {c}{' alpha' * alpha}", data, seen_yxc, 255 / most
    kind = str(rng.choice(["bits", "whole", "few bits", "narrow", "floats"]))
    name, sample_yxc, bits = numbers(level_yxc, rng, kind)
    tags: dict[str, Any] = {}
    seen_yxc, what = level_yxc, str(rng.choice(["", "alpha", "bands", "inverted"]))
    step = 255 / (2**bits - 1) if bits else 0.3 if sample_yxc.dtype == "f2" else 0
    if what == "bands":  # red, green, blue, and what no eye sees
        more = rng.integers(0, 100, (*level_yxc.shape[:2], 2 if colored else 1))
        sample_yxc = np.concatenate([sample_yxc, more.astype(sample_yxc.dtype)], axis=2)
        tags = {
            "extra": [0] * more.shape[2],
            "photometric": int(rng.integers(1, 3)) if colored else 1,
        }
    elif what == "inverted" and not colored:
        tags = {"photometric": 0}
        seen_yxc = 255 - level_yxc
    elif what == "alpha" and not bits:
        alpha_yx1, _ = with_alpha(level_yxc, rng)
        seen_yxc = over_white(level_yxc, alpha_yx1)
        dtype = sample_yxc.dtype
        most = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        opacity = (alpha_yx1 * most).astype(dtype)
        hidden = rng.permutation(sample_yxc.reshape(-1)).reshape(sample_yxc.shape)
        premultiplied = bool(rng.integers(2)) and dtype.kind != "i"
        if premultiplied:
            sample_yxc = (sample_yxc * alpha_yx1).astype(dtype)
        else:
            sample_yxc = np.where(alpha_yx1 > 0, sample_yxc, hidden)
        sample_yxc = np.concatenate([sample_yxc, opacity], axis=2)
        tags = {"extra": [1 if premultiplied else 2]}
    if sample_yxc.dtype.kind == "f" and rng.integers(2):
        sample_yxc[:3, :5] = np.nan
        seen_yxc = seen_yxc.copy()
        seen_yxc[:3, :5] = 255
    order, big = "<>"[int(rng.integers(2))], bool(rng.integers(2))
    page = tiff_page(sample_yxc, rng, order=order, bits=bits, **tags)
    name = f"TIFF {name}, {c} {what} {order}{' big' * big}, {page[0][317]} {page[0][284]}"
    return name, tiff_file(page, order=order, big=big), seen_yxc, step


def transparent_file(rng: Rng) -> tuple[str, bytes]:
    """Name and file of a small image with transparency, of a kind that Pillow composes."""
    image = small_scene(rng)
    level_yx3 = np.asarray(image).astype(float)
    alpha_yx1, hidden_yx3 = with_alpha(level_yx3, rng)
    rgba = np.concatenate([hidden_yx3, alpha_yx1 * 255], axis=2).astype(np.uint8)
    image = PilImage.fromarray(rgba)
    palette = image.convert("RGB").quantize(16)
    name = str(
        rng.choice(["PNG", "PNG LA", "PNG P", "PNG L", "PNG RGB", "WEBP", "GIF", "BMP", "BMP X"])
    )
    if name == "PNG LA":
        return name, to_bytes(image.convert("LA"), "PNG")
    if name == "PNG P":
        return name, to_bytes(palette, "PNG", transparency=bytes(rng.integers(0, 256, 16, "u1")))
    if name == "PNG L":
        key = png_chunk(b"tRNS", struct.pack(">H", int(rgba[-1, -1, 0])))
        return name, png_file(rgba[:, :, :1], 8, 0, key)
    if name == "PNG RGB":
        key = png_chunk(b"tRNS", struct.pack(">3H", *rgba[-1, -1, :3].tolist()))
        return name, png_file(rgba[:, :, :3], 8, 2, key)
    if name == "GIF":
        return name, to_bytes(palette, "GIF", transparency=int(rng.integers(16)))
    if name.startswith("BMP"):
        return name, bmp_file(rgba, has_mask=name == "BMP")
    return name, to_bytes(image, name, **({"exact": True} if name == "WEBP" else {}), lossless=True)


def bmp_file(rgba_yx4: Array, *, has_mask: bool) -> bytes:
    """A BMP of 32 bits, with opacity, or with anything in its fourth byte."""
    h, w, _ = rgba_yx4.shape
    pixels = rgba_yx4[::-1, :, [2, 1, 0, 3]].tobytes()
    size, kind = (108, 3) if has_mask else (40, 0)
    head = struct.pack("<IiiHHIIiiII", size, w, h, 1, 32, kind, len(pixels), 0, 0, 0, 0)
    if has_mask:
        head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + pixels


def mutated(data: bytes, rng: Rng) -> bytes:
    """The file with a few bytes of its header changed, removed, doubled or moved."""
    out = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        n = len(out) - 12
        if n < 1:
            break
        at = int(rng.integers(min(n, 200) if rng.random() < 0.8 else n))
        other = int(rng.integers(n))
        way = int(rng.integers(5))
        if way == 0:
            out[at] = int(rng.integers(256))
        elif way == 1:
            value = int(rng.choice([0, 1, 127, 255, 32767, 65535, 2**31 - 1, 2**32 - 1]))
            out[at : at + 4] = struct.pack("<>"[int(rng.integers(2))] + "I", value)
        elif way == 2:
            del out[at : at + int(rng.choice([1, 2, 12]))]
        elif way == 3:
            out[at:at] = out[other : other + 12]
        else:
            out[at : at + 12] = out[other : other + 12]
    return bytes(out)
