"""Small images that index fast, and a copy of the photographs' collection."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from images import textured


@pytest.fixture
def small(tmp_path):
    """A folder of small images that index fast."""
    folder = tmp_path / "small"
    folder.mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / f"{i}.png"), textured(120, 90, seed=i))
    return folder


@pytest.fixture
def own(home, tmp_path):
    return Path(shutil.copy(home / "photos.vlad", tmp_path / "own.vlad"))
