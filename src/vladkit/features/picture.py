"""Pictures as gray pixels: files are read, judged and decoded here.

OpenCV decodes. What OpenCV leaves open is settled here, from the headers alone: how big the
picture is before memory is spent on it, which way up it is, and whether the file ends early.

Measured with OpenCV 4.8.1 and 5.0.0 (``tests/test_picture.py`` holds the cases):

- Orientation: OpenCV always turns TIFF, turns JPEG and PNG unless told not to, and turns WebP
  only in 5.0. So JPEG, PNG and WebP are decoded as they lie and turned here, whatever the version.
- Cut files: 4.8 accepts a JPEG cut anywhere in its pixels; both accept an animated PNG cut in its
  second frame and a TIFF without its last four bytes.
- Messages on stderr: OpenCV's own log lines are held back while decoding. libjpeg and libpng write
  theirs ("Corrupt JPEG data: ...", "libpng error: ...") where Python cannot reach them. Checking
  PNG checksums and dropping its optional chunks before decoding avoids nearly all of libpng's;
  libjpeg's remain for JPEGs that are complete but damaged inside.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ParameterError, PictureError, ShapeError

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "Picture",
    "decode_gray",
    "decoder_facts",
    "is_picture_name",
    "read_gray",
]

MAX_PIXELS: Final = 200_000_000
"""Most pixels that are decoded, such as 16,000 x 12,500: 200 MB of gray, about 1 GB on the way."""

MAX_BYTES: Final = 1 << 30
"""Largest file that is read, 1 GiB: an uncompressed RGB TIFF of ``MAX_PIXELS`` has 0.6 GB."""

_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".dib"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)

# These stay as they are until somebody renames or replaces the file; any other failure may pass.
_LASTING_ERRNOS: Final = frozenset({errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Gray pixels, with the size of the picture that they come from.

    Parameters
    ----------
    gray_yx : uint8 array (height, width)
        The decoded picture, upright, reduced where that was asked for.
    width, height : int
        Size of the original picture in px, upright (after EXIF orientation).
    scale_x, scale_y : float, default=1.0
        Original px per px of ``gray_yx``. A point ``x`` of ``gray_yx`` lies at
        ``(x + 0.5) * scale_x - 0.5`` in the original; both count from the centre of the top-left
        pixel.

    Raises
    ------
    ShapeError
        ``gray_yx`` is not uint8 of two axes.

    Examples
    --------
    >>> import numpy as np
    >>> Picture(np.zeros((480, 640), np.uint8), width=1280, height=960, scale_x=2, scale_y=2)
    Picture(640x480 px, from 1280x960 px)
    """

    gray_yx: npt.NDArray[np.uint8]
    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0

    def __post_init__(self) -> None:
        if self.gray_yx.ndim != 2 or self.gray_yx.dtype != np.uint8:
            raise ShapeError(
                f"gray_yx is {self.gray_yx.dtype} {self.gray_yx.shape}: "
                "give uint8 of two axes, rows and columns"
            )

    def __repr__(self) -> str:
        h, w = self.gray_yx.shape
        return f"Picture({w}x{h} px, from {self.width}x{self.height} px)"


