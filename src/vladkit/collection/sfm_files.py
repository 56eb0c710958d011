"""Binary files of a model by COLMAP: whether their counts fit, before anything believes them.

COLMAP allocates what a count says, and reads on behind the end of a file that was cut: a model of
300 kB takes 4 GB, or never ends. So each file is walked first, which takes 0.2 s for a million
points.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vladkit.core.files import is_special_file
from vladkit.errors import FileFormatError

__all__ = ["check_model_files"]

_COUNT: Final = struct.Struct("<Q")
_SENSORS: Final = struct.Struct("<4xI")
_FRAME: Final = struct.Struct("<64xI")
_IMAGE_BYTES: Final = 64
"""Id, rotation, translation, camera; name and number of keypoints follow."""
_KEYPOINT_BYTES: Final = 24
_POINT: Final = struct.Struct("<43xQ")
_CAMERA: Final = struct.Struct("<4xi16x")
_PARAMETERS: Final = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12, 16, 4, 5, 3, 4, 6, 2)
"""Numbers of parameters by COLMAP's number of a camera's model, as of COLMAP 4.2."""


def check_model_files(folder: str | os.PathLike[str]) -> None:
    """Raise FileFormatError if a binary file of a model is shorter than it says.

    Those that are not there, or are text, are not looked at.
    """
    for name, follow in _RECORDS.items():
        file = Path(folder, f"{name}.bin")
        if is_special_file(file):
            raise FileFormatError(f"{file} is no regular file")
        if not file.is_file():
            continue
        try:
            _walk(file.read_bytes(), follow)
        except OSError as error:
            raise FileFormatError(f"cannot read {file}: {error.strerror or error}") from error
        except (struct.error, ValueError) as error:
            raise FileFormatError(
                f"{file} cannot be read as a model: it is shorter than it says, cut off or damaged"
            ) from error


def _walk(data: bytes, follow: Callable[[bytes, int], int]) -> None:
    """Go through the records of a file; struct.error or ValueError past its end."""
    (n,) = _COUNT.unpack_from(data)
    at = _COUNT.size
    for _ in range(n):
        at = follow(data, at)
        if at > len(data):
            raise ValueError("past the end")


def _camera(data: bytes, at: int) -> int:
    (model,) = _CAMERA.unpack_from(data, at)
    # COLMAP says itself which models it does not know
    n = _PARAMETERS[model] if 0 <= model < len(_PARAMETERS) else 0
    return at + _CAMERA.size + 8 * n


def _rig(data: bytes, at: int) -> int:
    (n,) = _SENSORS.unpack_from(data, at)
    at += _SENSORS.size + 8 * min(n, 1)  # the first is the reference, without a pose
    for _ in range(n - 1):
        has_pose = data[at + 8 : at + 9]
        if not has_pose:
            raise ValueError("past the end")
        at += 9 + 56 * has_pose[0]
    return at


def _frame(data: bytes, at: int) -> int:
    (n,) = _FRAME.unpack_from(data, at)
    return int(at + _FRAME.size + 16 * n)


def _image(data: bytes, at: int) -> int:
    at = data.index(b"\0", at + _IMAGE_BYTES) + 1
    (n,) = _COUNT.unpack_from(data, at)
    return int(at + _COUNT.size + _KEYPOINT_BYTES * n)


def _point(data: bytes, at: int) -> int:
    (n,) = _POINT.unpack_from(data, at)
    return int(at + _POINT.size + 8 * n)


_RECORDS: Final = {
    "rigs": _rig,
    "cameras": _camera,
    "frames": _frame,
    "images": _image,
    "points3D": _point,
}
"""Functions that give the end of the record that begins at a place, by the name of the file."""
