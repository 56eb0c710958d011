"""Headers of image files: kind, size, orientation, and whether the file is complete.

Read from the bytes alone; no decoder is asked. A file says how many parts it has and where they
are, so every walk over them has a limit (`Parts`): time and memory grow with the size of the file,
and not with what it says.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from vladkit.errors import ImageError
from vladkit.images.bmp import MaskedPixels, masked_pixels
from vladkit.images.boxes import read_boxes
from vladkit.images.directory import Parts
from vladkit.images.exif import UNKNOWN, Photo, photo_of
from vladkit.images.gif import GifFrame, first_frame
from vladkit.images.jpeg import read_jpeg
from vladkit.images.jxl import read_jxl
from vladkit.images.levels import SampleForm
from vladkit.images.orientation import Places
from vladkit.images.pieces import Pieces
from vladkit.images.raw import RawPreview, cr3_preview, raf_preview, rw2_preview, tiff_preview
from vladkit.images.tiff import PackedSamples, read_tiff

__all__ = ["Header", "image_kind", "read_header", "size_of"]


@dataclass(frozen=True, slots=True)
class Header:
    """Kind and size of an image file, and the bytes to decode.

    Parameters
    ----------
    kind : str
        Name of the format, such as "JPEG".
    width, height : int
        px as stored, before rotating by ``orientation``.
    data : bytes
        The file without what a decoder should not see (optional chunks of a PNG).
    orientation : int
        EXIF orientation, 1 to 8; 1 is upright.
    sequential : bool
        False for a JPEG that the decoder holds whole, as coefficients: a progressive one, or one
        with a scan for each channel.
    n_scans : int
        Number of times that a JPEG's decoder passes over all pixels.
    largest_tile : int
        Number of pixels of a TIFF's tile, or of a frame in an AVIF, which is decoded whole.
    form : SampleForm or None
        Meaning of samples that may be transparent or not 8 bits deep; None: the decoder's own gray
        levels and colours are right.
    n_bytes : int
        Bytes of a pixel with such samples.
    packed : PackedSamples, MaskedPixels, GifFrame or None
        Samples of a TIFF, a BMP or a GIF that a decoder does not give as they are.
    pieces : Pieces or None
        Strips or tiles of a TIFF whose damage a decoder passes over.
    variant : str
        What the decoder may lack, for a message.
    photo : Photo
        Date, position and camera, by EXIF.
    """

    kind: str
    width: int
    height: int
    data: bytes
    orientation: int = 1
    sequential: bool = True
    n_scans: int = 1
    largest_tile: int = 0
    form: SampleForm | None = None
    n_bytes: int = 1
    packed: PackedSamples | MaskedPixels | GifFrame | None = None
    pieces: Pieces | None = None
    variant: str = ""
    photo: Photo = UNKNOWN


def image_kind(start: bytes) -> str | None:
    """Name of the format that the first bytes of a file, 64 or more, have; None for no image."""
    return next((kind for pattern, kind, _ in _KINDS if pattern.match(start)), None)


def read_header(data: bytes) -> Header:
    """Recognise and measure an image file, and check that it is complete.

    Raises
    ------
    ImageError
        The data are empty, no image, truncated or damaged, or of a kind that is not supported.
    """
    if not data:
        raise ImageError("empty file")
    for pattern, kind, parse in _KINDS:
        if not pattern.match(data):
            continue
        if parse is None:
            raise ImageError(_unsupported(kind))
        try:
            header = parse(data)
        except (struct.error, IndexError, OverflowError) as error:  # the header is truncated
            raise ImageError(f"truncated {kind}: ends within its header") from error
        if header.width < 1 or header.height < 1:
            raise ImageError(f"damaged {kind}: size {header.width}x{header.height}")
        return header
    raise ImageError("not an image that can be decoded")


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an image file in px, upright; ImageError as `read_header`."""
    header = read_header(data)
    size = header.width, header.height
    return size[::-1] if header.orientation >= 5 else size


def _jpeg(data: bytes) -> Header:
    jpeg = read_jpeg(data)
    if jpeg.n_channels not in (1, 3, 4):
        raise ImageError(_unsupported(f"JPEG of {jpeg.n_channels} channels"))
    return Header(
        "JPEG",
        jpeg.width,
        jpeg.height,
        data,
        jpeg.places.orientation(),
        jpeg.sequential,
        jpeg.n_scans,
        # without loss there is no way to gray, to colours, or to a smaller size
        form=SampleForm() if jpeg.variant == "lossless coding" else None,
        n_bytes=jpeg.n_channels,
        variant=jpeg.variant,
        photo=photo_of(jpeg.places.blocks()),
    )


def _unsupported(kind: str) -> str:
    return f"{kind} is not supported: convert it to JPEG or PNG"


