"""Arrays whose numbers do not count as they stand: masked ones, and images."""

from __future__ import annotations

import sys
import types

import numpy as np
import PIL.Image
import pytest

from vladkit import (
    VLAD,
    Ragged,
    Whitening,
    alpha_query_expansion,
    augment_database,
    encode,
    match,
    segment_sum,
)
from vladkit.collection.query import extract_query
from vladkit.core.arrays import as_array
from vladkit.errors import InputError, ParameterError
from vladkit.evaluation.metrics import find_ranks
from vladkit.features import Sift

X = np.random.default_rng(0).normal(size=(6, 5, 4))
C = X[0, :3].copy()
W = X.reshape(30, 4)


def masked(array):
    return np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) == 1)


DOORS = {
    "encode": lambda: encode(masked(X), C),
    "one of a list": lambda: encode([X[0], masked(X[1])], C),
    "centroids": lambda: encode(X, masked(C)),
    "Ragged": lambda: Ragged(masked(X[0]), [0, 5]),
    "start_T": lambda: Ragged(X[0], masked(np.array([0, 5]))),
    "fit": lambda: VLAD(2).fit(masked(X)),
    "words": lambda: VLAD.from_centroids(C).words(masked(X[0])),
    "from_centroids": lambda: VLAD.from_centroids(masked(C)),
    "rotation": lambda: VLAD.from_centroids(C, rotation=masked(np.eye(4))),
    "values": lambda: segment_sum(masked(np.ones(3)), [0, 0, 0], 1),
    "segment": lambda: segment_sum(np.ones(3), masked(np.zeros(3, int)), 1),
    "Whitening": lambda: Whitening(2).fit(masked(W)),
    "blocks": lambda: Whitening(2).fit([W, masked(W)]),
    "transform": lambda: Whitening(2).fit(W).transform(masked(W)),
    "views": lambda: Whitening(2).fit(W).transform_views(masked(W[:, None])),
    "match": lambda: match(W, masked(W)),
    "query expansion": lambda: alpha_query_expansion(masked(W[:6]), X),
    "augment_database": lambda: list(augment_database(lambda: [masked(W)])),
    "metrics": lambda: find_ranks(masked(np.arange(3)), [1]),
}


@pytest.mark.parametrize("door", DOORS)
def test_masked_values_are_refused(door):
    with pytest.raises(InputError, match=r"^1 of \d+ values are masked: give x.filled\(...\)"):
        DOORS[door]()


def test_a_mask_that_hides_nothing():
    np.testing.assert_array_equal(encode(np.ma.masked_array(X), C), encode(X, C))
    assert type(as_array(np.ma.masked_array(X))) is np.ndarray


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_are_no_descriptors(mode):
    image = PIL.Image.fromarray(np.eye(8, dtype=np.uint8)).convert(mode)
    for given in (image, [image, image]):
        with pytest.raises(InputError, match="wanted its descriptors"):
            VLAD(2).fit(given)
    assert as_array(np.asarray(image)).shape[:2] == (8, 8)


@pytest.mark.parametrize("module", ["numpy.ma", "PIL.Image", "torch", "jax"])
def test_while_another_thread_imports_what_makes_them(monkeypatch, module):
    """The module is known then, and lacks names."""
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    assert encode(X.tolist(), C).tolist() == encode(X, C).tolist()
    with pytest.raises(ParameterError, match="give a path"):
        extract_query(Sift(), 3, None)
