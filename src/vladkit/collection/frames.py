"""Frames of a video that are worth indexing: the sharpest of their neighbours, each new by a share.

A run writes into ``FOLDER.partial``, which becomes FOLDER when all is written. Whether a frame is
new is decided by the file that was written, so that a run that goes on gives what one run gives.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.files import replace_file
from vladkit.core.params import Interval, check_parameter
from vladkit.errors import ImageError, ParameterError, StorageError
from vladkit.features import Features, Sift, match_rule
from vladkit.features.pool import extract_data
from vladkit.geometry.verification import verify_all
from vladkit.images.opencv import one_opencv_thread, within_memory
from vladkit.images.video import Video

if TYPE_CHECKING:
    from vladkit.collection.indexing import Progress

__all__ = ["Frame", "Frames", "extract_frames", "sharpness"]

TABLE: Final = "frames.csv"
_RUN: Final = "run.json"

_SIDE: Final = 640
"""Longest side in px at which sharpness is measured: finer blur is lost to the features, too."""

_FEATURES: Final = 1000
"""Features by which a frame is compared with the last that was kept."""

_QUALITY: Final = 95


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was kept.

    Parameters
    ----------
    name : str
        Its file, named after its time, rounded to ms; by a later ms where one has that name.
    seconds : float
        Its time in the video, as the container has it.
    sharpness : float
        See `sharpness`; comparable within one video only.
    new : float
        Share of its features that do not match the frame kept before, 0 to 1; 1 for the first.
    """

    name: str
    seconds: float
    sharpness: float
    new: float


@dataclass(frozen=True, slots=True)
class Frames:
    """The kept frames of a video, and how much was looked at.

    Parameters
    ----------
    frames : tuple of Frame
        In order of time.
    read, stated : int
        Number of frames that could be read, and of those by the header (0: it has none), which
        has more than can be read of a whole file, too, such as one that was trimmed.
    plain : int
        Number of candidates in which no feature was found, such as black ones.
    """

    frames: tuple[Frame, ...]
    read: int
    stated: int
    plain: int


