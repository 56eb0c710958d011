"""Images as pixels: files are read, judged and decoded here.

OpenCV decodes. What OpenCV leaves open is settled before, from the header alone (`header`): how big
the image is before memory is spent on it, which way up it is, and whether the file ends early.

Measured with OpenCV 4.8.1 and 5.0.0 (``tests/test_image.py`` holds the cases):

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
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError, ParameterError, ShapeError
from vladkit.images.header import Header, read_header
from vladkit.images.region import Region

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "ColorImage",
    "Image",
    "decode_gray",
    "decode_image",
    "decode_rgb",
    "decoder_facts",
    "is_image_name",
    "read_bytes",
    "read_gray",
    "read_rgb",
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
class Image:
    """Gray pixels, with the size of the image that they come from.

    Parameters
    ----------
    gray_yx : uint8 array (height, width)
        The decoded image, upright, reduced where that was asked for.
    width, height : int
        Size of the original image in px, upright (after EXIF orientation).
    scale_x, scale_y : float, default=1.0
        Original px per px of ``gray_yx``. A point ``x`` of ``gray_yx`` lies at
        ``(x + 0.5) * scale_x - 0.5`` in the original; both count from the centre of the top-left
        pixel.
    region : Region or None
        The part of a larger image that this is, if it is one; then that part is "the original"
        above.
    whole : (int, int) or None
        Width and height of that larger image.
    rgb_yx3 : uint8 array (height, width, 3) or None
        The same in colour, for extractors that want it.

    Raises
    ------
    ShapeError
        ``gray_yx`` is not uint8 of two axes, or ``rgb_yx3`` not of the same size.

    Examples
    --------
    >>> import numpy as np
    >>> Image(np.zeros((480, 640), np.uint8), width=1280, height=960, scale_x=2, scale_y=2)
    Image(640x480 px, from 1280x960 px)
    """

    gray_yx: npt.NDArray[np.uint8]
    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    region: Region | None = None
    whole: tuple[int, int] | None = None
    rgb_yx3: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.rgb_yx3 is not None and self.rgb_yx3.shape != (*self.gray_yx.shape, 3):
            raise ShapeError(f"rgb_yx3 is {self.rgb_yx3.shape}, gray_yx {self.gray_yx.shape}")
        if self.gray_yx.ndim != 2 or self.gray_yx.dtype != np.uint8:
            raise ShapeError(
                f"gray_yx is {self.gray_yx.dtype} {self.gray_yx.shape}: "
                "give uint8 of two axes, rows and columns"
            )

    def __repr__(self) -> str:
        h, w = self.gray_yx.shape
        return f"Image({w}x{h} px, from {self.width}x{self.height} px)"


@dataclass(frozen=True, slots=True, eq=False)
class ColorImage:
    """Pixels in colour, for people to look at.

    Parameters
    ----------
    rgb_yx3 : uint8 array (height, width, 3)
        Upright, reduced where that was asked for.
    width, height : int
        Size of the original image in px, upright.
    region : Region or None
        The part of a larger image that this is, if it is one; then that part is "the original".
    """

    rgb_yx3: npt.NDArray[np.uint8]
    width: int
    height: int
    region: Region | None = None


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is worth reading as an image.

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
    >>> [is_image_name(name) for name in ("a/B.JPG", "notes.txt", "._B.jpg", ".jpg")]
    [True, False, False, False]
    """
    name = os.path.basename(os.fspath(path))
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _SUFFIXES


def read_gray(
    path: str | os.PathLike[str], *, max_side: int | None = 640, region: Region | None = None
) -> Image:
    """Read an image file as gray pixels, upright, at most ``max_side`` px a side.

    Parameters
    ----------
    path : str or path
        JPEG, PNG, WebP, TIFF, BMP, GIF or binary PBM/PGM/PPM. The content decides, not the suffix;
        of many frames or pages the first counts.
    max_side : int or None, default=640
        Longest side of the result in px; None keeps the original size.
    region : Region or None
        Only this part, as if it were an image of its own.

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        The file cannot be read (``transient=True`` unless its name or kind is to blame), is no
        regular file, is empty, is larger than `MAX_BYTES`; or for the reasons of `decode_gray`.
    ParameterError
        ``max_side`` is below 1, or the region is outside of the image.

    Notes
    -----
    A FIFO or a device is refused without waiting for it.
    """
    return decode_gray(read_bytes(path), max_side=max_side, region=region)


