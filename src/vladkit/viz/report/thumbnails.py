"""The images of a page: each made small once, in bytes that the page holds itself."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ImageError
from vladkit.images import as_jpeg, one_opencv_thread, read_image

__all__ = ["LARGE", "SMALL", "Thumbnail", "thumbnails"]

SMALL: Final = 176
"""px, the longest side of an image in a row of many: 4 to 9 kB."""

LARGE: Final = 480
"""px, of an image that shows what was matched."""

_QUALITY: Final = 75


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image in a page.

    Parameters
    ----------
    key : str
        Its id in the page.
    width, height : int
        px of the original image, upright; 0 if there is none.
    data : str
        JPEG as a data URI; empty if there is none.
    reason : str
        Why there is none.
    """

    key: str
    width: int = 0
    height: int = 0
    data: str = ""
    reason: str = ""


def thumbnails(
    side_of: Mapping[str, int],
    *,
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Thumbnail]:
    """Read images on threads and make them small.

    Parameters
    ----------
    side_of : mapping
        File to the longest side that it is wanted at, in px.
    n_jobs : int or None
        Threads; None is one for each core.
    progress : callable or None
        Called with how many are done and how many there are.

    Returns
    -------
    dict
        Of every file; where it cannot be read, with the reason. Two names of one file share one.
    """
    real_of = {file: os.path.realpath(file) for file in side_of}
    largest: dict[str, int] = {}  # a file that goes by two names is made once
    for file, side in side_of.items():
        largest[real_of[file]] = max(side, largest.get(real_of[file], 0))
    made: dict[str, Thumbnail] = {}
    threads = max(1, min(resolve_n_jobs(n_jobs), len(largest)))
    with one_opencv_thread(), ThreadPoolExecutor(threads, "vladkit-thumbnails") as pool:
        results = pool.map(_thumbnail, range(len(largest)), largest.keys(), largest.values())
        for file, thumbnail in zip(largest, results, strict=True):
            made[file] = thumbnail
            if progress:
                progress(len(made), len(largest))
    return {file: made[real] for file, real in real_of.items()}


def _thumbnail(number: int, file: str, side: int) -> Thumbnail:
    key = f"p{number}"
    try:
        image = read_image(file, max_side=side, color=True)
        jpeg = as_jpeg(image, quality=_QUALITY)
    except ImageError as error:
        return Thumbnail(key, reason=error.reason)
    data = "data:image/jpeg;base64," + b64encode(jpeg).decode("ascii")
    return Thumbnail(key, image.width, image.height, data)