def is_picture_name(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is worth reading as a picture.

    Parameters
    ----------
    path : str or path
        Nothing is looked up on disk.

    Returns
    -------
    bool
        True for the suffixes of formats that `read_gray` reads, in any case; False for hidden names
        such as the ``._IMG_1.jpg`` that macOS leaves on shared disks.

    Examples
    --------
    >>> [is_picture_name(name) for name in ("a/B.JPG", "notes.txt", "._B.jpg", ".jpg")]
    [True, False, False, False]
    """
    name = os.path.basename(os.fspath(path))
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _SUFFIXES


def read_gray(path: str | os.PathLike[str], *, max_side: int | None = 640) -> Picture:
    """Read a picture file as gray pixels, upright, at most ``max_side`` px a side.

    Parameters
    ----------
    path : str or path
        JPEG, PNG, WebP, TIFF, BMP, GIF or binary PBM/PGM/PPM. The content decides, not the suffix;
        of many frames or pages the first counts.
    max_side : int or None, default=640
        Longest side of the result in px; None keeps the original size.

    Returns
    -------
    Picture

    Raises
    ------
    PictureError
        The file cannot be read (``transient=True`` unless its name or kind is to blame), is no
        regular file, is empty, is larger than `MAX_BYTES`; or for the reasons of `decode_gray`.
    ParameterError
        ``max_side`` is below 1.

    Notes
    -----
    A FIFO or a device is refused without waiting for it.
    """
    return decode_gray(_read_bytes(path), max_side=max_side)


def decode_gray(data: bytes, *, max_side: int | None = 640) -> Picture:
    """Decode the bytes of a picture file; see `read_gray`.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_side : int or None, default=640
        Longest side of the result in px; None keeps the original size.

    Returns
    -------
    Picture

    Raises
    ------
    PictureError
        The data are empty, no picture, cut short, damaged, of a kind that is not read, or have more
        than `MAX_PIXELS` pixels.
    ParameterError
        ``max_side`` is below 1.

    Notes
    -----
    16-bit samples keep their upper 8 bits. Transparency is ignored. A JPEG of more than twice
    ``max_side`` is decoded at 1/2, 1/4 or 1/8, straight from its 8x8 blocks (12 MP: 15 ms instead
    of 42), and only what is decoded then counts towards `MAX_PIXELS`. The last step down averages
    areas. OpenCV's log is silent meanwhile, in the whole process, and then as it was.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> _, png = cv2.imencode(".png", np.zeros((300, 400), np.uint8))
    >>> decode_gray(png.tobytes(), max_side=100)
    Picture(100x75 px, from 400x300 px)
    >>> decode_gray(png.tobytes()[:-4])
    Traceback (most recent call last):
    ...
    vladkit.errors.PictureError: truncated PNG: no IEND chunk
    """
    if max_side is not None and max_side < 1:
        raise ParameterError(f"max_side is {max_side}: give at least 1 px, or None for no limit")
    header = _read_header(data)
    factor = _jpeg_factor(header, max_side)
    decoded_w, decoded_h = -(-header.width // factor), -(-header.height // factor)
    # A progressive JPEG is held whole in memory, as coefficients, whatever size comes out.
    n_pixels = decoded_w * decoded_h if header.sequential else header.width * header.height
    if n_pixels > MAX_PIXELS:
        raise PictureError(
            f"too many pixels: {header.width}x{header.height} = "
            f"{header.width * header.height / 1e6:.0f} million, "
            f"at most {MAX_PIXELS / 1e6:.0f} million"
        )
    gray_yx = _decode(header, factor)
    if factor > 1 and gray_yx.shape != (decoded_h, decoded_w):
        raise PictureError("damaged JPEG: two different sizes in one file")
    width, height = header.width, header.height
    if factor == 1:  # what came out is the truth: a TIFF comes turned
        height, width = gray_yx.shape
    gray_yx, across, down = _reduce(gray_yx, max_side)
    # Of a JPEG at 1/factor, px 0 covers px 0 .. factor-1 exactly; the last may be partly filling.
    scale_x, scale_y = factor * across, factor * down
    if header.orientation >= 5:
        width, height, scale_x, scale_y = height, width, scale_y, scale_x
    return Picture(_turn(gray_yx, header.orientation), width, height, scale_x, scale_y)


def decoder_facts() -> dict[str, str]:
    """What decides the pixels besides the file and ``max_side``; kept with what is made of them.

    Examples
    --------
    >>> sorted(decoder_facts())
    ['decoder', 'decoder_version', 'exif_orientation']
    """
    import cv2

    return {
        "decoder": "opencv",
        "decoder_version": cv2.__version__,
        "exif_orientation": "applied",
    }


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error raised by OpenCV is for lack of memory, and not for the picture's sake."""
    return isinstance(error, MemoryError) or getattr(error, "code", 0) == -4  # cv2.Error.StsNoMem


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file; every failure as a `PictureError`."""

    def open_without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO blocks otherwise

    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PictureError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise PictureError(
                    f"file too large: {status.st_size / 1e6:,.0f} MB, "
                    f"at most {MAX_BYTES / 1e6:,.0f} MB"
                )
            return file.read()
    except PictureError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PictureError(reason, transient=error.errno not in _LASTING_ERRNOS) from error
    except ValueError as error:  # a NUL in the name
        raise PictureError(f"not a file name: {error}") from error


def _jpeg_factor(header: _Header, max_side: int | None) -> int:
    """The largest of 8, 4, 2, 1 by which a JPEG may be decoded smaller."""
    if header.kind != "JPEG" or max_side is None:
        return 1
    w, h = header.width, header.height
    for factor in (8, 4, 2):
        # Blocks are counted from the stored top-left corner. Where turning moves that corner, only
        # a whole number of blocks keeps coordinates exact; cameras' sizes divide by 8 anyway.
        exact = header.orientation == 1 or (w % factor == 0 and h % factor == 0)
        if max(w, h) >= factor * max_side and exact:
            return factor
    return 1


def _decode(header: _Header, factor: int) -> npt.NDArray[np.uint8]:
    """Decode to gray, as stored (TIFF: upright), a JPEG at 1/factor of its size."""
    import cv2

    flag = {
        1: cv2.IMREAD_GRAYSCALE,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }[factor]
    data = np.frombuffer(header.data, np.uint8)
    try:
        with _silent_opencv():
            decoded: Any = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, MemoryError) as error:
        if is_out_of_memory(error):
            raise PictureError("not enough memory to decode it", transient=True) from error
        decoded = None
    if decoded is None:
        raise PictureError(
            f"{header.kind} cannot be decoded: cut short, damaged, or a variant not supported"
        )
    gray_yx: npt.NDArray[np.uint8] = decoded
    return gray_yx


def _reduce(
    gray_yx: npt.NDArray[np.uint8], max_side: int | None
) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Shrink to ``max_side``; returns the pixels and the factors of width and of height."""
    h, w = gray_yx.shape
    if max_side is None or max(w, h) <= max_side:
        return gray_yx, 1.0, 1.0
    import cv2

    by = max(w, h) / max_side
    small_w, small_h = max(1, round(w / by)), max(1, round(h / by))
    small: Any = cv2.resize(gray_yx, (small_w, small_h), interpolation=cv2.INTER_AREA)
    small_yx: npt.NDArray[np.uint8] = small
    return small_yx, w / small_w, h / small_h


def _turn(gray_yx: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn stored pixels upright by their EXIF orientation 1 .. 8."""
    if orientation >= 5:
        gray_yx = gray_yx.T
    step_y = -1 if orientation in (3, 4, 7, 8) else 1
    step_x = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(gray_yx[::step_y, ::step_x])


class _Silence:
    """How many threads decode now, and OpenCV's log level from before the first of them."""

    lock: Final = threading.Lock()
    n_inside = 0
    level_before = 0


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """Hold OpenCV's log, one for the process, while any thread decodes; then as it was.

    The reason that matters reaches the caller as a `PictureError`; OpenCV's lines about the same
    file would tear a progress bar.
    """
    import cv2

    logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has it at the top
    with _Silence.lock:
        if _Silence.n_inside == 0:
            _Silence.level_before = logging.setLogLevel(0)
        _Silence.n_inside += 1
    try:
        yield
    finally:
        with _Silence.lock:
            _Silence.n_inside -= 1
            if _Silence.n_inside == 0:
                logging.setLogLevel(_Silence.level_before)


# Headers. No decoder: only the kind, the size, the way up, and where the file should end.


@dataclass(frozen=True, slots=True)
class _Header:
    """What the bytes say of themselves.

    ``width`` and ``height`` are as stored, before turning by ``orientation`` (1: nothing to turn).
    ``sequential`` is False for a progressive JPEG. ``data`` is what to decode.
    """

    kind: str
    width: int
    height: int
    data: bytes
    orientation: int = 1
    sequential: bool = True


def _read_header(data: bytes) -> _Header:
    """Recognise, measure and check for completeness; raises `PictureError`."""
    if not data:
        raise PictureError("empty file")
    for pattern, kind, parse in _KINDS:
        if not pattern.match(data):
            continue
        if parse is None:
            raise PictureError(f"{kind} is not supported: convert it to JPEG or PNG")
        try:
            header = parse(data)
        except (struct.error, IndexError) as error:  # the header itself is cut
            raise PictureError(f"truncated {kind}: ends within its header") from error
        if header.width < 1 or header.height < 1:
            raise PictureError(f"damaged {kind}: size {header.width}x{header.height}")
        return header
    raise PictureError("not a picture that can be decoded")


def _jpeg(data: bytes) -> _Header:
    """Walk the segments up to the pixels, then look for the end marker behind them."""
    at, width, height, orientation, sequential = 2, 0, 0, 1, True
    while True:
        if data[at] != 0xFF:
            raise PictureError("damaged JPEG: a segment does not start where the last one ends")
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, at + 5)
            sequential = marker in (0xC0, 0xC1)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:  # start of scan
            break
        at += 2 + length
    # Only from here on: an embedded thumbnail has an end marker of its own. Within pixels FF is
    # followed by 00 or D0 .. D7, and no valid table between scans holds FF D9. What follows the
    # end (a second picture, a film) does not matter.
    if data.find(b"\xff\xd9", at) < 0:
        raise PictureError("truncated JPEG: no end-of-image marker")
    return _Header("JPEG", width, height, data, orientation, sequential)


def _png(data: bytes) -> _Header:
    """Walk all chunks; keep the critical ones, whose checksums must hold.

    Optional chunks are left out of what is decoded: a wrong colour profile makes libpng write to
    stderr, and a gamma chunk must not change the gray of otherwise equal pixels.
    """
    view = memoryview(data)
    kept, at, orientation, kind = [view[:8]], 8, 1, b""
    width, height = struct.unpack_from(">II", data, 16)
    while kind != b"IEND":
        if at + 12 > len(data):
            raise PictureError("truncated PNG: no IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise PictureError("truncated PNG: no IEND chunk")
        if kind[:1].isupper():
            if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise PictureError(f"damaged PNG: checksum of {kind.decode('latin1')} differs")
            kept.append(view[at:end])
        elif kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : end - 4])
        at = end
    return _Header("PNG", width, height, b"".join(kept), orientation)