def _png(data: bytes) -> Header:
    """Walk all chunks; keep the critical ones, whose checksums must hold, and transparency.

    Other optional chunks are left out of what is decoded: a wrong colour profile makes libpng write
    to stderr, and a gamma chunk must not change the gray of otherwise equal pixels.
    """
    view = memoryview(data)
    kept, begin, at, kind = [], 0, 8, b""  # begin: of what is kept and not in kept
    if data[12:16] == b"CgBI":
        raise ImageError(_unsupported("PNG for iOS (CgBI)"))
    if len(data) >= 16 and data[12:16] != b"IHDR":
        raise ImageError("damaged PNG: its first chunk is not IHDR")
    width, height, depth, color_type = struct.unpack_from(">IIBB", data, 16)
    parts, places = Parts("PNG", len(data)), Places()
    transparent, lengths = b"", {0: range(2, 3), 2: range(6, 7)}.get(color_type, range(0))
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ImageError("truncated PNG: no IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ImageError("truncated PNG: no IEND chunk")
        parts.add(end - at)
        critical, is_key = kind[:1].isupper(), kind == b"tRNS" and length in lengths
        if critical or is_key:
            holds = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
            if critical and not holds:
                raise ImageError(f"damaged PNG: checksum of {kind.decode('latin1')} differs")
            is_key = is_key and holds
        if kind == b"PLTE" and color_type == 3:
            lengths = range(1, length // 3 + 1)
        elif kind == b"IDAT" or is_key:  # it comes once, and before the pixels
            lengths = range(0)
        if is_key:
            transparent = data[at + 8 : end - 4]
        elif not critical:
            kept.append(view[begin:at])
            begin = end
            if kind == b"eXIf":
                places.add_exif(data[at + 8 : end - 4])
            elif kind in (b"tEXt", b"zTXt", b"iTXt"):
                places.add_text(kind, data[at + 8 : end - 4])
        at = end
    form = None
    if depth == 16 or color_type in (4, 6) or transparent:
        key = None
        if color_type == 0 and transparent:  # OpenCV passes over that of gray
            key = int.from_bytes(transparent) * (1 if depth >= 8 else 255 // (2**depth - 1))
        form = SampleForm(transparent=key)
    n_channels = {0: 1, 2: 3 + bool(transparent)}.get(color_type, 4)
    n_bytes = n_channels * (1 + (depth == 16))
    whole = b"".join([*kept, view[begin:at]])
    orientation, photo = places.orientation(), photo_of(places.blocks())
    return Header("PNG", width, height, whole, orientation, form=form, n_bytes=n_bytes, photo=photo)


def _webp(data: bytes) -> Header:
    """Read the canvas from the first chunk, then look for EXIF and XMP."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise ImageError(f"truncated WebP: {len(data)} of {size + 8} bytes")
    first = data[12:16]
    transparent = False
    if first == b"VP8X":  # 24 bits each, less one
        flags, low_w, w_h, h = struct.unpack_from("<BxxxHHH", data, 20)
        width, height = (low_w | (w_h & 0xFF) << 16) + 1, ((w_h >> 8) | h << 8) + 1
        transparent = bool(flags & 0x10)
    elif first == b"VP8L":  # 14 bits each, less one
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        transparent = bool(bits >> 28 & 1)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    at = 12
    parts, places = Parts("WebP", len(data)), Places()
    while at + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        parts.add(8)
        if kind == b"EXIF":
            places.add_exif(data[at + 8 : at + 8 + length])
        elif kind == b"XMP ":
            places.add_xmp(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    form = SampleForm() if transparent else None
    orientation, photo = places.orientation(), photo_of(places.blocks())
    return Header("WebP", width, height, data, orientation, form=form, n_bytes=4, photo=photo)


def _tiff(data: bytes) -> Header:
    if preview := tiff_preview(data):
        return _raw(preview)
    tiff = read_tiff(data)
    return Header(
        "TIFF",
        tiff.width,
        tiff.height,
        tiff.data,
        tiff.orientation,
        largest_tile=tiff.largest_tile,
        form=tiff.form,
        n_bytes=tiff.packed.n_bytes if tiff.packed else 4,
        packed=tiff.packed,
        pieces=tiff.pieces,
        variant=tiff.variant,
        photo=photo_of([data]),
    )


def _raw(preview: RawPreview) -> Header:
    header = _jpeg(preview.data)
    photo = photo_of(preview.exif, preview.position) if preview.exif else header.photo
    orientation = preview.orientation or header.orientation
    return replace(header, orientation=orientation, photo=photo)


def _boxed(kind: str, data: bytes) -> Header:
    boxed = read_boxes(kind, data)
    deep, photo = 1 + (boxed.n_bits > 8), photo_of([boxed.exif])
    if boxed.codec == "hvc1":  # libheif sets it upright, and passes over the orientation of EXIF
        n_bytes = 7 if deep > 1 else 4  # libheif holds 9 bytes of a pixel of 8 bits
        return Header(
            "HEIC",
            boxed.width,
            boxed.height,
            data,
            form=SampleForm(),
            n_bytes=n_bytes,
            photo=photo,
        )
    return Header(
        "AVIF",
        boxed.width,
        boxed.height,
        data,
        boxed.orientation,
        largest_tile=boxed.coded,  # libavif decodes whatever is coded, and scales it to the size
        form=SampleForm(most=2**boxed.n_bits - 1 if deep > 1 else 0),
        n_bytes=6 * deep,  # OpenCV holds 15 bytes of a pixel of 8 bits
        photo=photo,
    )


def _jxl(data: bytes) -> Header:
    jxl = read_jxl(data)
    return Header(
        "JPEG XL",
        jxl.width,
        jxl.height,
        data,
        jxl.orientation,
        form=SampleForm(),
        n_bytes=6 * (1 + (jxl.n_bits > 8)),  # libjxl holds 6 of 8 bits, and the samples
        photo=photo_of([jxl.exif]),
    )


def _gif(data: bytes) -> Header:
    frame = first_frame(data)
    packed, form = (None, SampleForm()) if frame.is_whole else (frame, SampleForm((0, 1, 2), 3))
    return Header("GIF", *frame.canvas, frame.data, form=form, n_bytes=4, packed=packed)


def _bmp(data: bytes) -> Header:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    # Only a mask says that the fourth byte is opacity; most writers leave anything there.
    has_mask = header_size >= 56 and struct.unpack_from("<HI", data, 28) == (32, 3)
    form = SampleForm() if has_mask and any(data[66:70]) else None
    packed = masked_pixels(data)
    if packed:
        form = packed.form
    # height < 0: rows from top to bottom
    return Header("BMP", width, abs(height), data, form=form, n_bytes=4, packed=packed)


def _pnm(data: bytes) -> Header:
    found = _PNM_SIZE.match(data, 0, _MOST_PNM_HEADER)
    if not found:
        raise ImageError(f"damaged PNM: no size in its first {_MOST_PNM_HEADER:,} bytes")
    most = int(found["most"] or 255)
    if not 1 <= most <= 65535:
        raise ImageError(f"damaged PNM: its largest sample is {most}, not 1 to 65535")
    form = None if most == 255 else SampleForm(most=most)
    return Header("PNM", int(found["w"]), int(found["h"]), data, form=form, n_bytes=6)


_MOST_PNM_HEADER: Final = 65536
_GAP: Final = rb"(?:\s|#[^\n]*\n)+"
_PNM_SIZE: Final = re.compile(
    rb"P(?:(?P<bits>4)|[56])" + _GAP + rb"(?P<w>\d{1,9})" + _GAP + rb"(?P<h>\d{1,9})"
    rb"(?(bits)|" + _GAP + rb"(?P<most>\d{1,9}))\s"
)

# How a file of each kind starts, and what reads its header; None: recognised only to say so.
# Plain-text PNM is left out because a file that ends within its last number cannot be recognised.
_KINDS: Final[tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], Header] | None], ...]] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _webp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF", _tiff),
    (re.compile(rb"GIF8[79]a"), "GIF", _gif),
    (re.compile(rb"BM.{12}[\x0c(48@l|]\0\0\0", re.DOTALL), "BMP", _bmp),  # sizes of its header
    (re.compile(rb"P[456][\s#]"), "PNM", _pnm),
    (re.compile(rb"P[123][\s#]"), "plain-text PNM", None),
    (re.compile(rb"\0\0\0\x0cjP(?:  |\x1a\x1a)|\xff\x4f\xff\x51"), "JPEG 2000", None),
    (re.compile(rb"II\xbc[\0\1]"), "JPEG XR", None),
    (re.compile(rb"....ftypavif", re.DOTALL), "AVIF", partial(_boxed, "AVIF")),
    (re.compile(rb"....ftypavis", re.DOTALL), "animated AVIF", None),
    (
        re.compile(rb"....ftyp(?:he[iv][cxms]|mif1|msf1)", re.DOTALL),
        "HEIC",
        partial(_boxed, "HEIC"),
    ),
    (re.compile(rb"....ftypcrx ", re.DOTALL), "CR3", lambda data: _raw(cr3_preview(data))),
    (re.compile(rb"IIU\0"), "RW2", lambda data: _raw(rw2_preview(data))),
    (re.compile(rb"FUJIFILMCCD-RAW "), "RAF", lambda data: _raw(raf_preview(data))),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL", _jxl),
)
