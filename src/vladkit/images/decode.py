"""Decoding of image files to pixels: upright, within limits, reduced where asked for.

OpenCV decodes. What OpenCV leaves open is settled before, from the header alone (`header`): how big
the image is before memory is spent on it, which way up it is, and whether the file ends early; and
after, where samples are not 8 bits or may be transparent (`levels`).

Measured with OpenCV 4.8.1, 4.12 and 5.0.0 (``tests/images`` holds the cases):

- Orientation: OpenCV rotates JPEG and PNG unless told not to, WebP only in 5.0, and each tile of a
  TIFF by itself. So all are decoded as they lie and set upright here, whatever the version.
- Truncated files: 4.8 accepts a JPEG that ends anywhere in its pixels; both accept an animated PNG
  that ends in its second frame and a TIFF without its last four bytes. All pass over an error of
  libjpeg's behind the last row of a JPEG that is not progressive (`jpeg`).
- Samples: gray levels of PNM ignore its largest sample, those of 16 bits are the upper 8, signs and
  transparency are ignored, and floats are not read. So these come as they are stored.
- Messages on stderr: OpenCV's own log lines are held back while decoding. libjpeg and libpng write
  theirs ("Corrupt JPEG data: ...", "libpng error: ...") where Python cannot reach them. Checking
  PNG checksums and dropping its optional chunks before decoding avoids nearly all of libpng's;
  libjpeg's remain for JPEGs that are complete but damaged inside.
"""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.errors import ImageError, ParameterError
from vladkit.images.files import read_bytes
from vladkit.images.forms import FORMS, InMemory, file_data
from vladkit.images.header import Header, read_header
from vladkit.images.heic import decode_heic
from vladkit.images.image import Image
from vladkit.images.jxl import decode_jxl
from vladkit.images.levels import form_of, to_levels
from vladkit.images.opencv import is_out_of_memory, silent_opencv
from vladkit.images.pieces import DAMAGED, Pieces
from vladkit.images.region import Region, RegionLike, as_region

__all__ = ["MAX_PIXELS", "decode_image", "decoder_facts", "read_image"]

MAX_PIXELS: Final = 200_000_000
"""Number of pixels above which an image is refused, such as 16,000 x 12,500: 200 MB of gray, about
1 GB on the way."""

_MOST_SCANS: Final = 40
"""Most scans of a JPEG of ``max_pixels``; in proportion more of a smaller one. They may take no
bytes, but each is a pass over all pixels (.35 ns each at least). Encoders make 10."""

_HELD_BYTES: Final = 700_000_000
_MOST_RATIO: Final = 50
"""Memory in bytes that any file may take to be decoded, and how many times its own size a larger
one: lossless photographs are packed to a quarter or more, a blank image to a thousandth."""

_MOST_BYTES: Final = 6
"""Most bytes of a pixel of ``max_pixels`` with transparency or deep samples, such as red, green and
blue of 16 bits; in proportion more of smaller images. The decoder holds them twice."""


def read_image(
    path: str | os.PathLike[str] | InMemory,
    *,
    max_side: int | None = 640,
    region: RegionLike = None,
    color: bool = False,
    longest: bool = False,
) -> Image:
    """Read an image file, upright, reduced to ``max_side``.

    Parameters
    ----------
    path : str, path or image in memory
        JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, binary PBM/PGM/PPM; HEIC with the extra ``heic``,
        JPEG XL with ``jxl``; of camera RAW (DNG, CR2, CR3, NEF, ARW, PEF, RAF,
        RW2) the largest JPEG in it.
        The content decides, not the suffix; of several frames or pages the first counts (of a TIFF
        the first that is no reduced copy).
    max_side : int or None, default=640
        Longest side of the result in px, up to 2:1; see `decode_image`. None keeps the original
        size.
    region : Region, (left, top, width, height) or None
        Only this part, as if it were an image of its own.
    color : bool, default=False
        RGB pixels instead of gray ones.
    longest : bool, default=False
        The longest side is at most ``max_side`` in any shape, as for thumbnails.

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        The file cannot be read (``transient=True`` unless its name or kind is to blame), is no
        regular file, is empty, is larger than `MAX_BYTES`; or for the reasons of `decode_image`.
    ParameterError
        ``max_side`` is below 1, or the region is outside of the image.

    Notes
    -----
    A FIFO or a device is refused without waiting for it.
    """
    data = read_bytes(path) if isinstance(path, str | os.PathLike) else path
    return decode_image(data, max_side=max_side, region=region, color=color, longest=longest)


