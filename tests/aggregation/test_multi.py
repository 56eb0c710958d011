"""Several codebooks: equal to several VLADs put together, on scikit-learn's contract."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import clone

from vladkit import ASMK, VLAD, Fisher, MultiVLAD, Whitening
from vladkit.errors import FileFormatError, InputError, NotFittedError, ParameterError


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 6)).astype(np.float32) for n in (60, 0, 90, 40, 1)]


def test_is_the_parts_concatenated(images):
    multi = MultiVLAD(VLAD(4, rotation=3, random_state=5), n_vocabularies=3).fit(images)
    part = [VLAD(4, rotation=3, random_state=5 + i).fit_transform(images) for i in range(3)]
    wanted = np.concatenate(part, axis=1) / 3**0.5  # each has unit length
    got = multi.transform(images)
    assert got.shape == (5, 36)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert not np.allclose(part[0], part[1])


def test_parts_are_normalised_by_themselves_first(images):
    multi = MultiVLAD(VLAD(2, norm="none"), n_vocabularies=2).fit(images)
    raw = [each.transform(images) for each in multi.vlads_]
    wanted = np.concatenate(raw, axis=1)
    wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(multi.transform(images), wanted, atol=1e-6)


def test_partial_fit_is_fit(images):
    whole = MultiVLAD(VLAD(4, sample_size=50)).fit(images)
    parts = MultiVLAD(VLAD(4, sample_size=50))
    for image in images:
        parts.partial_fit([image])
    np.testing.assert_array_equal(parts.transform(images), whole.transform(images))


@pytest.mark.parametrize("bad", [np.full((3, 12), np.nan), np.ones((3, 2, 6)), [[1.0, "a"]]])
@pytest.mark.parametrize(
    "make", [VLAD, lambda k: Fisher(k, n_iter=3), lambda k: ASMK(k, rotation=None),
             lambda k: MultiVLAD(VLAD(k))],
)  # fmt: skip
def test_a_refused_batch_changes_nothing(images, make, bad):
    def values(estimator):
        codes = estimator.transform(images)
        return estimator.similarity(codes) if isinstance(estimator, ASMK) else codes

    fitted, new = make(4).fit(images), make(4)
    before = values(fitted)
    for estimator in (fitted, new):
        with pytest.raises(InputError):
            estimator.partial_fit([bad])
    np.testing.assert_array_equal(values(fitted), before)
    assert fitted.n_features_in_ == 6
    assert len(fitted.get_feature_names_out()) == fitted.n_features_out
    with pytest.raises(NotFittedError):
        new.transform(images)
    np.testing.assert_array_equal(values(new.partial_fit(images)), before)


def test_contract(images):
    multi = MultiVLAD(VLAD(4, norm="vlfeat"), n_vocabularies=2).fit(images)
    assert repr(multi) == "MultiVLAD(vlad=VLAD(n_clusters=4, norm='vlfeat'))"
    assert multi.get_params()["vlad__n_clusters"] == 4
    twin = clone(multi)
    assert twin.vlad is not multi.vlad
    assert not hasattr(twin, "vlads_")
    twin.set_params(vlad__n_clusters=3, n_vocabularies=1)
    assert twin.fit_transform(images).shape == (5, 18)
    assert multi.vlad.n_clusters == 4
    assert not hasattr(multi.vlad, "centroids_")  # a parameter is not fitted
    swapped = MultiVLAD(VLAD(4)).set_params(vlad__n_clusters=9, vlad=VLAD(2))
    assert swapped.vlad.n_clusters == 9
    with pytest.raises(ParameterError, match="vlad__k"):
        twin.set_params(vlad__k=3)
    assert multi.get_feature_names_out()[-1] == "multivlad47"
    assert MultiVLAD().fit([np.random.default_rng(0).normal(size=(99, 2))]).vlads_[1].n_clusters


def test_an_inner_estimator_is_set_with_its_parameters():
    multi = MultiVLAD().set_params(vlad__n_clusters=3, vlad=VLAD(norm="l2"), n_vocabularies=4)
    assert multi.get_params(deep=False) == {"vlad": multi.vlad, "n_vocabularies": 4}
    assert (multi.vlad.n_clusters, multi.vlad.norm) == (3, "l2")
    for unknown in ({"vlad": None, "vlad__n_clusters": 5}, {"vlad": VLAD(), "vlad__k": 5}):
        with pytest.raises(
            ParameterError, match=r"'vlad__\w+' is not a parameter: use one of vlad"
        ):
            multi.set_params(n_vocabularies=9, **unknown)
    assert (multi.vlad.n_clusters, multi.n_vocabularies) == (3, 4)


def test_from_vlads(images):
    some = [VLAD(4).fit(images), VLAD(2, norm="intra,l2").partial_fit(images)]
    multi = MultiVLAD.from_vlads(some)
    assert multi.transform(images).shape == (5, 36)
    assert multi.n_vocabularies == 2
    with pytest.raises(ParameterError, match="at least one"):
        MultiVLAD.from_vlads([])
    with pytest.raises(ParameterError, match="6, 7"):
        MultiVLAD.from_vlads([*some, VLAD(2).fit([np.eye(7)])])
    with pytest.raises(ParameterError, match="wanted a VLAD"):
        MultiVLAD.from_vlads([some[0], Whitening(2)])
    with pytest.raises(NotFittedError):
        MultiVLAD.from_vlads([VLAD(2)]).transform(images)
    for one in (None, some[0]):
        with pytest.raises(ParameterError, match="wanted a list of fitted VLADs"):
            MultiVLAD.from_vlads(one)


def test_round_trip(images, tmp_path):
    multi = MultiVLAD(VLAD(4, rotation="cell", norm="power:0.2,l2")).fit(images)
    multi.vlads_[1] = multi.vlads_[1].adapt(multi.vlads_[1].aggregate(images[:1]))
    multi.save(tmp_path / "m")
    twin = MultiVLAD.load(tmp_path / "m")
    np.testing.assert_array_equal(twin.transform(images), multi.transform(images))
    about, arrays = multi.to_state()
    assert json.loads(json.dumps(about)) == about
    for broken in ({}, {"vlads": []}, {"vlads": about["vlads"] * 2}):
        with pytest.raises(FileFormatError, match="damaged"):
            MultiVLAD.from_state(broken, arrays)


def test_refusals(images):
    for bad in ({"n_vocabularies": 0}, {"vlad": 7}, {"vlad": VLAD(0)}):
        with pytest.raises(ParameterError):
            MultiVLAD(**bad).fit(images)
    with pytest.raises(NotFittedError):
        MultiVLAD().transform(images)
