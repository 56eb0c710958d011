"""A fixed folder gives the same collection as ever; to the bit on the same machine."""

from __future__ import annotations

import json

import numpy as np
import pytest

import golden_collection
from paths import DATA

STORED = json.loads((DATA / "golden_collection.json").read_text())


@pytest.fixture(scope="module")
def figures():
    return golden_collection.figures()


@pytest.mark.parametrize("setting", golden_collection.SETTINGS)
def test_vectors_and_rankings_are_those_of_the_stored_figures(figures, setting):
    found, stored = figures[setting], STORED["figures"][setting]
    assert found["paths"] == stored["paths"]
    assert found["shape"] == stored["shape"]
    # Another processor or library rounds otherwise, and k-means carries that on.
    np.testing.assert_allclose(found["similarities"], stored["similarities"], atol=0.05)
    assert found["rankings"].keys() == stored["rankings"].keys()
    for name, ranked in stored["rankings"].items():
        assert found["rankings"][name][0][0] == ranked[0][0], name
    if golden_collection.machine() == STORED["machine"]:
        assert found["sha256"] == stored["sha256"]
        assert found["similarities"] == stored["similarities"]
        assert found["rankings"] == stored["rankings"]