def decode_image(
    data: InMemory,
    *,
    max_side: int | None = 640,
    region: RegionLike = None,
    color: bool = False,
    longest: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Decode the bytes of an image file; see `read_image`.

    Parameters
    ----------
    data : bytes, open file, array or Pillow's Image
        The whole file, or pixels (uint8: gray (y, x) or RGB (y, x, 3)).
    max_side : int or None, default=640
        Longest side of the result in px, up to 2:1; None keeps the original size. Of longer shapes
        the short side is half of ``max_side``, as long as there are no more than ``max_side`` ** 2
        px: 20,000 x 500 becomes 4,048 x 101, where 640 x 16 would be no use.
    region : Region, (left, top, width, height) or None
        Only this part, as if it were an image of its own. In a JPEG that is decoded smaller it
        grows to whole blocks: `Image.region` is the part that came out.
    color : bool, default=False
        RGB pixels, for gray files with three equal channels; otherwise gray ones, as the decoder
        makes them.
    longest : bool, default=False
        The longest side is at most ``max_side`` in any shape, as for thumbnails.
    max_pixels : int
        Images of more are refused.

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        The data are empty, no image, truncated, damaged, of a kind that is not read, or have more
        than ``max_pixels`` pixels or, with deep samples or transparency, 6 bytes for each.
    ParameterError
        ``max_side`` is below 1, or the region is outside of the image.

    Notes
    -----
    Samples of more than 8 bits, signed ones and floats become gray levels by the range that they
    use; transparent pixels are seen over white (docs/how-to/collections.md). A JPEG of more than
    twice ``max_side`` is decoded at 1/2, 1/4 or 1/8, straight from its 8x8 blocks (12 MP: 15 ms
    instead of 42), and only what is decoded then counts towards ``max_pixels``. The last step down
    averages areas. Meanwhile OpenCV's log is silent in the whole process.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> _, png = cv2.imencode(".png", np.zeros((300, 400), np.uint8))
    >>> decode_image(png.tobytes(), max_side=100)
    Image(100x75 px, from 400x300 px)
    >>> decode_image(png.tobytes()[:-4])
    Traceback (most recent call last):
    ...
    vladkit.errors.ImageError: truncated PNG: no IEND chunk
    """
    if max_side is not None and max_side < 1:
        raise ParameterError(f"max_side is {max_side}: give at least 1 px, or None for no limit")
    region = as_region(region)
    content = file_data(data)
    if content is None:
        raise ParameterError(f"image is a {type(data).__name__}: give {FORMS}")
    header = read_header(content)
    part = region or header
    factor = _jpeg_factor(header, _reduction(part.width, part.height, max_side, longest=longest))
    size = -(-header.width // factor), -(-header.height // factor)
    # A JPEG that is not sequential is held whole in memory, whatever size comes out.
    _check_size(*(size if header.sequential else (header.width, header.height)), max_pixels)
    if header.largest_tile > max_pixels:
        raise ImageError(f"a tile of {header.largest_tile / 1e6:.0f} million pixels, too many")
    n_bytes = header.n_bytes * max(header.width * header.height, header.largest_tile)
    if header.form and n_bytes > _MOST_BYTES * max_pixels:
        raise ImageError(
            f"its samples take {n_bytes / 1e6:,.0f} MB, "
            f"at most {_MOST_BYTES * max_pixels / 1e6:,.0f} MB"
        )
    # What the decoder holds: deep samples twice; WebP in colour, and then in gray.
    held = (
        2 * n_bytes if header.form else 4 * header.width * header.height * (header.kind == "WebP")
    )
    if held > max(_HELD_BYTES, _MOST_RATIO * len(header.data)):
        raise ImageError(
            f"{header.width}x{header.height} px take {held / 1e6:,.0f} MB, too much for a file of "
            f"{len(header.data) / 1e3:,.0f} kB"
        )
    _check_scans(header, max_pixels)
    pixels = _decode(header, factor, max_pixels, color=color)
    if header.pieces:
        _check_pieces(header.pieces)
    _check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    if factor > 1 and pixels.shape[:2] != size[::-1]:
        raise ImageError("damaged JPEG: two different sizes in one file")
    width, height, orientation = header.width, header.height, header.orientation
    if factor == 1:  # what came out is the truth
        height, width = pixels.shape[:2]
    whole = None
    if region is not None:
        if orientation >= 5:
            width, height = height, width
        whole = width, height
        region = region.within(width, height)
        pixels = _upright(pixels, orientation)  # slower before reducing, so only here
        orientation = 1
        pixels, region = _cut(pixels, region, factor, width, height)
        width, height = region.width, region.height
    pixels, across, down = _reduce(pixels, max_side, longest=longest)
    # In a JPEG at 1/factor, px 0 covers px 0 .. factor-1 exactly; the last may be partly filling.
    scale_x, scale_y = factor * across, factor * down
    if orientation >= 5:
        width, height, scale_x, scale_y = height, width, scale_y, scale_x
    pixels = _upright(pixels, orientation)
    if color:
        import cv2

        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return Image(pixels, width, height, scale_x, scale_y, region, whole, header.photo)


def _check_scans(header: Header, max_pixels: int) -> None:
    n_passed = header.n_scans * header.width * header.height
    if not header.sequential and n_passed > _MOST_SCANS * max_pixels:
        raise ImageError(f"{header.n_scans:,} scans of {header.width}x{header.height} px, too many")


def _check_pieces(pieces: Pieces) -> None:
    """Raise ImageError if a strip or tile cannot be unpacked."""
    import cv2

    for file in pieces.files():
        try:
            _opencv("TIFF", file, flag=cv2.IMREAD_UNCHANGED)
        except ImageError as error:
            if error.transient:
                raise
            raise ImageError(DAMAGED) from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"too many pixels: {width}x{height} = {width * height / 1e6:.0f} million, "
            f"at most {max_pixels / 1e6:.0f} million"
        )


def decoder_facts() -> dict[str, str]:
    """The decoder and its version: facts that decide the pixels besides the file and ``max_side``.

    Extractors keep them among their parameters.

    Returns
    -------
    dict of str

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


def _reduction(width: int, height: int, max_side: int | None, *, longest: bool) -> float:
    """Factor by which an image is to be smaller; at most 1 where it is small enough.

    Up to 2:1 the longest side is ``max_side``. Of longer shapes the short side stays half of it,
    as long as there are no more pixels than in a square.
    """
    if max_side is None:
        return 1.0
    long, short = max(width, height), min(width, height)
    if longest:
        return long / max_side
    return max(min(long / max_side, 2 * short / max_side), math.sqrt(long * short) / max_side)


def _jpeg_factor(header: Header, by: float) -> int:
    """Largest of 8, 4, 2, 1 by which a JPEG may be decoded smaller."""
    if header.kind != "JPEG" or header.form:
        return 1
    w, h = header.width, header.height
    for factor in (8, 4, 2):
        # Blocks are counted from the stored top-left corner. Where rotating moves that corner, only
        # a whole number of blocks keeps coordinates exact; cameras' sizes divide by 8 anyway.
        exact = header.orientation == 1 or (w % factor == 0 and h % factor == 0)
        if by >= factor and exact:
            return factor
    return 1


def _decode(header: Header, factor: int, max_pixels: int, *, color: bool) -> npt.NDArray[np.uint8]:
    """Decode to gray or BGR, as stored, a JPEG at 1/factor of its size."""
    import cv2

    if header.kind == "JPEG XL":
        content = decode_jxl(header.data)
        if not isinstance(content, bytes):
            return to_levels(*content, color=color)
        jpeg = read_header(content)
        if (jpeg.kind, jpeg.width, jpeg.height) != ("JPEG", header.width, header.height):
            raise ImageError("damaged JPEG XL: it holds another image than it says")
        _check_scans(jpeg, max_pixels)
        return _decode(jpeg, 1, max_pixels, color=color)
    if header.kind == "HEIC":
        sample_yxc, form = decode_heic(header.data)
        return to_levels(sample_yxc, form, color=color)
    name = f"{header.kind} with {header.variant}" if header.variant else header.kind
    if header.form:
        decode = partial(_opencv, name, flag=cv2.IMREAD_UNCHANGED)
        if header.packed:
            return to_levels(header.packed.unpack(decode), header.form, color=color)
        sample_yxc = np.atleast_3d(decode(header.data))
        if header.kind == "BMP" and not sample_yxc[:, :, -1].any():
            sample_yxc = sample_yxc[:, :, :3]  # nobody wrote an opacity
        form = form_of(header.form, sample_yxc.shape[2])
        return to_levels(sample_yxc, form, color=color)
    flag = {
        1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR),
        2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
        4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
        8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
    }[factor][color]
    return _opencv(name, header.data, flag=flag | cv2.IMREAD_IGNORE_ORIENTATION)


