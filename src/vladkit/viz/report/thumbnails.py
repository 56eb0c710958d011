"""Thumbnails of an HTML report: each image is made small once, and kept in the report itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from vladkit.core.names import real
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.images import as_jpeg, decode_image, one_opencv_thread, read_bytes

__all__ = ["LARGE", "SMALL", "Thumbnail", "thumbnails"]

SMALL: Final = 176
"""Longest side, in px, of an image in a row of many: 4 to 9 kB."""

LARGE: Final = 480
"""Longest side, in px, of an image with drawn matches."""

_QUALITY: Final = 75


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image in an HTML report.

    Parameters
    ----------
    key : str
        Id of its element.
    width, height : int
        Size of the original image, upright, in px; 0 if it cannot be read.
    data : str
        JPEG as a data URI; empty if the image cannot be read.
    reason : str
        Reason why it cannot be read.
    """

    key: str
    width: int = 0
    height: int = 0
    data: str = ""
    reason: str = ""


def thumbnails(
    side_of: Mapping[str, int],
    *,
    within: Sequence[str] | None = None,
    given: Container[str] = (),
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Thumbnail]:
    """Thumbnails of many images, made on threads.

    Parameters
    ----------
    side_of : mapping
        File to the longest side of its thumbnail, in px.
    within : sequence of str or None
        Folders in one of which a file has to be, see `vladkit.images.files.open_file`.
    given : container of str
        Files that may be anywhere: the user gave them.
    n_jobs : int or None
        Threads; None is one for each core.
    progress : callable or None
        Called with the number of images done, and of all.

    Returns
    -------
    dict
        File to its thumbnail. Two names of one file share one.
    """
    real_of = {file: real(file) for file in side_of}
    largest: dict[str, int] = {}  # a file that goes by two names is made once
    free = set()
    for file, side in side_of.items():
        largest[real_of[file]] = max(side, largest.get(real_of[file], 0))
        if file in given:
            free.add(real_of[file])
    made: dict[str, Thumbnail] = {}
    threads = max(1, min(resolve_n_jobs(n_jobs), len(largest)))
    with one_opencv_thread(), ThreadPoolExecutor(threads, "vladkit-thumbnails") as pool:
        limits = (None if file in free else within for file in largest)
        arguments = range(len(largest)), largest.keys(), largest.values(), limits
        results = pool.map(_thumbnail, *arguments)
        for file, thumbnail in zip(largest, results, strict=True):
            made[file] = thumbnail
            if progress:
                progress(len(made), len(largest))
    return {file: made[name] for file, name in real_of.items()}


def _thumbnail(number: int, file: str, side: int, within: Sequence[str] | None) -> Thumbnail:
    key = f"p{number}"
    try:
        content = read_bytes(file, within=within)
        image = decode_image(content, max_side=side, color=True, longest=True)
        jpeg = as_jpeg(image, quality=_QUALITY)
    except ImageError as error:
        return Thumbnail(key, reason=error.reason)
    data = "data:image/jpeg;base64," + b64encode(jpeg).decode("ascii")
    return Thumbnail(key, image.width, image.height, data)
