"""Features of photographs, to be written as other programs write them."""

from __future__ import annotations

import pytest

import sources


@pytest.fixture(scope="session")
def images():
    return sources.sift_of_photos(6)
