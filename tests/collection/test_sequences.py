"""Pairs by order and by place, held to plain loops, and positions as COLMAP keeps them."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from vladkit.collection.positions import nearest_places, places_of
from vladkit.collection.sequences import following
from vladkit.errors import FileFormatError, ParameterError, StorageError

LUND_3 = [55.7, 13.2, 20.0]
"""Latitude, longitude, altitude."""


def pairs_of(asked):
    return {tuple(sorted((a, b))) for a, others in asked for b in others}


def test_quadratic_overlap_is_colmaps():
    names = [f"{i}.jpg" for i in range(30)]
    wanted = {
        (i, i + step) for i in range(30) for step in (1, 2, 3, 4, 8) if i + step < 30
    }  # overlap 4: 1 to 4, and 1, 2, 4, 8
    assert pairs_of(following(names, 4, quadratic=True)) == wanted
    assert pairs_of(following(names, 1000, quadratic=True)) == pairs_of(following(names, 30))


def test_more_than_there_are_follow():
    names = [f"{i}.jpg" for i in range(30)]
    for quadratic in (False, True):
        assert following(names, 2**70, quadratic) == following(names, 29)


def test_a_rig_follows_as_one():
    names = sorted(f"{walk}/{camera}/{i}.jpg" for walk in "xy" for camera in "ab" for i in range(4))
    row_of = {name: row for row, name in enumerate(names)}
    wanted = {
        tuple(sorted((row_of[f"{walk}/{one}/{i}.jpg"], row_of[f"{walk}/{other}/{j}.jpg"])))
        for walk in "xy"
        for i in range(4)
        for j in (i, i + 1)
        for one in "ab"
        for other in "ab"
        if j < 4 and (i, one) != (j, other)
    }
    assert pairs_of(following(names, 1, rigs=True)) == wanted


def test_the_nearest_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    place_n3 = rng.normal(size=(40, 3))
    place_n3[[3, 17]] = np.nan
    place_n3[5] = place_n3[6]
    asks_n, answers_n = rng.random(40) < 0.7, rng.random(40) < 0.7
    found = dict(nearest_places(place_n3, 3, asks_n, answers_n))
    known_n = np.isfinite(place_n3[:, 0])
    assert list(found) == np.flatnonzero(asks_n & known_n).tolist()
    for a, others in found.items():
        distance_n = np.linalg.norm(place_n3 - place_n3[a], axis=1)
        rows = [b for b in np.flatnonzero(answers_n & known_n).tolist() if b != a]
        assert others == sorted(rows, key=lambda b: distance_n[b])[:3]
    assert nearest_places(place_n3[:1], 3, asks_n[:1], np.zeros(1, bool)) == []


@pytest.fixture
def database(tmp_path):
    """Pose priors as COLMAP 4 keeps them; of its 3.12 where a test makes another table."""
    file = sqlite3.connect(tmp_path / "f.db")
    file.execute("CREATE TABLE images(image_id INTEGER, name TEXT, camera_id INTEGER)")
    file.executemany("INSERT INTO images VALUES (?, ?, 1)", [(1, "a.jpg"), (2, "b.jpg"), (3, "c")])
    yield file
    file.close()


def rows_of(system):
    north_3 = [LUND_3[0] + 1e-3, LUND_3[1], float("nan")]
    blobs = [np.array(place).tobytes() for place in (LUND_3, north_3)]
    return [(1, blobs[0], system), (2, blobs[1], system), (3, None, system)]


@pytest.mark.parametrize("key", ["corr_data_id", "image_id"])
def test_pose_priors(database, tmp_path, key):
    database.execute(f"CREATE TABLE pose_priors({key}, position BLOB, coordinate_system INTEGER)")
    database.executemany("INSERT INTO pose_priors VALUES (?, ?, ?)", rows_of(0))
    database.commit()
    place_n3 = places_of(["b.jpg", "a.jpg", "c", "d"], tmp_path / "f.db")
    assert np.isnan(place_n3[2:]).all()
    # a thousandth of a degree to the north is 111.3 m there; and 20 m of altitude
    assert np.linalg.norm(place_n3[0] - place_n3[1]) == pytest.approx(np.hypot(111.3, 20), rel=1e-2)
    database.execute("UPDATE pose_priors SET coordinate_system = 1")
    database.commit()
    assert places_of(["a.jpg"], tmp_path / "f.db").tolist() == [LUND_3]
    with pytest.raises(ParameterError, match=r"such as 'a\.jpg'"):
        places_of(["x/a.jpg"], tmp_path / "f.db")


def test_pose_priors_of_other_sensors(database, tmp_path):
    """A prior of a sensor that is no camera has that one's number, not an image's."""
    database.execute(
        "CREATE TABLE pose_priors(corr_data_id, position BLOB, coordinate_system, corr_sensor_type)"
    )
    database.executemany("INSERT INTO pose_priors VALUES (?, ?, ?, 0)", rows_of(1))
    elsewhere = np.array([6378137.0, 0, 0]).tobytes()
    database.execute("INSERT INTO pose_priors VALUES (1, ?, 1, 1)", (elsewhere,))
    database.commit()
    assert places_of(["a.jpg"], tmp_path / "f.db").tolist() == [LUND_3]


def test_positions_that_are_none(database, tmp_path):
    database.commit()
    with pytest.raises(FileFormatError, match="no pose priors"):
        places_of(["a.jpg"], tmp_path / "f.db")
    database.execute("CREATE VIEW pose_priors AS SELECT 1 AS image_id")
    database.commit()
    with pytest.raises(FileFormatError, match="table pose_priors is a view"):
        places_of(["a.jpg"], tmp_path / "f.db")
    (tmp_path / "text").write_text("a 1 2 3")
    with pytest.raises(FileFormatError, match="no COLMAP database"):
        places_of(["a.jpg"], tmp_path / "text")
    with pytest.raises(StorageError, match="no such file"):
        places_of(["a.jpg"], tmp_path / "gone.db")
    with pytest.raises(ParameterError, match="give positions"):
        places_of(["a.jpg"], None)
    with pytest.raises(ParameterError, match="positions: there are none"):
        places_of(["a.jpg"], {})


@pytest.mark.parametrize(
    "place",
    [(1, 2), (1, 2, np.nan), (1, 2, np.inf), "1,2,3", ("1", "2", "3"), None, 7, (1, (2, 3), 4),
     (True, False, True)],
)  # fmt: skip
def test_positions_that_are_no_three_numbers(place):
    with pytest.raises(ParameterError, match=r"position of 'b.jpg' is .*: give x, y, z in metres"):
        places_of(["a.jpg"], {"a.jpg": (0, 1, 2), "b.jpg": place})


@pytest.mark.parametrize("place_3", [(95.0, 16.0, 1.0), (48.0, 181.0, 1.0), (np.nan, 16.0, 1.0)])
def test_a_prior_that_is_no_place_on_earth(database, tmp_path, place_3):
    """As of an image without one."""
    database.execute(
        "CREATE TABLE pose_priors(corr_data_id, position BLOB, coordinate_system, corr_sensor_type)"
    )
    database.executemany("INSERT INTO pose_priors VALUES (?, ?, ?, 0)", rows_of(0))
    database.execute("UPDATE pose_priors SET position = ?", (np.array(place_3).tobytes(),))
    database.commit()
    with pytest.raises(ParameterError, match="no image has one of"):
        places_of(["a.jpg"], tmp_path / "f.db")
