"""A scene of two flat photographs at different depths, rendered from known places, and its model.

The model's observations are a grid on the photographs, and no keypoints of any extractor.
"""

from __future__ import annotations

import cv2
import numpy as np

from photos import photo

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
K_33 = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
PLANES = (("brick", 6.0, -4.0, 4.0, -3.2, 3.2), ("coffee", 4.0, -1.2, 1.2, -0.9, 0.9))
"""Photograph, depth, left, right, top, bottom."""


def rotation(x=0.0, y=0.0, z=0.0):
    return cv2.Rodrigues(np.radians([x, y, z]).astype(float))[0]


POSES = [
    (rotation(y=2.0 * i, z=i), np.array([0.25 * i, 0.2 * (i % 3), 0.05 * i * i]))
    for i in range(-3, 4)
]
"""Rotation from the world, and centre."""

QUERY = (rotation(x=1.0, y=3.0), np.array([0.4, 0.1, 0.3]))


def render(rotation_33, centre_3):
    image_yx3 = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for name, z, left, right, top, bottom in PLANES:
        texture = photo(name)
        h, w = texture.shape[:2]
        to_world_33 = np.array(
            [[(right - left) / w, 0, left], [0, (bottom - top) / h, top], [0, 0, z]]
        )
        to_world_33[:, 2] -= centre_3
        to_pixels_33 = K_33 @ rotation_33 @ to_world_33  # from the corner of the top-left px
        half_33 = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        warp_33 = np.linalg.inv(half_33) @ to_pixels_33 @ half_33
        mask = cv2.warpPerspective(np.full((h, w), 255, np.uint8), warp_33, (WIDTH, HEIGHT))
        warped = cv2.warpPerspective(texture, warp_33, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
        image_yx3[mask > 127] = warped[mask > 127]
    return image_yx3


def write_scene(folder):
    """images/0.png to 6.png, query.png, model/ below a folder."""
    (folder / "images").mkdir(parents=True)
    for i, pose in enumerate(POSES):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), render(*pose))
    cv2.imwrite(str(folder / "query.png"), render(*QUERY))

    world_n3 = np.vstack([_grid(*plane[1:]) for plane in PLANES])
    poses = {f"{i}.png": pose for i, pose in enumerate(POSES)}
    write_model(folder / "model", poses, world_n3, K_33, (WIDTH, HEIGHT))


def write_strecha(folder):
    """images/*.jpg and cameras/*.camera as in the data sets of Strecha."""
    for name in ("images", "cameras"):
        (folder / name).mkdir(parents=True)
    for i, (rotation_33, centre_3) in enumerate(POSES):
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), render(rotation_33, centre_3))
        rows = [*K_33, np.zeros(3), *rotation_33.T, centre_3, [WIDTH, HEIGHT]]
        text = "".join(f"{' '.join(map(str, row))}\n" for row in rows)
        (folder / "cameras" / f"{i}.jpg.camera").write_text(text)


def write_flat_model(folder, names, width, height):
    """A model of images of one flat thing that fills them, all taken from the same place."""
    k_33 = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    world_n3 = _grid(2, -1, 1, -0.75, 0.75, 0.01)
    poses = dict.fromkeys(names, (np.eye(3), np.zeros(3)))
    write_model(folder, poses, world_n3, k_33, (width, height))


def write_model(folder, poses, world_n3, k_33, size):
    """A model by COLMAP in which images of these poses see some points."""
    import pycolmap

    model = pycolmap.Reconstruction()
    params = [k_33[0, 0], *k_33[:2, 2]]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=size[0], height=size[1], params=params, camera_id=1
        )
    )
    tracks = [[] for _ in world_n3]
    for i, (name, (rotation_33, centre_3)) in enumerate(poses.items(), start=1):
        local_n3 = (world_n3 - centre_3) @ rotation_33.T
        xy_n2 = (local_n3 @ k_33.T)[:, :2] / local_n3[:, 2:]
        inside_n = ((xy_n2 > 0) & (xy_n2 < size)).all(axis=1) & ~_hidden(world_n3, centre_3)
        rows = np.flatnonzero(inside_n)
        image = pycolmap.Image(name, xy_n2[rows], camera_id=1, image_id=i)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation_33), -rotation_33 @ centre_3)
        model.add_image_with_trivial_frame(image, pose)
        for place, row in enumerate(rows.tolist()):
            tracks[row].append(pycolmap.TrackElement(i, place))
    for xyz_3, track in zip(world_n3, tracks, strict=True):
        if len(track) > 1:
            model.add_point3D(xyz_3, pycolmap.Track(track), np.zeros(3, np.uint8))
    folder.mkdir()
    model.write(folder)


def _grid(z, left, right, top, bottom, step=0.04):
    x_yx, y_yx = np.meshgrid(np.arange(left, right, step), np.arange(top, bottom, step))
    return np.column_stack([x_yx.ravel(), y_yx.ravel(), np.full(x_yx.size, z)])


def _hidden(world_n3, centre_3):
    """Whether the near photograph is before a point of the far one."""
    _, z, left, right, top, bottom = PLANES[1]
    at_n3 = centre_3 + (world_n3 - centre_3) * ((z - centre_3[2]) / (world_n3[:, 2:] - centre_3[2]))
    x_n, y_n = at_n3[:, 0], at_n3[:, 1]
    before_n = (x_n > left) & (x_n < right) & (y_n > top) & (y_n < bottom)
    return before_n & (world_n3[:, 2] > z + 0.1)