def read_rgb(
    path: str | os.PathLike[str], *, max_side: int | None = 640, region: Region | None = None
) -> ColorImage:
    """Read an image file in colour, upright, at most ``max_side`` px a side; see `read_gray`."""
    return decode_rgb(read_bytes(path), max_side=max_side, region=region)


def decode_gray(
    data: bytes,
    *,
    max_side: int | None = 640,
    region: Region | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Decode the bytes of an image file; see `read_gray`.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_side : int or None, default=640
        Longest side of the result in px; None keeps the original size.
    region : Region or None
        Only this part, as if it were an image of its own. Of a JPEG that is decoded smaller it
        grows to whole blocks: `Image.region` says what came out.
    max_pixels : int
        Images of more are refused.

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        The data are empty, no image, cut short, damaged, of a kind that is not read, or have more
        than ``max_pixels`` pixels.
    ParameterError
        ``max_side`` is below 1, or the region is outside of the image.

    Notes
    -----
    16-bit samples keep their upper 8 bits. Transparency is ignored. A JPEG of more than twice
    ``max_side`` is decoded at 1/2, 1/4 or 1/8, straight from its 8x8 blocks (12 MP: 15 ms instead
    of 42), and only what is decoded then counts towards ``max_pixels``. The last step down averages
    areas. OpenCV's log is silent meanwhile, in the whole process, and then as it was.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> _, png = cv2.imencode(".png", np.zeros((300, 400), np.uint8))
    >>> decode_gray(png.tobytes(), max_side=100)
    Image(100x75 px, from 400x300 px)
    >>> decode_gray(png.tobytes()[:-4])
    Traceback (most recent call last):
    ...
    vladkit.errors.ImageError: truncated PNG: no IEND chunk
    """
    found = _decoded(data, max_side, region, max_pixels, color=False)
    scale_x, scale_y = found.scale_x, found.scale_y
    part = found.region, found.whole
    return Image(found.pixels, found.width, found.height, scale_x, scale_y, *part)


def decode_rgb(
    data: bytes,
    *,
    max_side: int | None = 640,
    region: Region | None = None,
    max_pixels: int = MAX_PIXELS,
) -> ColorImage:
    """Decode the bytes of an image file in colour; parameters and errors of `decode_gray`.

    Gray images come with three equal channels.
    """
    import cv2

    found = _decoded(data, max_side, region, max_pixels, color=True)
    rgb: Any = cv2.cvtColor(found.pixels, cv2.COLOR_BGR2RGB)
    return ColorImage(rgb, found.width, found.height, found.region)


def decode_image(
    data: bytes,
    *,
    max_side: int | None = 640,
    region: Region | None = None,
    color: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """`decode_gray`, or with `color` the same image with its colours.

    Gray is then made of the colours here, and not by the decoder: values may differ by 1 or 2.
    """
    if not color:
        return decode_gray(data, max_side=max_side, region=region, max_pixels=max_pixels)
    import cv2

    found = _decoded(data, max_side, region, max_pixels, color=True)
    gray: Any = cv2.cvtColor(found.pixels, cv2.COLOR_BGR2GRAY)
    rgb: Any = cv2.cvtColor(found.pixels, cv2.COLOR_BGR2RGB)
    return Image(
        gray,
        found.width,
        found.height,
        found.scale_x,
        found.scale_y,
        found.region,
        found.whole,
        rgb,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """Pixels (y, x) or (y, x, BGR), upright; the rest as in `Image`."""

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    scale_x: float
    scale_y: float
    region: Region | None
    whole: tuple[int, int] | None


def _decoded(
    data: bytes, max_side: int | None, region: Region | None, max_pixels: int, *, color: bool
) -> _Decoded:
    if max_side is not None and max_side < 1:
        raise ParameterError(f"max_side is {max_side}: give at least 1 px, or None for no limit")
    header = read_header(data)
    whole_side = max_side
    if region is not None and max_side is not None:
        longest = max(region.width, region.height)
        whole_side = -(-max_side * max(header.width, header.height) // longest)
    factor = _jpeg_factor(header, whole_side)
    decoded_w, decoded_h = -(-header.width // factor), -(-header.height // factor)
    # A progressive JPEG is held whole in memory, as coefficients, whatever size comes out.
    n_pixels = decoded_w * decoded_h if header.sequential else header.width * header.height
    if n_pixels > max_pixels:
        raise ImageError(
            f"too many pixels: {header.width}x{header.height} = "
            f"{header.width * header.height / 1e6:.0f} million, "
            f"at most {max_pixels / 1e6:.0f} million"
        )
    pixels = _decode(header, factor, color=color)
    if factor > 1 and pixels.shape[:2] != (decoded_h, decoded_w):
        raise ImageError("damaged JPEG: two different sizes in one file")
    width, height, orientation = header.width, header.height, header.orientation
    if factor == 1:  # what came out is the truth: a TIFF comes turned
        height, width = pixels.shape[:2]
    whole = None
    if region is not None:
        if orientation >= 5:
            width, height = height, width
        whole = width, height
        region = region.within(width, height)
        pixels = _turn(pixels, orientation)  # to turn before reducing is slower, and only here
        orientation = 1
        pixels, region = _cut(pixels, region, factor, width, height)
        width, height = region.width, region.height
    pixels, across, down = _reduce(pixels, max_side)
    # Of a JPEG at 1/factor, px 0 covers px 0 .. factor-1 exactly; the last may be partly filling.
    scale_x, scale_y = factor * across, factor * down
    if orientation >= 5:
        width, height, scale_x, scale_y = height, width, scale_y, scale_x
    return _Decoded(_turn(pixels, orientation), width, height, scale_x, scale_y, region, whole)


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
    """Whether an error raised by OpenCV is for lack of memory, and not for the image's sake."""
    return isinstance(error, MemoryError) or getattr(error, "code", 0) == -4  # cv2.Error.StsNoMem


def read_bytes(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """The bytes of a regular file, or the first of them; every failure as an `ImageError`."""

    def open_without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO blocks otherwise

    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise ImageError(
                    f"file too large: {status.st_size / 1e6:,.0f} MB, "
                    f"at most {MAX_BYTES / 1e6:,.0f} MB"
                )
            return file.read(most)
    except ImageError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ImageError(reason, transient=error.errno not in _LASTING_ERRNOS) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"not a file name: {error}") from error


def _jpeg_factor(header: Header, max_side: int | None) -> int:
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


def _decode(header: Header, factor: int, *, color: bool) -> npt.NDArray[np.uint8]:
    """Decode to gray or BGR, as stored (TIFF: upright), a JPEG at 1/factor of its size."""
    import cv2

    flag = {
        1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR),
        2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
        4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
        8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
    }[factor][color]
    data = np.frombuffer(header.data, np.uint8)
    try:
        with _silent_opencv():
            decoded: Any = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, MemoryError) as error:
        if is_out_of_memory(error):
            raise ImageError("not enough memory to decode it", transient=True) from error
        decoded = None
    if decoded is None:
        raise ImageError(
            f"{header.kind} cannot be decoded: cut short, damaged, or a variant not supported"
        )
    pixels: npt.NDArray[np.uint8] = decoded
    return pixels