def sharpness(image_yx3: npt.NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the gray levels, at 640 px: the higher, the sharper.

    Parameters
    ----------
    image_yx3 : uint8 array (y, x, 3)

    References
    ----------
    Pech-Pacheco et al., *Diatom autofocusing in brightfield microscopy*, ICPR 2000.

    Examples
    --------
    >>> import numpy as np
    >>> noise_yx3 = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    >>> sharpness(noise_yx3) > sharpness(np.full((48, 64, 3), 99, np.uint8))
    True
    """
    import cv2

    h, w = image_yx3.shape[:2]
    scale = _SIDE / max(h, w)
    if scale < 1:
        size = max(1, round(w * scale)), max(1, round(h * scale))
        image_yx3 = np.asarray(cv2.resize(image_yx3, size, interpolation=cv2.INTER_AREA), np.uint8)
    gray_yx = cv2.cvtColor(image_yx3, cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(gray_yx, cv2.CV_32F).var())


def extract_frames(
    video: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    new: float = 0.6,
    window: float = 0.5,
    progress: Progress | None = None,
) -> Frames:
    """Write the sharp frames of a video that show something new, as JPEG, into a new folder.

    Parameters
    ----------
    video : path
    folder : path
        Not there yet, or empty. It also gets ``frames.csv``: name, seconds, sharpness, new.
    new : float, default=0.6
        Least share of a frame's features that do not match the frame kept before. Of two frames of
        a camera at rest about a third do not match; 0 keeps the sharpest of each window.
    window : float, default=0.5
        Seconds of which only the sharpest frame is looked at.
    progress : callable or None

    Raises
    ------
    ImageError
        If the video cannot be read, or no frame of it has features.
    ParameterError
        If an option is out of range, the folder is not empty, or a run with another video or other
        options left its ``FOLDER.partial``.
    StorageError
        If it cannot be written. What was written stays in ``FOLDER.partial``, and the same call
        goes on from there. At once if a file system is mounted there.
    """
    check_parameter("new", new, Interval(float, 0, 1))
    check_parameter("window", window, Interval(float, 0.001, 86_400))
    target = Path(os.path.realpath(folder))
    try:
        is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except OSError as error:  # such as a name that is too long
        raise StorageError(f"cannot write {folder}: {error.strerror}") from error
    if not is_free:
        raise ParameterError(f"{folder} is there already: give a folder that is not")
    if os.path.ismount(target):
        raise StorageError(
            f"{folder} is a mounted folder, which another cannot replace: give one below it, such "
            f"as {os.path.join(folder, 'frames')}"
        )
    with Video(video) as opened, one_opencv_thread():
        try:
            found = _Run(target, video, new, window).go(opened, progress)
        except OSError as error:
            if isinstance(error, ImageError | StorageError):
                raise
            raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error
    if not found.read:
        raise ImageError(
            "none of its frames can be decoded: it is damaged, or its codec is one that this "
            "OpenCV lacks, such as AV1: convert it to H.264"
        )
    if not found.frames:
        raise ImageError(f"none of its {found.read} frames has features: nothing is written")
    return found


class _Run:
    """One folder in the making."""

    def __init__(
        self, target: Path, video: str | os.PathLike[str], new: float, window: float
    ) -> None:
        self._target, self._new, self._window = target, new, window
        self._partial = target.with_name(f"{target.name}.partial")
        self._extractor = Sift(max_features=_FEATURES)
        status = os.stat(video)
        made_of: dict[str, float | str] = {"new": new, "window": window, "size": status.st_size}
        made_of |= {"video": os.path.realpath(video), "changed": status.st_mtime_ns}
        run = self._partial / _RUN
        if not self._partial.is_dir() or not any(self._partial.iterdir()):
            self._partial.mkdir(parents=True, exist_ok=True)
            with replace_file(run) as file:
                file.write(json.dumps(made_of).encode())
        elif not run.is_file() or _json(run) != made_of:
            raise ParameterError(
                f"{self._partial} is there, of another video or other options: go on with those, "
                "or delete it"
            )
        self._kept = self._read()

    def _read(self) -> list[Frame]:
        """Frames that a run before this one kept."""
        table = self._partial / TABLE
        if not table.exists():
            return []
        lines = table.read_text().splitlines(keepends=True)
        rows = list(csv.reader(line for line in lines[1:] if line.endswith("\n")))
        return [Frame(name, *map(float, values)) for name, *values in rows]

    def _name(self, seconds: float) -> str:
        """Name of the next file, after those that are kept: names rise with the time."""
        least = float(self._kept[-1].name.removesuffix("s.jpg")) + 0.001 if self._kept else 0.0
        return f"{max(round(seconds, 3), least):010.3f}s.jpg"

    def _write(self, frame: Frame, data: bytes) -> None:
        with replace_file(self._partial / frame.name) as file:
            file.write(data)
        self._kept.append(frame)
        names = [field.name for field in fields(Frame)]
        with replace_file(self._partial / TABLE) as file:
            lines = [names, *(astuple(each) for each in self._kept)]
            file.writelines(f"{','.join(map(str, line))}\n".encode() for line in lines)

    def _features(self, data: bytes) -> Features | None:
        try:
            return extract_data(self._extractor, data)
        except ImageError as error:
            if error.transient:
                raise
            return None

    def go(self, video: Video, progress: Progress | None) -> Frames:
        """All of the video; what is kept already is passed over."""
        read = plain = 0
        done = self._kept[-1].seconds if self._kept else -1.0
        last = (
            self._features((self._partial / self._kept[-1].name).read_bytes())
            if done >= 0
            else None
        )

        def count() -> Iterator[float]:
            nonlocal read
            for seconds in video.times():
                read += 1
                if progress and not read % 100:
                    progress("frames", read, max(read, video.n_frames))
                yield seconds

        for seconds, sharp, frame_yx3 in _sharpest(video, count(), self._window, done):
            data = _as_jpeg(frame_yx3)
            features = self._features(data)
            if features is None:
                plain += 1
                continue
            share = 1.0 if last is None else self._share(features, last)
            if share >= self._new:
                name = self._name(seconds)
                self._write(Frame(name, seconds, round(sharp, 1), round(share, 3)), data)
                last = features
        found = Frames(tuple(self._kept), read, video.n_frames, plain)
        if not self._kept:
            (self._partial / _RUN).unlink()
            self._partial.rmdir()
            return found
        with suppress(FileNotFoundError):
            self._target.rmdir()  # empty
        os.rename(self._partial, self._target)
        (self._target / _RUN).unlink()  # only now: what fails before may be done again
        return found

    def _share(self, features: Features, last: Features) -> float:
        """Share of features that do not match the last kept frame, in one rigid scene."""
        rule = match_rule(self._extractor)
        (found,) = verify_all(
            features,
            [last],
            self._extractor.metric,
            model="fundamental",
            ratio=rule.ratio,
            n_jobs=1,
        )
        return 1 - found.n_inliers / len(features)


def _json(file: Path) -> object:
    """Content of a JSON file; None if it is none."""
    with suppress(ValueError):
        return json.loads(file.read_bytes())
    return None


def _sharpest(
    video: Video, times: Iterator[float], window: float, done: float
) -> Iterator[tuple[float, float, npt.NDArray[np.uint8]]]:
    """The sharpest frame of each window after the one that `done` is in: time, sharpness, BGR."""
    best: tuple[float, float, npt.NDArray[np.uint8]] | None = None
    number = int(done / window) if done >= 0 else -1
    for seconds in times:
        if (current := int(seconds / window)) <= number and best is None:
            continue
        if best is not None and current != number:
            yield best
            best = None
        frame_yx3 = video.frame()
        if frame_yx3 is None:
            continue
        number = current
        sharp = sharpness(frame_yx3)
        if best is None or sharp > best[1]:
            best = seconds, sharp, frame_yx3
    if best is not None:
        yield best


def _as_jpeg(frame_yx3: npt.NDArray[np.uint8]) -> bytes:
    import cv2

    with within_memory():
        is_made, data = cv2.imencode(".jpg", frame_yx3, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not is_made:
        raise ImageError("a frame of it cannot be written as JPEG")
    return data.tobytes()
