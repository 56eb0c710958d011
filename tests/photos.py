"""Real photographs: those that scikit-image ships, altered as people alter images."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage

NAMES = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"]
NAMES += ["hubble_deep_field", "ihc", "moon", "motorcycle_left", "page", "retina", "rocket"]


def photo(name: str) -> np.ndarray:
    """BGR pixels of one photograph."""
    folder = Path(skimage.__file__).parent / "data"
    return cv2.imread(str(next(folder.glob(f"{name}.*"))))


def cropped(image: np.ndarray) -> np.ndarray:
    h, w = image.shape[:2]
    return image[h // 5 : h, : w - w // 4]


def darker(image: np.ndarray) -> np.ndarray:
    return (image * 0.6).astype(np.uint8)


def smaller(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)


ALTERED = {"cropped": cropped, "darker": darker, "smaller": smaller}


def write_photos(folder: Path, names: list[str] = NAMES) -> dict[str, Path]:
    """Those photographs as JPEG files in `folder`, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in names:
        files[name] = folder / f"{name}.jpg"
        files[name].write_bytes(_jpeg(name))
    return files


@cache
def _jpeg(name: str) -> bytes:
    return cv2.imencode(".jpg", photo(name), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def altered_files(folder: Path, names: list[str]) -> list[tuple[str, Path]]:
    """Those photographs, each altered in every way: (name, JPEG file in `folder`)."""
    files = []
    for name in names:
        for how, alter in ALTERED.items():
            file = folder / f"{name}-{how}.jpg"
            cv2.imwrite(str(file), alter(photo(name)))
            files.append((name, file))
    return files
