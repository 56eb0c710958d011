"""What tests of several rooms start from."""

from __future__ import annotations

import cv2
import pytest

from photos import cropped, photo, write_photos
from vladkit import Collection


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """photos/ of scikit-image's photographs, photos.vlad of them, query.png: a part of one.

    Every test of a process reads these: one that changes anything changes a copy, `own`.
    Modules whose images or recipe differ have a `home` of their own.
    """
    home = tmp_path_factory.mktemp("home")
    write_photos(home / "photos")
    with Collection.create(home / "photos.vlad", n_clusters=32) as collection:
        collection.add([home / "photos"])
    cv2.imwrite(str(home / "query.png"), cropped(photo("coffee")))
    return home


@pytest.fixture(scope="session")
def collection(home):
    """photos.vlad, open for reading."""
    with Collection.open(home / "photos.vlad", read_only=True) as collection:
        yield collection
