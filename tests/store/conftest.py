"""A small collection for tests of its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from images import textured
from vladkit import Collection


@pytest.fixture(scope="session")
def ready(tmp_path_factory):
    """(collection file, folder) of a dozen images; copy before changing."""
    home = tmp_path_factory.mktemp("keeping")
    (home / "images").mkdir()
    for i in range(12):
        cv2.imwrite(str(home / "images" / f"{i:02}.png"), textured(120, 90, seed=i))
    recipe = {"n_clusters": 8, "keep_features": 50, "keep_bytes": 0, "enlarge_to": 0}
    with Collection.create(home / "c", **recipe) as collection:
        collection.add([home / "images"])
    return home / "c", home / "images"


@pytest.fixture
def own(ready, tmp_path):
    """A copy of that file that may be changed."""
    return Path(shutil.copy(ready[0], tmp_path / "c"))
