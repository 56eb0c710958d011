"""One collection for all tests of figures, indexed once."""

from __future__ import annotations

import pytest

from photos import write_photos
from vladkit import Collection


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder of photographs, and a collection of them."""
    home = tmp_path_factory.mktemp("plot")
    write_photos(home / "p")
    with Collection.create(home / "c", n_clusters=32) as collection:
        collection.add([home / "p"])
    return home


@pytest.fixture(scope="module")
def collection(home):
    with Collection.open(home / "c", read_only=True) as collection:
        yield collection
