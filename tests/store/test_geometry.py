"""Geometry of kept features in 8 bytes: near what was given, or exactly that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vladkit.store.geometry import pack_geometry, unpack_geometry

ROW = np.array([[10, 20, 3, 45, 0.05]], np.float32)


def there_and_back(geometry_l5, width, height):
    data = pack_geometry(geometry_l5, width, height, short=True)
    return data, unpack_geometry(data, len(geometry_l5), width, height)


@given(
    st.integers(1, 2**20),
    st.integers(1, 2**20),
    st.lists(
        st.tuples(
            st.floats(0, 1), st.floats(0, 1), st.floats(0.125, 7500),
            st.floats(-720, 720), st.floats(-60000, 60000),
        ),
        min_size=1,
        max_size=20,
    ),
)  # fmt: skip
def test_what_features_have_is_near_in_8_bytes(width, height, rows):
    scale_5 = np.array([width, height, 1, 1, 1])
    wide_l5 = np.array(rows) * scale_5 - [0.5, 0.5, 0, 0, 0]
    limits_2 = np.nextafter(np.float32([width, height]) - np.float32(0.5), np.float32(-1))
    wide_l5[:, :2] = np.minimum(wide_l5[:, :2], limits_2)
    geometry_l5 = wide_l5.astype(np.float32)
    data, found_l5 = there_and_back(geometry_l5, width, height)
    assert len(data) == 8 * len(rows)
    assert found_l5.dtype == np.float32
    off_l5 = np.abs(found_l5.astype(float) - geometry_l5)
    assert (off_l5[:, :2] <= np.array([width, height]) / 2**16 * 1.01).all()
    assert (off_l5[:, 2] <= 0.0221 * geometry_l5[:, 2]).all()
    assert ((off_l5[:, 3] + 1) % 360 <= 1.71).all()  # degrees of a circle
    assert (off_l5[:, 4] <= 1e-3 * np.abs(geometry_l5[:, 4]) + 1e-7).all()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, -0.6), (0, 99.6), (1, 49.6), (1, 1e30), (2, 0.1), (2, 8000), (2, -1),
        (4, 1e6), *((i, bad) for i in range(5) for bad in (np.nan, np.inf)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_kept_exactly(column, value):
    geometry_l5 = np.repeat(ROW, 3, axis=0)
    geometry_l5[1, column] = value
    data, found_l5 = there_and_back(geometry_l5, 100, 50)
    assert len(data) == 60
    np.testing.assert_array_equal(found_l5, geometry_l5)


@pytest.mark.parametrize("size", [0, 1, 8])
def test_features_that_state_no_size_and_no_direction_still_state_none(size):
    geometry_l5 = np.column_stack([np.arange(10.0), np.arange(10.0), *np.full((3, 10), size)])
    geometry_l5[:, 3] = 0
    data, found_l5 = there_and_back(geometry_l5, 10, 10)
    assert len(data) == 80
    np.testing.assert_array_equal(found_l5[:, 2:], geometry_l5[:, 2:])


def test_exact_unless_short():
    data = pack_geometry(ROW, 100, 50, short=False)
    assert data == ROW.tobytes()
    np.testing.assert_array_equal(unpack_geometry(data, 1, 100, 50), ROW)
    with pytest.raises(ValueError, match="reshape"):
        unpack_geometry(data[:-4], 1, 100, 50)