def _webp(data: bytes) -> _Header:
    """The canvas from the first chunk, then on to an EXIF chunk."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise PictureError(f"truncated WebP: {len(data)} of {size + 8} bytes")
    first = data[12:16]
    if first == b"VP8X":  # 24 bits each, less one
        flags_w, w_h, h = struct.unpack_from("<xxxxHHH", data, 20)
        width, height = (flags_w | (w_h & 0xFF) << 16) + 1, ((w_h >> 8) | h << 8) + 1
    elif first == b"VP8L":  # 14 bits each, less one
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    at, orientation = 12, 1
    while at + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return _Header("WebP", width, height, data, orientation)


def _tiff(data: bytes) -> _Header:
    """Walk all pages: their directories and pixels must lie within the file."""
    order = ">" if data[:2] == b"MM" else "<"
    (at,) = struct.unpack_from(order + "I", data, 4)
    pages: dict[int, dict[int, tuple[int, ...]]] = {}
    while at and at not in pages:
        try:
            pages[at], end = _directory(data, order, at)
            (following,) = struct.unpack_from(order + "I", data, end)
        except struct.error as error:
            raise PictureError("truncated TIFF: a directory lies past the end") from error
        for starts, lengths in ((273, 279), (324, 325)):  # of strips, of tiles
            for start, length in zip(
                pages[at].get(starts, ()), pages[at].get(lengths, ()), strict=False
            ):
                if start + length > len(data):
                    raise PictureError("truncated TIFF: pixels lie past the end")
        at = following
    if not pages:
        raise PictureError("damaged TIFF: no picture in it")
    first = next(iter(pages.values()))
    return _Header("TIFF", first.get(256, (0,))[0], first.get(257, (0,))[0], data)


def _gif(data: bytes) -> _Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return _Header("GIF", width, height, data)


def _bmp(data: bytes) -> _Header:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return _Header("BMP", width, abs(height), data)  # height < 0: rows from top to bottom


def _pnm(data: bytes) -> _Header:
    gap = rb"(?:\s|#[^\n]*\n)+"
    found = re.match(rb"P[456]" + gap + rb"(\d{1,9})" + gap + rb"(\d{1,9})\s", data)
    if not found:
        raise PictureError("damaged PNM: no size in its header")
    return _Header("PNM", int(found[1]), int(found[2]), data)


def _exif_orientation(exif: bytes) -> int:
    """Orientation 1 .. 8 from an EXIF block; 1 where it does not say."""
    exif = exif.removeprefix(b"Exif\0\0")  # some WebP writers keep JPEG's prefix
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (at,) = struct.unpack_from(order + "I", exif, 4)
        orientation = _directory(exif, order, at, (274,))[0].get(274, (1,))[0]
    except (KeyError, struct.error):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _directory(
    data: bytes,
    order: str,
    at: int,
    wanted: tuple[int, ...] = (256, 257, 273, 279, 324, 325),
) -> tuple[dict[int, tuple[int, ...]], int]:
    """The wanted whole-number tags of one TIFF directory, and where it ends."""
    tags: dict[int, tuple[int, ...]] = {}
    (n_entries,) = struct.unpack_from(order + "H", data, at)
    for entry in range(at + 2, at + 2 + 12 * n_entries, 12):
        tag, code, count = struct.unpack_from(order + "HHI", data, entry)
        letter = {1: "B", 3: "H", 4: "I"}.get(code)
        if tag in wanted and letter and count:
            values, where = f"{order}{count}{letter}", entry + 8
            if struct.calcsize(values) > 4:
                (where,) = struct.unpack_from(order + "I", data, where)
            tags[tag] = struct.unpack_from(values, data, where)
    return tags, at + 2 + 12 * n_entries


# How a file of each kind starts, and what reads its header; None: recognised only to say so.
# AVIF is left out although OpenCV 5 reads it: OpenCV does not turn it upright. Plain-text PNM is
# left out because a cut within its last number cannot be found.
_KINDS: Final[tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], _Header] | None], ...]] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _webp),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF", _tiff),
    (re.compile(rb"GIF8[79]a"), "GIF", _gif),
    (re.compile(rb"BM.{12}[\x0c(48@l|]\0\0\0", re.DOTALL), "BMP", _bmp),  # sizes of its header
    (re.compile(rb"P[456][\s#]"), "PNM", _pnm),
    (re.compile(rb"P[123][\s#]"), "plain-text PNM", None),
    (re.compile(rb"II\+\0|MM\0\+"), "BigTIFF", None),
    (re.compile(rb"\0\0\0\x0cjP  "), "JPEG 2000", None),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF", None),
    (re.compile(rb"....ftyp(?:hei[cx]|hevc|mif1|msf1)", re.DOTALL), "HEIC", None),
)
