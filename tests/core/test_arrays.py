"""Arrays whose numbers do not count as they stand: masked or missing ones, and images."""

from __future__ import annotations

import sys
import types

import numpy as np
import PIL.Image
import pytest

from vladkit import (
    VLAD,
    Aggregate,
    Ragged,
    Whitening,
    alpha_query_expansion,
    augment_database,
    encode,
    match,
    segment_reduce,
    segment_sum,
)
from vladkit.collection.query import extract_query
from vladkit.core.arrays import as_array
from vladkit.errors import InputError, ParameterError, ShapeError
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


@pytest.mark.parametrize("kind", ["torch", "jax.numpy"])
def test_masked_segments_and_weights_of_other_libraries_values(kind):
    library = pytest.importorskip(kind)
    values = library.ones(3)
    for segment, weights in (
        (np.zeros(3, int), masked(np.ones(3))),
        (masked(np.zeros(3, int)), None),
    ):
        with pytest.raises(InputError, match="1 of 3 values are masked"):
            segment_sum(values, segment, 1, weights=weights)


NUMBERS = np.arange(12).reshape(3, 4) % 5
PANDAS = {
    "Int64": "int64", "UInt8": "uint8", "Float32": "float32", "boolean": "bool",
    "int32[pyarrow]": "int32", "double[pyarrow]": "float64",
}  # fmt: skip


@pytest.mark.parametrize("dtype", PANDAS)
def test_pandas_dtypes_that_may_lack_values(dtype):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(NUMBERS.astype(PANDAS[dtype])).astype(dtype)
    plain = NUMBERS.astype(PANDAS[dtype])
    for given, wanted in ((frame, plain), (frame[1], plain[:, 1])):
        got = as_array(given)
        assert (got.dtype, got.tolist()) == (wanted.dtype, wanted.tolist())
    frame.loc[2, 1] = pandas.NA
    for given, n in ((frame, 12), (frame[1], 3), (pandas.Index(frame[1]), 3)):
        with pytest.raises(InputError, match=rf"^1 of {n} values are missing: give x.fillna"):
            as_array(given)
    assert as_array(frame[0]).tolist() == NUMBERS.astype(PANDAS[dtype])[:, 0].tolist()


def test_pandas_dtypes_of_several_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(NUMBERS).astype({0: "Int64", 1: "Float32", 2: "float32"})
    assert as_array(frame).dtype == np.float64
    assert encode([frame], NUMBERS).tolist() == encode([NUMBERS], NUMBERS).tolist()
    plain = pandas.DataFrame({"a": [0.5, np.nan], "b": [1, 2]})
    assert np.isnan(as_array(plain)).sum() == 1  # NaN is a number of NumPy's floats
    assert Whitening(2).fit(pandas.DataFrame(W).astype("Float64")).n_samples_ == 30
    images = pandas.Series([NUMBERS, None, NUMBERS])
    assert encode(images, NUMBERS).shape == (3, 3, 4)


def test_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(NUMBERS, schema=list("abcd"), orient="row")
    np.testing.assert_array_equal(as_array(frame), NUMBERS)
    assert as_array(frame["b"]).tolist() == NUMBERS[:, 1].tolist()
    missing = frame.with_columns(b=polars.Series([1, None, 2]))
    for given, n in ((missing, 12), (missing["b"], 3)):
        with pytest.raises(InputError, match=rf"^1 of {n} values are missing: give x.fill_null"):
            as_array(given)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_are_no_descriptors(mode):
    image = PIL.Image.fromarray(np.eye(8, dtype=np.uint8)).convert(mode)
    for given in (image, [image, image]):
        with pytest.raises(InputError, match="wanted its descriptors"):
            VLAD(2).fit(given)
    assert as_array(np.asarray(image)).shape[:2] == (8, 8)


@pytest.mark.parametrize(
    "module", ["numpy.ma", "PIL.Image", "torch", "jax", "pandas", "polars", "scipy.sparse"]
)
def test_while_another_thread_imports_what_makes_them(monkeypatch, module):
    """The module is known then, and lacks names."""
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    assert encode(X.tolist(), C).tolist() == encode(X, C).tolist()
    with pytest.raises(ParameterError, match="give a path"):
        extract_query(Sift(), 3, None)


UNEVEN = {
    "one of a list": lambda: encode([[[1, 2], [1]]], [[1, 2]]),
    "a list of arrays": lambda: encode([X[0], [np.ones(4), np.ones(3)]], C),
    "centroids": lambda: encode(X, [[1, 2, 3, 4], [1]]),
    "from_centroids": lambda: VLAD.from_centroids([[1.0, 2], [3]]),
    "start_T": lambda: Ragged(X[0], [0, [5]]),
    "values": lambda: segment_reduce([[1.0, 2], [3]], [0, 0], op="max"),
    "segment": lambda: segment_sum(np.ones(2), [0, (1,)], 2),
    "weights": lambda: segment_sum(np.ones(2), [0, 1], weights=[1, [2]]),
    "Whitening": lambda: Whitening(2).fit([[[1.0, 2], [3]]]),
    "match": lambda: match(W, [[1.0, 2], [3]]),
    "metrics": lambda: find_ranks([1, [2]], [1]),
    "Aggregate": lambda: Aggregate([[[1.0, 2]], [[3]]], [[1], [1]], np.ones((1, 2))),
}


@pytest.mark.parametrize("door", UNEVEN)
def test_rows_of_unlike_lengths(door):
    with pytest.raises(ShapeError, match="a list of 2 has rows of unlike lengths, wanted an array"):
        UNEVEN[door]()


SPARSE = {
    "encode": lambda x: encode([x], C),
    "centroids": lambda x: encode(X, x),
    "VLAD": lambda x: VLAD(2).fit(x),
    "one of a list": lambda x: VLAD(2).fit([W, x]),
    "from_centroids": lambda x: VLAD.from_centroids(x),
    "Ragged": lambda x: Ragged(x, [0, 30]),
    "values": lambda x: segment_sum(x, np.zeros(30, int), 1),
    "weights": lambda x: segment_sum(np.ones(30), np.zeros(30, int), 1, weights=x),
    "Whitening": lambda x: Whitening(2).fit(x),
    "blocks": lambda x: Whitening(2).fit([W, x]),
    "transform": lambda x: Whitening(2).fit(W).transform(x),
    "match": lambda x: match(W, x),
    "query expansion": lambda x: alpha_query_expansion(x, W[:, None]),
    "augment_database": lambda x: list(augment_database(lambda: [x])),
    "metrics": lambda x: find_ranks(x, [1]),
}


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array"])
@pytest.mark.parametrize("door", SPARSE)
def test_sparse_arrays_of_scipy(door, kind):
    sparse = pytest.importorskip("scipy.sparse")
    reason = rf"a sparse array \({kind} of SciPy\), wanted a dense one: x.toarray\(\)"
    with pytest.raises(InputError, match=reason):
        SPARSE[door](getattr(sparse, kind)(W))