def _cut(
    pixels: npt.NDArray[np.uint8], region: Region, factor: int, width: int, height: int
) -> tuple[npt.NDArray[np.uint8], Region]:
    """The region of upright pixels at 1/factor, grown to whole ones, and what became of it."""
    x, y = region.left // factor, region.top // factor
    end_x = -(-(region.left + region.width) // factor)
    end_y = -(-(region.top + region.height) // factor)
    left, top = x * factor, y * factor
    w, h = min(end_x * factor, width) - left, min(end_y * factor, height) - top
    return pixels[y:end_y, x:end_x], Region(left, top, w, h)


def _reduce(
    pixels: npt.NDArray[np.uint8], max_side: int | None
) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Shrink to ``max_side``; returns the pixels and the factors of width and of height."""
    h, w = pixels.shape[:2]
    if max_side is None or max(w, h) <= max_side:
        return pixels, 1.0, 1.0
    import cv2

    by = max(w, h) / max_side
    small_w, small_h = max(1, round(w / by)), max(1, round(h / by))
    small: Any = cv2.resize(pixels, (small_w, small_h), interpolation=cv2.INTER_AREA)
    return np.asarray(small), w / small_w, h / small_h


def _turn(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn stored pixels upright by their EXIF orientation 1 .. 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    step_y = -1 if orientation in (3, 4, 7, 8) else 1
    step_x = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::step_y, ::step_x])


class _Silence:
    """How many threads decode now, and OpenCV's log level from before the first of them."""

    lock: Final = threading.Lock()
    n_inside = 0
    level_before = 0


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """Hold OpenCV's log, one for the process, while any thread decodes; then as it was.

    The reason that matters reaches the caller as an `ImageError`; OpenCV's lines about the same
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
