"""Files of features in the layouts of other programs, as their documentation has them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from photos import NAMES, photo
from vladkit.features import Features, Sift
from vladkit.images import Image

TABLES = """
CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER);
CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE, camera_id INTEGER NOT NULL);
CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
    cols INTEGER NOT NULL, data BLOB);
CREATE TABLE descriptors (image_id INTEGER PRIMARY KEY NOT NULL, {type} rows INTEGER NOT NULL,
    cols INTEGER NOT NULL, data BLOB);
"""


def sift_of_photos(n: int = 8, max_features: int = 300) -> dict[str, Features]:
    """SIFT of some real photographs, by name; names have folders."""
    import cv2

    sift = Sift(max_features=max_features)
    found = {}
    for name in NAMES[:n]:
        gray_yx = cv2.cvtColor(photo(name), cv2.COLOR_BGR2GRAY)
        h, w = gray_yx.shape
        found[f"{name[0]}/{name}.jpg"] = sift.extract(Image(gray_yx, w, h))
    return found


def rooted(features: Features) -> np.ndarray:
    """RootSIFT as COLMAP stores it."""
    return np.rint(512 * Sift().metric(features.descriptor_lf)).clip(0, 255).astype(np.uint8)


def write_colmap(path: Path, images: dict[str, Features], *, cols: int = 4, typed: int | None = 0):
    """A database.db; `typed` is the descriptors' type, None for one from before there were types.

    Types other than 0 are float32: the descriptors as unit vectors.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        own = "" if typed is None else "type INTEGER NOT NULL,"
        connection.executescript(TABLES.format(type=own))
        add_to_colmap(connection, images, cols=cols, typed=typed)


def add_to_colmap(connection, images, *, cols=4, typed=0):
    for name, features in images.items():
        camera = connection.execute(
            "INSERT INTO cameras (model, width, height) VALUES (2, ?, ?)",
            (features.width, features.height),
        ).lastrowid
        image = connection.execute(
            "INSERT INTO images (name, camera_id) VALUES (?, ?)", (name, camera)
        ).lastrowid
        scale_l, radian_l = features.size_l / 2, np.deg2rad(features.angle_l)
        columns = [features.xy_l2[:, 0] + 0.5, features.xy_l2[:, 1] + 0.5]
        cosine_l, sine_l = np.cos(radian_l), np.sin(radian_l)
        columns += {
            2: [],
            4: [scale_l, radian_l],
            6: [scale_l * cosine_l, -scale_l * sine_l, scale_l * sine_l, scale_l * cosine_l],
        }[cols]
        keypoint_lc = np.stack(columns, axis=1).astype("<f4")
        connection.execute(
            "INSERT INTO keypoints VALUES (?, ?, ?, ?)",
            (image, len(features), cols, keypoint_lc.tobytes()),
        )
        descriptor_lf = rooted(features)
        if typed:
            descriptor_lf = Sift().metric(features.descriptor_lf).astype("<f4")
        row = (len(features), descriptor_lf[0].nbytes, descriptor_lf.tobytes())
        row = (image, *row) if typed is None else (image, typed, *row)
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO descriptors VALUES ({marks})", row)


def write_hloc(path: Path, images: dict[str, Features], dtype="f2", **parts):
    """A features.h5 as ``hloc.extract_features`` writes it."""
    import h5py

    with h5py.File(path, "a", libver="latest") as file:
        for name, features in images.items():
            group = file.create_group(name)
            local_lf = Sift().metric(features.descriptor_lf).astype(dtype)
            group.create_dataset("keypoints", data=features.xy_l2.astype(dtype))
            group.create_dataset("descriptors", data=local_lf.T)
            group.create_dataset("scores", data=features.score_l.astype(dtype))
            group.create_dataset("image_size", data=np.array([features.width, features.height]))
            group["keypoints"].attrs["uncertainty"] = 1.0
            for part, value in parts.items():
                group.create_dataset(part, data=value)


def write_vecs(path: Path, local_Nf: np.ndarray):
    """A fvecs or bvecs file, by the array's dtype."""
    row_N = np.zeros(len(local_Nf), [("d", "<i4"), ("v", local_Nf.dtype, local_Nf.shape[1])])
    row_N["d"], row_N["v"] = local_Nf.shape[1], local_Nf
    row_N.tofile(path)


def write_siftgeo(path: Path, features: Features):
    row_l = np.zeros(len(features), [("g", "<f4", 9), ("d", "<i4"), ("v", "u1", 128)])
    row_l["g"][:, :2] = features.xy_l2
    row_l["g"][:, 2] = features.size_l / 2
    row_l["g"][:, 3] = np.deg2rad(features.angle_l)
    row_l["g"][:, 8] = features.score_l
    row_l["d"], row_l["v"] = 128, features.descriptor_lf
    row_l.tofile(path)


def write_parquet(path: Path, images: dict[str, Features], *, by_row=False, row_group_size=3):
    """A table with an image, or a descriptor, a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if by_row:
        names = [name for name, f in images.items() for _ in range(len(f))]
        local_Nf = np.concatenate([f.descriptor_lf for f in images.values()])
        xy_N2 = np.concatenate([f.xy_l2 for f in images.values()])
        columns = {
            "name": names,
            "descriptor": pa.array(list(local_Nf.astype(np.float32))),
            "x": xy_N2[:, 0],
            "y": xy_N2[:, 1],
        }
    else:
        columns = {
            "name": list(images),
            "descriptors": pa.array(
                [list(f.descriptor_lf) for f in images.values()],
                pa.list_(pa.list_(pa.uint8(), 128)),
            ),
            "keypoints": pa.array(
                [[list(map(float, p)) for p in f.xy_l2] for f in images.values()]
            ),
            "angles": pa.array([f.angle_l.tolist() for f in images.values()]),
            "sizes": pa.array([f.size_l.tolist() for f in images.values()]),
            "width": [f.width for f in images.values()],
            "height": [f.height for f in images.values()],
        }
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def same_geometry(read, features, atol=2e-3):
    np.testing.assert_allclose(read.xy_l2, features.xy_l2, atol=atol)
    np.testing.assert_allclose(read.size_l, features.size_l, rtol=1e-5)
    turn_l = (read.angle_l - features.angle_l + 180) % 360 - 180
    assert np.abs(turn_l).max() < 0.01
    assert (read.width, read.height) == (features.width, features.height)


def stacked(images):
    local_Nf = np.concatenate([f.descriptor_lf for f in images.values()])
    return local_Nf, np.cumsum([0, *map(len, images.values())])


def assert_all_read(reader, images, names=None):
    names = dict(zip(names or images, images.values(), strict=True))
    assert reader.names() == sorted(names)
    for name, features in names.items():
        np.testing.assert_array_equal(reader.read(name).descriptor_lf, features.descriptor_lf)
        assert reader.status(name) == reader.status(name)
    statuses = {reader.status(name) for name in names}
    assert len(statuses) == len(names)


def write_npz(folder: Path, images: dict[str, Features]) -> str:
    """A file for each image, of descriptors and places alone: no size of the image is stated."""
    folder.mkdir()
    for name, features in images.items():
        columns = {"descriptors": features.descriptor_lf, "keypoints": features.xy_l2}
        np.savez(folder / f"{Path(name).name}.npz", **columns)
    return f"npz:{folder}"
