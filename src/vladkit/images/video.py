"""`Video`: the frames of a video file, upright, each with its time; OpenCV decodes them.

Nothing but the file itself is read. FFmpeg also opens playlists, which name other files and
addresses, so the first bytes have to be those of a container of `_CONTAINERS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from vladkit.core.files import is_special_file
from vladkit.errors import ImageError
from vladkit.images.decode import MAX_PIXELS
from vladkit.images.header import image_kind
from vladkit.images.opencv import silent_opencv, within_memory

__all__ = ["Video"]

_CONTAINERS: Final = (
    (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),  # MP4, MOV, 3GP
    (0, (b"\x1aE\xdf\xa3",)),  # Matroska, WebM
    (8, (b"AVI ",)),
    (0, (b"\0\0\x01\xba", b"\0\0\x01\xb3")),  # MPEG program stream, MPEG video
    (0, (b"0&\xb2u",)),  # ASF, WMV
    (0, (b"FLV\x01", b"OggS")),
)
"""Place of a signature in a file, and what it may be."""

_TS_PACKETS: Final = (188, 192)
"""Bytes from one 0x47 to the next in a transport stream; 192 in those of cameras (AVCHD)."""


class Video:
    """A video file that is open for reading, frame by frame; use it as a context manager.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    n_frames : int
        Number of frames by the header, 0 where that has none: counted, or estimated from the
        length. It may be wrong, and includes those that an edit list leaves out.

    Raises
    ------
    ImageError
        If the file cannot be opened, is empty or no video, or has frames of more than 200 million
        px.

    Examples
    --------
    >>> import tempfile, cv2, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/a.avi"
    ...     writer = cv2.VideoWriter(file, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    ...     for i in range(3):
    ...         _ = writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    ...     writer.release()
    ...     with Video(file) as video:
    ...         seconds = list(video.times())
    >>> seconds
    [0.0, 0.1, 0.2]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        _check_container(path)
        # FFmpeg prints what it thinks of a file; the reason that matters is raised
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        with silent_opencv():
            # an absolute path: a name with a colon is an address to FFmpeg
            self._capture: Any = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ImageError("no video that can be read: it is damaged, or lacks its end")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        sides = [
            self._capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        ]
        if not 0 < sides[0] * sides[1] <= MAX_PIXELS:
            self.close()
            raise ImageError(f"frames of {sides[0]:.0f} x {sides[1]:.0f} px: at most {MAX_PIXELS}")
        self.n_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def times(self) -> Iterator[float]:
        """Go through the frames, and give the time of each, in seconds, as the container has it.

        Frames do not go back in time: one that would has the time of the one before.
        """
        import cv2

        last = 0.0
        with silent_opencv():
            while self._capture.grab():
                last = max(last, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                yield round(last, 6)

    def frame(self) -> npt.NDArray[np.uint8] | None:
        """The frame that `times` has come to, BGR (y, x, 3), upright; None if it is damaged."""
        with within_memory(), silent_opencv():
            is_read, frame_yx3 = self._capture.retrieve()
        return frame_yx3 if is_read and frame_yx3 is not None and frame_yx3.size else None


def _check_container(path: str | os.PathLike[str]) -> None:
    """Raise ImageError unless a regular file is there that begins as a video does."""
    if is_special_file(path):
        raise ImageError("not a regular file")
    try:
        with open(path, "rb") as file:
            head = file.read(5 * max(_TS_PACKETS))
    except OSError as error:
        raise ImageError((error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"not a file name: {error}") from error
    if not head:
        raise ImageError("empty file")
    if kind := image_kind(head):  # before containers: HEIC and AVIF begin with ftyp, as MP4
        raise ImageError(f"no video, but an image ({kind}): give it to vladkit index")
    if any(head[at : at + len(s)] == s for at, known in _CONTAINERS for s in known):
        return
    for size in _TS_PACKETS:
        with suppress(IndexError):
            if all(head[i * size + size - 188] == 0x47 for i in range(4)):
                return
    raise ImageError("no video: neither MP4, MOV, Matroska, WebM, AVI, MPEG, ASF, FLV nor Ogg")