def _opencv(kind: str, data: bytes, *, flag: int) -> npt.NDArray[Any]:
    import cv2

    try:
        with silent_opencv():
            decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except (cv2.error, MemoryError) as error:
        if is_out_of_memory(error):
            raise ImageError("not enough memory to decode it", transient=True) from error
        decoded = None
    if decoded is None:
        raise ImageError(
            f"{kind} cannot be decoded: cut short, damaged, or a variant not supported"
        )
    return np.asarray(decoded)


def _cut(
    pixels: npt.NDArray[np.uint8], region: Region, factor: int, width: int, height: int
) -> tuple[npt.NDArray[np.uint8], Region]:
    """Pixels of a region, out of upright ones at 1/factor, and the region grown to whole ones."""
    x, y = region.left // factor, region.top // factor
    end_x = -(-(region.left + region.width) // factor)
    end_y = -(-(region.top + region.height) // factor)
    left, top = x * factor, y * factor
    w, h = min(end_x * factor, width) - left, min(end_y * factor, height) - top
    return pixels[y:end_y, x:end_x], Region(left, top, w, h)


def _reduce(
    pixels: npt.NDArray[np.uint8], max_side: int | None, *, longest: bool
) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Shrink to ``max_side``; returns the pixels and the factors of width and height."""
    h, w = pixels.shape[:2]
    by = _reduction(w, h, max_side, longest=longest)
    if by <= 1:
        return pixels, 1.0, 1.0
    import cv2

    small_w, small_h = max(1, round(w / by)), max(1, round(h / by))
    small = cv2.resize(pixels, (small_w, small_h), interpolation=cv2.INTER_AREA)
    return np.asarray(small), w / small_w, h / small_h


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Rotate and mirror stored pixels upright by their EXIF orientation 1 .. 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    step_y = -1 if orientation in (3, 4, 7, 8) else 1
    step_x = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::step_y, ::step_x])
