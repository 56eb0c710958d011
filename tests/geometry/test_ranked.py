"""Verification of a ranking: what is matched in part has the outcome of a full match."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from photos import cropped, photo
from vladkit.features import Sift
from vladkit.geometry import ranked
from vladkit.geometry.ranked import verify_ranked
from vladkit.geometry.verification import verify_all

RULE = {"ratio": 0.9, "min_cosine": -1.0, "n_jobs": 1}
NAMES = ["astronaut", "camera", "coffee"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Features of a part of the coffee, and of photographs."""
    folder, sift = tmp_path_factory.mktemp("ranked"), Sift()

    def read(name, pixels):
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
        return sift.read(folder / f"{name}.png")

    query = read("query", cropped(photo("coffee")))
    return query, [read(name, photo(name)).strongest(1000) for name in NAMES]


@pytest.mark.parametrize("model", ["homography", "fundamental"])
def test_wherever_it_ranks_the_right_one_is_verified(features, model, monkeypatch):
    query, others = features
    full, real = [], ranked.verify
    monkeypatch.setattr(
        ranked, "verify", lambda q, o, *a, **k: full.append((len(q), len(o))) or real(q, o, *a, **k)
    )
    ranking = [*(others[:2] * 14), others[2], others[0]]  # the coffee is the 29th
    found = verify_ranked(query, ranking, Sift().metric, model=model, **RULE)
    (wanted,) = verify_all(query, [others[2]], Sift().metric, model=model, n_jobs=1)
    assert found[28].n_inliers == wanted.n_inliers > 50
    np.testing.assert_array_equal(found[28].transform_33, wanted.transform_33)
    assert all(each.model == model for each in found)
    assert not any(each.verified for i, each in enumerate(found) if i != 28)
    assert full.count((500, 500)) == 10  # the 21st to the 30th
    assert 20 < len(full) - 10 < 30  # of which not all were matched in full, too


def test_few_features_are_matched_in_full(features, monkeypatch):
    query, others = features
    few = [each.strongest(300) for each in others]
    sizes, real = [], ranked.verify
    monkeypatch.setattr(
        ranked, "verify", lambda q, o, *a, **k: sizes.append(len(o)) or real(q, o, *a, **k)
    )
    ranking = [few[0]] * 20 + few
    found = verify_ranked(query.strongest(400), ranking, Sift().metric, **RULE)
    assert sizes == [300] * 23
    assert [each.verified for each in found[20:]] == [False, False, True]


def test_nothing_to_match(features):
    query, others = features
    assert verify_ranked(query, [], Sift().metric, **RULE) == []
    (none,) = verify_ranked(query.strongest(0), others[:1], Sift().metric, **RULE)
    assert (none.n_inliers, none.transform_33) == (0, None)
